//! The result of a comparison, for people, for programs and for pull requests.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;

use anstyle::{AnsiColor, Style};
use mesh_authz::analysis::Example;
use mesh_authz::config::{COMBINING, Mesh};
use mesh_authz::policy::{PolicyName, Traffic};
use serde_json::{Map, Value, json};

use super::super::Failure;
use super::super::snippet::printable;
use super::{Change, Difference, Direction, Outcome};
use crate::render::yaml;
use crate::witness::{request_as_json, workload_as_json};

const BOLD: Style = Style::new().bold();

/// The rule or the policy, and what was done with it.
fn title(change: &Change, changes: &[Change]) -> String {
    let is_counterpart = |other: &&Change| {
        other.is_added != change.is_added && (&other.policy, other.rule) == (&change.policy, change.rule)
    };
    let what = match (changes.iter().find(is_counterpart), change.is_added) {
        (Some(_), _) => "changed",
        (None, true) => "added",
        (None, false) => "removed",
    };
    format!("{} ({what})", name(change))
}

fn name(Change { action, policy, rule, .. }: &Change) -> String {
    match rule {
        Some(rule) => format!("{action} rule {rule} of {policy}"),
        None => format!("{action} policy {policy}"),
    }
}

/// What happens to the requests.
fn headline(change: &Change, traffic: Traffic) -> String {
    let things = things(traffic);
    match (change.direction, &change.provider) {
        (Direction::Gained, None) => format!("{things} that were denied are allowed"),
        (Direction::Lost, None) => format!("{things} that were allowed are denied"),
        (Direction::Gained, Some(provider)) => format!("`{provider}` is no longer asked about {things}"),
        (Direction::Lost, Some(provider)) => format!("`{provider}` is asked about {things} that were allowed"),
    }
}

fn things(traffic: Traffic) -> &'static str {
    match traffic {
        Traffic::Http => "requests",
        Traffic::Tcp => "connections",
    }
}

fn of(changes: &[Change], direction: Direction) -> impl Iterator<Item = (&Change, &Difference)> {
    changes.iter().filter(move |change| change.direction == direction).filter_map(|change| match &change.result {
        Outcome::Difference(difference) => Some((change, &**difference)),
        Outcome::Nothing(_) | Outcome::Undecided => None,
    })
}

/// The changes of policies that make no difference, each with the reason.
fn nothing(changes: &[Change]) -> Vec<(String, &str)> {
    let differs = |policy: &PolicyName| {
        changes.iter().any(|change| change.policy == *policy && !matches!(change.result, Outcome::Nothing(_)))
    };
    let mut found: Vec<(String, &str)> = Vec::new();
    for change in changes.iter().filter(|change| !differs(&change.policy)) {
        let has_rules = || changes.iter().any(|other| other.policy == change.policy && other.rule.is_some());
        let Outcome::Nothing(why) = &change.result else { continue };
        let title = title(change, changes);
        if (change.rule.is_some() || !has_rules()) && !found.iter().any(|(known, _)| *known == title) {
            found.push((title, why));
        }
    }
    found
}

/// The changes about which nothing is known.
fn undecided(changes: &[Change]) -> Vec<String> {
    let undecided = changes.iter().filter(|change| matches!(change.result, Outcome::Undecided));
    undecided.map(|change| title(change, changes)).collect()
}

/// The sentence that says how much there is.
fn summary(changes: &[Change], traffic: Traffic) -> String {
    let undecided = undecided(changes);
    let (gained, lost) = (of(changes, Direction::Gained).count(), of(changes, Direction::Lost).count());
    let thing = if traffic == Traffic::Http { "request" } else { "connection" };
    let counted = |count: usize, what: &str| match count {
        0 => format!("nobody {what} access"),
        1 => format!("1 change {what} access"),
        _ => format!("{count} changes {what} access"),
    };
    match (gained, lost, undecided.len()) {
        (0, 0, 0) => format!("no {thing} is decided otherwise"),
        (_, _, 0) => format!("{}, {}", counted(gained, "gains"), counted(lost, "loses"))
            .replace("changes gains", "changes gain")
            .replace("changes loses", "changes lose"),
        (_, _, count) => format!("{gained} gain access, {lost} lose access, and {count} are undecided"),
    }
}

