//! Sets are put together as they say, and [`Finder`] finds what there is.

use std::rc::Rc;

use super::super::budget::{Budget, Requests, Undecided};
use super::super::text::{Bytes, Finder, Part, Set, Texts};
use super::{cases, sequences, shown, texts};

const ALPHABET: &[u8] = b"ab.:]";

/// Whether a text is a sequence of these parts.
fn is_sequence(parts: &[Part<'_>], text: &[u8]) -> bool {
    let Some((first, rest)) = parts.split_first() else { return text.is_empty() };
    let same = |literal: &[u8], is_same: fn(&[u8], &[u8]) -> bool| {
        text.split_at_checked(literal.len())
            .is_some_and(|(begin, end)| is_same(begin, literal) && is_sequence(rest, end))
    };
    let run = |bytes: Bytes, least: usize| {
        let longest = text.iter().take_while(|byte| bytes.contains(**byte)).count();
        (least..=longest).any(|length| is_sequence(rest, &text[length..]))
    };
    match *first {
        Part::Literal(literal) => same(literal, |one, other| one == other),
        Part::AnyCase(literal) => same(literal, <[u8]>::eq_ignore_ascii_case),
        Part::Any(bytes) => run(bytes, 0),
        Part::Some(bytes) => run(bytes, 1),
    }
}

/// The text without the dots before its port.
fn without_dots_before_a_port(text: &[u8]) -> Option<Vec<u8>> {
    let at = text.iter().rposition(|byte| b":]".contains(byte)).filter(|at| text[*at] == b':')?;
    let (name, port) = text.split_at(at);
    let dots = name.iter().rev().take_while(|byte| **byte == b'.').count();
    (dots > 0).then(|| [&name[..name.len() - dots], port].concat())
}

type Contains = Rc<dyn Fn(&[u8]) -> bool>;

/// A random sequence of parts.
fn some_parts(random: &mut fastrand::Rng) -> Vec<Part<'static>> {
    const LITERALS: [&[u8]; 8] = [b"a", b"b", b"ab", b".", b":", b"a.", b"]", b""];
    let runs =
        [Bytes::ALL, Bytes::ALL, Bytes::one(b'a'), Bytes::one(b'a').not(), Bytes::of(|byte| b".:]".contains(&byte))];
    let part = |random: &mut fastrand::Rng| {
        let literal = LITERALS[random.usize(..LITERALS.len())];
        let run = runs[random.usize(..runs.len())];
        match random.usize(..8) {
            0..3 => Part::Literal(literal),
            3 => Part::AnyCase(literal),
            4..7 => Part::Any(run),
            _ => Part::Some(run),
        }
    };
    (0..random.usize(..4)).map(|_| part(random)).collect()
}

/// A random set, and which texts are in it.
fn some_texts(random: &mut fastrand::Rng, depth: usize) -> (Texts, Contains) {
    if depth == 0 || random.usize(..4) == 0 {
        let sequences: Vec<_> = (0..random.usize(1..4)).map(|_| some_parts(random)).collect();
        let texts = Texts::of(sequences.clone());
        return (texts, Rc::new(move |text| sequences.iter().any(|parts| is_sequence(parts, text))));
    }
    let (one, in_one) = some_texts(random, depth - 1);
    match random.usize(..7) {
        0 => {
            let (other, in_other) = some_texts(random, depth - 1);
            (one.or(other), Rc::new(move |text| in_one(text) || in_other(text)))
        }
        1 | 2 => {
            let (other, in_other) = some_texts(random, depth - 1);
            (one.and(&other), Rc::new(move |text| in_one(text) && in_other(text)))
        }
        3 => {
            let parts = some_parts(random);
            let is_in = move |text: &[u8], parts: &[Part<'_>]| {
                (0..=text.len()).any(|at| in_one(&text[..at]) && is_sequence(parts, &text[at..]))
            };
            (one.then(&parts), Rc::new(move |text| is_in(text, &parts)))
        }
        4 => {
            let parts = some_parts(random);
            let is_in = move |text: &[u8], parts: &[Part<'_>]| {
                (0..=text.len()).any(|at| is_sequence(parts, &text[..at]) && in_one(&text[at..]))
            };
            (one.after(&parts), Rc::new(move |text| is_in(text, &parts)))
        }
        5 => (one.deterministic(), in_one),
        _ => {
            let dots = one.with_dots_before_a_port();
            (dots, Rc::new(move |text| without_dots_before_a_port(text).is_some_and(|text| in_one(&text))))
        }
    }
}

