//! What the command has understood of a resource, written as a `spec` again, to be compared with the cluster's.
//!
//! Both go into a form in which what means the same is the same: without empty lists and defaults, with addresses and
//! durations as values.

use std::net::IpAddr;

use mesh_authz::policy::{
    Action, AllOf, AuthorizationPolicy, Cidr, MetadataValue, PathValue, Predicate, Rule, ServiceAccount, Target,
    TargetKind, Values,
};
use mesh_authz_cli::load::request_authentication::{JwtRule, Keys, Presence, RequestAuthentication};
use serde_json::{Map, Value, json};

/// The spec of a policy, as the command has understood it.
pub fn policy(policy: &AuthorizationPolicy) -> Value {
    let mut spec = target(&policy.target);
    spec["action"] = match policy.action {
        Action::Allow => Value::Null,
        Action::Deny => "DENY".into(),
        Action::Audit => "AUDIT".into(),
        Action::Custom => "CUSTOM".into(),
    };
    if let Some(name) = &policy.provider {
        spec["provider"] = json!({ "name": name });
    }
    spec["rules"] = policy.rules.iter().map(rule).collect();
    without_empty(&spec)
}

fn target(target: &Target) -> Value {
    match target {
        Target::Everything => json!({}),
        Target::Labels(labels) => {
            json!({ "selector": { "matchLabels": labels.iter().cloned().collect::<std::collections::BTreeMap<_, _>>() } })
        }
        Target::References(references) => {
            let reference = |reference: &mesh_authz::policy::TargetReference| {
                let (group, kind) = match reference.kind {
                    TargetKind::Service => ("", "Service"),
                    TargetKind::ServiceEntry => ("networking.istio.io", "ServiceEntry"),
                    TargetKind::Gateway => ("gateway.networking.k8s.io", "Gateway"),
                    TargetKind::GatewayClass => ("gateway.networking.k8s.io", "GatewayClass"),
                };
                json!({ "group": group, "kind": kind, "name": reference.name })
            };
            json!({ "targetRefs": references.iter().map(reference).collect::<Vec<_>>() })
        }
    }
}

fn rule(rule: &Rule) -> Value {
    let from = rule.from.iter().flat_map(|from| &from.0);
    let to = rule.to.iter().flat_map(|to| &to.0);
    let when = rule.when.0.iter().map(|predicate| {
        let (name, fields) = field(predicate);
        let [any, none] = fields;
        json!({ "key": name, "values": any, "notValues": none })
    });
    json!({
        "from": from.map(|all| json!({ "source": fields(all) })).collect::<Vec<_>>(),
        "to": to.map(|all| json!({ "operation": fields(all) })).collect::<Vec<_>>(),
        "when": when.collect::<Vec<_>>(),
    })
}

fn fields(all: &AllOf<Predicate>) -> Value {
    let mut fields = Map::new();
    for predicate in &all.0 {
        let [name, not_name] = match predicate {
            Predicate::Principal(_) => ["principals", "notPrincipals"],
            Predicate::RequestPrincipal(_) => ["requestPrincipals", "notRequestPrincipals"],
            Predicate::ServiceAccount(_) => ["serviceAccounts", "notServiceAccounts"],
            Predicate::TrustDomain(_) => ["trustDomains", "notTrustDomains"],
            Predicate::Namespace(_) => ["namespaces", "notNamespaces"],
            Predicate::RemoteIp(_) => ["remoteIpBlocks", "notRemoteIpBlocks"],
            Predicate::SourceIp(_) => ["ipBlocks", "notIpBlocks"],
            Predicate::Host(_) => ["hosts", "notHosts"],
            Predicate::Method(_) => ["methods", "notMethods"],
            Predicate::Path(_) => ["paths", "notPaths"],
            Predicate::DestinationPort(_) => ["ports", "notPorts"],
            other => panic!("{other:?} has no field"),
        };
        let (_, [any, none]) = field(predicate);
        fields.insert(name.to_owned(), any);
        fields.insert(not_name.to_owned(), none);
    }
    fields.into()
}

