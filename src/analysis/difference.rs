//! What two sets of policies decide differently, and what one set decides about all requests of a kind.
//!
//! A request is allowed if no DENY rule matches, and an ALLOW rule matches or no ALLOW policy applies. So a request that one
//! side refuses and the other allows shows one of three *causes*, and each is a question of its own:
//!
//! | cause | the request |
//! | --- | --- |
//! | a DENY rule of the first side, which the second does not have | is matched by it, and the second side allows it |
//! | an ALLOW rule of the second side, which the first does not have | is matched by it, no DENY rule of the second matches, and the first refuses it, but not by a DENY rule |
//! | an ALLOW policy of the first side applies, where the second has none that does | is matched by no rule of either |
//!
//! With the combining algorithm *permit-overrides*, DENY rules make no difference, and DENY policies count for the last cause as
//! ALLOW policies do. A rule of a CUSTOM policy is a cause too: the provider is asked about what it matches. What the provider
//! answers is not known, so who asks nobody gains.

use std::collections::BTreeMap;

use super::budget::{Budget, Undecided};
use super::open::Possible;
use super::region::{Clauses, NO_IDENTITY, SharedValues};
use super::solve::{Answer, Clause, Compiled, Nothing, Question, Rule, Rules, Workloads};
use super::witness::Witness;
use crate::engine::compile::CompiledRule;
use crate::engine::{Combining, Options, RuleId, Verdict};
use crate::policy::{Action, AuthorizationPolicy};

/// Policies, compiled for questions about all requests. Dry runs and AUDIT policies are left out: they decide nothing.
#[derive(Debug)]
pub struct Policies<'p> {
    pub(super) workloads: Workloads,
    pub(super) combining: Combining,
    pub(super) allow: Compiled<'p>,
    pub(super) deny: Compiled<'p>,
    /// By provider.
    pub(super) custom: BTreeMap<&'p str, Compiled<'p>>,
}

/// The rules of [`Policies`], ready to be asked. [`Sides::side`] makes it.
#[derive(Debug)]
pub struct Side<'s> {
    policies: &'s Policies<'s>,
    allow: Rules<'s>,
    deny: Rules<'s>,
    custom: BTreeMap<&'s str, Rules<'s>>,
}

impl<'p> Policies<'p> {
    /// Compiles policies.
    #[must_use]
    pub fn new(policies: &[&'p AuthorizationPolicy], options: &Options, workloads: Workloads) -> Self {
        let in_force = policies.iter().copied().filter(|policy| !policy.dry_run);
        let of = |action| in_force.clone().filter(move |policy| policy.action == action);
        let provider = |policy: &'p AuthorizationPolicy| policy.provider.as_deref().unwrap_or_default();
        let mut custom = BTreeMap::<&str, Vec<_>>::new();
        for policy in of(Action::Custom) {
            custom.entry(provider(policy)).or_default().push(policy);
        }
        let compiled = |policies: Vec<_>| Compiled::new(policies, options, &workloads);
        Self {
            combining: options.combining,
            allow: compiled(of(Action::Allow).collect()),
            deny: compiled(of(Action::Deny).collect()),
            custom: custom.into_iter().map(|(provider, policies)| (provider, compiled(policies))).collect(),
            workloads,
        }
    }
}

/// What the sides of a comparison share.
#[derive(Debug, Default)]
pub struct Sides<'s>(pub(super) SharedValues<'s>);

impl<'s> Sides<'s> {
    /// One of the sides.
    pub fn side(&mut self, policies: &'s Policies<'s>) -> Side<'s> {
        let mut rules = |compiled| Rules::of(compiled, &mut self.0);
        let custom = policies.custom.iter().map(|(provider, compiled)| (*provider, rules(compiled))).collect();
        Side { policies, allow: rules(&policies.allow), deny: rules(&policies.deny), custom }
    }

    /// The requests that one of these rules matches.
    pub fn region(&mut self, rules: &'s [CompiledRule]) -> Region<'s> {
        Region(rules.iter().map(|rule| (rule, Clauses::of(rule, &mut self.0))).collect())
    }
}

/// Something that one side has and the other does not, and that can be why they decide differently.
#[derive(Clone, Copy, Debug)]
pub struct Cause<'s> {
    kind: Kind<'s>,
    /// The policy.
    pub policy: &'s AuthorizationPolicy,
}

