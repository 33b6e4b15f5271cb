//! What policies can decide about a request of which not everything is known, such as one of which only a line of a log is left.

use super::budget::{Budget, Undecided};
use super::difference::{Policies, Sides};
use super::solve::Compiled;
use crate::engine::compile::{Check, CompiledRule, Group, Groups, Test};
use crate::engine::evaluate::{Evaluation, Truth};
use crate::engine::{Combining, RuleId, Verdict};
use crate::policy::Clause;
use crate::request::Attributes;

/// The rules that may match a request, each with its tests about what is unreadable in it.
#[derive(Debug)]
pub struct Open<'p> {
    policies: &'p Policies<'p>,
    deny: Vec<OpenRule<'p>>,
    allow: Vec<OpenRule<'p>>,
    /// By provider.
    custom: Vec<(&'p str, Vec<OpenRule<'p>>)>,
}

/// A rule that may match. It does if these tests hold; if there are none, it matches.
type OpenRule<'p> = (&'p CompiledRule, Vec<(Clause, usize)>);

/// What is the same for requests that leave the same open.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OpenKey(Vec<(usize, Vec<(Clause, usize)>)>);

/// What can become of a request. If a provider may be asked, that counts as both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Possible {
    /// It may be allowed.
    pub allow: bool,
    /// It may be denied.
    pub deny: bool,
}

impl Possible {
    const BOTH: Self = Self { allow: true, deny: true };

    /// What becomes of it, if that is certain.
    #[must_use]
    pub fn verdict(self) -> Option<Verdict> {
        match self {
            Self { allow: true, deny: false } => Some(Verdict::Allow),
            Self { allow: false, deny: true } => Some(Verdict::Deny),
            _ => None,
        }
    }
}

impl From<Verdict> for Possible {
    fn from(verdict: Verdict) -> Self {
        Self { allow: verdict == Verdict::Allow, deny: verdict == Verdict::Deny }
    }
}

impl<'p> Policies<'p> {
    /// What a request leaves open. The policies must be those of one workload.
    pub fn open(&'p self, request: &impl Attributes) -> Open<'p> {
        let evaluation = Evaluation::new(request);
        let of = |compiled: &'p Compiled<'p>| compiled.open(&evaluation);
        Open {
            policies: self,
            deny: of(&self.deny),
            allow: of(&self.allow),
            custom: self.custom.iter().map(|(provider, compiled)| (*provider, of(compiled))).collect(),
        }
    }
}

impl<'p> Compiled<'p> {
    fn open<'r>(&'p self, evaluation: &Evaluation<'r, impl Attributes>) -> Vec<OpenRule<'p>>
    where
        'p: 'r,
    {
        let mut open = Vec::new();
        for index in self.indexes() {
            let candidates = index.candidates(evaluation).into_iter();
            let rules = candidates.filter_map(|position| index.rules().get(position));
            open.extend(rules.filter_map(|rule| Some((rule, evaluation.open_tests(rule)?))));
        }
        open
    }
}

impl<'r, A: Attributes> Evaluation<'r, A> {
    /// The tests of a rule that are open, because what they look at is unreadable: the rule matches exactly if they hold as they
    /// would in a rule without its other tests. `None`: the rule does not match, whatever is unreadable.
    fn open_tests(&self, rule: &'r CompiledRule) -> Option<Vec<(Clause, usize)>> {
        let mut open = Vec::new();
        for (groups, clause) in [(&rule.to, Clause::To as fn(usize) -> Clause), (&rule.from, Clause::From)] {
            let Some(groups) = groups else { continue };
            let groups = groups.iter().enumerate();
            let of_groups: Vec<_> =
                groups.filter_map(|(number, group)| self.open_tests_of(group, clause(number))).collect();
            if of_groups.is_empty() {
                return None;
            }
            if !of_groups.iter().any(Vec::is_empty) {
                open.extend(of_groups.into_iter().flatten());
            }
        }
        open.extend(self.open_tests_of(&rule.when, Clause::When)?);
        Some(open)
    }

