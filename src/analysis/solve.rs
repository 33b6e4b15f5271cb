//! Looks for a request that some rules match and others do not.
//!
//! The search goes from one request to the next. It takes a request of a region, and asks the engine which of the rules
//! that must not match do match it. If there are none, the request is the answer. Otherwise, one of these rules is taken
//! out of the region: what is left are smaller regions, one for each term of the rule, where that term does not hold. The
//! terms of a rule that hold in the whole region leave nothing. So a region is empty as soon as a rule covers it, and
//! only rules that a request meets are looked at.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::budget::{Budget, Requests, Undecided};
use super::region::{Choice, Clauses, Conflict, Literal, Pair, Region, SharedValues, Term, Work, forbidden};
use super::subject::{Constraint, ConstraintId, Subject, Value};
use super::values::Values;
use super::witness::{Witness, of_workload};
use crate::engine::Options;
use crate::engine::compile::{self, CompiledRule};
use crate::engine::evaluate::Evaluation;
use crate::engine::index::Index;
use crate::policy::AuthorizationPolicy;
use crate::policy::scope::{Scope, Workload, scope};
use crate::request::Request;

/// The workloads that a question is about.
#[derive(Clone, Debug)]
pub enum Workloads {
    /// Every workload of the mesh.
    All {
        /// The root namespace: its policies are for every workload.
        root_namespace: String,
        /// The revision of the control plane that configures the workloads. `None`: policies of all revisions are for them.
        revision: Option<String>,
    },
    /// This workload.
    One(Box<Workload>),
}

impl Workloads {
    pub(super) fn one(&self) -> Option<&Workload> {
        match self {
            Self::All { .. } => None,
            Self::One(workload) => Some(workload),
        }
    }

    /// The root namespace of the mesh.
    #[must_use]
    pub fn root_namespace(&self) -> &str {
        match self {
            Self::All { root_namespace, .. } => root_namespace,
            Self::One(workload) => &workload.root_namespace,
        }
    }

    /// Where a policy applies. Empty: nowhere.
    pub(super) fn scope(&self, policy: &AuthorizationPolicy) -> Vec<Choice<'static>> {
        match self {
            Self::One(workload) if scope(policy, workload) == Scope::Applies => vec![Vec::new()],
            Self::One(_) => Vec::new(),
            Self::All { revision, .. }
                if policy.revision.is_some() && revision.is_some() && policy.revision != *revision =>
            {
                Vec::new()
            }
            Self::All { root_namespace, .. } => super::region::scope(policy.reach(), root_namespace),
        }
    }
}

/// Some policies, compiled.
#[derive(Debug)]
pub(super) struct Compiled<'p> {
    pub policies: Vec<&'p AuthorizationPolicy>,
    scopes: Vec<Vec<Choice<'static>>>,
    /// By namespace.
    indexes: BTreeMap<&'p str, Index>,
}

impl<'p> Compiled<'p> {
    pub fn new(
        policies: impl IntoIterator<Item = &'p AuthorizationPolicy>,
        options: &Options,
        workloads: &Workloads,
    ) -> Self {
        let scoped = policies.into_iter().map(|policy| (policy, workloads.scope(policy)));
        let (policies, scopes): (Vec<_>, Vec<_>) = scoped.filter(|(_, scope)| !scope.is_empty()).unzip();
        let mut rules = BTreeMap::<&str, Vec<CompiledRule>>::new();
        for (number, policy) in (0..).zip(&policies) {
            let compiled = compile::policy(policy, options).into_iter().map(|rule| rule.with_policy_number(number));
            rules.entry(&policy.name.namespace).or_default().extend(compiled);
        }
        let indexes = rules.into_iter().map(|(namespace, rules)| (namespace, Index::new(rules))).collect();
        Self { policies, scopes, indexes }
    }

    /// The rules, by namespace.
    pub fn indexes(&self) -> impl Iterator<Item = &Index> {
        self.indexes.values()
    }