#[derive(Clone, Copy, Debug)]
enum Kind<'s> {
    Deny(&'s Rule<'s>),
    Allow(&'s Rule<'s>),
    Custom(&'s str, &'s Rule<'s>),
    /// The policy applies.
    Applies(&'s [super::region::Choice<'s>]),
}

/// What comes of a cause.
#[derive(Debug)]
pub enum Effect<'s> {
    /// A request that shows the difference.
    Difference(Box<Witness>),
    /// There is no difference, for this reason.
    Nothing(Reason<'s>),
}

/// Why a cause makes no difference.
#[derive(Debug)]
pub enum Reason<'s> {
    /// No request can match the rule.
    NeverMatches,
    /// Other rules decide about each request that it matches. If there are none of them, CUSTOM rules do.
    Decided {
        /// DENY rules.
        denied: Vec<&'s RuleId>,
        /// ALLOW rules.
        allowed: Vec<&'s RuleId>,
    },
    /// Where it applies, no ALLOW policy applies on the side that would refuse, so that side allows too.
    NoAllowApplies,
    /// The cause is that an ALLOW policy applies, and on the side that would allow, others apply to the same workloads.
    OtherAllowApplies,
    /// No ALLOW rule matches any of these requests on the side that would allow, so that side refuses too.
    NotAllowed,
}

impl<'s> Cause<'s> {
    /// The rule that the cause is about. `None`: it is that the policy applies.
    #[must_use]
    pub fn rule(&self) -> Option<&'s RuleId> {
        self.compiled().map(CompiledRule::id)
    }

    /// What a request must meet for the cause to matter.
    pub(super) fn clauses(&self) -> Vec<Clause<'s>> {
        match self.kind {
            Kind::Deny(rule) | Kind::Allow(rule) | Kind::Custom(_, rule) => rule.clauses(),
            Kind::Applies(scope) => vec![Clause::AnyOf(scope)],
        }
    }

    pub(super) fn is_rule(&self, rule: &Rule<'_>) -> bool {
        self.compiled().is_some_and(|compiled| std::ptr::eq(compiled, rule.compiled))
    }

    fn compiled(&self) -> Option<&'s CompiledRule> {
        match self.kind {
            Kind::Deny(rule) | Kind::Allow(rule) | Kind::Custom(_, rule) => Some(rule.compiled),
            Kind::Applies(_) => None,
        }
    }

    /// The provider that is asked, if the cause is a rule of a CUSTOM policy.
    #[must_use]
    pub fn provider(&self) -> Option<&'s str> {
        match self.kind {
            Kind::Custom(provider, _) => Some(provider),
            Kind::Deny(_) | Kind::Allow(_) | Kind::Applies(_) => None,
        }
    }

    /// Whether the cause is something of the side that refuses. Otherwise, it is of the side that allows.
    #[must_use]
    pub fn is_of_refusing_side(&self) -> bool {
        !matches!(self.kind, Kind::Allow(_))
    }
}

/// The causes why `refusing` can refuse what `allowing` allows.
#[must_use]
pub fn causes<'s>(refusing: &'s Side<'s>, allowing: &'s Side<'s>) -> Vec<Cause<'s>> {
    let deny_counts = refusing.policies.combining == Combining::DenyOverrides;
    let mut causes = Vec::new();
    let rules = |of: &'s Rules<'s>, other: Option<&'s Rules<'s>>, kind: fn(&'s Rule<'s>) -> Kind<'s>| {
        changed(of, other).map(move |(policy, rule)| Cause { policy, kind: kind(rule) })
    };
    if deny_counts {
        causes.extend(rules(&refusing.deny, Some(&allowing.deny), Kind::Deny));
    }
    causes.extend(rules(&allowing.allow, Some(&refusing.allow), Kind::Allow));
    let mut applying = vec![(&refusing.allow, &allowing.allow)];
    if !deny_counts {
        applying.push((&refusing.deny, &allowing.deny));
    }
    for (of, other) in applying {
        let known: BTreeMap<_, _> = other.compiled.policies.iter().map(|policy| (&policy.name, *policy)).collect();
        for (number, policy) in of.compiled.policies.iter().copied().enumerate() {
            let stays = known.get(&policy.name).is_some_and(|other| is_for_the_same(policy, other));
            if !stays {
                causes.push(Cause { policy, kind: Kind::Applies(of.compiled.scope(number)) });
            }
        }
    }
    for (provider, of) in &refusing.custom {
        let changed = changed(of, allowing.custom.get(provider));
        causes.extend(changed.map(|(policy, rule)| Cause { policy, kind: Kind::Custom(provider, rule) }));
    }
    causes
}

