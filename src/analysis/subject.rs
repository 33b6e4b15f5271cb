//! What tests are about, which values it can have, and a value that some tests ask for.
//!
//! Tests about different subjects say nothing about each other. So a request that meets some tests is found subject by
//! subject. There are two exceptions: a request without a path is a CONNECT, and a claim with parts is no text
//! ([`super::region`]).

use std::cmp::Reverse;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, LazyLock, OnceLock};

use fnv::FnvHashSet;

use super::budget::{Budget, Requests, Undecided};
use super::text::{Bytes, Finder, Part, Set, Texts};
use super::values::Values;
use crate::attribute::{Address, ConnectionText};
use crate::engine::compile::{Check, MetadataPath, Text};
use crate::policy::Cidr;
use crate::request::headers::is_joined;
use crate::request::metadata::JWT_AUTHN;
use crate::request::{PeerName, is_normalized, without_query};

/// What a test is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Subject {
    /// The namespace of the workload.
    Namespace,
    /// What the workload is: [`SIDECAR`], or [`GATEWAY`] or [`WAYPOINT`] and its name.
    Proxy,
    /// The service that a request to a waypoint is for, as `Service/NAMESPACE/NAME`.
    Service,
    /// A label of the workload.
    Label(Arc<str>),
    /// The names in the peer's certificate.
    Peer,
    Address(Address),
    DestinationPort,
    Connection(ConnectionText),
    /// The lines of a header, or a pseudo-header.
    Header(Arc<[u8]>),
    Metadata(Arc<MetadataPath>),
}

impl Subject {
    /// The subject of a check. That of a request principal is its issuer.
    pub fn of(check: &Check) -> Self {
        match check {
            Check::Identity(_) => Self::Peer,
            Check::Address(which, _) => Self::Address(*which),
            Check::DestinationPort(_) => Self::DestinationPort,
            Check::Text(Text::Connection(which), _) => Self::Connection(*which),
            Check::Text(Text::Header(name), _) => Self::Header(Arc::clone(name)),
            Check::Text(Text::Metadata(path), _) | Check::Metadata(path, _) => Self::Metadata(Arc::clone(path)),
            Check::Host(_) => Self::header(b":authority"),
            Check::Path(_) => Self::header(b":path"),
            Check::RequestPrincipal { issuer, .. } => Self::Metadata(Arc::clone(issuer)),
        }
    }

    pub fn header(name: &[u8]) -> Self {
        Self::Header(name.into())
    }

    /// Whether it is one of these claims of a token.
    fn is_claim(&self, names: &[&[u8]]) -> bool {
        let Self::Metadata(path) = self else { return false };
        *path.filter == *JWT_AUTHN.as_bytes() && matches!(&*path.keys, [_, claim] if names.contains(&&**claim))
    }

    /// Which kind of value it has.
    fn kind(&self) -> Kind {
        match self {
            Self::Namespace => Kind::Required(&NAMESPACES),
            Self::Proxy => Kind::Required(&PROXIES),
            Self::Service => Kind::Optional(&SERVICES),
            Self::Label(_) => Kind::Optional(&LABELS),
            Self::Connection(ConnectionText::Sni) => Kind::Optional(&SERVER_NAMES),
            Self::Header(name) => match &**name {
                b":method" => Kind::Required(&METHODS),
                b":path" => Kind::Path,
                b":authority" => Kind::Required(&HOSTS),
                // Envoy lets no other value through.
                b":scheme" => Kind::Required(&SCHEMES),
                name if name.starts_with(b":") || is_joined(name) => Kind::Optional(&HEADERS),
                _ => Kind::Lines,
            },
            Self::Peer => Kind::Peer,
            Self::Address(_) => Kind::Address,
            Self::DestinationPort => Kind::Port,
            Self::Metadata(_) => Kind::Metadata,
        }
    }
}

/// The kinds of values.
enum Kind {
    /// One text.
    Required(&'static Universe),
    /// One text, or none.
    Optional(&'static Universe),
    /// One text, which has a query. A CONNECT has none.
    Path,
    /// Any number of texts.
    Lines,
    Peer,
    Address,
    Port,
    Metadata,
}

/// A value of a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// The host does not tell. Only for addresses and ports.
    Unreadable,
    Absent,
    /// A text, or a string in metadata.
    Text(Vec<u8>),
    /// The lines of a header, or a list in metadata.
    Texts(Vec<Vec<u8>>),
    /// The names that can be read. With [`PeerName::FurtherUris`], there are others.
    Names(Vec<(PeerName, Vec<u8>)>),
    Address(IpAddr),
    Port(u16),
}

/// What is the same for constraints that ask the same of the same subject.
pub(super) type ConstraintId = (usize, bool, bool);

/// What a test asks of its subject.
#[derive(Clone, Copy, Debug)]
pub(super) struct Constraint<'v> {
    pub values: &'v Values,
    /// Whether a value must match, or none may.
    pub is_match: bool,
    /// Whether it holds if the subject is unreadable.
    pub holds_unread: bool,
}

