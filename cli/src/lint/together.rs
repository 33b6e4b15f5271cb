//! Rules held against each other: what a wider rule makes pointless, and what a peer without an identity gets past.
//!
//! Comparing every rule with every other would take a hundred million comparisons for ten thousand of them. Rules are kept
//! by namespace and label, and in each the engine's index finds the few that can cover a rule: those that the request described by that
//! rule's own values leads to. Where even these are many, only the first of them are compared ([`MOST_COMPARISONS`]): then
//! something may stay unsaid.

use std::collections::{BTreeMap, HashMap, HashSet};

use rayon::prelude::*;

use super::{Linter, surroundings};
use crate::load::Resource;
use mesh_authz::engine::Combining;
use mesh_authz::engine::compile::{self, Rule};
use mesh_authz::engine::cover::Alternative;
use mesh_authz::engine::evaluate::Evaluation;
use mesh_authz::engine::index::Index;
use mesh_authz::policy::scope::{covers, may_meet};
use mesh_authz::policy::{Action, AuthorizationPolicy, PolicyName, Predicate, Target, rule_path};
use mesh_authz::request::Request;

/// So many comparisons of two rules are made, at most, with the rules of one action. All of 2,000 rules can be compared with
/// each other.
const MOST_COMPARISONS: usize = 4_000_000;

/// The rules of the policies of one action.
struct Rules<'r> {
    action: Action,
    groups: BTreeMap<Key<'r>, Group<'r>>,
}

/// A namespace, and a label that every workload carries which the policies of a group are for.
type Key<'r> = (&'r str, Option<&'r (String, String)>);

/// The rules of policies of one action with the same key.
struct Group<'r> {
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
        let mut groups: BTreeMap<Key<'_>, Vec<Rule>> = BTreeMap::new();
        for policy in of_kind {
            let key = (policy.name.namespace.as_str(), labels(policy).first());
            groups.entry(key).or_default().extend(compile::policy(policy, &options));
        }
        let filed = |(key, rules)| {
            let index = Index::new(rules);
            let policies = index.rules().iter().filter_map(|rule| by_name.get(&*rule.id().policy).copied());
            (key, Group { resources: policies.collect(), index })
        };
        Rules { action, groups: groups.into_iter().map(filed).collect() }
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

/// The labels of a policy's selector.
fn labels(policy: &AuthorizationPolicy) -> &[(String, String)] {
    match &policy.target {
        Target::Labels(labels) => labels,
        Target::Everything | Target::References(_) => &[],
    }
}

impl<'r> Group<'r> {
    fn placed(&self, at: usize) -> Option<Placed<'_, 'r>> {
        let (order, resource) = *self.resources.get(at)?;
        Some(Placed { rule: self.index.rules().get(at)?, order, resource })
    }

    fn all(&self) -> impl Iterator<Item = Placed<'_, 'r>> {
        (0..self.resources.len()).filter_map(|at| self.placed(at))
    }

    /// The rules that may cover one that is described by this witness; without one, all of them.
    fn candidates(&self, witness: Option<&Request>) -> impl Iterator<Item = Placed<'_, 'r>> {
        let found = match witness {
            Some(witness) => self.index.candidates(&Evaluation::new(witness)),
            None => (0..self.resources.len()).collect(),
        };
        found.into_iter().filter_map(|at| self.placed(at))
    }
}

impl<'r> Rules<'r> {
    fn all(&self) -> impl Iterator<Item = Placed<'_, 'r>> {
        self.groups.values().flat_map(Group::all)
    }

