//! Dynamic metadata: what `jwt_authn` and other filters have found out about a request.
//!
//! Envoy passes it to a filter as one `envoy.config.core.v3.Metadata` message. This module reads the message itself,
//! because that keeps the type of every value: a string that looks like a list is a string, the number 5 is not "5",
//! and null is not a value. All three distinctions are lost if a filter asks the host for a single value by its path.
//!
//! The message is read in place, down to the wanted value. A large map gets an index when it is first looked into.

use std::cell::{Cell, RefCell};

use super::Lookup;
use super::byte_map::ByteMap;
use crate::wire::{Field, Fields, Malformed, map_entry, short_field};

/// The name under which the filter that verifies tokens stores its dynamic metadata.
pub const JWT_AUTHN: &str = "envoy.filters.http.jwt_authn";

/// The key under which that filter stores the payload of a token, in Istio's configuration.
pub const DEFAULT_PAYLOAD_KEY: &str = "payload";

/// An encoded `envoy.config.core.v3.Metadata` message.
#[derive(Clone, Copy, Debug)]
pub struct Metadata<'a>(&'a [u8]);

/// A value in dynamic metadata. Only kinds of values that policies can distinguish have a variant of their own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// A string. It can be any bytes.
    String(&'a [u8]),
    /// A list of values.
    List(List<'a>),
    /// Null, a number, a boolean or a struct. No value of a policy matches it.
    Other,
}

/// A list in dynamic metadata.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct List<'a>(&'a [u8]);

impl<'a> Metadata<'a> {
    /// Wraps an encoded message. Nothing is read or checked yet.
    #[must_use]
    pub fn new(message: &'a [u8]) -> Self {
        Self(message)
    }

    /// The value that `filter` has set under the keys of `path`, outermost key first. A malformed message is
    /// unreadable.
    #[must_use]
    pub fn get<K: AsRef<[u8]>>(&self, filter: &[u8], path: &[K]) -> Lookup<Value<'a>> {
        self.get_with(&IndexedMaps::default(), filter, path)
    }

    /// Like [`Self::get`]. Each large map is read once, if all calls for a request have the same `maps`.
    pub(crate) fn get_with<K: AsRef<[u8]>>(
        &self,
        maps: &IndexedMaps<'a>,
        filter: &[u8],
        path: &[K],
    ) -> Lookup<Value<'a>> {
        match find(self.0, maps, filter, path) {
            Ok(Some(value)) => Lookup::Value(value),
            Ok(None) => Lookup::Absent,
            Err(Malformed) => Lookup::Unreadable,
        }
    }
}

/// The maps of a request's metadata that are large, or read again and again, each of them with an index. A token can have
/// thousands of claims, and thousands of rules can look for one.
#[derive(Debug, Default)]
pub(crate) struct IndexedMaps<'a> {
    /// The bytes that were read without an index.
    read: Cell<usize>,
    /// By address and length of the message.
    maps: RefCell<Vec<((usize, usize), IndexedMap<'a>)>>,
}

type IndexedMap<'a> = Result<ByteMap<'a, &'a [u8]>, Malformed>;

/// A map whose message is shorter than this has no index, so that no memory is allocated for it.
const LARGE: usize = 512;

/// After so many bytes, small maps have an index too.
const MOST_READ: usize = 16 * LARGE;

