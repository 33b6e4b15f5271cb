//! Logs held against policies: what the policies decide about the requests that the lines describe.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`tally`] | counts what is alike |
//!
//! The memory that this takes does not depend on how long the logs are.

pub mod tally;

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::ProgressBar;
use mesh_authz::analysis::{Budget, Open, OpenKey, Policies, Possible, Workloads};
use mesh_authz::document::Span;
use mesh_authz::engine::{Engine, Options, RuleId, Verdict};
use mesh_authz::policy::scope::{Scope, Workload, scope};
use mesh_authz::policy::{Action, AuthorizationPolicy, Traffic};
use mesh_authz::request::Attributes;
use rayon::prelude::*;

use self::tally::{After, Before, Key, Kind, Peer, Seen, Tally};
use crate::access_log::happened::{BY_AUTHORIZER, DeniedBy, Happened};
use crate::explain::{Explanation, FailedCondition};
use crate::load::InputError;
use crate::load::finding::SourceText;
use crate::load::policy_set::PolicySet;
use crate::logs::{Item, Logged, Source};

/// The policies of a workload, as they were and, if there is a second set, as they will be.
#[derive(Debug)]
pub struct Protected {
    /// For each set, the policies with which requests are decided: HTTP, then TCP.
    questions: Vec<[Vec<AuthorizationPolicy>; 2]>,
    /// For explanations.
    pub sets: Vec<PolicySet>,
}

impl Protected {
    /// The policies of these sets that apply to the workload.
    ///
    /// # Errors
    /// The policies cannot be asked about a workload.
    pub fn new(sets: &[PolicySet], workload: &Workload) -> Result<Self, String> {
        let sets: Vec<_> = sets.iter().map(|set| PolicySet { workload: workload.clone(), ..set.clone() }).collect();
        let questions = sets.iter().map(|set| {
            let of = |traffic| {
                let mut policies = set.in_questions(traffic, Some(workload))?;
                policies.retain(|policy| scope(policy, workload) == Scope::Applies);
                Ok::<_, String>(policies)
            };
            Ok([of(Traffic::Http)?, of(Traffic::Tcp)?])
        });
        Ok(Self { questions: questions.collect::<Result<_, String>>()?, sets })
    }
}

/// The policies of a workload, compiled: for each set, those for requests and those for connections.
#[derive(Debug)]
struct Compiled<'p>(Vec<[Policies<'p>; 2]>);

/// Everything that lines are held against.
#[derive(Debug)]
pub struct Replay<'r> {
    source: &'r Source<'r>,
    protected: &'r [Protected],
    compiled: Vec<Compiled<'r>>,
    /// What can become of requests that leave the same open. A key has addresses of compiled rules, which stay where they are.
    known: Mutex<HashMap<OpenKey, Option<Possible>>>,
}

/// More keys than this are not kept.
const MOST_KEYS: usize = 100_000;