    /// The same policies of one workload, with other rules.
    pub fn with_rules(&self, rules: Vec<CompiledRule>) -> Self {
        let indexes = BTreeMap::from([("", Index::new(rules))]);
        // All of them apply.
        let scopes = self.policies.iter().map(|_| vec![Choice::new()]).collect();
        Self { policies: self.policies.clone(), scopes, indexes }
    }

    /// Whether one of them applies to a workload.
    pub fn apply(&self, workload: &Workload) -> bool {
        self.policies.iter().any(|policy| scope(policy, workload) == Scope::Applies)
    }

    /// Where each of the policies applies. What is the same for several is there once.
    pub fn scopes(&self) -> Vec<Vec<Clause<'_>>> {
        let mut seen = BTreeSet::new();
        let policies = self.policies.iter().zip(&self.scopes);
        let new = policies.filter(|(policy, _)| seen.insert(format!("{:?}", policy.reach())));
        new.map(|(_, scope)| vec![Clause::AnyOf(scope)]).collect()
    }

    pub fn scope(&self, policy: usize) -> &[Choice<'static>] {
        self.scopes.get(policy).map_or(&[], Vec::as_slice)
    }
}

/// The rules of some policies.
#[derive(Debug)]
pub(super) struct Rules<'s> {
    pub compiled: &'s Compiled<'s>,
    groups: Vec<Group<'s>>,
}

/// Those of a namespace.
#[derive(Debug)]
struct Group<'s> {
    namespace: &'s str,
    index: &'s Index,
    rules: Vec<Rule<'s>>,
}

/// A rule, and where it applies.
#[derive(Debug)]
pub struct Rule<'s> {
    pub(super) compiled: &'s CompiledRule,
    /// The position of its policy.
    policy: usize,
    scope: &'s [Choice<'s>],
    clauses: Clauses<'s>,
}

impl<'s> Rules<'s> {
    pub fn of(compiled: &'s Compiled<'s>, shared: &mut SharedValues<'s>) -> Self {
        let mut rule = |rule: &'s CompiledRule| {
            let policy = usize::try_from(rule.id().policy_number()).unwrap_or(usize::MAX);
            Rule { compiled: rule, policy, scope: compiled.scope(policy), clauses: Clauses::of(rule, shared) }
        };
        let mut group = |(namespace, index): (&&'s str, &'s Index)| Group {
            namespace,
            index,
            rules: index.rules().iter().map(&mut rule).collect(),
        };
        Self { compiled, groups: compiled.indexes.iter().map(&mut group).collect() }
    }

    pub fn all(&self) -> impl Iterator<Item = &Rule<'s>> {
        self.groups.iter().flat_map(|group| &group.rules)
    }

    pub fn policy(&self, rule: &Rule<'_>) -> Option<&'s AuthorizationPolicy> {
        self.compiled.policies.get(rule.policy).copied()
    }

    /// Whether one of them matches a request, and applies to its workload.
    pub fn match_request(&self, witness: &Witness) -> bool {
        let request = witness.request();
        let evaluation = Evaluation::new(&request);
        self.groups.iter().any(|group| {
            let candidates = group.index.candidates(&evaluation);
            let mut rules = candidates.into_iter().filter_map(|position| group.rules.get(position));
            rules.any(|rule| {
                let applies = |policy| scope(policy, &witness.workload) == Scope::Applies;
                self.policy(rule).is_some_and(applies) && evaluation.rule(rule.compiled).counts()
            })
        })
    }
}

/// A list of choices, one of which must hold.
#[derive(Clone, Copy, Debug)]
pub(super) enum Clause<'s> {
    AnyOf(&'s [Choice<'s>]),
    AllOf(&'s Choice<'s>),
}

impl<'s> Clause<'s> {
    pub fn choices(self) -> &'s [Choice<'s>] {
        match self {
            Self::AnyOf(choices) => choices,
            Self::AllOf(choice) => std::slice::from_ref(choice),
        }
    }
}

