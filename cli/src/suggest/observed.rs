//! What was allowed and what was refused, as logs have it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use mesh_authz::identity::SCHEME;
use mesh_authz::policy::Traffic;
use mesh_authz::request::{Attributes, Lookup, PeerName, without_query};

use crate::access_log::happened::{BEFORE_POLICIES, Happened, NOT_AT_THE_END, SENT};
use crate::logs::{Collect, Count, Item, Lines, Logged};

/// What logs have, by the position of the workload.
#[derive(Debug, Default)]
pub struct Observed {
    pub lines: Lines,
    pub workloads: BTreeMap<usize, OfWorkload>,
    /// What was refused where the line does not say by which workload.
    pub refused_somewhere: OfWorkload,
    /// Requests that nothing is made of, by the reason.
    pub left_out: BTreeMap<&'static str, Count>,
    room: Room,
}

/// What a workload was seen to allow, and to refuse.
#[derive(Clone, Debug, Default)]
pub struct OfWorkload {
    /// How often what was allowed.
    pub allowed: BTreeMap<Access, u64>,
    /// What was refused to peers with an identity, or perhaps with one.
    pub refused: BTreeSet<Refused>,
    /// Peers that were refused requests whose path the line does not say.
    pub without_path: BTreeSet<Peer>,
    /// Peers that were refused more than is kept.
    pub forgotten: BTreeSet<Peer>,
    /// How many requests were allowed that are not kept.
    pub not_kept: u64,
    /// Whether it answers requests, also such as are not in a policy.
    pub has_requests: bool,
}

/// What was allowed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Access {
    /// Without the scheme.
    pub principal: String,
    pub what: What,
}

/// What a peer wanted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    Http {
        method: String,
        /// Without the query.
        path: String,
    },
    Tcp {
        port: u16,
    },
}

/// What was not seen to be allowed: a policy that is made of other requests must not allow it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refused {
    pub peer: Peer,
    pub what: Wanted,
    /// Whether policies denied it. Otherwise, the line does not say what became of it.
    pub is_denied: bool,
}

/// A peer that was refused, and that can have an identity.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    Named(String),
    /// The line does not say.
    Unknown,
}

/// What was refused.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wanted {
    /// `None`: the line does not say the method.
    Http {
        method: Option<String>,
        path: String,
    },
    Tcp {
        port: u16,
    },
}

/// What is kept of different requests that were allowed is not longer than this, in bytes. The same is true for those that were
/// refused.
const MOST_BYTES: usize = 50_000_000;

/// What a request takes in addition to its texts.
const OVERHEAD: usize = 200;

impl Access {
    /// The path, if it is about one.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        match &self.what {
            What::Http { path, .. } => Some(path),
            What::Tcp { .. } => None,
        }
    }

    fn size(&self) -> usize {
        let texts = match &self.what {
            What::Http { method, path } => method.len().saturating_add(path.len()),
            What::Tcp { .. } => 0,
        };
        texts.saturating_add(self.principal.len()).saturating_add(OVERHEAD)
    }
}

impl Refused {
    /// The same as something that could have been allowed. `None`: the line does not say enough.
    #[must_use]
    pub fn as_access(&self) -> Option<Access> {
        let Peer::Named(principal) = &self.peer else { return None };
        let what = match &self.what {
            Wanted::Http { method, path } => What::Http { method: method.clone()?, path: path.clone() },
            Wanted::Tcp { port } => What::Tcp { port: *port },
        };
        Some(Access { principal: principal.clone(), what })
    }

    fn size(&self) -> usize {
        let texts = match &self.what {
            Wanted::Http { method, path } => method.as_ref().map_or(0, String::len).saturating_add(path.len()),
            Wanted::Tcp { .. } => 0,
        };
        let peer = if let Peer::Named(name) = &self.peer { name.len() } else { 0 };
        texts.saturating_add(peer).saturating_add(OVERHEAD)
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http { method, path } => write!(f, "{method} {path}"),
            Self::Tcp { port } => write!(f, "a connection to port {port}"),
        }
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from {}", self.what, self.principal)
    }
}

