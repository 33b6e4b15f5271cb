//! Texts are read as kubectl reads them. What kubectl makes of each text is in `kubectl.jsonl`; CONTRIBUTING.md says how it got
//! there. A text that kubectl refuses is refused. A text that both take has the same values. A text that only kubectl takes is
//! refused for one of [`STRICTER`].

use std::collections::BTreeMap;

use mesh_authz_cli::load::yaml::{documents, read};
use serde_json::Value;

/// Why a text is refused that kubectl takes. Each has a row in docs/differences-from-istio.md.
const STRICTER: [&str; 5] = [
    // kubectl ignores what comes after the document.
    "this does not belong to the document before it, and kubectl ignores it",
    // Different readers of JSON and YAML, and different versions of kubectl, disagree about these.
    "this begins as JSON, and is not: ",
    "U+FEFF is a character that YAML does not allow here",
    "the tag `!!timestamp` is not supported",
    "while scanning a tag, ",
];

/// Numbers as JSON has them, and no half characters.
fn plain(value: &Value) -> Value {
    match value {
        Value::Number(number) => number.as_f64().map_or(Value::Null, Value::from),
        Value::Array(items) => items.iter().map(plain).collect(),
        Value::Object(fields) => fields.iter().map(|(key, value)| (key.clone(), plain(value))).collect(),
        other => other.clone(),
    }
}

#[test]
fn texts_are_read_as_kubectl_reads_them() {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (number, line) in include_str!("kubectl.jsonl").split('\n').filter(|line| !line.is_empty()).enumerate() {
        let verdict: Value = serde_json::from_str(line).unwrap();
        let text = verdict["text"].as_str().unwrap();
        let (found, errors) = read(text);
        let is_taken = verdict.get("error").is_none();
        let what = match (is_taken, errors.first()) {
            (true, None) => {
                let found: Vec<_> = found.iter().map(|node| plain(&serde_json::to_value(node).unwrap())).collect();
                assert_eq!(Value::from(found), plain(&verdict["documents"]), "line {}: {text:?}", number + 1);
                "taken by both"
            }
            (false, Some(_)) => "refused by both",
            (true, Some(error)) => {
                let is_meant = STRICTER.iter().any(|reason| error.message.contains(reason));
                assert!(is_meant, "line {}: only kubectl takes {text:?}: {error}", number + 1);
                "taken by kubectl"
            }
            (false, None) => panic!("line {}: kubectl refuses {text:?}: {}", number + 1, verdict["error"]),
        };
        *counts.entry(what).or_default() += 1;
    }
    println!("{counts:?}");
    assert!(
        counts["taken by both"] > 500 && counts["refused by both"] > 300 && counts["taken by kubectl"] < 100,
        "{counts:?}"
    );
}

#[test]
fn a_mistake_in_one_document_hides_no_other_document() {
    let (found, errors) =
        read("a: 1\n---\nb: [\n---\nc: 3\n---\n<<<<<<< ours\nd: 4\n=======\nd: 5\n>>>>>>> theirs\n--- x\ne: 6\n");
    let found: Vec<_> = found.iter().map(|node| serde_json::to_value(node).unwrap().to_string()).collect();
    assert_eq!(found, ["{\"a\":1}", "{\"c\":3}", "{\"e\":6}"]);
    let errors: Vec<_> = errors.iter().map(|error| (error.position.line, error.message.as_str())).collect();
    assert_eq!(
        errors,
        [
            (4, "while parsing a flow node, did not find expected node content"),
            (12, "kubectl takes nothing but a comment after `---`"),
            (7, "the document has a merge conflict that is not resolved"),
        ]
    );
}

#[test]
fn what_only_looks_like_a_document_is_said() {
    for (text, line, expected) in [
        ("a: 1\n...\nb: 2\n", 3, "kubectl ignores it"),
        ("%YAML 1.2\n---\na: 1\n", 1, "kubectl reads no lines with `%` before a document"),
        ("{{- if .Values.on }}\na: b\n{{- end }}\n", 1, "a template (`{{`) is not YAML"),
        ("a: {{ .Values.a }}\n", 1, "a template (`{{`) is not YAML"),
        ("{\"a\": 1, # one\n\"b\": 2}\n", 1, "this begins as JSON, and is not"),
        ("{\"a\": 1}\n{\"b\": 2}\nc: 3\n", 3, "this begins as JSON, and is not"),
        ("a: [b?c]\n", 1, "Kubernetes takes a `?` between brackets for an indicator"),
        ("a: .nan\n", 1, "Kubernetes has no such number"),
        ("~: a\n", 1, "a key must be a string, and not null"),
        ("a: b\nc: [\"d]\ne: f\n", 2, "the quote that begins here has no end"),
    ] {
        let error = documents(text).unwrap_err();
        assert!(error.message.contains(expected) && error.position.line == line, "{text:?}: {error}");
    }
}

