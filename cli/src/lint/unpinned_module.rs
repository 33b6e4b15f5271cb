//! MA033. Nothing pins the module that proxies load.

use mesh_authz::diagnostic::Path;
use mesh_authz::document::Node;

use super::{Check, Input, Lint, Remark, Reporter};

pub(super) static LINT: Lint = Lint {
    code: "MA033",
    name: "unpinned-module",
    summary: "a Wasm module that nothing pins",
    explanation: "The filter is a module that every proxy loads, and that decides about every request. A tag of an image can \
            be moved, and a file behind a URL can be replaced; without TLS, anyone on the way can do so. Give the checksum \
            as `sha256`, or name the image by its digest (`oci://registry.example/mesh-authz@sha256:…`): Istio then \
            refuses every other module.",
    bad: r"
apiVersion: extensions.istio.io/v1alpha1
kind: WasmPlugin
metadata:
  name: mesh-authz
spec:
  phase: AUTHZ
  failStrategy: FAIL_CLOSE
  url: oci://registry.example/mesh-authz:0.1.0
",
    good: r"
apiVersion: extensions.istio.io/v1alpha1
kind: WasmPlugin
metadata:
  name: mesh-authz
spec:
  phase: AUTHZ
  failStrategy: FAIL_CLOSE
  url: oci://registry.example/mesh-authz:0.1.0
  sha256: 7d2032962f3cb0e326b523ab59b91f394a8ccacccdc15f48159480389a940bce
",
    trust_domain: None,
    check: Check::Input(check),
};

/// The kinds of resources that load a module, and the path of the fields that say where it comes from.
pub(super) const KINDS: [(&str, Place); 2] = [
    ("WasmPlugin", |field| Path::of(["spec", field])),
    ("TrafficExtension", |field| Path::of(["spec", "wasm", field])),
];

pub(super) type Place = fn(&str) -> Path;

/// Whether resources of this kind load a module.
pub(super) fn loads_a_module(kind: &str) -> bool {
    KINDS.iter().any(|(known, _)| *known == kind)
}

fn check(input: &Input<'_>, reporter: &mut Reporter) {
    for (kind, at) in KINDS {
        for other in input.resources.of_kind(kind) {
            let text = |field| other.node.at(&at(field)).and_then(Node::as_str);
            let Some(url) = text("url") else { continue };
            if let Some(Remark { message, hint }) = unpinned(url, text("sha256").is_some_and(is_sha256), "sha256") {
                reporter.report(&LINT, other, at("url"), message, hint);
            }
        }
    }
}

/// Whether this is the checksum of a module. Neither Istio nor a registry takes digits in upper case.
#[must_use]
pub fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// What is wrong with the place that a module comes from, if nothing pins the module. `checksum` is where to write its
/// checksum.
pub(super) fn unpinned(url: &str, has_checksum: bool, checksum: &str) -> Option<Remark> {
    let digest = url.split_once("@sha256:").map_or("", |(_, digest)| digest);
    let (message, of_what) = match url.split_once("://").map(|(scheme, _)| scheme) {
        _ if has_checksum => return None,
        // Only an image has a digest in its name.
        None | Some("oci") if is_sha256(digest) => return None,
        // Nothing is fetched.
        Some("file") => return None,
        Some("http") => {
            ("anyone on the way can replace the module: nothing pins it, and it comes without TLS", "the file")
        }
        Some("https") => ("whoever can replace the file can replace the module: nothing pins it", "the file"),
        _ => ("whoever can move the tag can replace the module: nothing pins it", "the image"),
    };
    Some(Remark::new(message, format!("give the checksum of {of_what} with {checksum}")))
}
