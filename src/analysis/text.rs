//! Sets of texts, and a text that is in all of some sets and in none of others.
//!
//! A set is put together as a nondeterministic automaton over bytes, [`Texts`], and made deterministic once, as a [`Set`].
//! [`find`] walks through the product of sets. So its answer is exact. A text that it finds is short, and where several bytes
//! lead to the same place, it takes the one that people would write.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::rc::Rc;
use std::sync::OnceLock;

use fnv::FnvHashSet;

use super::budget::{Budget, Requests, Undecided};

/// A set of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Bytes([u128; 2]);

impl Bytes {
    pub const ALL: Self = Self([u128::MAX; 2]);
    pub const NONE: Self = Self([0; 2]);

    pub fn of(includes: impl Fn(u8) -> bool) -> Self {
        (0..=u8::MAX).filter(|byte| includes(*byte)).fold(Self::NONE, |set, byte| set.or(Self::one(byte)))
    }

    /// The bytes from one to another.
    pub const fn range(first: u8, last: u8) -> Self {
        let (mut set, mut byte) = (Self::one(last), first);
        while byte < last {
            set = set.or(Self::one(byte));
            byte += 1;
        }
        set
    }

    pub const fn one(byte: u8) -> Self {
        if byte < 128 { Self([1 << byte, 0]) } else { Self([0, 1 << (byte - 128)]) }
    }

    pub const fn contains(self, byte: u8) -> bool {
        !self.and(Self::one(byte)).is_none()
    }

    pub const fn and(self, Self([low, high]): Self) -> Self {
        Self([self.0[0] & low, self.0[1] & high])
    }

    pub const fn or(self, Self([low, high]): Self) -> Self {
        Self([self.0[0] | low, self.0[1] | high])
    }

    pub const fn not(self) -> Self {
        Self([!self.0[0], !self.0[1]])
    }

    const fn is_none(self) -> bool {
        self.0[0] == 0 && self.0[1] == 0
    }

    /// The byte that people would write.
    fn nicest(self) -> Option<u8> {
        const NICE: &[u8] = b"xyzabcdefghijklmnopqrstuvwXYZABCDEFGHIJKLMNOPQRSTUVW1234567890-_.~/:";
        let visible = || (b'!'..=b'~').find(|byte| self.contains(*byte));
        let any = || (0..=u8::MAX).find(|byte| self.contains(*byte));
        NICE.iter().copied().find(|byte| self.contains(*byte)).or_else(visible).or_else(any)
    }
}

