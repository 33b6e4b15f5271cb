//! Random sequences of what users apply and delete: good and bad configurations of the plugin, and native policies.
//!
//! At no time may a request pass that neither the policies before a step nor those after it allow. `SEQUENCES=500
//! SEED=7` asks for more sequences, or others.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use testbed::{Client, Request};

use crate::{
    place::{PATIENCE, status},
    plugin::{Backend, plugin_with, policy},
    rendering::number,
};

const STEPS: usize = 10;

/// The requests that are asked: who, method, path.
const REQUESTS: [(&str, &str, &str); 6] = [
    ("frontend", "GET", "/api/v1/data"),
    ("frontend", "POST", "/api/v1/data"),
    ("frontend", "GET", "/other"),
    ("stranger", "GET", "/api/v1/data"),
    ("stranger", "POST", "/other"),
    ("stranger", "GET", "/other"),
];

/// Which of the requests pass.
type Passing = [bool; REQUESTS.len()];

const NONE: Passing = [false; REQUESTS.len()];

/// What a user does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    /// Applies the plugin with a configuration that the filter accepts, one of [`GOOD`].
    Good(usize),
    /// Applies the plugin with a configuration that the filter refuses, one of `bad_configuration`.
    Bad(usize),
    Delete,
    /// Applies a native policy, one of [`NATIVE`].
    Native(usize),
    DeleteNative,
}

/// Policies of the plugin, or of Istio: an action, the rules, and which requests it lets pass.
struct Policies {
    action: &'static str,
    passing: fn(&(&str, &str, &str)) -> bool,
}

const GOOD: [Policies; 3] = [
    Policies { action: "ALLOW", passing: |(account, method, _)| *account == "frontend" && *method == "GET" },
    Policies { action: "ALLOW", passing: |(_, _, path)| path.starts_with("/api/") },
    Policies { action: "DENY", passing: |(_, method, _)| *method != "POST" },
];

const NATIVE: [Policies; 2] = [
    Policies { action: "ALLOW", passing: |(account, _, _)| *account == "frontend" },
    Policies { action: "DENY", passing: |(_, _, path)| *path != "/other" },
];

fn rules(policies: &Policies, namespace: &str) -> Value {
    // Rules that say the same as `passing`: the index tells which.
    let frontend = json!([{ "source": { "principals": [format!("cluster.local/ns/{namespace}/sa/frontend")] } }]);
    let to = |field: &str, value: &str| json!([{ "operation": { field: [value] } }]);
    let says = |request: &(&str, &str, &str)| (policies.passing)(request);
    match (policies.action, says(&REQUESTS[1]), says(&REQUESTS[2]), says(&REQUESTS[3])) {
        ("ALLOW", false, true, false) => json!([{ "from": frontend, "to": to("methods", "GET") }]),
        ("ALLOW", true, false, true) => json!([{ "to": to("paths", "/api/*") }]),
        ("ALLOW", true, true, false) => json!([{ "from": frontend }]),
        ("DENY", false, true, true) => json!([{ "to": to("methods", "POST") }]),
        ("DENY", true, false, true) => json!([{ "to": to("paths", "/other") }]),
        other => panic!("no rules for {other:?}"),
    }
}

/// Configurations that the filter refuses: each for another reason.
fn bad_configuration(kind: usize, namespace: &str) -> Value {
    let policy = |spec: Value| {
        json!({
            "apiVersion": "security.istio.io/v1",
            "kind": "AuthorizationPolicy",
            "metadata": { "name": "bad", "namespace": namespace },
            "spec": spec,
        })
    };
    match kind {
        // A field that this version does not know, such as one of a later version.
        0 => json!({ "policies": [policy(json!({}))], "onInvalid": "deny", "laterField": true }),
        // A policy that Istio would refuse.
        1 => json!({ "policies": [policy(json!({ "action": "REFUSE" }))], "onInvalid": "deny" }),
        // Policies of which none applies.
        2 => {
            json!({ "policies": [policy(json!({ "selector": { "matchLabels": { "app": "x" } } }))], "onInvalid": "deny" })
        }
        _ => json!({ "onInvalid": "deny" }),
    }
}

/// What can be in force, given what was applied. A configuration that the filter refuses leaves the last one that it
/// accepted in force. If that was deleted meanwhile, it lives until the connections of its listener are drained: then
/// the proxy has it, or refuses everything.
#[derive(Clone, Debug)]
struct State {
    plugin: Vec<Option<Passing>>,
    native: Option<Passing>,
    last_accepted: Option<Passing>,
}

impl State {
    const BEGIN: Self = Self { plugin: Vec::new(), native: None, last_accepted: None };

    /// What may pass: one of these.
    fn passing(&self) -> Vec<Passing> {
        let both = |plugin: Option<Passing>| {
            let mut passing = [true; REQUESTS.len()];
            for side in [plugin, self.native].into_iter().flatten() {
                for (passes, also) in passing.iter_mut().zip(side) {
                    *passes &= also;
                }
            }
            passing
        };
        if self.plugin.is_empty() { vec![both(None)] } else { self.plugin.iter().map(|&plugin| both(plugin)).collect() }
    }

