//! Asks whether an attribute matches, in every form that a policy offers.
//!
//! A policy can have a value in a field, in the field's `not` twin, under `values` and under `notValues` of a
//! condition. Each form can be in a DENY policy and in an ALLOW policy. A [`Question`] contains all of these forms.
//! They must all give the same [`Answer`]. Many questions share one Envoy: every rule also requires its name in the
//! request's header `x-rule`.

use serde_json::{Value, json};
use testbed::{Client, Http2Request, Request, Response};

use crate::sidecar::{Blueprint, DENIED_BY_NONE, Sidecar, denied_by, policy};

/// The common result of all forms for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The values match: the positive forms match, the `not` forms do not.
    Match,
    /// The values do not match: the `not` forms match, the positive forms do not.
    NoMatch,
    /// The request is refused under every form: no ALLOW rule permits it, and no `not` field exempts it from a DENY
    /// rule.
    Unreadable,
}

/// A name, and rules that ask the same thing in different forms.
#[derive(Clone, Debug)]
pub struct Question {
    name: String,
    forms: Vec<Form>,
}

#[derive(Clone, Debug)]
struct Form {
    rule: Value,
    negated: bool,
}

/// The `not` twin of a field: `notPrincipals` for `principals`.
fn twin(field: &str) -> String {
    let (first, rest) = field.split_at(1);
    format!("not{}{rest}", first.to_uppercase())
}

/// Asks with values in a field of `source`, and in the condition `key`, which means the same.
pub fn source(name: &str, field: &str, key: &str, values: &[&str]) -> Question {
    let rule = |field: &str| json!({ "from": [{ "source": { field: values } }], "when": [] });
    let forms = vec![Form { rule: rule(field), negated: false }, Form { rule: rule(&twin(field)), negated: true }];
    let mut question = condition(name, key, values);
    question.forms.extend(forms);
    question
}

/// Asks with values in a field of `operation`.
pub fn operation(name: &str, field: &str, values: &[&str]) -> Question {
    let rule = |field: &str| json!({ "to": [{ "operation": { field: values } }], "when": [] });
    let forms = vec![Form { rule: rule(field), negated: false }, Form { rule: rule(&twin(field)), negated: true }];
    Question { name: name.to_owned(), forms }
}

/// Asks with values in a condition.
pub fn condition(name: &str, key: &str, values: &[&str]) -> Question {
    let rule = |list: &str| json!({ "when": [{ "key": key, list: values }] });
    let forms = vec![Form { rule: rule("values"), negated: false }, Form { rule: rule("notValues"), negated: true }];
    Question { name: name.to_owned(), forms }
}

impl Question {
    /// Adds the forms of another question to this one.
    pub fn and(mut self, other: Question) -> Self {
        self.forms.extend(other.forms);
        self
    }

    fn rule_name(&self, action: &str, form: usize) -> String {
        format!("{action}-{}-{form}", self.name)
    }
}

/// The policies of all questions: a DENY and an ALLOW policy for each form, and an ALLOW policy that permits the
/// requests that no DENY policy matches.
fn policies(questions: &[Question]) -> Value {
    let narrowed = |rule: &Value, name: &str| {
        let mut rule = rule.clone();
        let this_rule = json!({ "key": "request.headers[x-rule]", "values": [name] });
        rule["when"].as_array_mut().unwrap().push(this_rule);
        rule
    };
    let others = json!({ "when": [{ "key": "request.headers[x-rule]", "values": ["deny-*"] }] });
    let mut policies = vec![policy("others", "ALLOW", &[others])];
    for question in questions {
        for (index, form) in question.forms.iter().enumerate() {
            for action in ["DENY", "ALLOW"] {
                let name = question.rule_name(&action.to_lowercase(), index);
                policies.push(policy(&name, action, &[narrowed(&form.rule, &name)]));
            }
        }
    }
    json!(policies)
}

/// A sidecar with the policies of some questions.
pub struct Asked {
    pub sidecar: Sidecar,
    questions: Vec<Question>,
}

