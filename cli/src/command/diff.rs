//! `mesh-authz diff`: says who gains access by a change of policies, and who loses it.

pub(super) mod output;
mod revision;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::ValueEnum;
use mesh_authz::analysis::words::{self, Phrase};
use mesh_authz::analysis::{self, Budget, Cause, Effect, Example, Policies, Reason, Side, Workloads, causes, effect};
use mesh_authz::config::Mesh;
use mesh_authz::engine::{Combining, Engine, Options, RuleId, Verdict};
use mesh_authz::policy::scope::Workload;
use mesh_authz::policy::{Action, AuthorizationPolicy, PolicyName, Target, TargetKind, Traffic};
use rayon::prelude::*;

use self::revision::Revision;
use super::options::Setting;
use super::{Answer, Failure, note, snippet};
use crate::load::policy_set::PolicySet;
use crate::load::{LoadedPolicy, Resources};
use crate::received::{Answered, Known, answers};
use crate::testfile::RequestFields;
use crate::witness;

/// Arguments of `mesh-authz diff`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  mesh-authz diff old/ new/
  mesh-authz diff --against main policies/
  mesh-authz diff --against origin/main policies/ --fail-on gained \\
    --format markdown > comment.md
  kubectl get authorizationpolicies -A -o yaml | mesh-authz diff - policies/

Exit status:
  0  the policies are compared; with --fail-on, nothing of that kind is found
  1  the policies are invalid; with --fail-on, something of that kind is found,
     or the comparison is too much work to rule it out
  2  wrong usage or unreadable input")]
pub struct Arguments {
    /// The old policies and the new policies: two files, folders or patterns; `-` is standard input. With --against, only the
    /// new ones.
    #[arg(required = true, value_name = "PATH", num_args = 1..=2)]
    paths: Vec<PathBuf>,

    /// Compare with the same path in this revision of the Git repository.
    #[arg(long, value_name = "REVISION")]
    against: Option<String>,

    /// Exit with status 1 if somebody gains access, if somebody loses it, or if either is so.
    #[arg(long, value_enum, value_name = "WHAT")]
    fail_on: Option<FailOn>,

    /// Write the requests that show the differences to this file, as a test file of the new policies.
    #[arg(long, value_name = "FILE")]
    witnesses: Option<PathBuf>,

    /// Output format.
    #[arg(long, value_enum, default_value = "human")]
    format: Format,

    /// Compare what is decided about TCP connections, and not about HTTP requests.
    #[arg(long)]
    tcp: bool,

    #[command(flatten)]
    setting: Setting,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FailOn {
    /// A request is allowed that was denied.
    Gained,
    /// A request is denied that was allowed.
    Lost,
    /// Either of them.
    Any,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// Text for people.
    Human,
    /// One JSON object.
    Json,
    /// A comment on a pull request.
    Markdown,
}

/// Whether access is gained or lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Gained,
    Lost,
}

/// What a change of one rule or policy does.
struct Change {
    direction: Direction,
    /// Whether it is of the new policies. Otherwise, it is of the old ones.
    is_added: bool,
    policy: PolicyName,
    /// The rule. `None`: it is that the policy applies.
    rule: Option<usize>,
    action: Action,
    place: String,
    /// The provider that is asked, if this is a rule of a CUSTOM policy.
    provider: Option<String>,
    result: Outcome,
}

enum Outcome {
    Difference(Box<Difference>),
    /// It changes nothing, for this reason.
    Nothing(String),
    /// To find out would take too long.
    Undecided,
}

/// Requests that are decided otherwise.
struct Difference {
    /// Which they are, in words.
    requests: String,
    workloads: String,
    example: Example,
    /// The request, in the form of a test file.
    fields: RequestFields,
    /// What each side decides about it, and why.
    before: String,
    after: String,
    /// The decision of the new policies, and the deciding policy.
    expect: (Verdict, String),
    /// Whether a client can send the request: Envoy neither changes nor refuses it.
    can_be_sent: bool,
}

