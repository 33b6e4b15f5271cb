//! What every resource has: its version and kind, its metadata and its status.

use super::super::{
    tree::Tree,
    vocabulary::{ANNOTATIONS, LABEL_KEYS, LABEL_VALUES, NAMES, NAMESPACE_NAMES, ODD_ANNOTATIONS},
};
use super::{Fields, Grammar};

impl Grammar<'_> {
    pub(super) fn envelope(&mut self, kind: &str, can_be_dry: bool, spec: Fields) -> Tree {
        let versions: &[&str] = &["security.istio.io/v1", "security.istio.io/v1", "security.istio.io/v1beta1"];
        let version = if self.is_odd() && self.rng.bool() {
            self.pick(&[
                "security.istio.io/v2",
                "security.istio.io",
                "v1",
                "security.istio.io/V1",
                "networking.istio.io/v1",
                "",
            ])
        } else {
            self.pick(versions)
        };
        let mut resource = vec![
            ("apiVersion".to_owned(), Tree::text(version)),
            ("kind".to_owned(), Tree::text(kind)),
            ("metadata".to_owned(), self.metadata(can_be_dry)),
        ];
        if !spec.is_empty() || self.rng.bool() {
            resource.push(("spec".to_owned(), Tree::Map(spec)));
        }
        if self.one_in(25) {
            let status = self.status();
            resource.push(("status".to_owned(), status));
        }
        if self.one_in(8) {
            self.rng.shuffle(&mut resource);
        }
        Tree::Map(resource)
    }

    pub(super) fn status(&mut self) -> Tree {
        let condition =
            [("type", Tree::text("Reconciled")), ("status", Tree::text("True")), ("message", Tree::text("a: b"))];
        match self.rng.u32(0..4) {
            0 => Tree::map([("conditions", Tree::List(vec![Tree::map(condition)]))]),
            1 => Tree::map([("observedGeneration", Tree::text("1"))]),
            _ => Tree::Map(Vec::new()),
        }
    }

    pub(super) fn metadata(&mut self, can_be_dry: bool) -> Tree {
        let mut metadata = vec![("name".to_owned(), Tree::Text(self.value(&NAMES)))];
        if self.rng.bool() {
            metadata.push(("namespace".to_owned(), Tree::Text(self.value(&NAMESPACE_NAMES))));
        }
        if self.one_in(4) {
            metadata.push(("labels".to_owned(), self.map_of(|one| (one.value(&LABEL_KEYS), one.value(&LABEL_VALUES)))));
        }
        if self.one_in(4) {
            let annotations = self.map_of(|one| {
                if one.is_odd() {
                    return (one.pick(ODD_ANNOTATIONS).to_owned(), "x".to_owned());
                }
                let from = usize::from(!can_be_dry);
                let (key, values) = ANNOTATIONS[one.rng.usize(from..ANNOTATIONS.len())];
                (key.to_owned(), one.value(values))
            });
            metadata.push(("annotations".to_owned(), annotations));
        }
        if self.one_in(6) {
            let field = self.bookkeeping();
            metadata.push(field);
        }
        Tree::Map(metadata)
    }

    /// A field of metadata that the cluster writes itself.
    pub(super) fn bookkeeping(&mut self) -> (String, Tree) {
        let is_odd = self.is_odd();
        let mut choose =
            |right: &[&str], odd: &[&str]| if is_odd { self.pick(odd).to_owned() } else { self.pick(right).to_owned() };
        let times: (&[&str], &[&str]) = (
            &[
                "2026-01-31T12:00:00Z",
                "2026-01-31T12:00:00.123456+01:00",
                "2024-02-29T00:00:00Z",
                "2026-01-31T1:00:00Z",
                "2026-01-31T12:00:00,5Z",
            ],
            &[
                "2026-02-29T12:00:00Z",
                "2026-01-31",
                "2026-01-31 12:00:00Z",
                "2026-01-31t12:00:00z",
                "2026-13-01T00:00:00Z",
                "",
                "now",
                "2026-01-31T24:00:00Z",
                "2026-01-31T12:00:60Z",
                "2026-01-31T12:00:00",
                "2026-01-31T12:00:00+25:00",
                "2026-01-31T12:00:00+24:60",
                "2026-01-31T12:00:00.Z",
                "12026-01-31T12:00:00Z",
                "2026-1-31T12:00:00Z",
                "2026-01-31T12:0:00Z",
                "2026-01-31T12:00:00+0100",
            ],
        );
        let (name, tree) = match choose(
            &["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"],
            &["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"],
        )
        .as_str()
        {
            "a" => ("creationTimestamp", Tree::Text(choose(times.0, times.1))),
            "b" => ("deletionTimestamp", Tree::Text(choose(times.0, times.1))),
            "c" => (
                "finalizers",
                Tree::texts([choose(
                    &["orphan", "example.com/x", "foregroundDeletion"],
                    &["a b", "", "x", "kubernetes", "Orphan"],
                )]),
            ),
            "d" => ("generateName", Tree::Text(choose(&["a-", "b", ""], &["A", "a b", "-", "a_", "."]))),
            "e" => (
                "generation",
                Tree::raw(choose(
                    &["1", "0", "-1", "9223372036854775807"],
                    &["1e3", "1.0", "0x10", "1_0", "-0", "1.5", "9223372036854775808", "'1'", "1e30", "x", "true"],
                )),
            ),
            "f" => (
                "deletionGracePeriodSeconds",
                Tree::raw(choose(&["0", "30"], &["-1", "1.5", "'30'", "99999999999999999999"])),
            ),
            "g" => ("resourceVersion", Tree::raw(choose(&["'1'", "''", "'999'"], &["1", "true", "null", "'x'"]))),
            "h" => ("uid", Tree::raw(choose(&["'a-b'", "6b29fc40-ca47-1067-b31d-00dd010662da"], &["1", "true", "[]"]))),
            "i" => {
                let owner = [
                    ("apiVersion", choose(&["apps/v1", "v1"], &["", "a/b/c", "/", "apps/"])),
                    ("kind", choose(&["Deployment", "x"], &["", "a b"])),
                    ("name", choose(&["a"], &["", "A b"])),
                    ("uid", choose(&["1-2"], &[""])),
                ];
                let owner = owner.map(|(key, value)| (key, Tree::Text(value)));
                ("ownerReferences", Tree::List(vec![Tree::map(owner)]))
            }
            "j" => ("selfLink", Tree::Text(choose(&["/apis/a", ""], &["x y"]))),
            "k" => {
                let entry = [
                    ("manager", Tree::text("kubectl")),
                    ("operation", Tree::Text(choose(&["Apply", "Update"], &["apply", "", "Create"]))),
                    ("apiVersion", Tree::text("security.istio.io/v1")),
                    ("time", Tree::Text(choose(times.0, times.1))),
                    ("fieldsType", Tree::Text(choose(&["FieldsV1"], &["", "FieldsV2"]))),
                    ("fieldsV1", Tree::map([("f:spec", Tree::Map(Vec::new()))])),
                ];
                ("managedFields", Tree::List(vec![Tree::map(entry)]))
            }
            _ => ("clusterName", Tree::text("x")),
        };
        (name.to_owned(), tree)
    }
}
