//! Every field of the plugin configuration can be given to `render`, or is refused with the option that gives it.

use std::process::Command;

use crate::project;

/// A field, a value of it, and what is in the message if it is not for `plugin-config`, for `ecds`, and for `wasm-plugin`.
type Row = (&'static str, &'static str, [Option<&'static str>; 3]);

const ROWS: [Row; 21] = [
    ("policies", "[]", [Some("name the files"); 3]),
    ("workload", "{}", [Some("--namespace"), Some("--namespace"), Some("leave it out")]),
    ("allowNoneApplies", "true", [Some("--allow-none-applies"); 3]),
    ("onInvalid", "deny", [None, Some("leave it out"), Some("leave it out")]),
    ("outgoing", "pass", [None, None, Some("leave it out")]),
    ("revision", "canary", [Some("--revision"); 3]),
    ("gateway", "{}", [Some("--gateway"), Some("--gateway"), Some("--waypoint")]),
    ("trustDomain", "td", [Some("--trust-domain"); 3]),
    ("trustDomainAliases", "[]", [Some("--trust-domain-alias"); 3]),
    ("rootNamespace", "root", [Some("--root-namespace"); 3]),
    ("combining", "deny-overrides", [Some("--combining"); 3]),
    ("custom", "native", [None, Some("leave it out"), Some("leave it out")]),
    ("principalFrom", "filter-state", [None, Some("leave it out"), None]),
    ("sourceIpFrom", "remote-address", [None; 3]),
    ("paths", "strict", [None; 3]),
    ("jwt", r#"{"payloadKey":"claims"}"#, [None, Some("leave it out"), None]),
    ("denyResponse", r#"{"status":404}"#, [None; 3]),
    ("decisionLog", "all", [None; 3]),
    ("decisionLogRate", "100", [None; 3]),
    ("filterState", "all", [None; 3]),
    ("debugHeader", r#"{"name":"x-why","principals":["*"]}"#, [None; 3]),
];

/// The fields in the table of a page, under this heading.
fn fields_in(page: &str, heading: &str) -> Vec<String> {
    let text = std::fs::read_to_string(project(page)).unwrap();
    let (_, section) = text.split_once(heading).unwrap();
    let rows = section.lines().skip_while(|line| !line.starts_with("| --- ")).skip(1);
    let cells = rows.map_while(|line| line.strip_prefix("| ")?.split(" | ").next());
    // A row can name several fields.
    cells
        .flat_map(|cell| cell.split(", ").map(|field| field.trim_matches('`').to_owned()).collect::<Vec<_>>())
        .collect()
}

#[test]
fn every_field_is_documented_and_given_in_one_way() {
    let mut rows: Vec<_> = ROWS.iter().map(|(field, ..)| *field).collect();
    rows.sort_unstable();
    for (page, heading) in [
        ("README.md", "## Configuration of the plugin"),
        ("docs/commands/render.md", "## Fields of the plugin configuration"),
    ] {
        let mut fields = fields_in(page, heading);
        fields.sort_unstable();
        assert_eq!(fields, rows, "{page}");
    }
    for (field, value, expected) in ROWS {
        let commands = [
            &["plugin-config"][..],
            &["ecds", "--namespace=shop", "--format=json"],
            &["wasm-plugin", "--url=x", "--format=json"],
        ];
        for (command, expected) in commands.into_iter().zip(expected) {
            let output = Command::new(env!("CARGO_BIN_EXE_mesh-authz"))
                .current_dir(project("tests/golden/rendered"))
                .arg("render")
                .args(command)
                .args(["selectors.yaml", "--set", &format!("{field}={value}")])
                .args(["--allow-none-applies"])
                .output()
                .unwrap();
            let [out, notes] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
            match expected {
                None => {
                    assert!(output.status.success() && out.contains(&format!("\"{field}\": ")), "{field}: {out}{notes}")
                }
                Some(hint) => {
                    let option = format!("--set {field}={value}: {field}: ");
                    assert!(output.status.code() == Some(1) && notes.contains(&option), "{field}: {notes}");
                    assert!(notes.contains(hint), "{field}: {notes}");
                }
            }
        }
    }
}

/// What these options would open is refused, and so is an Envoy that talks to itself.
#[test]
fn options_that_contradict_each_other_are_refused() {
    let refused = |more: &[&str], says: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_mesh-authz"))
            .current_dir(project("examples/tutorial"))
            .args(["render", "envoy", "allow-frontend-get-data.yaml", "--namespace=default", "--label=app=backend"])
            .args(more)
            .output()
            .unwrap();
        let notes = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && notes.contains(says), "{more:?}: {notes}");
        assert!(output.stdout.is_empty(), "{more:?}");
    };
    refused(&["--set", "principalFrom=filter-state"], "leave it out");
    let remote = ["--set", "sourceIpFrom=remote-address"];
    refused(&[&remote[..], &["--trusted-hops", "1"]].concat(), "leave `sourceIpFrom` out");
    refused(&[&remote[..], &["--proxy-protocol"]].concat(), "leave `sourceIpFrom` out");
    refused(&["--trusted-hops", "1", "--proxy-protocol"], "cannot be used with");
    refused(&["--listen", "127.0.0.1:15000"], "give it a port of its own");
    refused(&["--upstream", "localhost:15000"], "give it a port of its own");
    for upstream in ["LOCALHOST:15006", "localhost.:15006", "[::ffff:127.0.0.1]:15006"] {
        refused(&["--upstream", upstream], "forward requests to itself");
    }
    let jwt = ["--listen", "127.0.0.1:0", "--listen", "127.0.0.1:9000", "--upstream", "127.0.0.1:1"];
    let output = Command::new(env!("CARGO_BIN_EXE_mesh-authz"))
        .current_dir(project("examples/jwt"))
        .args(["render", "envoy", ".", "--namespace=shop", "--label=app=orders"])
        .args(jwt)
        .output()
        .unwrap();
    let notes = String::from_utf8(output.stderr).unwrap();
    // One port that the system chooses does not hide the others.
    assert!(output.status.code() == Some(1) && notes.contains("never matches"), "{notes}");
}
