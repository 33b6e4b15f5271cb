//! Encoded data is read back unchanged, and malformed data is not accepted.

use mesh_authz::document::{Node, Value, from_struct};
use mesh_authz::request::metadata::Value as Found;
use mesh_authz::request::{Attributes, Headers, Lookup, Metadata, Request};
use mesh_authz::wire::{Field, Fields};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use prost::encoding::{WireType, decode_key, decode_varint};

use crate::cases;

#[test]
fn headers_are_read_back_as_they_were() {
    let pair = (vec(any::<u8>(), 0..20), vec(any::<u8>(), 0..40));
    TestRunner::new(cases(200))
        .run(&vec(pair, 0..8), |pairs| {
            let encoded = Headers::encode(&pairs);
            let Lookup::Value(headers) = Headers::read(&encoded) else { return Err(TestCaseError::fail("unreadable")) };
            let read: Vec<_> = headers.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
            prop_assert_eq!(&read, &pairs);
            let Lookup::Value(again) = Headers::again(&encoded) else { return Err(TestCaseError::fail("unreadable")) };
            prop_assert!(again.iter().eq(headers.iter()), "looked at once or twice, the pairs are the same");
            for (name, _) in &pairs {
                let expected: Vec<_> =
                    pairs.iter().filter(|(other, _)| other == name).map(|(_, value)| &value[..]).collect();
                prop_assert_eq!(headers.values(name).collect::<Vec<_>>(), expected);
            }
            for cut in 1..encoded.len() {
                prop_assert!(Headers::read(&encoded[..cut]).known().is_none(), "cut at {}", cut);
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn headers_with_something_behind_them_are_unreadable() {
    // The lengths do not cover all of the data. The rest would not be checked.
    for pairs in [vec![], vec![("x", "v")]] {
        let mut encoded = Headers::encode(&pairs);
        encoded.extend(b"x\0admin\0");
        assert!(matches!(Headers::read(&encoded), Lookup::Unreadable), "{pairs:?}");
    }
}

#[test]
fn any_bytes_are_a_message_or_malformed() {
    TestRunner::new(cases(2_000))
        .run(&vec(prop_oneof![0..0x30_u8, any::<u8>()], 0..60), |bytes| {
            let fields: Vec<_> = Fields::of(&bytes).collect();
            prop_assert!(fields.iter().rev().skip(1).all(Result::is_ok), "nothing follows an error");
            let path: &[&[u8]] = &[b"", b"a"];
            for filter in [&b""[..], b"a"] {
                if let Lookup::Value(Found::List(list)) = Metadata::new(&bytes).get(filter, path) {
                    let _any = list.any_string(|_| false);
                }
            }
            let _structure = from_struct(&bytes);
            let _pairs = Headers::again(&bytes).known().map(|headers| headers.iter().count());
            Ok(())
        })
        .unwrap();
}

/// Any document that a `Struct` can contain, without duplicate keys.
fn document() -> impl Strategy<Value = Node> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        (-1000_i32..1000).prop_map(|number| Value::Number(number.into())),
        ".{0,10}".prop_map(Value::String),
        Just(Value::String("[\"a\"]".to_owned())),
    ];
    let value = leaf.prop_map(Node::from).prop_recursive(4, 30, 5, |inner| {
        let list = vec(inner.clone(), 0..5).prop_map(|items| Value::List(items).into());
        let map = proptest::collection::btree_map("[a-c]{0,3}", inner, 0..5)
            .prop_map(|fields| Value::Map(fields.into_iter().collect()).into());
        prop_oneof![list, map]
    });
    proptest::collection::btree_map("[a-c]{0,3}", value, 0..6)
        .prop_map(|fields| Value::Map(fields.into_iter().collect()).into())
}

/// Asserts that every value in the document is found at its path with its type.
fn check(metadata: &Metadata<'_>, path: &mut Vec<String>, node: &Node) -> Result<(), TestCaseError> {
    if !path.is_empty() {
        let found = metadata.get(b"f", path);
        match (&node.value, found) {
            (Value::String(text), Lookup::Value(Found::String(bytes))) => prop_assert_eq!(text.as_bytes(), bytes),
            (Value::List(items), Lookup::Value(Found::List(list))) => {
                let mut strings = Vec::new();
                prop_assert_eq!(
                    list.any_string(|text| {
                        strings.push(text.to_vec());
                        false
                    }),
                    Lookup::Value(false)
                );
                let expected: Vec<_> =
                    items.iter().filter_map(Node::as_str).map(|text| text.as_bytes().to_vec()).collect();
                prop_assert_eq!(strings, expected);
            }
            (Value::Null | Value::Bool(_) | Value::Number(_) | Value::Map(_), Lookup::Value(Found::Other)) => {}
            (value, found) => return Err(TestCaseError::fail(format!("{path:?}: {value:?} is found as {found:?}"))),
        }
    }
    if let Value::Map(entries) = &node.value {
        for (key, inner) in entries {
            path.push(key.clone());
            check(metadata, path, inner)?;
            path.pop();
        }
        path.push("absent".to_owned());
        prop_assert_eq!(metadata.get(b"f", path), Lookup::Absent);
        path.pop();
    }
    Ok(())
}

#[test]
fn metadata_is_read_back_with_its_types() {
    TestRunner::new(cases(300))
        .run(&document(), |document| {
            let request = Request::default().metadata("f", &document).metadata("g", &document);
            let Lookup::Value(metadata) = Attributes::metadata(&request) else {
                return Err(TestCaseError::fail("unreadable"));
            };
            check(&metadata, &mut Vec::new(), &document)?;
            prop_assert_eq!(metadata.get(b"h", &["a"]), Lookup::Absent);
            let fields = structure(&document);
            prop_assert_eq!(from_struct(&fields).unwrap(), document);
            Ok(())
        })
        .unwrap();
}

fn part(field: u8, content: &[u8]) -> Vec<u8> {
    let mut message = vec![field << 3 | 2];
    let mut length = content.len();
    while length >= 0x80 {
        message.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    message.push(u8::try_from(length).unwrap());
    message.extend(content);
    message
}

fn value(node: &Node) -> Vec<u8> {
    match &node.value {
        Value::Null => vec![0x08, 0],
        Value::Number(number) => [&[0x11][..], &number.to_le_bytes()].concat(),
        Value::String(text) => part(3, text.as_bytes()),
        Value::Bool(flag) => vec![0x20, u8::from(*flag)],
        Value::Map(_) => part(5, &structure(node)),
        Value::List(items) => part(6, &items.iter().flat_map(|item| part(1, &value(item))).collect::<Vec<_>>()),
    }
}

/// Encodes a `google.protobuf.Struct` by hand.
pub fn structure(node: &Node) -> Vec<u8> {
    let Value::Map(entries) = &node.value else { panic!("a Struct is an object") };
    entries.iter().flat_map(|(key, node)| part(1, &[part(1, key.as_bytes()), part(2, &value(node))].concat())).collect()
}

/// Encodes a `Metadata` message with the metadata of one filter.
pub fn message(filter: &str, fields: &Node) -> Vec<u8> {
    part(1, &[part(1, filter.as_bytes()), part(2, &structure(fields))].concat())
}

/// Like [`Fields`], by prost alone.
fn by_prost(mut bytes: &[u8]) -> Vec<Option<(u32, Field<'_>)>> {
    fn field<'b>(bytes: &mut &'b [u8]) -> Option<(u32, Field<'b>)> {
        let (number, wire_type) = decode_key(bytes).ok()?;
        let mut take = |length: usize| {
            let (taken, rest) = bytes.split_at_checked(length)?;
            *bytes = rest;
            Some(taken)
        };
        let field = match wire_type {
            WireType::SixtyFourBit => Field::Fixed64(take(8)?.try_into().ok()?),
            WireType::ThirtyTwoBit => Field::Fixed32(take(4)?.try_into().ok()?),
            WireType::Varint => Field::Varint(decode_varint(bytes).ok()?),
            WireType::LengthDelimited => {
                let length = decode_varint(bytes).ok()?;
                let (taken, rest) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
                *bytes = rest;
                Field::Bytes(taken)
            }
            WireType::StartGroup | WireType::EndGroup => return None,
        };
        Some((number, field))
    }
    let mut fields = Vec::new();
    while !bytes.is_empty() && fields.last().is_none_or(Option::is_some) {
        fields.push(field(&mut bytes));
    }
    fields
}

#[test]
fn fields_are_those_that_prost_finds() {
    let fields = |bytes: &[u8]| Fields::of(bytes).map(Result::ok).collect::<Vec<_>>() == by_prost(bytes);
    for first in 0..=255 {
        for second in 0..=255 {
            assert!(fields(&[first, second]) && fields(&[first, second, 1]) && fields(&[first, second, 0x80]));
        }
    }
    let byte = prop_oneof![0..0x10_u8, Just(0x80), Just(0xff), any::<u8>()];
    TestRunner::new(cases(5_000))
        .run(&vec(byte, 0..20), |bytes| {
            prop_assert!(fields(&bytes), "{:?}", bytes);
            Ok(())
        })
        .unwrap();
}

/// The fields of one filter, each with a text.
fn texts(fields: &[(String, String)]) -> Vec<u8> {
    let entry = |(key, text): &(String, String)| {
        part(1, &[part(1, key.as_bytes()), part(2, &part(3, text.as_bytes()))].concat())
    };
    let fields: Vec<_> = fields.iter().flat_map(entry).collect();
    part(1, &[part(1, b"f"), part(2, &fields)].concat())
}

#[test]
fn in_a_large_map_the_last_value_of_a_key_counts() {
    let field = (prop_oneof!["[a-c]{0,2}", "[a-z]{1,12}"], "[a-z]{0,8}");
    TestRunner::new(cases(200))
        .run(&vec(field, 0..300), |fields| {
            let message = texts(&fields);
            let metadata = Metadata::new(&message);
            for (key, _) in &fields {
                let last = fields.iter().rfind(|(other, _)| other == key).map(|(_, text)| text.as_bytes()).unwrap();
                prop_assert_eq!(metadata.get(b"f", &[key]), Lookup::Value(Found::String(last)));
            }
            prop_assert_eq!(metadata.get(b"f", &["A"]), Lookup::Absent);
            prop_assert_eq!(metadata.get(b"g", &["a"]), Lookup::Absent);
            Ok(())
        })
        .unwrap();
}

/// Different texts. A hash table of 2,048 slots looks for all of them in the same slots.
pub fn colliding() -> impl Iterator<Item = String> {
    let slot = |key: &str| {
        let fnv =
            key.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, b| (hash ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
        (fnv.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) & 2_047
    };
    (0..).map(|number| format!("c{number}")).filter(move |key| slot(key) == 7)
}

#[test]
fn keys_that_were_made_to_collide_count_against_the_request() {
    let fields: Vec<_> = colliding().take(300).map(|key| (key, "v".to_owned())).collect();
    let message = texts(&fields);
    assert_eq!(Metadata::new(&message).get(b"f", &["c"]), Lookup::Unreadable);
    let others: Vec<_> = (0..300).map(|number| (format!("c{number}"), "v".to_owned())).collect();
    assert_eq!(Metadata::new(&texts(&others)).get(b"f", &["c"]), Lookup::Absent);
}