    fn after(&self, step: Step) -> Self {
        let mut state = self.clone();
        match step {
            Step::Good(index) => {
                state.last_accepted = Some(of(&GOOD[index]));
                state.plugin = vec![state.last_accepted];
            }
            Step::Bad(_) if state.plugin.is_empty() => {
                state.plugin = [Some(NONE), state.last_accepted].into_iter().filter(Option::is_some).collect();
            }
            Step::Bad(_) => {}
            Step::Delete => state.plugin.clear(),
            Step::Native(index) => state.native = Some(of(&NATIVE[index])),
            Step::DeleteNative => state.native = None,
        }
        state
    }
}

fn of(policies: &Policies) -> Passing {
    REQUESTS.map(|request| (policies.passing)(&request))
}

struct Worker {
    backend: Backend,
    clients: Vec<Client>,
}

impl Worker {
    fn new() -> Self {
        let backend = Backend::new();
        let clients =
            REQUESTS.map(|(account, ..)| if account == "frontend" { &backend.frontend } else { &backend.stranger });
        Self { clients: clients.into_iter().cloned().collect(), backend }
    }

    fn answers(&self) -> Passing {
        let mut passing = NONE;
        for ((passes, client), (_, method, path)) in passing.iter_mut().zip(&self.clients).zip(REQUESTS) {
            *passes = status(client, &Request::new(method, path)) == 200;
        }
        passing
    }

    fn act(&self, plugin: &str, step: Step) {
        let place = &self.backend.place;
        let namespace = &place.namespace;
        let named = |name: &str, policies: &Policies| {
            let mut policy = policy(name, "backend", policies.action, rules(policies, namespace));
            policy["metadata"]["namespace"] = json!(namespace);
            policy
        };
        match step {
            Step::Good(index) => {
                let policies = [named("good", &GOOD[index])];
                let configuration = json!({ "policies": policies, "onInvalid": "deny", "outgoing": "pass" });
                place.apply(&plugin_with(plugin, "backend", &configuration).to_string());
            }
            Step::Bad(kind) => {
                place.apply(&plugin_with(plugin, "backend", &bad_configuration(kind, namespace)).to_string());
            }
            Step::Delete => {
                place.kubectl(&["delete", "--ignore-not-found", "wasmplugin", plugin], "");
            }
            Step::Native(index) => place.apply(&named("native", &NATIVE[index]).to_string()),
            Step::DeleteNative => {
                place.kubectl(&["delete", "--ignore-not-found", "authorizationpolicy", "native"], "");
            }
        }
    }

    /// Asks until the answers are those of the state, and checks that until then nothing passes that was allowed
    /// neither before nor after.
    fn settles(&self, before: &State, state: &State, story: &[Step]) {
        let wanted = state.passing();
        let allowed = [before.passing(), state.passing()].concat();
        let begin = Instant::now();
        let mut agreed = 0;
        while agreed < 2 {
            let answers = self.answers();
            for (index, request) in REQUESTS.iter().enumerate() {
                let may_pass = allowed.iter().any(|passing| passing[index]);
                assert!(!answers[index] || may_pass, "after {story:?}: {request:?} passes, which was never allowed");
            }
            agreed = if wanted.contains(&answers) { agreed + 1 } else { 0 };
            assert!(begin.elapsed() < PATIENCE, "after {story:?}: {answers:?}, and not {wanted:?} of {REQUESTS:?}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn run(&self, plugin: &str, random: &mut fastrand::Rng, counts: &mut BTreeMap<Step, u64>) {
        let mut state = State::BEGIN;
        let mut story = Vec::new();
        for _ in 0..STEPS {
            let step = match random.u8(..10) {
                0..3 => Step::Good(random.usize(..GOOD.len())),
                3..6 => Step::Bad(random.usize(..4)),
                6..8 => Step::Delete,
                8 => Step::Native(random.usize(..NATIVE.len())),
                _ => Step::DeleteNative,
            };
            story.push(step);
            *counts.entry(step).or_default() += 1;
            let before = state.clone();
            state = before.after(step);
            self.act(plugin, step);
            self.settles(&before, &state, &story);
        }
        for step in [Step::Delete, Step::DeleteNative] {
            let before = state.clone();
            state = before.after(step);
            self.act(plugin, step);
            self.settles(&before, &state, &story);
        }
    }
}

#[test]
fn no_sequence_of_changes_opens_what_no_policy_allows() {
    const WORKERS: usize = 3;
    let (sequences, seed) = (number("SEQUENCES", 24), number("SEED", 1));
    let counts: Vec<_> = thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS as u64)
            .map(|worker| {
                scope.spawn(move || {
                    let mut counts = BTreeMap::new();
                    let backend = Worker::new();
                    for sequence in (worker..sequences).step_by(WORKERS) {
                        let mut random = fastrand::Rng::with_seed(seed << 32 | sequence);
                        // What a proxy remembers of a plugin belongs to its name.
                        backend.run(&format!("plugin-{sequence}"), &mut random, &mut counts);
                    }
                    counts
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    let mut total = BTreeMap::new();
    for (step, count) in counts.into_iter().flatten() {
        *total.entry(step).or_insert(0) += count;
    }
    println!("{sequences} sequences of {STEPS} steps: {total:?}");
}
