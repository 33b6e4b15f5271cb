//! Rules held against each other: what a wider rule makes pointless, and what a peer without an identity gets past.
//!
//! Comparing every rule with every other would take a hundred million comparisons for ten thousand of them. The engine's
//! index finds the few that can cover a rule: those that the request described by that rule's own values leads to.

use std::collections::{HashMap, HashSet};

use rayon::prelude::*;

use super::{Linter, surroundings};
use crate::engine::Combining;
use crate::engine::compile::{self, Rule};
use crate::engine::cover::Alternative;
use crate::engine::evaluate::Evaluation;
use crate::engine::index::Index;
use crate::input::Resource;
use crate::policy::scope::{covers, may_meet};
use crate::policy::{Action, AuthorizationPolicy, PolicyName, Predicate, rule_path};

/// The rules of the policies of one action.
struct Rules<'r> {
    action: Action,
    index: Index,
    /// The policy of each rule, and its place in the input.
    resources: Vec<(usize, &'r Resource)>,
}

/// A rule and where it comes from.
#[derive(Clone, Copy)]
struct Placed<'s, 'r> {
    rule: &'s Rule,
    order: usize,
    resource: &'r Resource,
}

pub(super) fn policies(linter: &mut Linter<'_>) {
    let resources = linter.resources.policies.iter().enumerate();
    let by_name: HashMap<_, _> = resources.map(|(order, found)| (&found.policy.name, (order, found))).collect();
    let options = linter.surroundings.mesh.options();
    let rules = |action, dry_run| {
        let policies = by_name.values().map(|(_, resource)| &resource.policy);
        let of_kind = policies.filter(|policy| policy.action == action && policy.dry_run == dry_run);
        let index = Index::new(of_kind.flat_map(|policy| compile::policy(policy, &options)).collect());
        let resources = index.rules().iter().filter_map(|rule| by_name.get(&*rule.id().policy).copied()).collect();
        Rules { action, index, resources }
    };
    let enforced = [Action::Allow, Action::Deny, Action::Audit, Action::Custom].map(|action| rules(action, false));
    let tried = [Action::Allow, Action::Deny].map(|action| rules(action, true));
    for rules in enforced.iter().chain(&tried) {
        shadowed(linter, rules);
    }
    let [allow, deny, _, _] = &enforced;
    if linter.surroundings.mesh.combining == Combining::DenyOverrides {
        unreachable(linter, allow, deny);
    }
    plaintext(linter, allow, deny);
}

impl<'r> Rules<'r> {
    fn placed(&self, at: usize) -> Option<Placed<'_, 'r>> {
        let (order, resource) = *self.resources.get(at)?;
        Some(Placed { rule: self.index.rules().get(at)?, order, resource })
    }

    fn all(&self) -> impl Iterator<Item = Placed<'_, 'r>> {
        (0..self.resources.len()).filter_map(|at| self.placed(at))
    }

    /// For each of the rules that can match at all, the first of the rules here that match whatever it matches, wherever its
    /// policy applies, and that `counts` for it.
    fn wider_than<'s>(
        &'s self,
        narrower: &'s Self,
        root_namespace: &str,
        counts: impl Fn(Placed<'s, 'r>, Placed<'s, 'r>) -> bool + Sync,
    ) -> Vec<(Placed<'s, 'r>, Placed<'s, 'r>)> {
        let find = |at| {
            let narrow = narrower.placed(at).filter(|narrow| !narrow.rule.never_matches())?;
            let witness = narrow.rule.alternatives().next().and_then(Alternative::witness);
            let candidates = match &witness {
                Some(witness) => self.index.candidates(&Evaluation::new(witness)),
                None => (0..self.resources.len()).collect(),
            };
            let candidates = candidates.into_iter().filter_map(|at| self.placed(at));
            let wider = candidates.filter(|wide| wide.covers(narrow, root_namespace) && counts(*wide, narrow));
            Some((narrow, wider.min_by_key(|wide| (!wide.rule.is_unconditional(), wide.place()))?))
        };
        (0..narrower.resources.len()).into_par_iter().filter_map(find).collect()
    }
}

impl Placed<'_, '_> {
    /// Where it stands in the input.
    fn place(&self) -> (usize, usize) {
        (self.order, self.rule.id().index)
    }

    fn covers(&self, other: Placed<'_, '_>, root_namespace: &str) -> bool {
        let (policy, other_policy) = (&self.resource.policy, &other.resource.policy);
        covers(policy.reach(), other_policy.reach(), root_namespace) && self.rule.covers(other.rule)
    }
}

/// Rules that another one of the same action makes pointless.
fn shadowed<'r>(linter: &mut Linter<'r>, rules: &Rules<'r>) {
    let root = &linter.surroundings.mesh.root_namespace;
    let shadows = |wide: Placed<'_, '_>, narrow: Placed<'_, '_>| {
        wide.place() != narrow.place()
            && wide.resource.policy.provider == narrow.resource.policy.provider
            // Of two that cover each other, the later one is left over.
            && (wide.place() < narrow.place() || !narrow.covers(wide, root))
    };
    let does = match rules.action {
        Action::Allow => "allows",
        Action::Deny => "refuses",
        Action::Audit => "records",
        Action::Custom => "has the provider asked about",
    };
    for (narrow, wide) in rules.wider_than(rules, root, shadows) {
        let name = name(wide.rule);
        linter.report_related(
            "MA012",
            narrow.resource,
            rule_path(narrow.rule.id().index),
            format!("{name} {does} all that this rule {does}: this one changes no decision"),
            format!("remove this rule, or narrow {name}"),
            Some((wide.resource, rule_path(wide.rule.id().index), "the wider rule".to_owned())),
        );
    }
}

