//! A value of a subject is found exactly if there is one that meets all constraints.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::super::budget::{Budget, Requests};
use super::super::subject::{Constraint, Subject, Value, choose};
use super::super::text::{Bytes, Finder, Part, Set, Texts};
use super::super::values::Values;
use super::{cases, sequences, texts};
use crate::attribute::Address;
use crate::engine::compile::MetadataPath;
use crate::policy::Cidr;
use crate::request::PeerName;

/// What `choose` finds, if anything.
fn find(subject: &Subject, constraints: &[Constraint<'_>], requests: Requests) -> Option<Value> {
    let mut budget = Budget::default();
    choose(subject, constraints, &mut Finder::new(&mut budget, requests)).unwrap()
}

/// Some constraints on values of a pool.
fn some_constraints<'v>(pool: &'v [Values], random: &mut fastrand::Rng, most: usize) -> Vec<Constraint<'v>> {
    let mut constraint = || Constraint {
        values: &pool[random.usize(..pool.len())],
        is_match: random.bool(),
        holds_unread: random.bool(),
    };
    let all: Vec<_> = (0..most).map(|_| constraint()).collect();
    all[..random.usize(1..=most)].to_vec()
}

fn blocks(texts: &[&str]) -> Values {
    Values::Blocks(texts.iter().map(|text| Cidr::parse(text).unwrap()).collect())
}

/// The addresses next to where a block begins and ends.
fn edges(block: &Cidr) -> Vec<IpAddr> {
    let (bits, length, most): (u128, u32, u128) = match block.address {
        IpAddr::V4(address) => (u32::from(address).into(), 32, u32::MAX.into()),
        IpAddr::V6(address) => (address.into(), 128, u128::MAX),
    };
    let hosts = most & u128::MAX.checked_shr(128 - length + u32::from(block.prefix)).unwrap_or(0);
    let (first, last) = (bits & !hosts, bits | hosts);
    let all = [Some(first), Some(last), first.checked_sub(1), last.checked_add(1), Some(0), Some(most)];
    let address = |bits: u128| match block.address {
        IpAddr::V4(_) => IpAddr::V4(u32::try_from(bits).unwrap().into()),
        IpAddr::V6(_) => IpAddr::V6(bits.into()),
    };
    all.into_iter().flatten().filter(|bits| *bits <= most).map(address).collect()
}