impl<'s> Rule<'s> {
    /// The rule, as the engine has it.
    #[must_use]
    pub fn compiled(&self) -> &'s CompiledRule {
        self.compiled
    }

    /// Where it applies, and what it matches.
    pub(super) fn clauses(&'s self) -> Vec<Clause<'s>> {
        let Clauses { from, to, when } = &self.clauses;
        let groups = [Some(self.scope), to.as_deref(), from.as_deref()].into_iter().flatten().map(Clause::AnyOf);
        groups.chain([Clause::AllOf(when)]).collect()
    }

    pub(super) fn scope(&self) -> &'s [Choice<'s>] {
        self.scope
    }

    /// What it matches.
    pub(super) fn parts(&self) -> &Clauses<'s> {
        &self.clauses
    }
}

/// A question.
#[derive(Clone)]
pub(super) struct Question<'s> {
    pub workloads: &'s Workloads,
    /// All of these must hold.
    pub must: Vec<Clause<'s>>,
    /// One of these must hold, if there are any: each is a list of clauses that must all hold.
    pub one_of: Option<Vec<Vec<Clause<'s>>>>,
    /// None of these rules may match.
    pub never: Vec<&'s Rules<'s>>,
    /// None of these policies may apply.
    pub not_applying: Vec<&'s Compiled<'s>>,
    /// Which requests count.
    requests: Requests,
    /// Which of the policies that may not apply count, and which of the rules that may not match.
    counts: Option<&'s Counts<'s>>,
}

/// Whether a policy counts, or a rule of it.
pub(super) type Counts<'s> = dyn Fn(&AuthorizationPolicy, Option<&CompiledRule>) -> bool + 's;

/// The answer to a question.
#[derive(Debug)]
pub(super) enum Answer<'s> {
    /// This request.
    Yes(Box<Witness>),
    /// There is none: see there.
    No(Nothing<'s>),
}

/// Why there is no request.
#[derive(Debug)]
pub(super) struct Nothing<'s> {
    /// Whether some request meets what it must meet.
    pub meets_must: bool,
    /// The rules that match all of these, and must not.
    pub excluded_by: Vec<&'s CompiledRule>,
}

impl<'s> Question<'s> {
    pub fn new(workloads: &'s Workloads, must: Vec<Clause<'s>>) -> Self {
        Self {
            workloads,
            must,
            one_of: None,
            never: Vec::new(),
            not_applying: Vec::new(),
            requests: Requests::All,
            counts: None,
        }
    }

    pub fn one_of(self, one_of: Vec<Vec<Clause<'s>>>) -> Self {
        Self { one_of: Some(one_of), ..self }
    }

    pub fn never(self, never: &[&'s Rules<'s>]) -> Self {
        Self { never: never.to_vec(), ..self }
    }

    pub fn among(self, requests: Requests) -> Self {
        Self { requests, ..self }
    }

    pub fn counting(self, counts: &'s Counts<'s>) -> Self {
        Self { counts: Some(counts), ..self }
    }

    pub fn not_applying(self, not_applying: &[&'s Compiled<'s>]) -> Self {
        Self { not_applying: not_applying.to_vec(), ..self }
    }

    /// Looks for a request.
    pub fn answer(&self, budget: &mut Budget) -> Result<Answer<'s>, Undecided> {
        let mut search = Search::new(self, budget);
        let found = search.choose(&Region::default(), &self.must, self.one_of.as_deref())?;
        Ok(match found {
            Found::Request(witness) => Answer::Yes(witness),
            Found::Nothing { conflict, .. } => {
                let meets_must = search.meets_must || search.has_request()?;
                Answer::No(Nothing { meets_must, excluded_by: conflict.into_rules() })
            }
        })
    }

    /// As [`Self::answer`]. If there is a request that people send, it is one.
    pub fn usual_answer(&self, budget: &mut Budget) -> Result<Answer<'s>, Undecided> {
        match self.answer(budget)? {
            Answer::Yes(mut witness) if !witness.is_expected => {
                match self.clone().among(Requests::Usual).answer(budget) {
                    Ok(Answer::Yes(usual)) => return Ok(Answer::Yes(usual)),
                    Ok(Answer::No(_)) => {}
                    Err(Undecided) => witness.is_expected = true,
                }
                Ok(Answer::Yes(witness))
            }
            answer => Ok(answer),
        }
    }

    /// The regions in which what must hold does. At most `most` of them; `None`: there are more.
    pub fn regions(&self, most: usize, budget: &mut Budget) -> Result<Option<Vec<Region<'s>>>, Undecided> {
        let mut search = Search::new(self, budget);
        let mut regions = vec![Region::default()];
        for clause in &self.must {
            let mut next = Vec::new();
            for region in &regions {
                for choice in clause.choices() {
                    let parts = search.all_of(region, choice, &mut Conflict::default())?;
                    next.extend(parts.into_iter().map(|part| part.region));
                    if next.len() > most {
                        return Ok(None);
                    }
                }
            }
            regions = next;
        }
        Ok(Some(regions))
    }
}