/// Both sides.
struct Sides {
    old: PolicySet,
    new: PolicySet,
}

pub fn run(arguments: &Arguments, out: &mut String) -> Result<Answer, Failure> {
    let mesh = arguments.setting.mesh();
    let given = workload(&arguments.setting, &mesh)?;
    let new_path = arguments.paths.last().map_or(Path::new(""), PathBuf::as_path);
    let (old, revision) = match (&arguments.against, arguments.paths.as_slice()) {
        (Some(revision), [path]) => {
            let revision = Revision::of(path, revision)?;
            (revision.resources()?, Some(revision))
        }
        (None, [old, _]) => (resources(old)?, None),
        (Some(_), _) => return Err(Failure::unusable("with --against, give one path: that of the new policies")),
        (None, _) => return Err(Failure::unusable("give two paths, or one and --against REVISION")),
    };
    let new = resources(new_path)?;
    for (resources, which) in [(&old, "old"), (&new, "new")] {
        if resources.policies.is_empty() {
            note(&format!(
                "there is no AuthorizationPolicy in the {which} policies: without any, everything is allowed"
            ));
        }
    }
    let set = |resources: Resources| {
        let envoy = Known::of(&resources);
        PolicySet {
            workload: given.clone().unwrap_or_default(),
            mesh: mesh.clone(),
            envoy,
            resources: Arc::new(resources),
        }
    };
    let mut sides = Sides { old: set(old), new: set(new) };
    let traffic = if arguments.tcp { Traffic::Tcp } else { Traffic::Http };
    let workloads = match &given {
        Some(workload) => Workloads::One(Box::new(workload.clone())),
        None => Workloads::All {
            root_namespace: mesh.root_namespace.clone(),
            revision: arguments.setting.workload.revision.clone(),
        },
    };
    let policies = |set: &PolicySet, which: &str| {
        let found = set.in_questions(traffic, given.as_ref());
        found.map_err(|why| Failure::Unusable(format!("the {which} policies: {why}")))
    };
    let policies = [policies(&sides.old, "old")?, policies(&sides.new, "new")?];
    if given.as_ref().is_some_and(is_waypoint_without_service) && policies.iter().flatten().any(is_for_services) {
        return Err(Failure::unusable(
            "a policy is for services of waypoints: give the service that the requests are for too, with --service; without \
             any option about a workload, all are compared",
        ));
    }
    let mut changes = changes(&sides, &policies, &workloads, &Options { traffic, ..mesh.options() });
    for change in &mut changes {
        if let Outcome::Difference(difference) = &mut change.result {
            sides.decide(difference, change.direction, traffic);
        }
        if let Some(revision) = &revision {
            change.place = revision.named(&change.place);
        }
    }
    if let Some(file) = &arguments.witnesses {
        output::write_witnesses(file, new_path, &changes, &mesh)?;
    }
    match arguments.format {
        Format::Human => output::human(&changes, traffic, out),
        Format::Json => *out = super::json(&output::json(&changes))?,
        Format::Markdown => output::markdown(&changes, traffic, out),
    }
    let fails = |change: &Change| match (&change.result, arguments.fail_on) {
        (Outcome::Nothing(_), _) | (_, None) => false,
        (_, Some(FailOn::Any)) => true,
        (_, Some(FailOn::Gained)) => change.direction == Direction::Gained,
        (_, Some(FailOn::Lost)) => change.direction == Direction::Lost,
    };
    Ok(if changes.iter().any(fails) { Answer::Bad } else { Answer::Good })
}

/// The workload that the options name. `None`: they name none, so every workload is meant.
fn workload(setting: &Setting, mesh: &Mesh) -> Result<Option<Workload>, Failure> {
    let options = &setting.workload;
    let is_given =
        options.namespace.is_some() || !options.labels.is_empty() || options.no_labels || options.gateway()?.is_some();
    if !is_given {
        return Ok(None);
    }
    let workload = options.workload(mesh)?;
    if workload.labels.is_none() && workload.gateway.is_none() {
        return Err(Failure::unusable(
            "give the labels of the workload too, with --label, or --no-labels if it has none; without any option about a \
             workload, all are compared",
        ));
    }
    Ok(Some(workload))
}