    fn open_tests_of(&self, group: &'r [Test], clause: Clause) -> Option<Vec<(Clause, usize)>> {
        let mut open = Vec::new();
        for (number, test) in group.iter().enumerate() {
            match self.holds(test) {
                Truth::No => return None,
                Truth::Yes => {}
                Truth::Unproven(_) | Truth::Assumed(_) => open.push((clause, number)),
            }
        }
        Some(open)
    }
}

impl CompiledRule {
    /// The test at a position of a clause.
    pub(super) fn test(&self, clause: Clause, number: usize) -> Option<&Test> {
        let group = match clause {
            Clause::From(index) => self.from.as_ref()?.get(index)?,
            Clause::To(index) => self.to.as_ref()?.get(index)?,
            Clause::When => &self.when,
        };
        group.get(number)
    }

    /// A rule with only some of its tests. A clause of which no test is left holds always.
    fn with_only(&self, tests: &[(Clause, usize)]) -> Self {
        let test = |group: &Group, clause: Clause| -> Group {
            let tests = tests.iter().filter(|(of, _)| *of == clause);
            tests.filter_map(|(_, number)| group.get(*number).cloned()).collect()
        };
        let clause = |groups: &Option<Groups>, clause: fn(usize) -> Clause| {
            let numbered = groups.iter().flatten().enumerate();
            let left: Groups =
                numbered.map(|(n, group)| test(group, clause(n))).filter(|left| !left.is_empty()).collect();
            (!left.is_empty()).then_some(left)
        };
        Self {
            id: self.id.clone(),
            from: clause(&self.from, Clause::From),
            to: clause(&self.to, Clause::To),
            when: test(&self.when, Clause::When),
        }
    }
}

impl Test {
    /// What it looks at: the key of a condition, or a pseudo-header. All names of the peer are its principal.
    fn looks_at(&self) -> String {
        match (&self.check, self.check.header()) {
            (Check::Identity(_), _) => "source.principal".to_owned(),
            (_, Some(header)) if header.starts_with(b":") => String::from_utf8_lossy(header).into_owned(),
            _ => self.key().unwrap_or_else(|| format!("{:?}", self.attribute)),
        }
    }
}

impl<'p> Open<'p> {
    /// What can become of the request, whatever is unreadable.
    ///
    /// # Errors
    /// The budget ends.
    pub fn possible(&self, budget: &mut Budget) -> Result<Possible, Undecided> {
        self.at_once().map_or_else(|| self.search(budget), Ok)
    }

