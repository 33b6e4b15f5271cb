//! JSON Schemas of the files that people write by hand, so that editors complete and check them.
//!
//! The names of fields and values come from the same tables as the readers', where there are such tables. Tests compare the rest
//! with what the readers take. A schema does not say everything: `mesh-authz check` and `test` do.

#![expect(clippy::needless_pass_by_value, reason = "a schema is made of other schemas, which nobody needs any more")]

use mesh_authz::attribute::{Attribute, Side};
use mesh_authz::config::{COMBINING, CUSTOM, DEFAULT_ROOT_NAMESPACE, DEFAULT_TRUST_DOMAIN, OnInvalid, Outgoing};
use mesh_authz::policy::Action;
use serde_json::{Map, Value, json};

use crate::lint::PathNormalization;
use crate::received::Protocol;
use crate::testfile::ANSWERS;

const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// The schema of test files, which `mesh-authz test` runs.
#[must_use]
pub fn test_file() -> Value {
    let decision = json!({ "enum": ["ALLOW", "DENY"] });
    let request = object(json!({
        "principal": described(text(), "the peer's SPIFFE ID without spiffe://; absent: the request comes in plaintext"),
        "peer": described(
            object(json!({ "uris": list_of(text()), "dns": text(), "subject": text() })),
            "the names in the peer's certificate, if they are other than one SPIFFE ID",
        ),
        "method": described(text(), "GET if it is absent"),
        "path": described(text(), "/ if it is absent, and none for a CONNECT; a query is allowed"),
        "host": described(text(), "localhost if it is absent"),
        "protocol": described(names(&Protocol::NAMES), "absent: the test is for both versions of HTTP; tcp: the test is about a connection, without fields of HTTP"),
        "headers": described(
            map_of(json!({ "anyOf": [text(), list_of(text())] })),
            "names and values; a list: the header comes several times",
        ),
        "sourceIp": described(text(), "the address of the direct peer"),
        "remoteIp": described(text(), "the address of the client; absent: what Envoy makes of X-Forwarded-For"),
        "destinationIp": described(text(), "the local address"),
        "destinationPort": described(whole_number(0, 65_535), "the local port"),
        "sni": described(text(), "the server name in the TLS handshake"),
        "jwt": described(json!({ "type": "object" }), "the claims of a verified token"),
        "metadata": described(map_of(json!({ "type": "object" })), "dynamic metadata, for each filter"),
        "provider": described(
            map_of(names(&ANSWERS)),
            "what the provider of a CUSTOM policy answers; absent: the test is for both",
        ),
    }));
    let expect = json!({ "anyOf": [
        decision,
        required(
            object(json!({
                "decision": decision,
                "policy": described(text(), "namespace/name of the policy that decides; none if no policy does"),
                "rule": described(whole_number(0, 511), "the position of the rule that decides"),
            })),
            &["decision"],
        ),
    ] });
    let test = required(
        object(json!({
            "name": described(json!({ "type": "string", "minLength": 1 }), "what the test shows; each name occurs once"),
            "request": request,
            "expect": described(expect, "the decision, and, if it matters, the policy and the rule"),
        })),
        &["name", "request", "expect"],
    );
    let workload = object(json!({ "namespace": text(), "labels": map_of(text()) }));
    let proof = required(
        object(json!({
            "name": described(json!({ "type": "string", "minLength": 1 }), "what the proof shows; each name occurs once"),
            "for": described(rule(), "the requests, as a rule of a policy: from, to and when"),
            "expect": described(decision, "the decision about each of these requests"),
            "workload": described(workload.clone(), "absent: the workload of the file or, if it has none, every workload"),
        })),
        &["name", "for", "expect"],
    );
    let mesh = object(json!({
        "trustDomain": trust_domain(),
        "trustDomainAliases": described(list_of(text()), "other names of that trust domain"),
        "rootNamespace": root_namespace(),
        "combining": combining(),
        "severalProviders": described(boolean(), "whether CUSTOM policies of a workload may name several providers"),
        "pathNormalization": described(names(&PathNormalization::NAMES), "what Envoy does with paths"),
    }));
    let file = required(
        object(json!({
            "policies": described(list_of(text()), "files, folders or patterns, relative to this file"),
            "workload": described(workload, "the workload that the policies protect; labels: {} says that it has none"),
            "gateway": gateway(),
            "revision": described(text(), "the revision of the control plane"),
            "mesh": mesh,
            "allowNoneApplies": described(boolean(), "whether it is no error that none of the policies applies"),
            "tests": json!({ "type": "array", "items": test, "minItems": 1 }),
            "proofs": described(list_of(proof), "what must hold for every request of a kind"),
        })),
        &["policies"],
    );
    let file = either(file, ["tests", "proofs"]);
    titled(file, "Test file of mesh-authz")
}

