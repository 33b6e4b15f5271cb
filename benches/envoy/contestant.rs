//! The filters of each listener: the contestants, and the filters before them.

use std::fmt;

use anyhow::{Result, anyhow};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use mesh_authz::config::{NodeMetadata, PluginConfig};
use mesh_authz::document;
use mesh_authz::policy::Traffic;
use mesh_authz::request::owned::encode_value;
use mesh_authz_cli::render::rbac::{self, Place};
use serde_json::{Value, json};
use testbed::Issuer;

use crate::mix::Set;

/// One listener to measure.
pub struct Case {
    /// The policies and requests.
    pub set: Set,
    /// The number of policies. Each of them has one rule.
    pub rules: usize,
    /// The filter that decides.
    pub contestant: Contestant,
    /// The fields of the plugin configuration beside the policies.
    pub settings: Value,
}

/// The workload of the benchmark's own policies.
pub fn backend() -> Value {
    json!({ "workload": { "namespace": "default", "labels": { "app": "backend" } } })
}

/// The filter that decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contestant {
    /// No filter, as on the baseline. The result shows how exact the measurement is.
    NoFilter,
    /// No filter, and not even the network filter that tells this project's filter about the peer.
    Bare,
    /// A Wasm filter that does nothing.
    NoOp,
    /// Envoy's own RBAC filter, configured as Istio configures it.
    Native,
    /// This project's filter, without a decision log and without filter state.
    Ours,
    /// This project's filter beside Envoy's own, as in a cluster with Istio.
    Both,
    /// The same, with the policy that lets HTTP through Envoy's own filter (`--plugin-decides-http`).
    DecidesHttp,
    /// This project's filter, with the decision log and the filter state that it has by default.
    Logging,
}

/// The file with this project's filter, in Envoy's directory.
pub const FILTER: &str = "mesh_authz.wasm";
/// The file with the filter that does nothing.
pub const NO_OP: &str = "noop.wasm";

impl fmt::Display for Contestant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::NoFilter => "no filter, again",
            Self::Bare => "no set_filter_state",
            Self::NoOp => "no-op Wasm",
            Self::Native => "native RBAC",
            Self::Ours => "mesh-authz",
            Self::Both => "both",
            Self::DecidesHttp => "both, HTTP let through",
            Self::Logging => "mesh-authz, logging",
        })
    }
}

impl Contestant {
    /// Whether the listener has the network filter that tells about the peer.
    pub fn tells_peer(self) -> bool {
        self != Self::Bare
    }

    /// The status of the response to a request that no policy allows.
    pub fn status_of_denied(self) -> u16 {
        match self {
            Self::NoFilter | Self::Bare | Self::NoOp => 200,
            Self::Native | Self::Ours | Self::Both | Self::DecidesHttp | Self::Logging => 403,
        }
    }
}

impl Case {
    /// The filters of the case's listener, in order. `listener` is also the name of the Wasm VM, so that no VM is
    /// shared.
    pub fn filters(&self, listener: &str, claims: &Claims) -> Result<Vec<Value>> {
        let mut filters = vec![claims.filter()];
        match self.contestant {
            Contestant::NoFilter | Contestant::Bare => {}
            Contestant::NoOp => filters.push(wasm(listener, NO_OP, "")),
            Contestant::Native => filters.extend(self.native()?),
            Contestant::Ours => filters.push(wasm(listener, FILTER, &self.plugin_config(false))),
            Contestant::Both | Contestant::DecidesHttp => {
                filters.push(wasm(listener, FILTER, &self.plugin_config(false)));
                filters.extend(self.native()?);
            }
            Contestant::Logging => filters.push(wasm(listener, FILTER, &self.plugin_config(true))),
        }
        Ok(filters)
    }

    fn plugin_config(&self, says_what_it_decides: bool) -> String {
        let mut config = self.settings.clone();
        if let Value::Object(fields) = &mut config {
            fields.insert("policies".to_owned(), json!(self.set.policies));
        }
        if !says_what_it_decides && let Value::Object(fields) = &mut config {
            fields.extend(["decisionLog", "filterState"].map(|field| (field.to_owned(), json!("none"))));
        }
        config.to_string()
    }

