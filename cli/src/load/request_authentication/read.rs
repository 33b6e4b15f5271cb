//! Reads the typed resource from a document, and reports every mistake in it.

use std::time::Duration;

use mesh_authz::diagnostic::Diagnostics;
use mesh_authz::document::{Node, Object, Value, boolean, from_json, list, list_of_some, one_of, string};
use mesh_authz::policy::Target;
use mesh_authz::policy::resource::{
    Metadata, envelope, missing, name_of, selector, target, target_reference, target_references,
};
use mesh_authz::request::headers;

use super::key_set;
use super::uri::KeysUri;
use super::{ClaimToHeader, FromHeader, JwtRule, Keys, Presence, RequestAuthentication};

/// The kind of this resource.
pub const KIND: &str = "RequestAuthentication";

const MOST_RULES: usize = 4096;
const MOST_SPACE_DELIMITED: usize = 64;

const PRESENCES: [(&str, Presence); 2] = [("OPTIONAL", Presence::Optional), ("REQUIRED", Presence::Required)];

/// Reads and validates one resource.
///
/// Returns `None` if it is invalid in any way; then at least one error was reported.
pub fn request_authentication(node: &Node, diagnostics: &mut Diagnostics) -> Option<RequestAuthentication> {
    diagnostics.policy(|| name_of(node), |diagnostics| resource(node, diagnostics))
}

fn resource(node: &Node, diagnostics: &mut Diagnostics) -> Option<RequestAuthentication> {
    let errors_before = diagnostics.count();
    let mut object = Object::open(node, diagnostics)?;
    let metadata = envelope(&mut object, KIND, diagnostics);
    let spec = object.read("spec", diagnostics, spec).flatten();
    object.ignore("status");
    object.finish(diagnostics);
    let (target, rules) = spec.unwrap_or((Target::Everything, Vec::new()));
    let Metadata { name, revision, .. } = metadata?;
    let resource = RequestAuthentication { name: name?, revision, target, rules };
    if diagnostics.count() == errors_before { Some(resource) } else { None }
}

fn spec(node: &Node, diagnostics: &mut Diagnostics) -> Option<(Target, Vec<JwtRule>)> {
    let mut object = Object::open(node, diagnostics)?;
    let selector = object.read("selector", diagnostics, selector);
    let target_ref = object
        .read("targetRef", diagnostics, |node, diagnostics| target_reference(node, diagnostics).into_iter().collect());
    let target_refs = object.read("targetRefs", diagnostics, target_references);
    let target = target(selector, target_ref, target_refs, diagnostics);
    let rules = object.read("jwtRules", diagnostics, |node, diagnostics| {
        let rules = list_of_some(node, diagnostics, rule);
        if rules.len() > MOST_RULES {
            diagnostics.error(format!("has {} entries, at most {MOST_RULES} are allowed", rules.len()));
        }
        rules
    });
    object.finish(diagnostics);
    Some((target, rules.unwrap_or_default()))
}

fn rule(node: &Node, diagnostics: &mut Diagnostics) -> Option<JwtRule> {
    let mut object = Object::open(node, diagnostics)?;
    let issuer = object.read("issuer", diagnostics, non_empty).flatten();
    let audiences = non_empties(&mut object, "audiences", diagnostics);
    let keys = keys(&mut object, diagnostics);
    if !["issuer", "jwksUri", "jwks_uri"].iter().any(|name| object.has(name)) {
        diagnostics.field("issuer", |diagnostics| {
            diagnostics.error_with_hint("is missing", "write the `iss` of the tokens; only jwksUri does without");
        });
    }
    let rule = JwtRule {
        issuer,
        audiences,
        keys,
        from_headers: object
            .read("fromHeaders", diagnostics, |node, diagnostics| list_of_some(node, diagnostics, from_header))
            .unwrap_or_default(),
        from_params: non_empties(&mut object, "fromParams", diagnostics),
        from_cookies: non_empties(&mut object, "fromCookies", diagnostics),
        output_payload_to_header: object
            .read("outputPayloadToHeader", diagnostics, |node, diagnostics| {
                // An empty name counts as no name.
                let name = string(node, diagnostics).filter(|name| !name.is_empty())?;
                token(name, diagnostics);
                Some(name.to_owned())
            })
            .flatten(),
        forward_original_token: object.read("forwardOriginalToken", diagnostics, boolean).flatten().unwrap_or(false),
        output_claim_to_headers: object
            .read("outputClaimToHeaders", diagnostics, |node, diagnostics| list_of_some(node, diagnostics, claim))
            .unwrap_or_default(),
        timeout: object.read("timeout", diagnostics, duration).flatten(),
        space_delimited_claims: non_empties(&mut object, "spaceDelimitedClaims", diagnostics),
        presence: object
            .read("presence", diagnostics, |node, diagnostics| one_of(node, &PRESENCES, diagnostics))
            .flatten()
            .unwrap_or_default(),
    };
    if rule.space_delimited_claims.len() > MOST_SPACE_DELIMITED {
        diagnostics.field("spaceDelimitedClaims", |diagnostics| {
            diagnostics.error(format!("takes at most {MOST_SPACE_DELIMITED} names"));
        });
    }
    object.finish(diagnostics);
    Some(rule)
}

