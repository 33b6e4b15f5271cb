//! Load time: files rules under the keys of their access predicates.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use super::exclusion::{self, Exclusions};
use super::hash::{AsItIs, FiledId};
use super::key::{self, Dimension, Key};
use super::key_forms::KeyForms;
use super::node::{Filed, ListAt, Lists, Node, NodeAt, Number, Tree, Word};
use super::table::{Posting, Table};
use crate::engine::compile::CompiledRule;
use crate::engine::method::Methods;

/// Groups of up to this many rules are not divided; all their rules are evaluated. One rule costs about 50 ns. Dividing
/// the group may need one more value from the host, which costs microseconds.
pub(super) const FEW: usize = 16;

/// Files rules, and limits the size of the index.
pub(super) struct Builder<'r> {
    rules: &'r [CompiledRule],
    /// For each rule, how many keys it has in all its access predicates, and how many values it excludes.
    keys: Box<[usize]>,
    /// The number of keys that dividing groups again may still file. This limits the size of the index to a multiple of
    /// the size of the policies. Without a limit, a rule with n paths and m principals could be filed n × m times. A
    /// group that needs more keys than are left is not divided.
    keys_left: usize,
    last_id: FiledId,
    nodes: Vec<Node>,
    filed: Vec<Filed>,
    lists: Lists,
    postings: Vec<(u64, Posting)>,
}

impl<'r> Builder<'r> {
    /// Files these rules. `None` if they are too many to be numbered, or if somebody has made keys with similar hashes
    /// ([`Table::new`]).
    pub(super) fn file(rules: &'r [CompiledRule]) -> Option<Tree> {
        if rules.len() > Word::MOST {
            return None;
        }
        let keys: Box<[_]> = rules.iter().map(|rule| key::keys(rule).saturating_add(exclusion::values(rule))).collect();
        let mut builder = Self {
            rules,
            keys_left: keys.iter().sum::<usize>().saturating_mul(8),
            keys,
            last_id: 0,
            nodes: Vec::new(),
            filed: Vec::new(),
            lists: Lists::default(),
            postings: Vec::new(),
        };
        let numbers: Vec<_> = (0..).take(rules.len()).collect();
        let root = builder.node(&numbers, &[]);
        builder.nodes.push(root);
        let Self { nodes, filed, lists, postings, .. } = builder;
        // Positions have 32 bits. A list that nobody finds would be rules that are lost.
        u32::try_from(lists.len().max(nodes.len())).ok()?;
        Some(Tree { nodes: nodes.into(), filed: filed.into(), lists, table: Table::new(&postings)? })
    }

    /// Files these rules in a new node. `used` has the dimensions of the nodes above; this node uses others.
    fn node(&mut self, numbers: &[Number], used: &[Dimension]) -> Node {
        let depth = u32::try_from(used.len()).unwrap_or(u32::MAX);
        if numbers.len() <= FEW {
            return Node { filed: 0..0, depth, always: self.list(numbers), exclusions: None };
        }
        let rules: Vec<_> = numbers.iter().filter_map(|number| Some((*number, self.rule(*number)?))).collect();
        let (mut slots, mut counts) = (Slots::default(), Vec::<u32>::new());
        for (_, rule) in &rules {
            key::each_key(rule, used, &mut |dimension, key| {
                let slot = slots.slot(&mut self.last_id, dimension, key);
                if let Some(count) = content(&mut counts, slot) {
                    *count = count.saturating_add(1);
                }
            });
        }
        let mut always = Vec::new();
        let (mut filed_slots, mut contents) = (Slots::default(), Vec::<Vec<Number>>::new());
        for (number, rule) in &rules {
            match key::narrowest(rule, used, FEW, &|dimension, key| slots.share(dimension, key, &counts)) {
                Some((share, keys)) if share <= rules.len() / 2 => {
                    for (dimension, key) in keys {
                        let slot = filed_slots.slot(&mut self.last_id, &dimension, &key);
                        if let Some(numbers) = content(&mut contents, slot)
                            && numbers.last() != Some(number)
                        {
                            numbers.push(*number);
                        }
                    }
                }
                // If more than half of the rules share the predicate, a lookup saves too little.
                _ => always.push(*number),
            }
        }
        drop((slots, counts));
        let filed = self.filed(filed_slots, &contents, used);
        let start = self.filed.len();
        self.filed.extend(filed);
        let exclusions = if always.len() > FEW { Exclusions::new(self.rules, &always) } else { None };
        Node { filed: start..self.filed.len(), depth, always: self.list(&always), exclusions: exclusions.map(Box::new) }
    }

    /// Enters what is filed in each slot into the table, and returns the dimensions.
    fn filed(&mut self, slots: Slots, contents: &[Vec<Number>], used: &[Dimension]) -> Vec<Filed> {
        let Slots { mut dimensions, .. } = slots;
        let mut all = Vec::with_capacity(dimensions.len());
        let cheapest_first = (0..=Dimension::HIGHEST_COST)
            .flat_map(|cost| dimensions.extract_if(.., |slots| slots.dimension.cost() == cost).collect::<Vec<_>>());
        for DimensionSlots { dimension, forms, of_hash } in cheapest_first {
            let used = [used, std::slice::from_ref(&dimension)].concat();
            let mut first = Number::MAX;
            for (hash, slot) in of_hash {
                let Some(numbers) = contents.get(slot) else { continue };
                first = first.min(numbers.first().copied().unwrap_or_default());
                let posting = self.posting(numbers, &used);
                self.postings.push((hash, posting));
            }
            all.push(Filed { dimension, first, forms });
        }
        all
    }

