//! Which keys of a JSON Web Key Set a cluster accepts. istiod refuses a set that has one key that it does not accept.
//!
//! Envoy accepts fewer: see [`super::refusal`].

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use mesh_authz::document::{Node, Value};

/// The fields of every key that hold text. `x58` is what istiod's library reads in the place of `x5u`.
const TEXTS: [&str; 6] = ["alg", "kid", "use", "x58", "x5t", "x5t#S256"];

/// The kinds of key: the fields that each must have, and the further fields of a private key. All but `crv` hold bytes.
const KINDS: [(&str, &[&str], &[&str]); 4] = [
    ("RSA", &["e", "n"], &["d", "dp", "dq", "p", "q", "qi"]),
    ("EC", &["crv", "x", "y"], &["d"]),
    ("OKP", &["crv", "x"], &["d"]),
    ("oct", &["k"], &[]),
];

/// Why a cluster does not accept a key.
pub(super) fn mistake(key: &Node) -> Option<String> {
    let kty = match key.get("kty") {
        Some(node) => node.as_str().ok_or("its `kty` is not a string"),
        None => Err("it has no `kty`"),
    };
    let kty = match kty {
        Ok(kty) => kty,
        Err(mistake) => return Some(mistake.to_owned()),
    };
    let Some((_, needed, private)) = KINDS.iter().find(|(known, ..)| *known == kty) else {
        return Some(format!("`{kty}` is no `kty` of RSA, EC, OKP and oct"));
    };
    if let Some(missing) = needed.iter().find(|name| key.get(name).is_none()) {
        return Some(format!("it has no `{missing}`"));
    }
    let is_private = key.get("d").is_some();
    let of_kind = needed.iter().chain(private.iter().filter(|_| is_private));
    let texts = TEXTS.iter().chain(of_kind.clone().filter(|name| **name == "crv"));
    let bytes = of_kind.filter(|name| **name != "crv");
    texts
        .filter_map(|name| wrong(key, name, |_| true))
        .chain(bytes.filter_map(|name| wrong(key, name, is_base64)))
        .chain(["key_ops", "x5c"].iter().filter_map(|name| wrong_list(key, name)))
        .next()
}

/// Why the field is wrong. It is a text, or null.
fn wrong(key: &Node, name: &str, is_right: fn(&str) -> bool) -> Option<String> {
    match &key.get(name)?.value {
        Value::Null => None,
        Value::String(text) if is_right(text) => None,
        Value::String(_) => Some(format!("its `{name}` is not base64url")),
        _ => Some(format!("its `{name}` is not a string")),
    }
}

fn wrong_list(key: &Node, name: &str) -> Option<String> {
    let is_text = |item: &Node| item.as_str().is_some_and(|text| name != "x5c" || is_base64(text));
    match &key.get(name)?.value {
        Value::Null => None,
        Value::List(items) if items.iter().all(is_text) => None,
        _ => Some(format!("its `{name}` is not a list of texts")),
    }
}

/// Whether it is base64 of any kind: with or without padding, with `-_` or with `+/`.
fn is_base64(text: &str) -> bool {
    let text: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    let padding =
        if text.ends_with('=') { DecodePaddingMode::RequireCanonical } else { DecodePaddingMode::RequireNone };
    let alphabet = if text.contains(['+', '/']) { &alphabet::STANDARD } else { &alphabet::URL_SAFE };
    let config = GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true).with_decode_padding_mode(padding);
    GeneralPurpose::new(alphabet, config).decode(text).is_ok()
}
