//! The YAML that is rendered reaches every reader as what was meant.

use mesh_authz_cli::load;
use mesh_authz_cli::render::yaml::to_string;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// Texts of which readers make something else, unless they are written with care.
pub const ODD: [&str; 84] = [
    "on",
    "y",
    "N",
    "yes",
    "Off",
    "1_000",
    "0777",
    "0o17",
    "0x1F",
    "0x1p3",
    "0b1",
    "0b-1",
    "-_1",
    "+1",
    ".5",
    "5.",
    "1e3",
    "1e999",
    "12:30",
    "190:20:30",
    "~",
    "null",
    "Null",
    ".inf",
    "-.INF",
    ".nan",
    "nan",
    "-nan",
    "inf",
    "Infinity",
    "<<",
    "=",
    "2001-01-01",
    "2001-01-01T00:00:00Z",
    "2001-12-14 21:59:43.10 -5",
    "a: b",
    "a:",
    "a :b",
    "#x",
    "a #b",
    "- x",
    "-",
    "&a",
    "!c",
    "!!str",
    "%d",
    "@e",
    "`f",
    "{g",
    "[h",
    "]",
    ", i",
    "'q'",
    "\"dq\"",
    "a\nb",
    "\n",
    "a\n\n",
    "a\n\nb\n",
    " a\nb",
    "a\n  b\n",
    "a\n---\nb",
    "a\r\nb",
    " a",
    "a ",
    "\t",
    "\u{7}",
    "\u{4}",
    "\u{0}",
    "\u{85}",
    "a\u{85}b",
    "\u{a0}",
    "a\u{2028}b",
    "\u{2029}",
    "\u{feff}x",
    "x\u{feff}",
    "\u{ffff}",
    "\u{1f511}",
    "--- x",
    "---",
    "...",
    "? x",
    ":",
    "é",
    "\\N",
];

/// Texts that are made of what readers disagree about.
fn text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        3 => prop::sample::select(&ODD[..]).prop_map(str::to_owned),
        2 => "[-+0-9._eExob:]{1,6}",
        2 => "[a-z ]{1,4}",
        1 => any::<char>().prop_map(String::from),
        1 => "[-?:,\\[\\]{}#&*!|>'\"%@`<=~/\\\\ ]{1,3}",
        1 => Just("a long text, with spaces at which a writer could break the line. ".repeat(3)),
    ];
    prop::collection::vec(part, 0..4).prop_map(|parts| parts.concat())
}

fn tree() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        8 => text().prop_map(Value::from),
        1 => any::<bool>().prop_map(Value::from),
        1 => any::<i32>().prop_map(Value::from),
        1 => (-1e30..1e30).prop_map(|number: f64| Value::from(number)),
        1 => Just(Value::Null),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((text(), inner), 0..4)
                .prop_map(|fields| Value::from(fields.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// Numbers as the command reads them.
fn plain(value: &Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(items) => items.iter().map(plain).collect(),
        Value::Object(fields) => fields.iter().map(|(key, value)| (key.clone(), plain(value))).collect(),
        other => other.clone(),
    }
}

/// No line has a character or a beginning that readers could take for something else.
fn assert_is_unmistakable(yaml: &str) {
    for line in yaml.lines() {
        assert!(line.chars().all(|c| matches!(c, ' '..='~') || c > '\u{a0}' && c.is_alphanumeric()), "{line:?}");
        assert!(!line.starts_with("---") && !line.starts_with("..."), "{line:?}");
    }
}

fn assert_is_read_as_meant(value: &Value) {
    let yaml = to_string(value).unwrap_or_else(|error| panic!("{error}: {value}"));
    let documents = load::yaml::documents(&yaml).unwrap();
    assert_eq!(documents.len(), 1, "{yaml}");
    assert_eq!(plain(&serde_json::to_value(&documents[0]).unwrap()), plain(value), "{yaml}");
    assert_is_unmistakable(&yaml);
}

proptest! {
    #[test]
    fn what_is_written_is_read_as_meant(value in tree()) {
        assert_is_read_as_meant(&json!({ "a": value }));
    }

    #[test]
    fn a_text_is_read_as_meant_wherever_it_is(text in text()) {
        assert_is_read_as_meant(&json!({ "a": text, "b": [text, [text], { "c": text }], "d": { text.clone(): 1 } }));
    }
}

#[test]
fn odd_texts_are_in_double_quotes_with_escapes_that_all_readers_know() {
    for (text, expected) in [
        ("on", "\"on\""),
        ("0x1p3", "\"0x1p3\""),
        ("-nan", "\"-nan\""),
        ("a\u{85}b", "\"a\\u0085b\""),
        ("\u{2028}", "\"\\u2028\""),
        ("\u{feff}", "\"\\uFEFF\""),
        ("\u{1f511}", "\"\\U0001F511\""),
        ("\u{0}\t\"\\", "\"\\u0000\\t\\\"\\\\\""),
        ("é", "\"é\""),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("10.0.0.0", "\"10.0.0.0\""),
        ("https://a.example/*", "https://a.example/*"),
        ("request.headers[x]", "request.headers[x]"),
        ("a\nb", "|-\n  a\n  b"),
        ("{\n  \"a\": 1\n}\n", "|\n  {\n    \"a\": 1\n  }"),
        ("a\n\tb", "\"a\\n\\tb\""),
        ("a\n b \n", "\"a\\n b \\n\""),
    ] {
        assert_eq!(to_string(&json!({ "k": text })).unwrap(), format!("k: {expected}\n"), "{text:?}");
    }
    for text in ODD {
        assert_is_read_as_meant(&json!({ "a": text, "b": [text, [text], { "c": text }], "d": { text: [] } }));
    }
}

#[test]
fn lists_and_maps_are_in_blocks() {
    let value =
        json!({ "a": [], "b": {}, "c": [[1, [2]], { "d": null, "e": [{ "f": true }] }], "g": { "h": { "i": -1.5 } } });
    let expected = "a: []\nb: {}\nc:\n- - 1\n  - - 2\n- d: null\n  e:\n  - f: true\ng:\n  h:\n    i: -1.5\n";
    assert_eq!(to_string(&value).unwrap(), expected);
    assert_eq!(to_string(&json!(["a", { "b": 1 }])).unwrap(), "- a\n- b: 1\n");
}