/// One part of a sequence.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part<'t> {
    /// These bytes.
    Literal(&'t [u8]),
    /// These bytes, in upper or lower case.
    AnyCase(&'t [u8]),
    /// Any number of bytes of a set.
    Any(Bytes),
    /// Any number of bytes of a set, but at least one.
    Some(Bytes),
}

/// A set of texts.
#[derive(Clone, Debug, Default)]
pub(super) struct Texts {
    states: Vec<State>,
    starts: Vec<usize>,
    /// All texts of the set, if it is known to be just these.
    exact: Option<Vec<Vec<u8>>>,
    /// Each text of the set begins and ends with one of these pairs, if they are known.
    ends: Option<Vec<[Vec<u8>; 2]>>,
}

#[derive(Clone, Debug, Default)]
struct State {
    accepts: bool,
    /// Where a byte leads.
    steps: Vec<(Bytes, usize)>,
    /// Where no byte leads.
    skips: Vec<usize>,
    /// The first of the states just before this one from which nothing is accepted that is not accepted from here too.
    covers_from: Option<usize>,
}

impl State {
    /// Whether every text is accepted from here. `number`: the number of the state.
    fn accepts_everything(&self, number: usize) -> bool {
        self.accepts && self.steps.contains(&(Bytes::ALL, number))
    }

    fn moved(mut self, offset: usize) -> Self {
        self.steps.iter_mut().for_each(|(_, to)| *to += offset);
        self.skips.iter_mut().for_each(|to| *to += offset);
        self.covers_from = self.covers_from.map(|from| from + offset);
        self
    }
}

/// Both lists, if both are known.
fn both<T>(ones: Option<Vec<T>>, others: Option<Vec<T>>) -> Option<Vec<T>> {
    let (mut ones, others) = ones.zip(others)?;
    ones.extend(others);
    Some(ones)
}

impl Texts {
    /// The texts that one of the sequences describes.
    pub fn of<'t>(sequences: impl IntoIterator<Item = Vec<Part<'t>>>) -> Self {
        let mut texts = Self { exact: Some(Vec::new()), ends: Some(Vec::new()), ..Self::default() };
        for sequence in sequences {
            let literal = |part: Option<&Part<'_>>| match part {
                Some(Part::Literal(text)) => text.to_vec(),
                _ => Vec::new(),
            };
            texts.ends.iter_mut().for_each(|ends| ends.push([literal(sequence.first()), literal(sequence.last())]));
            match (sequence.as_slice(), &mut texts.exact) {
                ([], Some(exact)) => exact.push(Vec::new()),
                ([Part::Literal(text)], Some(exact)) => exact.push(text.to_vec()),
                _ => texts.exact = None,
            }
            let start = texts.state();
            texts.starts.push(start);
            let end = sequence.into_iter().fold(start, |at, part| {
                let end = texts.part(at, part);
                if matches!(part, Part::Any(Bytes::ALL) | Part::Some(Bytes::ALL)) {
                    texts.states[end].covers_from = Some(start);
                }
                end
            });
            texts.states[end].accepts = true;
        }
        texts
    }

    /// The texts that are UTF-8, and that have no line feed if `is_line`.
    pub fn utf8(is_line: bool) -> Self {
        let mut texts = Self::default();
        let all = texts.state();
        texts.starts.push(all);
        texts.states[all].accepts = true;
        let ascii = Bytes::range(0, 0x7f);
        let ascii = if is_line { ascii.and(Bytes::one(b'\n').not()) } else { ascii };
        texts.step(all, ascii, all);
        let tail = Bytes::range(0x80, 0xbf);
        // The first bytes, the second, and how many more follow: table 3-7 of the Unicode Standard.
        let rows = [
            (Bytes::range(0xc2, 0xdf), tail, 0),
            (Bytes::range(0xe0, 0xe0), Bytes::range(0xa0, 0xbf), 1),
            (Bytes::range(0xe1, 0xec).or(Bytes::range(0xee, 0xef)), tail, 1),
            (Bytes::range(0xed, 0xed), Bytes::range(0x80, 0x9f), 1),
            (Bytes::range(0xf0, 0xf0), Bytes::range(0x90, 0xbf), 2),
            (Bytes::range(0xf1, 0xf3), tail, 2),
            (Bytes::range(0xf4, 0xf4), Bytes::range(0x80, 0x8f), 2),
        ];
        for (first, second, more) in rows {
            let mut at = texts.state();
            texts.step(all, first, at);
            let mut set = second;
            for _ in 0..more {
                let next = texts.state();
                texts.step(at, set, next);
                (at, set) = (next, tail);
            }
            texts.step(at, set, all);
        }
        texts
    }

    /// Whether all of them are listed.
    pub const fn is_listed(&self) -> bool {
        self.exact.is_some()
    }

    /// The texts of both sets.
    pub fn or(mut self, other: Self) -> Self {
        let offset = self.states.len();
        self.exact = both(self.exact, other.exact);
        self.ends = both(self.ends, other.ends);
        self.starts.extend(other.starts.iter().map(|start| start + offset));
        self.states.extend(other.states.into_iter().map(|state| state.moved(offset)));
        self
    }

    /// The texts that are in both sets.
    pub fn and(&self, other: &Self) -> Self {
        let mut product = Self { ends: self.ends.clone(), ..Self::default() };
        let mut numbers = HashMap::new();
        let mut pending = Vec::new();
        let mut number = |pair: (usize, usize), product: &mut Self, pending: &mut Vec<(usize, usize)>| {
            *numbers.entry(pair).or_insert_with(|| {
                pending.push(pair);
                let (one, other) = (&self.states[pair.0], &other.states[pair.1]);
                product.states.push(State { accepts: one.accepts && other.accepts, ..State::default() });
                product.states.len() - 1
            })
        };
        for one in &self.starts {
            for other in &other.starts {
                let start = number((*one, *other), &mut product, &mut pending);
                product.starts.push(start);
            }
        }
        while let Some(pair) = pending.pop() {
            let from = number(pair, &mut product, &mut pending);
            let (one, another) = (&self.states[pair.0], &other.states[pair.1]);
            for (bytes, to) in &one.steps {
                for (others, other_to) in &another.steps {
                    if !bytes.and(*others).is_none() {
                        let to = number((*to, *other_to), &mut product, &mut pending);
                        product.step(from, bytes.and(*others), to);
                    }
                }
            }
            let skips = one.skips.iter().map(|to| (*to, pair.1));
            for to in skips.chain(another.skips.iter().map(|to| (pair.0, *to))) {
                let to = number(to, &mut product, &mut pending);
                product.states[from].skips.push(to);
            }
        }
        product
    }

    /// The texts that begin with one of these, and go on with the parts.
    pub fn then(mut self, parts: &[Part<'_>]) -> Self {
        (self.exact, self.ends) = (None, None);
        let start = self.state();
        for state in &mut self.states {
            if std::mem::take(&mut state.accepts) {
                state.skips.push(start);
            }
        }
        let end = parts.iter().fold(start, |at, part| self.part(at, *part));
        self.states[end].accepts = true;
        self
    }

    /// The texts that begin with the parts, and go on with one of these.
    pub fn after(mut self, parts: &[Part<'_>]) -> Self {
        (self.exact, self.ends) = (None, None);
        let start = self.state();
        let end = parts.iter().fold(start, |at, part| self.part(at, *part));
        self.states[end].skips = std::mem::replace(&mut self.starts, vec![start]);
        self
    }

    /// The texts that become one of these if somebody takes away the dots before the last colon: at least one dot. A colon
    /// before a bracket does not count, and the part before the dots does not end with a dot.
    pub fn with_dots_before_a_port(&self) -> Self {
        const PARTS: usize = 4;
        let [name, name_with_dot, dots, port] = [0, 1, 2, 3];
        let (dot, colon) = (Bytes::one(b'.'), Bytes::one(b':'));
        let in_port = colon.or(Bytes::one(b']')).not();
        let count = self.states.len();
        let at = |part: usize, state: usize| part * count + state;
        let mut with_dots = Self { states: vec![State::default(); PARTS * count], ..Self::default() };
        with_dots.starts = self.starts.iter().map(|start| at(name, *start)).collect();
        for (number, state) in self.states.iter().enumerate() {
            for part in 0..PARTS {
                with_dots.states[at(part, number)].skips = state.skips.iter().map(|to| at(part, *to)).collect();
            }
            for (bytes, to) in &state.steps {
                for part in [name, name_with_dot] {
                    with_dots.step(at(part, number), bytes.and(dot.not()), at(name, *to));
                    with_dots.step(at(part, number), bytes.and(dot), at(name_with_dot, *to));
                }
                with_dots.step(at(dots, number), bytes.and(colon), at(port, *to));
                with_dots.step(at(port, number), bytes.and(in_port), at(port, *to));
            }
            with_dots.step(at(name, number), dot, at(dots, number));
            with_dots.step(at(dots, number), dot, at(dots, number));
            with_dots.states[at(port, number)].accepts = state.accepts;
        }
        with_dots
    }

    fn state(&mut self) -> usize {
        self.states.push(State::default());
        self.states.len() - 1
    }

    fn step(&mut self, from: usize, bytes: Bytes, to: usize) {
        if !bytes.is_none() {
            self.states[from].steps.push((bytes, to));
        }
    }

    /// Adds a part behind a state. Returns the state behind the part.
    fn part(&mut self, mut at: usize, part: Part<'_>) -> usize {
        match part {
            Part::Literal(bytes) | Part::AnyCase(bytes) => {
                for byte in bytes {
                    let next = self.state();
                    let set = match part {
                        Part::AnyCase(_) => {
                            Bytes::one(byte.to_ascii_lowercase()).or(Bytes::one(byte.to_ascii_uppercase()))
                        }
                        _ => Bytes::one(*byte),
                    };
                    self.step(at, set, next);
                    at = next;
                }
                at
            }
            Part::Any(bytes) | Part::Some(bytes) => {
                let end = self.state();
                self.step(end, bytes, end);
                match part {
                    Part::Some(_) => self.step(at, bytes, end),
                    _ => self.states[at].skips.push(end),
                }
                end
            }
        }
    }

    /// For each state, those to which it leads without a byte, itself among them.
    fn closures(&self) -> Vec<Vec<usize>> {
        let closure = |state: usize| {
            let mut closure = vec![state];
            let mut next = 0;
            while let Some(state) = closure.get(next).copied() {
                next += 1;
                for skip in &self.states[state].skips {
                    if !closure.contains(skip) {
                        closure.push(*skip);
                    }
                }
            }
            // Those that do nothing are not needed.
            closure.retain(|state| self.states[*state].accepts || !self.states[*state].steps.is_empty());
            closure
        };
        (0..self.states.len()).map(closure).collect()
    }

    /// Whether the text is one of them. It takes longer than with an automaton that is in one state at a time.
    pub fn accept(&self, text: &[u8]) -> bool {
        let closures = self.closures();
        let all = |states: &mut dyn Iterator<Item = &usize>| {
            let mut all: Vec<_> = states.flat_map(|state| &closures[*state]).copied().collect();
            all.sort_unstable();
            all.dedup();
            all
        };
        let mut at = all(&mut self.starts.iter());
        for byte in text {
            let steps = at.iter().flat_map(|state| &self.states[*state].steps);
            at = all(&mut steps.filter(|(bytes, _)| bytes.contains(*byte)).map(|(_, to)| to));
        }
        at.iter().any(|state| self.states[*state].accepts)
    }

    /// Sorts states, and leaves those out that add nothing.
    fn reduced(&self, mut states: Vec<usize>) -> Vec<usize> {
        if let Some(all) = states.iter().find(|state| self.states[**state].accepts_everything(**state)) {
            return vec![*all];
        }
        states.sort_unstable_by(|one, other| other.cmp(one));
        states.dedup();
        let mut covered_from = usize::MAX;
        states.retain(|state| {
            let is_covered = covered_from <= *state;
            covered_from = self.states[*state].covers_from.map_or(covered_from, |from| from.min(covered_from));
            !is_covered
        });
        states
    }

    /// The same set, as an automaton that is in one state at a time, with as few states as possible. What is put together from it
    /// stays small. If that would be too large, it is unchanged.
    pub fn deterministic(self) -> Self {
        self.tried_deterministic().unwrap_or_else(|unchanged| unchanged)
    }

    /// As [`Self::deterministic`]. It is an error if that would be too large.
    pub fn tried_deterministic(self) -> Result<Self, Self> {
        let Some(table) = self.table(MOST_STEPS, &mut 0) else { return Err(self) };
        let Table { kind_of, kinds, next, fates } = table.minimal();
        let mut bytes = vec![Bytes::NONE; kinds];
        for (byte, kind) in (0..=u8::MAX).zip(kind_of) {
            bytes[usize::from(kind)] = bytes[usize::from(kind)].or(Bytes::one(byte));
        }
        let state = |(steps, fate): (&[u32], &Fate)| {
            let mut to = BTreeMap::<u32, Bytes>::new();
            for (next, bytes) in steps.iter().zip(&bytes).filter(|(next, _)| fates[**next as usize] != Fate::Never) {
                let known = to.entry(*next).or_insert(Bytes::NONE);
                *known = known.or(*bytes);
            }
            let accepts = matches!(fate, Fate::Accepts | Fate::Always);
            let steps = to.into_iter().map(|(to, bytes)| (bytes, to as usize)).collect();
            State { accepts, steps, ..State::default() }
        };
        let states = next.chunks(kinds).zip(&fates).map(state).collect();
        Ok(Self { states, starts: vec![0], ..self })
    }

    /// The same set, to be searched.
    pub fn set(self) -> Set {
        Set { texts: self, listed: OnceLock::new(), made: OnceLock::new() }
    }

    /// Deterministic automata, one of which accepts each of the texts. Some sets have one only if it is very large: that of texts
    /// that have one of some names and later its account has to remember which names it has seen.
    fn made_deterministic(&self) -> Made {
        let mut steps = 0;
        let is_single = self.starts.len() == 1;
        let whole = self.table(if is_single { MOST_STEPS } else { MOST_STEPS / 8 }, &mut steps);
        if whole.is_some() || is_single {
            return Made { tables: whole.map(|whole| vec![whole]), steps };
        }
        let part = |start: &usize| {
            Self { states: self.states.clone(), starts: vec![*start], exact: None, ends: None }
                .table(MOST_STEPS, &mut steps)
        };
        let tables = self.starts.iter().map(part).collect();
        Made { tables, steps }
    }

    /// A deterministic automaton. `None`: to make it takes more than so many steps.
    fn table(&self, most: usize, steps: &mut usize) -> Option<Table> {
        let mut kinds = vec![Bytes::ALL];
        let mut all: Vec<_> =
            self.states.iter().flat_map(|state| state.steps.iter().map(|(bytes, _)| *bytes)).collect();
        all.sort_unstable();
        all.dedup();
        for bytes in all {
            let split = kinds.iter().flat_map(|kind| [kind.and(bytes), kind.and(bytes.not())]);
            kinds = split.filter(|kind| !kind.is_none()).collect();
        }
        let mut kind_of = [0; 256];
        for (number, kind) in (0..).zip(&kinds) {
            (0..=u8::MAX).filter(|byte| kind.contains(*byte)).for_each(|byte| kind_of[usize::from(byte)] = number);
        }
        let (next, fates) = self.determinized(&kinds, most.saturating_add(*steps), steps)?;
        Some(Table { kind_of, kinds: kinds.len(), next, fates })
    }

    /// For each state and each kind of bytes, the next state; and what becomes of a text there. `None`: it takes too many steps.
    fn determinized(&self, kinds: &[Bytes], most: usize, steps_taken: &mut usize) -> Option<(Vec<u32>, Vec<Fate>)> {
        let samples: Vec<_> = kinds.iter().filter_map(|kind| kind.nicest()).collect();
        let closures = self.closures();
        let start = self.reduced(self.starts.iter().flat_map(|start| &closures[*start]).copied().collect());
        let mut numbers = HashMap::from([(start.clone(), 0)]);
        let mut sets = vec![start];
        let mut next = Vec::new();
        let mut at = 0;
        while at < sets.len() {
            let steps: Vec<_> = sets[at].iter().flat_map(|state| &self.states[*state].steps).collect();
            *steps_taken += samples.len() * (sets[at].len() + steps.len() + 1);
            if *steps_taken > most {
                return None;
            }
            for byte in &samples {
                let ends = steps.iter().filter(|(bytes, _)| bytes.contains(*byte)).flat_map(|(_, to)| &closures[*to]);
                let states: Vec<_> = ends.copied().collect();
                let states = if states.is_empty() { states } else { self.reduced(states) };
                let number = *numbers.entry(states).or_insert_with_key(|states| {
                    sets.push(states.clone());
                    sets.len() - 1
                });
                next.push(number);
            }
            at += 1;
        }
        let accepts: Vec<_> = sets.iter().map(|set| set.iter().any(|state| self.states[*state].accepts)).collect();
        let leads_to = |wanted: bool| {
            let mut before = vec![Vec::new(); sets.len()];
            for (position, to) in next.iter().enumerate() {
                before[*to].push(position / samples.len());
            }
            let mut leads = vec![false; sets.len()];
            let mut pending: Vec<_> = (0..sets.len()).filter(|number| accepts[*number] == wanted).collect();
            while let Some(number) = pending.pop() {
                if !std::mem::replace(&mut leads[number], true) {
                    pending.extend(&before[number]);
                }
            }
            leads
        };
        let (to_one, to_another) = (leads_to(true), leads_to(false));
        let fate = |number: usize| match (accepts[number], to_one[number], to_another[number]) {
            (_, false, _) => Fate::Never,
            (_, _, false) => Fate::Always,
            (true, ..) => Fate::Accepts,
            (false, ..) => Fate::Open,
        };
        let next = next.into_iter().map(|number| u32::try_from(number).ok()).collect::<Option<_>>()?;
        Some((next, (0..sets.len()).map(fate).collect()))
    }
}

/// What it takes at most to make an automaton deterministic: half a second, and some hundred megabytes.
const MOST_STEPS: usize = 30_000_000;

/// A set of texts. Its deterministic automata are made when somebody needs them.
#[derive(Debug)]
pub(super) struct Set {
    texts: Texts,
    /// The texts that are listed, if all are.
    listed: OnceLock<FnvHashSet<Vec<u8>>>,
    made: OnceLock<Made>,
}

/// What came of making an automaton deterministic.
#[derive(Debug)]
struct Made {
    /// Each text of the set is accepted by one of these. `None`: they would be too large.
    tables: Option<Vec<Table>>,
    /// The work.
    steps: usize,
}

#[derive(Debug)]
struct Table {
    /// Bytes of one kind lead to the same place.
    kind_of: [u8; 256],
    kinds: usize,
    /// For each state and each kind of bytes, the next state. The first state is 0.
    next: Vec<u32>,
    fates: Vec<Fate>,
}

/// States in classes.
struct Classes {
    /// The class of each state.
    of: Vec<usize>,
    /// The position of each state in its class.
    at: Vec<usize>,
    members: Vec<Vec<usize>>,
}

impl Classes {
    fn new(of: impl Iterator<Item = usize>) -> Self {
        let mut numbers = BTreeMap::new();
        let mut classes = Self { of: Vec::new(), at: Vec::new(), members: Vec::new() };
        for (state, class) in of.enumerate() {
            let number = *numbers.entry(class).or_insert_with(|| {
                classes.members.push(Vec::new());
                classes.members.len() - 1
            });
            classes.of.push(number);
            classes.at.push(classes.members[number].len());
            classes.members[number].push(state);
        }
        classes
    }

    /// Splits the classes of which only some members are among the states, each of which is there once. Returns each of them, and the
    /// new class with those.
    fn split(&mut self, states: impl Iterator<Item = usize>) -> Vec<(usize, usize)> {
        let mut found = BTreeMap::<usize, Vec<usize>>::new();
        for state in states {
            found.entry(self.of[state]).or_default().push(state);
        }
        let mut splits = Vec::new();
        for (class, found) in found {
            if found.len() == self.members[class].len() {
                continue;
            }
            let new = self.members.len();
            for (position, state) in found.iter().enumerate() {
                let members = &mut self.members[class];
                members.swap_remove(self.at[*state]);
                if let Some(moved) = members.get(self.at[*state]) {
                    self.at[*moved] = self.at[*state];
                }
                (self.of[*state], self.at[*state]) = (new, position);
            }
            self.members.push(found);
            splits.push((class, new));
        }
        splits
    }
}

/// What becomes of a text that leads to a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It is not in the set, however it goes on.
    Never,
    /// It is not in the set, but can be.
    Open,
    /// It is in the set, but need not be.
    Accepts,
    /// It is in the set, however it goes on.
    Always,
}