impl<'a> IndexedMaps<'a> {
    /// The value of the key `wanted` in the map that is field 1 of the message. If there are several, the last one
    /// counts.
    fn entry(&self, message: &'a [u8], wanted: &[u8]) -> Result<Option<&'a [u8]>, Malformed> {
        if message.len() < LARGE && self.read.get() < MOST_READ {
            self.read.update(|read| read.saturating_add(message.len()));
            let named = entries(message).filter(|entry| !matches!(entry, Ok((key, _)) if *key != wanted));
            return named.map(|entry| entry.map(|(_, value)| value)).try_fold(None, |_, value| value.map(Some));
        }
        let key = (message.as_ptr().addr(), message.len());
        let mut maps = self.maps.borrow_mut();
        let position = maps.binary_search_by_key(&key, |(key, _)| *key).unwrap_or_else(|position| {
            let all = entries(message).collect::<Result<_, _>>();
            // Only keys that were made to have similar hashes make no map. This counts against the request.
            maps.insert(position, (key, all.and_then(|all| ByteMap::new(all).ok_or(Malformed))));
            position
        });
        match maps.get(position) {
            Some((_, Ok(map))) => Ok(map.get(wanted).copied()),
            Some((_, Err(Malformed))) | None => Err(Malformed),
        }
    }
}

/// The entries of the map that is field 1 of the message.
fn entries(message: &[u8]) -> impl Iterator<Item = Result<(&[u8], &[u8]), Malformed>> {
    Fields::of(message).filter_map(|field| match field {
        Ok((1, Field::Bytes(bytes))) => Some(map_entry(bytes)),
        Ok(_) => None,
        Err(Malformed) => Some(Err(Malformed)),
    })
}

fn find<'a, K: AsRef<[u8]>>(
    metadata: &'a [u8],
    maps: &IndexedMaps<'a>,
    filter: &[u8],
    path: &[K],
) -> Result<Option<Value<'a>>, Malformed> {
    // Metadata.filter_metadata and Struct.fields have the same shape: a map that is field 1.
    let Some(mut fields) = maps.entry(metadata, filter)? else { return Ok(None) };
    let Some((innermost, outer)) = path.split_last() else { return Ok(None) };
    for key in outer {
        let Some(message) = maps.entry(fields, key.as_ref())? else { return Ok(None) };
        let Kind::Struct(inner) = kind(message)? else { return Ok(None) };
        fields = inner;
    }
    let Some(message) = maps.entry(fields, innermost.as_ref())? else { return Ok(None) };
    Ok(Some(match kind(message)? {
        Kind::String(bytes) => Value::String(bytes),
        Kind::List(list) => Value::List(List(list)),
        Kind::Struct(_) | Kind::Other => Value::Other,
    }))
}

enum Kind<'a> {
    String(&'a [u8]),
    Struct(&'a [u8]),
    List(&'a [u8]),
    Other,
}

/// The kind and the content of a `google.protobuf.Value`.
fn kind(value: &[u8]) -> Result<Kind<'_>, Malformed> {
    // Nearly every value is a short string.
    if let Some(text) = short_field(value, 3) {
        return Ok(Kind::String(text));
    }
    let mut kind = Kind::Other;
    for field in Fields::of(value) {
        kind = match field? {
            (3, Field::Bytes(bytes)) => Kind::String(bytes),
            (5, Field::Bytes(bytes)) => Kind::Struct(bytes),
            (6, Field::Bytes(bytes)) => Kind::List(bytes),
            (1 | 4, Field::Varint(_)) | (2, Field::Fixed64(_)) => Kind::Other,
            _ => return Err(Malformed),
        };
    }
    Ok(kind)
}

impl<'a> List<'a> {
    /// The encoded list.
    pub(crate) fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// Whether `matches` accepts one of the elements that are strings. Unreadable if the list is malformed before such
    /// an element.
    pub fn any_string(&self, mut matches: impl FnMut(&'a [u8]) -> bool) -> Lookup<bool> {
        for field in Fields::of(self.0) {
            let element = match field {
                Ok((1, Field::Bytes(element))) => element,
                Ok(_) => continue,
                Err(Malformed) => return Lookup::Unreadable,
            };
            match kind(element) {
                Ok(Kind::String(bytes)) if matches(bytes) => return Lookup::Value(true),
                Ok(_) => {}
                Err(Malformed) => return Lookup::Unreadable,
            }
        }
        Lookup::Value(false)
    }
}
