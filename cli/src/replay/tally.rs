//! Counts of what is alike, so that a log of any length takes the same memory.

use std::collections::{BTreeMap, HashMap};

use mesh_authz::engine::Verdict;

use crate::access_log::happened::{DeniedBy, Happened};
use crate::logs::{Collect, Count, Lines, Place};

/// What a replay has found.
#[derive(Debug, Default)]
pub struct Tally {
    pub lines: Lines,
    /// How often the policies decide what. With two sets of policies, the second does.
    pub allowed: u64,
    pub denied: u64,
    pub undecided: u64,
    /// The requests whose peer is inferred from its address.
    pub inferred: u64,
    /// The requests of which the log says what became of them.
    pub recorded: u64,
    /// What is undecided before and after, and that the change of the policies does not matter for.
    pub unchanged: Count,
    /// Requests that an authorizer refused, and that the policies may not ask it about.
    pub not_asked_about: Count,
    /// Requests that are undecided, by the attributes that would decide them.
    pub needs: BTreeMap<Vec<String>, Group>,
    groups: HashMap<Key, Group>,
}

/// Requests that are alike.
#[derive(Clone, Debug, Default)]
pub struct Group {
    pub count: Count,
    /// When the first and the last of them began.
    pub times: Option<(String, String)>,
    /// The first line, if it is not too long to be kept.
    pub example: Option<Vec<u8>>,
}

/// What makes requests alike.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    pub kind: Kind,
    /// The position of the workload.
    pub workload: usize,
    pub before: Before,
    pub after: After,
    /// The method and the shape of the path.
    pub what: String,
    pub peer: Peer,
}

/// Why requests are worth a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// The policies that were in force do not decide as the log says.
    Disagreement,
    /// They are decided otherwise than before.
    Change,
    /// They are denied, and were before, as far as that is known.
    Denied,
}

/// The peer of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Peer {
    /// `None`: the line does not say.
    pub name: Option<String>,
    /// Whether the name is inferred from an address.
    pub is_inferred: bool,
}

/// What was decided before.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Before {
    Allowed,
    Denied(DeniedBy),
    Unknown,
}

/// What the policies decide.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum After {
    Allow,
    Deny(DeniedBy),
    /// It depends on what the line does not have.
    Undecided,
}

/// The line that is counted.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'l> {
    pub place: Place,
    /// When the request began.
    pub start: Option<&'l str>,
    pub line: &'l [u8],
}

/// There are no more groups than this of one kind. What comes then is counted together.
const MOST_GROUPS: usize = 2_000;

/// A longer line is not kept as an example.
const LONGEST_EXAMPLE: usize = 1 << 14;

/// Stands for all paths, or all peers, of which there are too many.
const OTHERS: &str = "(others)";

impl Group {
    fn of(seen: &Seen<'_>) -> Self {
        Self {
            count: Count { lines: 1, first: Some(seen.place) },
            times: seen.start.map(|start| (start.to_owned(), start.to_owned())),
            example: (seen.line.len() <= LONGEST_EXAMPLE).then(|| seen.line.to_vec()),
        }
    }

    fn add(&mut self, seen: &Seen<'_>) {
        self.count.add(seen.place);
        match (&mut self.times, seen.start) {
            (Some((first, last)), Some(start)) => {
                if start < first.as_str() {
                    start.clone_into(first);
                }
                if start > last.as_str() {
                    start.clone_into(last);
                }
            }
            (times @ None, Some(start)) => *times = Some((start.to_owned(), start.to_owned())),
            (_, None) => {}
        }
    }

    fn merge(&mut self, later: Self) {
        self.count.merge(&later.count);
        self.times = match (self.times.take(), later.times) {
            (Some((first, last)), Some((other_first, other_last))) => {
                Some((first.min(other_first), last.max(other_last)))
            }
            (times, other) => times.or(other),
        };
        self.example = self.example.take().or(later.example);
    }
}

impl Tally {
    /// Counts a decision.
    pub fn count(&mut self, after: &After, happened: &Happened, is_inferred: bool) {
        self.inferred = self.inferred.saturating_add(u64::from(is_inferred));
        let count = match after {
            After::Allow => &mut self.allowed,
            After::Deny(_) => &mut self.denied,
            After::Undecided => &mut self.undecided,
        };
        *count = count.saturating_add(1);
        let is_recorded = matches!(happened, Happened::Allowed | Happened::Denied(_));
        self.recorded = self.recorded.saturating_add(u64::from(is_recorded));
    }

    /// Counts a request that is undecided.
    pub fn needs(&mut self, names: Vec<String>, seen: &Seen<'_>) {
        match self.needs.get_mut(&names) {
            Some(group) => group.add(seen),
            None => {
                self.needs.insert(names, Group::of(seen));
            }
        }
    }

