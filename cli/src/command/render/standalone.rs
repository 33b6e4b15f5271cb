//! What a standalone Envoy enforces on one workload: policies, and the verification of tokens.

use mesh_authz::attribute::Subject;
use mesh_authz::config::Mesh;
use mesh_authz::diagnostic::{Diagnostic, Path, Segment};
use mesh_authz::policy::Traffic;
use mesh_authz::policy::scope::{Scope, Workload, scope_of};
use serde_json::Value;

use super::custom::{self, Asking, Kept};
use super::shared::applying;
use crate::command::options::{NoneAppliesOption, Setting};
use crate::command::{Failure, not_applying, note};
use crate::lint::{self, LintContext, PathNormalization, Plaintexts};
use crate::load::finding::Finding;
use crate::load::providers::Providers;
use crate::load::request_authentication::Keys;
use crate::load::{Authentication, LoadedPolicy, Resources};
use crate::render::jwt;

/// The resources that apply to a workload.
pub struct Enforced<'r> {
    pub mesh: Mesh,
    pub scope: Workload,
    pub policies: Vec<&'r LoadedPolicy>,
    authentications: Vec<&'r Authentication>,
    /// What asks the providers of CUSTOM policies.
    pub asking: Asking,
}

impl<'r> Enforced<'r> {
    /// Leaves out what does not apply to the workload, with a note on standard error. `kept`: where the filters are that ask
    /// providers.
    pub fn of(
        resources: &'r Resources,
        setting: &Setting,
        none_applies: NoneAppliesOption,
        kept: Kept,
    ) -> Result<Self, Failure> {
        let mesh = setting.mesh();
        setting.workload.required_namespace()?;
        let scope = setting.workload.workload(&mesh)?;
        let policies = applying(resources, &scope, none_applies)?;
        let authentications = authentications(resources, &scope)?;
        let asking = Asking::of(resources, &policies, &scope, &mesh, kept, Traffic::Http)?;
        Ok(Self { mesh, scope, policies, authentications, asking })
    }

    /// What is enforced over TCP: the policies, and what asks the providers of CUSTOM policies. As in Istio, no CUSTOM policy
    /// is enforced over TCP if its provider is asked over HTTP.
    pub fn over_tcp(&self, resources: &Resources) -> Result<(Vec<&'r LoadedPolicy>, Asking), Failure> {
        let providers = Providers::of(resources);
        let is_enforced = |resource: &&&LoadedPolicy| {
            let provider = resource.policy.provider.as_deref().and_then(|name| providers.named(name));
            provider.is_none_or(|provider| provider.http.is_none())
        };
        let policies: Vec<_> = self.policies.iter().filter(is_enforced).copied().collect();
        let mut asking =
            Asking::of(resources, &policies, &self.scope, &self.mesh, Kept::InConfiguration, Traffic::Tcp)?;
        asking.warnings = custom::warnings(&self.policies, &providers, &self.mesh, Traffic::Tcp);
        Ok((policies, asking))
    }

    /// What lints find in an Envoy that normalizes paths like this.
    pub fn warnings(&self, resources: &Resources, paths: PathNormalization, plaintext: Plaintexts) -> Vec<Finding> {
        self.warnings_where(resources, paths, plaintext, lint::Enforced::ByThisFilter)
    }

    /// As [`Self::warnings`], if the filter may decide about TCP connections too.
    pub fn warnings_where(
        &self,
        resources: &Resources,
        paths: PathNormalization,
        plaintext: Plaintexts,
        enforced: lint::Enforced,
    ) -> Vec<Finding> {
        let is_accepted = matches!(plaintext, Plaintexts::Accepted);
        let context = LintContext {
            mesh: self.mesh.clone(),
            workload: self.scope.labels.clone().map(|labels| (self.scope.namespace.clone(), labels)),
            path_normalization: paths,
            plaintext,
            enforced,
            ..LintContext::default()
        };
        let mut warnings = lint::lint(resources, &context);
        warnings.retain(|finding| self.asking.agrees_with(finding));
        warnings.extend(self.asking.warnings.iter().cloned());
        if is_accepted {
            warnings.extend(lint::skipped_peer_authentications(resources));
        }
        let verifies = self.authentications.iter().any(|found| !found.authentication.rules.is_empty());
        // Without any in the input, the lint says so.
        if !verifies && !resources.request_authentications.is_empty() {
            let policies = self.policies.iter().filter(|found| looks_at(found, Subject::Token));
            warnings.extend(policies.filter_map(|found| lint::no_verified_tokens(found)));
        }
        warnings
    }

    /// The filter that verifies tokens, and the clusters from which it fetches its keys.
    /// If `payload_key` is not given, the claims have the key that the filter looks for.
    pub fn verification(
        &self,
        authorities: &str,
        payload_key: Option<&str>,
    ) -> Result<(Option<Value>, Vec<Value>), Failure> {
        let without_keys = without_keys(&self.authentications);
        if !without_keys.is_empty() {
            return Err(Failure::Invalid(without_keys));
        }
        let rules: Vec<_> = self.authentications.iter().flat_map(|found| &found.authentication.rules).collect();
        let (jwt_authn, clusters) = jwt::filter(&rules, self.scope.gateway.is_some(), authorities, payload_key).unzip();
        Ok((jwt_authn, clusters.unwrap_or_default()))
    }
}

/// The `RequestAuthentications` that apply to the workload. Prints notes on standard error about the others, with the
/// reason.
fn authentications<'r>(resources: &'r Resources, workload: &Workload) -> Result<Vec<&'r Authentication>, Failure> {
    let (mut applying, mut elsewhere) = (Vec::new(), Vec::new());
    for found in &resources.request_authentications {
        let (name, target) = (&found.authentication.name, &found.authentication.target);
        if let Some(what) = workload.missing_labels(target) {
            return Err(Failure::NeedsLabels { kind: "RequestAuthentication", name: name.clone(), what });
        }
        match scope_of(found.authentication.reach(), workload) {
            Scope::Applies => applying.push(found),
            scope => elsewhere.push((name, scope)),
        }
    }
    for line in not_applying("RequestAuthentication", &elsewhere) {
        note(&line);
    }
    Ok(applying)
}

/// Whether the policy looks at an attribute of this subject.
pub fn looks_at(resource: &LoadedPolicy, subject: Subject) -> bool {
    resource.policy.predicates().any(|predicate| predicate.attribute().info().subject == subject)
}

/// An error for each rule that does not say where its keys are.
fn without_keys(authentications: &[&Authentication]) -> Vec<Finding> {
    let field = |name: &str| Segment::Field(name.to_owned());
    let mut findings = Vec::new();
    for found in authentications {
        let rules = found.authentication.rules.iter().enumerate();
        for (index, _) in rules.filter(|(_, rule)| rule.keys == Keys::Discovered) {
            let diagnostic = Diagnostic {
                policy: Some(found.authentication.name.to_string()),
                path: Path(vec![field("spec"), field("jwtRules"), Segment::Index(index)]),
                message: "has neither jwks nor jwksUri: Istio would ask the issuer for its keys, by OpenID Connect \
                          discovery, and a standalone Envoy cannot"
                    .to_owned(),
                hint: Some(
                    "write jwksUri; the issuer's /.well-known/openid-configuration has it as jwks_uri".to_owned(),
                ),
                ..Diagnostic::default()
            };
            findings.push(Finding::error(&found.source, &found.node, diagnostic));
        }
    }
    findings
}
