//! Which keys of a JSON Web Key Set Envoy accepts, as its filter `jwt_authn` reads them.
//!
//! Envoy leaves out each key that it does not accept. It refuses a set of which it accepts no key, and with it the listener.
//! This module says so only where it is sure: it does not compute whether the point of an EC key is on its curve.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use mesh_authz::diagnostic::suggestion;
use mesh_authz::document::{Node, Value};

/// The most keys of which [`refusal`] says what is wrong with each.
const MOST_NAMED: usize = 3;

const KEY_TYPES: [&str; 4] = ["RSA", "EC", "OKP", "oct"];

/// The curves of EC keys, with their algorithm and the bytes of a coordinate.
const CURVES: [(&str, &str, usize); 3] = [("P-256", "ES256", 32), ("P-384", "ES384", 48), ("P-521", "ES512", 66)];

/// The bits of the modulus of an RSA key that Envoy accepts.
const RSA_BITS: std::ops::RangeInclusive<usize> = 512..=16384;

const ED25519_BYTES: usize = 32;

/// Envoy ignores the last bits, which are for no byte.
const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

/// Why Envoy refuses a key set. `None`: it accepts a key of it, or it is not certain that it does not.
#[must_use]
pub fn refusal(set: &Node) -> Option<String> {
    if let Some(name) = repeated(set) {
        return Some(format!("`{name}` stands twice in one object"));
    }
    let Some(Value::List(keys)) = set.get("keys").map(|keys| &keys.value) else { return None };
    let mistakes = keys.iter().map(mistake).collect::<Option<Vec<_>>>()?;
    let named = mistakes.iter().enumerate().take(MOST_NAMED);
    let named = named.map(|(index, mistake)| format!("keys[{index}]: {mistake}"));
    let further = match mistakes.len().saturating_sub(MOST_NAMED) {
        0 => None,
        further => Some(format!("and {further} more")),
    };
    Some(named.chain(further).collect::<Vec<_>>().join("; "))
}

/// A name that stands twice in one object. Envoy does not read such JSON.
fn repeated(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Map(entries) => {
            let mut names = BTreeSet::new();
            let twice = entries.iter().find(|(name, _)| !names.insert(name.as_str()));
            twice.map(|(name, _)| name.as_str()).or_else(|| entries.iter().find_map(|(_, node)| repeated(node)))
        }
        Value::List(items) => items.iter().find_map(repeated),
        _ => None,
    }
}

/// Why Envoy does not accept a key.
fn mistake(key: &Node) -> Option<String> {
    let kty = text(key, "kty")?;
    let found = match kty {
        "RSA" => rsa(key),
        "EC" => elliptic(key),
        "OKP" => octet_pair(key),
        "oct" => symmetric(key),
        _ => {
            let near = suggestion(kty, KEY_TYPES).map_or_else(String::new, |near| format!(", but `{near}`"));
            Err(format!("Envoy does not know the `kty` `{kty}`{near}"))
        }
    };
    found.err()
}

fn rsa(key: &Node) -> Result<(), String> {
    algorithm(key, "RS… or PS…", |name| name.starts_with("RS") || name.starts_with("PS"))?;
    let modulus = number(key, "n")?;
    let exponent = number(key, "e")?;
    if ![[3].as_slice(), &[1, 0, 1]].contains(&exponent.as_slice()) {
        return Err("its `e` is not 65537 (`AQAB`) or 3".to_owned());
    }
    let bits = modulus.first().map_or(0, |first| modulus.len() * 8 - first.leading_zeros() as usize);
    if !RSA_BITS.contains(&bits) {
        return Err(format!("its `n` has {bits} bits, and needs {} to {}", RSA_BITS.start(), RSA_BITS.end()));
    }
    if modulus.last().is_some_and(|last| last % 2 == 0) {
        return Err("its `n` is even".to_owned());
    }
    Ok(())
}

