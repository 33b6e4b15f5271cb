//! Lints: each one fires where it should, at the right place, and nowhere else.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "tests fail by panicking"
)]

mod apart;
mod catalogue;
mod duplicates;
mod help;
mod help_rows;
mod idioms;
mod impossible;
mod key_sets;
mod keys;
mod messages;
mod named;
mod partial;
mod rules;
mod surroundings;
mod together;
mod tokens;
mod values;
mod waypoints;

use std::path::PathBuf;
use std::sync::Arc;

use mesh_authz_cli::lint::{LintContext, PathNormalization, lint};
use mesh_authz_cli::load::Resources;
use mesh_authz_cli::load::finding::{Finding, SourceText};

/// An Envoy that normalizes all spellings of a path, so that the lint about spellings (MA019) never fires.
fn one_spelling() -> LintContext {
    LintContext { path_normalization: PathNormalization::DecodeAndMergeSlashes, ..LintContext::default() }
}

/// As [`one_spelling`], with this trust domain and these aliases.
fn mesh(domain: &str, aliases: &[&str]) -> LintContext {
    let mut context = one_spelling();
    domain.clone_into(&mut context.mesh.trust_domain);
    context.mesh.aliases = aliases.iter().map(|alias| (*alias).to_owned()).collect();
    context
}

fn resources(text: &str) -> Resources {
    Resources::of(&Arc::new(SourceText::new(PathBuf::from("p.yaml"), text.to_owned())))
}

/// The findings in a text. All of them must have a code.
fn findings(text: &str, context: &LintContext) -> Vec<Finding> {
    let mut resources = resources(text);
    let mut findings = std::mem::take(&mut resources.findings);
    assert!(findings.iter().all(|finding| finding.code.is_some()), "{findings:#?}");
    findings.extend(lint(&resources, context));
    findings.sort_by(|one, other| one.order().cmp(&other.order()));
    findings
}

/// The codes and paths of the findings in a text.
fn found(text: &str, context: &LintContext) -> Vec<(&'static str, String)> {
    let of = |finding: Finding| (finding.code.unwrap(), finding.diagnostic.path.to_string());
    findings(text, context).into_iter().map(of).collect()
}

/// The paths at which a lint fires.
fn paths(code: &str, text: &str, context: &LintContext) -> Vec<String> {
    found(text, context).into_iter().filter(|(found, _)| *found == code).map(|(_, path)| path).collect()
}

/// A policy `namespace/name` with this spec.
fn policy(name: &str, spec: &str) -> String {
    let (namespace, name) = name.split_once('/').unwrap_or(("default", name));
    format!(
        "---\n{{ apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {{ name: {name}, namespace: \
         {namespace} }}, spec: {spec} }}\n"
    )
}

/// A policy with a single operation.
fn operation(action: &str, fields: &str) -> String {
    policy("p", &format!("{{ action: {action}, rules: [{{ to: [{{ operation: {{ {fields} }} }}] }}] }}"))
}

/// A policy with a single source.
fn source(action: &str, fields: &str) -> String {
    policy("p", &format!("{{ action: {action}, rules: [{{ from: [{{ source: {{ {fields} }} }}] }}] }}"))
}
