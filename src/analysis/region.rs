//! Rules and regions as constraints on subjects.
//!
//! A rule is a conjunction of clauses: where its policy applies, `from`, `to` and `when`. A clause is a list of choices,
//! and a choice is a list of terms that must all hold. A region collects terms, and always knows a value for each subject
//! that meets them. So a region is never empty.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, LazyLock, OnceLock};

use super::budget::{Budget, Requests, Undecided};
use super::subject::{Constraint, ConstraintId, GATEWAY, SIDECAR, Subject, Value, WAYPOINT, choose};
use super::text::{Bytes, Finder, Part, Texts};
use super::values::{Case, Values, pattern};
use crate::engine::compile::{Check, CompiledRule, Expected, MetadataPath, RequestPrincipalMatcher, Test};
use crate::matcher::{Pattern, Polarity};
use crate::policy::scope::{GATEWAY_NAME_LABEL, Reach, WAYPOINT_CLASS};
use crate::policy::{Target, TargetKind, TargetReference};

/// A term of a rule.
#[derive(Debug)]
pub(super) enum Term<'r> {
    One(Literal<'r>),
    /// A request principal: `is_match` says whether a pair of an issuer and a subject must match, or none may.
    Pairs {
        pairs: Vec<Pair<'r>>,
        is_match: bool,
    },
}

/// Literals about an issuer and about a subject.
pub(super) type Pair<'r> = [Literal<'r>; 2];

/// A constraint on one subject. What its values match is worked out when somebody asks.
#[derive(Debug)]
pub(super) struct Literal<'r> {
    pub subject: Subject,
    source: Source<'r>,
    values: Shared,
    is_match: bool,
    holds_unread: bool,
}

/// What the values of a literal match. Literals about one subject with the same values share it, so what is found out about
/// one is known about all of them.
type Shared = Arc<OnceLock<Values>>;

/// The values that literals share.
#[derive(Debug, Default)]
pub(super) struct SharedValues<'r>(HashMap<(Subject, Source<'r>), Shared>);

impl<'r> SharedValues<'r> {
    fn literal(&mut self, subject: Subject, source: Source<'r>) -> Literal<'r> {
        let values = Arc::clone(self.0.entry((subject.clone(), source.clone())).or_default());
        Literal { subject, source, values, is_match: true, holds_unread: false }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Source<'r> {
    Check(&'r Check, Polarity),
    Strings(&'r Pattern),
    /// One of these texts, or of the texts that begin with one of those.
    Names(Vec<Vec<u8>>, Vec<Vec<u8>>),
}

/// Terms that must all hold.
pub(super) type Choice<'r> = Vec<Term<'r>>;

impl Literal<'_> {
    /// About the workload: the subject is one of these texts, or begins with one of those.
    fn named(subject: Subject, names: Vec<Vec<u8>>, beginnings: Vec<Vec<u8>>) -> Self {
        SharedValues::default().literal(subject, Source::Names(names, beginnings))
    }

    /// The texts that it names, if it is about the workload.
    pub fn names(&self) -> Option<&[Vec<u8>]> {
        match &self.source {
            Source::Names(names, _) => Some(names),
            Source::Check(..) | Source::Strings(_) => None,
        }
    }

    /// The beginnings of texts that it names, if it is about the workload.
    pub fn beginnings(&self) -> &[Vec<u8>] {
        match &self.source {
            Source::Names(_, beginnings) => beginnings,
            Source::Check(..) | Source::Strings(_) => &[],
        }
    }

    pub fn constraint(&self) -> Constraint<'_> {
        let values = || match &self.source {
            Source::Check(check, polarity) => Values::of(check, *polarity),
            Source::Strings(value) => Values::strings(pattern(value, Case::Kept)),
            Source::Names(names, beginnings) => {
                let names = Texts::of(names.iter().map(|name| vec![Part::Literal(name)]));
                let beginnings = beginnings.iter().map(|name| vec![Part::Literal(name), Part::Any(Bytes::ALL)]);
                let texts = if beginnings.len() == 0 { names } else { names.or(Texts::of(beginnings)) };
                Values::Texts(Box::new(texts.set()))
            }
        };
        let values = self.values.get_or_init(values);
        Constraint { values, is_match: self.is_match, holds_unread: self.holds_unread }
    }
}

impl<'r> Term<'r> {
    fn of(test: &'r Test, shared: &mut SharedValues<'r>) -> Self {
        let is_match = test.expected == Expected::Match;
        if let Check::RequestPrincipal { issuer, subject, matchers } = &test.check {
            let mut pair = |RequestPrincipalMatcher { issuer: i, subject: s }: &'r RequestPrincipalMatcher| {
                [(issuer, i), (subject, s)]
                    .map(|(path, value)| shared.literal(Subject::Metadata(path.clone()), Source::Strings(value)))
            };
            return Self::Pairs { pairs: matchers.iter().map(&mut pair).collect(), is_match };
        }
        // As in [`Evaluation::holds`](crate::engine::evaluate::Evaluation).
        let holds_unread = is_match == (test.polarity == Polarity::Denies);
        let literal = shared.literal(Subject::of(&test.check), Source::Check(&test.check, test.polarity));
        Self::One(Literal { is_match, holds_unread, ..literal })
    }
}

/// The terms of a rule, in the order of the groups of [`CompiledRule`].
#[derive(Debug)]
pub(super) struct Clauses<'r> {
    pub from: Option<Vec<Choice<'r>>>,
    pub to: Option<Vec<Choice<'r>>>,
    pub when: Choice<'r>,
}