#[test]
fn positions_are_those_of_the_file() {
    let line_of = |text: &str, keys: &[&str]| {
        let nodes = documents(text).unwrap();
        let node = keys.iter().try_fold(nodes.last().unwrap(), |node, key| node.get(key)).unwrap();
        let place = node.place.as_ref().unwrap().value;
        (place.start.line, place.start.column, place.end.line, place.end.column)
    };
    assert_eq!(line_of("# c\r\na: 1\r\n---\r\nb:\r\n  c: éé d\r\n", &["b", "c"]), (5, 6, 5, 10));
    assert_eq!(line_of("a: {é: [x:, \"y\"], z: w}\n", &["a", "z"]), (1, 22, 1, 23));
    assert_eq!(line_of("{\"a\": 1}\n\n{\"b\": {\"c\": \"\\ud83d\\ude00\"}}\n", &[]), (3, 1, 3, 29));
    assert_eq!(line_of("{\"a\": 1}\n\n{\"b\":\n {\"c\": 2}}\n", &["b", "c"]), (4, 8, 4, 9));
    assert_eq!(line_of("a: \"\u{2028}x\"\nb: c\n", &["b"]), (2, 4, 2, 5));
    assert_eq!(line_of("a: [é:, 'x [y:]', z w:]\nb: [it's:]\nc: {d: [u:], e: f}\n", &["c", "e"]), (3, 17, 3, 18));
    let error = documents("a: [é:, x:]\nb:\n- 'é [y:]\n").unwrap_err();
    assert_eq!((error.position.line, error.position.column), (3, 3));
}

#[test]
fn texts_that_a_reviewer_found() {
    let values = |text: &str| {
        documents(text).map(|all| {
            all.iter().map(|node| serde_json::to_value(node).unwrap().to_string()).collect::<Vec<_>>().join(" ")
        })
    };
    for (text, expected) in [
        ("{&x 1: a, b: *x}\n", r#"{"1":"a","b":1}"#),
        ("{app: &x 1, *x : b}\n", r#"{"1":"b","app":1}"#),
        ("a: [0b-1, 0b+1]\n", r#"{"a":[-1,1]}"#),
        ("{0b-1: a}\n", r#"{"-1":"a"}"#),
        ("a: [0o-1, -0b-1, --1]\n", r#"{"a":["0o-1","-0b-1","--1"]}"#),
        ("a: [!x , b]\n", r#"{"a":["","b"]}"#),
        ("a: [!<tag:yaml.org,2002:str> 80]\n", r#"{"a":["80"]}"#),
        ("{a: 1, <<: {a: 2, b: 2}, b: 3, <<: {c: 4}}\n", r#"{"a":2,"b":3,"c":4}"#),
    ] {
        assert_eq!(values(text).unwrap(), expected, "{text}");
    }
    for text in [
        "selector: {matchLabels: {app: !x,v: web}}\n",
        "a: [!x, a]\n",
        "a: [!!str,&x a:]\n",
        "a: [!!str]\n",
        "a: [!<tag:yaml.org,2002:str>,b]\n",
        "{\"a\": 1} # c",
        "{\"a\": 1}b\n",
        "{18446744073709551615: b}\n",
        "a: [a?b:, x]\n",
    ] {
        assert!(documents(text).is_err(), "{text}");
    }
    // A reader may not know an escape of JSON, and knows the places all the same.
    let node = documents("{\"a\": [\"\\/x\", \"\\ud83d\", \"\\\\/\"],\n \"b\": 5}\n").unwrap().remove(0);
    assert_eq!(serde_json::to_value(node.get("a").unwrap()).unwrap(), serde_json::json!(["/x", "\u{fffd}", "\\/"]));
    assert_eq!(node.get("b").unwrap().place.as_ref().unwrap().value.start.line, 2);
}

/// The work grows with the length of the text. With the square of it, this would take minutes.
#[test]
fn long_texts_are_read_once() {
    assert_eq!(documents(&"{\"a\":1}\n".repeat(40_000)).unwrap().len(), 40_000);
    let keys =
        |count: usize, end: &str| (0..count).map(|number| format!("k{number}: 1{end}")).collect::<Vec<_>>().concat();
    let map = keys(60_000, "\n");
    assert_eq!(documents(&map).unwrap().len(), 1);
    let colon = |number: usize| format!("- [w{number}:, x y {number}:, \"[z:]\"]\n");
    let colons = (0..5_000).map(colon).collect::<Vec<_>>().concat();
    let read = documents(&colons).unwrap();
    assert_eq!(serde_json::to_value(&read[0]).unwrap()[4_999], serde_json::json!(["w4999:", "x y 4999:", "[z:]"]));
    let merged = keys(1_000, ", ");
    assert_eq!(documents(&format!("a: &a {{ {merged} }}\nb: {{ {} }}\n", "<<: *a, ".repeat(40))).unwrap().len(), 1);
}