/// What was found in a region.
enum Found<'s> {
    Request(Box<Witness>),
    Nothing {
        conflict: Conflict<'s>,
        /// Whether the reason includes what the clauses ask for. Otherwise, the region itself is empty.
        depends_on_clauses: bool,
    },
}

/// A region that is taken apart. It is empty if all its parts are.
#[derive(Default)]
struct Split<'s> {
    /// Those parts that were not looked at.
    parts: VecDeque<Part<'s>>,
    /// Why the other parts are empty, but for the last.
    conflict: Conflict<'s>,
    /// The constraints that make the last part.
    decided: Vec<ConstraintId>,
}

/// A part of a region.
struct Part<'s> {
    region: Region<'s>,
    /// The constraints that make it.
    decided: Vec<ConstraintId>,
}

impl Found<'_> {
    /// Whether there is nothing, and one of these constraints is a reason.
    fn is_about(&self, constraints: &[ConstraintId]) -> bool {
        matches!(self, Self::Nothing { conflict, .. } if conflict.is_about(constraints))
    }
}

impl<'s> Part<'s> {
    fn forbid(&mut self, pairs: &'s [Pair<'s>]) {
        self.region.forbidden.extend(pairs);
        self.decided.extend(pairs.iter().map(forbidden));
    }
}

struct Search<'q, 's> {
    question: &'q Question<'s>,
    /// Whether some request is known to meet what it must meet.
    meets_must: bool,
    /// Whether the rules that must not match count, and the policies that may not apply.
    rules_count: bool,
    work: Work<'q>,
}

impl<'q, 's> Search<'q, 's> {
    fn new(question: &'q Question<'s>, budget: &'q mut Budget) -> Self {
        Self { question, meets_must: false, rules_count: true, work: Work::new(budget, question.requests) }
    }

    /// Whether some request meets what it must meet.
    fn has_request(&mut self) -> Result<bool, Undecided> {
        self.rules_count = false;
        Ok(matches!(self.choose(&Region::default(), &self.question.must, None)?, Found::Request(_)))
    }