impl OfWorkload {
    /// Adds what was seen of the same workload, as far as there is room.
    fn add(&mut self, later: Self, room: &mut Room) {
        for (access, count) in later.allowed {
            if let Some(known) = self.allowed.get_mut(&access) {
                *known = known.saturating_add(count);
            } else if let Some(left) = room.allowed.checked_sub(access.size()) {
                room.allowed = left;
                self.allowed.insert(access, count);
            } else {
                self.not_kept = self.not_kept.saturating_add(count);
            }
        }
        for refused in later.refused {
            if self.refused.contains(&refused) {
                continue;
            }
            if let Some(left) = room.refused.checked_sub(refused.size()) {
                room.refused = left;
                self.refused.insert(refused);
            } else {
                self.forgotten.insert(refused.peer);
            }
        }
        self.without_path.extend(later.without_path);
        self.forgotten.extend(later.forgotten);
        self.not_kept = self.not_kept.saturating_add(later.not_kept);
        self.has_requests |= later.has_requests;
    }

    /// Adds what was seen of another workload that a policy does not tell from this one.
    pub fn merge(&mut self, other: Self) {
        self.add(other, &mut Room { allowed: usize::MAX, refused: usize::MAX });
    }
}

/// How many bytes can still be kept.
#[derive(Clone, Copy, Debug)]
struct Room {
    allowed: usize,
    refused: usize,
}

impl Default for Room {
    fn default() -> Self {
        Self { allowed: MOST_BYTES, refused: MOST_BYTES }
    }
}

impl Observed {
    /// Adds a request.
    pub fn add(&mut self, item: &Item<'_>) {
        if matches!(item.happened, Happened::NotDecided(SENT | NOT_AT_THE_END)) {
            return;
        }
        let mut found = OfWorkload::default();
        match &item.happened {
            // It did not come to the policies.
            Happened::Allowed | Happened::NotDecided(BEFORE_POLICIES) => {}
            Happened::Denied(_) => found.refuse(item, true),
            Happened::Unknown | Happened::NotDecided(_) => found.refuse(item, false),
        }
        let Some(workload) = item.workload else { return self.refused_somewhere.add(found, &mut self.room) };
        found.has_requests = item.request.traffic() == Traffic::Http;
        match &item.happened {
            Happened::Allowed => match access(item) {
                Ok(access) => _ = found.allowed.insert(access, 1),
                Err(why) => self.leave_out(why, item),
            },
            Happened::Unknown => self.leave_out(
                match item.request.traffic() {
                    Traffic::Http => "of which the line does not say whether they were allowed",
                    Traffic::Tcp => {
                        "connections of which the line does not say whether they were allowed: log \
                         %CONNECTION_TERMINATION_DETAILS%, %BYTES_RECEIVED% and %BYTES_SENT%"
                    }
                },
                item,
            ),
            Happened::Denied(_) | Happened::NotDecided(_) => {}
        }
        self.workloads.entry(workload).or_default().add(found, &mut self.room);
    }

    fn leave_out(&mut self, why: &'static str, item: &Item<'_>) {
        self.left_out.entry(why).or_default().add(item.place);
    }
}

impl OfWorkload {
    fn refuse(&mut self, item: &Item<'_>, is_denied: bool) {
        let peer = match principal(&item.request) {
            Ok(Some(name)) if !item.is_inferred => Peer::Named(name),
            // No policy that is made here allows it anything.
            Ok(None) => return,
            _ => Peer::Unknown,
        };
        match wanted(&item.request) {
            Some(what) => _ = self.refused.insert(Refused { peer, what, is_denied }),
            None => _ = self.without_path.insert(peer),
        }
    }
}

impl Collect for Observed {
    fn lines(&mut self) -> &mut Lines {
        &mut self.lines
    }

    fn merge(&mut self, later: Self) {
        for (why, count) in later.left_out {
            self.left_out.entry(why).or_default().merge(&count);
        }
        for (position, of_workload) in later.workloads {
            self.workloads.entry(position).or_default().add(of_workload, &mut self.room);
        }
        self.refused_somewhere.add(later.refused_somewhere, &mut self.room);
    }
}

