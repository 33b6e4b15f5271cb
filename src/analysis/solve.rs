//! Looks for a request that some rules match and others do not.
//!
//! The search goes from one request to the next. It takes a request of a region, and asks the engine which of the rules
//! that must not match do match it. If there are none, the request is the answer. Otherwise, one of these rules is taken
//! out of the region: what is left are smaller regions, one for each term of the rule, where that term does not hold. The
//! terms of a rule that hold in the whole region leave nothing. So a region is empty as soon as a rule covers it, and
//! only rules that a request meets are looked at.

use std::collections::{BTreeMap, BTreeSet};

use super::budget::{Budget, Undecided};
use super::region::{Choice, Clauses, Literal, Region, SharedValues, Term, Work};
use super::subject::{Subject, Value};
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
    fn scope(&self, policy: &AuthorizationPolicy) -> Vec<Choice<'static>> {
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
pub(super) struct Rule<'s> {
    pub compiled: &'s CompiledRule,
    /// The position of its policy.
    pub policy: usize,
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
    /// Where it applies, and what it matches.
    pub fn clauses(&'s self) -> Vec<Clause<'s>> {
        let Clauses { from, to, when } = &self.clauses;
        let groups = [Some(self.scope), to.as_deref(), from.as_deref()].into_iter().flatten().map(Clause::AnyOf);
        groups.chain([Clause::AllOf(when)]).collect()
    }

    pub fn scope(&self) -> &'s [Choice<'s>] {
        self.scope
    }

    /// What it matches.
    pub fn parts(&self) -> &Clauses<'s> {
        &self.clauses
    }
}