impl Table {
    /// The same, with as few states as possible: those from which the same is accepted become one. This is Hopcroft's
    /// algorithm.
    fn minimal(&self) -> Self {
        let count = self.fates.len();
        // For each kind of bytes and each state, those from which it leads there.
        let mut before = vec![Vec::new(); count * self.kinds];
        for (number, to) in self.next.iter().enumerate() {
            before[(number % self.kinds) * count + *to as usize].push(number / self.kinds);
        }
        let mut classes = Classes::new(self.fates.iter().map(|fate| *fate as usize));
        let mut pending: Vec<_> = (0..classes.members.len()).collect();
        let mut is_pending = vec![true; pending.len()];
        while let Some(class) = pending.pop() {
            is_pending[class] = false;
            let members = classes.members[class].clone();
            for kind in 0..self.kinds {
                let leading = members.iter().flat_map(|state| &before[kind * count + state]).copied();
                for (one, other) in classes.split(leading) {
                    // The smaller part is enough, unless the whole was to be looked at.
                    is_pending.push(false);
                    let smaller = if classes.members[one].len() < classes.members[other].len() { one } else { other };
                    let next = if is_pending[one] { other } else { smaller };
                    if !std::mem::replace(&mut is_pending[next], true) {
                        pending.push(next);
                    }
                }
            }
        }
        // The first state stays the first.
        let (mut number_of, mut firsts) = (vec![None; classes.members.len()], Vec::new());
        for (state, class) in classes.of.iter().enumerate() {
            number_of[*class].get_or_insert_with(|| {
                firsts.push(state);
                u32::try_from(firsts.len() - 1).unwrap_or(u32::MAX)
            });
        }
        let number = |state: u32| number_of[classes.of[state as usize]].unwrap_or_default();
        let steps =
            |state: &usize| self.next[state * self.kinds..(state + 1) * self.kinds].iter().map(|to| number(*to));
        Self {
            kind_of: self.kind_of,
            kinds: self.kinds,
            next: firsts.iter().flat_map(steps).collect(),
            fates: firsts.iter().map(|state| self.fates[*state]).collect(),
        }
    }

