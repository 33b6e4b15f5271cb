//! The protobuf wire format, read in place: the fields of a message, one after another, without a copy.
//!
//! It reads two inputs: a configuration that arrives as a `Struct`, and the dynamic metadata of a request. A malformed
//! message yields an error, and then no more fields. No length in a message is trusted.

use prost::encoding::{WireType, decode_key, decode_varint};

/// One field of a message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Field<'a> {
    /// An integer, a boolean or an enumeration.
    Varint(u64),
    /// A double, or another 64-bit number.
    Fixed64([u8; 8]),
    /// A 32-bit number.
    Fixed32([u8; 4]),
    /// A string, bytes or a message.
    Bytes(&'a [u8]),
}

/// The message does not follow the wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// An iterator over the fields of a message, as (field number, value).
#[derive(Clone, Debug)]
pub struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// Iterates over the fields of this message, which is in its binary encoding.
    #[must_use]
    pub fn of(message: &'a [u8]) -> Self {
        Self(message)
    }

    fn field(&mut self) -> Result<(u32, Field<'a>), Malformed> {
        let (number, wire_type) = self.key()?;
        let field = match wire_type {
            WireType::Varint => Field::Varint(self.varint()?),
            WireType::SixtyFourBit => Field::Fixed64(self.chunk()?),
            WireType::ThirtyTwoBit => Field::Fixed32(self.chunk()?),
            WireType::LengthDelimited => {
                let length = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
                let (bytes, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
                self.0 = rest;
                Field::Bytes(bytes)
            }
            WireType::StartGroup | WireType::EndGroup => return Err(Malformed),
        };
        Ok((number, field))
    }

    #[inline]
    fn key(&mut self) -> Result<(u32, WireType), Malformed> {
        match self.0 {
            // Most keys are one byte. A message can have tens of thousands of them.
            [key @ 8..=0x7f, rest @ ..] => {
                self.0 = rest;
                Ok((u32::from(key >> 3), WireType::try_from(u64::from(key & 7)).map_err(|_| Malformed)?))
            }
            _ => decode_key(&mut self.0).map_err(|_| Malformed),
        }
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, Malformed> {
        match self.0 {
            [number @ ..=0x7f, rest @ ..] => {
                self.0 = rest;
                Ok(u64::from(*number))
            }
            _ => decode_varint(&mut self.0).map_err(|_| Malformed),
        }
    }

    /// The bytes of the next field, if it is a field with this number, and the lengths of number and bytes have one
    /// byte.
    #[inline]
    fn short_bytes(&mut self, number: u8) -> Option<&'a [u8]> {
        let [key, length @ ..=0x7f, rest @ ..] = self.0 else { return None };
        if *key != (number << 3) | 2 {
            return None;
        }
        let (bytes, rest) = rest.split_at_checked(usize::from(*length))?;
        self.0 = rest;
        Some(bytes)
    }

    fn chunk<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (chunk, rest) = self.0.split_first_chunk::<N>().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*chunk)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Field<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

/// The key and the value of one entry of a `map<string, message>`. If one of them is missing, it is empty.
///
/// # Errors
/// The entry is malformed.
pub(crate) fn map_entry(entry: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    if let Some(short) = short_entry(entry) {
        return Ok(short);
    }
    let (mut key, mut value): (&[u8], &[u8]) = (&[], &[]);
    for field in Fields::of(entry) {
        match field? {
            (1, Field::Bytes(bytes)) => key = bytes,
            (2, Field::Bytes(bytes)) => value = bytes,
            (1 | 2, _) => return Err(Malformed),
            _ => {}
        }
    }
    Ok((key, value))
}

/// Like [`map_entry`]. Only for short entries, as nearly all are. A message can have tens of thousands of them.
fn short_entry(entry: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut fields = Fields::of(entry);
    let found = (fields.short_bytes(1)?, fields.short_bytes(2)?);
    fields.0.is_empty().then_some(found)
}

/// The bytes of a message that is only this field, and short.
#[inline]
pub(crate) fn short_field(message: &[u8], number: u8) -> Option<&[u8]> {
    let mut fields = Fields::of(message);
    let bytes = fields.short_bytes(number)?;
    fields.0.is_empty().then_some(bytes)
}