/// A question.
#[derive(Debug)]
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
}

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
        Self { workloads, must, one_of: None, never: Vec::new(), not_applying: Vec::new() }
    }

    pub fn one_of(self, one_of: Vec<Vec<Clause<'s>>>) -> Self {
        Self { one_of: Some(one_of), ..self }
    }

    pub fn never(self, never: &[&'s Rules<'s>]) -> Self {
        Self { never: never.to_vec(), ..self }
    }

    pub fn not_applying(self, not_applying: &[&'s Compiled<'s>]) -> Self {
        Self { not_applying: not_applying.to_vec(), ..self }
    }

    /// Looks for a request.
    pub fn answer(&self, budget: &mut Budget) -> Result<Answer<'s>, Undecided> {
        let mut search =
            Search { question: self, excluded_by: BTreeMap::new(), meets_must: false, work: Work::new(budget) };
        let found = search.choose(&Region::default(), &self.must, self.one_of.as_deref())?;
        Ok(match found {
            Some(witness) => Answer::Yes(Box::new(witness)),
            None => Answer::No(Nothing {
                meets_must: search.meets_must,
                excluded_by: search.excluded_by.into_values().collect(),
            }),
        })
    }

    /// The regions in which what must hold does. At most `most` of them; `None`: there are more.
    pub fn regions(&self, most: usize, budget: &mut Budget) -> Result<Option<Vec<Region<'s>>>, Undecided> {
        let mut search =
            Search { question: self, excluded_by: BTreeMap::new(), meets_must: false, work: Work::new(budget) };
        let mut regions = vec![Region::default()];
        for clause in &self.must {
            let mut next = Vec::new();
            for region in &regions {
                for choice in clause.choices() {
                    next.extend(search.all_of(region, choice)?);
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

struct Search<'q, 's> {
    question: &'q Question<'s>,
    meets_must: bool,
    excluded_by: BTreeMap<*const CompiledRule, &'s CompiledRule>,
    work: Work<'q>,
}

impl<'s> Search<'_, 's> {
    /// Takes one choice after the other, in each of the clauses.
    fn choose(
        &mut self,
        region: &Region<'s>,
        clauses: &[Clause<'s>],
        one_of: Option<&[Vec<Clause<'s>>]>,
    ) -> Result<Option<Witness>, Undecided> {
        let [clause, clauses @ ..] = clauses else {
            self.meets_must = true;
            let Some(lists) = one_of else { return self.exclude(region.clone()) };
            for list in lists {
                if let Some(witness) = self.choose(region, list, None)? {
                    return Ok(Some(witness));
                }
                if self.is_implied(region, list)? {
                    break;
                }
            }
            return Ok(None);
        };
        for choice in clause.choices() {
            for region in self.all_of(region, choice)? {
                if let Some(witness) = self.choose(&region, clauses, one_of)? {
                    return Ok(Some(witness));
                }
            }
        }
        Ok(None)
    }

    /// Whether the whole region meets a list of a single choice.
    fn is_implied(&mut self, region: &Region<'s>, list: &[Clause<'s>]) -> Result<bool, Undecided> {
        for clause in list {
            let [choice] = clause.choices() else { return Ok(false) };
            for term in choice {
                let Term::One(literal) = term else { return Ok(false) };
                if self.without(region, literal)?.is_some() {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// The parts of the region where all terms hold.
    fn all_of(&mut self, region: &Region<'s>, terms: &'s [Term<'s>]) -> Result<Vec<Region<'s>>, Undecided> {
        let mut regions = vec![region.clone()];
        for term in terms {
            let mut next = Vec::new();
            for region in &regions {
                next.extend(self.asserted(region, term)?);
            }
            regions = next;
        }
        Ok(regions)
    }

    /// The parts of the region where the term holds.
    fn asserted(&mut self, region: &Region<'s>, term: &'s Term<'s>) -> Result<Vec<Region<'s>>, Undecided> {
        let mut regions = Vec::new();
        match term {
            Term::One(literal) => regions.extend(self.with(region, literal)?),
            Term::Pairs { pairs, is_match: true } => {
                for pair in pairs {
                    regions.extend(self.with_pair(region, pair)?);
                }
            }
            Term::Pairs { pairs, is_match: false } => {
                let mut region = region.clone();
                region.forbidden.extend(pairs);
                regions.push(region);
            }
        }
        Ok(regions)
    }

    fn with(&mut self, region: &Region<'s>, literal: &'s Literal<'s>) -> Result<Option<Region<'s>>, Undecided> {
        region.with(&literal.subject, literal.constraint(), &mut self.work)
    }

    fn without(&mut self, region: &Region<'s>, literal: &'s Literal<'s>) -> Result<Option<Region<'s>>, Undecided> {
        region.with(&literal.subject, literal.constraint().not(), &mut self.work)
    }

    fn with_pair(
        &mut self,
        region: &Region<'s>,
        [issuer, subject]: &'s [Literal<'s>; 2],
    ) -> Result<Option<Region<'s>>, Undecided> {
        match self.with(region, issuer)? {
            Some(region) => self.with(&region, subject),
            None => Ok(None),
        }
    }

    /// A request of the region that no rule matches which must not.
    fn exclude(&mut self, region: Region<'s>) -> Result<Option<Witness>, Undecided> {
        let mut regions = vec![region];
        while let Some(region) = regions.pop() {
            let workloads = self.question.workloads;
            let witness = Witness::of(&region, workloads.one(), workloads.root_namespace());
            let mut parts = match forbidden_pair(&region) {
                Some(pair) => self.behind(&region, pair)?,
                None => match self.best_exclusion(&region, &witness)? {
                    Some(parts) => parts,
                    None => return Ok(Some(witness)),
                },
            };
            parts.reverse();
            regions.extend(parts);
        }
        Ok(None)
    }

    /// The parts of the region where one of these does not hold. They have no request in common.
    fn behind(&mut self, region: &Region<'s>, literals: &'s [Literal<'s>]) -> Result<Vec<Region<'s>>, Undecided> {
        let (mut parts, mut rest) = (Vec::new(), Some(region.clone()));
        for literal in literals {
            let Some(region) = rest else { break };
            parts.extend(self.without(&region, literal)?);
            rest = self.with(&region, literal)?;
        }
        Ok(parts)
    }

    /// What is left of the region without one of the rules and policies that must not match the request. `None`: there are none.
    fn best_exclusion(&mut self, region: &Region<'s>, witness: &Witness) -> Result<Option<Vec<Region<'s>>>, Undecided> {
        // So many are enough to find one that leaves little.
        const MOST: usize = 8;
        let mut best: Option<(Vec<Region<'s>>, Option<&'s CompiledRule>)> = None;
        for (rule, terms) in self.offenders(region, &witness.request(), MOST)? {
            let parts = self.without_all(region, &terms)?;
            if best.as_ref().is_none_or(|(best, _)| parts.len() < best.len()) {
                best = Some((parts, rule));
            }
            if best.as_ref().is_some_and(|(parts, _)| parts.len() <= 1) {
                break;
            }
        }
        let Some((parts, rule)) = best else { return Ok(None) };
        self.excluded_by.extend(rule.map(|rule| (std::ptr::from_ref(rule), rule)));
        Ok(Some(parts))
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
        for compiled in &self.question.not_applying {
            for scope in &compiled.scopes {
                self.work.budget.spend(1)?;
                if let Some(choice) = scope.iter().find(|choice| applies(region, choice)) {
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
        let is_near = |group: &&Group<'_>| {
            let near = [namespace, Some(root_namespace.as_bytes())];
            self.question.workloads.one().is_some() || !is_sidecar || near.contains(&Some(group.namespace.as_bytes()))
        };
        for group in self.question.never.iter().flat_map(|rules| &rules.groups).filter(is_near) {
            let candidates = group.index.candidates(&evaluation);
            self.work.budget.spend(candidates.len().saturating_add(1))?;
            for rule in candidates.into_iter().filter_map(|position| group.rules.get(position)) {
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
    fn without_all(&mut self, region: &Region<'s>, terms: &[&'s Term<'s>]) -> Result<Vec<Region<'s>>, Undecided> {
        let (mut parts, mut rest) = (Vec::new(), region.clone());
        for term in terms {
            match term {
                Term::One(literal) => {
                    let Some(without) = self.without(&rest, literal)? else { continue };
                    parts.push(without);
                    let Some(with) = self.with(&rest, literal)? else { return Ok(parts) };
                    rest = with;
                }
                Term::Pairs { pairs, is_match: true } => {
                    let Some(pair) = pairs.iter().find(|pair| pair.iter().all(|one| has_string(region, one))) else {
                        continue;
                    };
                    for literal in pair {
                        parts.extend(self.without(&rest, literal)?);
                        let Some(with) = self.with(&rest, literal)? else { return Ok(parts) };
                        rest = with;
                    }
                }
                Term::Pairs { pairs, is_match: false } => {
                    for pair in pairs {
                        parts.extend(self.with_pair(&rest, pair)?);
                    }
                    rest.forbidden.extend(pairs);
                }
            }
        }
        Ok(parts)
    }
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

/// Whether the region's request has a string that the literal names.
fn has_string(region: &Region<'_>, literal: &Literal<'_>) -> bool {
    match (region.value(&literal.subject), literal.constraint().values) {
        (Some(Value::Text(text)), Values::Metadata(strings, _)) => strings.contains(text),
        _ => false,
    }
}

/// The pair of a request of the region that it must not have.
fn forbidden_pair<'s>(region: &Region<'s>) -> Option<&'s [Literal<'s>; 2]> {
    region.forbidden.iter().copied().find(|pair| pair.iter().all(|literal| has_string(region, literal)))
}