    /// What can become of the request, as far as that is seen at once, without looking at how tests depend on each other.
    #[must_use]
    pub fn at_once(&self) -> Option<Possible> {
        let matches = |rules: &[OpenRule<'_>]| rules.iter().any(|(_, open)| open.is_empty());
        let may_ask = self.custom.iter().any(|(_, rules)| !rules.is_empty());
        let applies = |compiled: &Compiled<'_>| !compiled.policies.is_empty();
        let (allowed, denied) = (matches(&self.allow), matches(&self.deny));
        let allow_applies = applies(&self.policies.allow);
        let verdict = match self.policies.combining {
            Combining::DenyOverrides if denied => Some(Verdict::Deny),
            Combining::DenyOverrides if allow_applies && self.allow.is_empty() => Some(Verdict::Deny),
            Combining::DenyOverrides if self.deny.is_empty() && (allowed || !allow_applies) => Some(Verdict::Allow),
            Combining::PermitOverrides if allowed => Some(Verdict::Allow),
            Combining::PermitOverrides if !allow_applies && !applies(&self.policies.deny) => Some(Verdict::Allow),
            Combining::PermitOverrides if self.allow.is_empty() => Some(Verdict::Deny),
            _ => None,
        };
        match verdict {
            Some(Verdict::Allow) if may_ask => None,
            verdict => verdict.map(Possible::from),
        }
    }

    /// The DENY rules that match, whatever is unreadable, in the order of their policies.
    pub fn denying(&self) -> impl Iterator<Item = &RuleId> {
        self.deny.iter().filter(|(_, open)| open.is_empty()).map(|(rule, _)| &rule.id)
    }

    /// The DENY rules that may match.
    pub fn may_deny(&self) -> impl Iterator<Item = &RuleId> {
        self.deny.iter().map(|(rule, _)| &rule.id)
    }

    /// The providers that are asked, whatever is unreadable.
    #[must_use]
    pub fn asking(&self) -> Vec<&str> {
        let asked = self.custom.iter().filter(|(_, rules)| rules.iter().any(|(_, open)| open.is_empty()));
        asked.map(|(provider, _)| *provider).collect()
    }

    /// Whether both leave the same open, so that both decide alike, whatever is unreadable.
    #[must_use]
    pub fn is_same_as(&self, other: &Open<'_>) -> bool {
        let left = |rules: &[OpenRule<'_>]| -> Vec<String> {
            let mut left: Vec<_> = rules
                .iter()
                .map(|(rule, open)| {
                    let CompiledRule { id: _, from, to, when } = rule.with_only(open);
                    format!("{from:?} {to:?} {when:?}")
                })
                .collect();
            left.sort_unstable();
            left
        };
        let applies = |open: &Open<'_>| !open.policies.allow.policies.is_empty();
        let providers = |open: &Open<'_>| -> Vec<_> {
            let asked = open.custom.iter().filter(|(_, rules)| !rules.is_empty());
            asked.map(|(provider, rules)| ((*provider).to_owned(), left(rules))).collect()
        };
        self.policies.combining == other.policies.combining
            && applies(self) == applies(other)
            && left(&self.deny) == left(&other.deny)
            && left(&self.allow) == left(&other.allow)
            && providers(self) == providers(other)
    }

    fn search(&self, budget: &mut Budget) -> Result<Possible, Undecided> {
        if self.custom.iter().any(|(_, rules)| rules.iter().any(|(_, open)| open.is_empty())) {
            // It is asked. What it answers is not known, but it cannot allow what is denied anyway.
            return Ok(Possible::BOTH);
        }
        let left = |compiled: &Compiled<'p>, rules: &[OpenRule<'p>]| {
            compiled.with_rules(rules.iter().map(|(rule, open)| rule.with_only(open)).collect())
        };
        let Policies { workloads, combining, allow, deny, custom } = self.policies;
        let of_provider =
            |(provider, rules): &(&'p str, Vec<OpenRule<'p>>)| Some((*provider, left(custom.get(provider)?, rules)));
        let policies = Policies {
            workloads: workloads.clone(),
            combining: *combining,
            allow: left(allow, &self.allow),
            deny: left(deny, &self.deny),
            custom: self.custom.iter().filter_map(of_provider).collect(),
        };
        let mut sides = Sides::default();
        sides.side(&policies).possible(budget)
    }

    /// What is the same for other requests that leave the same open.
    #[must_use]
    pub fn key(&self) -> OpenKey {
        let rules = self.custom.iter().flat_map(|(_, rules)| rules).chain(&self.deny).chain(&self.allow);
        OpenKey(rules.map(|(rule, open)| (std::ptr::from_ref(*rule).addr(), open.clone())).collect())
    }

    /// The attributes that the request leaves open, and that its decision can depend on: as condition keys, or as fields.
    #[must_use]
    pub fn needs(&self) -> Vec<String> {
        let rules = self.custom.iter().flat_map(|(_, rules)| rules).chain(&self.deny).chain(&self.allow);
        let tests =
            rules.flat_map(|(rule, open)| open.iter().filter_map(|(clause, number)| rule.test(*clause, *number)));
        let mut names: Vec<_> = tests.map(Test::looks_at).collect();
        let asked = self.custom.iter().filter(|(_, rules)| rules.iter().any(|(_, open)| open.is_empty()));
        names.extend(asked.map(|(provider, _)| format!("the answer of provider {provider}")));
        names.sort_unstable();
        names.dedup();
        names
    }
}