/// The schema of the plugin configuration.
#[must_use]
pub fn plugin_config() -> Value {
    let config = required(
        object(json!({
            "policies": described(list_of(policy()), "AuthorizationPolicies; an empty list allows everything"),
            "workload": described(
                object(json!({ "namespace": text(), "labels": map_of(text()), "matchLabels": map_of(text()) })),
                "decides which policies apply; absent: Envoy's node metadata",
            ),
            "allowNoneApplies": described(boolean(), "whether it is no error that none of the policies applies"),
            "onInvalid": described(names(&OnInvalid::NAMES), "what a configuration with errors does"),
            "outgoing": described(names(&Outgoing::NAMES), "what becomes of requests that the workload of a sidecar sends"),
            "revision": described(text(), "the revision of the control plane"),
            "gateway": gateway(),
            "trustDomain": trust_domain(),
            "trustDomainAliases": described(list_of(text()), "other names of that trust domain"),
            "rootNamespace": root_namespace(),
            "combining": combining(),
            "custom": described(names(&CUSTOM), "who asks the providers of CUSTOM policies; refuse if it is absent"),
            "principalFrom": described(one_of(&["peer-certificate", "filter-state"]), "where the peer's identity comes from"),
            "sourceIpFrom": described(one_of(&["filter-state", "remote-address"]), "where the address of the direct peer comes from"),
            "paths": described(one_of(&["as-sent", "strict"]), "strict refuses paths that Envoy has not normalized"),
            "jwt": object(json!({ "payloadKey": described(text(), "where jwt_authn stores the claims; payload if it is absent") })),
            "denyResponse": described(
                object(json!({ "status": whole_number(400, 599), "body": text(), "headers": map_of(text()) })),
                "the response to a refused request",
            ),
            "decisionLog": described(one_of(&["none", "denied", "all"]), "which decisions are logged"),
            "decisionLogRate": described(
                whole_number(1, 1_000_000),
                "lines per second and worker, 10 if it is absent",
            ),
            "filterState": described(one_of(&["none", "notable", "all"]), "which decisions access logs can show"),
            "debugHeader": described(
                required(object(json!({ "name": text(), "principals": list_of(text()) })), &["name", "principals"]),
                "these peers get the reason for a refusal in this header",
            ),
        })),
        &["policies"],
    );
    titled(config, "Plugin configuration of mesh-authz")
}

/// An `AuthorizationPolicy`, as the language has it.
/// A rule of a policy.
fn rule() -> Value {
    let fields_of = |side: Side| {
        let fields = Attribute::ALL.iter().filter(|attribute| attribute.info().side == side);
        let names = fields.filter_map(|attribute| attribute.info().fields).flatten();
        let fields: Map<_, _> = names.map(|name| (name.to_owned(), list_of(text()))).collect();
        object(Value::Object(fields))
    };
    let wrapped = |name: &str, inner: Value| {
        let item = required(object(json!({ name: inner })), &[name]);
        json!({ "type": "array", "items": item, "minItems": 1 })
    };
    let condition =
        required(object(json!({ "key": text(), "values": list_of(text()), "notValues": list_of(text()) })), &["key"]);
    object(json!({
        "from": wrapped("source", fields_of(Side::Principal)),
        "to": wrapped("operation", fields_of(Side::Permission)),
        "when": list_of(condition),
    }))
}

