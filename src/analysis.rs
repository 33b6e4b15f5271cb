//! Answers questions about all requests at once.
//!
//! [`effect`] says whether a change of policies lets a request through, and [`prove`] whether all requests of a kind are
//! decided as expected. Both are exact. If the answer is a request, the engine has matched the rules with it. If it is that
//! there is none, all are excluded. If it would take too long to know, the answer is [`Undecided`].
//!
//! | module | what it does |
//! | --- | --- |
//! | `text` | finds a text that is in some sets of texts and in none of others |
//! | `values` | turns the values of a test into such sets |
//! | `subject` | knows what tests are about, and finds a value that meets several tests |
//! | `region` | collects the tests that a request must meet |
//! | `solve` | finds a request that some rules match and others do not |
//! | `difference` | asks for the requests that two sets of policies decide differently |
//! | [`words`] | says which requests these are |
//!
//! [`CompiledRule::covers`] and the questions about single rules approximate: a "yes" holds for every request, with one
//! exception that is described there, and a "no" means that a "yes" could not be shown.
//!
//! ```
//! use mesh_authz::analysis::rules;
//! use mesh_authz::config::Mesh;
//! use mesh_authz::policy::AuthorizationPolicy;
//!
//! let policy = |rule: &str| {
//!     let text = format!(
//!         r#"{{ "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": {{ "name": "p" }},
//!              "spec": {{ "rules": [{rule}] }} }}"#
//!     );
//!     AuthorizationPolicy::from_json(&text).expect("a valid policy")
//! };
//! let wide = policy(r#"{ "to": [{ "operation": { "paths": ["/api/*"] } }] }"#);
//! let narrow = policy(r#"{ "to": [{ "operation": { "paths": ["/api/orders"], "methods": ["GET"] } }] }"#);
//! let [wide, narrow] = [&wide, &narrow].map(|policy| rules(policy, &Mesh::default().options()).remove(0));
//! assert!(wide.covers(&narrow) && !narrow.covers(&wide));
//! ```

mod budget;
mod cover;
mod cover_witness;
mod difference;
mod region;
mod solve;
#[expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "sets are numbered as they are listed, and addresses have so many bits"
)]
mod subject;
#[expect(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "states are numbered as they are listed")]
mod text;
mod values;
mod witness;
pub mod words;

pub use budget::{Budget, Undecided};
pub use difference::{Cause, Effect, Policies, Proof, Reason, Region, Side, Sides, causes, effect, prove};
pub use solve::Workloads;
pub use witness::Witness as Example;

use crate::engine::Options;
use crate::engine::compile;
pub use crate::engine::compile::CompiledRule;
use crate::engine::evaluate::Evaluation;
use crate::engine::index::Index;
use crate::policy::AuthorizationPolicy;
use crate::request::{Attributes, Request};

/// Compiles the rules of a policy.
#[must_use]
pub fn rules(policy: &AuthorizationPolicy, options: &Options) -> Vec<CompiledRule> {
    compile::policy(policy, options)
}

/// A request that is made from the first values of a rule. With it, [`RuleIndex::candidates`] finds every rule that
/// covers the rule.
#[derive(Debug)]
pub struct Witness(Option<Request>);

impl CompiledRule {
    /// Whether the rule matches a request. An unreadable attribute counts against the request.
    pub fn matches(&self, request: &impl Attributes) -> bool {
        Evaluation::new(request).rule(self).counts()
    }

    /// Makes the witness of the rule.
    #[must_use]
    pub fn witness(&self) -> Witness {
        Witness(self.alternatives().next().and_then(cover::Alternative::witness))
    }
}

/// Rules that are filed by their values. The rules that may cover a certain rule are found without comparing it with
/// every rule.
#[derive(Debug)]
pub struct RuleIndex(Index);

impl RuleIndex {
    /// Files these rules.
    #[must_use]
    pub fn new(rules: Vec<CompiledRule>) -> Self {
        Self(Index::new(rules))
    }

    /// The rules, in the order in which they are reported.
    #[must_use]
    pub fn rules(&self) -> &[CompiledRule] {
        self.0.rules()
    }

    /// The positions of the rules that may cover the rule of this witness: all rules that cover it, and perhaps others.
    #[must_use]
    pub fn candidates(&self, Witness(request): &Witness) -> Vec<usize> {
        match request {
            Some(request) => self.0.candidates(&Evaluation::new(request)),
            None => (0..self.rules().len()).collect(),
        }
    }
}
