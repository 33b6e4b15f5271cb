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
    /// How many different requests there are.
    size: usize,
}

/// What a workload was seen to allow, and to refuse.
#[derive(Clone, Debug, Default)]
pub struct OfWorkload {
    /// How often what was allowed.
    pub allowed: BTreeMap<Access, u64>,
    pub refused: BTreeSet<Refused>,
    /// What was refused to a peer that the line does not name.
    pub refused_to_somebody: BTreeSet<What>,
}

/// A request that was allowed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Access {
    /// Without the scheme.
    pub principal: String,
    pub what: What,
}

/// A request that was refused.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refused {
    /// `None`: the peer has no identity.
    pub principal: Option<String>,
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

/// There are no more different requests than this. What comes then is left out.
pub const MOST: usize = 1_000_000;

const TOO_MANY: &str = "because there are more than a million different requests";

impl Access {
    /// The path, if it is about one.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        self.what.path()
    }
}

impl What {
    /// The path, if it is about one.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        match self {
            Self::Http { path, .. } => Some(path),
            Self::Tcp { .. } => None,
        }
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

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let principal = self.principal.as_deref().unwrap_or("a peer without an identity");
        write!(f, "{} from {principal}", self.what)
    }
}

impl OfWorkload {
    /// Whether the same request was allowed at another time.
    #[must_use]
    pub fn allows(&self, refused: &Refused) -> bool {
        let principal = refused.principal.clone();
        principal.is_some_and(|principal| self.allowed.contains_key(&Access { principal, what: refused.what.clone() }))
    }

    /// Adds what was seen later, as long as there are not more different requests than that. Returns how many requests are left
    /// out.
    pub fn merge(&mut self, later: Self, most: usize) -> u64 {
        let mut left_out: u64 = 0;
        for (access, count) in later.allowed {
            if let Some(known) = self.allowed.get_mut(&access) {
                *known = known.saturating_add(count);
            } else if self.size() < most {
                self.allowed.insert(access, count);
            } else {
                left_out = left_out.saturating_add(count);
            }
        }
        for refused in later.refused {
            if self.size() < most {
                self.refused.insert(refused);
            }
        }
        for what in later.refused_to_somebody {
            if self.size() < most {
                self.refused_to_somebody.insert(what);
            }
        }
        left_out
    }

    /// How many different requests there are.
    fn size(&self) -> usize {
        let refused = self.refused.len().saturating_add(self.refused_to_somebody.len());
        self.allowed.len().saturating_add(refused)
    }
}

impl Observed {
    /// Adds a request.
    pub fn add(&mut self, item: &Item<'_>) {
        let what = what(&item.request);
        let principal = principal(&item.request);
        match (&item.happened, what, principal) {
            (Happened::Denied(_), Ok(what), Ok(principal)) if !item.is_inferred => {
                let of_workload = self.workloads.entry(item.workload).or_default();
                if self.size < MOST && of_workload.refused.insert(Refused { principal, what }) {
                    self.size = self.size.saturating_add(1);
                }
            }
            (Happened::Denied(_), Ok(what), _) => {
                let of_workload = self.workloads.entry(item.workload).or_default();
                if self.size < MOST && of_workload.refused_to_somebody.insert(what) {
                    self.size = self.size.saturating_add(1);
                }
            }
            (Happened::Unknown | Happened::NotDecided(_), ..) => {
                self.leave_out("of which the line does not say whether they were allowed", item);
            }
            (_, Err(why), _) | (Happened::Allowed, _, Err(why)) => self.leave_out(why, item),
            (Happened::Allowed, _, Ok(None)) => self.leave_out("of peers without an identity", item),
            (Happened::Allowed, ..) if item.is_inferred => {
                self.leave_out("of peers that are only inferred from their address", item);
            }
            (Happened::Allowed, Ok(what), Ok(Some(principal))) => {
                let of_workload = self.workloads.entry(item.workload).or_default();
                let access = Access { principal, what };
                if let Some(count) = of_workload.allowed.get_mut(&access) {
                    *count = count.saturating_add(1);
                } else if self.size < MOST {
                    self.size = self.size.saturating_add(1);
                    of_workload.allowed.insert(access, 1);
                } else {
                    self.leave_out(TOO_MANY, item);
                }
            }
        }
    }

    fn leave_out(&mut self, why: &'static str, item: &Item<'_>) {
        self.left_out.entry(why).or_default().add(item.place);
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
            let known = self.workloads.entry(position).or_default();
            let before = known.size();
            let room = MOST.saturating_sub(self.size).saturating_add(before);
            let left_out = known.merge(of_workload, room);
            self.size = self.size.saturating_add(known.size().saturating_sub(before));
            if left_out > 0 {
                self.left_out.entry(TOO_MANY).or_default().merge(&Count { lines: left_out, first: None });
            }
        }
    }
}

/// What a request wants. `Err`: why that cannot be in a policy.
fn what(request: &Logged<'_>) -> Result<What, &'static str> {
    if request.traffic() == Traffic::Tcp {
        return match request.destination_port() {
            Lookup::Value(port) => Ok(What::Tcp { port }),
            Lookup::Absent | Lookup::Unreadable => Err("of which the line does not say the port"),
        };
    }
    let header = |name: &'static [u8]| match request.header(name) {
        Lookup::Value(mut values) => Some(values.next().map(<[u8]>::to_vec)),
        Lookup::Absent | Lookup::Unreadable => None,
    };
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).ok().filter(|text| can_be_written(text));
    let method = header(b":method").ok_or("of which the line does not say the method")?;
    let path = header(b":path").ok_or("of which the line does not say the path for certain: see --as-logged")?;
    let method = method.and_then(text).filter(|method| method.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    let path = path.and_then(|path| text(without_query(&path).to_vec())).filter(|path| path.starts_with('/'));
    match (method, path) {
        (Some(method), Some(path)) => Ok(What::Http { method, path }),
        _ => Err("whose method or path cannot be written in a policy as it is"),
    }
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
    has_form && parts.iter().all(|part| can_be_written(part))
}

/// Whether a value of a policy can be this text, and nothing else.
fn can_be_written(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"*{}".contains(&byte))
}