impl Constraint<'_> {
    /// The constraint that holds exactly where this one does not.
    pub fn not(self) -> Self {
        Self { is_match: !self.is_match, holds_unread: !self.holds_unread, ..self }
    }

    /// Whether a value meets the constraint.
    pub fn is_met_by(self, value: &Value) -> bool {
        let matches = match (self.values, value) {
            (_, Value::Unreadable) => return self.holds_unread,
            (Values::Texts(texts), Value::Text(text)) => texts.contains(text),
            (Values::Texts(texts), Value::Texts(lines)) => lines.iter().any(|line| texts.contains(line)),
            (Values::Texts(texts), Value::Names(names)) => {
                let is_further = |(which, _): &(PeerName, Vec<u8>)| *which == PeerName::FurtherUris;
                let is_match = names.iter().any(|name| !is_further(name) && texts.contains(&name.1));
                if !is_match && names.iter().any(is_further) {
                    return self.holds_unread;
                }
                is_match
            }
            (Values::Paths(paths), Value::Text(path)) => paths.set.contains(without_query(path)),
            (Values::Metadata(strings, _), Value::Text(text)) => strings.contains(text),
            (Values::Metadata(_, elements), Value::Texts(list)) => list.iter().any(|text| elements.contains(text)),
            (Values::Blocks(blocks), Value::Address(address)) => blocks.iter().any(|block| block.contains(*address)),
            (Values::Ports(ports), Value::Port(port)) => ports.contains(port),
            _ => false,
        };
        matches == self.is_match
    }

    pub fn id(self) -> ConstraintId {
        (std::ptr::from_ref(self.values).addr(), self.is_match, self.holds_unread)
    }

    fn texts(&self) -> Option<&Set> {
        match self.values {
            Values::Texts(texts) => Some(texts),
            Values::Paths(..) | Values::Metadata(..) | Values::Blocks(_) | Values::Ports(_) => None,
        }
    }
}

/// The texts that a subject can have.
struct Universe {
    /// What people expect.
    natural: Set,
    /// Everything that can occur.
    full: Set,
    /// Those of `full` that people think of: [`Requests::Expected`].
    expected: OnceLock<Set>,
    /// Besides UTF-8 and no line feed: these.
    among: Option<Texts>,
    /// Those that people send: [`Requests::Usual`]. `None`: what they expect.
    usual: Option<Set>,
}

impl Universe {
    fn new(natural: &Texts, full: &Texts) -> Self {
        Self {
            natural: natural.clone().set(),
            full: full.clone().set(),
            expected: OnceLock::new(),
            among: None,
            usual: None,
        }
    }

    fn usual(&self) -> &Set {
        self.usual.as_ref().unwrap_or(&self.natural)
    }
}

fn bytes(set: &[u8]) -> Bytes {
    Bytes::of(|byte| byte.is_ascii_alphanumeric() || set.contains(&byte))
}

const VISIBLE: Bytes = Bytes::range(0x21, 0x7e).or(Bytes::range(0x80, 0xff));
const LINE: Bytes = VISIBLE.or(Bytes::one(b' ')).or(Bytes::one(b'\t'));

/// Words with something between them.
fn words(word: Bytes, between: &'static [u8]) -> Texts {
    const MOST: usize = 8;
    let mut texts = Texts::default();
    let mut parts = Vec::new();
    for _ in 0..MOST {
        parts.push(Part::Some(word));
        texts = texts.or(Texts::of([parts.clone()]));
        parts.push(Part::Literal(between));
    }
    texts
}

static NAMESPACES: LazyLock<Universe> = LazyLock::new(|| {
    let name = Texts::of([vec![Part::Some(bytes(b"-"))]]);
    Universe::new(&name, &name)
});

/// What a workload is, as [`Subject::Proxy`] has it.
pub(super) const SIDECAR: &[u8] = b"sidecar";
pub(super) const GATEWAY: &[u8] = b"gateway/";
pub(super) const WAYPOINT: &[u8] = b"waypoint/";

