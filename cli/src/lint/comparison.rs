//! Compares rules with each other: which rules match whatever another one does. The answers are those of the analysis of all
//! requests. It works for so long at most on all rules of one action, and does not claim what it does not know by then.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use mesh_authz::analysis::{Budget, Compared, ComparedRules, CompiledRule, Coverage, Covering, Requests, Rule, Sides};
use mesh_authz::engine::{Combining, Options};
use mesh_authz::policy::{Action, AuthorizationPolicy, PolicyName, rule_path};
use rayon::prelude::*;

use super::{Input, Related};
use crate::load::LoadedPolicy;

/// The work on all rules of one action, and the most on one of them.
const MOST_STEPS: u64 = 1_000_000_000;
const MOST_STEPS_FOR_A_RULE: u64 = 200_000_000;

/// The work on one of so many questions.
pub(super) fn budget(questions: usize) -> Budget {
    let questions = u64::try_from(questions).unwrap_or(u64::MAX);
    Budget::of(MOST_STEPS.checked_div(questions).unwrap_or_default().min(MOST_STEPS_FOR_A_RULE))
}

/// Where a rule is.
#[derive(Clone, Copy)]
pub(super) struct Place<'r> {
    pub resource: &'r LoadedPolicy,
    pub index: usize,
    /// The position of the policy in the input.
    order: usize,
    pub is_unconditional: bool,
}

impl Place<'_> {
    fn id(&self) -> (usize, usize) {
        (self.order, self.index)
    }

    /// The name of the rule in messages.
    fn name(&self) -> String {
        format!("rule {} of {}", self.index, self.resource.policy.name)
    }
}

/// A rule, and rules that match whatever it matches, on all workloads of its policy.
pub(super) struct Covered<'r> {
    pub rule: Place<'r>,
    pub by: Vec<Place<'r>>,
}

impl Covered<'_> {
    /// The names of the other rules in messages.
    pub(super) fn names(&self) -> String {
        const MOST: usize = 3;
        let mut names: Vec<_> = self.by.iter().take(MOST).map(Place::name).collect();
        let more = self.by.len().saturating_sub(MOST);
        if more > 0 {
            names.push(format!("{more} more"));
        }
        match (names.pop(), names.is_empty()) {
            (Some(last), false) => format!("{} and {last} together", names.join(", ")),
            (last, _) => last.unwrap_or_default(),
        }
    }

    /// Whether there are several of them: for the verb in messages.
    pub(super) fn are_several(&self) -> bool {
        self.by.len() > 1
    }

    /// The first of the other rules.
    pub(super) fn related(&self, message: &str) -> Option<Related> {
        self.by.first().map(|first| Related::new(first.resource, &rule_path(first.index), message))
    }
}

/// The policies of the input, by what their rules do.
pub(super) struct Comparison<'i, 'r> {
    input: &'i Input<'r>,
    options: Options,
    /// By the names of the policies. Of policies with one name, the last counts.
    places: HashMap<&'r PolicyName, (usize, &'r LoadedPolicy)>,
}

impl<'i, 'r> Comparison<'i, 'r> {
    pub(super) fn new(input: &'i Input<'r>) -> Self {
        let policies = input.resources.policies.iter().enumerate();
        let places = policies.map(|(order, found)| (&found.policy.name, (order, found))).collect();
        Self { input, options: input.context.mesh.options(), places }
    }