impl std::ops::Deref for Asked {
    type Target = Sidecar;

    fn deref(&self) -> &Sidecar {
        &self.sidecar
    }
}

/// Starts the shipped sidecar with the policies of these questions.
pub fn ask(questions: Vec<Question>) -> Asked {
    ask_with(questions, json!({}), |blueprint| blueprint)
}

/// As [`ask`], with more fields in the plugin configuration and with changes to the sidecar's listener.
pub fn ask_with(questions: Vec<Question>, plugin_config: Value, change: impl FnOnce(Blueprint) -> Blueprint) -> Asked {
    let sidecar = change(blueprint(&questions, plugin_config)).start_shared();
    Asked { sidecar, questions }
}

/// As [`ask_with`], in an Envoy of its own. `change` can then change everything, not only the listener.
pub fn ask_alone(questions: Vec<Question>, plugin_config: Value, change: impl FnOnce(Blueprint) -> Blueprint) -> Asked {
    let sidecar = change(blueprint(&questions, plugin_config)).start();
    Asked { sidecar, questions }
}

fn blueprint(questions: &[Question], mut plugin_config: Value) -> Blueprint {
    plugin_config["policies"] = policies(questions);
    Blueprint::new(&plugin_config).telling_details()
}

/// A request over HTTP/1.1 or HTTP/2.
pub trait Sent {
    /// The same request with one more header.
    fn with(&self, name: &str, value: &str) -> Self;
    /// Sends the request and returns the response.
    fn send(&self, client: &Client) -> Response;
}

impl Sent for Request {
    fn with(&self, name: &str, value: &str) -> Self {
        self.clone().header(name, value)
    }

    fn send(&self, client: &Client) -> Response {
        client.send(self).unwrap()
    }
}

impl Sent for Http2Request {
    fn with(&self, name: &str, value: &str) -> Self {
        self.clone().header(name, value)
    }

    fn send(&self, client: &Client) -> Response {
        client.send_http2(self).unwrap()
    }
}

impl Asked {
    /// The answer to a question for a request. All forms of the question must agree.
    pub fn answer(&self, name: &str, client: &Client, request: &impl Sent) -> Answer {
        let question = self.questions.iter().find(|question| question.name == name).expect(name);
        let answers = question.forms.iter().enumerate().map(|(index, form)| {
            let denied = is_denied(&question.rule_name("deny", index), client, request, true);
            let allowed = !is_denied(&question.rule_name("allow", index), client, request, false);
            let answer = match (denied, allowed, form.negated) {
                (true, true, false) | (false, false, true) => Answer::Match,
                (false, false, false) | (true, true, true) => Answer::NoMatch,
                (true, false, _) => Answer::Unreadable,
                (false, true, _) => panic!("{name}: both ALLOW and DENY let it pass: {}", form.rule),
            };
            (answer, &form.rule)
        });
        let answers: Vec<_> = answers.collect();
        assert!(answers.iter().all(|(answer, _)| *answer == answers[0].0), "{name}: {answers:#?}");
        answers[0].0
    }

    /// Asserts the answers to a question for requests of one client. Each case is a path and the expected answer.
    pub fn expect(&self, name: &str, client: &Client, cases: &[(&str, Answer)]) {
        for (path, expected) in cases {
            assert_eq!(self.answer(name, client, &Request::get(path)), *expected, "{name}: {path}");
        }
    }
}

/// Whether a request that names this rule is refused. If it is, asserts the reported reason: the rule itself if
/// `by_rule`, otherwise that no ALLOW rule matched.
fn is_denied(rule: &str, client: &Client, request: &impl Sent, by_rule: bool) -> bool {
    let response = request.with("x-rule", rule).send(client);
    let details = response.header("x-details");
    match response.status {
        403 => {
            let expected = if by_rule { denied_by(rule, 0) } else { DENIED_BY_NONE.to_owned() };
            assert_eq!(details, Some(expected), "{rule}");
            true
        }
        200 | 101 => false,
        status => panic!("{rule}: {status} {details:?} {}", response.text()),
    }
}