/// The key of a condition, and the values.
fn field(predicate: &Predicate) -> (String, [Value; 2]) {
    fn both<T>(values: &Values<T>, shown: impl Fn(&T) -> Value) -> [Value; 2] {
        [&values.any, &values.none].map(|list| list.iter().map(&shown).collect())
    }
    let text = |text: &String| Value::from(text.as_str());
    let network = |cidr: &Cidr| json!(format!("{}/{}", cidr.address, cidr.prefix));
    let account = |account: &ServiceAccount| match &account.namespace {
        Some(namespace) => json!(format!("{namespace}/{}", account.name)),
        None => json!(account.name),
    };
    let (key, values) = match predicate {
        Predicate::Principal(values) => ("source.principal", both(values, text)),
        Predicate::RequestPrincipal(values) => ("request.auth.principal", both(values, text)),
        Predicate::ServiceAccount(values) => ("source.serviceAccount", both(values, account)),
        Predicate::TrustDomain(values) => ("source.trustDomain", both(values, text)),
        Predicate::Namespace(values) => ("source.namespace", both(values, text)),
        Predicate::RemoteIp(values) => ("remote.ip", both(values, network)),
        Predicate::SourceIp(values) => ("source.ip", both(values, network)),
        Predicate::Host(values) | Predicate::Method(values) => ("", both(values, text)),
        Predicate::Path(values) => {
            ("", both(values, |(PathValue::Text(path) | PathValue::Template(path))| json!(path)))
        }
        Predicate::DestinationPort(values) => ("destination.port", both(values, |port| json!(port.to_string()))),
        Predicate::DestinationIp(values) => ("destination.ip", both(values, network)),
        Predicate::Sni(values) => ("connection.sni", both(values, text)),
        Predicate::Header { name, values } => return (format!("request.headers[{name}]"), both(values, text)),
        Predicate::Claim { path, values } => {
            return (format!("request.auth.claims[{}]", path.join("][")), both(values, text));
        }
        Predicate::Metadata { filter, key, values } => {
            let value = |value: &MetadataValue| match value {
                MetadataValue::Text(text) => json!(text),
                MetadataValue::Element(text) => json!(format!("[{text}]")),
            };
            return (format!("experimental.{filter}[{key}]"), both(values, value));
        }
    };
    (key.to_owned(), values)
}

/// The spec of a `RequestAuthentication`, as the command has understood it.
pub fn authentication(authentication: &RequestAuthentication) -> Value {
    let mut spec = target(&authentication.target);
    spec["jwtRules"] = authentication.rules.iter().map(jwt_rule).collect();
    without_empty(&spec)
}

fn jwt_rule(rule: &JwtRule) -> Value {
    let headers = rule.from_headers.iter().map(|header| json!({ "name": header.name, "prefix": header.prefix }));
    let claims = rule.output_claim_to_headers.iter().map(|out| json!({ "header": out.header, "claim": out.claim }));
    let (jwks, jwks_uri) = match &rule.keys {
        Keys::Inline(set) => (Some(set), None),
        Keys::Remote(uri) => (None, Some(&uri.text)),
        Keys::Discovered => (None, None),
    };
    json!({
        "issuer": rule.issuer,
        "audiences": rule.audiences,
        "jwks": jwks,
        "jwksUri": jwks_uri,
        "fromHeaders": headers.collect::<Vec<_>>(),
        "fromParams": rule.from_params,
        "fromCookies": rule.from_cookies,
        "outputPayloadToHeader": rule.output_payload_to_header,
        "forwardOriginalToken": rule.forward_original_token.then_some(true),
        "outputClaimToHeaders": claims.collect::<Vec<_>>(),
        "timeout": rule.timeout.map(|timeout| timeout.as_millis().to_string()),
        "spaceDelimitedClaims": rule.space_delimited_claims,
        "presence": (rule.presence == Presence::Required).then_some("REQUIRED"),
    })
}