#[test]
fn a_set_that_is_put_together_has_the_texts_that_it_should() {
    let random = &mut fastrand::Rng::with_seed(1);
    let all = [texts(ALPHABET, 4), texts(b"ab.:", 5), sequences(&[b"A", b"\xff", b"\n", b"a", b":"], 3)].concat();
    for number in 0..cases(150) {
        let (texts, is_in) = some_texts(random, 3);
        let set = texts.clone().set();
        for text in &all {
            assert_eq!(set.contains(text), is_in(text), "{number}: {} in {texts:?}", shown(text));
            assert_eq!(texts.accept(text), is_in(text), "{number}: {} in {texts:?}", shown(text));
        }
    }
}

#[test]
fn a_deterministic_set_has_as_few_states_as_possible() {
    let random = &mut fastrand::Rng::with_seed(3);
    let states = |texts: Texts| format!("{:?}", texts.deterministic()).matches("accepts").count();
    for number in 0..cases(150) {
        let (texts, _) = some_texts(random, 2);
        let (other, _) = some_texts(random, 2);
        let same = texts.clone().or(texts.and(&other)).or(texts.clone()).and(&texts);
        assert_eq!(states(texts.clone()), states(same), "{number}: {texts:?}");
    }
}

#[test]
fn utf8_is_what_the_standard_library_takes_for_it() {
    const EDGES: &[u8] = &[
        0x00, 0x0a, 0x0b, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xec, 0xed,
        0xee, 0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xff,
    ];
    let every_byte: Vec<u8> = (0..=u8::MAX).collect();
    let all = [texts(&every_byte, 2), texts(EDGES, 4)].concat();
    for is_line in [false, true] {
        let set = Texts::utf8(is_line).set();
        for text in &all {
            let expected = std::str::from_utf8(text).is_ok() && !(is_line && text.contains(&b'\n'));
            assert_eq!(set.contains(text), expected, "{}", shown(text));
        }
    }
}

/// A pool of random sets, and which texts are in each.
fn pool(random: &mut fastrand::Rng, count: usize) -> Vec<(Set, Contains)> {
    let mut set = || {
        let (texts, is_in) = some_texts(random, 2);
        (texts.set(), is_in)
    };
    (0..count).map(|_| set()).collect()
}

#[test]
fn a_text_is_found_exactly_if_there_is_one() {
    const FEW: usize = 4;
    let random = &mut fastrand::Rng::with_seed(2);
    let short = texts(b"ab.:]", 4);
    let [mut found_some, mut found_none] = [0, 0];
    for number in 0..cases(60) {
        let sets = pool(random, 10);
        let members: Vec<Vec<bool>> =
            sets.iter().map(|(_, is_in)| short.iter().map(|text| is_in(text)).collect()).collect();
        let mut budget = Budget::default();
        let mut finder = Finder::new(&mut budget, Requests::All);
        for _ in 0..30 {
            let mut some = |count: std::ops::Range<usize>| -> Vec<usize> {
                (0..random.usize(count)).map(|_| random.usize(..sets.len())).collect()
            };
            let (all, none) = (some(1..7), some(0..4));
            let of = |numbers: &[usize]| numbers.iter().map(|number| &sets[*number].0).collect::<Vec<_>>();
            let found = finder.find(&of(&all), &of(&none)).unwrap();
            assert_eq!(found, finder.find(&of(&all), &of(&none)).unwrap(), "{number}: {all:?} {none:?}");
            let expected = (0..short.len()).find(|text| {
                all.iter().all(|set| members[*set][*text]) && !none.iter().any(|set| members[*set][*text])
            });
            let Some(found) = found else {
                found_none += 1;
                let missed = expected.map(|text| shown(&short[text]));
                assert!(
                    missed.is_none(),
                    "{number}: {missed:?} in {all:?} and not in {none:?} of {sets:?}",
                    sets = of(&all)
                );
                continue;
            };
            found_some += 1;
            let is_right = all.iter().all(|set| sets[*set].1(&found)) && !none.iter().any(|set| sets[*set].1(&found));
            assert!(is_right, "{number}: {} in {all:?} and not in {none:?}", shown(&found));
            if let (Some(expected), ..=FEW) = (expected, all.len())
                && !of(&all).iter().any(|set| set.is_listed())
            {
                assert!(found.len() <= short[expected].len(), "{number}: {} is not the shortest", shown(&found));
            }
        }
    }
    assert!(found_some > 300 && found_none > 300, "{found_some} {found_none}");
}

