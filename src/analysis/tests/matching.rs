//! The values of a check are those that the engine's matchers match.

use std::sync::Arc;

use super::super::values::Values;
use super::{sequences, shown, texts};
use crate::attribute::ConnectionText;
use crate::engine::compile::{Check, MetadataMatcher, MetadataPath, PathMatcher, RequestPrincipalMatcher, Text};
use crate::identity::IdentityMatcher;
use crate::matcher::template::Template;
use crate::matcher::{Pattern, Polarity, Wildcard};
use crate::policy::Form;
use crate::request::{forms, without_query};

const POLARITIES: [Polarity; 2] = [Polarity::Permits, Polarity::Denies];

/// Each of the texts as a whole value, a beginning and an end.
fn patterns(texts: &[Vec<u8>]) -> Vec<Pattern> {
    let forms = |text: &Vec<u8>| {
        let bytes = || text.clone().into_boxed_slice();
        [Pattern::Exact(bytes()), Pattern::Prefix(bytes()), Pattern::Suffix(bytes())]
    };
    texts.iter().flat_map(forms).collect()
}

fn non_empty(polarity: Polarity) -> Pattern {
    Pattern::NonEmpty(Wildcard::from(polarity))
}

/// Whether the engine's matchers match a text. Of metadata, it is a string.
fn matches(check: &Check, polarity: Polarity, text: &[u8]) -> bool {
    let any_form = |name: &[u8], matches: &mut dyn FnMut(&[u8]) -> bool| match polarity {
        Polarity::Permits => matches(text),
        Polarity::Denies => forms::any(name, text, matches),
    };
    match check {
        Check::Identity(matchers) => matchers.iter().any(|matcher| matcher.matches(text)),
        Check::Text(Text::Header(name), values) => {
            any_form(name, &mut |form| values.iter().any(|value| value.matches(form)))
        }
        Check::Text(Text::Connection(_) | Text::Metadata(_), values) => values.iter().any(|value| value.matches(text)),
        Check::Host(values) => {
            any_form(b":authority", &mut |form| values.iter().any(|value| value.matches_ignoring_case(form)))
        }
        Check::Path(values) => values.iter().any(|value| match value {
            PathMatcher::Text(value) => value.matches(without_query(text)),
            PathMatcher::Template(template) => template.matches(without_query(text)),
        }),
        Check::RequestPrincipal { matchers, .. } => matchers.iter().any(|matcher| matcher.issuer.matches(text)),
        Check::Metadata(_, values) => {
            values.iter().any(|value| matches!(value, MetadataMatcher::Text(value) if value.matches(text)))
        }
        Check::Address(..) | Check::DestinationPort(_) => false,
    }
}

/// Whether the element of a list is matched.
fn matches_element(check: &Check, text: &[u8]) -> bool {
    match check {
        Check::Text(Text::Metadata(_), values) => values.iter().any(|value| value.matches(text)),
        Check::Metadata(_, values) => {
            values.iter().any(|value| matches!(value, MetadataMatcher::Element(value) if value.matches(text)))
        }
        _ => false,
    }
}

fn assert_same(check: &Check, polarity: Polarity, texts: &[Vec<u8>]) {
    let values = Values::of(check, polarity);
    for text in texts {
        let expected = matches(check, polarity, text);
        let says = || format!("{} in {check:?}, {polarity:?}", shown(text));
        match &values {
            Values::Texts(set) => assert_eq!(set.contains(text), expected, "{}", says()),
            Values::Paths(paths) => {
                assert_eq!(paths.with_query().contains(text), expected, "{}", says());
                assert_eq!(paths.set.contains(without_query(text)), expected, "{}", says());
            }
            Values::Metadata(strings, elements) => {
                assert_eq!(strings.contains(text), expected, "{}", says());
                assert_eq!(elements.contains(text), matches_element(check, text), "{}", says());
            }
            Values::Blocks(_) | Values::Ports(_) => panic!("{check:?} is about no text"),
        }
    }
}