impl<'r> Replay<'r> {
    /// Prepares the policies of the workloads that the lines can be of, in their order.
    #[must_use]
    pub fn new(source: &'r Source<'r>, protected: &'r [Protected]) -> Self {
        let compiled = protected.par_iter().map(|protected| {
            let of_set = |(set, questions): (&'r PolicySet, &'r [Vec<AuthorizationPolicy>; 2])| {
                let [http, tcp] = questions;
                let compile = |traffic, policies: &'r [AuthorizationPolicy]| {
                    let options = Options { traffic, ..set.mesh.options() };
                    let policies: Vec<_> = policies.iter().collect();
                    Policies::new(&policies, &options, Workloads::One(Box::new(set.workload.clone())))
                };
                [compile(Traffic::Http, http), compile(Traffic::Tcp, tcp)]
            };
            Compiled(protected.sets.iter().zip(&protected.questions).map(of_set).collect())
        });
        Self { source, protected, compiled: compiled.collect(), known: Mutex::new(HashMap::new()) }
    }

    /// Replays files.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn run(&self, files: &[PathBuf], progress: &ProgressBar) -> Result<Tally, InputError> {
        self.source.read(files, progress, |item, tally| self.decide(item, tally))
    }

    /// Decides about a request, and counts what comes of it.
    fn decide(&self, item: &Item<'_>, tally: &mut Tally) {
        let Item { request, happened, place, line, .. } = item;
        let Some(workload) = item.workload else { return };
        match happened {
            Happened::NotDecided(BY_AUTHORIZER) => return self.decide_without_authorizer(item, tally),
            Happened::NotDecided(_) => return,
            Happened::Allowed | Happened::Denied(_) | Happened::Unknown => {}
        }
        let seen = &Seen { place: *place, start: item.start.as_deref(), line };
        let answers: Vec<_> = self
            .open(item)
            .map(|open| {
                let after = self.after(&open);
                (open, after)
            })
            .collect();
        let (Some((first_open, first)), Some((last_open, last))) = (answers.first(), answers.last()) else { return };
        let has_two = answers.len() > 1;
        tally.count(last, happened, item.is_inferred);
        let before = Before::of(happened);
        match (first, last) {
            (After::Undecided, After::Undecided) if has_two && first_open.is_same_as(last_open) => {
                tally.unchanged.add(seen.place);
            }
            (_, After::Undecided) => tally.needs(last_open.needs(), seen),
            (After::Undecided, _) if before == Before::Unknown => tally.needs(first_open.needs(), seen),
            _ => {}
        }
        let mut kinds = Vec::new();
        let is_otherwise = before.differs(first);
        if is_by_another_rule(happened, first_open, first) || (has_two && is_otherwise) {
            kinds.push((Kind::Disagreement, before.clone(), first.clone()));
        }
        // The log says what the old policies decided where the line is not enough to say it.
        let before = if has_two && *first != After::Undecided { Before::from(first) } else { before };
        if before.differs(last) {
            kinds.push((Kind::Change, before, last.clone()));
        } else if matches!(last, After::Deny(_)) && !has_two {
            kinds.push((Kind::Denied, before, last.clone()));
        }
        if kinds.is_empty() {
            return;
        }
        let peer = Peer { name: request.shown_peer().map(Cow::into_owned), is_inferred: item.is_inferred };
        let what = what(request);
        for (kind, before, after) in kinds {
            let (what, peer) = (what.clone(), peer.clone());
            tally.group(Key { kind, workload, before, after, what, peer }, seen);
        }
    }

    /// A request, held against each of the sets.
    fn open<'i>(&'i self, item: &'i Item<'_>) -> impl Iterator<Item = Open<'i>> {
        let sets =
            item.workload.and_then(|workload| self.compiled.get(workload)).into_iter().flat_map(|Compiled(sets)| sets);
        let is_tcp = item.request.traffic() == Traffic::Tcp;
        sets.map(move |[http, tcp]| if is_tcp { tcp } else { http }.open(&item.request))
    }

    /// A request that an authorizer refused may pass if the policies do not ask it for sure.
    fn decide_without_authorizer(&self, item: &Item<'_>, tally: &mut Tally) {
        let opened: Vec<_> = self.open(item).collect();
        let (Some(first), Some(last)) = (opened.first(), opened.last()) else { return };
        let may_pass = match (opened.len() > 1, self.after(last)) {
            (_, After::Deny(_)) => false,
            (false, After::Allow | After::Undecided) => last.asking().is_empty(),
            // Where the old policies ask nobody, the authorizer is not theirs.
            (true, After::Allow | After::Undecided) => {
                let asks_the_same = !first.asking().is_empty() && first.asking() == last.asking();
                !asks_the_same && !first.is_same_as(last) && self.after(first) != After::Allow
            }
        };
        if may_pass {
            tally.not_asked_about.add(item.place);
        }
    }

    /// What policies decide about a request, whatever the line leaves open.
    fn after(&self, open: &Open<'_>) -> After {
        match self.possible(open).and_then(Possible::verdict) {
            Some(Verdict::Allow) => After::Allow,
            Some(Verdict::Deny) => After::Deny(match (open.denying().next(), open.may_deny().next()) {
                (Some(rule), _) => denied_by(rule),
                (None, None) => DeniedBy::NoAllow,
                (None, Some(_)) => DeniedBy::Unknown,
            }),
            None => After::Undecided,
        }
    }

    /// What can become of a request. `None`: to find out takes too long.
    fn possible(&self, open: &Open<'_>) -> Option<Possible> {
        if let Some(possible) = open.at_once() {
            return Some(possible);
        }
        let key = open.key();
        let lock = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(possible) = lock().get(&key) {
            return *possible;
        }
        let possible = open.possible(&mut Budget::default()).ok();
        let mut known = lock();
        if known.len() < MOST_KEYS {
            known.insert(key, possible);
        }
        possible
    }

    /// Why a request is decided as it is, by the line that stands for a group. `None`: no line was kept.
    #[must_use]
    pub fn why(&self, key: &Key, line: &[u8]) -> Option<Why> {
        let protected = self.protected.get(key.workload)?;
        // The old policies disagree with the log. Otherwise, it is about the new ones.
        let set = if key.kind == Kind::Disagreement { protected.sets.first() } else { protected.sets.last() }?;
        let request = self.source.again(line)?.request;
        Some(Why::new(set, &set.engine(request.traffic()), &request))
    }
}