    /// Divides these rules in a node of their own, if they are many and the limit allows it.
    fn posting(&mut self, numbers: &[Number], used: &[Dimension]) -> Posting {
        if let [number] = numbers {
            return Posting::Rule(self.word(*number));
        }
        if numbers.len() > FEW {
            let keys: usize = numbers.iter().filter_map(|number| self.keys.get(usize::try_from(*number).ok()?)).sum();
            if let Some(left) = self.keys_left.checked_sub(keys) {
                self.keys_left = left;
                let node = self.node(numbers, used);
                if node.filed.is_empty() && node.exclusions.is_none() {
                    return Posting::List(node.always);
                }
                let at = NodeAt(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
                self.nodes.push(node);
                return Posting::Node(at);
            }
        }
        Posting::List(self.list(numbers))
    }

    fn list(&mut self, numbers: &[Number]) -> ListAt {
        let words: Vec<_> = numbers.iter().map(|number| self.word(*number)).collect();
        self.lists.add(&words)
    }

    fn word(&self, number: Number) -> Word {
        Word::new(number, self.rule(number).map_or(Methods::ALL, Methods::of_rule))
    }

    fn rule(&self, number: Number) -> Option<&'r CompiledRule> {
        self.rules.get(usize::try_from(number).ok()?)
    }
}

/// Gives a slot to each key, of any dimension: a number, counted from 0. It is used only while rules are filed.
#[derive(Default)]
pub(super) struct Slots {
    dimensions: Vec<DimensionSlots>,
    /// For the hash of each dimension, its position. If the hash is taken, the next one that is not.
    positions: HashMap<u64, usize, BuildHasherDefault<AsItIs>>,
    count: usize,
}

struct DimensionSlots {
    dimension: Dimension,
    forms: KeyForms,
    /// For each hash, its slot.
    of_hash: HashMap<u64, usize, BuildHasherDefault<AsItIs>>,
}

impl Slots {
    /// The slot of a key.
    #[inline(never)]
    pub(super) fn slot(&mut self, last_id: &mut FiledId, dimension: &Dimension, key: &Key<'_>) -> usize {
        let at = self.position(dimension).unwrap_or_else(|hash| {
            let next = self.dimensions.len();
            self.positions.insert(hash, next);
            *last_id = last_id.wrapping_add(1);
            let forms = KeyForms::new(*last_id);
            self.dimensions.push(DimensionSlots { dimension: dimension.clone(), forms, of_hash: HashMap::default() });
            next
        });
        #[expect(clippy::indexing_slicing, reason = "the position was found, or has just been filled")]
        let DimensionSlots { forms, of_hash, .. } = &mut self.dimensions[at];
        let slot = *of_hash.entry(forms.add(dimension, key)).or_insert(self.count);
        if slot == self.count {
            self.count = self.count.saturating_add(1);
        }
        slot
    }

    /// The position of a dimension. If it is new, the hash for it.
    fn position(&self, dimension: &Dimension) -> Result<usize, u64> {
        // Most policies look at few attributes.
        if let Some(at) = self.dimensions.iter().take(FEW).position(|known| known.dimension == *dimension) {
            return Ok(at);
        }
        let mut hash = dimension.hash();
        while let Some(at) = self.positions.get(&hash) {
            if self.dimensions.get(*at).is_some_and(|known| known.dimension == *dimension) {
                return Ok(*at);
            }
            hash = hash.wrapping_add(1);
        }
        Err(hash)
    }

    /// Estimates how many rules a request with this key finds: the rules under this key, and the rules under the other
    /// keys that such a request also has ([`KeyForms::together_with`]). `counts`: the rules under each key, by slot.
    fn share(&self, dimension: &Dimension, key: &Key<'_>, counts: &[u32]) -> usize {
        let mut sum: usize = 0;
        let position = self.position(dimension).ok();
        if let Some(DimensionSlots { forms, of_hash, .. }) = position.and_then(|at| self.dimensions.get(at)) {
            let _nothing_is_read_here = forms.together_with(dimension, key, &mut |hash, _| {
                let count = of_hash.get(&hash).and_then(|slot| counts.get(*slot)).copied().unwrap_or_default();
                sum = sum.saturating_add(usize::try_from(count).unwrap_or(usize::MAX));
                Ok(())
            });
        }
        sum
    }
}

/// What is in a slot. A slot that is new starts with the default.
pub(super) fn content<T: Default>(contents: &mut Vec<T>, slot: usize) -> Option<&mut T> {
    if slot >= contents.len() {
        contents.resize_with(slot.saturating_add(1), T::default);
    }
    contents.get_mut(slot)
}