pub(super) fn human(changes: &[Change], traffic: Traffic, out: &mut String) {
    let kinds = [
        (Direction::Gained, "GAINED", AnsiColor::Green.on_default().bold()),
        (Direction::Lost, "LOST", AnsiColor::BrightRed.on_default().bold()),
    ];
    for (direction, word, style) in kinds {
        for (change, difference) in of(changes, direction) {
            let _infallible = writeln!(out, "{style}{word}{style:#}: {}", printable(&headline(change, traffic)));
            let _infallible = writeln!(out, "  {BOLD}{}{BOLD:#}  {}", printable(&title(change, changes)), change.place);
            let _infallible = writeln!(out, "  {}: {}", things(traffic), printable(&difference.requests));
            let _infallible = writeln!(out, "  workloads: {}", printable(&difference.workloads));
            if let Some(odd) = odd(difference, traffic) {
                let _infallible = writeln!(out, "  {odd}");
            }
            let _infallible = writeln!(out, "  for example:");
            for line in example(difference).lines() {
                let _infallible = writeln!(out, "    {}", printable(line));
            }
            let _infallible = writeln!(out, "  before: {}", printable(&difference.before));
            let _infallible = writeln!(out, "  after:  {}\n", printable(&difference.after));
        }
    }
    for title in undecided(changes) {
        let _infallible = writeln!(out, "UNDECIDED: {}: to find out would take too long\n", printable(&title));
    }
    let _infallible = writeln!(out, "{}", summary(changes, traffic));
    for (title, why) in nothing(changes) {
        let _infallible = writeln!(out, "  {} changes nothing: {}", printable(&title), printable(why));
    }
}

/// Says that only odd requests show the difference, if that is so.
fn odd(Difference { example, can_be_sent, .. }: &Difference, traffic: Traffic) -> Option<String> {
    let things = things(traffic);
    if !can_be_sent {
        return Some(format!(
            "only for {things} that Envoy changes or refuses before the policies decide, as far as its settings are known"
        ));
    }
    (!example.is_expected).then(|| format!("only for {things} that hardly anybody sends"))
}

/// The workload and the request of a difference, as a test file has them.
fn example(difference: &Difference) -> String {
    let mut fields = workload_as_json(&difference.example.workload);
    fields.insert("request".to_owned(), request_as_json(&difference.fields));
    yaml::to_string(&Value::from(fields)).unwrap_or_default()
}

pub(super) fn json(changes: &[Change]) -> Value {
    let difference = |(change, difference): (&Change, &Difference)| {
        let mut object = Map::new();
        object.insert("change".to_owned(), json!(if change.is_added { "added" } else { "removed" }));
        object.insert("name".to_owned(), json!(name(change)));
        object.insert("action".to_owned(), json!(change.action.to_string()));
        object.insert("place".to_owned(), json!(change.place));
        object.extend(change.provider.iter().map(|provider| ("provider".to_owned(), json!(provider))));
        object.insert("requests".to_owned(), json!(difference.requests));
        object.insert("workloads".to_owned(), json!(difference.workloads));
        object.insert("isExpected".to_owned(), json!(difference.example.is_expected));
        object.insert("canBeSent".to_owned(), json!(difference.can_be_sent));
        let mut example = workload_as_json(&difference.example.workload);
        example.insert("request".to_owned(), request_as_json(&difference.fields));
        object.insert("example".to_owned(), example.into());
        object.insert("before".to_owned(), json!(difference.before));
        object.insert("after".to_owned(), json!(difference.after));
        Value::from(object)
    };
    json!({
        "gained": of(changes, Direction::Gained).map(difference).collect::<Vec<_>>(),
        "lost": of(changes, Direction::Lost).map(difference).collect::<Vec<_>>(),
        "unchanged": nothing(changes).iter().map(|(name, why)| json!({ "name": name, "reason": why })).collect::<Vec<_>>(),
        "undecided": undecided(changes),
    })
}

pub(super) fn markdown(changes: &[Change], traffic: Traffic, out: &mut String) {
    let _infallible = writeln!(out, "### Access: {}\n", summary(changes, traffic));
    for (direction, word) in [(Direction::Gained, "Gained"), (Direction::Lost, "Lost")] {
        for (change, difference) in of(changes, direction) {
            let _infallible = writeln!(out, "**{word}**: {}\n", escaped(&headline(change, traffic)));
            let _infallible = writeln!(out, "- {}, {}", escaped(&title(change, changes)), escaped(&change.place));
            let _infallible = writeln!(out, "- {}: {}", things(traffic), escaped(&difference.requests));
            let _infallible = writeln!(out, "- workloads: {}", escaped(&difference.workloads));
            let _infallible = writeln!(out, "- before: {}", escaped(&difference.before));
            let _infallible = writeln!(out, "- after: {}", escaped(&difference.after));
            if let Some(odd) = odd(difference, traffic) {
                let _infallible = writeln!(out, "- {}", escaped(&odd));
            }
            let _infallible = writeln!(out, "\n<details><summary>Example</summary>\n\n```yaml");
            let _infallible = write!(out, "{}", example(difference).replace("```", "` ` `"));
            let _infallible = writeln!(out, "```\n\n</details>\n");
        }
    }
    for title in undecided(changes) {
        let _infallible = writeln!(out, "- **Undecided**: {}: to find out would take too long", escaped(&title));
    }
    for (title, why) in nothing(changes) {
        let _infallible = writeln!(out, "- {} changes nothing: {}", escaped(&title), escaped(why));
    }
}