impl<'r> Clauses<'r> {
    pub fn of(rule: &'r CompiledRule, shared: &mut SharedValues<'r>) -> Self {
        let mut choice = |tests: &'r [Test]| tests.iter().map(|test| Term::of(test, shared)).collect::<Choice<'r>>();
        let mut choices = |groups: &'r [Box<[Test]>]| groups.iter().map(|group| choice(group)).collect();
        let (from, to) = (rule.from.as_deref().map(&mut choices), rule.to.as_deref().map(&mut choices));
        Self { from, to, when: choice(&rule.when) }
    }
}

/// Where a policy applies: one of the choices must hold.
pub(super) fn scope(Reach { namespace, target, .. }: Reach<'_>, root_namespace: &str) -> Vec<Choice<'static>> {
    let is_in = || Literal::named(Subject::Namespace, vec![namespace.into()], Vec::new());
    let proxy = |kinds: &[&[u8]], name: &str| {
        let names = kinds.iter().map(|kind| [kind, name.as_bytes()].concat()).collect();
        Literal::named(Subject::Proxy, names, Vec::new())
    };
    let waypoint = || Literal::named(Subject::Proxy, Vec::new(), vec![WAYPOINT.to_vec()]);
    let labels: &[_] = match target {
        Target::References(references) => {
            let choice = |TargetReference { kind, name }: &TargetReference| {
                let terms = match kind {
                    TargetKind::Gateway => vec![is_in(), proxy(&[GATEWAY, WAYPOINT], name)],
                    TargetKind::GatewayClass if namespace == root_namespace && name == WAYPOINT_CLASS => {
                        vec![waypoint()]
                    }
                    TargetKind::GatewayClass => return None,
                    TargetKind::Service | TargetKind::ServiceEntry => {
                        let kind = if *kind == TargetKind::Service { "Service" } else { "ServiceEntry" };
                        let service = format!("{kind}/{namespace}/{name}").into_bytes();
                        vec![waypoint(), Literal::named(Subject::Service, vec![service], Vec::new())]
                    }
                };
                Some(terms.into_iter().map(Term::One).collect())
            };
            return references.iter().filter_map(choice).collect();
        }
        Target::Labels(labels) => labels,
        Target::Everything => &[],
    };
    let mut terms = Vec::new();
    if namespace != root_namespace {
        terms.push(is_in());
    }
    let label = |(key, value): &(String, String)| {
        if key == GATEWAY_NAME_LABEL {
            // The workload is that gateway.
            return proxy(&[GATEWAY], value);
        }
        Literal::named(Subject::Label(key.as_str().into()), vec![value.clone().into_bytes()], Vec::new())
    };
    terms.extend(labels.iter().map(label));
    // A waypoint obeys only policies with a target reference.
    terms.push(Literal::named(Subject::Proxy, vec![SIDECAR.to_vec()], vec![GATEWAY.to_vec()]));
    vec![terms.into_iter().map(Term::One).collect()]
}

/// The peer has no name.
pub(super) static NO_IDENTITY: LazyLock<Choice<'static>> = LazyLock::new(|| {
    let some_name = Literal::named(Subject::Peer, Vec::new(), vec![Vec::new()]);
    vec![Term::One(Literal { is_match: false, ..some_name })]
});

