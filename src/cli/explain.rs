//! `mesh-authz explain`: what is decided about a request, and why.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anstyle::{AnsiColor, Style};
use clap::ValueEnum;
use mesh_authz::diagnostic::Diagnostics;
use mesh_authz::document::{Node, Value, from_json};
use mesh_authz::engine::{RuleId, Verdict, WouldBe};
use mesh_authz::explain::{Actual, Explanation, Failed, RuleReport};
use mesh_authz::finding::Source;
use mesh_authz::input;
use mesh_authz::policy_set::PolicySet;
use mesh_authz::testfile::RequestFields;
use mesh_authz::yaml;
use serde::Serialize;

use super::options::{CombiningOption, MeshOptions, WorkloadOptions, key_value};
use super::{Answer, Failure, snippet};

/// Arguments of `mesh-authz explain`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  mesh-authz explain policies/ --label app=backend --principal cluster.local/ns/default/sa/frontend --path /api/v1/data
  mesh-authz explain policies/ --label app=orders --claim iss=https://issuer.example --claim sub=alice --path /orders/7
  mesh-authz explain policies/ --label app=backend --request request.yaml --format json

Exit status: 0 whatever the decision is; 1 the policies are invalid; 2 wrong usage or unreadable input.")]
pub struct Arguments {
    /// Files, directories or patterns with policies, YAML or JSON; `-` is standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    #[command(flatten)]
    request: RequestOptions,

    #[command(flatten)]
    workload: WorkloadOptions,

    #[command(flatten)]
    mesh: MeshOptions,

    #[command(flatten)]
    combining: CombiningOption,

    /// The form of the output.
    #[arg(long, value_enum, default_value = "human")]
    format: Format,

    /// Show every rule that does not match, not only the nearest ten.
    #[arg(long)]
    all: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// For people.
    Human,
    /// One JSON object.
    Json,
}

/// The request. What is not given a request does not have, except for method, path and host: these are `GET`, `/` and
/// `localhost`.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Request")]
struct RequestOptions {
    /// A file with the request, in the form that it has in a test file; `-` is standard input. Other options add to it.
    #[arg(long, value_name = "FILE")]
    request: Option<PathBuf>,

    /// The peer's SPIFFE id, without `spiffe://`. Without one the request comes in plaintext.
    #[arg(long)]
    principal: Option<String>,

    /// The method.
    #[arg(long)]
    method: Option<String>,

    /// The path, with its query.
    #[arg(long)]
    path: Option<String>,

    /// The host, with its port if it has one.
    #[arg(long)]
    host: Option<String>,

    /// A header; may be repeated.
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = key_value)]
    headers: Vec<(String, String)>,

    /// The direct peer's address.
    #[arg(long, value_name = "ADDRESS")]
    source_ip: Option<String>,

    /// The client's address; the direct peer's unless it is given.
    #[arg(long, value_name = "ADDRESS")]
    remote_ip: Option<String>,

    /// The local address.
    #[arg(long, value_name = "ADDRESS")]
    destination_ip: Option<String>,

    /// The local port.
    #[arg(long)]
    port: Option<u16>,

    /// The server name of the TLS handshake.
    #[arg(long)]
    sni: Option<String>,

    /// A claim of the verified token; may be repeated, and one that is repeated is a list. `[a][b]=v` is a claim in a claim; a
    /// value in brackets or braces is JSON.
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = key_value)]
    claims: Vec<(String, String)>,
}

pub fn run(arguments: &Arguments, out: &mut String) -> Result<Answer, Failure> {
    let mesh = arguments.mesh.combining(&arguments.combining);
    let workload = arguments.workload.workload(&mesh)?;
    let Some(resources) = super::valid_resources(&arguments.files)? else { return Ok(Answer::Bad) };
    let set = PolicySet { resources, workload, mesh };
    if let Some((resource, what)) = set.lacks_labels() {
        return Err(super::needs_labels(&resource.policy, what));
    }
    let request = arguments.request.read()?;
    let engine = set.engine();
    let explanation = Explanation::new(&set, &engine, &request.to_request());
    match arguments.format {
        Format::Human => human(&explanation, if arguments.all { usize::MAX } else { 10 }, out),
        Format::Json => *out = super::json(&Json::new(&explanation))?,
    }
    Ok(Answer::Good)
}

