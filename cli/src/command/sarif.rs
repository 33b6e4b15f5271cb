//! Findings as SARIF 2.1.0, which code-scanning services read.

use std::fmt::Write as _;
use std::iter;

use mesh_authz::document::Span;
use serde_json::{Map, Value, json};

use crate::envoy::{self, EnvoyCheck};
use crate::lint::{CATALOGUE, Lint};
use crate::load::finding::{Finding, Severity, SourceText};

/// The rule of findings that do not come from a lint: the policy is refused.
const INVALID: &str = "invalid";

/// The log of one run of `check`.
pub fn log(findings: &[Finding]) -> Value {
    let rule = |code: &str, name: &str, summary: &str, explanation: &str| {
        json!({
            "id": code,
            "name": name,
            "shortDescription": { "text": summary },
            "fullDescription": { "text": explanation },
            "help": { "text": format!("mesh-authz check --explain {code}") },
        })
    };
    let lint = |lint: &Lint| rule(lint.code, lint.name, lint.summary, lint.explanation);
    let check = |check: &EnvoyCheck| rule(check.code, check.name, check.summary, check.explanation);
    let invalid = json!({
        "id": INVALID,
        "name": "invalid-policy",
        "shortDescription": { "text": "a policy that is refused" },
    });
    let lints = CATALOGUE.into_iter().map(lint);
    let rules: Vec<Value> = iter::once(invalid).chain(lints).chain(envoy::CATALOGUE.into_iter().map(check)).collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "mesh-authz",
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            } },
            "columnKind": "unicodeCodePoints",
            "results": findings.iter().map(result).collect::<Vec<_>>(),
        }],
    })
}

fn result(finding: &Finding) -> Value {
    let related = finding.related.iter().map(|related| {
        let mut location = location(&related.source, related.span);
        location.insert("message".to_owned(), json!({ "text": related.message }));
        location
    });
    let level = match finding.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    json!({
        "ruleId": finding.code.unwrap_or(INVALID),
        "level": level,
        "message": { "text": finding.diagnostic.to_string() },
        "locations": [location(&finding.source, finding.span)],
        "relatedLocations": related.collect::<Vec<_>>(),
    })
}

fn location(source: &SourceText, span: Option<Span>) -> Map<String, Value> {
    let mut physical = Map::new();
    physical.insert("artifactLocation".to_owned(), json!({ "uri": uri(source) }));
    if let Some(Span { start, end }) = span {
        let region = json!({
            "startLine": start.line, "startColumn": start.column, "endLine": end.line, "endColumn": end.column,
        });
        physical.insert("region".to_owned(), region);
    }
    Map::from_iter([("physicalLocation".to_owned(), physical.into())])
}

/// The file as a URI reference. Every byte that is not safe in the path of a URI is percent-encoded.
fn uri(source: &SourceText) -> String {
    let path = source.file.to_string_lossy().replace('\\', "/");
    let mut uri = if source.file.is_absolute() { "file://".to_owned() } else { String::new() };
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/!$&'()*+,;=@".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            let _infallible = write!(uri, "%{byte:02X}");
        }
    }
    uri
}
