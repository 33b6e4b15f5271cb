//! What policies decide about every request of a universe on every workload, rule by rule.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use mesh_authz::analysis;
use mesh_authz::engine::{Combining, Engine, Options, Verdict};
use mesh_authz::policy::scope::{Scope, Workload, scope};
use mesh_authz::policy::{Action, AuthorizationPolicy};
use mesh_authz::request::Request;

use super::universe::Universe;

/// A set of requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requests(Vec<u64>);

impl Requests {
    pub fn of(members: impl IntoIterator<Item = bool>) -> Self {
        let mut words = Vec::new();
        for (number, is_member) in members.into_iter().enumerate() {
            if number % 64 == 0 {
                words.push(0);
            }
            words[number / 64] |= u64::from(is_member) << (number % 64);
        }
        Self(words)
    }

    fn zip(&self, other: &Self, both: impl Fn(u64, u64) -> u64) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(one, other)| both(*one, *other)).collect())
    }

    pub fn and(&self, other: &Self) -> Self {
        self.zip(other, |one, other| one & other)
    }

    pub fn or(&self, other: &Self) -> Self {
        self.zip(other, |one, other| one | other)
    }

    pub fn without(&self, other: &Self) -> Self {
        self.zip(other, |one, other| one & !other)
    }

    pub fn first(&self) -> Option<usize> {
        let word = self.0.iter().position(|word| *word != 0)?;
        Some(word * 64 + self.0[word].trailing_zeros() as usize)
    }

    pub fn is_empty(&self) -> bool {
        self.first().is_none()
    }
}

/// A rule, and the requests that it matches.
pub struct Rule {
    /// The position of its policy.
    pub policy: usize,
    pub index: usize,
    pub matched: Rc<Requests>,
}

/// Policies, and what each of their rules matches.
pub struct Model<'u> {
    pub policies: &'u [AuthorizationPolicy],
    pub combining: Combining,
    pub rules: Vec<Rule>,
    all: Requests,
    none: Requests,
}

/// What rules match in a universe.
pub struct Matches<'u> {
    pub universe: &'u Universe,
    /// By the action, the namespace and the rule.
    known: RefCell<HashMap<String, Rc<Requests>>>,
    /// How many times the engine said whether a rule matches a request.
    pub asked: Cell<usize>,
}

impl<'u> Matches<'u> {
    pub fn new(universe: &'u Universe) -> Self {
        Self { universe, known: RefCell::default(), asked: Cell::new(0) }
    }

    pub fn all(&self) -> Requests {
        Requests::of(self.universe.requests.iter().map(|_| true))
    }

    pub fn rule(&self, policy: &AuthorizationPolicy, index: usize, options: &Options) -> Rc<Requests> {
        let key = format!("{:?} {} {:?}", policy.action, policy.name.namespace, policy.rules[index]);
        if let Some(known) = self.known.borrow().get(&key) {
            return Rc::clone(known);
        }
        let compiled = analysis::rules(policy, options);
        let matches = |request: &Request| compiled[index].matches(request);
        let matched = Rc::new(Requests::of(self.universe.requests.iter().map(matches)));
        self.asked.set(self.asked.get() + self.universe.requests.len());
        self.known.borrow_mut().insert(key, Rc::clone(&matched));
        matched
    }
}

impl<'u> Model<'u> {
    pub fn new(policies: &'u [AuthorizationPolicy], options: &Options, matches: &Matches<'_>) -> Self {
        let rule =
            |policy: usize, index| Rule { policy, index, matched: matches.rule(&policies[policy], index, options) };
        let rules = policies
            .iter()
            .enumerate()
            .flat_map(|(number, policy)| (0..policy.rules.len()).map(move |index| (number, index)));
        let all = matches.all();
        let none = all.without(&all);
        let rules = rules.map(|(policy, index)| rule(policy, index)).collect();
        Self { policies, combining: options.combining, rules, all, none }
    }

    pub fn denies_first(&self) -> bool {
        self.combining == Combining::DenyOverrides
    }

    /// The policies with an action that are in force on a workload.
    pub fn applying<'s>(&'s self, action: Action, workload: &'s Workload) -> impl Iterator<Item = usize> + 's {
        let is_in_force = move |policy: &AuthorizationPolicy| {
            !policy.dry_run && policy.action == action && scope(policy, workload) == Scope::Applies
        };
        (0..self.policies.len()).filter(move |number| is_in_force(&self.policies[*number]))
    }

    /// What the rules of these policies match.
    pub fn matched(&self, policies: &[usize]) -> Requests {
        let rules = self.rules.iter().filter(|rule| policies.contains(&rule.policy));
        rules.fold(self.none.clone(), |matched, rule| matched.or(&rule.matched))
    }

    /// What the rules of the applying policies with an action match.
    pub fn of_action(&self, action: Action, workload: &Workload) -> Requests {
        self.matched(&self.applying(action, workload).collect::<Vec<_>>())
    }

    /// What overrides an ALLOW.
    pub fn overriding(&self, workload: &Workload) -> Requests {
        if self.denies_first() { self.of_action(Action::Deny, workload) } else { self.none.clone() }
    }

    /// Whether a policy applies because of which a request is refused that no ALLOW rule matches.
    pub fn has_refusing_policy(&self, workload: &Workload) -> bool {
        self.applying(Action::Allow, workload).next().is_some()
            || !self.denies_first() && self.applying(Action::Deny, workload).next().is_some()
    }

    /// What is allowed, if each provider says yes.
    pub fn allowed(&self, workload: &Workload) -> Requests {
        let allow =
            if self.has_refusing_policy(workload) { self.of_action(Action::Allow, workload) } else { self.all.clone() };
        allow.without(&self.overriding(workload))
    }

    /// What a provider is asked about.
    pub fn asked(&self, provider: &str, workload: &Workload) -> Requests {
        let is_its = |number: &usize| self.policies[*number].provider.as_deref() == Some(provider);
        self.matched(&self.applying(Action::Custom, workload).filter(is_its).collect::<Vec<_>>())
    }

    /// What the engine says, without CUSTOM policies.
    pub fn verdict(&self, options: &Options, workload: &Workload, request: &Request) -> Verdict {
        let counts = |policy: &&AuthorizationPolicy| {
            policy.action != Action::Custom && scope(policy, workload) == Scope::Applies
        };
        Engine::new(self.policies.iter().filter(counts), options).decide(request).outcome.verdict()
    }
}
