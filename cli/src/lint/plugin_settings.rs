//! MA034. A resource that loads the filter, and lets requests pass without it.

use mesh_authz::config::{NodeMetadata, PluginConfig};
use mesh_authz::diagnostic::Path;
use mesh_authz::document::Node;
use mesh_authz::policy::{DEFAULT_NAMESPACE, Labels};
use mesh_authz::request::Lookup;
use serde_json::Value;

use super::unpinned_module::{KINDS, Place};
use super::{Check, Input, Lint, Reporter};
use crate::load::Other;

pub(super) static LINT: Lint = Lint {
    code: "MA034",
    name: "plugin-settings",
    summary: "a resource that loads the filter with settings that let requests pass without it",
    explanation: "`render wasm-plugin` makes resources that close when something is wrong. In another resource, \
            `failStrategy: FAIL_OPEN` lets every request pass if the filter cannot run. In another phase than `AUTHZ`, tokens are \
            not verified yet. Without `onInvalid: deny`, a configuration with a mistake may leave a listener without the \
            filter. The lint also reports what the filter would refuse in `pluginConfig`. It looks only at resources \
            whose `pluginConfig` has policies.",
    bad: r"
apiVersion: extensions.istio.io/v1alpha1
kind: WasmPlugin
metadata:
  name: mesh-authz
spec:
  phase: AUTHZ
  failStrategy: FAIL_OPEN
  url: file:///etc/mesh_authz.wasm
  pluginConfig:
    onInvalid: deny
    policies: []
",
    good: r"
apiVersion: extensions.istio.io/v1alpha1
kind: WasmPlugin
metadata:
  name: mesh-authz
spec:
  phase: AUTHZ
  failStrategy: FAIL_CLOSE
  url: file:///etc/mesh_authz.wasm
  pluginConfig:
    onInvalid: deny
    policies: []
",
    trust_domain: None,
    check: Check::Input(check),
};

fn check(input: &Input<'_>, reporter: &mut Reporter) {
    for (kind, at) in KINDS {
        for other in input.resources.of_kind(kind) {
            settings(other, at, reporter);
        }
    }
}

fn settings(other: &Other, at: Place, reporter: &mut Reporter) {
    let config_path = at("pluginConfig");
    let Some(config) = other.node.at(&config_path).filter(|config| config.get("policies").is_some()) else { return };
    let text = |path: &Path| other.node.at(path).and_then(Node::as_str);
    let mut expect = |path: Path, expected: &str, default: &str, otherwise: &str| {
        if text(&path).unwrap_or(default) != expected {
            // A field that is missing has no place of its own.
            let place = if other.node.at(&path).is_some() { path } else { Path::of(["spec"]) };
            reporter.report(&LINT, other, place, otherwise, format!("write `{expected}`, as `render` does"));
        }
    };
    let fails_open = "lets requests pass if the filter cannot run";
    expect(at("failStrategy"), "FAIL_CLOSE", "FAIL_CLOSE", fails_open);
    expect(
        Path::of(["spec", "phase"]),
        "AUTHZ",
        "",
        "`phase` is not AUTHZ: the filter runs before tokens are verified",
    );
    let unprotected = "`onInvalid` is not deny: with a mistake, a listener may go on without the filter";
    expect(config_path.with("onInvalid"), "deny", "fail", unprotected);
    for (path, message) in refused(other, config) {
        let whole = Path(config_path.0.iter().cloned().chain(path.0).collect());
        reporter.report(&LINT, other, whole, format!("the filter refuses this: {message}"), "run `render` again");
    }
}

/// What the filter would refuse in its configuration on a workload that nothing is known about.
fn refused(other: &Other, config: &Node) -> Vec<(Path, String)> {
    let Ok(Value::Object(mut config)) = serde_json::to_value(config) else { return Vec::new() };
    // Which policies apply depends on the workload.
    config.insert("allowNoneApplies".to_owned(), true.into());
    let namespace = other.node.at(&Path::of(["metadata", "namespace"])).and_then(Node::as_str);
    let node = NodeMetadata {
        labels: Lookup::Value(Labels::default()),
        ..NodeMetadata::in_namespace(namespace.unwrap_or(DEFAULT_NAMESPACE))
    };
    match PluginConfig::read(Value::Object(config).to_string().as_bytes(), &node) {
        Ok(_) => Vec::new(),
        Err(diagnostics) => diagnostics.into_iter().map(|found| (found.path, found.message)).collect(),
    }
}