impl RequestOptions {
    /// The request, from a file and from the other options, which count more.
    fn read(&self) -> Result<RequestFields, Failure> {
        let mut fields = match &self.request {
            Some(file) => from_file(file)?,
            None => Vec::new(),
        };
        let text = |text: &String| Value::String(text.clone());
        let simple = [
            ("principal", self.principal.as_ref().map(text)),
            ("method", self.method.as_ref().map(text)),
            ("path", self.path.as_ref().map(text)),
            ("host", self.host.as_ref().map(text)),
            ("sourceIp", self.source_ip.as_ref().map(text)),
            ("remoteIp", self.remote_ip.as_ref().map(text)),
            ("destinationIp", self.destination_ip.as_ref().map(text)),
            ("destinationPort", self.port.map(|port| Value::Number(port.into()))),
            ("sni", self.sni.as_ref().map(text)),
        ];
        for (name, value) in simple {
            if let Some(value) = value {
                fields.retain(|(field, _)| field != name);
                fields.push((name.to_owned(), value.into()));
            }
        }
        for (name, value) in &self.headers {
            add(field(&mut fields, "headers")?, name, Value::String(value.clone()));
        }
        for (name, value) in &self.claims {
            let keys = claim_path(name)?;
            let (last, outer) = keys.split_last().ok_or("a claim needs a name")?;
            let innermost = outer.iter().try_fold(field(&mut fields, "jwt")?, |map, key| field(map, key))?;
            add(innermost, last, claim_value(name, value)?);
        }
        let mut diagnostics = Diagnostics::new();
        let request = RequestFields::read(&Value::Map(fields).into(), &mut diagnostics);
        match (request, diagnostics.into_found().first()) {
            (Some(request), None) => Ok(request),
            (_, error) => Err(format!("the request: {}", error.map(ToString::to_string).unwrap_or_default())),
        }
    }
}

type Fields = Vec<(String, Node)>;

/// The request in a file, whole, so that a mistake in it is said with its line.
fn from_file(file: &Path) -> Result<Fields, Failure> {
    let source = Arc::new(Source::read(file).map_err(|error| error.to_string())?);
    let mut documents = yaml::documents(&source.text).map_err(|error| input::not_yaml(&source, &error).to_string())?;
    let node = if documents.len() == 1 { documents.pop() } else { None };
    let node = node.ok_or_else(|| format!("{}: a request is one document", file.display()))?;
    let mut diagnostics = Diagnostics::new();
    RequestFields::read(&node, &mut diagnostics);
    let findings: Vec<_> = input::findings(&source, &node, diagnostics).map(|finding| finding.to_string()).collect();
    match node.value {
        Value::Map(fields) if findings.is_empty() => Ok(fields),
        _ => Err(findings.join("\n")),
    }
}

/// The map under this name, which is made if it is not there.
fn field<'f>(fields: &'f mut Fields, name: &str) -> Result<&'f mut Fields, Failure> {
    let at = fields.iter().position(|(field, _)| field == name).unwrap_or_else(|| {
        fields.push((name.to_owned(), Value::Map(Vec::new()).into()));
        fields.len().saturating_sub(1)
    });
    match fields.get_mut(at).map(|(_, node)| &mut node.value) {
        Some(Value::Map(inner)) => Ok(inner),
        _ => Err(format!("`{name}` cannot both be a value and have values in it")),
    }
}

/// Adds a value; where there is one already, both are a list.
fn add(fields: &mut Fields, name: &str, value: Value) {
    match fields.iter_mut().find(|(field, _)| field == name).map(|(_, node)| &mut node.value) {
        Some(Value::List(items)) => items.push(value.into()),
        Some(before) => {
            let first = std::mem::replace(before, Value::Null);
            *before = Value::List(vec![first.into(), value.into()]);
        }
        None => fields.push((name.to_owned(), value.into())),
    }
}

/// `a`, or `[a][b]` as policies have it.
fn claim_path(name: &str) -> Result<Vec<&str>, Failure> {
    let Some(inner) = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) else { return Ok(vec![name]) };
    let keys: Vec<&str> = inner.split("][").collect();
    if keys.iter().any(|key| key.is_empty()) { Err(format!("`{name}`: a claim needs a name")) } else { Ok(keys) }
}

fn claim_value(name: &str, value: &str) -> Result<Value, Failure> {
    if !value.starts_with(['[', '{']) {
        return Ok(Value::String(value.to_owned()));
    }
    let node = from_json(value.as_bytes()).map_err(|error| format!("claim {name}: `{value}` is not JSON: {error}"))?;
    Ok(node.value)
}

