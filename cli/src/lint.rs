//! Lints: checks that find valid policies that probably do not do what their author means, and what nobody can trust.
//!
//! Each lint has a file of its own, with its explanation, its examples and its check. [`CATALOGUE`] lists all lints.
//! The meaning of a code never changes. `by_namespace`, `callers`, `comparison`, `plaintext`, `public_endpoint`, `several_values`,
//! `tcp_traffic` and `other_resources` are not lints; lints use them. To disable a lint for one resource, list its code in the resource's annotation [`ALLOW_ANNOTATION`].

mod by_namespace;
mod callers;
mod comparison;
mod other_resources;
mod plaintext;
mod public_endpoint;
mod several_values;
mod tcp_traffic;

mod allow_on_tcp;
mod any_issuer;
mod client_in_ip_blocks;
mod custom_is_refused;
mod deny_on_tcp;
mod dry_run;
mod duplicate_name;
mod empty_list;
mod empty_selector;
mod field_among_labels;
mod foreign_pattern;
mod host_is_a_url;
mod host_without_port;
mod impossible_label;
mod impossible_value;
mod keys_in_plaintext;
mod literal_wildcard;
mod method_not_in_capitals;
mod misspelt_key;
mod nearly_dry_run;
mod never_matches;
mod no_request_authentication;
mod no_value;
mod not_one_or_not_another;
mod optional_token;
mod path_spelling;
mod path_with_query;
mod path_without_slash;
mod peer_address_at_waypoint;
mod placeholder;
mod plaintext_satisfies_allow;
mod plaintext_slips_past_deny;
mod plugin_settings;
mod principal_beyond_aliases;
mod principal_without_trust_domain;
mod provider_fails_open;
mod request_principal_never_matches;
mod scheme_in_principal;
mod selector_matches_nothing;
mod service_port;
mod several_providers;
mod shadowed_rule;
mod skipped_resource;
mod split_rule;
mod trailing_slash;
mod unknown_account;
mod unknown_issuer;
mod unknown_target;
mod unpinned_module;
mod unreachable_allow;
mod unusable_keys;
mod whole_mesh;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use mesh_authz::analysis::{self, CompiledRule};
use mesh_authz::config::Mesh;
use mesh_authz::diagnostic::{Diagnostic, Part, Path, Segment};
use mesh_authz::document::{Node, Position, Span, Value};
use mesh_authz::engine::Custom;
use mesh_authz::policy::scope::{Reach, may_meet};
use mesh_authz::policy::{Action, AuthorizationPolicy, Clause, Labels, PolicyName, Predicate};
use rayon::prelude::*;

use self::by_namespace::ByNamespace;
use self::plaintext::Plaintext;
pub use self::tcp_traffic::{DeclaredProtocol, is_gateway as has_labels_of_a_gateway, protocol_of_service_port};
pub use self::unpinned_module::is_sha256;
use crate::load::finding::{Finding, Related, Severity, SourceText};
use crate::load::kustomization::Kustomizations;
use crate::load::request_authentication::JwtRule;
use crate::load::{Authentication, LoadedPolicy, Other, Resources, peer_authentication};
use crate::received;

