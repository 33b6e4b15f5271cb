//! Whether rules match whatever another rule matches, and whether a rule can match at all.

use std::collections::BTreeSet;

use super::budget::{Budget, Requests, Undecided};
use super::difference::Sides;
use super::region::{Clauses, Conflict, Literal, Region, Term, Work};
use super::solve::{Answer, Clause, Compiled, Counts, Question, Rule, Rules, Workloads};
use super::subject::Subject;
use crate::engine::Options;
use crate::engine::compile::{Check, CompiledRule, Expected, Groups, Test};
use crate::policy::AuthorizationPolicy;

/// Policies whose rules are compared, compiled. [`Sides::rules`] makes their rules ready to be asked.
#[derive(Debug)]
pub struct Compared<'p> {
    compiled: Compiled<'p>,
    workloads: Workloads,
}

impl<'p> Compared<'p> {
    /// Compiles policies. The root namespace is that of the mesh.
    #[must_use]
    pub fn new(
        policies: impl IntoIterator<Item = &'p AuthorizationPolicy>,
        options: &Options,
        root_namespace: &str,
    ) -> Self {
        let workloads = Workloads::All { root_namespace: root_namespace.to_owned(), revision: None };
        Self { compiled: Compiled::new(policies, options, &workloads), workloads }
    }
}

/// Rules that are compared.
#[derive(Debug)]
pub struct ComparedRules<'s> {
    rules: Rules<'s>,
    workloads: &'s Workloads,
}

impl<'s> Sides<'s> {
    /// The rules of policies.
    pub fn rules(&mut self, policies: &'s Compared<'s>) -> ComparedRules<'s> {
        ComparedRules { rules: Rules::of(&policies.compiled, &mut self.0), workloads: &policies.workloads }
    }
}

/// Which rules match whatever a rule matches.
#[derive(Debug)]
pub enum Coverage<'s> {
    /// No request can match the rule.
    Never,
    /// These. None of them does alone, unless there is only one.
    By(Vec<Covering<'s>>),
    /// Not even all together.
    No,
}

/// One of the rules that match whatever another rule matches.
#[derive(Clone, Copy, Debug)]
pub struct Covering<'s> {
    /// Its policy.
    pub policy: &'s AuthorizationPolicy,
    /// Its position there.
    pub index: usize,
    /// Whether it matches every request.
    pub is_unconditional: bool,
}