pub(super) fn is_waypoint_without_service(workload: &Workload) -> bool {
    let gateway = workload.gateway.as_ref().filter(|gateway| gateway.waypoint);
    gateway.is_some_and(|waypoint| waypoint.services.is_empty() && waypoint.service_entries.is_empty())
}

pub(super) fn is_for_services(policy: &AuthorizationPolicy) -> bool {
    let Target::References(references) = &policy.target else { return false };
    references.iter().any(|reference| matches!(reference.kind, TargetKind::Service | TargetKind::ServiceEntry))
}

/// The policies of one side. There may be none.
fn resources(path: &Path) -> Result<Resources, Failure> {
    let resources = Resources::read(&[path])?;
    valid(resources)
}

pub(super) fn valid(resources: Resources) -> Result<Resources, Failure> {
    if let Some((file, folder)) = resources.built_policies().first() {
        return Err(Failure::Unusable(super::not_what_is_deployed(file, folder)));
    }
    if resources.has_errors() {
        return Err(Failure::Invalid(resources.findings));
    }
    Ok(resources)
}

/// Compares both ways, with a cause for each change that can matter.
fn changes(
    sides: &Sides,
    policies: &[Vec<AuthorizationPolicy>; 2],
    workloads: &Workloads,
    options: &Options,
) -> Vec<Change> {
    let [old, new] = policies.each_ref().map(|policies| policies.iter().collect::<Vec<_>>());
    let (old, new) = rayon::join(
        || Policies::new(&old, options, workloads.clone()),
        || Policies::new(&new, options, workloads.clone()),
    );
    let mut shared = analysis::Sides::default();
    let (old, new) = (shared.side(&old), shared.side(&new));
    let directions = [(Direction::Gained, &old, &new), (Direction::Lost, &new, &old)];
    let all: Vec<_> = directions
        .into_iter()
        .flat_map(|(direction, refusing, allowing)| {
            causes(refusing, allowing).into_iter().map(move |cause| (direction, refusing, allowing, cause))
        })
        .collect();
    let change = |(direction, refusing, allowing, cause): &(Direction, &Side<'_>, &Side<'_>, Cause<'_>)| {
        // What is of the old policies is what the new ones do not have.
        let is_added = (*direction == Direction::Gained) != cause.is_of_refusing_side();
        let set = if is_added { &sides.new } else { &sides.old };
        let resource = set.resources.policies.iter().find(|resource| resource.policy.name == cause.policy.name)?;
        let result = match effect(cause, refusing, allowing, &mut Budget::default()) {
            Ok(Effect::Difference(example)) => {
                let requests = requests(cause, *direction, [refusing, allowing], options);
                Outcome::Difference(Box::new(Difference {
                    requests,
                    workloads: words::workloads(cause.policy, workloads.root_namespace()),
                    fields: witness::fields(&example, options.traffic == Traffic::Tcp),
                    example: *example,
                    before: String::new(),
                    after: String::new(),
                    expect: (Verdict::Deny, String::new()),
                    can_be_sent: true,
                }))
            }
            Ok(Effect::Nothing(reason)) => Outcome::Nothing(why(&reason, *direction, sides)),
            Err(_) => Outcome::Undecided,
        };
        Some(Change {
            direction: *direction,
            is_added,
            policy: cause.policy.name.clone(),
            rule: cause.rule().map(|rule| rule.index),
            action: resource.policy.action,
            place: place(resource, cause),
            provider: cause.provider().map(str::to_owned),
            result,
        })
    };
    all.par_iter().filter_map(change).collect()
}