static PROXIES: LazyLock<Universe> = LazyLock::new(|| {
    let name = Part::Some(bytes(b"-."));
    let gateways = [vec![Part::Literal(GATEWAY), name], vec![Part::Literal(WAYPOINT), name]];
    let sidecar = Texts::of([vec![Part::Literal(SIDECAR)]]);
    let all = sidecar.clone().or(Texts::of(gateways));
    Universe { usual: Some(all.clone().set()), ..Universe::new(&sidecar, &all) }
});

static SERVICES: LazyLock<Universe> = LazyLock::new(|| {
    let (name, slash) = (Part::Some(bytes(b"-.")), Part::Literal(b"/"));
    let of_kind = |kind| vec![Part::Literal(kind), slash, name, slash, name];
    let services = Texts::of([of_kind(b"Service"), of_kind(b"ServiceEntry")]);
    Universe::new(&services, &services)
});

static LABELS: LazyLock<Universe> = LazyLock::new(|| {
    let label = Texts::of([vec![Part::Any(bytes(b"-_."))]]);
    Universe::new(&label, &label)
});

static METHODS: LazyLock<Universe> = LazyLock::new(|| {
    let nice: [&[u8]; 10] =
        [b"GET", b"POST", b"PUT", b"DELETE", b"PATCH", b"HEAD", b"OPTIONS", b"TRACE", b"PROPFIND", b"REPORT"];
    let all = Texts::of([vec![Part::Some(bytes(b"!#$%&'*+-.^_`|~"))]]);
    // Those of WebDAV and of other protocols. Envoy takes no others in HTTP/1.
    let more = "ACL BIND CHECKOUT COPY LINK LOCK M-SEARCH MERGE MKACTIVITY MKCALENDAR MKCOL MOVE NOTIFY PROPPATCH PURGE \
                REBIND SEARCH SOURCE SUBSCRIBE UNBIND UNLINK UNLOCK UNSUBSCRIBE";
    let methods = |methods: &[&[u8]]| Texts::of(methods.iter().map(|method| vec![Part::Literal(method)]));
    let nice = methods(&nice);
    let usual = nice.clone().or(methods(&more.split(' ').map(str::as_bytes).collect::<Vec<_>>()));
    Universe { usual: Some(usual.set()), ..Universe::new(&nice, &all) }
});

static SCHEMES: LazyLock<Universe> = LazyLock::new(|| {
    let schemes = Texts::of([vec![Part::Literal(b"http")], vec![Part::Literal(b"https")]]);
    Universe::new(&schemes, &schemes)
});

static HOSTS: LazyLock<Universe> = LazyLock::new(|| {
    let names = words(bytes(b"-_"), b".");
    let port = [Part::Literal(b":"), Part::Some(Bytes::range(b'0', b'9'))];
    let natural = names.clone().or(names.then(&port));
    let inner = Bytes::of(|byte| b" \t@,".contains(&byte)).not();
    let name = [Part::Any(inner), Part::Some(inner.and(Bytes::of(|byte| b":.".contains(&byte)).not()))];
    let without_dot = Texts::of([Vec::new(), name.to_vec(), [&name[..], &port].concat()]);
    Universe { among: Some(without_dot), ..Universe::new(&natural, &Texts::of([vec![Part::Any(LINE)]])) }
});

/// In lower case, as Envoy keeps them. A handshake can have any other byte in the name, except NUL.
static SERVER_NAMES: LazyLock<Universe> = LazyLock::new(|| {
    let no_upper = Bytes::of(|byte| byte.is_ascii_uppercase()).not();
    let all = Texts::of([vec![Part::Some(no_upper.and(Bytes::one(0).not()))]]);
    Universe::new(&words(bytes(b"-_").and(no_upper), b"."), &all)
});

static HEADERS: LazyLock<Universe> = LazyLock::new(|| {
    let (inner, outer) = (Part::Any(Bytes::range(b' ', b'~')), Part::Some(Bytes::range(b'!', b'~')));
    let natural = Texts::of([vec![], vec![outer], vec![outer, inner, outer]]);
    let (inner, outer) = (Part::Any(LINE), Part::Some(VISIBLE));
    let without_blanks = Texts::of([vec![], vec![outer], vec![outer, inner, outer]]);
    Universe { among: Some(without_blanks), ..Universe::new(&natural, &Texts::of([vec![Part::Any(LINE)]])) }
});

