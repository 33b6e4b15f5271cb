//! Texts that are not YAML, or not valid, because they are something else: each is named, and hides no other document.

use std::path::PathBuf;
use std::sync::Arc;

use mesh_authz_cli::load::Resources;
use mesh_authz_cli::load::finding::SourceText;

const HEAD: &str = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata:\n  name: a\n";
const NEXT: &str =
    "\n---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: next }\nspec: {}\n";

/// The first line that is found in a text, with the number of its line. The next document is read all the same.
#[track_caller]
fn found(text: &str) -> (u32, String) {
    let source = Arc::new(SourceText::new(PathBuf::from("p.yaml"), format!("{text}{NEXT}")));
    let resources = Resources::of(&source);
    assert!(resources.policies.iter().any(|found| found.policy.name.to_string() == "default/next"), "{text}");
    let first = resources.findings.first().unwrap();
    (first.span.unwrap().start.line, first.diagnostic.to_string())
}

#[track_caller]
fn assert_is_named(text: &str, line: u32, expected: &[&str]) {
    let (found_line, message) = found(text);
    assert_eq!(found_line, line, "{message}\n{text}");
    for part in expected {
        assert!(message.contains(part), "{message}\n{text}");
    }
}

#[test]
fn templates_are_named() {
    let helm = ["a template (`{{`) is not YAML", "helm template CHART | mesh-authz check -"];
    for (text, line) in [
        (format!("{{{{- if .Values.on }}}}\n{HEAD}spec: {{}}\n{{{{- end }}}}"), 1),
        (format!("{HEAD}  namespace: {{{{ .Release.Namespace }}}}\nspec: {{}}"), 5),
        (format!("{HEAD}  labels:\n    {{{{- include \"x\" . | nindent 4 }}}}\nspec: {{}}"), 6),
        (format!("{HEAD}spec: {{selector: {{matchLabels: {{app: {{{{ .Values.app }}}}}}}}}}"), 5),
        (format!("{{{{/* c */}}}}\n{HEAD}spec: {{}}"), 1),
    ] {
        assert_is_named(&text, line, &helm);
    }
    for (text, line, sign) in [
        (format!("{{% if x %}}\n{HEAD}spec: {{}}\n{{% endif %}}"), 1, "{%"),
        (format!("{HEAD}spec:\n{{% for x in y %}}\n  rules: []\n{{% endfor %}}"), 6, "{%"),
        (format!("<% if x %>\n{HEAD}spec: {{}}"), 2, "<%"),
    ] {
        assert_is_named(&text, line, &[&format!("a template (`{sign}`) is not YAML"), "check what the template makes"]);
    }
}

#[test]
fn placeholders_in_values_are_named() {
    for value in ["{{ .Release.Namespace }}", "${NAMESPACE}", "$(NAMESPACE)", "<%= @namespace %>", "x-{{ns}}-y"] {
        let placeholder = value.trim_start_matches("x-").trim_end_matches("-y");
        let expected = format!("`{placeholder}` is a placeholder that nothing has filled in");
        assert_is_named(&format!("{HEAD}  namespace: \"{value}\"\nspec: {{}}"), 5, &[&expected]);
        let operation = format!("{HEAD}spec:\n  rules:\n  - to:\n    - operation:\n        ports: [\"{value}\"]");
        assert_is_named(&operation, 9, &[&expected]);
        assert_is_named(&format!("{HEAD}spec: {{ action: \"{value}\" }}"), 5, &[&expected]);
    }
    // What begins with one of these characters is not even YAML.
    for value in ["@NAMESPACE@", "%NAMESPACE%"] {
        assert_is_named(&format!("{HEAD}  namespace: {value}\nspec: {{}}"), 5, &["placeholder", "in quotes"]);
    }
}

#[test]
fn merge_conflicts_are_named() {
    for (ours, base, theirs) in [
        ("<<<<<<< HEAD", "", ">>>>>>> branch"),
        ("<<<<<<< HEAD", "||||||| 72cc549\nspec: 1\n", ">>>>>>> x"),
        ("<<<<<<<", "", ">>>>>>>"),
    ] {
        let text = format!("{HEAD}{ours}\nspec: {{}}\n{base}=======\nspec: {{ action: DENY }}\n{theirs}");
        assert_is_named(&text, 5, &["a merge conflict that is not resolved"]);
        assert_is_named(&text.replace('\n', "\r\n"), 5, &["a merge conflict that is not resolved"]);
        let body = format!("{ours}\na: b\n{base}=======\na: c\n{theirs}").replace('\n', "\n  ");
        let expected = &["a merge conflict that is not resolved"];
        assert_is_named(&format!("{HEAD}spec:\n  {body}"), 6, expected);
    }
    // Somebody has removed a part of the lines.
    assert_is_named(&format!("{HEAD}spec: {{}}\n======="), 6, &["a merge conflict that is not resolved"]);
    assert_is_named(&format!("{HEAD}spec: {{}}\n>>>>>>> branch"), 6, &["a merge conflict that is not resolved"]);
    // A text can have such lines, with white space before them.
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: c }\ndata:\n  readme: |\n    Title\n    =======\n    <<<<<<< HEAD\n";
    let source = Arc::new(SourceText::new(PathBuf::from("p.yaml"), text.to_owned()));
    assert!(Resources::of(&source).findings.is_empty());
}

#[test]
fn usual_mistakes_are_named() {
    for (text, line, expected) in [
        ("spec:\n\trules: []", 6, ["a tab indents nothing in YAML", "write spaces"]),
        (
            "spec: { rules: [{ to: [{ operation: { paths: [*] } }] }] }",
            5,
            ["`*` begins the name of an anchor", "in quotes"],
        ),
        ("spec:\n  a: *", 6, ["`*` begins the name of an anchor", "in quotes"]),
        ("spec:\n  a: &", 6, ["`&` begins the name of an anchor", "in quotes"]),
        ("spec: { action: \"ALLOW }", 5, ["the quote that begins here has no end", "close it"]),
        ("spec: { action: \"A\\.B\" }", 5, ["a backslash begins an escape", "single quotes"]),
        ("spec:\n  a: `b`", 6, ["a backtick", "in quotes"]),
    ] {
        assert_is_named(&format!("{HEAD}{text}"), line, &expected);
    }
}

#[test]
fn what_kubectl_does_not_read_is_named() {
    let expected = ["this does not belong to the document before it, and kubectl ignores it", "a line `---`"];
    for (after, line) in [("%YAML 1.1\n    -  a:", 7), ("...\na: b", 7), ("...\n\"", 8)] {
        assert_is_named(&format!("{HEAD}spec: {{}}\n{after}"), line, &expected);
    }
}