/// All lints, sorted by code.
pub static CATALOGUE: [&Lint; 52] = [
    &unreachable_allow::LINT,
    &never_matches::LINT,
    &plaintext_slips_past_deny::LINT,
    &plaintext_satisfies_allow::LINT,
    &host_without_port::LINT,
    &method_not_in_capitals::LINT,
    &scheme_in_principal::LINT,
    &principal_beyond_aliases::LINT,
    &path_without_slash::LINT,
    &selector_matches_nothing::LINT,
    &duplicate_name::LINT,
    &shadowed_rule::LINT,
    &deny_on_tcp::LINT,
    &principal_without_trust_domain::LINT,
    &literal_wildcard::LINT,
    &path_with_query::LINT,
    &trailing_slash::LINT,
    &foreign_pattern::LINT,
    &path_spelling::LINT,
    &client_in_ip_blocks::LINT,
    &no_request_authentication::LINT,
    &request_principal_never_matches::LINT,
    &whole_mesh::LINT,
    &dry_run::LINT,
    &empty_selector::LINT,
    &empty_list::LINT,
    &host_is_a_url::LINT,
    &field_among_labels::LINT,
    &nearly_dry_run::LINT,
    &skipped_resource::LINT,
    &custom_is_refused::LINT,
    &keys_in_plaintext::LINT,
    &unpinned_module::LINT,
    &plugin_settings::LINT,
    &any_issuer::LINT,
    &no_value::LINT,
    &not_one_or_not_another::LINT,
    &split_rule::LINT,
    &impossible_value::LINT,
    &placeholder::LINT,
    &misspelt_key::LINT,
    &unknown_issuer::LINT,
    &optional_token::LINT,
    &unknown_account::LINT,
    &service_port::LINT,
    &unknown_target::LINT,
    &peer_address_at_waypoint::LINT,
    &unusable_keys::LINT,
    &several_providers::LINT,
    &provider_fails_open::LINT,
    &allow_on_tcp::LINT,
    &impossible_label::LINT,
];

/// The code of the lint about what is skipped.
pub const SKIPPED_RESOURCE: &str = skipped_resource::LINT.code;

/// The code of the lint about CUSTOM policies.
pub const CUSTOM_IS_REFUSED: &str = custom_is_refused::LINT.code;

/// The code of the lint about providers that let requests pass.
pub const PROVIDER_FAILS_OPEN: &str = provider_fails_open::LINT.code;

/// Where a CUSTOM policy names its provider.
#[must_use]
pub fn provider_name() -> Path {
    Path::of(["spec", "provider", "name"])
}

/// The annotation that disables lints for one resource. Its value is a comma-separated list of codes.
pub const ALLOW_ANNOTATION: &str = "mesh-authz/allow";

/// A check for a probable mistake in policies, with its documentation.
#[derive(Debug)]
pub struct Lint {
    /// `MA` and three digits. A code is never reused or renumbered.
    pub code: &'static str,
    /// A short name in kebab-case.
    pub name: &'static str,
    /// What the lint finds, as a noun phrase.
    pub summary: &'static str,
    /// Why the finding is a problem, and how to fix it.
    pub explanation: &'static str,
    /// Policies that the lint fires on. The part before `spec` is omitted if it does not matter.
    pub bad: &'static str,
    /// The corrected policies, on which no lint fires.
    pub good: &'static str,
    /// The mesh's trust domain in the examples, if it is not the default.
    pub trust_domain: Option<&'static str>,
    check: Check,
}

