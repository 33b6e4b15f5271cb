//! Load time: files rules under the keys of their access predicates.

use std::collections::BTreeMap;
use std::mem;

use super::key::{self, Dimension, Key};
use super::node::{Filed, Node, Number, Postings};
use super::table::Table;
use crate::engine::compile::CompiledRule;

/// Groups of up to this many rules are not divided; all their rules are evaluated. One rule costs about 50 ns. Dividing
/// the group may need one more value from the host, which costs microseconds.
const FEW: usize = 16;

/// Files rules, and limits the size of the index.
pub(super) struct Builder<'r> {
    rules: &'r [CompiledRule],
    /// For each rule, how many keys it has in all its access predicates.
    keys: Box<[usize]>,
    /// The number of keys that dividing groups again may still file. This limits the size of the index to a multiple of
    /// the size of the policies. Without a limit, a rule with n paths and m principals could be filed n × m times. A
    /// group that needs more keys than are left is not divided.
    keys_left: usize,
}

impl<'r> Builder<'r> {
    pub(super) fn new(rules: &'r [CompiledRule]) -> Self {
        let keys: Box<[_]> = rules.iter().map(key::keys).collect();
        let keys_left = keys.iter().sum::<usize>().saturating_mul(8);
        Self { rules, keys, keys_left }
    }

    /// Files these rules in a new node. `used` has the dimensions of the nodes above; this node uses others.
    pub(super) fn node(&mut self, numbers: &[Number], used: &[Dimension]) -> Node {
        if numbers.len() <= FEW {
            return Node { filed: Box::default(), always: numbers.into() };
        }
        let rules: Vec<_> = numbers.iter().filter_map(|number| Some((*number, self.rule(*number)?))).collect();
        let mut shares = KeyMap::<usize>::default();
        for (_, rule) in &rules {
            key::each_key(rule, used, &mut |dimension, key| {
                shares.change(dimension, key, &mut |count| *count = count.saturating_add(1));
            });
        }
        let mut always = Vec::new();
        let mut map = KeyMap::<Vec<Number>>::default();
        for (number, rule) in &rules {
            match key::narrowest(rule, used, FEW, &|dimension, key| shares.share(dimension, key)) {
                Some((share, keys)) if share <= rules.len() / 2 => {
                    for (dimension, key) in keys {
                        map.change(&dimension, &key, &mut |numbers| {
                            if numbers.last() != Some(number) {
                                numbers.push(*number);
                            }
                        });
                    }
                }
                // If more than half of the rules share the predicate, a lookup saves too little.
                _ => always.push(*number),
            }
        }
        drop(shares);
        let KeyMap { mut entries, positions } = map;
        let filed = positions.into_iter().filter_map(|((_, dimension), at)| {
            let Entry { table, contents } = entries.get_mut(at).map(mem::take)?;
            let used = [used, std::slice::from_ref(&dimension)].concat();
            let first = contents.iter().filter_map(|numbers| numbers.first().copied()).min().unwrap_or_default();
            let postings = contents.into_iter().map(|numbers| self.postings(numbers, &used)).collect();
            Some(Filed { dimension, first, table, postings })
        });
        Node { filed: filed.collect(), always: always.into() }
    }

    /// Divides these rules in a node of their own, if they are many and the limit allows it.
    fn postings(&mut self, numbers: Vec<Number>, used: &[Dimension]) -> Postings {
        if numbers.len() > FEW {
            let keys: usize = numbers.iter().filter_map(|number| self.keys.get(usize::try_from(*number).ok()?)).sum();
            if let Some(left) = self.keys_left.checked_sub(keys) {
                self.keys_left = left;
                let node = self.node(&numbers, used);
                if !node.filed.is_empty() {
                    return Postings::Node(Box::new(node));
                }
            }
        }
        Postings::Rules(numbers.into())
    }

    fn rule(&self, number: Number) -> Option<&'r CompiledRule> {
        self.rules.get(usize::try_from(number).ok()?)
    }
}

/// Maps each key, of any dimension, to its content. It is used only while rules are filed.
#[derive(Default)]
struct KeyMap<T> {
    entries: Vec<Entry<T>>,
    /// For each dimension, with its cost before it, the position of its entry. The cheapest dimension comes first.
    positions: BTreeMap<(u8, Dimension), usize>,
}

#[derive(Default)]
struct Entry<T> {
    table: Table,
    /// The content of each key, by slot.
    contents: Vec<T>,
}

impl<T: Default> KeyMap<T> {
    /// Changes the content of a key. A new key starts with the default content.
    fn change(&mut self, dimension: &Dimension, key: &Key<'_>, change: &mut dyn FnMut(&mut T)) {
        let next = self.entries.len();
        let at = *self.positions.entry((dimension.cost(), dimension.clone())).or_insert(next);
        if at == next {
            self.entries.push(Entry::default());
        }
        let Some(Entry { table, contents }) = self.entries.get_mut(at) else { return };
        let slot = table.slot(dimension, key);
        if slot == contents.len() {
            contents.push(T::default());
        }
        if let Some(content) = contents.get_mut(slot) {
            change(content);
        }
    }
}

impl KeyMap<usize> {
    /// Estimates how many rules a request with this key finds: the rules under this key, and the rules under the other
    /// keys that such a request also has ([`Table::together_with`]).
    fn share(&self, dimension: &Dimension, key: &Key<'_>) -> usize {
        let mut sum: usize = 0;
        if let Some(Entry { table, contents }) =
            self.positions.get(&(dimension.cost(), dimension.clone())).and_then(|at| self.entries.get(*at))
        {
            let _nothing_is_read_here = table.together_with(dimension, key, &mut |slot| {
                sum = sum.saturating_add(contents.get(slot).copied().unwrap_or_default());
                Ok(())
            });
        }
        sum
    }
}
