//! Single mistakes in policies that have every field: in a letter of a name, in a condition's key, in a value from a
//! fixed set, in the type of a value, in the indentation of a line. Each is an error, and the error points at the
//! mistake.

use std::path::PathBuf;
use std::sync::Arc;

use mesh_authz::document::{Node, Value};
use mesh_authz_cli::lint;
use mesh_authz_cli::load::Resources;
use mesh_authz_cli::load::finding::{Finding, SourceText};
use mesh_authz_cli::load::yaml;

/// A policy with every field. Each line has one field, where YAML allows this.
const EVERYTHING: &str = r#"apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: every-field
  namespace: shop
  annotations:
    istio.io/dry-run: "true"
spec:
  selector:
    matchLabels:
      app: cart
  action: DENY
  rules:
  - from:
    - source:
        principals: ["cluster.local/ns/shop/sa/web"]
        notPrincipals: ["cluster.local/ns/shop/sa/old"]
        requestPrincipals:
        - "https://issuer.example/*"
        notRequestPrincipals:
        - "https://issuer.example/mallory"
        namespaces: ["shop"]
        notNamespaces: ["dev"]
        trustDomains: ["cluster.local"]
        notTrustDomains: ["old.example"]
        ipBlocks: ["10.0.0.0/8"]
        notIpBlocks: ["10.1.0.0/16"]
        remoteIpBlocks: ["203.0.113.0/24"]
        notRemoteIpBlocks: ["203.0.113.7"]
    - source:
        serviceAccounts: ["shop/web"]
        notServiceAccounts: ["shop/old"]
    to:
    - operation:
        hosts: ["shop.example.com"]
        notHosts: ["old.example.com"]
        ports: ["8080"]
        notPorts: ["9090"]
        methods: ["GET"]
        notMethods: ["PUT"]
        paths: ["/api/{*}"]
        notPaths:
        - "/api/private"
    when:
    - key: source.ip
      values: ["10.0.0.0/8"]
    - key: remote.ip
      notValues: ["203.0.113.7"]
    - key: source.namespace
      values: ["shop"]
    - key: source.serviceAccount
      values: ["shop/web"]
    - key: source.principal
      values: ["cluster.local/ns/shop/sa/web"]
    - key: source.trustDomain
      values: ["cluster.local"]
    - key: request.auth.principal
      values: ["https://issuer.example/alice"]
    - key: request.auth.audiences
      values: ["shop"]
    - key: request.auth.presenter
      values: ["web"]
    - key: request.auth.claims[groups][inner]
      values: ["admin"]
    - key: request.headers[x-token]
      values: ["secret"]
      notValues: ["public"]
    - key: destination.ip
      values: ["10.0.0.8"]
    - key: destination.port
      values: ["8080"]
    - key: connection.sni
      values: ["shop.example.com"]
    - key: experimental.envoy.filters.http.x[k]
      values: ["v"]
"#;

/// Fields that [`EVERYTHING`] cannot have: target references and a provider.
const OTHERS: &str = r#"apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: gateway
spec:
  targetRefs:
  - kind: Gateway
    group: gateway.networking.k8s.io
    name: edge
  action: CUSTOM
  provider:
    name: opa
  rules:
  - to:
    - operation:
        paths: ["/api/*"]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: one-gateway
spec:
  targetRef:
    kind: Service
    name: cart
"#;

/// The errors in a text. Labels and annotations can have any name, so a mistake in them leaves a valid policy. For
/// them, the result includes the findings of two lints.
fn errors(text: &str) -> Vec<Finding> {
    let mut resources = Resources::of(&Arc::new(SourceText::new(PathBuf::from("p.yaml"), text.to_owned())));
    let mut lints = lint::lint(&resources, &lint::LintContext::default());
    lints.retain(|finding| matches!(finding.code, Some("MA028" | "MA029")));
    resources.findings.append(&mut lints);
    resources.findings
}