/// Paths without a query, and with one.
static PATHS: LazyLock<[Universe; 2]> = LazyLock::new(|| {
    let in_path = Bytes::one(b'?').or(Bytes::one(b'#')).not();
    let paths = |bytes| Texts::of([vec![Part::Literal(b"/"), Part::Any(bytes)]]);
    let (natural, full) = (paths(bytes(b"-._~%!$&'()*+,;:@=/")), paths(VISIBLE.and(in_path)));
    let with_query = |paths: &Texts| paths.clone().or(paths.clone().then(&[Part::Literal(b"?"), Part::Any(VISIBLE)]));
    [Universe::new(&natural, &full), Universe::new(&with_query(&natural), &with_query(&full))]
});

/// The bytes in paths that Envoy escapes, or that not every client can send.
const ESCAPED: &[u8] = b"\"<>\\^`{|}";

/// Paths that Envoy changes, or some of them ([`is_normalized`]).
static CHANGED_PATHS: LazyLock<Set> = LazyLock::new(|| {
    let any = Part::Any(Bytes::one(b'?').not());
    let parts: [&[u8]; 7] = [b"//", b"/./", b"/../", b"\\", b"%", b"/.;", b"/..;"];
    let within = parts.map(|part| vec![any, Part::Literal(part), Part::Any(Bytes::ALL)]);
    let escaped = Bytes::of(|byte| ESCAPED.contains(&byte) || !byte.is_ascii());
    let escaped = vec![any, Part::Some(escaped), Part::Any(Bytes::ALL)];
    let (end, query) = (Part::Literal(b"/."), [Part::Literal(b"?"), Part::Any(Bytes::ALL)]);
    let dots = [vec![any, end], vec![any, end, Part::Literal(b".")]];
    let with_query = dots.clone().map(|path| [&path[..], &query].concat());
    Texts::of(within.into_iter().chain([escaped]).chain(dots).chain(with_query)).set()
});

static URIS: LazyLock<Universe> = LazyLock::new(|| {
    let (word, literal) = (Part::Some(bytes(b"-._*")), |text| Part::Literal(text));
    let id = vec![literal(b"spiffe://"), word, literal(b"/ns/"), word, literal(b"/sa/"), word];
    let no_nul = Bytes::one(0).not();
    Universe::new(&Texts::of([id]), &Texts::of([vec![Part::Any(no_nul)]]))
});

/// A subject begins with the type of its first attribute.
static CERTIFICATE_SUBJECTS: LazyLock<Universe> = LazyLock::new(|| {
    let no_nul = Part::Any(Bytes::one(0).not());
    let begin = [Part::Some(bytes(b".")), Part::Literal(b"=")];
    let natural = Texts::of([[&begin[..], &[Part::Some(bytes(b" -./"))]].concat()]);
    Universe::new(&natural, &Texts::of([Vec::new(), [&begin[..], &[no_nul]].concat()]))
});

static STRINGS: LazyLock<Universe> = LazyLock::new(|| {
    let (inner, outer) = (Part::Any(Bytes::range(b' ', b'~')), Part::Some(Bytes::range(b'!', b'~')));
    Universe::new(&Texts::of([vec![outer], vec![outer, inner, outer]]), &Texts::utf8(false))
});

/// A token has one issuer and one subject.
const ONCE_IN_A_TOKEN: [&[u8]; 2] = [b"iss", b"sub"];

/// The beginnings of an issuer of which the rest would be in the subject.
static CUT_ISSUERS: LazyLock<Set> = LazyLock::new(|| {
    let cut: [&[u8]; 6] = [b"http:", b"http:/", b"http://", b"https:", b"https:/", b"https://"];
    Texts::of(cut.map(|text| vec![Part::Literal(text)])).set()
});