static METHOD: LazyLock<Subject> = LazyLock::new(|| Subject::header(b":method"));
static PATH: LazyLock<Subject> = LazyLock::new(|| Subject::header(b":path"));
static ONLY_CONNECT: LazyLock<Literal<'_>> =
    LazyLock::new(|| Literal::named(METHOD.clone(), vec![b"CONNECT".to_vec()], Vec::new()));

/// Requests and workloads that meet some terms. There is at least one.
#[derive(Clone, Debug, Default)]
pub(super) struct Region<'s> {
    subjects: BTreeMap<&'s Subject, (Vec<Constraint<'s>>, Value)>,
    /// Pairs of an issuer and a subject that a request must not have.
    pub forbidden: Vec<&'s Pair<'s>>,
}

/// Why a region is empty: some of its constraints exclude each other, as some rules must not match.
#[derive(Clone, Debug, Default)]
pub(super) struct Conflict<'s> {
    constraints: BTreeSet<ConstraintId>,
    rules: BTreeMap<*const CompiledRule, &'s CompiledRule>,
}

impl<'s> Conflict<'s> {
    /// Whether one of these constraints is among them.
    pub fn is_about(&self, constraints: &[ConstraintId]) -> bool {
        constraints.iter().any(|constraint| self.constraints.contains(constraint))
    }

    /// Adds a conflict of a part of the region. `decided`: the constraints that make the part.
    pub fn extend(&mut self, of_part: Conflict<'s>, decided: &[ConstraintId]) {
        self.constraints.extend(of_part.constraints.into_iter().filter(|constraint| !decided.contains(constraint)));
        self.rules.extend(of_part.rules);
    }

    pub fn add_pair(&mut self, pair: &'s Pair<'s>) {
        self.constraints.insert(forbidden(pair));
    }

    pub fn add_rule(&mut self, rule: &'s CompiledRule) {
        self.rules.insert(std::ptr::from_ref(rule), rule);
    }

    pub fn into_rules(self) -> Vec<&'s CompiledRule> {
        self.rules.into_values().collect()
    }
}

/// The constraint that a request must not have both.
pub(super) fn forbidden(pair: &Pair<'_>) -> ConstraintId {
    (std::ptr::from_ref(pair).addr(), false, false)
}

/// The work on one question: what may still be done, and what was found.
#[derive(Debug)]
pub(super) struct Work<'b> {
    finder: Finder<'b>,
    /// The values that were looked for, by what they have to meet.
    known: HashMap<Vec<ConstraintId>, Option<Value>>,
    /// Of constraints that no value meets, some that no value meets either.
    culprits: HashMap<Vec<ConstraintId>, Vec<ConstraintId>>,
}

