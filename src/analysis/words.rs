//! Rules and regions in words.

use std::collections::BTreeMap;

use super::budget::{Budget, Requests, Undecided};
use super::difference::{Cause, Side, never};
use super::region::{Choice, Clauses, Conflict, Literal, Pair, Region, Term, Work};
use super::solve::{Question, Rule};
use super::subject::{Constraint, SIDECAR, Subject, WAYPOINT};
use crate::engine::RuleId;
use crate::policy::{
    AllOf, AuthorizationPolicy, Clause, Form, MetadataValue, PathValue, Predicate, ServiceAccount, Target, TargetKind,
    Traffic, Values,
};

/// What is said of one thing: "path" and "begins with /api/".
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Phrase {
    /// What it is about.
    pub subject: String,
    /// What is said of it.
    pub says: String,
}

impl Phrase {
    fn new(subject: impl Into<String>, says: String) -> Self {
        Self { subject: subject.into(), says }
    }
}

/// The requests that a rule matches, in words: the sources, the operations and the conditions of the rule, without those that
/// are everywhere. Each list of phrases is an alternative.
#[must_use]
pub fn rule(policy: &AuthorizationPolicy, index: usize, traffic: Traffic) -> [Vec<Vec<Phrase>>; 3] {
    let Some(rule) = policy.rules.get(index) else { return Default::default() };
    let all = |all: &AllOf<Predicate>| {
        all.0.iter().filter(|predicate| traffic.has(predicate)).flat_map(predicate).collect::<Vec<_>>()
    };
    let from = rule.from.iter().flat_map(|from| &from.0).map(all).collect();
    let to = rule.to.iter().flat_map(|to| &to.0).map(all).collect();
    [to, from, vec![all(&rule.when)]]
}

/// What a field or a condition says of its values, and of its `not` values.
fn predicate(predicate: &Predicate) -> Vec<Phrase> {
    [false, true].into_iter().filter_map(|is_not| half(predicate, is_not, is_not)).collect()
}

/// What a field or a condition says of its values or, if `is_not`, of its `not` values: that one of them matches or, if
/// `says_not`, that none does.
fn half(predicate: &Predicate, is_not: bool, says_not: bool) -> Option<Phrase> {
    let texts = |values: &Values<String>| forms(of(values, is_not).iter().map(|text| Form::of(text)), says_not);
    let blocks = |values: &Values<crate::policy::Cidr>| {
        let verb = if says_not { "is not in" } else { "is in" };
        listed(verb, of(values, is_not).iter().map(ToString::to_string))
    };
    let (subject, says) = match predicate {
        Predicate::Principal(values) => ("principal".to_owned(), texts(values)?),
        Predicate::RequestPrincipal(values) => ("request principal".to_owned(), texts(values)?),
        Predicate::ServiceAccount(values) => {
            let name = |ServiceAccount { namespace, name }: &ServiceAccount| match namespace {
                Some(namespace) => format!("{namespace}/{name}"),
                None => name.clone(),
            };
            let verb = if says_not { "is not" } else { "is" };
            ("service account".to_owned(), listed(verb, of(values, is_not).iter().map(name))?)
        }
        Predicate::TrustDomain(values) => ("trust domain".to_owned(), texts(values)?),
        Predicate::Namespace(values) => ("namespace of the caller".to_owned(), texts(values)?),
        Predicate::RemoteIp(values) => ("client address".to_owned(), blocks(values)?),
        Predicate::SourceIp(values) => ("peer address".to_owned(), blocks(values)?),
        Predicate::DestinationIp(values) => ("destination address".to_owned(), blocks(values)?),
        Predicate::Host(values) => ("host".to_owned(), texts(values)?),
        Predicate::Method(values) => ("method".to_owned(), texts(values)?),
        Predicate::Path(values) => {
            let values = of(values, is_not);
            let text = |value: &'_ PathValue| if let PathValue::Text(text) = value { Some(text.clone()) } else { None };
            let template =
                |value: &'_ PathValue| if let PathValue::Template(text) = value { Some(text.clone()) } else { None };
            let plain: Vec<_> = values.iter().filter_map(text).collect();
            let verb = if says_not { "does not match" } else { "matches" };
            let parts = [
                forms(plain.iter().map(|text| Form::of(text)), says_not),
                listed(verb, values.iter().filter_map(template)),
            ];
            let parts: Vec<_> = parts.into_iter().flatten().collect();
            (!parts.is_empty()).then(|| ("path".to_owned(), parts.join(if says_not { " and " } else { " or " })))?
        }
        Predicate::DestinationPort(values) => {
            let verb = if says_not { "is not" } else { "is" };
            ("port".to_owned(), listed(verb, of(values, is_not).iter().map(ToString::to_string))?)
        }
        Predicate::Sni(values) => ("server name".to_owned(), texts(values)?),
        Predicate::Header { name, values } => (format!("header {name}"), texts(values)?),
        Predicate::Claim { path, values } => (format!("claim {}", path.join(".")), texts(values)?),
        Predicate::Metadata { filter, key, values } => {
            let text = |value: &MetadataValue| match value {
                MetadataValue::Text(text) => text.clone(),
                MetadataValue::Element(text) => format!("[{text}]"),
            };
            let verb = if says_not { "does not match" } else { "matches" };
            (format!("metadata {filter} {key}"), listed(verb, of(values, is_not).iter().map(text))?)
        }
    };
    Some(Phrase { subject, says })
}