fn elliptic(key: &Node) -> Result<(), String> {
    algorithm(key, "ES256, ES384 or ES512", |name| CURVES.iter().any(|(_, algorithm, _)| *algorithm == name))?;
    let given = match key.get("crv") {
        None => "",
        Some(node) => node.as_str().ok_or("its `crv` is not a string")?,
    };
    let algorithm = text(key, "alg").unwrap_or_default();
    let is_it = |(curve, of_curve, _): &&(&str, &str, usize)| match (given, algorithm) {
        ("", "") => *curve == "P-256",
        ("", algorithm) => *of_curve == algorithm,
        (given, _) => *curve == given,
    };
    let Some((curve, of_curve, bytes)) = CURVES.iter().find(is_it) else {
        return Err(format!("Envoy does not know the `crv` `{given}` of an EC key"));
    };
    if !algorithm.is_empty() && algorithm != *of_curve {
        return Err(format!("its `alg` is {algorithm}, and that of {curve} is {of_curve}"));
    }
    let coordinates = [number(key, "x")?, number(key, "y")?];
    if coordinates.iter().any(|coordinate| coordinate.len() > *bytes) {
        return Err(format!("its `x` or `y` is longer than the {bytes} bytes of {curve}"));
    }
    if coordinates.iter().all(Vec::is_empty) {
        return Err("its `x` and `y` are zero".to_owned());
    }
    Ok(())
}

fn octet_pair(key: &Node) -> Result<(), String> {
    algorithm(key, "EdDSA", |name| name == "EdDSA")?;
    match string(key, "crv")? {
        "Ed25519" => {}
        other => return Err(format!("Envoy does not know the `crv` `{other}` of an OKP key, but Ed25519")),
    }
    let length = bytes(key, "x")?.len();
    if length == ED25519_BYTES { Ok(()) } else { Err(format!("its `x` has not {ED25519_BYTES} bytes, but {length}")) }
}

fn symmetric(key: &Node) -> Result<(), String> {
    algorithm(key, "HS256, HS384 or HS512", |name| matches!(name, "HS256" | "HS384" | "HS512"))?;
    if bytes(key, "k")?.is_empty() { Err("its `k` is empty".to_owned()) } else { Ok(()) }
}

/// Checks `alg`, if the key has one. Envoy ignores one that is not a string.
fn algorithm(key: &Node, known: &str, is_known: impl FnOnce(&str) -> bool) -> Result<(), String> {
    match text(key, "alg") {
        None | Some("") => Ok(()),
        Some(name) if is_known(name) => Ok(()),
        Some(name) => Err(format!("its `alg` is `{name}`, and Envoy knows {known} for its `kty`")),
    }
}

fn text<'n>(key: &'n Node, name: &str) -> Option<&'n str> {
    key.get(name)?.as_str()
}

fn string<'n>(key: &'n Node, name: &str) -> Result<&'n str, String> {
    match key.get(name) {
        Some(node) => node.as_str().ok_or_else(|| format!("its `{name}` is not a string")),
        None if key.get("x5c").is_some() => Err(format!("it has no `{name}`, and Envoy does not read `x5c`")),
        None => Err(format!("it has no `{name}`")),
    }
}

/// The bytes of a number, without leading zeros.
fn number(key: &Node, name: &str) -> Result<Vec<u8>, String> {
    Ok(bytes(key, name)?.into_iter().skip_while(|byte| *byte == 0).collect())
}

fn bytes(key: &Node, name: &str) -> Result<Vec<u8>, String> {
    // Envoy skips white space, and takes dots for padding.
    let text: String = string(key, name)?.chars().filter(|c| !c.is_ascii_whitespace() && *c != '\x0b').collect();
    let text = text.trim_end_matches(['=', '.']);
    BASE64URL.decode(text).map_err(|_| format!("its `{name}` is not base64url, which has `-` and `_` for `+` and `/`"))
}
