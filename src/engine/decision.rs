//! What was decided, and by which rule.
//!
//! An [`Outcome`] carries its reason, so that a verdict and its reason cannot contradict each other.

use std::fmt;
use std::sync::Arc;

use crate::attribute::Origin;
use crate::policy::PolicyName;

/// The name of a rule; prints as `ns[NAMESPACE]-policy[NAME]-rule[INDEX]`, as Istio names it in Envoy.
#[derive(Clone, Debug)]
pub struct RuleId {
    /// The policy.
    pub policy: Arc<PolicyName>,
    /// The rule's position in `spec.rules`.
    pub index: usize,
    pub(super) policy_number: u32,
    text: Box<str>,
}

/// Wherever the policy stands among others, the rule is the same.
impl PartialEq for RuleId {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for RuleId {}

impl RuleId {
    pub(super) fn new(policy: &Arc<PolicyName>, index: usize) -> Self {
        let text = format!("ns[{}]-policy[{}]-rule[{index}]", policy.namespace, policy.name);
        Self { policy: Arc::clone(policy), index, policy_number: 0, text: text.into() }
    }

    /// `ns[NAMESPACE]-policy[NAME]-rule[INDEX]`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The position of the policy among those that the engine was made from.
    #[must_use]
    pub(crate) fn policy_number(&self) -> u32 {
        self.policy_number
    }
}

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// ALLOW or DENY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The request passes.
    Allow,
    /// The request is refused.
    Deny,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "ALLOW",
            Self::Deny => "DENY",
        })
    }
}

/// What happens to the request, and why. Prints as the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome<'e> {
    /// It passes.
    Allowed(AllowReason<'e>),
    /// It is refused.
    Denied(DenyReason<'e>),
}

/// Why a request passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllowReason<'e> {
    /// This rule of an ALLOW policy matched.
    Rule(&'e RuleId),
    /// No ALLOW policy applies, and no DENY policy matched.
    NothingApplies,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DenyReason<'e> {
    /// This rule of a DENY policy matched.
    Rule(&'e RuleId),
    /// This rule of a CUSTOM policy matched, and there is no provider to ask.
    NoProvider(&'e RuleId),
    /// Policies apply, and none of the ALLOW policies among them matched.
    NoAllowMatched,
}

impl<'e> Outcome<'e> {
    /// The outcome without its reason.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Allowed(_) => Verdict::Allow,
            Self::Denied(_) => Verdict::Deny,
        }
    }

    /// The rule that decided, if one did.
    #[must_use]
    pub fn rule(&self) -> Option<&'e RuleId> {
        match self {
            Self::Allowed(AllowReason::Rule(rule))
            | Self::Denied(DenyReason::Rule(rule) | DenyReason::NoProvider(rule)) => Some(rule),
            Self::Allowed(AllowReason::NothingApplies) | Self::Denied(DenyReason::NoAllowMatched) => None,
        }
    }
}

impl fmt::Display for Outcome<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allowed(AllowReason::Rule(rule)) | Self::Denied(DenyReason::Rule(rule)) => {
                write!(f, "rule {} of {} matched", rule.index, rule.policy)
            }
            Self::Denied(DenyReason::NoProvider(rule)) => {
                write!(f, "rule {} of {} matched, and CUSTOM has no provider to ask here", rule.index, rule.policy)
            }
            Self::Denied(DenyReason::NoAllowMatched) => f.write_str("no ALLOW policy matched"),
            Self::Allowed(AllowReason::NothingApplies) => {
                f.write_str("no ALLOW policy applies, and no DENY policy matched")
            }
        }
    }
}

/// The answer for one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision<'e> {
    /// Whether the request passes, and why.
    pub outcome: Outcome<'e>,
    /// What the dry-run policies would have decided.
    pub dry_run: DryRun<'e>,
    /// The first AUDIT rule that matched.
    pub audited: Option<&'e RuleId>,
    /// Set if the decision rests on something that the host refused to tell: the deciding rule counts as matched because of
    /// it or, where no ALLOW rule matched, the first rule that could have matched did not because of it.
    pub unreadable: Option<Origin>,
}

/// What the dry-run policies would have decided; `None`: there are none of that action.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DryRun<'e> {
    /// The DENY policies among them.
    pub deny: Option<DryRunResult<'e>>,
    /// The ALLOW policies among them.
    pub allow: Option<DryRunResult<'e>>,
}

/// A decision that was not enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DryRunResult<'e> {
    /// Whether the request would pass.
    pub verdict: Verdict,
    /// The rule that matched, if one did.
    pub rule: Option<&'e RuleId>,
}
