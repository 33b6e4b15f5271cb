//! Dynamic metadata: what `jwt_authn` and other filters have found out about a request.
//!
//! Envoy hands it to a filter as one `envoy.config.core.v3.Metadata` message. Reading the message itself keeps every
//! value's type: a string that looks like a list is a string, the number 5 is not "5", and null is nothing. (Asking the
//! host for a single value by its path would lose all three.) It is walked in place, down to the one value asked for.

use super::Lookup;
use crate::wire::{Field, Fields, Malformed, map_entry};

/// The filter that verifies tokens, as it names itself in dynamic metadata.
pub const JWT_AUTHN: &str = "envoy.filters.http.jwt_authn";

/// Where it puts a token's payload, as Istio configures it.
pub const DEFAULT_PAYLOAD_KEY: &str = "payload";

/// A `Metadata` message.
#[derive(Clone, Copy, Debug)]
pub struct Metadata<'a>(&'a [u8]);

/// A value in it, as far as policies can tell values apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// A string; any bytes.
    String(&'a [u8]),
    /// A list.
    List(List<'a>),
    /// Null, a number, a boolean or a struct: no value of a policy matches it.
    Other,
}

/// A list in dynamic metadata.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct List<'a>(&'a [u8]);

impl<'a> Metadata<'a> {
    /// Reads the message from its encoding.
    #[must_use]
    pub fn new(message: &'a [u8]) -> Self {
        Self(message)
    }

    /// The value that `filter` has set under the keys of `path`, outermost first. A malformed message is unreadable.
    #[must_use]
    pub fn get<K: AsRef<[u8]>>(&self, filter: &[u8], path: &[K]) -> Lookup<Value<'a>> {
        match find(self.0, filter, path) {
            Ok(Some(value)) => Lookup::Value(value),
            Ok(None) => Lookup::Absent,
            Err(Malformed) => Lookup::Unreadable,
        }
    }
}

fn find<'a, K: AsRef<[u8]>>(metadata: &'a [u8], filter: &[u8], path: &[K]) -> Result<Option<Value<'a>>, Malformed> {
    // Metadata.filter_metadata and Struct.fields have the same shape: a map that is field 1.
    let Some(mut fields) = entry(metadata, filter)? else { return Ok(None) };
    let Some((innermost, outer)) = path.split_last() else { return Ok(None) };
    for key in outer {
        let Some(message) = entry(fields, key.as_ref())? else { return Ok(None) };
        let Kind::Struct(inner) = kind(message)? else { return Ok(None) };
        fields = inner;
    }
    let Some(message) = entry(fields, innermost.as_ref())? else { return Ok(None) };
    Ok(Some(match kind(message)? {
        Kind::String(bytes) => Value::String(bytes),
        Kind::List(list) => Value::List(List(list)),
        Kind::Struct(_) | Kind::Other => Value::Other,
    }))
}

/// The entry of this key in the map that is field 1 of a message.
fn entry<'a>(message: &'a [u8], wanted: &[u8]) -> Result<Option<&'a [u8]>, Malformed> {
    let mut found = None;
    for field in Fields::of(message) {
        if let (1, Field::Bytes(bytes)) = field? {
            let (key, value) = map_entry(bytes)?;
            if key == wanted {
                found = Some(value);
            }
        }
    }
    Ok(found)
}

enum Kind<'a> {
    String(&'a [u8]),
    Struct(&'a [u8]),
    List(&'a [u8]),
    Other,
}

/// What a `google.protobuf.Value` holds.
fn kind(value: &[u8]) -> Result<Kind<'_>, Malformed> {
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
    /// Whether an element that is a string satisfies `matches`; unreadable if the list is malformed before one does.
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