/// What a policy can be made of. `Err`: why it cannot.
fn access(item: &Item<'_>) -> Result<Access, &'static str> {
    let what = what(&item.request)?;
    if item.has_no_route {
        return Err("for which there was no route");
    }
    if !item.is_of_service {
        return Err("of which the line does not say for certain which service they were for: log %FILTER_CHAIN_NAME%");
    }
    match principal(&item.request)? {
        None => Err("of peers without an identity"),
        Some(_) if item.is_inferred => Err("of peers that are only inferred from their address"),
        Some(principal) => Ok(Access { principal, what }),
    }
}

/// The first line of a header.
fn header(request: &Logged<'_>, name: &[u8]) -> Lookup<Vec<u8>> {
    match request.header(name) {
        Lookup::Value(mut values) => values.next().map_or(Lookup::Absent, |line| Lookup::Value(line.to_vec())),
        Lookup::Absent => Lookup::Absent,
        Lookup::Unreadable => Lookup::Unreadable,
    }
}

/// What a request wants. `Err`: why that cannot be in a policy.
fn what(request: &Logged<'_>) -> Result<What, &'static str> {
    const ODD: &str = "whose method or path cannot be written in a policy as it is";
    if request.traffic() == Traffic::Tcp {
        return match request.destination_port() {
            Lookup::Value(port) => Ok(What::Tcp { port }),
            Lookup::Absent | Lookup::Unreadable => Err("of which the line does not say the port"),
        };
    }
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).ok().filter(|text| can_be_written(text)).ok_or(ODD);
    let method = match header(request, b":method") {
        Lookup::Value(method) => text(method)?,
        Lookup::Absent => return Err(ODD),
        Lookup::Unreadable => return Err("of which the line does not say the method"),
    };
    let path = match header(request, b":path") {
        Lookup::Value(path) => text(without_query(&path).to_vec())?,
        Lookup::Absent => return Err(ODD),
        Lookup::Unreadable => return Err("of which the line does not say the path for certain: see --as-logged"),
    };
    let is_plain = method.bytes().all(|byte| byte.is_ascii_alphanumeric()) && path.starts_with('/');
    if is_plain { Ok(What::Http { method, path }) } else { Err(ODD) }
}

/// What a request that was refused wanted, also if no policy can say it. `None`: the line does not say.
fn wanted(request: &Logged<'_>) -> Option<Wanted> {
    if request.traffic() == Traffic::Tcp {
        return match request.destination_port() {
            Lookup::Value(port) => Some(Wanted::Tcp { port }),
            Lookup::Absent | Lookup::Unreadable => None,
        };
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let method = match header(request, b":method") {
        Lookup::Value(method) => Some(text(&method)),
        Lookup::Absent | Lookup::Unreadable => None,
    };
    let path = match header(request, b":path") {
        Lookup::Value(path) => text(without_query(&path)),
        // Such as a CONNECT: no pattern matches it.
        Lookup::Absent => String::new(),
        Lookup::Unreadable => return None,
    };
    Some(Wanted::Http { method, path })
}

/// The principal of the peer. `Ok(None)`: it has no identity. `Err`: why it cannot be in a policy.
fn principal(request: &Logged<'_>) -> Result<Option<String>, &'static str> {
    let names = PeerName::ALL.map(|which| request.peer_name(which));
    match names {
        [Lookup::Value(name), Lookup::Absent, ..] => {
            let name = std::str::from_utf8(name).ok().and_then(|name| name.strip_prefix(SCHEME));
            let name = name.filter(|name| is_principal(name));
            name.map(|name| Some(name.to_owned())).ok_or("whose peer has a name that is no principal")
        }
        [Lookup::Absent, Lookup::Absent, Lookup::Absent, Lookup::Absent] => Ok(None),
        [Lookup::Absent, Lookup::Absent, ..] if !names.contains(&Lookup::Unreadable) => {
            Err("whose peer has a name that is no principal")
        }
        _ => Err("of which the line does not say the peer"),
    }
}

/// Whether this is a principal, as Istio gives it to workloads, and a policy can name it.
pub(super) fn is_principal(name: &str) -> bool {
    let parts: Vec<_> = name.split('/').collect();
    let has_form = matches!(parts.as_slice(), [domain, "ns", _, "sa", _] if *domain != "ns");
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    has_form && parts.iter().all(|part| !part.is_empty() && part.bytes().all(is_plain))
}

/// Whether a value of a policy can be this text, and nothing else.
fn can_be_written(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"*{}".contains(&byte))
}
