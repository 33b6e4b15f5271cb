//! An independent judge: a library that decides about regular languages. What a value matches is written down for it as a
//! regular expression, mostly as Istio renders it, over characters that stand for bytes.

use std::fmt::Write;
use std::sync::Arc;

use regexsolver::Term;

use super::super::budget::{Budget, Requests};
use super::super::text::{Finder, Set};
use super::super::values::Values;
use super::cases;
use crate::engine::compile::{Check, MetadataPath, PathMatcher, Text};
use crate::identity::IdentityMatcher;
use crate::matcher::template::Template;
use crate::matcher::{Pattern, Polarity, Wildcard};
use crate::policy::Form;

const ANY: &str = r"[\x00-\xff]";
const NO_SLASH: &str = r"[\x00-\x2e\x30-\xff]";
/// The characters that RFC 3986 allows in a path, without the slash.
const IN_SEGMENT: &str = r"[a-zA-Z0-9\-._~%!$&'()*+,;:@=]";
/// UTF-8 without a line feed: the syntax of RFC 3629.
const TEXT: &str = r"([\x00-\x09\x0b-\x7f]|[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}|\xed[\x80-\x9f][\x80-\xbf]|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2})*";

/// A regular expression for these bytes, and no others.
fn literal(bytes: &str) -> String {
    bytes.bytes().fold(String::new(), |mut text, byte| {
        write!(text, r"\x{byte:02x}").unwrap();
        text
    })
}

/// What the expression matches, of text only if a match permits.
fn term(pattern: &str, polarity: Polarity) -> Term {
    let all = Term::from_pattern(pattern).unwrap();
    match polarity {
        Polarity::Denies => all,
        Polarity::Permits => all.intersection([&Term::from_pattern(TEXT).unwrap()]).unwrap(),
    }
}

/// What a value matches that is a whole text, a beginning, an end or `*`.
fn of_form(value: &str, polarity: Polarity) -> Term {
    match Form::of(value) {
        Form::Any => term(&format!("{ANY}+"), polarity),
        Form::Exact(text) => term(&literal(text), Polarity::Denies),
        Form::Prefix(text) => term(&format!("{}{ANY}*", literal(text)), Polarity::Denies),
        Form::Suffix(text) => term(&format!("{ANY}*{}", literal(text)), Polarity::Denies),
    }
}

fn of_template(value: &str, polarity: Polarity) -> Term {
    let segment = if polarity == Polarity::Permits { IN_SEGMENT } else { NO_SLASH };
    let run = if polarity == Polarity::Permits { format!("({IN_SEGMENT}|/)") } else { ANY.to_owned() };
    let part = |part: &str| match part {
        "{*}" => format!("{segment}+"),
        "{**}" => format!("{run}*"),
        text => literal(text),
    };
    let pattern = value.split('/').map(part).collect::<Vec<_>>().join("/");
    Term::from_pattern(&pattern).unwrap()
}

fn of_principal(value: &str, polarity: Polarity) -> Term {
    match Form::of(value) {
        Form::Any => term(&format!("{ANY}+"), polarity),
        Form::Exact(text) => term(&format!("spiffe://{}", literal(text)), Polarity::Denies),
        Form::Prefix(text) => term(&format!("spiffe://{}{ANY}*", literal(text)), Polarity::Denies),
        Form::Suffix(text) => term(&format!("spiffe://{ANY}*{}", literal(text)), polarity),
    }
}

fn of_namespace(value: &str, polarity: Polarity) -> Term {
    let value = value.split('*').map(literal).collect::<Vec<_>>().join(&format!("{ANY}*"));
    term(&format!("{ANY}*/ns/{value}/{ANY}*"), polarity)
}

fn of_account([namespace, name]: [&str; 2], polarity: Polarity) -> Term {
    let (namespace, name) = (literal(namespace), literal(name));
    term(&format!("spiffe://{ANY}+/ns/{namespace}/({ANY}+/|)sa/{name}(/{ANY}+)?"), polarity)
}

/// What a value matches, by the engine and by the judge.
struct Judged {
    set: Set,
    term: Term,
}

fn judged(check: &Check, polarity: Polarity, term: Term) -> Judged {
    let set = match Values::of(check, polarity) {
        Values::Texts(set) => *set,
        Values::Paths(paths) => paths.set,
        Values::Metadata(strings, _) => strings.texts().clone().set(),
        Values::Blocks(_) | Values::Ports(_) => panic!("{check:?} is about no text"),
    };
    Judged { set, term }
}

const POLARITIES: [Polarity; 2] = [Polarity::Permits, Polarity::Denies];