/// The input of a lint's check, and its function.
#[derive(Debug)]
enum Check {
    /// Checks one value of a field or a condition.
    Value(fn(&str, &ValueList<'_>, &LintContext) -> Option<Remark>),
    /// Checks all values of a field or a condition together.
    List(fn(&ValueList<'_>, &LintContext, &mut Reporter)),
    /// Checks one policy.
    Policy(fn(&PolicyView<'_>, &LintContext, &mut Reporter)),
    /// Checks all policies together with the other resources in the input.
    Input(for<'r> fn(&Input<'r>, &mut Reporter)),
}

impl Lint {
    /// Whether the resource's annotation disables the lint.
    fn is_allowed_by(&self, node: &Node) -> bool {
        allowed(node).any(|allowed| allowed.eq_ignore_ascii_case(self.code))
    }
}

/// The lint with this code. Case does not matter.
#[must_use]
pub fn find(code: &str) -> Option<&'static Lint> {
    CATALOGUE.into_iter().find(|lint| lint.code.eq_ignore_ascii_case(code))
}

/// The Markdown page that documents all lints, `docs/lints.md`.
#[must_use]
pub fn page() -> String {
    let mut page = String::from(INTRODUCTION);
    for Lint { code, name, summary, .. } in CATALOGUE {
        let _infallible = writeln!(page, "| [{code}] | {name} | {summary} |");
    }
    page.push('\n');
    // The rows would be too long with the targets in them.
    for Lint { code, name, .. } in CATALOGUE {
        let _infallible = writeln!(page, "[{code}]: #{}-{name}", code.to_lowercase());
    }
    for Lint { code, name, explanation, bad, good, trust_domain, .. } in CATALOGUE {
        let explanation = textwrap::fill(explanation, textwrap::Options::new(120).break_words(false));
        let flags = trust_domain.map_or_else(String::new, |domain| format!(" with `--trust-domain {domain}`"));
        let _infallible = write!(
            page,
            "\n## {code} {name}\n\n{explanation}\n\nIt fires{flags} on\n\n```yaml\n{}\n```\n\nand not on\n\n```yaml\n{}\n```\n",
            bad.trim(),
            good.trim()
        );
    }
    page
}

const INTRODUCTION: &str = "\
# Lints

A lint finds valid policies that probably do not do what their author means, and what nobody can trust.
`mesh-authz check` and every `mesh-authz render` run all lints on this page. The meaning of a code never changes.

- `mesh-authz check --explain CODE` prints the section about one lint.
- `mesh-authz check --allow CODE` disables a lint.
- The annotation `mesh-authz/allow: CODE,…` disables lints for one resource.

This page is generated from the source code.

| code | name | finds |
| --- | --- | --- |
";

/// What lints know in addition to the input.
#[derive(Clone, Debug, Default)]
pub struct LintContext {
    /// The mesh that the policies are for.
    pub mesh: Mesh,
    /// A workload that the policies protect, in addition to those in the input: its namespace and labels.
    pub workload: Option<(String, Labels)>,
    /// How Envoy normalizes a path before policies see it.
    pub path_normalization: PathNormalization,
    /// Which peers in plaintext may connect.
    pub plaintext: Plaintexts,
    /// What else enforces the policies.
    pub enforced: Enforced,
    /// Who asks the providers of CUSTOM policies, if the input has them.
    pub custom: Custom,
}

/// What enforces the policies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Enforced {
    /// Istio, in every proxy, for HTTP and TCP.
    #[default]
    ByIstio,
    /// Only this filter, in an Envoy that is none of Istio's, and for HTTP only.
    ByThisFilter,
    /// As [`Self::ByThisFilter`], and the filter decides about TCP connections too.
    ByThisFilterAlsoOnTcp,
}

/// Which peers in plaintext may connect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Plaintexts {
    /// Those that no `PeerAuthentication` in the input refuses, as in Istio.
    #[default]
    AsInIstio,
    /// All, or it is not known: nothing enforces the `PeerAuthentications`.
    Accepted,
    /// None: everybody needs a certificate.
    Refused,
}

/// How Envoy normalizes a path before policies see it. The names are Istio's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathNormalization {
    /// Leaves the path as the client sent it.
    None,
    /// Resolves `.` and `..`. This is Istio's default.
    #[default]
    Base,
    /// Also merges adjacent slashes.
    MergeSlashes,
    /// Also decodes `%2F` and `%5C`.
    DecodeAndMergeSlashes,
}

impl PathNormalization {
    /// All values, with their names on the command line.
    pub const NAMES: [(&'static str, Self); 4] = [
        ("none", Self::None),
        ("base", Self::Base),
        ("merge-slashes", Self::MergeSlashes),
        ("decode-and-merge-slashes", Self::DecodeAndMergeSlashes),
    ];

    /// The one with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(other, _)| *other == name).map(|(_, normalization)| *normalization)
    }
}

/// Runs every lint on every policy. The findings are in no particular order.
#[must_use]
pub fn lint(resources: &Resources, context: &LintContext) -> Vec<Finding> {
    let alone = |resource| {
        let mut reporter = Reporter::default();
        reporter.unknown_codes(resource);
        let policy = PolicyView::new(resource);
        for lint in CATALOGUE {
            lint.policy(&policy, context, &mut reporter);
        }
        reporter.found
    };
    let found = resources.policies.par_iter().flat_map_iter(alone).collect();
    let mut reporter = Reporter { found };
    let input = Input::new(resources, context);
    for lint in CATALOGUE {
        if let Check::Input(check) = lint.check {
            check(&input, &mut reporter);
        }
    }
    let mut found = reporter.found;
    // A patch leaves out what it does not change, such as the action and the selector.
    let needs_whole = |code| WHOLE_POLICIES.iter().any(|lint| lint.code == code);
    found.retain(|finding| {
        !finding.code.is_some_and(needs_whole) || !input.kustomizations().is_patch(&finding.source.file)
    });
    found
}

/// The lints that have to know a policy's action or selector.
static WHOLE_POLICIES: [&Lint; 11] = [
    &unreachable_allow::LINT,
    &plaintext_slips_past_deny::LINT,
    &plaintext_satisfies_allow::LINT,
    &host_without_port::LINT,
    &deny_on_tcp::LINT,
    &trailing_slash::LINT,
    &path_spelling::LINT,
    &whole_mesh::LINT,
    &split_rule::LINT,
    &peer_address_at_waypoint::LINT,
    &allow_on_tcp::LINT,
];

impl Lint {
    /// Runs the lint on one policy, unless the lint checks the whole input.
    fn policy(&self, policy: &PolicyView<'_>, context: &LintContext, reporter: &mut Reporter) {
        match self.check {
            Check::Value(check) => {
                for list in &policy.lists {
                    for (index, value) in list.values.iter().enumerate() {
                        if list.owners.get(index).copied().flatten().is_some_and(|owner| owner != self.code) {
                            continue;
                        }
                        let Some(Remark { message, hint }) = check(value, list, context) else { continue };
                        let mut path = list.path.clone();
                        path.0.push(Segment::Index(index));
                        reporter.report(self, policy.resource, path, message, hint);
                    }
                }
            }
            Check::List(check) => policy.lists.iter().for_each(|list| check(list, context, reporter)),
            Check::Policy(check) => check(policy, context, reporter),
            Check::Input(_) => {}
        }
    }
}

/// Whether nothing here reads this document.
#[must_use]
pub fn is_skipped(other: &Other) -> bool {
    !other_resources::reads(other) && !received::says_settings(other) && !other.lets_http_through()
}

/// The warnings about each `RequestAuthentication`, for an output in which nothing verifies tokens.
pub fn skipped_request_authentications(resources: &Resources) -> impl Iterator<Item = Finding> {
    let mut reporter = Reporter::default();
    for found in &resources.request_authentications {
        reporter.report(
            &skipped_resource::LINT,
            found,
            Path::of(["kind"]),
            "this RequestAuthentication is skipped: nothing in this output verifies tokens",
            "`render envoy` makes the filter that verifies them; or let something else do it before this filter",
        );
    }
    reporter.found.into_iter()
}

/// The warnings about each `PeerAuthentication`, for an output in which nothing refuses plaintext.
pub fn skipped_peer_authentications(resources: &Resources) -> impl Iterator<Item = Finding> {
    let mut reporter = Reporter::default();
    for other in resources.of_kind(peer_authentication::KIND) {
        reporter.report(
            &skipped_resource::LINT,
            other,
            Path::of(["kind"]),
            "this PeerAuthentication is skipped: nothing in this output refuses peers in plaintext",
            "have Envoy require a certificate, and then leave it out",
        );
    }
    reporter.found.into_iter()
}

/// The warning that an output leaves a policy out.
#[must_use]
pub fn left_out(resource: &LoadedPolicy, path: Path, message: &str, hint: &str) -> Option<Finding> {
    let mut reporter = Reporter::default();
    reporter.report(&skipped_resource::LINT, resource, path, message, hint);
    reporter.found.pop()
}

/// The warning that nothing verifies the tokens that a policy looks at.
#[must_use]
pub fn no_verified_tokens(resource: &LoadedPolicy) -> Option<Finding> {
    let mut reporter = Reporter::default();
    reporter.report(
        &no_request_authentication::LINT,
        resource,
        Path::of(["spec"]),
        "looks at tokens, and no RequestAuthentication applies to this workload: no request has a verified one",
        "add a RequestAuthentication for issuers that you trust",
    );
    reporter.found.pop()
}

/// The rules of all `RequestAuthentication` resources, with the path of each.
fn jwt_rules<'r>(input: &Input<'r>) -> impl Iterator<Item = (&'r Authentication, Path, &'r JwtRule)> {
    input.resources.request_authentications.iter().flat_map(|found| {
        found.authentication.rules.iter().enumerate().map(move |(index, rule)| {
            let mut path = Path::of(["spec", "jwtRules"]);
            path.0.push(Segment::Index(index));
            (found, path, rule)
        })
    })
}