fn is_for_the_same(one: &AuthorizationPolicy, other: &AuthorizationPolicy) -> bool {
    one.target == other.target && one.revision == other.revision
}

/// The rules that the other side does not have in the policy of the same name.
fn changed<'s>(
    of: &'s Rules<'s>,
    other: Option<&'s Rules<'s>>,
) -> impl Iterator<Item = (&'s AuthorizationPolicy, &'s Rule<'s>)> {
    let policies = other.iter().flat_map(|other| &other.compiled.policies);
    let known: BTreeMap<_, _> = policies.map(|policy| (&policy.name, *policy)).collect();
    of.all().filter_map(move |rule| {
        let policy = of.policy(rule)?;
        let written = policy.rules.get(rule.compiled.id().index)?;
        let stays = known
            .get(&policy.name)
            .is_some_and(|other| is_for_the_same(policy, other) && other.rules.contains(written));
        (!stays).then_some((policy, rule))
    })
}

impl<'s> Side<'s> {
    pub(super) fn workloads(&self) -> &'s Workloads {
        &self.policies.workloads
    }

    fn denies_first(&self) -> bool {
        self.policies.combining == Combining::DenyOverrides
    }

    /// The DENY rules that override an ALLOW.
    fn overriding(&'s self) -> Vec<&'s Rules<'s>> {
        if self.denies_first() { vec![&self.deny] } else { Vec::new() }
    }

    /// The policies of which one must apply for a request to be refused because no ALLOW rule matches.
    fn refusing_policies(&self) -> Vec<&'s Compiled<'s>> {
        let policies = self.policies;
        if self.denies_first() { vec![&policies.allow] } else { vec![&policies.allow, &policies.deny] }
    }

    fn scopes_of_refusing_policies(&self) -> Vec<Vec<Clause<'s>>> {
        self.refusing_policies().into_iter().flat_map(Compiled::scopes).collect()
    }

    fn lists(rules: &'s Rules<'s>) -> Vec<Vec<Clause<'s>>> {
        rules.all().map(Rule::clauses).collect()
    }

    /// Whether the side allows a request that meets these clauses and that none of the rules matches. These have its own that
    /// override an ALLOW among them.
    fn allowed(&'s self, must: &[Clause<'s>], never: &[&'s Rules<'s>]) -> [Question<'s>; 2] {
        let question = || Question::new(self.workloads(), must.to_vec()).never(never);
        [question().not_applying(&self.refusing_policies()), question().one_of(Self::lists(&self.allow))]
    }

    /// Whether the side refuses a request that meets these clauses, or a provider may.
    fn refused(&'s self, must: &[Clause<'s>]) -> Vec<Question<'s>> {
        let question = || Question::new(self.workloads(), must.to_vec());
        let mut questions = vec![question().one_of(self.scopes_of_refusing_policies()).never(&[&self.allow])];
        if self.denies_first() {
            questions.push(question().one_of(Self::lists(&self.deny)));
        }
        questions.extend(self.custom.values().map(|rules| question().one_of(Self::lists(rules))));
        questions
    }

    /// What can become of some request.
    pub(super) fn possible(&'s self, budget: &mut Budget) -> Result<Possible, Undecided> {
        Ok(Possible {
            allow: has_request(&self.allowed(&[], &self.overriding()), budget)?,
            deny: has_request(&self.refused(&[]), budget)?,
        })
    }

    /// Whether an ALLOW policy may apply where a cause matters, so that an ALLOW rule must match too.
    #[must_use]
    pub fn may_need_an_allow(&'s self, cause: &Cause<'s>, budget: &mut Budget) -> bool {
        let question = Question::new(self.workloads(), cause.clauses()).one_of(self.allow.compiled.scopes());
        !matches!(question.answer(budget), Ok(Answer::No(_)))
    }
}