/// For both polarities: each value alone, and two at a time.
fn assert_all_same<V: Clone>(
    values: impl Fn(Polarity) -> Vec<V>,
    check: impl Fn(Box<[V]>) -> Check,
    texts: &[Vec<u8>],
) {
    for polarity in POLARITIES {
        let values = values(polarity);
        for value in &values {
            assert_same(&check([value.clone()].into()), polarity, texts);
        }
        let few: Vec<_> = texts.iter().step_by(7).cloned().collect();
        for pair in values.chunks(2) {
            assert_same(&check(pair.into()), polarity, &few);
        }
    }
    assert_same(&check([].into()), Polarity::Permits, texts);
}

#[test]
fn hosts_are_those_of_which_a_form_matches() {
    let longer = [&b"a:8"[..], b"a.:8", b"a.", b"[:]", b"[:]:8", b"a a", b".a"].map(<[u8]>::to_vec);
    let values = |_| [patterns(&texts(b"a.:]@,", 1)), patterns(&longer), vec![Pattern::Present]].concat();
    let pieces: [&[u8]; 10] = [b"a", b".", b":8", b"[:]", b"@", b" ", b"\t", b"\n", b"A", b"\xff"];
    assert_all_same(values, Check::Host, &[texts(b"a.:]@, ", 4), sequences(&pieces, 4)].concat());
}

#[test]
fn headers_are_those_of_which_a_form_matches() {
    for name in [&b"x"[..], b":method"] {
        let values = |_| [patterns(&texts(b"ab \t", 2)), vec![Pattern::Present]].concat();
        let check = |values| Check::Text(Text::Header(name.into()), values);
        assert_all_same(values, check, &texts(b"ab \t\xff\n", 4));
    }
    // A header condition can be about the host.
    let values = |_| [patterns(&texts(b"a.", 1)), vec![Pattern::Present]].concat();
    let check = |values| Check::Text(Text::Header((*b":authority").into()), values);
    assert_all_same(values, check, &texts(b"aA.:]@, ", 4));
}

#[test]
fn paths_are_those_that_match_before_the_query() {
    let templates = [
        "/{*}",
        "/{**}",
        "/a/{*}",
        "/a/{**}",
        "/{*}/a",
        "/{**}/a",
        "/{*}/{*}",
        "/{*}/{**}",
        "/{*}/{**}/a",
        "/{*}/",
        "/{**}/",
        "/{*}/a/{*}",
        "/a/{*}/{**}/aa/",
        "/a/a/{*}",
    ];
    let values = |polarity| {
        let texts = patterns(&texts(b"a/?", 2)).into_iter().chain([non_empty(polarity)]).map(PathMatcher::Text);
        let templates = templates.map(|text| PathMatcher::Template(Template::new(text, polarity)));
        texts.chain(templates).collect()
    };
    assert_all_same(values, Check::Path, &texts(b"a/[?#\xff\n%", 4));
    assert_all_same(values, Check::Path, &texts(b"a/[?", 6));
}

#[test]
fn names_are_those_that_the_identity_fields_match() {
    let values = |polarity| {
        let wildcard = Wildcard::from(polarity);
        let principals = ["*", "a", "a*", "*a", "a/ns/a/sa/a", "a/*", "*/sa/a", "a/ns/a/*", "a\n", "*b"];
        let principals = principals.map(|value| IdentityMatcher::principal(value, wildcard));
        let namespaces = ["a", "*", "a*", "*a", "a*b", "*a*", "a*a", "aa"];
        let namespaces = namespaces.map(|value| IdentityMatcher::namespace(value, wildcard));
        let accounts = [("a", "a"), ("a", "b"), ("b", "a"), ("a", "a*")];
        let accounts = accounts.map(|(namespace, name)| IdentityMatcher::service_account(namespace, name, wildcard));
        let domains = ["a", "*", "a*", "*a", "a*b", "a*a", "b", "*aa"];
        let domains = domains.map(|value| IdentityMatcher::trust_domain(value, wildcard));
        principals.into_iter().chain(namespaces).chain(accounts).chain(domains).collect()
    };
    let pieces: [&[u8]; 12] =
        [b"spiffe://", b"/ns/a/", b"ns/a/", b"/ns/", b"sa/a", b"/", b"a", b"b", b"\n", b"\xff", b"CN=", b"sa/b"];
    assert_all_same(values, Check::Identity, &sequences(&pieces, 4));
    let after_scheme = |text: Vec<u8>| [&b"spiffe://"[..], &text].concat();
    let names = sequences(&[b"a", b"/", b"/ns/a/", b"ns/a/", b"sa/a", b"\xff"], 5).into_iter().map(after_scheme);
    assert_all_same(values, Check::Identity, &names.collect::<Vec<_>>());
}