/// The warning that nothing pins the module at this URL, which is the value of an option of the command.
#[must_use]
pub fn unpinned_module(option: &str, url: &str, has_checksum: bool) -> Option<Finding> {
    let Remark { message, hint } = unpinned_module::unpinned(url, has_checksum, "--sha256")?;
    let diagnostic = Diagnostic { message, hint: Some(hint), ..Diagnostic::default() };
    let source = Arc::new(SourceText::new(PathBuf::from(option), url.to_owned()));
    let end = u32::try_from(url.chars().count()).unwrap_or(u32::MAX).saturating_add(1);
    let span = Span { start: Position { line: 1, column: 1 }, end: Position { line: 1, column: end } };
    let code = Some(unpinned_module::LINT.code);
    Some(Finding { source, span: Some(span), severity: Severity::Warning, code, diagnostic, related: Vec::new() })
}

/// A resource that a lint reports about.
#[derive(Clone, Copy)]
struct Reported<'r> {
    source: &'r Arc<SourceText>,
    node: &'r Node,
    /// Its name, if the resource is one of Istio's that the command reads.
    name: Option<&'r PolicyName>,
}

impl<'r> From<&'r LoadedPolicy> for Reported<'r> {
    fn from(LoadedPolicy { source, node, policy }: &'r LoadedPolicy) -> Self {
        Self { source, node, name: Some(&policy.name) }
    }
}

