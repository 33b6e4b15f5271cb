//! Rules held against each other: what a wider rule makes pointless, and what a peer without an identity gets past.
//!
//! Comparing every rule with every other would take a hundred million comparisons for ten thousand of them. The engine's
//! index finds the few that can cover a rule: those that the request described by that rule's own values leads to.

use std::collections::{HashMap, HashSet};

use super::{Linter, surroundings};
use crate::engine::compile::{self, Rule};
use crate::engine::cover::Alternative;
use crate::engine::evaluate::Evaluation;
use crate::engine::index::Index;
use crate::engine::{Combining, RuleId};
use crate::input::Resource;
use crate::policy::scope::{covers, may_meet};
use crate::policy::{Action, AuthorizationPolicy, PolicyName, Predicate, rule_path};

/// The rules of the policies of one action.
struct Rules<'m, 'r> {
    action: Action,
    index: Index,
    resources: &'m HashMap<&'r PolicyName, (usize, &'r Resource)>,
}

pub(super) fn policies<'r>(linter: &mut Linter<'r>) {
    let resources = linter.resources;
    let by_name: HashMap<&'r PolicyName, (usize, &'r Resource)> =
        resources.policies.iter().enumerate().map(|(order, r)| (&r.policy.name, (order, r))).collect();
    let options = linter.surroundings.mesh.options();
    let rules = |action, dry_run| {
        let policies = by_name.values().map(|(_, resource)| &resource.policy);
        let of_kind = policies.filter(|policy| policy.action == action && policy.dry_run == dry_run);
        let rules = of_kind.flat_map(|policy| compile::policy(policy, &options)).collect();
        Rules { action, index: Index::new(rules), resources: &by_name }
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

impl<'r> Rules<'_, 'r> {
    fn resource(&self, rule: &RuleId) -> Option<(usize, &'r Resource)> {
        self.resources.get(&*rule.policy).copied()
    }

    /// The rules that match whatever this one matches, wherever its policy applies.
    fn wider<'s>(
        &'s self,
        rule: &'s Rule,
        resource: &'s Resource,
        root_namespace: &'s str,
    ) -> impl Iterator<Item = (&'s Rule, usize, &'r Resource)> {
        let witness = rule.alternatives().next().and_then(Alternative::witness);
        let candidates = match &witness {
            Some(witness) => self.index.candidates(&Evaluation::new(witness)),
            None => self.index.rules().iter().collect(),
        };
        candidates.into_iter().filter_map(move |wider| {
            let (order, wider_resource) = self.resource(wider.id())?;
            let is_wider =
                covers(wider_resource.policy.reach(), resource.policy.reach(), root_namespace) && wider.covers(rule);
            is_wider.then_some((wider, order, wider_resource))
        })
    }
}

/// Rules that another one of the same action makes pointless.
fn shadowed<'r>(linter: &mut Linter<'r>, rules: &Rules<'_, 'r>) {
    let root = &linter.surroundings.mesh.root_namespace;
    for rule in rules.index.rules() {
        let Some((order, resource)) = rules.resource(rule.id()) else { continue };
        // What never matches is covered by everything, and reported as such.
        if rule.never_matches() {
            continue;
        }
        let place = (order, rule.id().index);
        // Of two that cover each other, the later one is left over.
        let is_first = |wider: &Rule, wider_resource: &Resource, wider_order: usize| {
            (wider_order, wider.id().index) < place
                || !(rule.covers(wider) && covers(resource.policy.reach(), wider_resource.policy.reach(), root))
        };
        let others = rules.wider(rule, resource, root).filter(|(wider, ..)| wider.id() != rule.id());
        let first = others
            .filter(|(wider, order, resource)| is_first(wider, resource, *order))
            .min_by_key(|(wider, order, _)| (*order, wider.id().index));
        let Some((wider, _, wider_resource)) = first else { continue };
        let already = match rules.action {
            Action::Allow => "allows",
            Action::Deny => "refuses",
            Action::Audit => "records",
            Action::Custom => "asks the provider about",
        };
        let name = name(wider);
        linter.report_related(
            "MA012",
            resource,
            rule_path(rule.id().index),
            format!("{name} {already} whatever this rule does, and more; this one changes no decision"),
            format!("remove this rule, or narrow {name}"),
            Some((wider_resource, rule_path(wider.id().index), "the wider rule".to_owned())),
        );
    }
}

fn name(rule: &Rule) -> String {
    format!("rule {} of {}", rule.id().index, rule.id().policy)
}

/// ALLOW rules that a DENY rule makes pointless.
fn unreachable<'r>(linter: &mut Linter<'r>, allow: &Rules<'_, 'r>, deny: &Rules<'_, 'r>) {
    let root = &linter.surroundings.mesh.root_namespace;
    for rule in allow.index.rules() {
        let Some((_, resource)) = allow.resource(rule.id()) else { continue };
        if rule.never_matches() {
            continue;
        }
        let wider = deny
            .wider(rule, resource, root)
            .min_by_key(|(wider, order, _)| (!wider.is_unconditional(), *order, wider.id().index));
        let Some((wider, _, wider_resource)) = wider else { continue };
        let name = name(wider);
        let (what, hint) = if wider.is_unconditional() {
            (
                format!(
                    "{name}, a DENY, matches every request, and a DENY beats every ALLOW: this rule never allows anything"
                ),
                "to deny by default, replace the DENY by an ALLOW policy with the same selector and without rules",
            )
        } else {
            (
                format!(
                    "{name}, a DENY, matches whatever this rule matches, and a DENY beats every ALLOW: this rule never allows anything"
                ),
                "narrow the DENY, or remove this rule",
            )
        };
        linter.report_related(
            "MA001",
            resource,
            rule_path(rule.id().index),
            what,
            hint.to_owned(),
            Some((wider_resource, rule_path(wider.id().index), "the DENY rule".to_owned())),
        );
    }
}

/// Rules about identities that are wrong about peers that have none.
fn plaintext<'r>(linter: &mut Linter<'r>, allow: &Rules<'_, 'r>, deny: &Rules<'_, 'r>) {
    let mut plaintext = Plaintext::new(linter, allow, deny);
    for rule in deny.index.rules() {
        let Some((_, resource)) = deny.resource(rule.id()) else { continue };
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
    for rule in allow.index.rules() {
        let Some((_, resource)) = allow.resource(rule.id()) else { continue };
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
    fn new(linter: &Linter<'r>, allow: &Rules<'_, 'r>, deny: &Rules<'_, 'r>) -> Self {
        let policies = |rules: &Rules<'_, 'r>, wanted: fn(&Rule) -> bool| -> HashSet<&'r PolicyName> {
            let wanted = rules.index.rules().iter().filter(|rule| wanted(rule));
            wanted.filter_map(|rule| Some(&rules.resource(rule.id())?.1.policy.name)).collect()
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