    /// Counts a request that is worth a group.
    pub fn group(&mut self, key: Key, seen: &Seen<'_>) {
        match self.groups.get_mut(&key) {
            Some(group) => group.add(seen),
            None => {
                self.groups.insert(key, Group::of(seen));
            }
        }
    }

    fn merge_group(&mut self, mut key: Key, mut group: Group) {
        if !self.groups.contains_key(&key) && self.groups.len() >= MOST_GROUPS {
            // No longer one request in particular.
            group.example = None;
            OTHERS.clone_into(&mut key.what);
            if !self.groups.contains_key(&key) && self.groups.len() >= MOST_GROUPS.saturating_mul(2) {
                key.peer = Peer { name: Some(OTHERS.to_owned()), is_inferred: false };
            }
        }
        match self.groups.get_mut(&key) {
            Some(known) => known.merge(group),
            None => {
                self.groups.insert(key, group);
            }
        }
    }

    /// The groups of a kind, the largest first.
    #[must_use]
    pub fn groups(&self, kind: Kind) -> Vec<(&Key, &Group)> {
        let mut groups: Vec<_> = self.groups.iter().filter(|(key, _)| key.kind == kind).collect();
        groups.sort_by(|(key, group), (other, other_group)| {
            other_group.count.lines.cmp(&group.count.lines).then_with(|| key.cmp(other))
        });
        groups
    }
}

impl Collect for Tally {
    fn lines(&mut self) -> &mut Lines {
        &mut self.lines
    }

    fn merge(&mut self, later: Self) {
        let Self { allowed, denied, undecided, inferred, recorded, .. } = later;
        for (count, more) in [
            (&mut self.allowed, allowed),
            (&mut self.denied, denied),
            (&mut self.undecided, undecided),
            (&mut self.inferred, inferred),
            (&mut self.recorded, recorded),
        ] {
            *count = count.saturating_add(more);
        }
        self.unchanged.merge(&later.unchanged);
        self.not_asked_about.merge(&later.not_asked_about);
        for (names, group) in later.needs {
            match self.needs.get_mut(&names) {
                Some(known) => known.merge(group),
                None => {
                    self.needs.insert(names, group);
                }
            }
        }
        // The order in which they come decides which of them are counted together.
        let mut groups: Vec<_> = later.groups.into_iter().collect();
        groups.sort_by_key(|(_, group)| group.count.first);
        for (key, group) in groups {
            self.merge_group(key, group);
        }
    }
}

impl Before {
    /// What the log says.
    #[must_use]
    pub fn of(happened: &Happened) -> Self {
        match happened {
            Happened::Allowed => Self::Allowed,
            Happened::Denied(by) => Self::Denied(by.clone()),
            Happened::Unknown | Happened::NotDecided(_) => Self::Unknown,
        }
    }

    /// Whether another decision comes after it.
    #[must_use]
    pub fn differs(&self, after: &After) -> bool {
        matches!((self, after), (Self::Allowed, After::Deny(_)) | (Self::Denied(_), After::Allow))
    }
}

impl From<&After> for Before {
    fn from(after: &After) -> Self {
        match after {
            After::Allow => Self::Allowed,
            After::Deny(by) => Self::Denied(by.clone()),
            After::Undecided => Self::Unknown,
        }
    }
}

impl After {
    /// The verdict, if there is one.
    #[must_use]
    pub fn verdict(&self) -> Option<Verdict> {
        match self {
            Self::Allow => Some(Verdict::Allow),
            Self::Deny(_) => Some(Verdict::Deny),
            Self::Undecided => None,
        }
    }
}

/// A path without what makes it one of many: numbers, identifiers and long segments become `{}`.
#[must_use]
pub fn shape(path: &str) -> String {
    let shape = path
        .split('/')
        .map(|segment| if is_identifier(segment) { "{}" } else { segment })
        .collect::<Vec<_>>()
        .join("/");
    shortened(shape)
}

/// A text without what comes behind its first two hundred bytes.
#[must_use]
pub fn shortened(mut text: String) -> String {
    const LONGEST: usize = 200;
    if text.len() > LONGEST {
        let end = text.char_indices().map(|(at, _)| at).take_while(|at| *at <= LONGEST).last();
        text.truncate(end.unwrap_or_default());
        text.push('…');
    }
    text
}

/// Whether a segment of a path looks like one of many.
fn is_identifier(segment: &str) -> bool {
    const LONG: usize = 32;
    let digits = segment.bytes().filter(u8::is_ascii_digit).count();
    let is_hexadecimal = segment.len() >= 8 && segment.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    !segment.is_empty() && (digits == segment.len() || (is_hexadecimal && digits > 0) || segment.len() > LONG)
}
