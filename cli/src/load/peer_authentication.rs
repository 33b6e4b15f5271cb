//! Checks a `PeerAuthentication` as a cluster does. The filter never sees it: it says whether a workload accepts plaintext, and
//! lints look at it.

use std::collections::BTreeMap;

use mesh_authz::diagnostic::Diagnostics;
use mesh_authz::document::{Node, Object, Value, one_of};
use mesh_authz::policy::resource::{envelope, match_labels, name_of, selector};

/// The `kind` of the resource.
pub const KIND: &str = "PeerAuthentication";

const MODES: [(&str, ()); 4] = [("UNSET", ()), ("DISABLE", ()), ("PERMISSIVE", ()), ("STRICT", ())];

/// Reports everything that a cluster refuses in the resource.
pub fn check(node: &Node, diagnostics: &mut Diagnostics) {
    diagnostics.policy(
        || name_of(node),
        |diagnostics| {
            let Some(mut object) = Object::open(node, diagnostics) else { return };
            envelope(&mut object, KIND, diagnostics);
            if let Some(node) = object.get("spec").filter(|node| !node.is_null()) {
                diagnostics.field("spec", |diagnostics| spec(node, diagnostics));
            }
            object.ignore("status");
            object.finish(diagnostics);
        },
    );
}

fn spec(node: &Node, diagnostics: &mut Diagnostics) {
    let Some(mut object) = Object::open(node, diagnostics) else { return };
    let labels = object.read("selector", diagnostics, |node, diagnostics| {
        let labels = selector(node, diagnostics);
        match_labels(&labels, diagnostics);
        labels
    });
    object.read("mtls", diagnostics, mutual_tls);
    if let Some(ports) = object.read("portLevelMtls", diagnostics, |node, _| node) {
        diagnostics.field("portLevelMtls", |diagnostics| {
            if labels.is_none_or(|labels| labels.is_empty()) {
                diagnostics.error_with_hint("needs a selector", "name the workloads with `selector.matchLabels`");
            }
            port_level(ports, diagnostics);
        });
    }
    object.finish(diagnostics);
}

fn port_level(node: &Node, diagnostics: &mut Diagnostics) {
    let Value::Map(entries) = &node.value else {
        diagnostics.error(format!("must be an object, is {}", node.value.kind()));
        return;
    };
    if entries.is_empty() {
        diagnostics.error("has no port in it");
    }
    let last: BTreeMap<_, _> = entries.iter().enumerate().map(|(index, (port, _))| (port, index)).collect();
    for (index, (port, node)) in entries.iter().enumerate() {
        diagnostics.field(port, |diagnostics| {
            // The last one counts, so nothing is said about the value of this one.
            if last.get(port) != Some(&index) {
                diagnostics.error_with_hint("stands here twice", "keep one of the two");
                return;
            }
            if !port.parse::<u16>().is_ok_and(|number| number > 0 && number.to_string() == *port) {
                diagnostics.error_with_hint(format!("`{port}` is not a port"), "write a number from 1 to 65535");
            }
            mutual_tls(node, diagnostics);
        });
    }
}

fn mutual_tls(node: &Node, diagnostics: &mut Diagnostics) {
    let Some(mut object) = Object::open(node, diagnostics) else { return };
    object.read("mode", diagnostics, |node, diagnostics| one_of(node, &MODES, diagnostics));
    object.finish(diagnostics);
}
