//! Policies as people write them in YAML: types, several documents, anchors, and positions in the text.

use mesh_authz::diagnostic::Diagnostics;
use mesh_authz::document::{Node, Value};
use mesh_authz::policy::read;
use mesh_authz_cli::load::yaml::documents;

fn scalar(text: &str) -> Value {
    documents(&format!("[{text}]"))
        .map(|mut nodes| match nodes.remove(0).value {
            Value::List(mut items) => items.remove(0).value,
            other => other,
        })
        .unwrap()
}

#[test]
fn scalars_are_read_as_kubernetes_reads_them() {
    for text in ["on", "off", "yes", "no", "y", "n", "true", "False", "NO"] {
        assert!(matches!(scalar(text), Value::Bool(_)), "{text}");
        assert_eq!(scalar(&format!("'{text}'")), Value::String(text.to_owned()));
    }
    for text in ["80", "-1", "1.5", "1e3", "0x1F", "0o17", "1_000", ".5", "010"] {
        assert!(matches!(scalar(text), Value::Number(_)), "{text}");
    }
    for text in
        ["10.0.0.1", "10.0.0.0/8", "2024-01-01", "GET", "*a", "v1", "1.2.3", "nope", "-", "1a", "example.org:80"]
    {
        let quoted = if text.starts_with(['*', '-']) { format!("'{text}'") } else { text.to_owned() };
        assert_eq!(scalar(&quoted), Value::String(text.to_owned()));
    }
    for text in ["~", "null", "Null", "NULL"] {
        assert_eq!(scalar(text), Value::Null);
    }
    assert_eq!(scalar("!!str 80"), Value::String("80".to_owned()));
}

#[test]
fn several_documents_and_empty_ones() {
    assert_eq!(documents("a: b\n---\n---\nc: d\n...\n").unwrap().len(), 2);
    assert_eq!(documents("# nothing\n").unwrap(), []);
    assert_eq!(documents("").unwrap(), []);
}

#[test]
fn anchors_and_merge_keys_are_expanded() {
    let nodes = documents("a: &x [1, 2]\nb: *x\n").unwrap();
    assert_eq!(nodes[0].get("b").unwrap().value, nodes[0].get("a").unwrap().value);
    let nodes = documents("a: &x { action: DENY, rules: [] }\nspec: { <<: *x, rules: [{}] }").unwrap();
    let spec = nodes[0].get("spec").unwrap();
    assert_eq!(spec.get("action").unwrap().as_str(), Some("DENY"));
    assert!(matches!(&spec.get("rules").unwrap().value, Value::List(rules) if rules.len() == 1));
    let error = documents("spec: { <<: 1 }").unwrap_err();
    assert_eq!(error.message, "a merge key (`<<`) takes a map, or a list of maps");
}

#[test]
fn what_is_not_yaml_says_where() {
    for text in ["a: [b", "a: b: c", "\"", "a: *unknown", "[a]: b", "{a: {[b]: c}}"] {
        let error = documents(text).unwrap_err();
        assert!(error.position.line >= 1, "{error}");
    }
    let deep = "[".repeat(200) + &"]".repeat(200);
    assert_eq!(documents(&deep).unwrap_err().message, "nested too deeply");
    let laughs = (1..30).fold("x0: &x0 [a]\n".to_owned(), |text, n| {
        text + &format!("x{n}: &x{n} [*x{0}, *x{0}, *x{0}, *x{0}]\n", n - 1)
    });
    let too_many = "the document has so many aliases that kubectl refuses it";
    assert_eq!(documents(&laughs).unwrap_err().message, too_many);
    let aliases = |count: usize| format!("a: &a [1, 2, 3]\nb: [{}]\n", vec!["*a"; count].join(", "));
    assert!(documents(&aliases(200)).is_ok());
    let large = format!("a: &a [{}]\nb: [{}]\n", vec!["x"; 300].join(", "), vec!["*a"; 400].join(", "));
    assert_eq!(documents(&large).err().unwrap().message, too_many);
    let long = "x".repeat(1 << 20);
    let much = format!("a: &a [{long}]\nb: [{}]\n", vec!["*a"; 300].join(", "));
    assert_eq!(documents(&much).unwrap_err().message, "too much, with its aliases expanded");
}

#[test]
fn a_finding_has_its_line() {
    let text = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata:\n  name: p\nspec:\n  rules:\n  \
                - to:\n    - operation:\n        paths:\n        - /a\n        - /{b}\n    when: []\n    form: []\n";
    let node: Node = documents(text).unwrap().remove(0);
    let mut diagnostics = Diagnostics::new();
    assert_eq!(read::policy(&node, &mut diagnostics), None);
    let lines: Vec<_> = diagnostics
        .into_found()
        .iter()
        .map(|found| node.locate(&found.path, found.part).map(|span| span.start.line))
        .collect();
    assert_eq!(lines, [Some(11), Some(13)]);
}
