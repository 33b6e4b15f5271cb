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
//! | `open` | asks what can become of a request of which not everything is known |
//! | `cover` | asks for the rules that match whatever another rule matches |

mod budget;
mod cover;
mod difference;
mod open;
mod region;
mod solve;
#[expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "sets are numbered as they are listed, and addresses have so many bits"
)]
mod subject;
#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "tests fail by panicking")]
mod tests;
#[expect(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "states are numbered as they are listed")]
mod text;
mod values;
mod witness;
pub mod words;

pub use budget::{Budget, Requests, Undecided};
pub use cover::{Compared, ComparedRules, Coverage, Covering};
pub use difference::{Cause, Effect, Policies, Proof, Reason, Region, Side, Sides, causes, effect, prove};
pub use open::{Open, OpenKey, Possible};
pub use solve::{Rule, Workloads};
pub use witness::Witness as Example;

use crate::engine::Options;
use crate::engine::compile;
pub use crate::engine::compile::CompiledRule;
use crate::engine::evaluate::Evaluation;
use crate::policy::AuthorizationPolicy;
use crate::request::Attributes;

/// Compiles the rules of a policy.
#[must_use]
pub fn rules(policy: &AuthorizationPolicy, options: &Options) -> Vec<CompiledRule> {
    compile::policy(policy, options)
}

impl CompiledRule {
    /// Whether the rule matches a request. An unreadable attribute counts against the request.
    pub fn matches(&self, request: &impl Attributes) -> bool {
        Evaluation::new(request).rule(self).counts()
    }
}