    fn accepts(&self, text: &[u8]) -> bool {
        let end = text.iter().fold(0, |at, byte| self.step(at, *byte));
        matches!(self.fates[end as usize], Fate::Accepts | Fate::Always)
    }

    fn step(&self, from: u32, byte: u8) -> u32 {
        self.next[from as usize * self.kinds + usize::from(self.kind_of[usize::from(byte)])]
    }
}

impl Set {
    pub fn texts(&self) -> &Texts {
        &self.texts
    }

    /// Whether all of its texts are listed.
    pub const fn is_listed(&self) -> bool {
        self.texts.is_listed()
    }

    /// Whether it is seen at once, by how texts begin and end, that no text is in both.
    fn differs_from(&self, other: &Self) -> bool {
        const MANY: usize = 256;
        let (Some(ones), Some(others)) = (&self.texts.ends, &other.texts.ends) else { return false };
        let fits = |[begin, end]: &[Vec<u8>; 2], [other_begin, other_end]: &[Vec<u8>; 2]| {
            (begin.starts_with(other_begin) || other_begin.starts_with(begin))
                && (end.ends_with(other_end) || other_end.ends_with(end))
        };
        ones.len() * others.len() <= MANY && !ones.iter().any(|one| others.iter().any(|other| fits(one, other)))
    }