    fn root_namespace(&self) -> &'r str {
        &self.input.context.mesh.root_namespace
    }

    /// The policies whose rules do the same, in the order of the input.
    fn kinds(&self) -> BTreeMap<(Action, bool, Option<&'r str>), Vec<&'r AuthorizationPolicy>> {
        let mut found: Vec<_> = self.places.values().collect();
        found.sort_by_key(|(order, _)| *order);
        let mut kinds = BTreeMap::<_, Vec<_>>::new();
        for (_, LoadedPolicy { policy, .. }) in found {
            kinds.entry((policy.action, policy.dry_run, policy.provider.as_deref())).or_default().push(policy);
        }
        kinds
    }

    /// The rules that other rules make redundant which do the same. All of them can be removed together.
    pub(super) fn shadowed(&self) -> Vec<Covered<'r>> {
        self.kinds().into_values().flat_map(|policies| self.shadowed_among(&policies)).collect()
    }

    fn shadowed_among(&self, policies: &[&'r AuthorizationPolicy]) -> Vec<Covered<'r>> {
        let compared = Compared::new(policies.iter().copied(), &self.options, self.root_namespace());
        let rules = Sides::default().rules(&compared);
        let all: Vec<_> = rules.all().filter_map(|rule| Some((rule, self.place(&rules, rule)?))).collect();
        let ask = |rule: &Rule<'_>, narrow: Place<'r>, counts: &(dyn Fn(Place<'r>) -> bool + Sync)| {
            let counts = |wide: Place<'r>| {
                // A DENY rule that matches everything may be the wrong one. Without it, the other rules are needed.
                let is_wrong =
                    wide.resource.policy.action == Action::Deny && wide.is_unconditional && !narrow.is_unconditional;
                wide.id() != narrow.id() && !is_wrong && counts(wide)
            };
            self.covered(&rules, rule, narrow, &counts, all.len())
        };
        // Whatever the rules before a rule match needs no later rule, and that holds for all of these at once.
        let by_earlier = |(rule, narrow): &(&Rule<'_>, Place<'r>)| ask(rule, *narrow, &|wide| wide.id() < narrow.id());
        let mut found: Vec<_> = all.par_iter().filter_map(by_earlier).collect();
        let mut redundant: HashSet<_> = found.iter().map(|covered| covered.rule.id()).collect();
        let left: Vec<_> = all.iter().filter(|(_, place)| !redundant.contains(&place.id())).collect();
        let left = left
            .par_iter()
            .filter_map(|(rule, narrow)| Some((*rule, ask(rule, *narrow, &|wide| !redundant.contains(&wide.id()))?)));
        let mut others: Vec<_> = left.collect();
        others.sort_by_key(|(_, covered)| std::cmp::Reverse(covered.rule.id()));
        for (rule, covered) in others {
            let still = if covered.by.iter().any(|wide| redundant.contains(&wide.id())) {
                ask(rule, covered.rule, &|wide| !redundant.contains(&wide.id()))
            } else {
                Some(covered)
            };
            redundant.extend(still.iter().map(|covered| covered.rule.id()));
            found.extend(still);
        }
        found
    }

    /// The ALLOW rules that DENY rules override, with the DENY rules. One that matches every request is preferred.
    pub(super) fn unreachable(&self) -> Vec<Covered<'r>> {
        if self.options.combining != Combining::DenyOverrides {
            return Vec::new();
        }
        let mut kinds = self.kinds();
        let [allow, deny] = [Action::Allow, Action::Deny].map(|action| {
            let policies = kinds.remove(&(action, false, None)).unwrap_or_default();
            Compared::new(policies, &self.options, self.root_namespace())
        });
        let mut sides = Sides::default();
        let (allow, deny) = (sides.rules(&allow), sides.rules(&deny));
        let has_unconditional = deny.all().any(|rule| rule.compiled().is_unconditional());
        let all: Vec<_> = allow.all().filter_map(|rule| Some((rule, self.place(&allow, rule)?))).collect();
        let override_it = |(rule, narrow): &(&Rule<'_>, Place<'r>)| {
            let ask = |counts: &dyn Fn(Place<'r>) -> bool| self.covered(&deny, rule, *narrow, counts, all.len());
            let by_one = if has_unconditional { ask(&|wide| wide.is_unconditional) } else { None };
            by_one.or_else(|| ask(&|_| true))
        };
        all.par_iter().filter_map(override_it).collect()
    }

    /// The rules that match whatever a rule does, of those that count. `None`: they do not, or nothing does, or nobody knows.
    fn covered(
        &self,
        wide: &ComparedRules<'_>,
        rule: &Rule<'_>,
        narrow: Place<'r>,
        counts: &dyn Fn(Place<'r>) -> bool,
        questions: usize,
    ) -> Option<Covered<'r>> {
        let is_near = |wide: &LoadedPolicy| {
            let revision = &wide.policy.revision;
            (revision.is_none() || *revision == narrow.resource.policy.revision)
                && !self.input.are_apart(&wide.source, &narrow.resource.source)
        };
        let at = |policy: &AuthorizationPolicy, index: usize, is_unconditional: bool| {
            let (order, resource) = *self.places.get(&policy.name)?;
            Some(Place { resource, index, order, is_unconditional })
        };
        let counts = |policy: &AuthorizationPolicy, rule: &CompiledRule| {
            let place = at(policy, rule.id().index, rule.is_unconditional());
            place.is_some_and(|place| is_near(place.resource) && counts(place))
        };
        // Who follows the advice and removes a rule that allows opens nothing.
        let requests = match narrow.resource.policy.action {
            Action::Allow | Action::Audit => Requests::Expected,
            Action::Deny | Action::Custom => Requests::All,
        };
        match wide.coverage(rule, &counts, requests, &mut budget(questions)) {
            Ok(Coverage::By(rules)) => {
                let place = |of: Covering<'_>| at(of.policy, of.index, of.is_unconditional);
                let mut by: Vec<_> = rules.into_iter().filter_map(place).collect();
                by.sort_by_key(Place::id);
                Some(Covered { rule: narrow, by })
            }
            Ok(Coverage::Never | Coverage::No) | Err(_) => None,
        }
    }

    fn place(&self, of: &ComparedRules<'_>, rule: &Rule<'_>) -> Option<Place<'r>> {
        let (order, resource) = *self.places.get(&of.policy(rule)?.name)?;
        let compiled = rule.compiled();
        Some(Place { resource, index: compiled.id().index, order, is_unconditional: compiled.is_unconditional() })
    }
}

/// The positions of the rules of a policy that no request can match, because of what a rule asks for itself.
pub(super) fn contradictory(policy: &AuthorizationPolicy, options: &Options, root_namespace: &str) -> BTreeSet<usize> {
    let compared = Compared::new([policy], options, root_namespace);
    let rules = Sides::default().rules(&compared);
    let questions = policy.rules.len();
    let contradicts = |rule: &&Rule<'_>| rules.contradicts_itself(rule, &mut budget(questions)).unwrap_or(false);
    rules.all().filter(contradicts).map(|rule| rule.compiled().id().index).collect()
}