/// The text with one line replaced. Lines are counted from 0.
fn with_line(text: &str, number: usize, line: &str) -> String {
    let lines = text.lines().enumerate().map(|(n, old)| if n == number { line } else { old });
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

/// The parts of a line: indentation and dashes, key, text after the colon.
fn parts(line: &str) -> Option<(&str, &str, &str)> {
    let key = line.trim_start_matches([' ', '-']);
    let (name, rest) = key.split_once(':')?;
    name.bytes().all(|b| b.is_ascii_alphanumeric()).then(|| (&line[..line.len() - key.len()], name, rest))
}

/// Variants of a word, each with one mistake.
fn typos(word: &str) -> Vec<String> {
    let letters: Vec<char> = word.chars().collect();
    let mut typos = Vec::new();
    for at in 0..letters.len() {
        let mut without = letters.clone();
        without.remove(at);
        let mut twice = letters.clone();
        twice.insert(at, letters[at]);
        let mut other = letters.clone();
        other[at] = if letters[at] == 'x' { 'q' } else { 'x' };
        let mut cased = letters.clone();
        cased[at] = if letters[at].is_uppercase() {
            letters[at].to_ascii_lowercase()
        } else {
            letters[at].to_ascii_uppercase()
        };
        typos.extend([without, twice, other, cased].map(|letters| letters.into_iter().collect::<String>()));
        if at > 0 {
            let mut swapped = letters.clone();
            swapped.swap(at - 1, at);
            typos.push(swapped.into_iter().collect());
        }
    }
    typos.push(format!("{word}s"));
    typos.retain(|typo| typo != word && !typo.is_empty());
    typos
}

fn line(finding: &Finding) -> usize {
    finding.span.unwrap().start.line as usize - 1
}

fn lines_of(text: &'static str) -> impl Iterator<Item = (usize, &'static str)> {
    text.lines().enumerate()
}

#[test]
fn the_policies_are_valid() {
    for text in [EVERYTHING, OTHERS] {
        assert!(errors(text).is_empty(), "{:?}", errors(text).iter().map(ToString::to_string).collect::<Vec<_>>());
    }
}

#[test]
fn every_mistyped_field_is_pointed_at_with_the_name_that_was_meant() {
    let mut tried = 0;
    for text in [EVERYTHING, OTHERS] {
        for (number, old) in lines_of(text) {
            let Some((before, name, rest)) = parts(old) else { continue };
            let is_label = name == "app";
            for typo in typos(name).into_iter().filter(|_| !is_label) {
                let mistaken = with_line(text, number, &format!("{before}{typo}:{rest}"));
                let errors = errors(&mistaken);
                let wanted = format!("unknown field, did you mean {name}?");
                let points = errors.iter().any(|error| {
                    let span = error.span.unwrap();
                    line(error) == number
                        && span.start.column as usize - 1 == before.len()
                        && span.end.column == span.start.column + u32::try_from(typo.len()).unwrap()
                        && error.diagnostic.message == wanted
                });
                // `targetRef` and `targetRefs` differ in one letter only, so a typo may be the other field.
                let is_other = name.starts_with("targetRef");
                assert!(
                    points || is_other,
                    "{typo} for {name}: {:?}",
                    errors.iter().map(ToString::to_string).collect::<Vec<_>>()
                );
                assert!(!errors.is_empty(), "{typo} for {name}");
                tried += 1;
            }
        }
    }
    assert!(tried > 2_500, "{tried}");
}

#[test]
fn the_mistyped_annotation_is_pointed_at() {
    for (number, old) in lines_of(EVERYTHING).filter(|(_, line)| line.contains("istio.io/dry-run")) {
        for typo in typos("istio.io/dry-run") {
            let errors = errors(&with_line(EVERYTHING, number, &old.replace("istio.io/dry-run", &typo)));
            assert!(errors.iter().any(|error| line(error) == number), "{typo}");
        }
        for typo in typos("true") {
            let errors = errors(&with_line(EVERYTHING, number, &old.replace("true", &typo)));
            assert!(errors.iter().any(|error| line(error) == number) || typo == "True", "{typo}");
        }
    }
}

#[test]
fn every_mistyped_key_of_a_condition_is_pointed_at() {
    let mut tried = 0;
    for (number, old) in lines_of(EVERYTHING) {
        let Some((before, "key", rest)) = parts(old) else { continue };
        let key = rest.trim();
        let stem = key.split('[').next().unwrap();
        for typo in typos(stem) {
            let mistaken = with_line(EVERYTHING, number, &format!("{before}key: {typo}{}", &key[stem.len()..]));
            let errors = errors(&mistaken);
            let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
            // The name of a filter can be anything.
            if typo.starts_with("experimental.envoy.filters.") && typo.len() > 27 {
                continue;
            }
            assert!(errors.iter().any(|error| line(error) == number), "{typo} for {key}: {lines:?}");
            let hints: Vec<_> = errors.iter().filter_map(|error| error.diagnostic.hint.as_deref()).collect();
            let known = stem.strip_suffix(".http.x").unwrap_or(stem);
            assert!(hints.iter().any(|hint| hint.contains(known)), "{typo} for {key}: {lines:?}");
            tried += 1;
        }
    }
    assert!(tried > 700, "{tried}");
}

#[test]
fn every_bracket_of_a_key_is_needed() {
    for (number, old) in lines_of(EVERYTHING) {
        let Some((before, "key", rest)) = parts(old) else { continue };
        let key = rest.trim();
        // In nested claims, an inner bracket may be missing. As in Istio, the rest is then a name that contains
        // brackets.
        let brackets: Vec<usize> = match key {
            "request.auth.claims[groups][inner]" => vec![19, key.len() - 1],
            _ => key.char_indices().filter(|(_, c)| matches!(c, '[' | ']')).map(|(at, _)| at).collect(),
        };
        for at in brackets {
            let mut without = key.to_owned();
            without.remove(at);
            let mistaken = with_line(EVERYTHING, number, &format!("{before}key: {without}"));
            assert!(errors(&mistaken).iter().any(|error| line(error) == number), "{without}");
        }
    }
}

#[test]
fn every_word_of_a_few_is_pointed_at() {
    for (text, name, words) in [
        (EVERYTHING, "action", &["DENY", "ALLOW", "AUDIT"][..]),
        (OTHERS, "action", &["CUSTOM"]),
        (EVERYTHING, "kind", &["AuthorizationPolicy"]),
        (EVERYTHING, "apiVersion", &["security.istio.io/v1"]),
        (OTHERS, "kind", &["AuthorizationPolicy"]),
        (OTHERS, "group", &["gateway.networking.k8s.io"]),
    ] {
        for (number, old) in lines_of(text) {
            let Some((before, _, _)) =
                parts(old).filter(|(_, field, rest)| *field == name && words.contains(&rest.trim()))
            else {
                continue;
            };
            for typo in words.iter().flat_map(|word| typos(word)) {
                let errors = errors(&with_line(text, number, &format!("{before}{name}: {typo}")));
                let points = errors
                    .iter()
                    .any(|error| line(error) == number || line(error).abs_diff(number) <= 1 && name == "group");
                // With another group in the apiVersion, the document is another resource. Another check reports that.
                assert!(points, "{name}: {typo}: {:?}", errors.iter().map(ToString::to_string).collect::<Vec<_>>());
            }
        }
    }
}

/// All nodes of a document, each with its path.
fn places<'n>(node: &'n Node, at: &str, all: &mut Vec<(String, &'n Node)>) {
    match &node.value {
        Value::Map(entries) => {
            for (name, node) in entries {
                let at = format!("{at}.{name}");
                all.push((at.clone(), node));
                places(node, &at, all);
            }
        }
        Value::List(items) => {
            for (index, node) in items.iter().enumerate() {
                let at = format!("{at}[{index}]");
                all.push((at.clone(), node));
                places(node, &at, all);
            }
        }
        _ => {}
    }
}

#[test]
fn every_value_of_another_type_is_pointed_at() {
    let mut tried = 0;
    for text in [EVERYTHING, OTHERS] {
        for document in yaml::documents(text).unwrap() {
            let mut all = Vec::new();
            places(&document, "", &mut all);
            for (at, node) in all {
                let place = *node.place.as_deref().unwrap();
                let span = place.value;
                let is_block =
                    place.key.is_some_and(|key| key.start.line != span.start.line) || span.start.line != span.end.line;
                let kind = std::mem::discriminant(&node.value);
                for odd in ["5", "true", "null", "word", "[word]", "{ word: 5 }"] {
                    let replacement = &yaml::documents(&format!("[{odd}]")).unwrap()[0];
                    let Value::List(items) = &replacement.value else { panic!() };
                    if std::mem::discriminant(&items[0].value) == kind {
                        continue;
                    }
                    let is_optional = odd == "null"
                        && [".metadata.namespace", ".metadata.annotations", ".spec"].contains(&at.as_str());
                    // Replaces the text from the value's first character to its last.
                    let offset = |line: u32, column: u32| {
                        let before: usize = text.split_inclusive('\n').take(line as usize - 1).map(str::len).sum();
                        before + column as usize - 1
                    };
                    let (start, end) =
                        (offset(span.start.line, span.start.column), offset(span.end.line, span.end.column));
                    let tail = &text[end..];
                    let head = match place.key {
                        Some(key) if is_block => format!("{}: ", &text[..offset(key.end.line, key.end.column)]),
                        _ => text[..start].to_owned(),
                    };
                    let mistaken = format!("{head}{odd}{tail}");
                    let errors = errors(&mistaken);
                    let expected = head.lines().count() - 1;
                    let points = errors.iter().any(|error| line(error) == expected);
                    assert!(
                        points || is_optional,
                        "{at} is {odd}: {:?}",
                        errors.iter().map(ToString::to_string).collect::<Vec<_>>()
                    );
                    tried += 1;
                }
            }
        }
    }
    assert!(tried > 700, "{tried}");
}

/// A copy of a document without the positions in its text.
fn bare(node: &Node) -> Node {
    let value = match &node.value {
        Value::List(items) => Value::List(items.iter().map(bare).collect()),
        Value::Map(entries) => Value::Map(entries.iter().map(|(name, node)| (name.clone(), bare(node))).collect()),
        other => other.clone(),
    };
    value.into()
}

#[test]
fn every_line_at_another_indentation_is_pointed_at() {
    let (mut tried, mut same) = (0, 0);
    for text in [EVERYTHING, OTHERS] {
        let before: Vec<_> = yaml::documents(text).unwrap().iter().map(bare).collect();
        for (number, old) in lines_of(text) {
            let indentation = old.len() - old.trim_start().len();
            for spaces in [
                indentation + 1,
                indentation + 2,
                indentation + 4,
                indentation.saturating_sub(1),
                indentation.saturating_sub(2),
                indentation.saturating_sub(4),
            ] {
                let mistaken = with_line(text, number, &format!("{}{}", " ".repeat(spaces), old.trim_start()));
                if spaces == indentation {
                    continue;
                }
                if yaml::documents(&mistaken).is_ok_and(|all| all.iter().map(bare).collect::<Vec<_>>() == before) {
                    same += 1;
                    continue;
                }
                let errors = errors(&mistaken);
                let near = errors.iter().any(|error| {
                    let related = error.related.iter().map(|related| related.span.unwrap().start.line as usize - 1);
                    std::iter::once(line(error)).chain(related).any(|line| line.abs_diff(number) <= 1)
                });
                assert!(
                    near,
                    "line {number} at {spaces}: {:?}",
                    errors.iter().map(ToString::to_string).collect::<Vec<_>>()
                );
                tried += 1;
            }
        }
    }
    assert!(tried > 200, "{tried}, {same} the same");
}