    fn made(&self) -> &Made {
        self.made.get_or_init(|| self.texts.made_deterministic())
    }

    /// What it costs to find out whether a text is in the set.
    fn steps_to_look_up(&self) -> usize {
        if self.is_listed() { 1 } else { self.made().tables.as_ref().map_or(self.texts.states.len(), Vec::len) }
    }

    /// Whether the text is in the set.
    pub fn contains(&self, text: &[u8]) -> bool {
        if let Some(exact) = &self.texts.exact {
            return self.listed.get_or_init(|| exact.iter().cloned().collect()).contains(text);
        }
        let Some(tables) = &self.made().tables else { return self.texts.accept(text) };
        tables.iter().any(|table| table.accepts(text))
    }
}

/// Finds texts, and remembers them.
#[derive(Debug)]
pub(super) struct Finder<'b> {
    pub budget: &'b mut Budget,
    /// Which requests count: see [`Requests`].
    pub requests: Requests,
    /// What was found, by the addresses of the sets. Those in which a text must be are the first.
    known: HashMap<(Vec<usize>, usize), Option<Vec<u8>>>,
    /// The addresses of the sets that the budget has paid for.
    paid: FnvHashSet<usize>,
    /// How far a search goes.
    pub most_nodes: usize,
}

/// Some hundred megabytes.
const MOST_NODES: usize = 3_000_000;