/// Reads the keys. At most one of `jwks`, `jwksUri` and `jwks_uri` may be set; `jwks_uri` is the older spelling of
/// `jwksUri`.
fn keys(object: &mut Object<'_>, diagnostics: &mut Diagnostics) -> Keys {
    let given = ["jwks", "jwksUri", "jwks_uri"].into_iter().filter(|name| object.has(name)).count();
    if given > 1 {
        diagnostics.error_with_hint("only one of jwks and jwksUri may be set", "remove the others");
    }
    let inline = object.read("jwks", diagnostics, jwks).flatten();
    let mut uri = |name| {
        let read = |node: &Node, diagnostics: &mut Diagnostics| {
            let text = string(node, diagnostics)?;
            let report = |problem| {
                let hint = "write http:// or https://, a host and a path";
                diagnostics.error_with_hint(format!("`{text}` {problem}"), hint);
            };
            KeysUri::parse(text).map_err(report).ok()
        };
        object.read(name, diagnostics, read).flatten()
    };
    let remote = [uri("jwksUri"), uri("jwks_uri")].into_iter().flatten().next();
    match (inline, remote) {
        (Some(inline), _) => Keys::Inline(inline),
        (None, Some(remote)) => Keys::Remote(remote),
        (None, None) => Keys::Discovered,
    }
}

/// Reads a JSON Web Key Set (RFC 7517). An empty text counts as no key set, as in Istio.
fn jwks(node: &Node, diagnostics: &mut Diagnostics) -> Option<String> {
    let text = string(node, diagnostics).filter(|text| !text.is_empty())?;
    let set = match from_json(text.as_bytes()) {
        Ok(set) => set,
        Err(error) => {
            diagnostics.error_with_hint(format!("is not JSON: {error}"), "write {\"keys\": [ … ]}");
            return None;
        }
    };
    match set.get("keys").map(|keys| &keys.value) {
        Some(Value::List(keys)) if !keys.is_empty() => {
            for (index, key) in keys.iter().enumerate() {
                if let Some(mistake) = key_set::mistake(key) {
                    diagnostics.error(format!("keys[{index}] is no key: {mistake}"));
                }
            }
        }
        _ => diagnostics.error_with_hint("is not a set of keys", "write {\"keys\": [ … ]}"),
    }
    Some(text.to_owned())
}

fn from_header(node: &Node, diagnostics: &mut Diagnostics) -> Option<FromHeader> {
    let mut object = Object::open(node, diagnostics)?;
    let name = header_name(&mut object, "name", diagnostics);
    let prefix = object.string("prefix", diagnostics).unwrap_or_default();
    object.finish(diagnostics);
    Some(FromHeader { name: name?, prefix })
}

fn claim(node: &Node, diagnostics: &mut Diagnostics) -> Option<ClaimToHeader> {
    let mut object = Object::open(node, diagnostics)?;
    let header = object.read("header", diagnostics, |node, diagnostics| {
        let name = non_empty(node, diagnostics)?;
        if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')) {
            diagnostics.error_with_hint(format!("`{name}` is not the name of a header"), "letters, digits, `-`, `_`");
        }
        Some(name)
    });
    let claim = object.read("claim", diagnostics, non_empty);
    for name in ["header", "claim"] {
        missing(&object, name, diagnostics);
    }
    object.finish(diagnostics);
    Some(ClaimToHeader { header: header.flatten()?, claim: claim.flatten()? })
}

fn header_name(object: &mut Object<'_>, field: &'static str, diagnostics: &mut Diagnostics) -> Option<String> {
    let name = object.read(field, diagnostics, |node, diagnostics| {
        let name = non_empty(node, diagnostics)?;
        token(&name, diagnostics);
        Some(name)
    });
    missing(object, field, diagnostics);
    name.flatten()
}

fn token(name: &str, diagnostics: &mut Diagnostics) {
    if !headers::is_name(name) {
        diagnostics.error(format!("`{name}` is not the name of a header"));
    }
}

fn non_empty(node: &Node, diagnostics: &mut Diagnostics) -> Option<String> {
    let text = string(node, diagnostics)?;
    if text.is_empty() {
        diagnostics.error("must not be empty");
        return None;
    }
    Some(text.to_owned())
}

fn non_empties(object: &mut Object<'_>, field: &'static str, diagnostics: &mut Diagnostics) -> Vec<String> {
    let texts = object.read(field, diagnostics, |node, diagnostics| list(node, diagnostics, non_empty));
    texts.into_iter().flatten().flatten().collect()
}

/// Reads a duration as Go does: numbers with units, such as `1m30s` or `0.5s`. A cluster wants whole milliseconds.
pub fn duration(node: &Node, diagnostics: &mut Diagnostics) -> Option<Duration> {
    let text = string(node, diagnostics)?;
    let duration =
        go_duration(text).filter(|duration| !duration.is_zero() && duration.subsec_nanos().is_multiple_of(1_000_000));
    if duration.is_none() {
        diagnostics.error_with_hint(
            format!("`{text}` is not a duration of whole milliseconds, one or more"),
            "write numbers with units: `5s`, `500ms` or `1m30s`",
        );
    }
    duration
}

fn go_duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, u64); 8] = [
        ("ns", 1),
        ("us", 1_000),
        ("\u{b5}s", 1_000),
        ("\u{3bc}s", 1_000),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("m", 60_000_000_000),
        ("h", 3_600_000_000_000),
    ];
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut nanoseconds = 0_u64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (number, behind) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit() && c != '.')?);
        let (unit, behind) =
            behind.split_at(behind.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(behind.len()));
        let (_, unit) = UNITS.iter().find(|(name, _)| *name == unit)?;
        let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && decimals.is_empty() || decimals.contains('.') {
            return None;
        }
        let whole = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()? };
        nanoseconds = nanoseconds.checked_add(whole.checked_mul(*unit)?)?;
        let mut share = *unit;
        for digit in decimals.bytes() {
            share /= 10;
            nanoseconds = nanoseconds.checked_add(share.checked_mul(u64::from(digit.saturating_sub(b'0')))?)?;
        }
        rest = behind;
    }
    i64::try_from(nanoseconds).ok()?;
    Some(Duration::from_nanos(nanoseconds))
}