fn of<T>(values: &Values<T>, is_not: bool) -> &[T] {
    if is_not { &values.none } else { &values.any }
}

/// Says which of the forms a text has, or that it has none of them.
fn forms<'v>(forms: impl Iterator<Item = Form<'v>>, is_not: bool) -> Option<String> {
    let (mut is, mut begins, mut ends, mut parts) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for form in forms {
        match form {
            Form::Any => parts.push(if is_not { "is absent" } else { "is present" }.to_owned()),
            Form::Exact(text) => is.push(text.to_owned()),
            Form::Prefix(text) => begins.push(text.to_owned()),
            Form::Suffix(text) => ends.push(text.to_owned()),
        }
    }
    let verbs = if is_not {
        ["is not", "does not begin with", "does not end with"]
    } else {
        ["is", "begins with", "ends with"]
    };
    parts.extend(verbs.into_iter().zip([is, begins, ends]).filter_map(|(verb, texts)| listed(verb, texts.into_iter())));
    (!parts.is_empty()).then(|| parts.join(if is_not { " and " } else { " or " }))
}

/// A verb, and a list of values: "is a, b or c". `None`: there are none. Of many values, the first are named.
fn listed(verb: &str, values: impl Iterator<Item = String>) -> Option<String> {
    const FEW: usize = 6;
    let values: Vec<_> = values.collect();
    let (last, others) = values.split_last()?;
    if let Some(more @ 1..) = values.len().checked_sub(FEW) {
        let shown = values.iter().take(FEW).cloned().collect::<Vec<_>>().join(", ");
        return Some(format!("{verb} {shown} or {more} more"));
    }
    let before = if others.is_empty() { String::new() } else { format!("{} or ", others.join(", ")) };
    Some(format!("{verb} {before}{last}"))
}

/// The workloads that a policy is for, in words.
#[must_use]
pub fn workloads(policy: &AuthorizationPolicy, root_namespace: &str) -> String {
    let namespace = &policy.name.namespace;
    let is_of_root = namespace == root_namespace;
    let place = if is_of_root { "in every namespace".to_owned() } else { format!("in namespace {namespace}") };
    let revision = policy.revision.as_ref().map(|revision| format!(", of revision {revision}")).unwrap_or_default();
    let workloads = match &policy.target {
        Target::Labels(labels) if !labels.is_empty() => {
            let labels: Vec<_> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            format!("{place}, with {}", labels.join(", "))
        }
        Target::Labels(_) | Target::Everything => format!("all {place}"),
        Target::References(references) => {
            let name = |kind| match kind {
                TargetKind::Service => "service",
                TargetKind::ServiceEntry => "service entry",
                TargetKind::Gateway => "gateway",
                TargetKind::GatewayClass => "gateways of class",
            };
            let references = references.iter().map(|reference| format!("{} {}", name(reference.kind), reference.name));
            let references = references.collect::<Vec<_>>().join(", ");
            if is_of_root { references } else { format!("{references} {place}") }
        }
    };
    workloads + &revision
}

/// A part of what a cause is about that it does not change, because another rule decides about it too.
#[derive(Clone, Debug)]
pub struct Exception<'s> {
    /// The rule that decides.
    pub rule: &'s RuleId,
    /// What is true of the part: all of these. If it is a single one, `not` says the contrary.
    pub phrases: Vec<Phrase>,
    /// The contrary of a single phrase.
    pub not: Option<Phrase>,
}