fn place(resource: &LoadedPolicy, cause: &Cause<'_>) -> String {
    let path = match cause.rule() {
        Some(rule) => mesh_authz::policy::rule_path(rule.index),
        None => mesh_authz::diagnostic::Path::of(["metadata", "name"]),
    };
    snippet::place(&resource.source, resource.node.locate(&path, mesh_authz::diagnostic::Part::Value))
}

/// Why a cause makes no difference: a sentence without a full stop.
fn why(reason: &Reason<'_>, direction: Direction, sides: &Sides) -> String {
    let refusing = if direction == Direction::Gained { "before" } else { "after" };
    match reason {
        Reason::NeverMatches => "no request can match it".to_owned(),
        Reason::NoAllowApplies => {
            format!("what it matches passes {refusing} too, because no ALLOW policy applies to these workloads then")
        }
        Reason::OtherAllowApplies => "other ALLOW policies apply to these workloads".to_owned(),
        Reason::NotAllowed => "what it matches is refused anyway, because no ALLOW rule allows it".to_owned(),
        Reason::Decided { denied, allowed } => {
            let decided =
                |verb: &str, rules: &[&RuleId]| (!rules.is_empty()).then(|| format!("{verb} by {}", names(rules)));
            let parts: Vec<_> =
                [decided("denied", denied), decided("allowed", allowed)].into_iter().flatten().collect();
            if parts.is_empty() {
                return "the same provider is asked about whatever it matches, because of other rules".to_owned();
            }
            let stay = denied.iter().chain(allowed).all(|rule| sides.stays(rule));
            format!("whatever it matches is {}{}", parts.join(" or "), if stay { ", before and after" } else { "" })
        }
    }
}

/// The names of rules. Of many, the first are named.
fn names(rules: &[&RuleId]) -> String {
    const FEW: usize = 3;
    let mut names: Vec<_> =
        rules.iter().take(FEW).map(|rule| format!("rule {} of {}", rule.index, rule.policy)).collect();
    if let Some(more @ 1..) = rules.len().checked_sub(FEW) {
        names.push(format!("{more} more"));
    }
    match names.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

/// The requests that a cause is about, in words.
fn requests<'s>(
    cause: &Cause<'s>,
    direction: Direction,
    [refusing, allowing]: [&'s Side<'s>; 2],
    options: &Options,
) -> String {
    let Some(rule) = cause.rule() else {
        let is_deny_enough = options.combining == Combining::PermitOverrides;
        return match (direction, is_deny_enough) {
            (Direction::Gained, false) => {
                "no ALLOW policy applies to their workload any more, and no rule of one matched them"
            }
            (Direction::Gained, true) => {
                "no policy applies to their workload any more, and no rule of an ALLOW policy matched them"
            }
            (Direction::Lost, false) => {
                "an ALLOW policy applies to their workload now, and no rule of one matches them"
            }
            (Direction::Lost, true) => {
                "a policy applies to their workload now, and no rule of an ALLOW policy matches them"
            }
        }
        .to_owned();
    };
    let [mut operations, mut sources, mut conditions] = words::rule(cause.policy, rule.index, options.traffic);
    let exceptions = words::exceptions(cause, refusing, allowing, &mut Budget::default());
    let mut except = Vec::new();
    match exceptions {
        Ok(Some(exceptions)) => {
            for exception in exceptions {
                match exception.not {
                    Some(not) if is_added(&not, [&mut sources, &mut operations, &mut conditions]) => {}
                    Some(not) => except.push(format!("{} {}", not.subject, not.says)),
                    None => except.push(format!("except if {}", phrases(&exception.phrases, " and "))),
                }
            }
        }
        Ok(None) | Err(_) => except.push("as far as no other rule decides about them".to_owned()),
    }
    let mut parts: Vec<_> = [sources, operations, conditions].iter().filter_map(|all| alternatives(all)).collect();
    parts.extend(except);
    if parts.is_empty() {
        parts.push("all".to_owned());
    }
    if cause.policy.action == Action::Deny && allowing.may_need_an_allow(cause, &mut Budget::default()) {
        parts.push("as far as ALLOW policies allow it".to_owned());
    }
    parts.join(", ")
}