impl Side<'_> {
    /// What the engine says about a request, without asking a provider.
    fn verdict(&self, witness: &Witness) -> Verdict {
        let applies = || self.refusing_policies().into_iter().any(|compiled| compiled.apply(&witness.workload));
        let is_denied = self.overriding().into_iter().any(|rules| rules.match_request(witness));
        if !is_denied && (self.allow.match_request(witness) || !applies()) { Verdict::Allow } else { Verdict::Deny }
    }

    /// Whether the verdict about a request is another one than expected, or can be because a provider is asked.
    fn may_decide_otherwise(&self, witness: &Witness, expected: Verdict) -> bool {
        let is_asked = || self.custom.values().any(|rules| rules.match_request(witness));
        self.verdict(witness) != expected || (expected == Verdict::Allow && is_asked())
    }

    /// Whether all workloads that a policy applies to refuse every peer without an identity. `refuses`: which of the policies that
    /// refuse count. `allows`: which of the ALLOW policies do.
    ///
    /// # Errors
    /// The budget ends.
    pub fn refuses_plaintext(
        &self,
        policy: &AuthorizationPolicy,
        refuses: impl Fn(&AuthorizationPolicy) -> bool,
        allows: impl Fn(&AuthorizationPolicy) -> bool,
        budget: &mut Budget,
    ) -> Result<bool, Undecided> {
        let scope = self.workloads().scope(policy);
        let must = [Clause::AnyOf(&scope), Clause::AllOf(&NO_IDENTITY)];
        let never = self.overriding();
        let counts = |policy: &AuthorizationPolicy, _: Option<&CompiledRule>| refuses(policy);
        let question = || Question::new(self.workloads(), must.to_vec()).never(&never).counting(&counts);
        let lists = self.allow.all().filter(|rule| self.allow.policy(rule).is_some_and(&allows)).map(Rule::clauses);
        let passes = [question().not_applying(&self.refusing_policies()), question().one_of(lists.collect())];
        Ok(!has_request(&passes, budget)?)
    }
}