fn claims() -> Vec<Judged> {
    let values = ["*", "a", "ab", "a*", "*b", "ba*", "*ab", "abab", "*a", "é*", "*\n", "aba*", "*bab"];
    let path = Arc::new(MetadataPath { filter: (*b"f").into(), keys: [(*b"k").into()].into() });
    let judge = |value: &str, polarity: Polarity| {
        let pattern = Pattern::new(Form::of(value), &Pattern::NonEmpty(Wildcard::from(polarity)));
        let check = Check::Text(Text::Metadata(Arc::clone(&path)), [pattern].into());
        judged(&check, polarity, of_form(value, polarity))
    };
    POLARITIES.iter().flat_map(|polarity| values.map(|value| judge(value, *polarity))).collect()
}

fn paths() -> Vec<Judged> {
    let texts = ["*", "/a", "/a*", "*b", "/a/*", "*/b", "/a/b", "/a/b*", "*/"];
    let templates = [
        "/{*}",
        "/{**}",
        "/a/{*}",
        "/{*}/b",
        "/{**}/b",
        "/{*}/{*}",
        "/a/{**}/b",
        "/{*}/a/{*}",
        "/{*}/{**}/b/",
        "/{*}/",
    ];
    let judge = |polarity: Polarity| {
        let text = move |value: &str| {
            let pattern = Pattern::new(Form::of(value), &Pattern::NonEmpty(Wildcard::from(polarity)));
            judged(&Check::Path([PathMatcher::Text(pattern)].into()), polarity, of_form(value, polarity))
        };
        let template = move |value: &str| {
            let check = Check::Path([PathMatcher::Template(Template::new(value, polarity))].into());
            judged(&check, polarity, of_template(value, polarity))
        };
        texts.map(text).into_iter().chain(templates.map(template))
    };
    POLARITIES.into_iter().flat_map(judge).collect()
}

fn names() -> Vec<Judged> {
    let principals = ["*", "td/ns/a/sa/x", "td/*", "*/sa/x", "*x", "td/ns/a/*", "*/ns/a/sa/x"];
    let (namespaces, accounts) =
        (["a", "*", "a*", "*a", "*b*", "a*b"], [["a", "x"], ["b", "x"], ["a", "y"], ["aa", "x"]]);
    let judge = |polarity: Polarity| {
        let wildcard = Wildcard::from(polarity);
        let judge = move |matcher, term| judged(&Check::Identity([matcher].into()), polarity, term);
        let principals =
            principals.map(|value| judge(IdentityMatcher::principal(value, wildcard), of_principal(value, polarity)));
        let namespaces =
            namespaces.map(|value| judge(IdentityMatcher::namespace(value, wildcard), of_namespace(value, polarity)));
        let accounts = accounts.map(|[namespace, name]| {
            let matcher = IdentityMatcher::service_account(namespace, name, wildcard);
            judge(matcher, of_account([namespace, name], polarity))
        });
        principals.into_iter().chain(namespaces).chain(accounts)
    };
    POLARITIES.into_iter().flat_map(judge).collect()
}

#[test]
fn a_text_is_found_exactly_if_the_language_is_not_empty() {
    let random = &mut fastrand::Rng::with_seed(8);
    let [mut found, mut nothing] = [0, 0];
    for pool in [claims(), paths(), names()] {
        for _ in 0..cases(60) {
            let mut some = |count: std::ops::Range<usize>| -> Vec<&Judged> {
                (0..random.usize(count)).map(|_| &pool[random.usize(..pool.len())]).collect()
            };
            let (all, none) = (some(1..5), some(0..5));
            let of = |judged: &[&'_ Judged]| judged.iter().map(|one| one.term.clone()).collect::<Vec<_>>();
            let both = Term::from_pattern(&format!("{ANY}*")).unwrap().intersection(of(&all)).unwrap();
            let left = of(&none).iter().fold(both, |left, term| left.difference(term).unwrap());
            let sets =
                |judged: &[&'_ Judged]| judged.iter().map(|one| one.set.texts().clone().set()).collect::<Vec<_>>();
            let (all_sets, no_sets) = (sets(&all), sets(&none));
            let mut budget = Budget::default();
            let text = Finder::new(&mut budget, Requests::All)
                .find(&all_sets.iter().collect::<Vec<_>>(), &no_sets.iter().collect::<Vec<_>>())
                .unwrap();
            let says = || format!("{text:?} in {:?} and not in {:?}", of(&all), of(&none));
            assert_eq!(text.is_none(), left.is_empty().unwrap(), "{}", says());
            match &text {
                None => nothing += 1,
                Some(text) => {
                    found += 1;
                    let text: String = text.iter().copied().map(char::from).collect();
                    assert!(left.matches(&text).unwrap(), "{}", says());
                }
            }
        }
    }
    assert!(found > 30 && nothing > 30, "{found} {nothing}");
}
