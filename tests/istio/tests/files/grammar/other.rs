//! Resources of other kinds.

use super::super::{
    tree::Tree,
    vocabulary::{NAMES, TEXTS},
};
use super::Grammar;

impl Grammar<'_> {
    /// A resource of another kind, which the command takes beside policies.
    pub(super) fn other(&mut self) -> Tree {
        let name = self.pick(NAMES.right).replace('.', "-");
        let name = if name.starts_with(|c: char| c.is_ascii_digit()) { format!("n{name}") } else { name };
        let (version, kind, spec) = match self.rng.u32(0..7) {
            0 => (
                "v1",
                "Service",
                Tree::map([
                    ("selector", Tree::map([("app", Tree::text("web"))])),
                    (
                        "ports",
                        Tree::List(vec![Tree::map([("port", Tree::raw("80")), ("targetPort", Tree::raw("8080"))])]),
                    ),
                ]),
            ),
            1 => ("v1", "ServiceAccount", Tree::Raw(String::new())),
            2 => {
                let container = Tree::map([("name", Tree::text("a")), ("image", Tree::text("a:1"))]);
                let labels = Tree::map([("app", Tree::text("web"))]);
                let template = Tree::map([
                    ("metadata", Tree::map([("labels", labels.clone())])),
                    ("spec", Tree::map([("containers", Tree::List(vec![container]))])),
                ]);
                (
                    "apps/v1",
                    "Deployment",
                    Tree::map([("selector", Tree::map([("matchLabels", labels)])), ("template", template)]),
                )
            }
            3 => {
                let listener =
                    [("name", Tree::text("mesh")), ("port", Tree::raw("15008")), ("protocol", Tree::text("HBONE"))];
                let spec = [
                    ("gatewayClassName", Tree::text("istio-waypoint")),
                    ("listeners", Tree::List(vec![Tree::map(listener)])),
                ];
                ("gateway.networking.k8s.io/v1", "Gateway", Tree::map(spec))
            }
            4 => {
                let port =
                    [("number", Tree::raw("443")), ("name", Tree::text("https")), ("protocol", Tree::text("HTTPS"))];
                let spec = [
                    ("hosts", Tree::texts(["api.example.com"])),
                    ("location", Tree::text("MESH_EXTERNAL")),
                    ("resolution", Tree::text("DNS")),
                    ("ports", Tree::List(vec![Tree::map(port)])),
                ];
                ("networking.istio.io/v1", "ServiceEntry", Tree::map(spec))
            }
            5 => ("v1", "ConfigMap", Tree::Raw(String::new())),
            _ => {
                let label = if self.is_odd() { "a b" } else { "ambient" };
                let labels = Tree::map([("istio.io/dataplane-mode", Tree::text(label))]);
                let metadata = Tree::map([("name", Tree::Text(format!("ns-{name}"))), ("labels", labels)]);
                return Tree::map([
                    ("apiVersion", Tree::text("v1")),
                    ("kind", Tree::text("Namespace")),
                    ("metadata", metadata),
                ]);
            }
        };
        let mut resource = vec![
            ("apiVersion".to_owned(), Tree::text(version)),
            ("kind".to_owned(), Tree::text(kind)),
            ("metadata".to_owned(), Tree::map([("name", Tree::Text(name))])),
        ];
        match (kind, spec) {
            ("ConfigMap", _) => resource.push((
                "data".to_owned(),
                self.map_of(|one| (one.pick(&["a", "b.c", "d_e"]).to_owned(), one.value(&TEXTS))),
            )),
            (_, Tree::Raw(_)) => {}
            (_, spec) => resource.push(("spec".to_owned(), spec)),
        }
        Tree::Map(resource)
    }
}