/// A text that Markdown shows as it is.
pub(in crate::command) fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for character in printable(text).chars() {
        match character {
            '<' => escaped.push_str("&lt;"),
            '&' => escaped.push_str("&amp;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '@' | '~' => escaped.extend(['\\', character]),
            other => escaped.push(other),
        }
    }
    escaped
}

/// Writes the examples as test files of the new policies: one for each workload.
pub(super) fn write_witnesses(file: &Path, policies: &Path, changes: &[Change], mesh: &Mesh) -> Result<(), Failure> {
    let mut groups: Vec<(Map<String, Value>, Vec<Value>)> = Vec::new();
    let mut counts = HashMap::new();
    for (change, difference) in of(changes, Direction::Gained).chain(of(changes, Direction::Lost)) {
        let Difference { example, fields, expect: (verdict, policy), .. } = difference;
        let Example { workload, .. } = example;
        let name = title(change, changes);
        let count = counts.entry(name.clone()).or_insert(0_usize);
        *count = count.saturating_add(1);
        let test = json!({
            "name": if *count > 1 { format!("{name}, {count}") } else { name },
            "request": request_as_json(fields),
            "expect": { "decision": verdict.to_string(), "policy": policy },
        });
        let workload = workload_as_json(workload);
        match groups.iter_mut().find(|(known, _)| *known == workload) {
            Some((_, tests)) => tests.push(test),
            None => groups.push((workload, vec![test])),
        }
    }
    let folder = file.parent().unwrap_or(Path::new(""));
    let path = std::path::absolute(policies).unwrap_or_else(|_| policies.to_owned());
    let path = match path.strip_prefix(std::path::absolute(folder).unwrap_or_default()) {
        Ok(inside) if inside == Path::new("") => Path::new(".").to_owned(),
        Ok(inside) => inside.to_owned(),
        Err(_) => path,
    };
    let several = groups.len() > 1;
    for (number, (workload, tests)) in groups.into_iter().enumerate() {
        let mut fields = workload;
        fields.insert("policies".to_owned(), json!([path]));
        fields.insert("allowNoneApplies".to_owned(), json!(true));
        fields.insert("mesh".to_owned(), mesh_as_json(mesh));
        fields.insert("tests".to_owned(), json!(tests));
        let text = yaml::to_string(&Value::from(fields)).map_err(Failure::unusable)?;
        let name = if several { numbered(file, number) } else { file.to_owned() };
        std::fs::write(&name, text).map_err(|error| Failure::Unusable(format!("{}: {error}", name.display())))?;
    }
    Ok(())
}

/// `tests-1.yaml` for `tests.yaml`: a test file is about one workload.
fn numbered(file: &Path, number: usize) -> std::path::PathBuf {
    let part =
        |part: Option<&std::ffi::OsStr>| part.map(|part| part.to_string_lossy().into_owned()).unwrap_or_default();
    let (stem, extension) = (part(file.file_stem()), part(file.extension()));
    let number = number.saturating_add(1);
    file.with_file_name(if extension.is_empty() {
        format!("{stem}-{number}")
    } else {
        format!("{stem}-{number}.{extension}")
    })
}

fn mesh_as_json(mesh: &Mesh) -> Value {
    let combining = COMBINING.iter().find(|(_, known)| *known == mesh.combining).map(|(name, _)| *name);
    let mut fields = Map::from_iter([
        ("trustDomain".to_owned(), json!(mesh.trust_domain)),
        ("rootNamespace".to_owned(), json!(mesh.root_namespace)),
        ("combining".to_owned(), json!(combining)),
    ]);
    if !mesh.aliases.is_empty() {
        fields.insert("trustDomainAliases".to_owned(), json!(mesh.aliases));
    }
    if mesh.several_providers {
        fields.insert("severalProviders".to_owned(), json!(true));
    }
    fields.into()
}
