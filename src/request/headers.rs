//! A map in the encoding of a Proxy-Wasm host: request headers, and the labels of the workload.
//!
//! | part, in this order | content |
//! | --- | --- |
//! | count | the number of pairs |
//! | lengths | for each pair, the length of its name and the length of its value |
//! | data | for each pair, its name, a NUL, its value, a NUL |
//!
//! Numbers have 32 bits and are little-endian. Pairs with the same name stay separate. Values can be any bytes.

use super::Lookup;

/// Whether the text is a valid name of a header: a token of RFC 9110. Envoy does not start if its configuration names a
/// header in another way.
#[must_use]
pub fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// The headers whose lines Envoy joins, sorted by name. An end-to-end test asks Envoy. It joins those of `te` too, of which it keeps one value.
pub const JOINED: [&str; 36] = [
    "accept",
    "accept-encoding",
    "access-control-request-headers",
    "access-control-request-method",
    "authorization",
    "cache-control",
    "content-encoding",
    "content-type",
    "expect",
    "grpc-accept-encoding",
    "grpc-timeout",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "origin",
    "pragma",
    "proxy-status",
    "referer",
    "user-agent",
    "via",
    "x-client-trace-id",
    "x-envoy-attempt-count",
    "x-envoy-decorator-operation",
    "x-envoy-downstream-service-cluster",
    "x-envoy-downstream-service-node",
    "x-envoy-external-address",
    "x-envoy-is-timeout-retry",
    "x-envoy-original-host",
    "x-envoy-original-path",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-request-id",
];

/// Whether Envoy joins the lines of the header, so that a request has one value of it. `name` is in lower case.
#[must_use]
pub fn is_joined(name: &[u8]) -> bool {
    name == b"te" || JOINED.iter().any(|joined| joined.as_bytes() == name)
}

/// Pairs of names and values, in the encoding of the host. [`Self::read`] checks the encoding.
#[derive(Clone, Copy, Debug)]
pub struct Headers<'a> {
    lengths: &'a [u8],
    data: &'a [u8],
}

const LENGTHS_OF_A_PAIR: usize = 8;

impl<'a> Headers<'a> {
    /// Reads the encoding, and checks every pair. Unreadable if the count and the lengths do not fit the data.
    #[must_use]
    pub fn read(bytes: &'a [u8]) -> Lookup<Self> {
        Self::parse(bytes).map_or(Lookup::Unreadable, Lookup::Value)
    }

    /// Reads bytes that [`Self::read`] has accepted before, without checking every pair again. For other bytes,
    /// iteration yields the pairs before the first pair that does not fit.
    #[must_use]
    pub fn again(bytes: &'a [u8]) -> Lookup<Self> {
        Self::split(bytes).map_or(Lookup::Unreadable, |(headers, _)| Lookup::Value(headers))
    }

    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (headers, count) = Self::split(bytes)?;
        let mut pairs = headers.iter();
        let complete = pairs.by_ref().count() == count && pairs.data.is_empty();
        complete.then_some(headers)
    }

    /// Splits the encoding into the lengths and the data. Also returns the number of pairs that it claims to have.
    fn split(bytes: &'a [u8]) -> Option<(Self, usize)> {
        if bytes.is_empty() {
            return Some((Self { lengths: &[], data: &[] }, 0));
        }
        let (count, rest) = bytes.split_first_chunk::<4>()?;
        let count = usize::try_from(u32::from_le_bytes(*count)).ok()?;
        let (lengths, data) = rest.split_at_checked(count.checked_mul(LENGTHS_OF_A_PAIR)?)?;
        Some((Self { lengths, data }, count))
    }

    /// All pairs, in order.
    #[must_use]
    pub fn iter(self) -> Pairs<'a> {
        Pairs { lengths: self.lengths, data: self.data }
    }

    /// The values of all headers with this name. `name` must be in lower case.
    #[must_use]
    pub fn values(self, name: &'a [u8]) -> HeaderValues<'a> {
        HeaderValues { others: self.iter(), name }
    }

    /// Encodes pairs in the same way as the host.
    #[must_use]
    pub fn encode<N: AsRef<[u8]>, V: AsRef<[u8]>>(pairs: &[(N, V)]) -> Vec<u8> {
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
        let mut encoded = u32::try_from(pairs.len()).unwrap_or(u32::MAX).to_le_bytes().to_vec();
        for (name, value) in pairs {
            encoded.extend(length(name.as_ref()));
            encoded.extend(length(value.as_ref()));
        }
        for (name, value) in pairs {
            encoded.extend([name.as_ref(), b"\0", value.as_ref(), b"\0"].concat());
        }
        encoded
    }
}

/// An iterator over the pairs of [`Headers`], as (name, value).
#[derive(Clone, Debug)]
pub struct Pairs<'a> {
    lengths: &'a [u8],
    data: &'a [u8],
}

impl<'a> Pairs<'a> {
    /// The value of the next header with this name. If the length of a name differs, the name itself is not read.
    fn next_value_of(&mut self, name: &[u8]) -> Option<&'a [u8]> {
        let mut start: usize = 0;
        let (pairs, _) = self.lengths.as_chunks::<LENGTHS_OF_A_PAIR>();
        for (number, lengths) in (1..).zip(pairs) {
            let [n0, n1, n2, n3, v0, v1, v2, v3] = *lengths;
            let name_length = usize::try_from(u32::from_le_bytes([n0, n1, n2, n3])).ok()?;
            let value_length = usize::try_from(u32::from_le_bytes([v0, v1, v2, v3])).ok()?;
            let value = start.checked_add(name_length)?.checked_add(1)?;
            let end = value.checked_add(value_length)?;
            if name_length == name.len() && self.data.get(start..)?.starts_with(name) {
                let found = self.data.get(value..end)?;
                self.lengths = self.lengths.get(LENGTHS_OF_A_PAIR.checked_mul(number)?..)?;
                self.data = self.data.get(end.checked_add(1)?..)?;
                return Some(found);
            }
            start = end.checked_add(1)?;
        }
        self.lengths = &[];
        None
    }
}

impl<'a> Iterator for Pairs<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (name_length, rest) = self.lengths.split_first_chunk::<4>()?;
        let (value_length, lengths) = rest.split_first_chunk::<4>()?;
        let mut data = self.data;
        let name = take_terminated(&mut data, u32::from_le_bytes(*name_length))?;
        let value = take_terminated(&mut data, u32::from_le_bytes(*value_length))?;
        self.lengths = lengths;
        self.data = data;
        Some((name, value))
    }
}

/// An iterator over the values of one header.
#[derive(Clone, Debug)]
pub struct HeaderValues<'a> {
    others: Pairs<'a>,
    name: &'a [u8],
}

impl HeaderValues<'_> {
    /// How many bytes are read to find all values: the lengths of all headers.
    pub(crate) fn bytes_to_look_through(&self) -> usize {
        self.others.lengths.len()
    }
}

impl<'a> Iterator for HeaderValues<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<Self::Item> {
        self.others.next_value_of(self.name)
    }
}

/// Takes `length` bytes from the front of `data`, and the NUL after them. Returns the bytes without the NUL.
fn take_terminated<'a>(data: &mut &'a [u8], length: u32) -> Option<&'a [u8]> {
    let (taken, rest) = data.split_at_checked(usize::try_from(length).ok()?)?;
    let ([0], rest) = rest.split_first_chunk::<1>()? else { return None };
    *data = rest;
    Some(taken)
}
