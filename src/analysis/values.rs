//! What the values of a test match, as sets.

use std::sync::{Arc, LazyLock, OnceLock};

use super::text::{Bytes, Part, Set, Texts};
use crate::engine::compile::{Check, MetadataMatcher, PathMatcher, Text};
use crate::identity::{IdentityMatcher, SCHEME};
use crate::matcher::template::{Tail, Template, is_wildcard_byte};
use crate::matcher::{Pattern, Polarity, Wildcard};
use crate::policy::Cidr;

const ANYTHING: Part<'_> = Part::Any(Bytes::ALL);
const SLASH: Bytes = Bytes::one(b'/');
const NO_SLASH: Bytes = SLASH.not();
const BLANKS: Bytes = Bytes::one(b' ').or(Bytes::one(b'\t'));
const AT: Bytes = Bytes::one(b'@');
const QUERY: Bytes = Bytes::one(b'?').or(Bytes::one(b'#'));

/// The values of one subject that match.
#[derive(Debug)]
pub(super) enum Values {
    /// These texts: a name of the peer, a header, a text of the connection, something about the workload.
    Texts(Box<Set>),
    Paths(Box<Paths>),
    /// A value in metadata: a string of the first set, or a list that has an element of the second set.
    Metadata(Arc<Set>, Arc<Set>),
    Blocks(Box<[Cidr]>),
    Ports(Box<[u16]>),
}

/// Paths without a query.
#[derive(Debug)]
pub(super) struct Paths {
    pub set: Set,
    with_query: OnceLock<Set>,
}

impl Paths {
    fn new(texts: Texts) -> Self {
        Self { set: texts.set(), with_query: OnceLock::new() }
    }

    /// The values of `:path` whose part before the query is one of these paths.
    pub fn with_query(&self) -> &Set {
        self.with_query.get_or_init(|| with_query(self.set.texts()).set())
    }
}

impl Values {
    /// What a check matches. A request principal is about two subjects: see [`pattern`].
    pub fn of(check: &Check, polarity: Polarity) -> Self {
        match check {
            Check::Identity(matchers) => Self::Texts(Box::new(union(matchers.iter().map(identity)).set())),
            Check::Address(_, blocks) => Self::Blocks(blocks.clone()),
            Check::DestinationPort(ports) => Self::Ports(ports.clone()),
            Check::Text(Text::Metadata(_), patterns) => {
                let set = Arc::new(union(patterns.iter().map(|value| pattern(value, Case::Kept))).set());
                Self::Metadata(Arc::clone(&set), set)
            }
            Check::Text(text, patterns) => {
                let texts = union(patterns.iter().map(|value| pattern(value, Case::Kept)));
                let texts = match text {
                    Text::Header(name) => forms(name, texts, polarity),
                    Text::Connection(_) | Text::Metadata(_) => texts,
                };
                Self::Texts(Box::new(texts.set()))
            }
            Check::Host(patterns) => {
                let texts = union(patterns.iter().map(|value| pattern(value, Case::Ignored)));
                Self::Texts(Box::new(forms(b":authority", texts, polarity).set()))
            }
            Check::Path(matchers) => {
                let paths = matchers.iter().map(|matcher| match matcher {
                    PathMatcher::Text(value) => pattern(value, Case::Kept),
                    PathMatcher::Template(value) => template(value),
                });
                Self::Paths(Box::new(Paths::new(union(paths))))
            }
            Check::Metadata(_, matchers) => {
                let of = |is_wanted: fn(&MetadataMatcher) -> bool| {
                    let wanted = matchers.iter().filter(|matcher| is_wanted(matcher));
                    Arc::new(union(wanted.map(|matcher| pattern(matcher.pattern(), Case::Kept))).set())
                };
                Self::Metadata(
                    of(|matcher| matches!(matcher, MetadataMatcher::Text(_))),
                    of(|matcher| matches!(matcher, MetadataMatcher::Element(_))),
                )
            }
            Check::RequestPrincipal { matchers, .. } => {
                Self::strings(union(matchers.iter().map(|matcher| pattern(&matcher.issuer, Case::Kept))))
            }
        }
    }

    /// A string in metadata, and no list.
    pub fn strings(texts: Texts) -> Self {
        Self::Metadata(Arc::new(texts.set()), Arc::new(Texts::default().set()))
    }
}