fn ids(constraints: &[Constraint<'_>]) -> Vec<ConstraintId> {
    let mut ids: Vec<_> = constraints.iter().map(|constraint| constraint.id()).collect();
    ids.sort_unstable();
    ids
}

impl<'b> Work<'b> {
    pub fn new(budget: &'b mut Budget, requests: Requests) -> Self {
        Self { finder: Finder::new(budget, requests), known: HashMap::new(), culprits: HashMap::new() }
    }

    pub fn spend(&mut self, steps: usize) -> Result<(), Undecided> {
        self.finder.budget.spend(steps)
    }

    /// As [`choose`], but looks for each value once.
    fn choose(&mut self, subject: &Subject, constraints: &[Constraint<'_>]) -> Result<Option<Value>, Undecided> {
        self.spend(constraints.len())?;
        let ids = ids(constraints);
        if let Some(known) = self.known.get(&ids) {
            return Ok(known.clone());
        }
        let value = choose(subject, constraints, &mut self.finder)?;
        self.known.insert(ids, value.clone());
        Ok(value)
    }

    /// Some of the constraints that no value meets. No value meets all of them, but one meets all but the last.
    fn culprits(&mut self, subject: &Subject, constraints: &[Constraint<'_>]) -> Result<Vec<ConstraintId>, Undecided> {
        let all = ids(constraints);
        if let Some(known) = self.culprits.get(&all) {
            return Ok(known.clone());
        }
        let mut culprits = constraints.to_vec();
        let [others @ .., last] = constraints else { return Ok(all) };
        for other in others {
            if self.choose(subject, &[*other, *last])?.is_none() {
                culprits = vec![*other, *last];
                break;
            }
        }
        let mut at = culprits.len().saturating_sub(1);
        while culprits.len() > 2 && at > 0 {
            at = at.saturating_sub(1);
            let mut fewer = culprits.clone();
            fewer.remove(at);
            if self.choose(subject, &fewer)?.is_none() {
                culprits = fewer;
            }
        }
        let culprits = ids(&culprits);
        self.culprits.insert(all, culprits.clone());
        Ok(culprits)
    }
}

impl<'s> Region<'s> {
    /// The part of the region that meets one more constraint. `None`: nothing does, and `conflict` gets the reason.
    pub fn with(
        &self,
        subject: &'s Subject,
        constraint: Constraint<'s>,
        work: &mut Work<'_>,
        conflict: &mut Conflict<'s>,
    ) -> Result<Option<Self>, Undecided> {
        let known = self.subjects.get(subject);
        if let Some((constraints, value)) = known {
            if constraints.iter().any(|known| known.id() == constraint.id()) {
                return Ok(Some(self.clone()));
            }
            if constraint.is_met_by(value) {
                let mut region = self.clone();
                region.subjects.insert(subject, ([constraints, &[constraint][..]].concat(), value.clone()));
                return Ok(Some(region));
            }
        }
        let constraints = [self.constraints(subject), &[constraint]].concat();
        let Some(value) = work.choose(subject, &constraints)? else {
            self.explain(work.culprits(subject, &constraints)?, conflict);
            return Ok(None);
        };
        let mut region = self.clone();
        region.subjects.insert(subject, (constraints, value));
        if region.has_contradiction(work, conflict)? { Ok(None) } else { Ok(Some(region)) }
    }

    /// Whether values of different subjects exclude each other: those of a claim and of a part of it, and those of a request
    /// without a path that is no CONNECT.
    fn has_contradiction(&mut self, work: &mut Work<'_>, conflict: &mut Conflict<'s>) -> Result<bool, Undecided> {
        let present = self.subjects.iter().filter(|(_, (_, value))| *value != Value::Absent);
        let paths: Vec<_> = present
            .filter_map(
                |(subject, _)| if let Subject::Metadata(path) = subject { Some((*subject, path)) } else { None },
            )
            .collect();
        let is_part = |one: &MetadataPath, other: &MetadataPath| {
            one.filter == other.filter && one.keys.len() < other.keys.len() && other.keys.starts_with(&one.keys)
        };
        let pairs = paths.iter().flat_map(|one| paths.iter().map(move |other| (one, other)));
        if let Some((one, other)) = pairs.into_iter().find(|((_, one), (_, other))| is_part(one, other)) {
            for (subject, _) in [one, other] {
                self.explain(ids(self.constraints(subject)), conflict);
            }
            return Ok(true);
        }
        let has_no_path = self.value(&PATH) == Some(&Value::Absent);
        let connect = Value::Text(b"CONNECT".to_vec());
        if !has_no_path || self.value(&METHOD) == Some(&connect) {
            return Ok(false);
        }
        let constraints = [self.constraints(&METHOD), &[ONLY_CONNECT.constraint()]].concat();
        let value = work.choose(&METHOD, &constraints)?;
        if value.is_none() {
            self.explain(work.culprits(&METHOD, &constraints)?, conflict);
        }
        let is_possible = value.is_some();
        self.subjects.extend(value.map(|value| (&*METHOD, (constraints, value))));
        Ok(!is_possible)
    }

    /// Says in a conflict which constraints exclude each other.
    fn explain(&self, culprits: Vec<ConstraintId>, conflict: &mut Conflict<'s>) {
        for culprit in culprits {
            if culprit == ONLY_CONNECT.constraint().id() {
                // It is not said by a rule, but follows from what is said of the path.
                conflict.constraints.extend(ids(self.constraints(&PATH)));
            } else {
                conflict.constraints.insert(culprit);
            }
        }
    }

    fn constraints(&self, subject: &Subject) -> &[Constraint<'s>] {
        self.subjects.get(subject).map_or(&[], |(constraints, _)| constraints)
    }

    /// The value of a subject, if a term is about it.
    pub fn value(&self, subject: &Subject) -> Option<&Value> {
        self.subjects.get(subject).map(|(_, value)| value)
    }

    pub fn values(&self) -> impl Iterator<Item = (&'s Subject, &Value)> {
        self.subjects.iter().map(|(subject, (_, value))| (*subject, value))
    }
}