/// Why a request is decided as it is.
#[derive(Debug)]
pub struct Why {
    /// The place of the rule that decides.
    pub deciding: Option<(Arc<SourceText>, Option<Span>)>,
    /// The ALLOW rule that is nearest to matching.
    pub nearest: Option<Nearest>,
}

/// A rule that does not match.
#[derive(Debug)]
pub struct Nearest {
    pub rule: RuleId,
    pub source: Arc<SourceText>,
    /// The first condition of it that fails.
    pub failed: FailedCondition,
}

impl Why {
    fn new(set: &PolicySet, engine: &Engine, request: &impl Attributes) -> Self {
        let explanation = Explanation::new(set, engine, request);
        let deciding = explanation.deciding().map(|report| (Arc::clone(&report.resource.source), report.span));
        let misses = explanation.rules.into_iter().filter(|report| report.action == Action::Allow && !report.dry_run);
        let mut misses = misses.filter_map(|report| {
            let (rule, source) = (report.rule.clone(), Arc::clone(&report.resource.source));
            Some(Nearest { rule, source, failed: report.failed? })
        });
        Self { deciding, nearest: misses.next() }
    }
}

/// A request without what makes it one of many: its method, and the shape of its path.
fn what(request: &Logged<'_>) -> String {
    match request.traffic() {
        Traffic::Tcp => "a TCP connection".to_owned(),
        Traffic::Http => {
            let path = request.shown_path().map_or_else(|| "?".to_owned(), |path| tally::shape(&path));
            let method =
                request.shown_method().map_or_else(|| "?".to_owned(), |method| tally::shortened(method.into_owned()));
            format!("{method} {path}")
        }
    }
}

/// Whether the log names another reason for a denial than the policies give.
fn is_by_another_rule(happened: &Happened, open: &Open<'_>, decided: &After) -> bool {
    match (happened, decided) {
        (Happened::Denied(DeniedBy::Rule { policy, index }), After::Deny(_) | After::Undecided) => {
            !open.may_deny().any(|rule| rule.index == *index && rule.policy.to_string() == *policy)
        }
        (Happened::Denied(DeniedBy::NoAllow), After::Deny(DeniedBy::Rule { .. })) => true,
        _ => false,
    }
}

fn denied_by(rule: &RuleId) -> DeniedBy {
    DeniedBy::Rule { policy: rule.policy.to_string(), index: rule.index }
}