impl<'b> Finder<'b> {
    pub fn new(budget: &'b mut Budget, requests: Requests) -> Self {
        Self { budget, requests, known: HashMap::new(), paid: FnvHashSet::default(), most_nodes: MOST_NODES }
    }

    /// A text that is in all sets of `all`, and in none of `none`. `all` has at least one set.
    pub fn find(&mut self, all: &[&Set], none: &[&Set]) -> Result<Option<Vec<u8>>, Undecided> {
        let sets = || all.iter().chain(none);
        let key = (sets().map(|set| std::ptr::from_ref(*set).addr()).collect(), all.len());
        self.budget.spend(all.len() + none.len())?;
        if let Some(known) = self.known.get(&key) {
            return Ok(known.clone());
        }
        let found = self.look(all, none)?;
        self.known.insert(key, found.clone());
        Ok(found)
    }

    fn look(&mut self, all: &[&Set], none: &[&Set]) -> Result<Option<Vec<u8>>, Undecided> {
        // An automaton is made once for all questions. Only one that is large is paid for, by each of them.
        const FREE: usize = 1_000_000;
        let exact = all.iter().filter_map(|set| set.texts.exact.as_ref()).min_by_key(|exact| exact.len());
        if let Some(exact) = exact {
            'texts: for text in exact {
                for (set, wanted) in all.iter().map(|set| (set, true)).chain(none.iter().map(|set| (set, false))) {
                    self.budget.spend(set.steps_to_look_up())?;
                    if set.contains(text) != wanted {
                        continue 'texts;
                    }
                }
                return Ok(Some(text.clone()));
            }
            return Ok(None);
        }
        if all.iter().enumerate().any(|(number, one)| all.iter().skip(number + 1).any(|other| one.differs_from(other)))
        {
            return Ok(None);
        }
        let (mut wanted, mut unwanted) = (Vec::new(), Vec::new());
        for (number, set) in all.iter().chain(none).enumerate() {
            let Made { tables, steps } = set.made();
            if self.paid.insert(std::ptr::from_ref(*set).addr()) {
                self.budget.spend(steps.saturating_sub(FREE))?;
            }
            let tables = tables.as_ref().ok_or(Undecided)?;
            if number < all.len() { wanted.push(&**tables) } else { unwanted.extend(tables) }
        }
        if wanted.iter().all(|tables| tables.len() == 1) && unwanted.len() == none.len() {
            let tables = wanted.into_iter().flatten().chain(unwanted).collect();
            return Search { tables, wanted: all.len() }.run(self.budget, self.most_nodes);
        }
        self.look_in_parts(&wanted, &mut Vec::new(), &unwanted)
    }

    /// A text that is in one of the tables of each list, and in none of the others. `chosen`: tables that it must be in too.
    fn look_in_parts<'t>(
        &mut self,
        wanted: &[&'t [Table]],
        chosen: &mut Vec<&'t Table>,
        unwanted: &[&'t Table],
    ) -> Result<Option<Vec<u8>>, Undecided> {
        if let [tables, wanted @ ..] = wanted {
            for table in *tables {
                chosen.push(table);
                let found = self.look_in_parts(wanted, chosen, unwanted)?;
                chosen.pop();
                if found.is_some() {
                    return Ok(found);
                }
            }
            return Ok(None);
        }
        // Nearly always, a few of the tables exclude all texts. All together would be too many.
        let mut tables = chosen.clone();
        loop {
            let Some(text) =
                Search { tables: tables.clone(), wanted: chosen.len() }.run(self.budget, self.most_nodes)?
            else {
                return Ok(None);
            };
            self.budget.spend(unwanted.len() * (text.len() + 1))?;
            let Some(table) = unwanted.iter().find(|table| table.accepts(&text)) else { return Ok(Some(text)) };
            tables.push(table);
        }
    }
}

