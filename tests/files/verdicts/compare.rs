//! Compares what the command makes of a file with what a cluster makes of it.

use std::{path::PathBuf, sync::Arc};

use mesh_authz::document::{Node, Value};
use mesh_authz_cli::load::{
    Other, Resources,
    finding::{Finding, SourceText},
    yaml,
};
use serde_json::Value as Json;

use super::{
    Object, Verdict,
    differences::{ANOTHER_KIND, STRICTER, TWICE, UNKNOWN},
    typed,
};

/// The kinds that the command checks. It takes all others as they are.
const CHECKED: [&str; 3] = ["AuthorizationPolicy", "RequestAuthentication", "PeerAuthentication"];

/// Names for what was seen: of verdicts, and of differences that are meant.
pub type Seen = Vec<&'static str>;

/// The command's verdict.
pub fn read(text: &str) -> Resources {
    Resources::of(&Arc::new(SourceText::new(PathBuf::from("file.yaml"), text.to_owned())))
}

/// Compares the two verdicts of a file.
///
/// # Errors
/// They differ, and are not meant to: how.
pub fn compare(text: &str, verdict: &Verdict) -> Result<Seen, String> {
    let resources = read(text);
    let findings = &resources.findings;
    let mut seen = Seen::new();
    if let Some(error) = &verdict.error {
        if !findings.is_empty() || has_no_resource(&resources) {
            seen.push("refused by both");
        } else {
            let is_other = |other: &Other| !CHECKED.contains(&other.text("kind"));
            let reason = unknown(error).or_else(|| resources.others.iter().any(is_other).then_some(ANOTHER_KIND));
            seen.push(reason.ok_or_else(|| format!("only the cluster refuses the file: {error}"))?);
        }
        return Ok(seen);
    }
    // Which of two values counts is not clear, so all further findings may be about the one that does not.
    if findings.iter().any(|finding| stricter(finding) == Some(TWICE)) || has_no_number_twice(text, findings) {
        seen.push(TWICE);
        return Ok(seen);
    }
    let is_refused =
        |name: &str| verdict.objects.iter().any(|object| object.full_name() == name && object.result.is_err());
    // A finding about an object that the cluster takes.
    for finding in findings {
        let is_about_refused = match &finding.diagnostic.policy {
            Some(name) => is_refused(name),
            None => !verdict.is_taken(),
        };
        if !is_about_refused {
            seen.push(stricter(finding).ok_or_else(|| format!("only the command refuses this: {finding}"))?);
        }
    }
    for (at, object) in verdict.objects.iter().enumerate() {
        let name = object.full_name();
        let is_found =
            findings.iter().any(|finding| finding.diagnostic.policy.as_ref().is_none_or(|found| *found == name));
        match &object.result {
            Err(_) if is_found => seen.push("refused by both"),
            Err(error) => {
                let is_checked = CHECKED.contains(&object.kind.as_str());
                let reason = if is_checked { unknown(error) } else { Some(ANOTHER_KIND) };
                seen.push(reason.ok_or_else(|| format!("only the cluster refuses {} {name}: {error}", object.kind))?);
            }
            Ok(_) if is_found => seen.push("taken by the cluster"),
            Ok(kept) => {
                let is_same = |other: &&Object| other.kind == object.kind && other.full_name() == name;
                same_values(&resources, object, kept, verdict.objects[..at].iter().filter(is_same).count())?;
                seen.push("taken by both");
            }
        }
    }
    let count = resources.policies.len() + resources.request_authentications.len() + resources.others.len();
    if findings.is_empty() && count != verdict.objects.len() {
        return Err(format!("the command sees {count} objects, the cluster {}", verdict.objects.len()));
    }
    Ok(seen)
}

/// Whether the file has a number that JSON does not have as the first value of a key that is there twice. The cluster
/// does not see it.
fn has_no_number_twice(text: &str, findings: &[Finding]) -> bool {
    fn has_twin(node: &Node) -> bool {
        match &node.value {
            Value::Map(entries) => {
                let mut keys: Vec<_> = entries.iter().map(|(key, _)| key).collect();
                keys.sort();
                keys.windows(2).any(|pair| pair[0] == pair[1]) || entries.iter().any(|(_, value)| has_twin(value))
            }
            Value::List(items) => items.iter().any(has_twin),
            _ => false,
        }
    }
    let is_no_number = |finding: &Finding| finding.diagnostic.message.contains("Kubernetes has no such number");
    let numbers = [".inf", ".Inf", ".INF", ".nan", ".NaN", ".NAN"];
    let with_numbers = || numbers.iter().fold(text.to_owned(), |text, number| text.replace(number, "0"));
    findings.iter().any(is_no_number) && yaml::read(&with_numbers()).0.iter().any(has_twin)
}

/// Whether the command has nothing to check.
fn has_no_resource(resources: &Resources) -> bool {
    let is_resource = |other: &Other| !other.text("kind").is_empty() && !other.text("apiVersion").is_empty();
    resources.policies.is_empty()
        && resources.request_authentications.is_empty()
        && !resources.others.iter().any(is_resource)
}

fn stricter(finding: &Finding) -> Option<&'static str> {
    let said = finding.to_string();
    let is_it = |message: &&str| said.contains(*message);
    STRICTER.iter().find(|reason| reason.messages.iter().any(is_it)).map(|reason| reason.name)
}

fn unknown(error: &str) -> Option<&'static str> {
    UNKNOWN.iter().find(|reason| reason.errors.iter().any(|message| error.contains(message))).map(|reason| reason.name)
}