#[test]
fn an_address_is_found_exactly_if_there_is_one() {
    let pool = [
        blocks(&["0.0.0.0/0"]),
        blocks(&["::/0"]),
        blocks(&["0.0.0.0/0", "::/0"]),
        blocks(&["0.0.0.0/1"]),
        blocks(&["128.0.0.0/1"]),
        blocks(&["0.0.0.0", "::"]),
        blocks(&["255.255.255.255"]),
        blocks(&["255.255.255.254/31", "10.0.0.0/8"]),
        blocks(&["10.0.0.0/31"]),
        blocks(&["10.0.0.1", "10.0.0.3/31"]),
        blocks(&["10.0.0.0/30"]),
        // One within the other: at its beginning, and at its end.
        blocks(&["10.0.0.0/31", "10.0.0.0/30", "10.0.0.0/8"]),
        blocks(&["10.0.0.3", "10.0.0.2/31", "10.0.0.0/30", "::/1", "::"]),
        blocks(&["192.0.2.1", "192.0.2.2/31"]),
        blocks(&["8000::/1"]),
        blocks(&["::/1"]),
        blocks(&["ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]),
        blocks(&["ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe/127", "2001:db8::/32"]),
        blocks(&["2001:db8::1", "::ffff:10.0.0.1"]),
        blocks(&["1.0.0.0/8", "2.0.0.0/7", "4.0.0.0/6", "8.0.0.0/5", "16.0.0.0/4", "32.0.0.0/3", "64.0.0.0/2"]),
    ];
    let addresses: Vec<_> = pool
        .iter()
        .flat_map(
            |values| if let Values::Blocks(blocks) = values { blocks.iter().flat_map(edges).collect() } else { vec![] },
        )
        .collect();
    let random = &mut fastrand::Rng::with_seed(3);
    for _ in 0..cases(3_000) {
        let constraints = some_constraints(&pool, random, 5);
        let is_met = |address: &IpAddr| {
            constraints.iter().all(|constraint| {
                let Values::Blocks(blocks) = constraint.values else { return false };
                blocks.iter().any(|block| block.contains(*address)) == constraint.is_match
            })
        };
        let expected = addresses.iter().find(|address| is_met(address));
        let holds_unread = constraints.iter().all(|constraint| constraint.holds_unread);
        for requests in [Requests::All, Requests::Expected] {
            match find(&Subject::Address(Address::Remote), &constraints, requests) {
                Some(Value::Address(address)) => assert!(is_met(&address), "{address}: {constraints:?}"),
                Some(Value::Unreadable) => {
                    assert!(holds_unread && expected.is_none() && requests == Requests::All, "{constraints:?}");
                }
                other => {
                    assert_eq!(other, None);
                    assert_eq!(expected, None, "{constraints:?}");
                    assert!(!holds_unread || requests == Requests::Expected, "{constraints:?}");
                }
            }
        }
    }
}

#[test]
fn a_port_is_found_exactly_if_there_is_one() {
    let ports = |ports: &[u16]| Values::Ports(ports.into());
    let pool =
        [ports(&[0, 80, 8080]), ports(&[0]), ports(&[80]), ports(&[80, 8080]), ports(&[0, 65535]), ports(&[8080, 1])];
    let random = &mut fastrand::Rng::with_seed(4);
    for _ in 0..cases(200) {
        let constraints = some_constraints(&pool, random, 4);
        let is_met = |port: &u16| {
            constraints.iter().all(|constraint| {
                matches!(constraint.values, Values::Ports(ports) if ports.contains(port) == constraint.is_match)
            })
        };
        let expected = [0, 1, 2, 80, 443, 8080, 65535].iter().find(|port| is_met(port));
        let holds_unread = constraints.iter().all(|constraint| constraint.holds_unread);
        match find(&Subject::DestinationPort, &constraints, Requests::All) {
            Some(Value::Port(port)) => assert!(is_met(&port), "{port}: {constraints:?}"),
            Some(Value::Unreadable) => assert!(holds_unread && expected.is_none(), "{constraints:?}"),
            other => assert!(other.is_none() && expected.is_none() && !holds_unread, "{other:?}: {constraints:?}"),
        }
    }
}

/// Beginnings, ends and whole texts, such as policies have, that are often in each other's way.
fn sets() -> Vec<Texts> {
    let any = Part::Any(Bytes::ALL);
    let literal = Part::Literal;
    vec![
        Texts::of([vec![any]]),
        Texts::of([vec![Part::Some(Bytes::ALL)]]),
        Texts::of([vec![literal(b"a")]]),
        Texts::of([vec![literal(b"a"), any]]),
        Texts::of([vec![any, literal(b"b")]]),
        Texts::of([vec![literal(b"a")], vec![literal(b"b")], vec![]]),
        Texts::of([vec![literal(b"a"), any], vec![literal(b"b"), any]]),
        Texts::of([vec![Part::Some(Bytes::ALL)]]).and(&Texts::utf8(true)),
        Texts::of([]),
        Texts::of([vec![any, literal(b"\xff"), any]]),
    ]
}

/// Whether the texts meet all constraints: each asks whether one of the texts is in a set.
fn all_met(constraints: &[Constraint<'_>], set: fn(&Values) -> &Set, texts: &[&Vec<u8>]) -> bool {
    constraints.iter().all(|one| texts.iter().any(|text| set(one.values).contains(text)) == one.is_match)
}

/// The texts that some lines can have: for each set that must match, it is enough that one line is in it.
fn some_lines<'t>(constraints: &[Constraint<'_>], set: fn(&Values) -> &Set, texts: &'t [Vec<u8>]) -> Vec<&'t Vec<u8>> {
    let is_excluded = |text: &Vec<u8>| constraints.iter().any(|one| !one.is_match && set(one.values).contains(text));
    texts.iter().filter(|text| !is_excluded(text)).collect()
}

fn of_texts(values: &Values) -> &Set {
    if let Values::Texts(set) = values { set } else { panic!("no texts: {values:?}") }
}

#[test]
fn lines_of_a_header_are_found_exactly_if_there_are_some() {
    let pool: Vec<_> = sets().into_iter().map(|texts| Values::Texts(Box::new(texts.set()))).collect();
    // A line has no line feed.
    let all = texts(b"abc\xff", 3);
    let random = &mut fastrand::Rng::with_seed(5);
    for _ in 0..cases(600) {
        let constraints = some_constraints(&pool, random, 5);
        let asks = constraints.iter().any(|constraint| constraint.is_match);
        let lines = some_lines(&constraints, of_texts, &all);
        let expected = all_met(&constraints, of_texts, &lines);
        match find(&Subject::header(b"x"), &constraints, Requests::All) {
            Some(Value::Texts(lines)) => {
                assert!(
                    all_met(&constraints, of_texts, &lines.iter().collect::<Vec<_>>()),
                    "{lines:?}: {constraints:?}"
                )
            }
            Some(Value::Absent) => assert!(!asks, "{constraints:?}"),
            other => assert!(other.is_none() && asks && !expected, "{other:?}: {constraints:?}"),
        }
        // Of a header whose lines Envoy joins, there is one.
        let one = || all.iter().find(|text| all_met(&constraints, of_texts, &[text]));
        match find(&Subject::header(b"accept"), &constraints, Requests::All) {
            Some(Value::Text(text)) => {
                assert!(all_met(&constraints, of_texts, &[&text]), "{constraints:?}")
            }
            Some(Value::Absent) => assert!(!asks, "{constraints:?}"),
            other => assert!(other.is_none() && asks && one().is_none(), "{other:?}: {constraints:?}"),
        }
    }
}

#[test]
fn metadata_is_found_exactly_if_there_is_some() {
    fn strings(values: &Values) -> &Set {
        if let Values::Metadata(strings, _) = values { strings } else { panic!("no metadata: {values:?}") }
    }
    fn elements(values: &Values) -> &Set {
        if let Values::Metadata(_, elements) = values { elements } else { panic!("no metadata: {values:?}") }
    }
    let all = sequences(&[b"a", b"b", "é".as_bytes(), b"\n"], 3);
    let random = &mut fastrand::Rng::with_seed(6);
    let sets: Vec<Arc<Set>> = sets().into_iter().map(|texts| Arc::new(texts.set())).collect();
    let nothing = &sets[8];
    let mut pool: Vec<_> = sets.iter().map(|set| Values::Metadata(Arc::clone(set), Arc::clone(set))).collect();
    pool.extend(sets.iter().map(|set| Values::Metadata(Arc::clone(set), Arc::clone(nothing))));
    pool.extend(sets.iter().map(|set| Values::Metadata(Arc::clone(nothing), Arc::clone(set))));
    pool.push(Values::Metadata(Arc::clone(&sets[2]), Arc::clone(&sets[4])));
    let path = MetadataPath { filter: (*b"f").into(), keys: [(*b"k").into()].into() };
    let subject = Subject::Metadata(Arc::new(path));
    for _ in 0..cases(1_000) {
        let constraints = some_constraints(&pool, random, 5);
        let asks = constraints.iter().any(|constraint| constraint.is_match);
        let is_met = |text: &Vec<u8>| all_met(&constraints, strings, &[text]);
        match find(&subject, &constraints, Requests::All) {
            Some(Value::Text(text)) => assert!(is_met(&text), "{text:?}: {constraints:?}"),
            Some(Value::Texts(list)) => {
                assert!(all_met(&constraints, elements, &list.iter().collect::<Vec<_>>()), "{list:?}: {constraints:?}")
            }
            Some(Value::Absent) => assert!(!asks, "{constraints:?}"),
            other => {
                assert!(other.is_none() && asks, "{other:?}");
                assert!(!all.iter().any(is_met), "{constraints:?}");
                let list = some_lines(&constraints, elements, &all);
                assert!(!all_met(&constraints, elements, &list), "{constraints:?}");
            }
        }
    }
}

#[test]
fn the_names_of_a_peer_are_found_exactly_if_there_are_some() {
    let any = || Part::Any(Bytes::ALL);
    let more = ["CN=", "CN=a", "b"].map(|text| Texts::of([vec![Part::Literal(text.as_bytes()), any()]]));
    let listed = ["CN=a", "ab", "b"].map(|text| Texts::of([vec![Part::Literal(text.as_bytes())]]));
    let ends = ["ba", "c", "CN=a"].map(|text| Texts::of([vec![any(), Part::Literal(text.as_bytes())]]));
    let all = sets().into_iter().chain(more).chain(listed).chain(ends);
    let pool: Vec<_> = all.map(|texts| Values::Texts(Box::new(texts.set()))).collect();
    // In which of the sets a name is.
    let mask = |name: &[u8]| {
        let bit = |(number, values): (usize, &Values)| u32::from(of_texts(values).contains(name)) << number;
        pool.iter().enumerate().map(bit).sum::<u32>()
    };
    let number = |one: &Constraint<'_>| pool.iter().position(|values| std::ptr::eq(values, one.values)).unwrap();
    let names = sequences(&[b"a", b"b", b"c", b"\xff", b"CN=a", b"\n"], 3);
    let is_subject = |name: &[u8]| name.is_empty() || name.starts_with(b"CN=");
    let uris: BTreeSet<u32> = names.iter().map(|name| mask(name)).chain([0]).collect();
    let subjects: BTreeSet<u32> =
        names.iter().filter(|name| is_subject(name)).map(|name| mask(name)).chain([0]).collect();
    let masks = || uris.iter().flat_map(|uri| uris.iter().map(move |dns| uri | dns));
    let masks: BTreeSet<u32> = masks().flat_map(|mask| subjects.iter().map(move |subject| mask | subject)).collect();
    let random = &mut fastrand::Rng::with_seed(7);
    let [mut found, mut nothing] = [0, 0];
    for _ in 0..cases(1_000) {
        let constraints = some_constraints(&pool, random, 7);
        // `is_further`: there are further names, which nobody can read.
        let is_met = |mask: u32, is_further: bool| {
            constraints.iter().all(|one| {
                let is_match = mask >> number(one) & 1 == 1;
                if !is_match && is_further { one.holds_unread } else { is_match == one.is_match }
            })
        };
        match find(&Subject::Peer, &constraints, Requests::All) {
            Some(Value::Names(all)) => {
                found += 1;
                let is_further = |(which, _): &&(PeerName, Vec<u8>)| *which == PeerName::FurtherUris;
                let known = all.iter().filter(|name| !is_further(name)).fold(0, |known, (_, name)| known | mask(name));
                assert!(is_met(known, all.iter().any(|name| is_further(&name))), "{all:?}: {constraints:?}");
                let count = |which| all.iter().filter(|(other, _)| *other == which).count();
                assert!(PeerName::ALL.into_iter().all(|which| count(which) <= 1), "{all:?}");
                let is_possible = |(which, name): &(PeerName, Vec<u8>)| {
                    *which != PeerName::Subject || name.is_empty() || name.contains(&b'=')
                };
                assert!(all.iter().all(is_possible), "{all:?}");
            }
            Some(Value::Absent) => assert!(is_met(0, false), "{constraints:?}"),
            other => {
                nothing += 1;
                assert_eq!(other, None);
                let missed = masks.iter().find(|mask| is_met(**mask, false) || is_met(**mask, true));
                assert_eq!(missed, None, "{constraints:?}");
            }
        }
    }
    assert!(found > 100 && nothing > 100, "{found} {nothing}");
}

/// A name that has to contain many texts is put together from them. That such a name is excluded does not mean that there is none.
#[test]
fn another_name_of_a_peer_is_found_if_one_is_excluded() {
    let any = Part::Any(Bytes::ALL);
    let wanted = ["a", "b", "c", "d", "e"].map(|text| {
        let containing = Texts::of([vec![any, Part::Literal(text.as_bytes()), any]]);
        Values::Texts(Box::new(containing.set()))
    });
    let mut excluded: Vec<Vec<u8>> = Vec::new();
    for _ in 0..10 {
        let exact = Texts::of(excluded.iter().map(|name| vec![Part::Literal(name)]));
        let none = Values::Texts(Box::new(exact.set()));
        let constraint = |is_match| move |values| Constraint { values, is_match, holds_unread: false };
        let constraints: Vec<_> = wanted.iter().map(constraint(true)).chain([&none].map(constraint(false))).collect();
        let Some(Value::Names(names)) = find(&Subject::Peer, &constraints, Requests::All) else {
            panic!("{excluded:?}")
        };
        let names: Vec<_> = names.into_iter().map(|(_, name)| name).collect();
        assert!(wanted.iter().all(|values| names.iter().any(|name| of_texts(values).contains(name))), "{names:?}");
        assert!(!names.iter().any(|name| excluded.contains(name)), "{names:?}");
        excluded.extend(names);
    }
}
