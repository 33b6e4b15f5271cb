//! Any bytes as what Envoy answers for a property: headers, addresses, labels, dynamic metadata.

use mesh_authz::document::from_struct;
use mesh_authz::filter::property;
use mesh_authz::request::metadata::Value;
use mesh_authz::request::{Headers, Lookup, Metadata, is_normalized, without_query};
use mesh_authz::wire::Fields;

/// Decodes the bytes as each of the properties.
pub fn run(input: &[u8]) {
    headers(input);
    message(input);
    let _address = property::ip(input);
    if let Lookup::Value(address) = property::ip_of_address(input) {
        assert!(input.len() > 2, "{address} has a port");
    }
    assert!(property::port(input).known().is_none() || input.len() == 8);
    let _text = property::text(input);
    let _labels = property::labels(input);
    let path = without_query(input);
    assert!(input.starts_with(path));
    let _is_normalized = is_normalized(path);
}

fn headers(input: &[u8]) {
    let again: Vec<_> = Headers::again(input).known().map(|headers| headers.iter().collect()).unwrap_or_default();
    let Lookup::Value(headers) = Headers::read(input) else { return };
    let pairs: Vec<_> = headers.iter().collect();
    assert_eq!(pairs, again);
    assert!(input.is_empty() || Headers::encode(&pairs) == input, "every byte is read");
    for (name, _) in &pairs {
        let expected = pairs.iter().filter(|(other, _)| other == name).map(|(_, value)| *value);
        assert!(headers.values(name).eq(expected));
    }
}

fn message(input: &[u8]) {
    assert!(Fields::of(input).collect::<Vec<_>>().iter().rev().skip(1).all(Result::is_ok), "nothing follows an error");
    let metadata = Metadata::new(input);
    let paths: [&[&[u8]]; 4] = [&[], &[b"a"], &[b"", b"a"], &[b"payload", b"iss"]];
    for filter in [&b""[..], b"a", b"envoy.filters.http.jwt_authn"] {
        for path in paths {
            if let Lookup::Value(Value::List(list)) = metadata.get(filter, path) {
                let _any = list.any_string(|_| false);
            }
        }
    }
    let _structure = from_struct(input);
}
