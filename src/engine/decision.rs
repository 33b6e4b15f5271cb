//! A decision: the verdict, and the rule that made it.
//!
//! An [`Outcome`] contains its reason, so that a verdict and its reason cannot contradict each other.

use std::fmt;
use std::sync::Arc;

use crate::attribute::Origin;
use crate::policy::PolicyName;

/// The name of a rule. It prints as `ns[NAMESPACE]-policy[NAME]-rule[INDEX]`, the name that Istio gives the rule in
/// Envoy.
#[derive(Clone, Debug)]
pub struct RuleId {
    /// The policy that the rule belongs to.
    pub policy: Arc<PolicyName>,
    /// The position of the rule in `spec.rules`, counted from 0.
    pub index: usize,
    pub(super) policy_number: u32,
    text: Box<str>,
}

/// Compares names only. The position of the policy among other policies does not count.
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

    /// The name as text: `ns[NAMESPACE]-policy[NAME]-rule[INDEX]`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The position of the policy among the policies from which the engine was built.
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

/// Whether the request passes. It prints as `ALLOW` or `DENY`.
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

/// What happens to the request, and why. It prints as the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome<'e> {
    /// The request passes.
    Allowed(AllowReason<'e>),
    /// The request is refused.
    Denied(DenyReason<'e>),
}

/// Why a request passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllowReason<'e> {
    /// This rule of an ALLOW policy matched.
    Rule(&'e RuleId),
    /// No ALLOW policy applies, and no DENY policy matched.
    NoAllowApplies,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DenyReason<'e> {
    /// This rule of a DENY policy matched.
    Rule(&'e RuleId),
    /// This rule of a CUSTOM policy matched, and there is no provider to call.
    NoProvider(&'e RuleId),
    /// Envoy should have asked the provider of a CUSTOM policy, and nothing shows that it has.
    NotAsked,
    /// Policies apply, but no ALLOW policy among them matched.
    NoAllowMatched,
    /// Envoy has not normalized the path, and the filter is configured to refuse such a request. The engine never
    /// decides this.
    UnnormalizedPath,
    /// The name of the filter chain does not tell which service of a waypoint the request is for. The engine never
    /// decides this.
    UnknownService,
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

    /// The deciding rule, if there is one.
    #[must_use]
    pub fn rule(&self) -> Option<&'e RuleId> {
        match self {
            Self::Allowed(AllowReason::Rule(rule))
            | Self::Denied(DenyReason::Rule(rule) | DenyReason::NoProvider(rule)) => Some(rule),
            Self::Allowed(AllowReason::NoAllowApplies)
            | Self::Denied(
                DenyReason::NotAsked
                | DenyReason::NoAllowMatched
                | DenyReason::UnnormalizedPath
                | DenyReason::UnknownService,
            ) => None,
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
            Self::Denied(DenyReason::NotAsked) => f.write_str("Envoy's filters for CUSTOM policies are missing"),
            Self::Denied(DenyReason::NoAllowMatched) => f.write_str("no ALLOW policy matched"),
            Self::Denied(DenyReason::UnnormalizedPath) => f.write_str("the path is not normalized"),
            Self::Denied(DenyReason::UnknownService) => {
                f.write_str("the filter chain does not tell which service the request is for")
            }
            Self::Allowed(AllowReason::NoAllowApplies) => {
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
    /// The unreadable attribute that the decision rests on, if there is one:
    ///
    /// - if a rule decided: the attribute because of which this rule counts as matched;
    /// - if no ALLOW rule matched: the attribute because of which the first possible ALLOW rule counts as not matched.
    pub unreadable: Option<Origin>,
}

/// What the dry-run policies would have decided. A field is `None` if no dry-run policy has its action.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DryRun<'e> {
    /// What the dry-run DENY policies would have decided.
    pub deny: Option<DryRunResult<'e>>,
    /// What the dry-run ALLOW policies would have decided.
    pub allow: Option<DryRunResult<'e>>,
}

impl Decision<'_> {
    /// The refusal of a request about which no policy is asked.
    pub(crate) const UNKNOWN_SERVICE: Self = Self {
        outcome: Outcome::Denied(DenyReason::UnknownService),
        dry_run: DryRun { deny: None, allow: None },
        audited: None,
        unreadable: None,
    };
}

impl DryRun<'_> {
    /// Whether the dry-run policies of one of the actions would have refused the request.
    #[must_use]
    pub fn denies(&self) -> bool {
        [self.deny, self.allow].into_iter().flatten().any(|result| result.verdict == Verdict::Deny)
    }
}

/// What the dry-run policies of one action would have decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DryRunResult<'e> {
    /// Whether the request would pass.
    pub verdict: Verdict,
    /// The first rule that matched, if one did.
    pub rule: Option<&'e RuleId>,
}
