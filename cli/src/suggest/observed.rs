//! What was allowed and what was refused, as logs have it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use mesh_authz::identity::SCHEME;
use mesh_authz::policy::Traffic;
use mesh_authz::request::{Attributes, Lookup, PeerName, without_query};

use crate::access_log::happened::Happened;
use crate::logs::{Collect, Count, Item, Lines, Logged};

/// What logs have, by the position of the workload.
#[derive(Debug, Default)]
pub struct Observed {
    pub lines: Lines,
    pub workloads: BTreeMap<usize, OfWorkload>,
    /// Requests that nothing is made of, by the reason.
    pub left_out: BTreeMap<&'static str, Count>,
    /// The bytes of all that was seen.
    size: usize,
}

/// What a workload was seen to allow, and to refuse.
#[derive(Clone, Debug, Default)]
pub struct OfWorkload {
    /// How often what was allowed.
    pub allowed: BTreeMap<Access, u64>,
    pub refused: BTreeSet<Refused>,
    /// Whether more was refused than is kept: requests without a path, or too many.
    pub more_refused: bool,
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

/// A peer that was refused.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    Named(String),
    WithoutIdentity,
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

/// What is kept of different requests is not longer than this, in bytes. What comes then is left out.
const MOST_BYTES: usize = 100_000_000;

/// What a request takes in addition to its texts.
const OVERHEAD: usize = 200;

const TOO_MANY: &str = "because there are too many different requests";

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
    /// Adds what was seen of the same workload, as far as there is room, in bytes. Returns how many requests are left out, and how
    /// many bytes were added.
    fn add(&mut self, later: Self, room: usize) -> (u64, usize) {
        let (mut left_out, mut added): (u64, usize) = (0, 0);
        for (access, count) in later.allowed {
            let size = added.saturating_add(access.size());
            if let Some(known) = self.allowed.get_mut(&access) {
                *known = known.saturating_add(count);
            } else if size <= room {
                added = size;
                self.allowed.insert(access, count);
            } else {
                left_out = left_out.saturating_add(count);
            }
        }
        for refused in later.refused {
            let size = added.saturating_add(refused.size());
            if self.refused.contains(&refused) {
                continue;
            }
            if size <= room {
                added = size;
                self.refused.insert(refused);
            } else {
                self.more_refused = true;
            }
        }
        self.more_refused |= later.more_refused;
        self.has_requests |= later.has_requests;
        (left_out, added)
    }

    /// Adds what was seen of another workload that a policy does not tell from this one.
    pub fn merge(&mut self, other: Self) {
        let _there_is_room = self.add(other, usize::MAX);
    }
}

impl Observed {
    /// Adds a request.
    pub fn add(&mut self, item: &Item<'_>) {
        let mut found = OfWorkload { has_requests: item.request.traffic() == Traffic::Http, ..OfWorkload::default() };
        match &item.happened {
            Happened::Allowed => match access(item) {
                Ok(access) => _ = found.allowed.insert(access, 1),
                Err(why) => self.leave_out(why, item),
            },
            Happened::Denied(_) => found.refuse(item, true),
            Happened::Unknown | Happened::NotDecided(_) => {
                found.refuse(item, false);
                self.leave_out("of which the line does not say whether they were allowed", item);
            }
        }
        if self.take(item.workload, found) > 0 {
            self.leave_out(TOO_MANY, item);
        }
    }

    /// Returns how many requests there is no room for.
    fn take(&mut self, workload: usize, found: OfWorkload) -> u64 {
        let room = MOST_BYTES.saturating_sub(self.size);
        let (left_out, added) = self.workloads.entry(workload).or_default().add(found, room);
        self.size = self.size.saturating_add(added);
        left_out
    }

    fn leave_out(&mut self, why: &'static str, item: &Item<'_>) {
        self.left_out.entry(why).or_default().add(item.place);
    }
}

impl OfWorkload {
    fn refuse(&mut self, item: &Item<'_>, is_denied: bool) {
        let peer = match principal(&item.request) {
            Ok(Some(name)) if !item.is_inferred => Peer::Named(name),
            Ok(None) => Peer::WithoutIdentity,
            _ => Peer::Unknown,
        };
        match wanted(&item.request) {
            Some(what) => _ = self.refused.insert(Refused { peer, what, is_denied }),
            None => self.more_refused = true,
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
            let left_out = self.take(position, of_workload);
            if left_out > 0 {
                self.left_out.entry(TOO_MANY).or_default().merge(&Count { lines: left_out, first: None });
            }
        }
    }
}

/// What a policy can be made of. `Err`: why it cannot.
fn access(item: &Item<'_>) -> Result<Access, &'static str> {
    let what = what(&item.request)?;
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