/// Adds what is not, to what is said about the same thing.
fn is_added(not: &Phrase, lists: [&mut Vec<Vec<Phrase>>; 3]) -> bool {
    let single = lists.into_iter().filter_map(|list| if let [only] = list.as_mut_slice() { Some(only) } else { None });
    let known = single.flatten().find(|phrase| phrase.subject == not.subject);
    if let Some(phrase) = known {
        let and = if [&phrase.says, &not.says].iter().any(|says| says.contains(" or ")) { ", but" } else { " and" };
        phrase.says = format!("{}{and} {}", phrase.says, not.says);
        return true;
    }
    false
}

fn phrases(phrases: &[Phrase], between: &str) -> String {
    phrases.iter().map(|Phrase { subject, says }| format!("{subject} {says}")).collect::<Vec<_>>().join(between)
}

fn alternatives(all: &[Vec<Phrase>]) -> Option<String> {
    match all {
        [] => None,
        [only] if only.is_empty() => None,
        [only] => Some(phrases(only, ", ")),
        several if several.iter().any(Vec::is_empty) => None,
        several => Some(several.iter().map(|one| format!("({})", phrases(one, ", "))).collect::<Vec<_>>().join(" or ")),
    }
}

impl Sides {
    /// Whether both sides have a rule.
    fn stays(&self, rule: &RuleId) -> bool {
        let [old, new] = [&self.old, &self.new].map(|set| {
            let policies = set.resources.policies.iter().map(|resource| &resource.policy);
            let mut found = policies.filter(|policy| policy.name == *rule.policy);
            found.find_map(|policy| Some((policy.action, policy.rules.get(rule.index)?)))
        });
        old.is_some() && old == new
    }

    /// Lets the engine decide about the example of a difference, on both sides, and shortens it.
    fn decide(&mut self, difference: &mut Difference, direction: Direction, traffic: Traffic) {
        self.old.workload = difference.example.workload.clone();
        self.new.workload = difference.example.workload.clone();
        let [old, new] = &[self.old.engine(traffic), self.new.engine(traffic)];
        // If a provider is asked, there are several answers: what it answers is not known.
        let decided = |fields: &RequestFields| {
            let of = |set: &PolicySet, engine| answers(fields, set, engine).iter().map(decision).collect::<Vec<_>>();
            [of(&self.old, old), of(&self.new, new)]
        };
        let whole = decided(&difference.fields);
        difference.fields = witness::shortest(difference.fields.clone(), |shorter| decided(shorter) == whole);
        let claimed = match direction {
            Direction::Gained => (Verdict::Deny, Verdict::Allow),
            Direction::Lost => (Verdict::Allow, Verdict::Deny),
        };
        let [old_answers, new_answers] = whole;
        let pairs = old_answers.iter().flat_map(|before| new_answers.iter().map(move |after| (before, after)));
        let Some((before, after)) =
            pairs.clone().find(|(before, after)| (before.0, after.0) == claimed).or(pairs.clone().next())
        else {
            return;
        };
        let (before, after) = (before.clone(), after.clone());
        difference.can_be_sent = (before.0, after.0) == claimed;
        difference.expect = (after.0, after.2);
        (difference.before, difference.after) = (before.1, after.1);
        if !difference.can_be_sent {
            let request = difference.example.request();
            let said = |engine: &Engine| {
                let outcome = engine.decide(&request).outcome;
                format!("{}: {outcome}", outcome.verdict())
            };
            (difference.before, difference.after) = (said(old), said(new));
        }
    }
}

/// The verdict, the answer in words, and the deciding policy.
fn decision(answered: &Answered<'_>) -> (Verdict, String, String) {
    let policy = answered.rule().map_or_else(|| "none".to_owned(), |rule| rule.policy.to_string());
    (answered.verdict(), answered.to_string(), policy)
}