/// A value that meets all constraints. `None`: there is none.
pub(super) fn choose(
    subject: &Subject,
    constraints: &[Constraint<'_>],
    finder: &mut Finder<'_>,
) -> Result<Option<Value>, Undecided> {
    let asks = constraints.iter().any(|constraint| constraint.is_match);
    let is_any = finder.requests == Requests::All;
    // All of the tests can also hold about a value that nobody can read.
    let unread = || (is_any && constraints.iter().all(|one| one.holds_unread)).then_some(Value::Unreadable);
    let texts = |is_match| constraints.iter().filter(move |c| c.is_match == is_match).filter_map(Constraint::texts);
    let (all, none): (Vec<_>, Vec<_>) = (texts(true).collect(), texts(false).collect());
    match subject.kind() {
        Kind::Optional(_) | Kind::Lines | Kind::Metadata | Kind::Peer if !asks => Ok(Some(Value::Absent)),
        Kind::Required(universe) | Kind::Optional(universe) => Ok(universe.find(&all, &none, finder)?.map(Value::Text)),
        Kind::Path => Ok(path(constraints, finder)?.or((is_any && !asks).then_some(Value::Absent))),
        Kind::Lines => lines(&HEADERS, &all, &none, finder),
        Kind::Metadata => metadata(subject, constraints, finder),
        Kind::Peer if !is_any => {
            Ok(URIS.find(&all, &none, finder)?.map(|name| Value::Names(vec![(PeerName::Uri, name)])))
        }
        Kind::Peer => Ok(match peer(&all, &none, finder)? {
            Some(names) => Some(Value::Names(names)),
            None => peer_with_further_names(constraints, finder)?.map(Value::Names),
        }),
        Kind::Address => Ok(address(constraints, finder.budget)?.map(Value::Address).or_else(unread)),
        Kind::Port => Ok(port(constraints, finder.budget)?.map(Value::Port).or_else(unread)),
    }
}

impl Universe {
    /// All texts that count.
    fn whole(&self, requests: Requests) -> &Set {
        match requests {
            Requests::All => &self.full,
            Requests::Usual => self.usual(),
            Requests::Expected => self.expected.get_or_init(|| {
                let lines = self.full.texts().and(&Texts::utf8(true));
                self.among.iter().fold(lines, |lines, among| lines.and(among)).set()
            }),
        }
    }

    /// A text that is in all of these sets and in none of those; if there is one, a natural one.
    fn find(&self, all: &[&Set], none: &[&Set], finder: &mut Finder<'_>) -> Result<Option<Vec<u8>>, Undecided> {
        let within = |texts| [all, &[texts]].concat();
        let Some(found) = finder.find(&within(self.whole(finder.requests)), none)? else { return Ok(None) };
        if self.natural.contains(&found) {
            return Ok(Some(found));
        }
        // It is no loss if a nicer one is not found, because to look for it would take long.
        let natural = Finder::new(&mut Budget::of(300_000), finder.requests).find(&within(&self.natural), none);
        Ok(Some(natural.ok().flatten().unwrap_or(found)))
    }
}

/// A path. If a test is about the query too, with a query.
fn path(constraints: &[Constraint<'_>], finder: &mut Finder<'_>) -> Result<Option<Value>, Undecided> {
    let has_query = constraints.iter().any(|constraint| matches!(constraint.values, Values::Texts(_)));
    let sets = |is_match| {
        let of_kind = constraints.iter().filter(move |constraint| constraint.is_match == is_match);
        of_kind.filter_map(|constraint| match constraint.values {
            Values::Paths(paths) if has_query => Some(paths.with_query()),
            Values::Paths(paths) => Some(&paths.set),
            Values::Texts(set) => Some(set),
            Values::Metadata(..) | Values::Blocks(_) | Values::Ports(_) => None,
        })
    };
    let (all, none): (Vec<_>, Vec<_>) = (sets(true).collect(), sets(false).collect());
    let [without, with] = &*PATHS;
    let universe = if has_query { with } else { without };
    let unchanged = [&none[..], &[&*CHANGED_PATHS]].concat();
    if finder.requests == Requests::Usual {
        return Ok(universe.find(&all, &unchanged, finder)?.map(Value::Text));
    }
    let Some(found) = universe.find(&all, &none, finder)? else { return Ok(None) };
    if !CHANGED_PATHS.contains(&found) {
        return Ok(Some(Value::Text(found)));
    }
    let normalized = universe.find(&all, &unchanged, finder)?;
    Ok(Some(Value::Text(normalized.unwrap_or(found))))
}

/// Texts: for each set of `all`, one that is in it, and that is in none of the others.
fn lines(
    universe: &Universe,
    all: &[&Set],
    none: &[&Set],
    finder: &mut Finder<'_>,
) -> Result<Option<Value>, Undecided> {
    if let Some(one) = universe.find(all, none, finder)? {
        return Ok(Some(Value::Texts(vec![one])));
    }
    let mut found: Vec<Vec<u8>> = Vec::new();
    for set in all {
        if found.iter().any(|text| set.contains(text)) {
            continue;
        }
        let Some(text) = universe.find(&[set], none, finder)? else { return Ok(None) };
        found.push(text);
    }
    Ok(Some(Value::Texts(found)))
}

fn metadata(
    subject: &Subject,
    constraints: &[Constraint<'_>],
    finder: &mut Finder<'_>,
) -> Result<Option<Value>, Undecided> {
    let sets = |is_match: bool, is_list: bool| {
        let of_kind = constraints.iter().filter(move |constraint| constraint.is_match == is_match);
        of_kind.filter_map(move |constraint| match constraint.values {
            Values::Metadata(strings, elements) => Some(&**if is_list { elements } else { strings }),
            Values::Texts(_) | Values::Paths(..) | Values::Blocks(_) | Values::Ports(_) => None,
        })
    };
    let (all, mut none): (Vec<_>, Vec<_>) = (sets(true, false).collect(), sets(false, false).collect());
    let is_usual = finder.requests == Requests::Usual;
    if is_usual && subject.is_claim(&[b"iss"]) {
        none.push(&CUT_ISSUERS);
    }
    if let Some(text) = STRINGS.find(&all, &none, finder)? {
        return Ok(Some(Value::Text(text)));
    }
    if is_usual && subject.is_claim(&ONCE_IN_A_TOKEN) {
        return Ok(None);
    }
    let (all, none): (Vec<_>, Vec<_>) = (sets(true, true).collect(), sets(false, true).collect());
    lines(&STRINGS, &all, &none, finder)
}

/// The names of a certificate: for each set of `all`, one that is in it, and that is in none of the others. A certificate has
/// one name of each kind.
fn peer(all: &[&Set], none: &[&Set], finder: &mut Finder<'_>) -> Result<Option<Names>, Undecided> {
    if let Some(name) = name_in(&URIS, &[], all, none, finder)? {
        return Ok(Some(vec![(PeerName::Uri, name)]));
    }
    // Nearly always, a set without any name of its own is why there are none.
    for set in all {
        let mut has_one = false;
        for universe in [&URIS, &CERTIFICATE_SUBJECTS] {
            has_one = has_one || finder.find(&[set, universe.whole(finder.requests)], none)?.is_some();
        }
        if !has_one {
            return Ok(None);
        }
    }
    let groups = [PeerName::Uri, PeerName::Dns, PeerName::Subject].map(|which| Group {
        which,
        sets: Vec::new(),
        name: Vec::new(),
    });
    shared_names(&groups, all, none, finder)
}

type Names = Vec<(PeerName, Vec<u8>)>;

/// The names of a certificate of which some cannot be read. If no other name matches a test, the test is unreadable.
fn peer_with_further_names(
    constraints: &[Constraint<'_>],
    finder: &mut Finder<'_>,
) -> Result<Option<Names>, Undecided> {
    if constraints.iter().any(|constraint| !constraint.is_match && !constraint.holds_unread) {
        return Ok(None);
    }
    let sets = |holds_unread: bool| {
        let wanted = constraints.iter().filter(move |c| c.holds_unread == holds_unread && c.is_match != holds_unread);
        wanted.filter_map(Constraint::texts)
    };
    let (all, none): (Vec<_>, Vec<_>) = (sets(false).collect(), sets(true).collect());
    let names = peer(&all, &none, finder)?;
    Ok(names.map(|names| [names, vec![(PeerName::FurtherUris, Vec::new())]].concat()))
}

/// A name that is in all of these sets and in none of those. `begin`: a name that is in some of them, and that it may begin
/// with.
fn name_in(
    universe: &Universe,
    begin: &[u8],
    all: &[&Set],
    none: &[&Set],
    finder: &mut Finder<'_>,
) -> Result<Option<Vec<u8>>, Undecided> {
    // So many sets have no name in common that people expect.
    const MANY: usize = 4;
    if all.len() < MANY || all.iter().any(|set| set.is_listed()) {
        return universe.find(all, none, finder);
    }
    // Put together from a name for each of the sets.
    let mut name = begin.to_vec();
    for set in all {
        if !set.contains(&name) {
            let Some(own) = finder.find(&[set, universe.whole(finder.requests)], none)? else { return Ok(None) };
            name.extend(own);
        }
    }
    let mut wanted = all.iter().copied().chain([universe.whole(finder.requests)]);
    if wanted.all(|set| set.contains(&name)) && !none.iter().any(|set| set.contains(&name)) {
        return Ok(Some(name));
    }
    // Nearly always, two of the sets have no name in common.
    for (number, one) in all.iter().enumerate() {
        for other in all.iter().skip(number) {
            if finder.find(&[one, other, universe.whole(finder.requests)], none)?.is_none() {
                return Ok(None);
            }
        }
    }
    finder.find(&[all, &[universe.whole(finder.requests)]].concat(), none)
}

/// Sets that have a name of a certificate in common.
#[derive(Clone)]
struct Group<'s> {
    which: PeerName,
    sets: Vec<&'s Set>,
    name: Vec<u8>,
}

impl<'s> Group<'s> {
    /// The group with one more set. `None`: there is no such name.
    fn with(&self, set: &'s Set, none: &[&Set], finder: &mut Finder<'_>) -> Result<Option<Self>, Undecided> {
        let sets = [&self.sets[..], &[set]].concat();
        let universe = universe_of(self.which);
        let name = if self.sets.is_empty() {
            universe.find(&sets, none, finder)?
        } else if set.contains(&self.name) {
            Some(self.name.clone())
        } else {
            name_in(universe, &self.name, &sets, none, finder)?
        };
        Ok(name.map(|name| Self { which: self.which, sets, name }))
    }
}

/// Puts each of the sets into one of the groups.
fn shared_names(
    groups: &[Group<'_>; 3],
    all: &[&Set],
    none: &[&Set],
    finder: &mut Finder<'_>,
) -> Result<Option<Names>, Undecided> {
    let [first, rest @ ..] = all else {
        let used = groups.iter().filter(|group| !group.sets.is_empty());
        return Ok(Some(used.map(|group| (group.which, group.name.clone())).collect()));
    };
    for (number, group) in groups.iter().enumerate() {
        if let Some(group) = group.with(first, none, finder)? {
            let mut groups = groups.clone();
            groups[number] = group;
            if let Some(found) = shared_names(&groups, rest, none, finder)? {
                return Ok(Some(found));
            }
        }
    }
    Ok(None)
}

fn universe_of(name: PeerName) -> &'static Universe {
    match name {
        PeerName::Uri | PeerName::FurtherUris | PeerName::Dns => &URIS,
        PeerName::Subject => &CERTIFICATE_SUBJECTS,
    }
}

/// Addresses, from the first to the last.
type Range = [IpAddr; 2];

const ALL_ADDRESSES: [Range; 2] = [
    [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::BROADCAST)],
    [IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::from_bits(u128::MAX))],
];

/// An address that is in all blocks that it must be in, and in none of the others.
fn address(constraints: &[Constraint<'_>], budget: &mut Budget) -> Result<Option<IpAddr>, Undecided> {
    const USUAL: [IpAddr; 2] =
        [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];
    let mut possible = ALL_ADDRESSES.to_vec();
    let mut seconds = Vec::new();
    for constraint in constraints {
        let Values::Blocks(blocks) = constraint.values else { continue };
        budget.spend(blocks.len() + possible.len())?;
        let ranges = ranges(blocks);
        possible = if constraint.is_match {
            seconds.extend(blocks.iter().filter_map(|block| next(first_of(block))));
            common(&possible, &ranges)
        } else {
            common(&possible, &gaps(&ranges))
        };
    }
    let is_possible = |address: &IpAddr| {
        let behind = possible.partition_point(|[first, _]| first <= address);
        behind > 0 && *address <= possible[behind - 1][1]
    };
    let usual = seconds.into_iter().chain(USUAL).find(is_possible);
    Ok(usual.or_else(|| possible.first().map(|[first, _]| *first)))
}

/// The addresses of some blocks: sorted, and each once.
fn ranges(blocks: &[Cidr]) -> Vec<Range> {
    let mut all: Vec<_> = blocks.iter().map(|block| [first_of(block), last_of(block)]).collect();
    all.sort_unstable_by_key(|[first, last]| (*first, Reverse(*last)));
    // Of two blocks that have an address in common, one contains the other.
    let mut end = None;
    all.retain(|[first, last]| {
        let is_new = end.is_none_or(|end| end < *first);
        if is_new {
            end = Some(*last);
        }
        is_new
    });
    all
}

/// The addresses that are in one of these ranges, and in one of those.
fn common(ones: &[Range], others: &[Range]) -> Vec<Range> {
    let (mut ones, mut others) = (ones.iter().peekable(), others.iter().peekable());
    let mut common = Vec::new();
    while let (Some([first, last]), Some([other_first, other_last])) = (ones.peek(), others.peek()) {
        let range = [*first.max(other_first), *last.min(other_last)];
        if range[0] <= range[1] {
            common.push(range);
        }
        if last < other_last {
            ones.next()
        } else {
            others.next()
        };
    }
    common
}

/// The addresses that are in none of the ranges.
fn gaps(ranges: &[Range]) -> Vec<Range> {
    let mut gaps = Vec::new();
    for [least, greatest] in ALL_ADDRESSES {
        let mut from = Some(least);
        for [first, last] in ranges.iter().filter(|[first, _]| first.is_ipv4() == least.is_ipv4()) {
            gaps.extend(from.zip(previous(*first)).filter(|(from, to)| from <= to).map(|(from, to)| [from, to]));
            from = next(*last);
        }
        gaps.extend(from.map(|from| [from, greatest]));
    }
    gaps
}

fn bits(block: &Cidr) -> (u128, u128) {
    let (address, length) = match block.address {
        IpAddr::V4(address) => (u128::from(u32::from(address)), 32),
        IpAddr::V6(address) => (u128::from(address), 128),
    };
    let host = u128::MAX.checked_shr(128 - length + u32::from(block.prefix)).unwrap_or(0);
    (address, host)
}

fn with_bits(block: &Cidr, bits: u128) -> IpAddr {
    match block.address {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from(u32::try_from(bits).unwrap_or(u32::MAX))),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from(bits)),
    }
}