    /// Takes one choice after the other, in each of the clauses.
    fn choose(
        &mut self,
        region: &Region<'s>,
        clauses: &[Clause<'s>],
        one_of: Option<&[Vec<Clause<'s>>]>,
    ) -> Result<Found<'s>, Undecided> {
        let [clause, clauses @ ..] = clauses else {
            self.meets_must |= region.forbidden.is_empty();
            return match one_of {
                None => self.exclude(region.clone()),
                Some(lists) => self.choose_list(region, lists),
            };
        };
        let mut all = Conflict::default();
        for choice in clause.choices() {
            for Part { region, decided } in self.all_of(region, choice, &mut all)? {
                match self.choose(&region, clauses, one_of)? {
                    // There is nothing with the other choices either.
                    found @ Found::Nothing { .. } if !found.is_about(&decided) => return Ok(found),
                    Found::Nothing { conflict, .. } => all.extend(conflict, &decided),
                    found @ Found::Request(_) => return Ok(found),
                }
            }
        }
        Ok(Found::Nothing { conflict: all, depends_on_clauses: true })
    }

    /// A request that meets all clauses of one of the lists.
    fn choose_list(&mut self, region: &Region<'s>, lists: &[Vec<Clause<'s>>]) -> Result<Found<'s>, Undecided> {
        let mut all = Conflict::default();
        for list in lists {
            match self.choose(region, list, None)? {
                Found::Nothing { conflict, depends_on_clauses: true } => all.extend(conflict, &[]),
                // There is nothing with the other lists either.
                found => return Ok(found),
            }
        }
        Ok(Found::Nothing { conflict: all, depends_on_clauses: true })
    }

    /// The parts of the region where all terms hold. `conflict` gets the reasons why other parts are empty.
    fn all_of(
        &mut self,
        region: &Region<'s>,
        terms: &'s [Term<'s>],
        conflict: &mut Conflict<'s>,
    ) -> Result<Vec<Part<'s>>, Undecided> {
        // So many regions take some hundred megabytes.
        const MOST: usize = 10_000;
        let mut parts = vec![Part { region: region.clone(), decided: Vec::new() }];
        for term in terms {
            let mut next = Vec::new();
            for part in parts {
                self.assert(part, term, &mut next, conflict)?;
                if next.len() > MOST {
                    return Err(Undecided);
                }
            }
            parts = next;
        }
        Ok(parts)
    }

    /// Adds the parts of a part where the term holds.
    fn assert(
        &mut self,
        mut part: Part<'s>,
        term: &'s Term<'s>,
        parts: &mut Vec<Part<'s>>,
        conflict: &mut Conflict<'s>,
    ) -> Result<(), Undecided> {
        match term {
            Term::One(literal) => parts.extend(self.part(&part, literal, literal.constraint(), conflict)?),
            Term::Pairs { pairs, is_match: true } => {
                for pair in pairs {
                    parts.extend(self.with_pair(&part, pair, conflict)?);
                }
            }
            Term::Pairs { pairs, is_match: false } => {
                part.forbid(pairs);
                parts.push(part);
            }
        }
        Ok(())
    }

    fn with_pair(
        &mut self,
        part: &Part<'s>,
        [issuer, subject]: &'s Pair<'s>,
        conflict: &mut Conflict<'s>,
    ) -> Result<Option<Part<'s>>, Undecided> {
        match self.part(part, issuer, issuer.constraint(), conflict)? {
            Some(part) => self.part(&part, subject, subject.constraint(), conflict),
            None => Ok(None),
        }
    }

    /// A request of the region that no rule matches which must not.
    ///
    /// A region that is empty says why. If the reason has nothing to do with how a greater region was taken apart, that one is
    /// empty for the same reason, and its other parts need no look.
    fn exclude(&mut self, mut region: Region<'s>) -> Result<Found<'s>, Undecided> {
        // What a request costs that the engine decides about, for each subject.
        const STEPS: usize = 2_000;
        let mut splits = Vec::new();
        loop {
            self.work.spend(STEPS.saturating_mul(region.values().count().saturating_add(1)))?;
            let witness = Witness::of(&region, self.question.workloads);
            let split = match forbidden_pair(&region) {
                Some(pair) => Some(self.without_pair(region, pair)?),
                None if self.rules_count => self.best_split(&region, &witness)?,
                None => None,
            };
            let Some(split) = split else { return Ok(Found::Request(Box::new(witness))) };
            splits.push(split);
            region = match next_part(&mut splits) {
                Ok(region) => region,
                Err(conflict) => return Ok(Found::Nothing { conflict, depends_on_clauses: false }),
            };
        }
    }

    /// The parts of the region that do not have the pair, which its request has.
    fn without_pair(&mut self, region: Region<'s>, pair: &'s Pair<'s>) -> Result<Split<'s>, Undecided> {
        let mut split = Split::default();
        split.conflict.add_pair(pair);
        let mut rest = Some(Part { region, decided: Vec::new() });
        for literal in pair {
            let Some(part) = rest else { break };
            rest = self.split_off(part, literal, &mut split)?;
        }
        Ok(split)
    }

    /// The region without one of the rules and policies that must not match its request. `None`: there are none. It is undecided if
    /// the engine takes a value otherwise than the analysis, because it is too long to be read.
    fn best_split(&mut self, region: &Region<'s>, witness: &Witness) -> Result<Option<Split<'s>>, Undecided> {
        // So many are enough to find one that leaves little.
        const MOST: usize = 8;
        let mut best: Option<Split<'s>> = None;
        for (rule, terms) in self.offenders(region, &witness.request(), MOST)? {
            if terms.iter().any(|term| is_contradicted(region, term)) {
                return Err(Undecided);
            }
            let mut split = self.without_all(region, &terms)?;
            if let Some(rule) = rule {
                split.conflict.add_rule(rule);
            }
            if best.as_ref().is_none_or(|best| split.parts.len() < best.parts.len()) {
                best = Some(split);
            }
            if best.as_ref().is_some_and(|best| best.parts.len() <= 1) {
                break;
            }
        }
        Ok(best)
    }

    /// The rules that match the request of the region and must not, and the policies that apply and must not: with the terms
    /// that hold.
    #[expect(clippy::type_complexity, reason = "it is taken apart at once")]
    fn offenders(
        &mut self,
        region: &Region<'s>,
        request: &Request,
        most: usize,
    ) -> Result<Vec<(Option<&'s CompiledRule>, Vec<&'s Term<'s>>)>, Undecided> {
        let mut found = Vec::new();
        let counts = |policy: &AuthorizationPolicy, rule: Option<&CompiledRule>| {
            self.question.counts.is_none_or(|counts| counts(policy, rule))
        };
        for compiled in &self.question.not_applying {
            for (policy, scope) in compiled.policies.iter().zip(&compiled.scopes) {
                self.work.spend(1)?;
                if counts(policy, None)
                    && let Some(choice) = scope.iter().find(|choice| applies(region, choice))
                {
                    found.push((None, choice.iter().collect()));
                    if found.len() >= most {
                        return Ok(found);
                    }
                }
            }
        }
        let evaluation = Evaluation::new(request);
        let namespace = of_workload(region, &Subject::Namespace);
        // A waypoint also serves services of namespaces other than its own.
        let is_sidecar = of_workload(region, &Subject::Proxy) == Some(super::subject::SIDECAR);
        let root_namespace = self.question.workloads.root_namespace();
        let is_near = |group: &Group<'_>| {
            let near = [namespace, Some(root_namespace.as_bytes())];
            self.question.workloads.one().is_some() || !is_sidecar || near.contains(&Some(group.namespace.as_bytes()))
        };
        let groups = self.question.never.iter().flat_map(|rules| rules.groups.iter().map(move |group| (*rules, group)));
        for (rules, group) in groups.filter(|(_, group)| is_near(group)) {
            let candidates = group.index.candidates(&evaluation);
            self.work.spend(candidates.len().saturating_add(1))?;
            for rule in candidates.into_iter().filter_map(|position| group.rules.get(position)) {
                if !rules.policy(rule).is_some_and(|policy| counts(policy, Some(rule.compiled))) {
                    continue;
                }
                let Some(scope) = rule.scope.iter().find(|choice| applies(region, choice)) else { continue };
                let Some([to, from]) = evaluation.matching_groups(rule.compiled) else { continue };
                let Clauses { from: sources, to: operations, when } = &rule.clauses;
                let group = |choices: &'s Option<Vec<Choice<'s>>>, at: Option<usize>| choices.as_ref()?.get(at?);
                let choices = [Some(scope), group(operations, to), group(sources, from), Some(when)];
                found.push((Some(rule.compiled), choices.into_iter().flatten().flatten().collect()));
                if found.len() >= most {
                    return Ok(found);
                }
            }
        }
        Ok(found)
    }

    /// The parts of the region where one of the terms does not hold, which all hold about its request. The parts have no
    /// request in common.
    fn without_all(&mut self, region: &Region<'s>, terms: &[&'s Term<'s>]) -> Result<Split<'s>, Undecided> {
        let mut split = Split::default();
        let mut rest = Part { region: region.clone(), decided: Vec::new() };
        for term in terms {
            match term {
                Term::One(literal) => {
                    let Some(with) = self.split_off(rest, literal, &mut split)? else { return Ok(split) };
                    rest = with;
                }
                Term::Pairs { pairs, is_match: true } => {
                    let Some(pair) = pairs.iter().find(|pair| pair.iter().all(|one| has_string(region, one))) else {
                        continue;
                    };
                    for literal in pair {
                        let Some(with) = self.split_off(rest, literal, &mut split)? else { return Ok(split) };
                        rest = with;
                    }
                }
                Term::Pairs { pairs, is_match: false } => {
                    for pair in pairs {
                        let part = self.with_pair(&rest, pair, &mut split.conflict)?;
                        split.parts.extend(part);
                    }
                    rest.forbid(pairs);
                }
            }
        }
        Ok(split)
    }

    /// Splits off the part where the literal does not hold. Returns the part where it does, if there is one.
    fn split_off(
        &mut self,
        rest: Part<'s>,
        literal: &'s Literal<'s>,
        split: &mut Split<'s>,
    ) -> Result<Option<Part<'s>>, Undecided> {
        let without = self.part(&rest, literal, literal.constraint().not(), &mut split.conflict)?;
        let Some(without) = without else { return Ok(Some(rest)) };
        split.parts.push_back(without);
        self.part(&rest, literal, literal.constraint(), &mut split.conflict)
    }

    /// The part of a part that meets a constraint. `None`: there is none, and `conflict` gets the reason, without what was decided
    /// on the way to this part. Other parts have decided otherwise.
    fn part(
        &mut self,
        of: &Part<'s>,
        Literal { subject, .. }: &'s Literal<'s>,
        constraint: Constraint<'s>,
        conflict: &mut Conflict<'s>,
    ) -> Result<Option<Part<'s>>, Undecided> {
        let decided = [&of.decided[..], &[constraint.id()]].concat();
        let mut of_part = Conflict::default();
        let region = of.region.with(subject, constraint, &mut self.work, &mut of_part)?;
        conflict.extend(of_part, &decided);
        Ok(region.map(|region| Part { region, decided }))
    }
}