impl<'s> ComparedRules<'s> {
    /// The rules.
    pub fn all(&self) -> impl Iterator<Item = &Rule<'s>> {
        self.rules.all()
    }

    /// The policy of a rule that is compared.
    #[must_use]
    pub fn policy(&self, rule: &Rule<'_>) -> Option<&'s AuthorizationPolicy> {
        self.rules.policy(rule)
    }

    fn places(&self, rules: &[&CompiledRule]) -> Vec<Covering<'s>> {
        let policies = &self.rules.compiled.policies;
        let place = |rule: &&CompiledRule| {
            let policy = *policies.get(usize::try_from(rule.id().policy_number()).ok()?)?;
            Some(Covering { policy, index: rule.id().index, is_unconditional: rule.is_unconditional() })
        };
        rules.iter().filter_map(place).collect()
    }

    /// Whether these rules match whatever a rule matches, on all workloads that its policy applies to. Only those rules count
    /// for which `counts` says so. If none of the `requests` matches the rule, the answer is about all requests.
    ///
    /// # Errors
    /// The budget ends.
    pub fn coverage<'a>(
        &'a self,
        rule: &'a Rule<'a>,
        counts: &'a (dyn Fn(&AuthorizationPolicy, &CompiledRule) -> bool + 'a),
        requests: Requests,
        budget: &mut Budget,
    ) -> Result<Coverage<'s>, Undecided> {
        let is_counted =
            |policy: &AuthorizationPolicy, rule: Option<&CompiledRule>| rule.is_some_and(|rule| counts(policy, rule));
        let covering = match self.ask(rule, &is_counted, requests, budget)? {
            Answer::Yes(_) => return Ok(Coverage::No),
            Answer::No(nothing) if !nothing.meets_must && requests == Requests::Expected => {
                return self.coverage(rule, counts, Requests::All, budget);
            }
            Answer::No(nothing) if !nothing.meets_must => return Ok(Coverage::Never),
            Answer::No(nothing) => nothing.excluded_by,
        };
        if covering.len() > 1 {
            for one in &covering {
                let is_one = |_: &AuthorizationPolicy, rule: Option<&CompiledRule>| {
                    rule.is_some_and(|rule| std::ptr::eq(rule, *one))
                };
                if matches!(self.ask(rule, &is_one, requests, budget)?, Answer::No(_)) {
                    return Ok(Coverage::By(self.places(&[one])));
                }
            }
        }
        Ok(Coverage::By(self.places(&covering)))
    }

    fn ask<'a>(
        &'a self,
        rule: &'a Rule<'a>,
        counts: &'a Counts<'a>,
        requests: Requests,
        budget: &mut Budget,
    ) -> Result<Answer<'a>, Undecided> {
        let question = Question::new(self.workloads, rule.clauses()).never(&[&self.rules]);
        question.among(requests).counting(counts).answer(budget)
    }

    /// Whether no request can match a rule, although each of its tests can hold.
    ///
    /// # Errors
    /// The budget ends.
    pub fn contradicts_itself(&self, rule: &Rule<'_>, budget: &mut Budget) -> Result<bool, Undecided> {
        if !may_contradict_itself(rule.parts()) {
            return Ok(false);
        }
        let question = Question::new(self.workloads, rule.clauses()).among(Requests::Expected);
        if !matches!(question.answer(budget)?, Answer::No(_)) {
            return Ok(false);
        }
        let mut work = Work::new(budget, Requests::Expected);
        for term in rule.clauses().into_iter().flat_map(Clause::choices).flatten() {
            let Term::One(literal) = term else { continue };
            let (constraint, conflict) = (literal.constraint(), &mut Conflict::default());
            if Region::default().with(&literal.subject, constraint, &mut work, conflict)?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Whether two of the terms that must hold together are about one subject, or about claims, which can be parts of each other.
fn may_contradict_itself(Clauses { from, to, when }: &Clauses<'_>) -> bool {
    let mut seen = BTreeSet::new();
    let clauses = [from.as_deref(), to.as_deref(), Some(std::slice::from_ref(when))];
    clauses.into_iter().flatten().any(|choices| {
        let mut of_clause = BTreeSet::new();
        let mut is_twice = false;
        for choice in choices {
            let mut of_choice = BTreeSet::new();
            for subject in choice.iter().map(subject) {
                is_twice |= seen.contains(&subject) || !of_choice.insert(subject);
            }
            of_clause.extend(of_choice);
        }
        seen.extend(of_clause);
        is_twice
    })
}

/// The subject of a term. Claims are told apart by nobody here. `None`: it is a claim.
fn subject<'t>(term: &'t Term<'_>) -> Option<&'t Subject> {
    match term {
        Term::One(Literal { subject, .. }) if !matches!(subject, Subject::Metadata(_)) => Some(subject),
        Term::One(_) | Term::Pairs { .. } => None,
    }
}

impl CompiledRule {
    /// Whether the rule matches every request.
    #[must_use]
    pub fn is_unconditional(&self) -> bool {
        let is_open =
            |groups: &Option<Groups>| groups.as_ref().is_none_or(|groups| groups.iter().any(|one| one.is_empty()));
        is_open(&self.from) && is_open(&self.to) && self.when.is_empty()
    }

    /// Whether a request can match the rule only because its peer has a certain identity: a source asks for one, or a
    /// condition does.
    #[must_use]
    pub fn can_need_identity(&self) -> bool {
        let asks = |tests: &[Test]| is_about_identity(tests, Expected::Match);
        asks(&self.when) || self.sources().any(asks)
    }

    /// Whether a source, together with the conditions, only excludes certain identities and requires none. It does not exclude a
    /// peer without an identity.
    #[must_use]
    pub fn only_excludes_identities(&self) -> bool {
        self.sources().any(|tests| {
            let is_about = |expected| is_about_identity(tests, expected) || is_about_identity(&self.when, expected);
            is_about(Expected::NoMatch) && !is_about(Expected::Match)
        })
    }

    fn sources(&self) -> impl Iterator<Item = &[Test]> {
        let absent: Option<&[Test]> = self.from.is_none().then_some(&[]);
        self.from.iter().flatten().map(|tests| &**tests).chain(absent)
    }
}

fn is_about_identity(tests: &[Test], expected: Expected) -> bool {
    tests.iter().any(|test| matches!(test.check, Check::Identity(_)) && test.expected == expected)
}