impl<'r> From<&'r Authentication> for Reported<'r> {
    fn from(Authentication { source, node, authentication }: &'r Authentication) -> Self {
        Self { source, node, name: Some(&authentication.name) }
    }
}

impl<'r> From<&'r Other> for Reported<'r> {
    fn from(Other { source, node }: &'r Other) -> Self {
        Self { source, node, name: None }
    }
}

/// The whole input, with results that several lints share. Each result is computed once.
struct Input<'r> {
    resources: &'r Resources,
    context: &'r LintContext,
    plaintext: OnceLock<Plaintext<'r>>,
    kustomizations: OnceLock<Kustomizations>,
    deployments: OnceLock<HashMap<usize, Vec<(usize, String)>>>,
    policies: ByNamespace<'r, LoadedPolicy>,
    authentications: ByNamespace<'r, Authentication>,
}

impl<'r> Input<'r> {
    fn new(resources: &'r Resources, context: &'r LintContext) -> Self {
        let Resources { policies, request_authentications, .. } = resources;
        Self {
            resources,
            context,
            plaintext: OnceLock::new(),
            kustomizations: OnceLock::new(),
            deployments: OnceLock::new(),
            policies: ByNamespace::new(policies, |found| &found.policy.name.namespace),
            authentications: ByNamespace::new(request_authentications, |found| &found.authentication.name.namespace),
        }
    }

    /// The policies of an action that are in force, with their rules.
    fn rules(&self, action: Action) -> impl Iterator<Item = (&'r LoadedPolicy, Vec<CompiledRule>)> {
        let options = self.context.mesh.options();
        let in_force = self
            .resources
            .policies
            .iter()
            .filter(move |LoadedPolicy { policy, .. }| policy.action == action && !policy.dry_run);
        in_force.map(move |resource| (resource, analysis::rules(&resource.policy, &options)))
    }

