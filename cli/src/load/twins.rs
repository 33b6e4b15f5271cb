//! Resources with the same kind, namespace and name: a cluster keeps only one of them.

use std::collections::HashMap;
use std::sync::Arc;

use mesh_authz::diagnostic::{Diagnostic, Part, Path};
use mesh_authz::document::Node;
use mesh_authz::policy::PolicyName;

use super::Resources;
use super::finding::{Finding, Related, SourceText};
use super::kustomization::{Deployment, Kustomizations};

/// The code of the error for two policies with the same name.
pub const DUPLICATE_NAME: &str = "MA011";

impl Resources {
    /// Reports all resources with one name. Without a reason to think otherwise, one cluster gets all of them.
    pub(super) fn find_twins(&mut self) {
        let twins: Vec<_> = self.twins(|_, _| Deployment::Together).iter().map(Twin::error).collect();
        self.findings.extend(twins);
    }

    /// Drops the errors about resources with one name that are not deployed together, as far as the input says.
    pub fn keep_errors_about_what_is_deployed_together(&mut self) {
        let kustomizations = Kustomizations::of(self);
        let relation = |one: &SourceText, other: &SourceText| kustomizations.relation(&one.file, &other.file);
        let twins = self.twins(relation);
        let together = twins.iter().filter(|twin| twin.deployment == Deployment::Together);
        let together: Vec<_> = together.map(Twin::error).collect();
        self.findings.retain(|finding| finding.code != Some(DUPLICATE_NAME));
        self.findings.extend(together);
        self.kustomizations = Some(kustomizations);
    }

    /// The resources that have the same kind, namespace and name as an earlier one, with the earlier one that is the most
    /// likely to be deployed together with it.
    pub fn twins(&self, relation: impl Fn(&SourceText, &SourceText) -> Deployment) -> Vec<Twin<'_>> {
        let policies = self.policies.iter().map(|found| (&found.policy.name, &found.source, &found.node));
        let authentications = self.request_authentications.iter();
        let authentications = authentications.map(|found| (&found.authentication.name, &found.source, &found.node));
        let mut twins = self::twins(policies, &relation);
        twins.extend(self::twins(authentications, &relation));
        twins
    }
}

/// A resource that has the same kind, namespace and name as an earlier one.
#[derive(Debug)]
pub struct Twin<'r> {
    /// The namespace and the name.
    pub name: &'r PolicyName,
    /// The text that contains it.
    pub source: &'r Arc<SourceText>,
    /// The document.
    pub node: &'r Node,
    /// The text and the document of the earlier one.
    pub earlier: (&'r Arc<SourceText>, &'r Node),
    /// Whether both are deployed together.
    pub deployment: Deployment,
}

impl Twin<'_> {
    /// The path that findings point at.
    #[must_use]
    pub fn path() -> Path {
        Path::of(["metadata", "name"])
    }

    /// The place of the earlier one.
    #[must_use]
    pub fn related(&self) -> Related {
        let (source, node) = self.earlier;
        let span = node.locate(&Self::path(), Part::Value);
        Related { source: Arc::clone(source), span, message: "the other one".to_owned() }
    }

    /// A cluster would keep only the last.
    fn error(&self) -> Finding {
        let (source, _) = self.earlier;
        let diagnostic = Diagnostic {
            policy: Some(self.name.to_string()),
            path: Self::path(),
            message: format!("another policy, in {}, has the same namespace and name", source.file.display()),
            hint: Some("rename or remove one; a cluster cannot hold both".to_owned()),
            ..Diagnostic::default()
        };
        let finding = Finding::error(self.source, self.node, diagnostic);
        Finding { code: Some(DUPLICATE_NAME), related: vec![self.related()], ..finding }
    }
}

/// Finds resources of one kind that have the same namespace and name.
fn twins<'r>(
    resources: impl Iterator<Item = (&'r PolicyName, &'r Arc<SourceText>, &'r Node)>,
    relation: impl Fn(&SourceText, &SourceText) -> Deployment,
) -> Vec<Twin<'r>> {
    let mut seen: HashMap<_, Vec<(&'r Arc<SourceText>, &'r Node)>> = HashMap::new();
    let mut found = Vec::new();
    for (name, source, node) in resources {
        let earlier = seen.entry(name).or_default();
        let likely = earlier.iter().map(|(other, node)| (relation(source, other), (*other, *node)));
        if let Some((deployment, earlier)) = likely.max_by_key(|(deployment, _)| *deployment) {
            found.push(Twin { name, source, node, earlier, deployment });
        }
        // More would take long, and tell nothing new.
        if earlier.len() < 100 {
            earlier.push((source, node));
        }
    }
    found
}