fn name(rule: &Rule) -> String {
    format!("rule {} of {}", rule.id().index, rule.id().policy)
}

/// ALLOW rules that a DENY rule makes pointless.
fn unreachable<'r>(linter: &mut Linter<'r>, allow: &Rules<'r>, deny: &Rules<'r>) {
    let root = &linter.surroundings.mesh.root_namespace;
    for (narrow, wide) in deny.wider_than(allow, root, |_, _| true) {
        let name = name(wide.rule);
        let (matches, hint) = if wide.rule.is_unconditional() {
            (
                "every request",
                "to deny by default, replace the DENY by an ALLOW policy with the same selector and without rules",
            )
        } else {
            ("whatever this rule matches", "narrow the DENY, or remove this rule")
        };
        linter.report_related(
            "MA001",
            narrow.resource,
            rule_path(narrow.rule.id().index),
            format!("{name}, a DENY, matches {matches}, and a DENY beats every ALLOW: this rule never allows anything"),
            hint.to_owned(),
            Some((wide.resource, rule_path(wide.rule.id().index), "the DENY rule".to_owned())),
        );
    }
}

/// Rules about identities that are wrong about peers that have none.
fn plaintext<'r>(linter: &mut Linter<'r>, allow: &Rules<'r>, deny: &Rules<'r>) {
    let mut plaintext = Plaintext::new(linter, allow, deny);
    for Placed { rule, resource, .. } in deny.all() {
        let asks = rule.needs_identity() && !rule.never_matches();
        if asks && !plaintext.is_refused(linter, resource) {
            report_plaintext(
                linter,
                "MA003",
                resource,
                rule,
                "a peer in plaintext has no identity, so this DENY does not match it and its request passes",
                "refuse peers without an identity too, with a rule `from: [{source: {notPrincipals: [\"*\"]}}]`",
            );
        }
    }
    for Placed { rule, resource, .. } in allow.all() {
        if rule.only_excludes_identities() && !plaintext.is_refused(linter, resource) {
            report_plaintext(
                linter,
                "MA004",
                resource,
                rule,
                "a peer in plaintext has no identity, so this `not` field holds for it and its request passes",
                "ask for an identity besides: `principals: [\"*\"]`",
            );
        }
    }
}

fn report_plaintext<'r>(
    linter: &mut Linter<'r>,
    code: &'static str,
    resource: &'r Resource,
    rule: &Rule,
    message: &str,
    hint: &str,
) {
    let index = rule.id().index;
    let mut place = rule_path(index);
    super::each_predicate(resource, |of, clause, field, predicate| {
        let is_identity = matches!(
            predicate,
            Predicate::Principal(_)
                | Predicate::Namespace(_)
                | Predicate::ServiceAccount(_)
                | Predicate::TrustDomain(_)
        );
        if of == index && is_identity && place == rule_path(index) {
            place = predicate.path(index, clause, field, code == "MA004");
        }
    });
    linter.report(code, resource, place, message.to_owned(), hint.to_owned());
}

/// What refuses peers without an identity.
struct Plaintext<'r> {
    /// DENY policies with a rule that matches all of them.
    deny: Vec<&'r AuthorizationPolicy>,
    /// ALLOW policies, and whether each of their rules asks for an identity.
    allow: Vec<(&'r AuthorizationPolicy, bool)>,
    /// What was found out about a namespace and a target.
    known: HashMap<(&'r str, String), bool>,
}

impl<'r> Plaintext<'r> {
    fn new(linter: &Linter<'r>, allow: &Rules<'r>, deny: &Rules<'r>) -> Self {
        let policies = |rules: &Rules<'r>, wanted: fn(&Rule) -> bool| -> HashSet<&'r PolicyName> {
            rules.all().filter(|placed| wanted(placed.rule)).map(|placed| &placed.resource.policy.name).collect()
        };
        let takes_all = policies(deny, Rule::takes_all_plaintext);
        let is_open = policies(allow, |rule| !rule.needs_identity());
        let overrides = linter.surroundings.mesh.combining == Combining::DenyOverrides;
        let all = || linter.resources.policies.iter().map(|resource| &resource.policy);
        let allow = all().filter(|policy| policy.action == Action::Allow && !policy.dry_run);
        Self {
            deny: all().filter(|policy| overrides && takes_all.contains(&policy.name)).collect(),
            allow: allow.map(|policy| (policy, !is_open.contains(&policy.name))).collect(),
            known: HashMap::new(),
        }
    }

    /// Whether every peer without an identity is refused, at every workload that the policy applies to.
    fn is_refused(&mut self, linter: &Linter<'r>, resource: &'r Resource) -> bool {
        let policy = &resource.policy;
        let root = &linter.surroundings.mesh.root_namespace;
        let key = (policy.name.namespace.as_str(), format!("{:?}", policy.target));
        let Self { deny, allow, known } = self;
        *known.entry(key).or_insert_with(|| {
            let by_deny = || deny.iter().any(|other| covers(other.reach(), policy.reach(), root));
            // Where an ALLOW policy applies, only what one of them permits passes.
            let by_allow = || {
                allow.iter().any(|(other, _)| covers(other.reach(), policy.reach(), root))
                    && allow.iter().all(|(other, needs_identity)| {
                        *needs_identity || !may_meet(other.reach(), policy.reach(), root)
                    })
            };
            by_deny() || by_allow() || surroundings::is_strict(linter, policy)
        })
    }
}