    /// The policies that may apply to a workload of `reach`.
    fn policies<'s>(&'s self, reach: Reach<'s>) -> impl Iterator<Item = &'r LoadedPolicy> + 's {
        let root = self.context.mesh.root_namespace.as_str();
        self.policies.near(reach, root).filter(move |resource| may_meet(resource.policy.reach(), reach, root))
    }

    /// The `RequestAuthentications` with rules that may apply to a workload of `reach`.
    fn authentications<'s>(&'s self, reach: Reach<'s>) -> impl Iterator<Item = &'r Authentication> + 's {
        let root = self.context.mesh.root_namespace.as_str();
        self.authentications.near(reach, root).filter(move |Authentication { authentication, .. }| {
            !authentication.rules.is_empty() && may_meet(authentication.reach(), reach, root)
        })
    }

    fn kustomizations(&self) -> &Kustomizations {
        self.kustomizations.get_or_init(|| Kustomizations::of(self.resources))
    }

    /// Whether the resources of a file are deployed with the namespaces, names and labels that the file says.
    fn is_as_written(&self, source: &SourceText) -> bool {
        !self.kustomizations().changes(&source.file)
    }

    /// For each text that a kustomization names, by its address: how it is deployed.
    fn deployments(&self) -> &HashMap<usize, Vec<(usize, String)>> {
        self.deployments.get_or_init(|| {
            let Resources { policies, request_authentications, others, .. } = self.resources;
            let sources = policies.iter().map(|found| &found.source);
            let sources = sources.chain(request_authentications.iter().map(|found| &found.source));
            let sources = sources.chain(others.iter().map(|other| &other.source));
            let deployed = |source: &Arc<SourceText>| {
                Some((Arc::as_ptr(source).addr(), self.kustomizations().deployments(&source.file)?))
            };
            sources.filter_map(deployed).collect()
        })
    }

    /// Whether the kustomizations keep the resources of two files apart. One cluster can get both from two kustomizations,
    /// so what speaks against a finding counts all the same.
    fn are_apart(&self, one: &Arc<SourceText>, other: &Arc<SourceText>) -> bool {
        if self.kustomizations().is_empty() || Arc::ptr_eq(one, other) {
            return false;
        }
        let deployments = |source: &Arc<SourceText>| self.deployments().get(&Arc::as_ptr(source).addr());
        match (deployments(one), deployments(other)) {
            (Some(ones), Some(others)) => !ones.iter().any(|deployment| others.contains(deployment)),
            _ => false,
        }
    }

    /// The policies that are deployed as they are written.
    fn policies_as_written(&self) -> impl Iterator<Item = &'r LoadedPolicy> {
        self.resources.policies.iter().filter(|resource| self.is_as_written(&resource.source))
    }

    /// Whether every workload that the policy applies to refuses every peer without an identity.
    fn refuses_plaintext(&self, resource: &'r LoadedPolicy) -> bool {
        self.plaintext.get_or_init(|| Plaintext::new(self)).is_refused(self, resource)
    }
}

/// A policy and its lists of values.
struct PolicyView<'r> {
    resource: &'r LoadedPolicy,
    lists: Vec<ValueList<'r>>,
}

impl<'r> PolicyView<'r> {
    fn new(resource: &'r LoadedPolicy) -> Self {
        let mut lists = Vec::new();
        each_predicate(resource, |rule, clause, field, predicate| {
            for is_not in [false, true] {
                let path = predicate.path(rule, clause, field, is_not);
                let Some(Value::List(items)) = resource.node.at(&path).map(|node| &node.value) else { continue };
                let values: Vec<_> = items.iter().filter_map(Node::as_str).collect();
                let owners = values.iter().map(|value| impossible_value::owner(value, predicate)).collect();
                lists.push(ValueList { resource, predicate, is_not, path, values, owners });
            }
        });
        Self { resource, lists }
    }

    fn policy(&self) -> &'r AuthorizationPolicy {
        &self.resource.policy
    }

    /// The keys of the map at a path of the policy; none if there is no map.
    fn keys(&self, path: &Path) -> impl Iterator<Item = &'r str> {
        let entries = match self.resource.node.at(path).map(|node| &node.value) {
            Some(Value::Map(entries)) => entries.as_slice(),
            _ => &[],
        };
        entries.iter().map(|(key, _)| key.as_str())
    }
}

/// The values of a field or a condition, or those of its `not` twin.
struct ValueList<'r> {
    resource: &'r LoadedPolicy,
    predicate: &'r Predicate,
    is_not: bool,
    /// The path of the list in the policy.
    path: Path,
    /// The values as the author wrote them.
    values: Vec<&'r str>,
    /// For each value that means nothing at all: the code of the lint that says so, and the only one that looks at it.
    owners: Vec<Option<&'static str>>,
}