/// The next part of a region that nobody has looked at, after one was found to be empty. If there is none: why all are empty.
fn next_part<'s>(splits: &mut Vec<Split<'s>>) -> Result<Region<'s>, Conflict<'s>> {
    let mut empty = None;
    while let Some(mut split) = splits.pop() {
        if let Some(conflict) = empty.take() {
            if !Conflict::is_about(&conflict, &split.decided) {
                empty = Some(conflict);
                continue;
            }
            split.conflict.extend(conflict, &split.decided);
        }
        let Some(part) = split.parts.pop_front() else {
            empty = Some(split.conflict);
            continue;
        };
        split.decided = part.decided;
        splits.push(split);
        return Ok(part.region);
    }
    Err(empty.unwrap_or_default())
}

/// Whether all of these terms hold about the workload of the region's request.
fn applies(region: &Region<'_>, choice: &[Term<'_>]) -> bool {
    choice.iter().all(|term| match term {
        Term::One(literal) => match literal.constraint().values {
            Values::Texts(texts) => of_workload(region, &literal.subject).is_some_and(|text| texts.contains(text)),
            Values::Paths(..) | Values::Metadata(..) | Values::Blocks(_) | Values::Ports(_) => false,
        },
        Term::Pairs { .. } => false,
    })
}

/// Whether the term does not hold about the value that the region has.
fn is_contradicted(region: &Region<'_>, term: &Term<'_>) -> bool {
    match term {
        Term::One(literal) => {
            region.value(&literal.subject).is_some_and(|value| literal.constraint().not().is_met_by(value))
        }
        Term::Pairs { .. } => false,
    }
}

/// Whether the region's request has a string that the literal names.
fn has_string(region: &Region<'_>, literal: &Literal<'_>) -> bool {
    match (region.value(&literal.subject), literal.constraint().values) {
        (Some(Value::Text(text)), Values::Metadata(strings, _)) => strings.contains(text),
        _ => false,
    }
}

/// The pair of a request of the region that it must not have.
fn forbidden_pair<'s>(region: &Region<'s>) -> Option<&'s Pair<'s>> {
    region.forbidden.iter().copied().find(|pair| pair.iter().all(|literal| has_string(region, literal)))
}