/// A text of this set has one of some letters, and later its capital. One automaton would have to remember which letters it has
/// seen: it would be too large, so there are several.
#[test]
fn a_set_of_several_automata_has_the_texts_of_each() {
    const COUNT: u8 = 15;
    let any = Part::Any(Bytes::ALL);
    let pair = |number: u8| [b'a' + number, b'A' + number];
    let letters: Vec<_> = (0..COUNT).map(|number| pair(number).map(|letter| [letter])).collect();
    let set = Texts::of(
        letters.iter().map(|[small, capital]| vec![any, Part::Literal(small), any, Part::Literal(capital), any]),
    );
    let set = set.set();
    let of_letters = |numbers: &[u8]| {
        let is_one = |byte| numbers.iter().any(|number| pair(*number).contains(&byte));
        Texts::of([vec![Part::Any(Bytes::of(is_one))]]).set()
    };
    let each = letters.iter().map(|[small, capital]| vec![Part::Literal(small), any, Part::Literal(capital)]);
    let each = Texts::of(each).set();
    for number in 0..COUNT {
        let [small, capital] = pair(number);
        let other = pair((number + 1) % COUNT);
        assert!(set.contains(&[small, other[0], capital]), "{number}");
        assert!(!set.contains(&[capital, small]) && !set.contains(&[small, other[1]]), "{number}");
        let mut budget = Budget::default();
        let mut finder = Finder::new(&mut budget, Requests::All);
        let (one, two) = (of_letters(&[number]), of_letters(&[number, (number + 1) % COUNT]));
        assert_eq!(finder.find(&[&set, &one], &[]).unwrap(), Some(vec![small, capital]));
        assert_eq!(finder.find(&[&each, &one], &[&set]).unwrap(), None);
        let others = letters.iter().flatten().filter(|letter| ![small, capital].contains(&letter[0]));
        let with_others = Texts::of(others.map(|letter| vec![any, Part::Literal(letter), any])).set();
        assert_eq!(finder.find(&[&set], &[&with_others]).unwrap(), Some(vec![small, capital]));
        let outside = finder.find(&[&two], &[&set, &one]).unwrap().unwrap();
        assert!(two.contains(&outside) && !set.contains(&outside) && !one.contains(&outside), "{}", shown(&outside));
    }
    let mut budget = Budget::default();
    assert_eq!(Finder::new(&mut budget, Requests::All).find(&[&set], &[&set]).unwrap(), None);
}

#[test]
fn what_was_found_is_remembered_for_the_same_question() {
    let begins = [b"a", b"b", b"a"].map(|text| Texts::of([vec![Part::Literal(text), Part::Any(Bytes::ALL)]]).set());
    let sets: Vec<_> = begins.iter().collect();
    let mut budget = Budget::default();
    let mut finder = Finder::new(&mut budget, Requests::All);
    for _ in 0..2 {
        // The same sets in the same order, of which fewer and fewer are excluded.
        assert_eq!(finder.find(&sets[..1], &sets[1..2]).unwrap(), Some(b"a".to_vec()));
        assert_eq!(finder.find(&sets[..2], &[]).unwrap(), None);
        assert_eq!(finder.find(&sets[..1], &sets[1..]).unwrap(), None);
    }
}

#[test]
fn a_search_that_goes_not_far_enough_says_nothing() {
    let long = Texts::of([vec![Part::Literal(b"abababababab"), Part::Any(Bytes::ALL)]]).set();
    let mut budget = Budget::default();
    let mut finder = Finder::new(&mut budget, Requests::All);
    finder.most_nodes = 10;
    assert_eq!(finder.find(&[&long], &[]), Err(Undecided));
    finder.most_nodes = 20;
    assert_eq!(finder.find(&[&long], &[]), Ok(Some(b"abababababab".to_vec())));
}

#[test]
fn bytes_are_sets() {
    type Includes = fn(u8) -> bool;
    let sets: [(Bytes, Includes); 5] = [
        (Bytes::range(0x41, 0x5a), |byte| byte.is_ascii_uppercase()),
        (Bytes::range(0x70, 0x90), |byte| (0x70..=0x90).contains(&byte)),
        (Bytes::one(0x80), |byte| byte == 0x80),
        (Bytes::of(|byte| byte % 3 == 0), |byte| byte % 3 == 0),
        (Bytes::range(0xff, 0xff), |byte| byte == 0xff),
    ];
    for (one, in_one) in sets {
        for (other, in_other) in sets {
            for byte in 0..=u8::MAX {
                assert_eq!(one.contains(byte), in_one(byte));
                assert_eq!(one.not().contains(byte), !in_one(byte));
                assert_eq!(one.and(other).contains(byte), in_one(byte) && in_other(byte));
                assert_eq!(one.or(other).contains(byte), in_one(byte) || in_other(byte));
            }
        }
    }
}