/// The cluster's spec in the same form.
pub fn plain(spec: &Value) -> Value {
    let mut spec = spec.clone();
    if spec["action"] == "ALLOW" {
        spec["action"] = Value::Null;
    }
    if let Some(reference) = spec.as_object_mut().and_then(|spec| spec.remove("targetRef")) {
        spec["targetRefs"] = json!([reference]);
    }
    each(&mut spec["targetRefs"], |reference| {
        if reference["group"] == "core" {
            reference["group"] = Value::Null;
        }
    });
    each(&mut spec["rules"], |rule| {
        each(&mut rule["from"], |from| {
            for field in ["ipBlocks", "notIpBlocks", "remoteIpBlocks", "notRemoteIpBlocks"] {
                each(&mut from["source"][field], network);
            }
        });
        each(&mut rule["to"], |to| {
            for field in ["ports", "notPorts"] {
                each(&mut to["operation"][field], port);
            }
        });
        each(&mut rule["when"], |condition| {
            let key = condition["key"].as_str().unwrap_or_default().to_owned();
            for field in ["values", "notValues"] {
                each(&mut condition[field], |value| match key.as_str() {
                    "source.ip" | "remote.ip" | "destination.ip" => network(value),
                    "destination.port" => port(value),
                    _ if key.starts_with("experimental") => element(value),
                    _ => {}
                });
            }
            condition["key"] = match key.as_str() {
                "request.auth.audiences" => "request.auth.claims[aud]".into(),
                "request.auth.presenter" => "request.auth.claims[azp]".into(),
                _ => key.into(),
            };
        });
    });
    each(&mut spec["jwtRules"], |rule| {
        if let Some(uri) = rule.as_object_mut().and_then(|rule| rule.remove("jwks_uri")) {
            rule["jwksUri"] = uri;
        }
        if rule["forwardOriginalToken"] == false {
            rule["forwardOriginalToken"] = Value::Null;
        }
        if rule["presence"] == "OPTIONAL" {
            rule["presence"] = Value::Null;
        }
        if let Some(text) = rule["timeout"].as_str() {
            rule["timeout"] = milliseconds(text).into();
        }
    });
    without_empty(&spec)
}

fn each(list: &mut Value, change: impl FnMut(&mut Value)) {
    list.as_array_mut().into_iter().flatten().for_each(change);
}

fn network(value: &mut Value) {
    let text = value.as_str().unwrap_or_default();
    let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
    let address = address.split('%').next().unwrap_or_default();
    let Ok(address) = address.parse::<IpAddr>() else { return };
    let prefix = prefix.unwrap_or(if address.is_ipv4() { "32" } else { "128" });
    *value = format!("{address}/{prefix}").into();
}

fn port(value: &mut Value) {
    let text = value.as_str().unwrap_or_default().trim_start_matches('0');
    *value = if text.is_empty() { "0" } else { text }.to_owned().into();
}

fn element(value: &mut Value) {
    let text = value.as_str().unwrap_or_default();
    if text.starts_with('[') && text.ends_with(']') {
        *value = format!("[{}]", text.trim_matches(['[', ']'])).into();
    }
}

/// The milliseconds of a duration that a cluster has taken.
fn milliseconds(text: &str) -> String {
    const UNITS: [(&str, f64); 8] =
        [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("μs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    let mut seconds = 0.0;
    let mut rest = text.trim_start_matches('+');
    while let Some(end) = rest.find(|c: char| !c.is_ascii_digit() && c != '.') {
        let (number, behind) = rest.split_at(end);
        let (unit, behind) =
            behind.split_at(behind.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(behind.len()));
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).unwrap();
        seconds += number.parse::<f64>().unwrap() * factor;
        rest = behind;
    }
    // A whole number, whatever is lost in between.
    format!("{:.0}", seconds * 1e3)
}

/// Without fields that are null, empty, or have nothing in them. Items of lists stay.
pub fn without_empty(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.iter().map(|(key, value)| (key.clone(), without_empty(value)));
            let is_nothing = |value: &Value| match value {
                Value::Null => true,
                Value::String(text) => text.is_empty(),
                Value::Array(items) => items.is_empty(),
                Value::Object(fields) => fields.is_empty(),
                _ => false,
            };
            Value::Object(fields.filter(|(_, value)| !is_nothing(value)).collect())
        }
        Value::Array(items) => items.iter().map(without_empty).collect(),
        other => other.clone(),
    }
}