fn policy() -> Value {
    let target = required(
        object(json!({ "group": text(), "kind": text(), "name": text(), "namespace": text() })),
        &["kind", "name"],
    );
    let spec = object(json!({
        "selector": object(json!({ "matchLabels": map_of(text()) })),
        "targetRef": target,
        "targetRefs": list_of(target),
        "action": names(&Action::NAMES),
        "provider": object(json!({ "name": text() })),
        "rules": json!({ "type": ["array", "null"], "items": rule() }),
    }));
    json!({
        "type": "object",
        "properties": {
            "apiVersion": { "enum": ["security.istio.io/v1", "security.istio.io/v1beta1"] },
            "kind": { "const": "AuthorizationPolicy" },
            "metadata": {
                "type": "object",
                "properties": { "name": text(), "namespace": text() },
                "required": ["name"],
            },
            "spec": { "anyOf": [spec, { "type": "null" }] },
        },
        "required": ["apiVersion", "kind", "metadata"],
    })
}

fn gateway() -> Value {
    let service = required(
        object(json!({ "host": text(), "namespace": text(), "name": text() })),
        &["host", "namespace", "name"],
    );
    let services = list_of(json!({ "anyOf": [text(), service] }));
    let fields = json!({ "name": text(), "waypoint": boolean(), "services": services, "serviceEntries": services });
    described(required(object(fields), &["name"]), "for policies with targetRefs")
}

fn combining() -> Value {
    described(names(&COMBINING), "permit-overrides makes an ALLOW policy an exception to DENY policies")
}

fn trust_domain() -> Value {
    described(text(), &format!("the trust domain of the mesh; {DEFAULT_TRUST_DOMAIN} if it is absent"))
}

fn root_namespace() -> Value {
    described(text(), &format!("policies in it are for every namespace; {DEFAULT_ROOT_NAMESPACE} if it is absent"))
}

fn titled(mut schema: Value, title: &str) -> Value {
    set(&mut schema, "$schema", json!(DIALECT));
    set(&mut schema, "title", json!(title));
    schema
}

fn described(mut schema: Value, description: &str) -> Value {
    set(&mut schema, "description", json!(description));
    schema
}

fn required(mut schema: Value, names: &[&str]) -> Value {
    set(&mut schema, "required", json!(names));
    schema
}

/// An object that has one of these fields, or both.
fn either(mut schema: Value, [one, other]: [&str; 2]) -> Value {
    set(&mut schema, "anyOf", json!([{ "required": [one] }, { "required": [other] }]));
    schema
}

fn set(schema: &mut Value, name: &str, value: Value) {
    if let Some(fields) = schema.as_object_mut() {
        fields.insert(name.to_owned(), value);
    }
}

fn object(properties: Value) -> Value {
    json!({ "type": "object", "properties": properties, "additionalProperties": false })
}

fn map_of(values: Value) -> Value {
    json!({ "type": "object", "additionalProperties": values })
}

fn list_of(items: Value) -> Value {
    json!({ "type": "array", "items": items })
}

fn text() -> Value {
    json!({ "type": "string" })
}

fn boolean() -> Value {
    json!({ "type": "boolean" })
}

fn whole_number(least: u32, most: u32) -> Value {
    json!({ "type": "integer", "minimum": least, "maximum": most })
}

fn one_of(names: &[&str]) -> Value {
    json!({ "enum": names })
}

fn names<T>(table: &[(&str, T)]) -> Value {
    json!({ "enum": table.iter().map(|(name, _)| name).collect::<Vec<_>>() })
}