/// Whether some request is an answer to one of the questions.
fn has_request(questions: &[Question<'_>], budget: &mut Budget) -> Result<bool, Undecided> {
    for question in questions {
        if matches!(question.answer(budget)?, Answer::Yes(_)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The rules that must not match a request that shows the difference.
pub(super) fn never<'s>(cause: &Cause<'s>, refusing: &'s Side<'s>, allowing: &'s Side<'s>) -> Vec<&'s Rules<'s>> {
    let mut never = allowing.overriding();
    match cause.kind {
        Kind::Deny(_) => {}
        Kind::Custom(provider, _) => never.extend(allowing.custom.get(provider)),
        Kind::Allow(_) | Kind::Applies(_) => {
            never.extend(refusing.overriding());
            never.push(&refusing.allow);
        }
    }
    never
}

/// What comes of a cause of [`causes`], with the same two sides.
///
/// # Errors
/// The budget ends.
pub fn effect<'s>(
    cause: &Cause<'s>,
    refusing: &'s Side<'s>,
    allowing: &'s Side<'s>,
    budget: &mut Budget,
) -> Result<Effect<'s>, Undecided> {
    let questions = match cause.kind {
        Kind::Deny(_) | Kind::Custom(..) => {
            allowing.allowed(&cause.clauses(), &never(cause, refusing, allowing)).into()
        }
        Kind::Allow(_) => {
            let question = Question::new(allowing.workloads(), cause.clauses());
            vec![question.one_of(refusing.scopes_of_refusing_policies()).never(&never(cause, refusing, allowing))]
        }
        Kind::Applies(_) => {
            let question = Question::new(allowing.workloads(), cause.clauses());
            vec![question.not_applying(&allowing.refusing_policies()).never(&never(cause, refusing, allowing))]
        }
    };
    let (witness, mut nothing) = ask(&questions, &|witness| shows(witness, cause, refusing, allowing), budget)?;
    if let Some(witness) = witness {
        return Ok(Effect::Difference(witness));
    }
    // Where no ALLOW policy applied, DENY rules can still be why an ALLOW rule makes no difference.
    if matches!(cause.kind, Kind::Allow(_)) && nothing.iter().all(|why| why.excluded_by.is_empty()) {
        let question = Question::new(allowing.workloads(), cause.clauses()).never(&allowing.overriding());
        if let Answer::No(why) = question.answer(budget)? {
            nothing.push(why);
        }
    }
    Ok(Effect::Nothing(reason(cause, &nothing, [refusing, allowing])))
}

/// A request that is an answer to one of the questions; if there is one that people send, such a one. For each question without an
/// answer: why. It is undecided if the engine does not confirm the request.
fn ask<'s>(
    questions: &[Question<'s>],
    is_confirmed: &dyn Fn(&Witness) -> bool,
    budget: &mut Budget,
) -> Result<(Option<Box<Witness>>, Vec<Nothing<'s>>), Undecided> {
    let (mut odd, mut nothing) = (None, Vec::new());
    for question in questions {
        match question.usual_answer(budget) {
            Ok(Answer::Yes(witness)) if is_confirmed(&witness) => {
                if witness.is_expected {
                    return Ok((Some(witness), nothing));
                }
                odd = odd.or(Some(witness));
            }
            Ok(Answer::No(why)) => nothing.push(why),
            Ok(Answer::Yes(_)) | Err(Undecided) if odd.is_some() => {}
            Ok(Answer::Yes(_)) | Err(Undecided) => return Err(Undecided),
        }
    }
    Ok((odd, nothing))
}

/// Whether the engine says that a request shows what comes of a cause. It takes a value otherwise than the analysis if it is too
/// long to be read.
fn shows(witness: &Witness, cause: &Cause<'_>, refusing: &Side<'_>, allowing: &Side<'_>) -> bool {
    let refuses = match cause.kind {
        Kind::Custom(provider, _) => refusing.custom.get(provider).is_some_and(|rules| rules.match_request(witness)),
        Kind::Deny(_) | Kind::Allow(_) | Kind::Applies(_) => refusing.verdict(witness) == Verdict::Deny,
    };
    refuses && allowing.verdict(witness) == Verdict::Allow
}

fn reason<'s>(cause: &Cause<'s>, nothing: &[Nothing<'s>], sides: [&'s Side<'s>; 2]) -> Reason<'s> {
    let of = |rules: fn(&'s Side<'s>) -> &'s Rules<'s>| {
        let is_one = |rule: &&'s CompiledRule| {
            sides.into_iter().flat_map(|side| rules(side).all()).any(|other| std::ptr::eq(other.compiled, *rule))
        };
        let mut found: Vec<_> = nothing
            .iter()
            .flat_map(|why| why.excluded_by.iter().copied())
            .filter(is_one)
            .map(CompiledRule::id)
            .collect();
        found.sort_by_key(|rule| rule.as_str());
        found.dedup();
        found
    };
    let (denied, allowed) = (of(|side| &side.deny), of(|side| &side.allow));
    let is_excluded = nothing.iter().any(|why| !why.excluded_by.is_empty());
    if nothing.iter().all(|why| !why.meets_must) {
        Reason::NeverMatches
    } else if is_excluded {
        Reason::Decided { denied, allowed }
    } else if matches!(cause.kind, Kind::Applies(_)) {
        Reason::OtherAllowApplies
    } else if cause.is_of_refusing_side() {
        Reason::NotAllowed
    } else {
        Reason::NoAllowApplies
    }
}

/// What can be said of all requests of a kind.
#[derive(Debug)]
pub enum Proof {
    /// All of them are decided as expected.
    Holds,
    /// No request is of this kind.
    Empty,
    /// This one is not.
    Fails(Box<Witness>),
}

/// Whether all requests that the rules of a policy match are decided so. Where the policy applies does not count.
///
/// # Errors
/// The budget ends.
pub fn prove<'s>(
    region: &'s Region<'s>,
    side: &'s Side<'s>,
    expected: Verdict,
    budget: &mut Budget,
) -> Result<Proof, Undecided> {
    let mut is_empty = true;
    let mut odd = None;
    for (rule, clauses) in &region.0 {
        let must = region_clauses(clauses);
        let questions: Vec<_> = match expected {
            Verdict::Deny => side.allowed(&must, &side.overriding()).into(),
            Verdict::Allow => side.refused(&must),
        };
        let is_one =
            |witness: &Witness| rule.matches(&witness.request()) && side.may_decide_otherwise(witness, expected);
        match ask(&questions, &is_one, budget) {
            Ok((Some(witness), _)) if witness.is_expected => return Ok(Proof::Fails(witness)),
            Ok((Some(witness), _)) => odd = odd.or(Some(witness)),
            Ok((None, nothing)) => is_empty &= nothing.iter().all(|why| !why.meets_must),
            Err(Undecided) if odd.is_some() => {}
            Err(Undecided) => return Err(Undecided),
        }
    }
    if let Some(witness) = odd {
        return Ok(Proof::Fails(witness));
    }
    Ok(if is_empty { Proof::Empty } else { Proof::Holds })
}

/// Requests of a kind: those that rules match. [`Sides::region`] makes it.
#[derive(Debug)]
pub struct Region<'r>(Vec<(&'r CompiledRule, Clauses<'r>)>);

fn region_clauses<'s>(Clauses { from, to, when }: &'s Clauses<'s>) -> Vec<Clause<'s>> {
    let groups = [to.as_deref(), from.as_deref()].into_iter().flatten().map(Clause::AnyOf);
    groups.chain([Clause::AllOf(when)]).collect()
}