    fn native(&self) -> Result<Vec<Value>> {
        let mut config: Value = serde_json::from_str(&self.plugin_config(false))?;
        if self.contestant == Contestant::DecidesHttp
            && let Some(Value::Array(policies)) = config.get_mut("policies")
        {
            // Its name is the first, so that the filter looks at it first.
            policies.push(json!({
                "apiVersion": "security.istio.io/v1",
                "kind": "AuthorizationPolicy",
                "metadata": { "name": "0-http", "namespace": "default" },
                "spec": { "rules": [{ "to": [{ "operation": { "paths": ["*"] } }] }] },
            }));
        }
        let config = PluginConfig::read(config.to_string().as_bytes(), &NodeMetadata::default())
            .map_err(|errors| anyhow!("the policies are not valid: {errors:?}"))?;
        let policies: Vec<_> = config.policies.iter().collect();
        Ok(rbac::filters(&policies, Place::of_workload(Traffic::Http, &config.options.trust_domains)))
    }
}

/// How a request carries its claims.
pub enum Claims {
    /// In a header, without a signature. A filter takes them from there, and costs little.
    Header,
    /// In a token of this issuer, which `jwt_authn` verifies. Envoy takes no more than 8 KiB of claims from a header.
    Token(Box<Issuer>),
}

impl Claims {
    /// The filter that makes dynamic metadata of the claims.
    pub fn filter(&self) -> Value {
        match self {
            Self::Header => claims_from_header(),
            Self::Token(issuer) => verified_claims(issuer),
        }
    }

    /// The header with these claims.
    pub fn header(&self, claims: &Value) -> Result<(&'static str, String)> {
        Ok(match self {
            Self::Header => {
                let claims = document::from_json(claims.to_string().as_bytes()).map_err(|error| anyhow!("{error}"))?;
                ("x-claims", BASE64_STANDARD.encode(encode_value(&claims)))
            }
            Self::Token(issuer) => ("authorization", format!("Bearer {}", issuer.token(claims)?)),
        })
    }
}

fn verified_claims(issuer: &Issuer) -> Value {
    let provider = json!({ "local_jwks": { "inline_string": issuer.jwks() }, "payload_in_metadata": "payload" });
    let requirements = json!([{ "provider_name": "issuer" }, { "allow_missing": {} }]);
    let config = json!({
        "providers": { "issuer": provider },
        "rules": [{ "match": { "prefix": "/" }, "requires": { "requires_any": { "requirements": requirements } } }],
    });
    http_filter("jwt_authn", "jwt_authn.v3.JwtAuthentication", config)
}

fn claims_from_header() -> Value {
    let rule = json!({
        "header": "x-claims",
        "on_header_present": {
            "metadata_namespace": "envoy.filters.http.jwt_authn",
            "key": "payload",
            "type": "PROTOBUF_VALUE",
            "encode": "BASE64",
        },
        "remove": true,
    });
    http_filter("header_to_metadata", "header_to_metadata.v3.Config", json!({ "request_rules": [rule] }))
}

pub fn wasm(vm: &str, module: &str, configuration: &str) -> Value {
    let config = json!({
        "name": vm,
        "failure_policy": "FAIL_CLOSED",
        "vm_config": { "vm_id": vm, "runtime": "envoy.wasm.runtime.v8", "code": { "local": { "filename": module } } },
        "configuration": { "@type": "type.googleapis.com/google.protobuf.StringValue", "value": configuration },
    });
    http_filter("wasm", "wasm.v3.Wasm", json!({ "config": config }))
}

fn http_filter(name: &str, type_name: &str, mut config: Value) -> Value {
    let type_url = format!("type.googleapis.com/envoy.extensions.filters.http.{type_name}");
    if let Value::Object(fields) = &mut config {
        fields.insert("@type".to_owned(), type_url.into());
    }
    json!({ "name": format!("envoy.filters.http.{name}"), "typed_config": config })
}