const BOLD: Style = Style::new().bold();

/// The explanation for people, with so many of the rules that do not match.
pub fn human(explanation: &Explanation<'_>, most: usize, out: &mut String) {
    let decision = &explanation.decision;
    let color = match decision.verdict {
        Verdict::Allow => AnsiColor::Green,
        Verdict::Deny => AnsiColor::BrightRed,
    };
    let style = color.on_default().bold();
    let _infallible = writeln!(out, "{style}{}{style:#}: {}", decision.verdict, decision.reason);
    details(explanation, most, out);
}

/// What can be said besides the decision and its reason.
pub fn details(explanation: &Explanation<'_>, most: usize, out: &mut String) {
    let decision = &explanation.decision;
    if let Some(attribute) = decision.unreadable {
        let _infallible = writeln!(out, "This rests on {attribute}, which the request does not say.");
    }
    if let Some(RuleReport { resource, span, .. }) = explanation.deciding() {
        let _infallible = writeln!(out, "  {}", snippet::place(&resource.source, *span));
        if let Some(span) = span {
            snippet::excerpt(&resource.source, *span, out);
        }
    }
    others(explanation, out);
    let missed: Vec<_> = explanation.missed().collect();
    if !missed.is_empty() {
        let _infallible = writeln!(out, "\n{BOLD}Rules that do not match, nearest miss first{BOLD:#}");
    }
    for (report, failed) in missed.iter().take(most) {
        miss(report, failed, out);
    }
    if let Some(more @ 1..) = missed.len().checked_sub(most) {
        let _infallible = writeln!(out, "\n  and {more} more: --all shows them");
    }
    for resource in &explanation.without_rules {
        let name = &resource.policy.name;
        let _infallible =
            writeln!(out, "\n{} {name} has no rules: it applies, and never matches", resource.policy.action);
    }
    for (resource, scope) in &explanation.elsewhere {
        let _infallible = writeln!(out, "\n{} {}: {scope}", resource.policy.action, resource.policy.name);
    }
}

/// What else matches, and what does not count.
fn others(explanation: &Explanation<'_>, out: &mut String) {
    let decision = &explanation.decision;
    let would_be = |name: &str, would_be: Option<WouldBe<'_>>, out: &mut String| {
        let Some(WouldBe { verdict, rule }) = would_be else { return };
        let why = rule.map_or_else(|| "no rule of theirs matches".to_owned(), matched);
        let _infallible =
            writeln!(out, "Dry run: the {name} policies that are tried out would {}: {why}", verb(verdict));
    };
    would_be("DENY", decision.dry_run.deny, out);
    would_be("ALLOW", decision.dry_run.allow, out);
    if let Some(rule) = decision.audited {
        let _infallible = writeln!(out, "AUDIT: {}", matched(rule));
    }
    let deciding = decision.reason.rule();
    let also = explanation.rules.iter().filter(|report| report.failed.is_none() && !report.dry_run);
    for RuleReport { rule, action, .. } in also.filter(|report| Some(report.rule) != deciding) {
        if Some(*rule) != decision.audited {
            let _infallible = writeln!(out, "Also matches, and does not decide: {action} {}", name(rule));
        }
    }
}

fn verb(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "allow",
        Verdict::Deny => "deny",
    }
}

fn matched(rule: &RuleId) -> String {
    format!("{} matches", name(rule))
}

fn name(rule: &RuleId) -> String {
    format!("rule {} of {}", rule.index, rule.policy)
}

fn miss(report: &RuleReport<'_>, failed: &Failed, out: &mut String) {
    let RuleReport { resource, rule, action, dry_run, .. } = report;
    let dry_run = if *dry_run { " (dry run)" } else { "" };
    let place = snippet::place(&resource.source, failed.span);
    let _infallible = writeln!(out, "\n  {BOLD}{action}{dry_run} {}{BOLD:#}  {place}", name(rule));
    let path = failed.path.to_string();
    let path = path.strip_prefix(&format!("spec.rules[{}].", rule.index)).unwrap_or(&path);
    // A condition's path does not say what it looks at.
    let attribute = if path.starts_with("when") { format!(" ({})", failed.attribute) } else { String::new() };
    let _infallible = writeln!(out, "    {path}{}", snippet::printable(&attribute));
    let wanted = if failed.is_not { "must not be" } else { "expected" };
    let _infallible = writeln!(out, "      {wanted:<12} {}", list(&failed.expected));
    let actual = match &failed.actual {
        Actual::Values(values) => list(values),
        Actual::Nothing(why) => (*why).to_owned(),
        Actual::Unreadable => "the request does not say, which counts against it".to_owned(),
    };
    let _infallible = writeln!(out, "      {:<12} {actual}", "actual");
    if let Some(hint) = &failed.hint {
        let _infallible = writeln!(out, "      {}", snippet::printable(hint));
    }
    match failed.further {
        0 => {}
        1 => out.push_str("      one more condition fails\n"),
        further => {
            let _infallible = writeln!(out, "      {further} more conditions fail");
        }
    }
}