/// The parts of what the rule of a cause matches that are decided by other rules. `None`: they are too many to say.
///
/// # Errors
/// The budget ends.
pub fn exceptions<'s>(
    cause: &Cause<'s>,
    refusing: &'s Side<'s>,
    allowing: &'s Side<'s>,
    budget: &mut Budget,
) -> Result<Option<Vec<Exception<'s>>>, Undecided> {
    const MOST_REGIONS: usize = 16;
    const MOST: usize = 12;
    let mut requests = Requests::Expected;
    let mut regions_of =
        |requests| Question::new(allowing.workloads(), cause.clauses()).among(requests).regions(MOST_REGIONS, budget);
    let mut regions = regions_of(requests)?;
    if regions.as_ref().is_some_and(Vec::is_empty) {
        requests = Requests::All;
        regions = regions_of(requests)?;
    }
    let Some(regions) = regions else { return Ok(None) };
    let work = &mut Work::new(budget, requests);
    let mut found = BTreeMap::<(&str, *const Rule<'s>, [Option<usize>; 3]), Vec<Said<'s>>>::new();
    for rules in never(cause, refusing, allowing) {
        for rule in rules.all().filter(|rule| !cause.is_rule(rule)) {
            let Some(policy) = rules.policy(rule) else { continue };
            for region in &regions {
                for (choices, terms) in overlaps(region, rule, work)? {
                    let key = (rule.compiled.id().as_str(), std::ptr::from_ref(rule), choices);
                    if found.contains_key(&key) {
                        continue;
                    }
                    let new = unimplied(&regions, &terms, work)?.into_iter();
                    found.insert(key, new.map(|(term, place)| Said { policy, rule, term, place }).collect());
                    if found.len() > MOST {
                        return Ok(None);
                    }
                }
            }
        }
    }
    let mut exceptions: Vec<Exception<'s>> = Vec::new();
    for said in found.values() {
        let Some(first) = said.first() else { continue };
        let phrases: Vec<_> = said.iter().filter_map(|said| said.phrase(false)).collect();
        let not = if let [only] = said.as_slice() { only.phrase(true) } else { None };
        if !exceptions.iter().any(|known| known.phrases == phrases) {
            exceptions.push(Exception { rule: first.rule.compiled.id(), phrases, not });
        }
    }
    Ok(Some(exceptions))
}

/// A term of a rule, and where it is.
struct Said<'s> {
    policy: &'s AuthorizationPolicy,
    rule: &'s Rule<'s>,
    term: &'s Term<'s>,
    /// `None`: it is about the workload.
    place: Option<(Clause, usize)>,
}

impl Said<'_> {
    /// What the term says, or its contrary.
    fn phrase(&self, contrary: bool) -> Option<Phrase> {
        let Some((clause, position)) = self.place else {
            let Term::One(literal) = self.term else { return None };
            return of_workload(literal, contrary);
        };
        let compiled = self.rule.compiled;
        let test = compiled.test(clause, position)?;
        let rule = self.policy.rules.get(compiled.id().index)?;
        let predicate = rule.clause(clause)?.0.get(usize::from(test.field))?;
        let is_not = test.expected == crate::engine::compile::Expected::NoMatch;
        half(predicate, is_not, is_not != contrary)
    }
}

fn of_workload(literal: &Literal<'_>, contrary: bool) -> Option<Phrase> {
    let names = literal.names()?;
    let (is, has) = if contrary { ("is not", "is not one of") } else { ("is", "is one of") };
    let text = names.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect::<Vec<_>>().join(", ");
    let verb = if names.len() > 1 { has } else { is };
    Some(match &literal.subject {
        Subject::Namespace => Phrase::new("namespace of the workload", format!("{verb} {text}")),
        Subject::Label(key) => Phrase::new(format!("label {key} of the workload"), format!("{verb} {text}")),
        Subject::Service => Phrase::new("service", format!("{verb} {text}")),
        _ => {
            let beginnings = literal.beginnings().iter().map(|kind| match kind.as_slice() {
                WAYPOINT => "a waypoint".to_owned(),
                _ => "a gateway".to_owned(),
            });
            let named = names.iter().map(|name| match name.as_slice() {
                SIDECAR => "a sidecar".to_owned(),
                name => String::from_utf8_lossy(name).replacen('/', " ", 1),
            });
            Phrase::new("workload", format!("{is} {}", named.chain(beginnings).collect::<Vec<_>>().join(" or ")))
        }
    })
}

/// Those of the terms that say something new about the requests of the regions.
fn unimplied<'s>(
    regions: &[Region<'s>],
    terms: &[PlacedTerm<'s>],
    work: &mut Work<'_>,
) -> Result<Vec<PlacedTerm<'s>>, Undecided> {
    let mut regions = regions.to_vec();
    let mut new = Vec::new();
    for (term, place) in terms {
        let mut narrower = Vec::new();
        let mut is_new = false;
        for region in &regions {
            is_new |= !is_implied(region, term, work)?;
            narrower.extend(narrowed(region, term, work)?);
        }
        if is_new {
            new.push((*term, *place));
            regions = narrower;
        }
    }
    Ok(new)
}