/// Compares what the command has read with what the cluster keeps. The file has so many objects with this name before it.
fn same_values(resources: &Resources, object: &Object, kept: &Json, before: usize) -> Result<(), String> {
    let nodes: Vec<&Node> = match object.kind.as_str() {
        "AuthorizationPolicy" => resources
            .policies
            .iter()
            .map(|found| &found.node)
            .chain(resources.others.iter().map(|other| &other.node))
            .collect(),
        "RequestAuthentication" => resources.request_authentications.iter().map(|found| &found.node).collect(),
        _ => resources.others.iter().map(|other| &other.node).collect(),
    };
    let text = |node: &Node, field: &str| {
        node.get("metadata").and_then(|m| m.get(field)?.as_str()).unwrap_or_default().to_owned()
    };
    let is_it = |node: &&&Node| {
        let namespace =
            Some(text(node, "namespace")).filter(|namespace| !namespace.is_empty()).unwrap_or("default".to_owned());
        let is_kind = node.get("kind").and_then(Node::as_str) == Some(&object.kind);
        is_kind && text(node, "name") == object.name && (object.namespace.is_empty() || namespace == object.namespace)
    };
    if !nodes.iter().any(|node| is_it(&node)) && !CHECKED.contains(&object.kind.as_str()) {
        // Its name is there twice, or no text.
        return Ok(());
    }
    let Some(node) = nodes.iter().filter(is_it).nth(before) else {
        return Err(format!("the command has no {} {}", object.kind, object.full_name()));
    };
    let node = plain(&serde_json::to_value(node).unwrap());
    for field in ["labels", "annotations"] {
        let (ours, mut theirs) = (plain(&node["metadata"][field]), kept["metadata"][field].clone());
        if object.kind == "Namespace" && field == "labels" {
            theirs.as_object_mut().map(|labels| labels.remove("kubernetes.io/metadata.name"));
        }
        let is_checked = CHECKED.contains(&object.kind.as_str());
        if is_checked && or_empty(&ours) != or_empty(&theirs) || !is_checked && !is_part(&ours, &theirs) {
            return differ(object, field, &ours, &theirs);
        }
    }
    if CHECKED.contains(&object.kind.as_str()) {
        let (ours, theirs) = (or_empty(&node["spec"]), or_empty(&plain(&kept["spec"])));
        if ours != theirs {
            return differ(object, "spec", &ours, &theirs);
        }
    } else {
        for field in ["spec", "data"] {
            let (ours, theirs) = (&node[field], plain(&kept[field]));
            if !is_part(ours, &theirs) {
                return differ(object, field, ours, &theirs);
            }
        }
    }
    understood(resources, object, kept)
}

/// Compares what the command has understood with what the cluster keeps.
fn understood(resources: &Resources, object: &Object, kept: &Json) -> Result<(), String> {
    let name = object.full_name();
    let label = kept["metadata"]["labels"]["istio.io/rev"].as_str();
    let (understood, revision) = match object.kind.as_str() {
        "AuthorizationPolicy" => {
            let Some(found) = resources.policies.iter().find(|found| found.policy.name.to_string() == name) else {
                return Ok(());
            };
            let annotation = kept["metadata"]["annotations"]["istio.io/dry-run"].as_str();
            if found.policy.dry_run != annotation.is_some_and(|value| value.starts_with(['1', 't', 'T'])) {
                return Err(format!("{name}: dry run is {}, the annotation {annotation:?}", found.policy.dry_run));
            }
            (typed::policy(&found.policy), &found.policy.revision)
        }
        "RequestAuthentication" => {
            let mut all = resources.request_authentications.iter().map(|found| &found.authentication);
            let found = all.find(|found| found.name.to_string() == name).unwrap();
            (typed::authentication(found), &found.revision)
        }
        _ => return Ok(()),
    };
    if revision.as_deref() != label {
        return Err(format!("{name}: the revision is {revision:?}, the label {label:?}"));
    }
    let theirs = typed::plain(&kept["spec"]);
    if understood != theirs {
        return differ(object, "meaning", &understood, &theirs);
    }
    Ok(())
}

fn differ(object: &Object, what: &str, ours: &Json, theirs: &Json) -> Result<(), String> {
    let name = object.full_name();
    Err(format!("{} has another {what} than in the cluster: {ours}, and {theirs}, in {name}", object.kind))
}

fn or_empty(spec: &Json) -> Json {
    if spec.is_null() { Json::Object(serde_json::Map::new()) } else { spec.clone() }
}

/// With numbers as JSON has them, and without null, which the API server drops.
fn plain(value: &Json) -> Json {
    match value {
        Json::Number(number) => number.as_f64().map_or(Json::Null, Json::from),
        Json::Array(items) => items.iter().map(plain).collect(),
        Json::Object(fields) => fields
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key.clone(), plain(value)))
            .collect(),
        other => other.clone(),
    }
}

/// Whether everything in `part` is in `whole`. The API server adds defaults.
fn is_part(part: &Json, whole: &Json) -> bool {
    match (part, whole) {
        (Json::Object(part), Json::Object(whole)) => {
            part.iter().all(|(key, value)| is_part(value, whole.get(key).unwrap_or(&Json::Null)))
        }
        (Json::Array(part), Json::Array(whole)) => {
            part.len() == whole.len() && part.iter().zip(whole).all(|(part, whole)| is_part(part, whole))
        }
        // The API server puts a default in place of nothing.
        (Json::Null, _) => true,
        (Json::String(text), _) if text.is_empty() => true,
        (part, whole) => {
            part == whole
                || matches!(part, Json::Array(items) if items.is_empty())
                || part == &Json::Object(serde_json::Map::new())
        }
    }
}