#[test]
fn server_names_and_claims_are_those_that_match() {
    let texts = [texts(b"ab\xff\n", 4), sequences(&["é".as_bytes(), b"\n", b"a", b"\xe2\x82", b"\x80"], 3)].concat();
    let values = |polarity| [patterns(&super::texts(b"ab", 2)), vec![non_empty(polarity)]].concat();
    assert_all_same(values, |values| Check::Text(Text::Connection(ConnectionText::Sni), values), &texts);
    let path = |key: &[u8]| Arc::new(MetadataPath { filter: (*b"f").into(), keys: [key.into()].into() });
    assert_all_same(values, |values| Check::Text(Text::Metadata(path(b"k")), values), &texts);
    let metadata = |polarity| {
        let values = values(polarity);
        let elements = values.iter().cloned().map(MetadataMatcher::Element);
        // A pair is of both kinds.
        values.iter().cloned().map(MetadataMatcher::Text).zip(elements).flat_map(<[_; 2]>::from).collect()
    };
    assert_all_same(metadata, |values| Check::Metadata(path(b"k"), values), &texts);
    let principals = |polarity| {
        let presence = &non_empty(polarity);
        let matcher = |value| {
            let (issuer, subject) = Form::of_request_principal(value);
            RequestPrincipalMatcher { issuer: Pattern::new(issuer, presence), subject: Pattern::new(subject, presence) }
        };
        ["*", "a/b", "a*", "*a", "a/*", "*/b", "*a/b", "ab/"].map(matcher).to_vec()
    };
    let check = |matchers| Check::RequestPrincipal { issuer: path(b"iss"), subject: path(b"sub"), matchers };
    assert_all_same(principals, check, &texts);
}

/// The text, and what becomes of it if a byte is taken away, added or changed.
fn near(text: &[u8]) -> Vec<Vec<u8>> {
    let mut all = vec![text.to_vec()];
    for at in 0..=text.len() {
        let (before, behind) = text.split_at(at);
        for byte in [b"x", b"."] {
            all.push([before, byte, behind].concat());
            if let Some((_, rest)) = behind.split_first() {
                all.extend([[before, rest].concat(), [before, byte, rest].concat()]);
            }
        }
    }
    all
}

#[test]
fn long_lists_match_what_one_of_their_values_matches() {
    // They differ in the middle, so what is behind it is the same and nothing before it is enough.
    let name = |letter: u8| [b"/all-begin-so-", &[letter][..], b"-and-end-so.example"].concat();
    let pattern = |(number, text): (usize, &Vec<u8>)| {
        let text = text.clone().into_boxed_slice();
        match number % 3 {
            0 => Pattern::Exact(text),
            1 => Pattern::Prefix(text),
            _ => Pattern::Suffix(text),
        }
    };
    for count in [9, 21] {
        let names: Vec<_> = (b'a'..=b'z').take(count).map(name).collect();
        let texts: Vec<_> = names.iter().chain([&name(b'z')]).flat_map(|name| near(name)).collect();
        let values = || names.iter().enumerate().map(pattern);
        for polarity in POLARITIES {
            assert_same(&Check::Host(values().collect()), polarity, &texts);
            assert_same(&Check::Text(Text::Header((*b"x").into()), values().collect()), polarity, &texts);
            assert_same(&Check::Path(values().map(PathMatcher::Text).collect()), polarity, &texts);
        }
    }
}
