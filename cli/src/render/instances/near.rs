//! Finds the sets of workloads that may meet one, without a look at all others: with thousands of policies, most are for
//! other workloads.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::WorkloadSet;

/// Things with a set of workloads each.
pub(super) struct Near<'p, T> {
    /// The label key that has the most values.
    key: Option<&'p str>,
    /// Each thing, with its position among all.
    buckets: BTreeMap<Bucket<'p>, Vec<(usize, T)>>,
}

/// The namespace of a set, and the value that it has for the key.
type Bucket<'p> = (Option<&'p str>, Option<&'p str>);

impl<'p, T: Copy> Near<'p, T> {
    pub fn new(all: impl Iterator<Item = (&'p WorkloadSet, T)> + Clone) -> Self {
        let mut values: HashMap<&str, HashSet<&str>> = HashMap::new();
        for (key, value) in all.clone().flat_map(|(set, _)| &set.labels) {
            values.entry(key).or_default().insert(value);
        }
        let key = values.into_iter().map(|(key, values)| (values.len(), key)).max().map(|(_, key)| key);
        let mut buckets: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (position, (set, thing)) in all.enumerate() {
            buckets.entry((set.namespace.as_deref(), value(set, key))).or_default().push((position, thing));
        }
        Self { key, buckets }
    }

    /// All things whose set meets this one, in their order, and some others.
    pub fn of(&self, set: &WorkloadSet) -> Vec<T> {
        let (namespace, value) = (set.namespace.as_deref(), value(set, self.key));
        let mut found: Vec<_> = if namespace.is_some() && value.is_some() {
            let keys = [(namespace, value), (namespace, None), (None, value), (None, None)];
            keys.iter().filter_map(|key| self.buckets.get(key)).flatten().collect()
        } else {
            let may_be = |one: Option<&str>, other: Option<&str>| one.is_none() || other.is_none() || one == other;
            let meets = |(of, with): &Bucket<'_>| may_be(*of, namespace) && may_be(*with, value);
            self.buckets.iter().filter(|(key, _)| meets(key)).flat_map(|(_, things)| things).collect()
        };
        found.sort_unstable_by_key(|(position, _)| *position);
        found.into_iter().map(|(_, thing)| *thing).collect()
    }
}

fn value<'s>(set: &'s WorkloadSet, key: Option<&str>) -> Option<&'s str> {
    set.labels.iter().find(|(label, _)| Some(label.as_str()) == key).map(|(_, value)| value.as_str())
}
