//! Questions about valid policies: is this what their author means?
//!
//! Every question has a code that never changes ([`catalogue`]). [`values`] looks at one value at a time, [`rules`] at one
//! policy, [`together`] holds rules against each other, and [`surroundings`] holds policies against what else is in the
//! input: workloads, and what verifies tokens and peers. A policy whose author knows better says so with the
//! annotation [`ALLOW`].

pub mod catalogue;
mod rules;
mod surroundings;
mod together;
mod values;

use std::sync::Arc;

use rayon::prelude::*;

use crate::load::finding::{Finding, Related, Severity};
use crate::load::{Other, Resource, Resources};
use mesh_authz::config::Mesh;
use mesh_authz::diagnostic::{Diagnostic, Part, Path};
use mesh_authz::document::{Node, Value};
use mesh_authz::policy::{Action, Clause, Predicate};

pub use self::catalogue::{CATALOGUE, Lint};

/// The annotation that names the lints that a policy need not hear about, separated by commas.
pub const ALLOW: &str = "mesh-authz/allow";

/// What is known besides the policies.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// The mesh.
    pub mesh: Mesh,
    /// A workload that is to be protected: its namespace and labels.
    pub workload: Option<(String, Vec<(String, String)>)>,
    /// How Envoy spells a path before policies see it.
    pub path_normalization: PathNormalization,
}

/// How Envoy spells a path before policies see it; Istio's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathNormalization {
    /// As it came.
    None,
    /// Without `.` and `..`. Istio's default.
    #[default]
    Base,
    /// And without doubled slashes.
    MergeSlashes,
    /// And with `%2F` and `%5C` decoded.
    DecodeAndMergeSlashes,
}

impl PathNormalization {
    /// Every one, as the command's argument has it.
    pub const NAMES: [(&'static str, Self); 4] = [
        ("none", Self::None),
        ("base", Self::Base),
        ("merge-slashes", Self::MergeSlashes),
        ("decode-and-merge-slashes", Self::DecodeAndMergeSlashes),
    ];
}

/// Asks every question about every policy. What is found is in no particular order.
#[must_use]
pub fn lint(resources: &Resources, surroundings: &Surroundings) -> Vec<Finding> {
    let linter = || Linter { resources, surroundings, found: Vec::new() };
    let alone = |resource| {
        let mut linter = linter();
        linter.allowances(resource);
        let sites = sites(resource);
        rules::policy(&mut linter, resource, &sites);
        for site in &sites {
            values::site(&mut linter, site);
        }
        linter.found
    };
    let found = resources.policies.par_iter().flat_map_iter(alone).collect();
    let mut linter = Linter { found, ..linter() };
    together::policies(&mut linter);
    surroundings::policies(&mut linter);
    linter.found
}

/// Whether a resource that is no policy tells lints something.
#[must_use]
pub fn reads(other: &Other) -> bool {
    surroundings::reads(other.text("kind"))
}

struct Linter<'r> {
    resources: &'r Resources,
    surroundings: &'r Surroundings,
    found: Vec<Finding>,
}

/// Values that stand together in a policy: those of a field or a condition, or those of its `not` twin.
struct Site<'r> {
    resource: &'r Resource,
    predicate: &'r Predicate,
    is_not: bool,
    /// Where the list of them stands.
    path: Path,
    /// As written.
    values: Vec<&'r str>,
}

impl Site<'_> {
    /// Whether a match brings a request nearer to being refused.
    fn denies(&self) -> bool {
        match self.resource.policy.action {
            Action::Allow => self.is_not,
            Action::Deny | Action::Custom => !self.is_not,
            Action::Audit => false,
        }
    }
}

/// The lists of values in a policy.
fn sites(resource: &Resource) -> Vec<Site<'_>> {
    let mut sites = Vec::new();
    each_predicate(resource, |rule, clause, field, predicate| {
        for is_not in [false, true] {
            let path = predicate.path(rule, clause, field, is_not);
            let Some(Value::List(items)) = resource.node.at(&path).map(|node| &node.value) else { continue };
            let values = items.iter().filter_map(Node::as_str).collect();
            sites.push(Site { resource, predicate, is_not, path, values });
        }
    });
    sites
}

fn each_predicate<'r>(resource: &'r Resource, mut each: impl FnMut(usize, Clause, usize, &'r Predicate)) {
    for (index, rule) in resource.policy.rules.iter().enumerate() {
        for (clause, all_of) in rule.clauses() {
            for (field, predicate) in all_of.0.iter().enumerate() {
                each(index, clause, field, predicate);
            }
        }
    }
}

impl<'r> Linter<'r> {
    /// Reports what a lint has found at a place in a policy, unless the policy's author knows.
    fn report(&mut self, code: &'static str, resource: &'r Resource, path: Path, message: String, hint: String) {
        self.report_related(code, resource, path, message, hint, None);
    }

    fn report_related(
        &mut self,
        code: &'static str,
        resource: &'r Resource,
        path: Path,
        message: String,
        hint: String,
        related: Option<(&'r Resource, Path, String)>,
    ) {
        if allowed(resource).any(|allowed| allowed.eq_ignore_ascii_case(code)) {
            return;
        }
        let related = related.map(|(resource, path, message)| Related {
            source: Arc::clone(&resource.source),
            span: resource.node.locate(&path, Part::Value),
            message,
        });
        let policy = Some(resource.policy.name.to_string());
        let diagnostic = Diagnostic { policy, path, part: Part::Value, message, hint: Some(hint) };
        let finding = Finding::error(&resource.source, &resource.node, diagnostic);
        let (severity, code) = (Severity::Warning, Some(code));
        self.found.push(Finding { severity, code, related: related.into_iter().collect(), ..finding });
    }

    /// Codes in the annotation that are none.
    fn allowances(&mut self, resource: &'r Resource) {
        for code in allowed(resource).filter(|code| catalogue::find(code).is_none()) {
            let diagnostic = Diagnostic {
                policy: Some(resource.policy.name.to_string()),
                path: Path::of(["metadata", "annotations", ALLOW]),
                message: format!("`{code}` is no lint"),
                hint: Some("write the codes of lints, such as `MA012, MA024`".to_owned()),
                ..Diagnostic::default()
            };
            self.found.push(Finding::error(&resource.source, &resource.node, diagnostic));
        }
    }
}

/// The lints that a policy's author does not want to hear about.
fn allowed(resource: &Resource) -> impl Iterator<Item = &str> {
    let annotation = resource.node.at(&Path::of(["metadata", "annotations", ALLOW])).and_then(Node::as_str);
    annotation.into_iter().flat_map(|codes| codes.split(',').map(str::trim)).filter(|code| !code.is_empty())
}
