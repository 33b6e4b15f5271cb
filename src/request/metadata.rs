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
use crate::matcher::same;
use crate::wire::{Field, Fields, Malformed, map_entry, short_field};

/// The name under which the filter that verifies tokens stores its dynamic metadata.
pub const JWT_AUTHN: &str = "envoy.filters.http.jwt_authn";

/// The key under which that filter stores the payload of a token, in Istio's configuration.
pub const DEFAULT_PAYLOAD_KEY: &str = "payload";

/// The name under which Envoy's RBAC filter stores its dynamic metadata.
pub const RBAC: &str = "envoy.filters.http.rbac";

/// The same for connections.
pub const NETWORK_RBAC: &str = "envoy.filters.network.rbac";

/// What the keys of that filter begin with, in Istio's configuration for CUSTOM policies.
pub const STAT_PREFIX: &str = "istio_ext_authz_";

/// What the names of its rules begin with there. `ext_authz` knows by it that it has to ask.
pub const RULE_PREFIX: &str = "istio-ext-authz";

/// The end of the key under which that filter stores whether a CUSTOM policy matches.
pub const ENGINE_RESULT: &str = "shadow_engine_result";

/// The end of the key under which that filter stores which rule of a CUSTOM policy matches. It is absent if none does.
pub const EFFECTIVE_POLICY: &str = "shadow_effective_policy_id";

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
        let maps = IndexedMaps::default();
        let Some((innermost, outer)) = path.split_last() else { return Lookup::Absent };
        maps.innermost(self.0, filter, outer).and_then(|map| maps.value(map, innermost.as_ref()))
    }

    /// The keys of the map that `filter` has set under the keys of `path`, for messages. Empty if there is no such map.
    #[must_use]
    pub fn keys<K: AsRef<[u8]>>(&self, filter: &[u8], path: &[K]) -> Vec<&'a [u8]> {
        let map = IndexedMaps::default().innermost(self.0, filter, path).known().unwrap_or_default();
        entries(map).filter_map(|entry| entry.ok().map(|(key, _)| key)).collect()
    }

    /// The kind of a value that is neither a string nor a list, in words: `a number`. `None` for other values.
    #[must_use]
    pub fn kind_of_other<K: AsRef<[u8]>>(&self, filter: &[u8], path: &[K]) -> Option<&'static str> {
        let maps = IndexedMaps::default();
        let (innermost, outer) = path.split_last()?;
        let map = maps.innermost(self.0, filter, outer).known()?;
        let value = maps.entry(map, innermost.as_ref()).known()?;
        match Fields::of(value).last()?.ok()? {
            (1, _) => Some("null"),
            (2, _) => Some("a number"),
            (4, _) => Some("a boolean"),
            (5, _) => Some("an object"),
            _ => None,
        }
    }

    /// Like [`Self::get`]. Each large map is read once, if all calls for a request have the same `maps`.
    pub(crate) fn get_with(
        &self,
        maps: &IndexedMaps<'a>,
        filter: &'a [u8],
        path: &'a [Box<[u8]>],
    ) -> Lookup<Value<'a>> {
        let Some((innermost, outer)) = path.split_last() else { return Lookup::Absent };
        let map = match maps.last.get() {
            Some(last) if same(last.filter, filter) && same_keys(last.outer, outer) => last.map,
            _ => {
                let map = maps.innermost(self.0, filter, outer);
                maps.last.set(Some(Last { filter, outer, map }));
                map
            }
        };
        map.and_then(|map| maps.value(map, innermost))
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
    /// Where a value was last looked for. Nearly all values that policies ask for are claims of one token.
    last: Cell<Option<Last<'a>>>,
}

/// The innermost map on the way to a value.
#[derive(Clone, Copy, Debug)]
struct Last<'a> {
    filter: &'a [u8],
    outer: &'a [Box<[u8]>],
    map: Lookup<&'a [u8]>,
}

fn same_keys(ones: &[Box<[u8]>], others: &[Box<[u8]>]) -> bool {
    ones.len() == others.len() && ones.iter().zip(others).all(|(one, other)| same(one, other))
}

type IndexedMap<'a> = Result<ByteMap<'a, &'a [u8]>, Malformed>;

/// A map whose message is shorter than this has no index, so that no memory is allocated for it.
const LARGE: usize = 512;

/// After so many bytes, small maps have an index too.
const MOST_READ: usize = 16 * LARGE;

impl<'a> IndexedMaps<'a> {
    /// The innermost map on the way to a value: what `filter` has set, or the struct under the keys `outer` of it.
    fn innermost<K: AsRef<[u8]>>(&self, metadata: &'a [u8], filter: &[u8], outer: &[K]) -> Lookup<&'a [u8]> {
        // Metadata.filter_metadata and Struct.fields have the same shape: a map that is field 1.
        let set = self.entry(metadata, filter);
        outer.iter().fold(set, |map, key| {
            map.and_then(|map| self.entry(map, key.as_ref())).and_then(|value| match kind(value) {
                Ok(Kind::Struct(inner)) => Lookup::Value(inner),
                Ok(_) => Lookup::Absent,
                Err(Malformed) => Lookup::Unreadable,
            })
        })
    }

    /// The value of the key `wanted` in a map.
    fn value(&self, map: &'a [u8], wanted: &[u8]) -> Lookup<Value<'a>> {
        self.entry(map, wanted).and_then(|value| match kind(value) {
            Ok(Kind::String(bytes)) => Lookup::Value(Value::String(bytes)),
            Ok(Kind::List(list)) => Lookup::Value(Value::List(List(list))),
            Ok(Kind::Struct(_) | Kind::Other) => Lookup::Value(Value::Other),
            Err(Malformed) => Lookup::Unreadable,
        })
    }

    /// The encoded value of the key `wanted` in the map that is field 1 of the message. If there are several, the last
    /// one counts.
    fn entry(&self, message: &'a [u8], wanted: &[u8]) -> Lookup<&'a [u8]> {
        if message.len() < LARGE && self.read.get() < MOST_READ {
            self.read.update(|read| read.saturating_add(message.len()));
            let mut found = Lookup::Absent;
            for entry in entries(message) {
                match entry {
                    Ok((key, value)) if key == wanted => found = Lookup::Value(value),
                    Ok(_) => {}
                    Err(Malformed) => return Lookup::Unreadable,
                }
            }
            return found;
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
            Some((_, Ok(map))) => map.get(wanted).map_or(Lookup::Absent, |value| Lookup::Value(*value)),
            Some((_, Err(Malformed))) | None => Lookup::Unreadable,
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