fn first_of(block: &Cidr) -> IpAddr {
    let (address, host) = bits(block);
    with_bits(block, address & !host)
}

fn last_of(block: &Cidr) -> IpAddr {
    let (address, host) = bits(block);
    with_bits(block, address | host)
}

fn next(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) => Some(IpAddr::V4(u32::from(address).checked_add(1)?.into())),
        IpAddr::V6(address) => Some(IpAddr::V6(u128::from(address).checked_add(1)?.into())),
    }
}

fn previous(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) => Some(IpAddr::V4(u32::from(address).checked_sub(1)?.into())),
        IpAddr::V6(address) => Some(IpAddr::V6(u128::from(address).checked_sub(1)?.into())),
    }
}

fn port(constraints: &[Constraint<'_>], budget: &mut Budget) -> Result<Option<u16>, Undecided> {
    let mut lists = Vec::new();
    for constraint in constraints {
        let Values::Ports(ports) = constraint.values else { continue };
        budget.spend(ports.len() + 1)?;
        lists.push((ports.iter().copied().collect::<FnvHashSet<_>>(), constraint.is_match));
    }
    let is_possible = |port: &u16| lists.iter().all(|(ports, is_match)| ports.contains(port) == *is_match);
    if let Some(usual) = [8080, 80].into_iter().find(is_possible) {
        return Ok(Some(usual));
    }
    let wanted = lists.iter().filter(|(_, is_match)| *is_match).map(|(ports, _)| ports).min_by_key(|ports| ports.len());
    Ok(match wanted {
        Some(ports) => ports.iter().copied().filter(is_possible).min(),
        None => (1..=u16::MAX).chain([0]).find(is_possible),
    })
}

/// Whether people expect such a value. What is decided about others can be right or wrong, but hardly anybody meets them.
pub(super) fn is_expected(subject: &Subject, value: &Value) -> bool {
    let universe = match (subject.kind(), value) {
        (Kind::Path, Value::Text(path)) => {
            let path = without_query(path);
            return is_normalized(path) && PATHS[0].natural.contains(path);
        }
        (Kind::Path, _) | (_, Value::Unreadable) => return false,
        (Kind::Required(universe) | Kind::Optional(universe), _) => universe,
        (Kind::Lines, _) => &*HEADERS,
        (Kind::Metadata, _) => &*STRINGS,
        (Kind::Peer, Value::Names(names)) => {
            return names.iter().all(|(which, name)| *which == PeerName::Uri && URIS.natural.contains(name));
        }
        (Kind::Peer | Kind::Address | Kind::Port, _) => return true,
    };
    match value {
        Value::Texts(_) if subject.is_claim(&ONCE_IN_A_TOKEN) => false,
        Value::Text(text) if subject.is_claim(&[b"iss"]) && CUT_ISSUERS.contains(text) => false,
        Value::Text(text) => universe.usual().contains(text),
        Value::Texts(texts) => texts.iter().all(|text| universe.usual().contains(text)),
        Value::Unreadable | Value::Absent | Value::Names(_) | Value::Address(_) | Value::Port(_) => true,
    }
}