/// Whether a term holds about all requests of a region.
fn is_implied<'s>(region: &Region<'s>, term: &'s Term<'s>, work: &mut Work<'_>) -> Result<bool, Undecided> {
    let mut holds = |literal: &'s Literal<'s>, constraint: Constraint<'s>| {
        Ok(region.with(&literal.subject, constraint.not(), work, &mut Conflict::default())?.is_none())
    };
    match term {
        Term::One(literal) => holds(literal, literal.constraint()),
        Term::Pairs { pairs, is_match: true } => {
            for [issuer, subject] in pairs {
                if holds(issuer, issuer.constraint())? && holds(subject, subject.constraint())? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        Term::Pairs { pairs, is_match: false } => {
            let id = |pair: &Pair<'_>| pair.each_ref().map(|literal| literal.constraint().id());
            for pair in pairs {
                let is_forbidden = region.forbidden.iter().any(|forbidden| id(forbidden) == id(pair));
                let [issuer, subject] = pair;
                if !is_forbidden
                    && !holds(issuer, issuer.constraint().not())?
                    && !holds(subject, subject.constraint().not())?
                {
                    return Ok(false);
                }
            }
            Ok(true)
        }
    }
}

/// A combination of choices, and the terms of it.
type Overlap<'s> = ([Option<usize>; 3], Vec<PlacedTerm<'s>>);

/// A term, and where it is. `None`: it is about the workload.
type PlacedTerm<'s> = (&'s Term<'s>, Option<(Clause, usize)>);

/// The combinations of choices of a rule that some request of the region meets.
fn overlaps<'s>(region: &Region<'s>, rule: &'s Rule<'s>, work: &mut Work<'_>) -> Result<Vec<Overlap<'s>>, Undecided> {
    let Clauses { from, to, when } = rule.parts();
    let mut found = Vec::new();
    let numbered = |choices: Option<&'s Vec<Choice<'s>>>| -> Vec<(Option<usize>, Option<&'s Choice<'s>>)> {
        match choices {
            None => vec![(None, None)],
            Some(choices) => choices.iter().enumerate().map(|(number, choice)| (Some(number), Some(choice))).collect(),
        }
    };
    for (scope_number, scope) in rule.scope().iter().enumerate() {
        let Some(in_scope) = meeting(region, Some(scope), work)? else { continue };
        let Some(in_scope) = meeting(&in_scope, Some(when), work)? else { continue };
        for (to_number, operation) in numbered(to.as_ref()) {
            let Some(with_operation) = meeting(&in_scope, operation, work)? else { continue };
            for (from_number, source) in numbered(from.as_ref()) {
                if meeting(&with_operation, source, work)?.is_none() {
                    continue;
                }
                let placed = |choice: &'s [Term<'s>], place: Option<Clause>| {
                    choice.iter().enumerate().map(move |(number, term)| (term, place.map(|place| (place, number))))
                };
                let empty: &'s [Term<'s>] = &[];
                let mut terms: Vec<_> = placed(scope, None).collect();
                terms.extend(placed(operation.map_or(empty, |choice| choice), to_number.map(Clause::To)));
                terms.extend(placed(source.map_or(empty, |choice| choice), from_number.map(Clause::From)));
                terms.extend(placed(when, Some(Clause::When)));
                found.push(([Some(scope_number), to_number, from_number], terms));
            }
        }
    }
    Ok(found)
}

/// A part of the region that meets the terms.
fn meeting<'s>(
    region: &Region<'s>,
    choice: Option<&'s Choice<'s>>,
    work: &mut Work<'_>,
) -> Result<Option<Region<'s>>, Undecided> {
    let mut region = region.clone();
    for term in choice.into_iter().flatten() {
        let Some(part) = narrowed(&region, term, work)? else { return Ok(None) };
        region = part;
    }
    Ok(Some(region))
}

/// A part of the region that meets a term. Request principals one of which must match are not looked at: more overlaps than there
/// are do no harm.
fn narrowed<'s>(region: &Region<'s>, term: &'s Term<'s>, work: &mut Work<'_>) -> Result<Option<Region<'s>>, Undecided> {
    match term {
        Term::One(literal) => region.with(&literal.subject, literal.constraint(), work, &mut Conflict::default()),
        Term::Pairs { is_match: true, .. } => Ok(Some(region.clone())),
        Term::Pairs { pairs, is_match: false } => {
            let mut region = region.clone();
            region.forbidden.extend(pairs);
            Ok(Some(region))
        }
    }
}