    /// For each of the rules that can match at all, the first of the rules here that match whatever it matches, wherever its
    /// policy applies. Only those are compared with it that `may` count; of those that are wider, the ones are left that `do_count`.
    fn wider_than<'s>(
        &'s self,
        narrower: &'s Self,
        root_namespace: &'s str,
        may: impl Fn(Placed<'s, 'r>, Placed<'s, 'r>) -> bool + Sync,
        do_count: impl Fn(Placed<'s, 'r>, Placed<'s, 'r>) -> bool + Sync,
    ) -> Vec<(Placed<'s, 'r>, Placed<'s, 'r>)> {
        let all: Vec<_> = narrower.all().filter(|narrow| !narrow.rule.never_matches()).collect();
        let most = MOST_COMPARISONS.checked_div(all.len()).unwrap_or_default();
        let find = |narrow: Placed<'s, 'r>| {
            let namespace = narrow.resource.policy.name.namespace.as_str();
            let root = Some(root_namespace).filter(|root| *root != namespace);
            // Whoever is for all workloads of this policy has no label, or one of this policy's.
            let labels = || std::iter::once(None).chain(labels(&narrow.resource.policy).iter().map(Some));
            let keys = [Some(namespace), root].into_iter().flatten();
            let keys = keys.flat_map(|namespace| labels().map(move |label| (namespace, label)));
            let near = keys.filter_map(|key| self.groups.get(&key));
            let witness = narrow.rule.alternatives().next().and_then(Alternative::witness);
            let candidates = near.flat_map(|rules| rules.candidates(witness.as_ref()));
            let wider = candidates
                .filter(|wide| wide.reaches(narrow, root_namespace) && may(*wide, narrow))
                .take(most)
                .filter(|wide| wide.rule.covers(narrow.rule) && do_count(*wide, narrow));
            Some((narrow, wider.min_by_key(|wide| (!wide.rule.is_unconditional(), wide.place()))?))
        };
        all.into_par_iter().filter_map(find).collect()
    }
}

impl Placed<'_, '_> {
    /// Where it stands in the input.
    fn place(&self) -> (usize, usize) {
        (self.order, self.rule.id().index)
    }

    /// Whether its policy applies wherever the other's does.
    fn reaches(&self, other: Placed<'_, '_>, root_namespace: &str) -> bool {
        covers(self.resource.policy.reach(), other.resource.policy.reach(), root_namespace)
    }
}

/// Rules that another one of the same action makes pointless.
fn shadowed<'r>(linter: &mut Linter<'r>, rules: &Rules<'r>) {
    let root = &linter.surroundings.mesh.root_namespace;
    let shadows = |wide: Placed<'_, '_>, narrow: Placed<'_, '_>| {
        wide.place() != narrow.place()
            && wide.resource.policy.provider == narrow.resource.policy.provider
            // Beside a DENY that matches everything, which may go, the others are what is left.
            && !(rules.action == Action::Deny && wide.rule.is_unconditional() && !narrow.rule.is_unconditional())
    };
    // Of two that cover each other, the later one is left over.
    let is_left_over = |wide: Placed<'_, '_>, narrow: Placed<'_, '_>| {
        wide.place() < narrow.place() || !(narrow.reaches(wide, root) && narrow.rule.covers(wide.rule))
    };
    let does = match rules.action {
        Action::Allow => "allows",
        Action::Deny => "refuses",
        Action::Audit => "records",
        Action::Custom => "has the provider asked about",
    };
    for (narrow, wide) in rules.wider_than(rules, root, shadows, is_left_over) {
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
    for (narrow, wide) in deny.wider_than(allow, root, |_, _| true, |_, _| true) {
        let name = name(wide.rule);
        let (matches, hint) = match (wide.rule.is_unconditional(), wide.resource.policy.rules.len()) {
            (true, 1) => (
                "every request",
                "to deny by default, replace the DENY by an ALLOW policy with the same selector and without rules",
            ),
            (true, _) => (
                "every request",
                "to deny by default, replace that rule, and not the policy's other rules, by an ALLOW policy with the same \
                 selector and without rules",
            ),
            (false, _) => ("whatever this rule matches", "narrow the DENY, if this is to be allowed"),
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
        let asks = rule.can_need_identity() && !rule.never_matches();
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
        let path = predicate.path(index, clause, field, code == "MA004");
        if of == index && is_identity && place == rule_path(index) && resource.node.at(&path).is_some() {
            place = path;
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