/// Values in quotes, the first few of them.
fn list(values: &[String]) -> String {
    const MOST: usize = 8;
    let mut shown: Vec<_> = values.iter().take(MOST).map(|value| format!("{value:?}")).collect();
    if let Some(more @ 1..) = values.len().checked_sub(MOST) {
        shown.push(format!("and {more} more"));
    }
    shown.join(", ")
}

/// The explanation as JSON has it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Json<'e> {
    decision: String,
    reason: String,
    rule: Option<JsonRule<'e>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unreadable: Option<&'e str>,
    dry_run: JsonDryRun,
    audited: Option<String>,
    rules: Vec<JsonRule<'e>>,
    not_applying: Vec<JsonElsewhere>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JsonRule<'e> {
    policy: String,
    rule: usize,
    action: String,
    dry_run: bool,
    matched: bool,
    file: String,
    line: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<JsonFailed<'e>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JsonFailed<'e> {
    path: String,
    attribute: &'e str,
    line: Option<u32>,
    must_not_match: bool,
    expected: &'e [String],
    actual: Option<&'e [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why_nothing: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'e str>,
    further: usize,
}

#[derive(Serialize)]
struct JsonDryRun {
    deny: Option<JsonWouldBe>,
    allow: Option<JsonWouldBe>,
}

#[derive(Serialize)]
struct JsonWouldBe {
    decision: String,
    rule: Option<String>,
}

#[derive(Serialize)]
struct JsonElsewhere {
    policy: String,
    reason: String,
}

impl<'e> Json<'e> {
    pub fn new(explanation: &'e Explanation<'_>) -> Self {
        let decision = &explanation.decision;
        let would_be = |would_be: WouldBe<'_>| JsonWouldBe {
            decision: would_be.verdict.to_string(),
            rule: would_be.rule.map(ToString::to_string),
        };
        let elsewhere = explanation.elsewhere.iter().map(|(resource, scope)| JsonElsewhere {
            policy: resource.policy.name.to_string(),
            reason: scope.to_string(),
        });
        Self {
            decision: decision.verdict.to_string(),
            reason: decision.reason.to_string(),
            rule: explanation.deciding().map(JsonRule::new),
            unreadable: decision.unreadable,
            dry_run: JsonDryRun {
                deny: decision.dry_run.deny.map(would_be),
                allow: decision.dry_run.allow.map(would_be),
            },
            audited: decision.audited.map(ToString::to_string),
            rules: explanation.rules.iter().map(JsonRule::new).collect(),
            not_applying: elsewhere.collect(),
        }
    }
}

impl<'e> JsonRule<'e> {
    fn new(report: &'e RuleReport<'_>) -> Self {
        let failed = report.failed.as_ref().map(|failed| JsonFailed {
            path: failed.path.to_string(),
            attribute: &failed.attribute,
            line: failed.span.map(|span| span.start.line),
            must_not_match: failed.is_not,
            expected: &failed.expected,
            actual: match &failed.actual {
                Actual::Values(values) => Some(values),
                Actual::Nothing(_) | Actual::Unreadable => None,
            },
            why_nothing: match &failed.actual {
                Actual::Values(_) => None,
                Actual::Nothing(why) => Some(why),
                Actual::Unreadable => Some("unreadable"),
            },
            hint: failed.hint.as_deref(),
            further: failed.further,
        });
        Self {
            policy: report.rule.policy.to_string(),
            rule: report.rule.index,
            action: report.action.to_string(),
            dry_run: report.dry_run,
            matched: report.failed.is_none(),
            file: report.resource.source.file.display().to_string(),
            line: report.span.map(|span| span.start.line),
            failed,
        }
    }
}