struct Search<'t> {
    /// First those of the sets that a text must be in, then the others.
    tables: Vec<&'t Table>,
    wanted: usize,
}

/// A state of each of the tables.
type Node = Rc<[u32]>;

impl Search<'_> {
    /// Looks first at what is in most of the sets that a text must be in, and then at what is short. So a text that has to
    /// contain many others is found without looking at every combination of them.
    fn run(self, budget: &mut Budget, most_nodes: usize) -> Result<Option<Vec<u8>>, Undecided> {
        let bytes = self.bytes();
        let start: Node = vec![0; self.tables.len()].into();
        // The nodes that were reached, each with the one before it, and the byte between them.
        let mut nodes = vec![(Rc::clone(&start), 0, 0)];
        let mut next = start.to_vec();
        let mut pending = BinaryHeap::from([Reverse((self.missing(&start), 0_usize, 0_usize))]);
        let mut seen = FnvHashSet::from_iter([start]);
        while let Some(Reverse((_, length, number))) = pending.pop() {
            let node = Rc::clone(&nodes[number].0);
            if self.is_found(&node) {
                return Ok(Some(text(&nodes, number)));
            }
            budget.spend(bytes.len() * self.tables.len())?;
            if nodes.len() > most_nodes {
                return Err(Undecided);
            }
            for byte in &bytes {
                if self.step(&node, *byte, &mut next) && !seen.contains(&*next) {
                    pending.push(Reverse((self.missing(&next), length + 1, nodes.len())));
                    let next: Node = next.as_slice().into();
                    seen.insert(Rc::clone(&next));
                    nodes.push((next, number, *byte));
                }
            }
        }
        Ok(None)
    }

    /// How many of the sets that a text must be in it can still leave. For a few sets, this does not count: what is found is as
    /// short as possible.
    fn missing(&self, node: &[u32]) -> usize {
        const FEW: usize = 4;
        if self.wanted <= FEW {
            return 0;
        }
        let fates = self.tables.iter().zip(node).take(self.wanted).map(|(table, at)| table.fates[*at as usize]);
        fates.filter(|fate| *fate != Fate::Always).count()
    }

    /// Whether a text can go on with this byte so that it is found. `next`: where the byte leads.
    fn step(&self, node: &[u32], byte: u8, next: &mut [u32]) -> bool {
        let dead_ends = [Fate::Never, Fate::Always];
        for (number, ((table, at), to)) in self.tables.iter().zip(node).zip(next).enumerate() {
            *to = table.step(*at, byte);
            if table.fates[*to as usize] == dead_ends[usize::from(number >= self.wanted)] {
                return false;
            }
        }
        true
    }

    fn is_found(&self, node: &[u32]) -> bool {
        let accepts = |fate| matches!(fate, Fate::Accepts | Fate::Always);
        let mut fates = self.tables.iter().zip(node).map(|(table, at)| table.fates[*at as usize]);
        fates.by_ref().take(self.wanted).all(accepts) && !fates.any(accepts)
    }

    /// One of each kind of bytes, nicest first. Bytes of one kind lead to the same place in all tables.
    fn bytes(&self) -> Vec<u8> {
        let (mut kind_of, mut count) = ([0_usize; 256], 1);
        for table in &self.tables {
            let mut numbers = vec![usize::MAX; count * table.kinds];
            count = 0;
            for (kind, other) in kind_of.iter_mut().zip(&table.kind_of) {
                let number = &mut numbers[*kind * table.kinds + usize::from(*other)];
                if *number == usize::MAX {
                    *number = count;
                    count += 1;
                }
                *kind = *number;
            }
        }
        let mut kinds = vec![Bytes::NONE; count];
        for (byte, kind) in (0..=u8::MAX).zip(kind_of) {
            kinds[kind] = kinds[kind].or(Bytes::one(byte));
        }
        let mut bytes: Vec<_> = kinds.into_iter().filter_map(Bytes::nicest).collect();
        bytes.sort_by_key(|byte| (!byte.is_ascii_alphanumeric(), !byte.is_ascii_graphic(), *byte));
        bytes
    }
}

/// The text that leads to a node.
fn text(nodes: &[(Node, usize, u8)], mut number: usize) -> Vec<u8> {
    let mut text = Vec::new();
    while number > 0 {
        let (_, before, byte) = &nodes[number];
        text.push(*byte);
        number = *before;
    }
    text.reverse();
    text
}
