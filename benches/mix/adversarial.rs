//! Sets that make an index useless, each in its own way, and the requests that suffer most from it.

use std::net::Ipv4Addr;

use serde_json::json;

use super::{Call, Set, allow, from_to};

const CALLER: &str = "cluster.local/ns/default/sa/caller";

/// All sets, each with this many rules.
pub fn adversarial(rules: usize) -> Vec<Set> {
    vec![
        one_principal(rules),
        nested_prefixes(rules),
        overlapping_templates(rules),
        only_not_fields(rules),
        cidr_blocks(rules),
    ]
}

/// Every rule names the caller, so an index by principal has all rules in one place.
fn one_principal(rules: usize) -> Set {
    let path = |number: usize| format!("/data/{number}");
    let rule = |number| from_to(&json!({ "principals": [CALLER] }), &json!({ "paths": [path(number)] }));
    Set {
        name: "one principal",
        policies: (0..rules).map(|number| allow(number, &rule(number))).collect(),
        allowed: vec![Call::new(CALLER, "GET", path(rules - 1))],
        denied: vec![Call::new(CALLER, "GET", path(rules))],
    }
}

/// `/a*`, `/aa*`, `/aaa*`: the longest path begins with all of these prefixes. After a thousand rules comes the next
/// letter. Otherwise the policies would be longer than in the configuration of any Envoy.
fn nested_prefixes(rules: usize) -> Set {
    const DEPTH: usize = 1000;
    let path = |number: usize| {
        let letter = char::from(b'a' + u8::try_from(number / DEPTH % 26).unwrap_or_default());
        format!("/{}", letter.to_string().repeat(number % DEPTH + 1))
    };
    let rule =
        |number| json!({ "to": [{ "operation": { "methods": ["GET"], "paths": [format!("{}*", path(number))] } }] });
    Set {
        name: "nested prefixes",
        policies: (0..rules).map(|number| allow(number, &rule(number))).collect(),
        allowed: vec![Call::new(CALLER, "GET", path(rules - 1))],
        denied: vec![Call::new(CALLER, "POST", path(rules - 1))],
    }
}

/// Templates that begin alike. Each of them recognises a path by one segment only, and not always by the same one.
fn overlapping_templates(rules: usize) -> Set {
    let template = |number: usize| match number % 4 {
        0 => format!("/{{*}}/x{number}/{{*}}"),
        1 => format!("/{{*}}/{{*}}/x{number}"),
        2 => format!("/{{*}}/x{number}/{{**}}"),
        _ => format!("/x{number}/{{*}}/{{*}}"),
    };
    let rule = |number| json!({ "to": [{ "operation": { "paths": [template(number)] } }] });
    Set {
        name: "overlapping templates",
        policies: (0..rules).map(|number| allow(number, &rule(number))).collect(),
        allowed: vec![Call::new(CALLER, "GET", template(rules - 1).replace("{*}", "y").replace("{**}", "y"))],
        denied: vec![Call::new(CALLER, "GET", "/y/y/y")],
    }
}

/// Every rule excludes something, which does not tell which rules are left. All rules but the last exclude the caller.
fn only_not_fields(rules: usize) -> Set {
    let rule = |number| {
        let excluded = if number + 1 == rules { "cluster.local/ns/default/sa/stranger" } else { CALLER };
        let path = if number + 1 == rules { "/private/*".to_owned() } else { format!("/private/{number}") };
        from_to(&json!({ "notPrincipals": [excluded] }), &json!({ "notPaths": [path] }))
    };
    Set {
        name: "only not-fields",
        policies: (0..rules).map(|number| allow(number, &rule(number))).collect(),
        allowed: vec![Call::new(CALLER, "GET", "/public")],
        denied: vec![Call::new(CALLER, "GET", "/private/x")],
    }
}

/// Adjacent blocks of sixteen addresses.
fn cidr_blocks(rules: usize) -> Set {
    let block = |number: usize| {
        let offset = u32::try_from(number * 16).unwrap_or_default();
        Ipv4Addr::from_bits(Ipv4Addr::new(127, 16, 0, 0).to_bits() + offset)
    };
    let rule = |number| json!({ "from": [{ "source": { "ipBlocks": [format!("{}/28", block(number))] } }] });
    Set {
        name: "CIDR blocks",
        policies: (0..rules).map(|number| allow(number, &rule(number))).collect(),
        allowed: vec![Call::new(CALLER, "GET", "/").at(Ipv4Addr::from_bits(block(rules - 1).to_bits() + 9))],
        denied: vec![Call::new(CALLER, "GET", "/").at(block(rules))],
    }
}