impl ValueList<'_> {
    /// Whether a match counts against the request: in fields of DENY and CUSTOM, and in `not` fields of ALLOW.
    fn denies(&self) -> bool {
        match self.resource.policy.action {
            Action::Allow => self.is_not,
            Action::Deny | Action::Custom => !self.is_not,
            Action::Audit => false,
        }
    }

    /// The advice to correct a value that matches too little. It says so if more requests pass then.
    fn correct(&self, advice: impl Into<String>) -> String {
        let advice = advice.into();
        if self.denies() || self.resource.policy.action == Action::Audit {
            return advice;
        }
        format!("{advice}, if the requests that it then matches are to pass")
    }
}

fn each_predicate<'r>(resource: &'r LoadedPolicy, mut each: impl FnMut(usize, Clause, usize, &'r Predicate)) {
    for (index, rule) in resource.policy.rules.iter().enumerate() {
        for (clause, all_of) in rule.clauses() {
            for (field, predicate) in all_of.0.iter().enumerate() {
                each(index, clause, field, predicate);
            }
        }
    }
}

/// What a lint reports about one value.
struct Remark {
    message: String,
    hint: String,
}

impl Remark {
    fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into() }
    }
}

/// Collects what lints report.
#[derive(Default)]
struct Reporter {
    found: Vec<Finding>,
}

impl Reporter {
    /// Reports a finding at a path in a resource, unless the resource's annotation disables the lint.
    fn report<'r>(
        &mut self,
        lint: &Lint,
        resource: impl Into<Reported<'r>>,
        path: Path,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.add(lint, resource.into(), path, Remark::new(message, hint), None);
    }

    /// As [`Self::report`], with another place that explains the finding.
    fn report_related(
        &mut self,
        lint: &Lint,
        resource: &LoadedPolicy,
        path: Path,
        message: impl Into<String>,
        hint: impl Into<String>,
        related: impl Into<Option<Related>>,
    ) {
        self.add(lint, resource.into(), path, Remark::new(message, hint), related.into());
    }

    fn add(
        &mut self,
        lint: &Lint,
        Reported { source, node, name }: Reported<'_>,
        path: Path,
        Remark { message, hint }: Remark,
        related: Option<Related>,
    ) {
        if lint.is_allowed_by(node) {
            return;
        }
        let policy = name.map(ToString::to_string);
        let diagnostic = Diagnostic { policy, path, part: Part::Value, message, hint: Some(hint) };
        let finding = Finding::error(source, node, diagnostic);
        let related = related.into_iter().collect();
        self.found.push(Finding { severity: Severity::Warning, code: Some(lint.code), related, ..finding });
    }

    /// Reports the annotation's codes that do not exist.
    fn unknown_codes(&mut self, resource: &LoadedPolicy) {
        for code in allowed(&resource.node).filter(|code| find(code).is_none()) {
            let diagnostic = Diagnostic {
                policy: Some(resource.policy.name.to_string()),
                path: Path::of(["metadata", "annotations", ALLOW_ANNOTATION]),
                message: format!("`{code}` is no lint"),
                hint: Some("write the codes of lints, such as `MA012, MA024`".to_owned()),
                ..Diagnostic::default()
            };
            self.found.push(Finding::error(&resource.source, &resource.node, diagnostic));
        }
    }
}

impl Related {
    /// A place in a policy, and a message about it.
    fn new(resource: &LoadedPolicy, path: &Path, message: &str) -> Self {
        Self {
            source: Arc::clone(&resource.source),
            span: resource.node.locate(path, Part::Value),
            message: message.to_owned(),
        }
    }
}

/// The codes of the lints that a resource's annotation disables.
fn allowed(node: &Node) -> impl Iterator<Item = &str> {
    let annotation = node.at(&Path::of(["metadata", "annotations", ALLOW_ANNOTATION])).and_then(Node::as_str);
    annotation.into_iter().flat_map(|codes| codes.split(',').map(str::trim)).filter(|code| !code.is_empty())
}