fn union(sets: impl Iterator<Item = Texts>) -> Texts {
    // An automaton for so many texts is made at once. More are put together step by step, so that none of the steps is large.
    const FEW: usize = 8;
    let mut sets: Vec<_> = sets.collect();
    let mut at_once = FEW;
    let mut is_too_large = false;
    while sets.len() > at_once && !is_too_large {
        let mut rest = sets.into_iter().peekable();
        sets = Vec::new();
        while rest.peek().is_some() {
            let Some(some) = rest.by_ref().take(at_once).reduce(Texts::or) else { break };
            if some.is_listed() || is_too_large {
                sets.push(some);
                continue;
            }
            sets.push(some.tried_deterministic().unwrap_or_else(|unchanged| {
                is_too_large = true;
                unchanged
            }));
        }
        at_once = 2;
    }
    sets.into_iter().reduce(Texts::or).unwrap_or_else(|| Texts::of([]))
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Case {
    Kept,
    Ignored,
}

static LINES_OF_TEXT: LazyLock<Texts> = LazyLock::new(|| Texts::utf8(true));

/// What a pattern matches.
pub(super) fn pattern(pattern: &Pattern, case: Case) -> Texts {
    let literal = |text| if case == Case::Kept { Part::Literal(text) } else { Part::AnyCase(text) };
    match pattern {
        Pattern::Present => Texts::of([vec![ANYTHING]]),
        Pattern::NonEmpty(wildcard) => accepted(*wildcard, Texts::of([vec![Part::Some(Bytes::ALL)]])),
        Pattern::Exact(text) => Texts::of([vec![literal(text)]]),
        Pattern::Prefix(text) => Texts::of([vec![literal(text), ANYTHING]]),
        Pattern::Suffix(text) => Texts::of([vec![ANYTHING, literal(text)]]),
    }
}

fn accepted(wildcard: Wildcard, texts: Texts) -> Texts {
    match wildcard {
        Wildcard::Bytes => texts,
        Wildcard::Text => texts.and(&LINES_OF_TEXT),
    }
}

fn template(template: &Template) -> Texts {
    let (segment, run) = match template.polarity() {
        Polarity::Denies => (NO_SLASH, Bytes::ALL),
        Polarity::Permits => {
            let wildcard = Bytes::of(is_wildcard_byte);
            (wildcard, wildcard.or(SLASH))
        }
    };
    let (segments, tail) = template.parts();
    let mut parts: Vec<_> = segments.iter().flat_map(|literal| [Part::Literal(literal), Part::Some(segment)]).collect();
    match tail {
        Tail::Literal(literal) => parts.push(Part::Literal(literal)),
        Tail::Any(before, behind) => parts.extend([Part::Literal(before), Part::Any(run), Part::Literal(behind)]),
    }
    Texts::of([parts])
}

fn identity(matcher: &IdentityMatcher) -> Texts {
    let scheme = Part::Literal(SCHEME.as_bytes());
    match matcher {
        IdentityMatcher::Any(wildcard) => accepted(*wildcard, Texts::of([vec![Part::Some(Bytes::ALL)]])),
        IdentityMatcher::Exact(text) => Texts::of([vec![Part::Literal(text)]]),
        IdentityMatcher::Prefix(text) => Texts::of([vec![Part::Literal(text), ANYTHING]]),
        IdentityMatcher::Suffix(text, wildcard) => {
            accepted(*wildcard, Texts::of([vec![scheme, ANYTHING, Part::Literal(text)]]))
        }
        IdentityMatcher::Namespace(pieces, wildcard) => {
            let mut parts = vec![ANYTHING];
            parts.extend(pieces.iter().flat_map(|piece| [Part::Literal(piece), ANYTHING]));
            accepted(*wildcard, Texts::of([parts]))
        }
        IdentityMatcher::ServiceAccount { namespace, account, wildcard } => {
            let some = Part::Some(Bytes::ALL);
            let (slash, namespace, account) = (Part::Literal(b"/"), Part::Literal(namespace), Part::Literal(account));
            let begins = vec![scheme, some, namespace];
            let ends = [vec![account], vec![account, slash, some]];
            let between = [vec![], vec![some, slash]];
            let all = ends.iter().flat_map(|end| between.iter().map(|between| [&**between, end].concat()));
            accepted(*wildcard, Texts::of(all.map(|end| [begins.clone(), end].concat())))
        }
        IdentityMatcher::TrustDomain { before, after, wildcard } => {
            let parts = vec![Part::Literal(before), Part::Any(NO_SLASH), Part::Literal(after), ANYTHING];
            accepted(*wildcard, Texts::of([parts]))
        }
    }
}

/// The values of a header of which a form is one of the texts ([`crate::request::forms`]). Values that are so long that
/// nobody takes them apart are not considered.
fn forms(name: &[u8], texts: Texts, polarity: Polarity) -> Texts {
    let is_host = name == b":authority";
    if polarity == Polarity::Permits || (name.starts_with(b":") && !is_host) {
        return texts;
    }
    let texts = texts.deterministic();
    let trimmed = if is_host { hosts(&texts) } else { texts.clone() };
    let trimmed = trimmed.and(&WITHOUT_BLANKS_AROUND).deterministic();
    texts.or(trimmed.then(&[Part::Any(BLANKS)]).after(&[Part::Any(BLANKS)]))
}

static WITHOUT_BLANKS_AROUND: LazyLock<Texts> = LazyLock::new(|| {
    let one = Part::Some(BLANKS.not());
    Texts::of([vec![], vec![one], vec![one, ANYTHING, one]]).deterministic()
});

static NO_AT: LazyLock<Texts> = LazyLock::new(|| Texts::of([vec![Part::Any(AT.not())]]).deterministic());

/// Hosts without a port that do not end with a dot.
static NO_PORT_AND_NO_DOT: LazyLock<Texts> = LazyLock::new(|| {
    let in_name = Bytes::one(b':').or(Bytes::one(b']')).not();
    let (bracket, name) = (Part::Literal(b"]"), Part::Any(in_name));
    let last = Part::Some(in_name.and(Bytes::one(b'.').not()));
    Texts::of([vec![], vec![name, last], vec![ANYTHING, bracket], vec![ANYTHING, bracket, name, last]]).deterministic()
});

/// The hosts without white space around them of which a form is one of the texts.
fn hosts(texts: &Texts) -> Texts {
    let dots = texts.and(&NO_PORT_AND_NO_DOT).then(&[Part::Some(Bytes::one(b'.'))]);
    let hosts = texts.clone().or(dots).or(texts.with_dots_before_a_port()).deterministic();
    let behind_userinfo = hosts.and(&NO_AT).after(&[ANYTHING, Part::Literal(b"@")]).deterministic();
    let several = Texts::of([vec![ANYTHING, Part::Literal(b","), ANYTHING]]);
    hosts.or(behind_userinfo).or(several).deterministic()
}

fn with_query(paths: &Texts) -> Texts {
    let path = paths.and(&Texts::of([vec![Part::Any(QUERY.not())]]));
    let query = path.clone().then(&[Part::Some(QUERY), ANYTHING]);
    path.or(query)
}
