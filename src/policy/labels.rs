//! Labels of workloads.

use std::ops::Deref;

/// The labels of a workload, or the labels that a selector asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Labels(Vec<(String, String)>);

/// Labels by which istiod selects, and which a proxy does not know as istiod does: istiod adds or changes them, or the
/// proxy's agent leaves them out.
const ONLY_KNOWN_TO_ISTIOD: [&str; 8] = [
    "istio-locality",
    "kubernetes.io/hostname",
    "pod-template-hash",
    "topology.istio.io/cluster",
    "topology.istio.io/network",
    "topology.istio.io/subzone",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];

/// Whether a proxy of Istio may not know the label with this key as istiod does.
#[must_use]
pub fn is_only_known_to_istiod(key: &str) -> bool {
    ONLY_KNOWN_TO_ISTIOD.contains(&key)
}

impl Labels {
    /// The value of the label with this key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter().find(|(other, _)| other == key).map(|(_, value)| value.as_str())
    }

    /// Whether these labels contain all of the wanted ones.
    #[must_use]
    pub fn include(&self, wanted: &Self) -> bool {
        wanted.iter().all(|label| self.contains(label))
    }

    /// These labels, with those of `newer` added or in their place.
    #[must_use]
    pub fn updated_by(mut self, newer: Self) -> Self {
        self.0.retain(|(key, _)| newer.get(key).is_none());
        self.0.extend(newer.0);
        self
    }

    /// Whether both have a label with the same key but different values. Then no workload can have all labels of both.
    #[must_use]
    pub fn exclude(&self, other: &Self) -> bool {
        self.iter()
            .any(|(key, value)| other.iter().any(|(other_key, other_value)| key == other_key && value != other_value))
    }
}

impl Deref for Labels {
    type Target = [(String, String)];

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<'l> IntoIterator for &'l Labels {
    type Item = &'l (String, String);
    type IntoIter = std::slice::Iter<'l, (String, String)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl From<Vec<(String, String)>> for Labels {
    fn from(labels: Vec<(String, String)>) -> Self {
        Self(labels)
    }
}

impl FromIterator<(String, String)> for Labels {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(labels: I) -> Self {
        Self(labels.into_iter().collect())
    }
}
