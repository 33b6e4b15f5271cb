//! Whether an attribute matches, asked in every way in which a policy can ask.
//!
//! A value can stand in a field, in the field's `not` twin, under `values` and under `notValues` of a condition; each of
//! them in a DENY and in an ALLOW policy. A [`Question`] is all of these at once, and its [`Answer`] what they agree on.
//! Many questions share one Envoy: every rule is narrowed down by the header `x-rule`, which a request names it with.

use serde_json::{Value, json};
use testbed::{Client, Http2Request, Request, Response};

use crate::sidecar::{Blueprint, DENIED_BY_NONE, Sidecar, denied_by, policy};

/// What the rules say about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The values match: the positive forms hold, the negative ones do not.
    Match,
    /// They do not: the reverse.
    NoMatch,
    /// Neither an ALLOW rule nor an exception from a DENY rule lets the request pass.
    Unreadable,
}

/// A name, and rules that ask the same.
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

/// `principals` becomes `notPrincipals`.
fn twin(field: &str) -> String {
    let (first, rest) = field.split_at(1);
    format!("not{}{rest}", first.to_uppercase())
}

/// Values in a field of `source`, of which `key` is the condition.
pub fn source(name: &str, field: &str, key: &str, values: &[&str]) -> Question {
    let rule = |field: &str| json!({ "from": [{ "source": { field: values } }], "when": [] });
    let forms = vec![Form { rule: rule(field), negated: false }, Form { rule: rule(&twin(field)), negated: true }];
    let mut question = condition(name, key, values);
    question.forms.extend(forms);
    question
}

/// Values in a field of `operation`.
pub fn operation(name: &str, field: &str, values: &[&str]) -> Question {
    let rule = |field: &str| json!({ "to": [{ "operation": { field: values } }], "when": [] });
    let forms = vec![Form { rule: rule(field), negated: false }, Form { rule: rule(&twin(field)), negated: true }];
    Question { name: name.to_owned(), forms }
}

/// Values of a condition.
pub fn condition(name: &str, key: &str, values: &[&str]) -> Question {
    let rule = |list: &str| json!({ "when": [{ "key": key, list: values }] });
    let forms = vec![Form { rule: rule("values"), negated: false }, Form { rule: rule("notValues"), negated: true }];
    Question { name: name.to_owned(), forms }
}

impl Question {
    /// The same question, asked in the ways of another as well.
    pub fn and(mut self, other: Question) -> Self {
        self.forms.extend(other.forms);
        self
    }

    fn rule_name(&self, action: &str, form: usize) -> String {
        format!("{action}-{}-{form}", self.name)
    }
}

/// The policies that ask: for each form a DENY and an ALLOW policy, and an ALLOW policy for what no DENY policy stops.
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

/// A sidecar that knows questions.
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

/// Starts the sidecar that ships with these questions.
pub fn ask(questions: Vec<Question>) -> Asked {
    ask_with(questions, json!({}), |blueprint| blueprint)
}

/// As [`ask`], with further fields of the plugin configuration, and with changes to the sidecar's listener.
pub fn ask_with(questions: Vec<Question>, plugin_config: Value, change: impl FnOnce(Blueprint) -> Blueprint) -> Asked {
    let sidecar = change(blueprint(&questions, plugin_config)).start_shared();
    Asked { sidecar, questions }
}

/// As [`ask_with`], in an Envoy of its own, of which everything can be changed.
pub fn ask_alone(questions: Vec<Question>, plugin_config: Value, change: impl FnOnce(Blueprint) -> Blueprint) -> Asked {
    let sidecar = change(blueprint(&questions, plugin_config)).start();
    Asked { sidecar, questions }
}

fn blueprint(questions: &[Question], mut plugin_config: Value) -> Blueprint {
    plugin_config["policies"] = policies(questions);
    Blueprint::new(&plugin_config).telling_details()
}

/// A request in one of the versions of HTTP.
pub trait Sent {
    /// The same request with one more header.
    fn with(&self, name: &str, value: &str) -> Self;
    /// The answer to it.
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
    /// What the rules of a question say about a request. All of them must agree.
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

    /// Asserts what a question says about one client's requests.
    pub fn expect(&self, name: &str, client: &Client, cases: &[(&str, Answer)]) {
        for (path, expected) in cases {
            assert_eq!(self.answer(name, client, &Request::get(path)), *expected, "{name}: {path}");
        }
    }
}

/// Whether a request is refused under a rule; if so, by that rule or, under ALLOW, by none.
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
