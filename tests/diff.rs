//! `mesh-authz diff`: what it says about changes, in each format, and about a revision of a Git repository.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "tests fail by panicking"
)]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// Runs the command in a folder.
fn run(folder: &Path, arguments: &[&str]) -> (String, String, Option<i32>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mesh-authz"));
    let Output { stdout, stderr, status } = command.current_dir(folder).args(arguments).output().unwrap();
    (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap(), status.code())
}

fn git(folder: &Path, arguments: &[&str]) {
    let author = ["-c", "user.name=a", "-c", "user.email=a@example", "-c", "commit.gpgsign=false"];
    let status = Command::new("git").current_dir(folder).args(author).args(arguments).output().unwrap().status;
    assert!(status.success(), "{arguments:?}");
}

/// A policy of the namespace `shop` for the workloads `app: orders`, with one rule in flow style.
fn policy(name: &str, action: &str, rule: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{ name: {name}, namespace: shop }}\nspec:\n  \
         selector: {{ matchLabels: {{ app: orders }} }}\n  action: {action}\n  rules:\n  - {rule}\n"
    )
}

/// Compares two texts with policies.
fn compare(old: &str, new: &str, arguments: &[&str]) -> (String, String, Option<i32>) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("old.yaml"), old).unwrap();
    std::fs::write(folder.path().join("new.yaml"), new).unwrap();
    run(folder.path(), &[&["diff", "old.yaml", "new.yaml"], arguments].concat())
}

fn json(old: &str, new: &str, arguments: &[&str]) -> Value {
    let (out, err, _) = compare(old, new, &[&["--format", "json"], arguments].concat());
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}\n{out}\n{err}"))
}

fn gained_and_lost(comparison: &Value) -> [usize; 2] {
    assert_eq!(comparison["undecided"], Value::Array(Vec::new()), "{comparison}");
    ["gained", "lost"].map(|direction| comparison[direction].as_array().unwrap().len())
}

#[test]
fn a_change_is_said_in_words_and_shown() {
    let old = policy("orders", "ALLOW", "to: [{ operation: { paths: [/orders, /orders/*], methods: [GET] } }]");
    let new = policy("orders", "ALLOW", "to: [{ operation: { paths: [/orders, /orders/*] } }]");
    let comparison = json(&old, &new, &[]);
    assert_eq!(gained_and_lost(&comparison), [1, 0], "{comparison}");
    let gained = &comparison["gained"][0];
    assert_eq!(gained["requests"], "path is /orders or begins with /orders/, method is not GET");
    assert_eq!(gained["workloads"], "in namespace shop, with app=orders");
    assert_eq!(gained["before"], "DENY: no ALLOW policy matched");
    assert_eq!(gained["after"], "ALLOW: rule 0 of shop/orders matched");
    assert_eq!(gained["example"]["workload"]["labels"]["app"], "orders");
    assert_ne!(gained["example"]["request"]["method"], "GET");
    assert_eq!(gained_and_lost(&json(&new, &old, &[])), [0, 1]);
    assert_eq!(gained_and_lost(&json(&old, &old, &[])), [0, 0]);
}

/// A DENY policy that goes away gives access only to those whom an ALLOW policy lets through, if there is one.
#[test]
fn what_a_deny_rule_leaves_to_others_is_said() {
    let deny = policy("d", "DENY", r#"to: [{ operation: { paths: ["/a"] } }]"#);
    let gets = policy("g", "ALLOW", r#"to: [{ operation: { methods: ["GET"] } }]"#);
    let other = policy("e", "DENY", r#"to: [{ operation: { paths: ["/b"] } }]"#);
    for (stays, is_left) in [(&other, false), (&gets, true)] {
        let comparison = json(&format!("{deny}---\n{stays}"), stays, &[]);
        assert_eq!(gained_and_lost(&comparison), [1, 0], "{comparison}");
        let requests = comparison["gained"][0]["requests"].as_str().unwrap();
        assert_eq!(requests.contains("as far as ALLOW policies allow it"), is_left, "{requests}");
    }
}

#[test]
fn what_is_written_otherwise_and_means_the_same_is_no_difference() {
    let same = [
        ("paths: [/a, /b]", "paths: [/b, /a]"),
        ("paths: [/a/*]", "paths: [/a/*, /a/b]"),
        ("hosts: [A.example]", "hosts: [a.example]"),
        ("methods: [GET], notMethods: [POST]", "methods: [GET]"),
        ("paths: [/a], notPaths: [/b*]", "paths: [/a]"),
        ("paths: [/a], notHosts: [\"*\"]", "paths: [/b], notHosts: [\"*\"]"),
        ("ports: [\"80\"], notPorts: [\"81\"]", "ports: [\"80\"]"),
    ];
    for action in ["ALLOW", "DENY"] {
        for (one, other) in same {
            let policy = |fields: &str| policy("p", action, &format!("to: [{{ operation: {{ {fields} }} }}]"));
            let comparison = json(&policy(one), &policy(other), &[]);
            assert_eq!(gained_and_lost(&comparison), [0, 0], "{one} {other}: {comparison}");
        }
    }
    // One rule, and two that match as much together.
    let whole = policy("p", "DENY", "to: [{ operation: { methods: [GET, POST] } }]");
    let parts =
        policy("p", "DENY", "to: [{ operation: { methods: [POST] } }]\n  - to: [{ operation: { methods: [GET] } }]");
    assert_eq!(gained_and_lost(&json(&whole, &parts, &[])), [0, 0]);
}

#[test]
fn a_policy_that_goes_away_is_about_its_workloads() {
    let all = policy("p", "ALLOW", "from: [{ source: { namespaces: [shop] } }]");
    let comparison = json(&all, "", &[]);
    assert_eq!(gained_and_lost(&comparison), [1, 0], "{comparison}");
    assert_eq!(comparison["gained"][0]["after"], "ALLOW: no ALLOW policy applies, and no DENY policy matched");
    // Of another workload, nothing is decided otherwise.
    let other = ["--namespace", "shop", "--label", "app=cart"];
    assert_eq!(gained_and_lost(&json(&all, "", &other)), [0, 0]);
    assert_eq!(gained_and_lost(&json(&all, "", &["--namespace", "shop", "--label", "app=orders"])), [1, 0]);
}

#[test]
fn what_fails_is_chosen() {
    let narrow = policy("p", "ALLOW", "to: [{ operation: { paths: [/a] } }]");
    let wide = policy("p", "ALLOW", "to: [{ operation: { paths: [/a*] } }]");
    for (what, gained, lost) in [("gained", 1, 0), ("lost", 0, 1), ("any", 1, 1)] {
        assert_eq!(compare(&narrow, &wide, &["--fail-on", what]).2, Some(gained), "{what}");
        assert_eq!(compare(&wide, &narrow, &["--fail-on", what]).2, Some(lost), "{what}");
        assert_eq!(compare(&wide, &wide, &["--fail-on", what]).2, Some(0), "{what}");
    }
    assert_eq!(compare(&narrow, &wide, &[]).2, Some(0));
}

#[test]
fn connections_are_compared_in_their_own_form() {
    // Over TCP, an ALLOW rule with a path does not count.
    let old = policy("p", "ALLOW", "to: [{ operation: { ports: [\"6379\"] } }]");
    let new = policy("p", "ALLOW", "to: [{ operation: { ports: [\"6379\"], paths: [/a] } }]");
    let comparison = json(&old, &new, &["--tcp"]);
    assert_eq!(gained_and_lost(&comparison), [0, 1], "{comparison}");
    assert_eq!(comparison["lost"][0]["example"]["request"]["protocol"], "tcp");
}

#[test]
fn who_asks_a_provider_is_said() {
    let custom = |path: &str| {
        policy("p", "CUSTOM", &format!("to: [{{ operation: {{ paths: [{path}] }} }}]"))
            + "  provider: { name: login }\n"
    };
    let comparison = json(&custom("/a*"), &custom("/a/*"), &[]);
    assert_eq!(gained_and_lost(&comparison), [1, 0], "{comparison}");
    assert_eq!(comparison["gained"][0]["provider"], "login");
}

#[test]
fn the_examples_are_a_test_file_that_passes() {
    let folder = tempfile::tempdir().unwrap();
    let old = policy("p", "ALLOW", "to: [{ operation: { paths: [/a] } }]");
    let new = policy("p", "ALLOW", "to: [{ operation: { paths: [/a/*] } }]");
    std::fs::write(folder.path().join("old.yaml"), old).unwrap();
    std::fs::write(folder.path().join("new.yaml"), new).unwrap();
    run(folder.path(), &["diff", "old.yaml", "new.yaml", "--witnesses", "tests.yaml"]);
    let (out, err, status) = run(folder.path(), &["test", "tests.yaml"]);
    assert!(out.ends_with("2 passed, 0 failed\n") && status == Some(0), "{out}{err}");
}

#[test]
fn a_comment_shows_names_as_they_are() {
    let old = policy("p", "ALLOW", "to: [{ operation: { paths: [/a] } }]");
    let new = policy("p", "ALLOW", "to: [{ operation: { paths: [\"/*</details>_@team\"] } }]");
    let (out, _, _) = compare(&old, &new, &["--format", "markdown"]);
    assert!(out.contains("path is /\\*&lt;/details>\\_\\@team"), "{out}");
    assert!(out.starts_with("### Access: 1 change gains access, 1 change loses access\n"), "{out}");
}

#[test]
fn a_revision_is_compared_with_the_files_of_now() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    git(root, &["init", "--quiet"]);
    std::fs::create_dir_all(root.join("deep/policies")).unwrap();
    std::fs::write(root.join("deep/policies/p.yaml"), policy("p", "ALLOW", "to: [{ operation: { paths: [/a] } }]"))
        .unwrap();
    std::fs::write(root.join("deep/policies/note.txt"), "no policy").unwrap();
    git(root, &["add", "."]);
    git(root, &["commit", "--quiet", "--message", "a"]);
    let same = "no request is decided otherwise\n";
    assert_eq!(run(root, &["diff", "--against", "HEAD", "deep/policies"]).0, same);
    std::fs::write(root.join("deep/policies/p.yaml"), policy("p", "ALLOW", "to: [{ operation: { paths: [/b] } }]"))
        .unwrap();
    for (from, path) in
        [("", "deep/policies"), ("deep", "policies"), ("deep", "policies/p.yaml"), ("deep/policies", ".")]
    {
        let (out, err, _) = run(&root.join(from), &["diff", "--against", "HEAD", path]);
        assert!(out.contains("1 change gains access, 1 change loses access"), "{from} {path}: {out}{err}");
        assert!(out.contains("HEAD:deep/policies/p.yaml:8:5"), "{out}");
    }
    // A folder that is new had no policies.
    std::fs::create_dir(root.join("new")).unwrap();
    std::fs::write(root.join("new/p.yaml"), policy("p", "DENY", "{}")).unwrap();
    let (out, err, _) = run(root, &["diff", "--against", "HEAD", "new"]);
    assert!(out.contains("LOST") && err.contains("there is no AuthorizationPolicy in the old policies"), "{out}{err}");
    for pattern in ["new/*.yaml", "gone"] {
        let (_, err, status) = run(root, &["diff", "--against", "HEAD", pattern]);
        assert!(status == Some(2) && err.contains("name a file or a folder"), "{pattern}: {err}");
    }
    for wrong in ["nothing", "--upload-pack=x", ""] {
        let (_, err, status) = run(root, &["diff", &format!("--against={wrong}"), "new"]);
        assert!(status == Some(2) && err.starts_with("mesh-authz: "), "{wrong}: {err}");
    }
}

#[test]
fn wrong_usage_is_said() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("p.yaml"), policy("p", "DENY", "{}")).unwrap();
    std::fs::write(folder.path().join("wrong.yaml"), policy("p", "DENI", "{}")).unwrap();
    let target = "targetRefs: [{ kind: Service, group: '', name: orders }]";
    let of_service = policy("p", "DENY", "{}").replace("selector: { matchLabels: { app: orders } }", target);
    std::fs::write(folder.path().join("s.yaml"), of_service).unwrap();
    for (arguments, said, code) in [
        (&["p.yaml"][..], "give two paths, or one and --against REVISION", 2),
        (&["p.yaml", "p.yaml", "--against", "HEAD"], "with --against, give one path", 2),
        (&["p.yaml", "nothing.yaml"], "nothing.yaml", 2),
        (&["p.yaml", "wrong.yaml"], "DENI", 1),
        (&["p.yaml", "p.yaml", "--namespace", "shop"], "give the labels of the workload too", 2),
        (
            &["p.yaml", "s.yaml", "--namespace", "shop", "--waypoint", "w"],
            "give the service that the requests are for",
            2,
        ),
    ] {
        let (_, err, status) = run(folder.path(), &[&["diff"], arguments].concat());
        assert!(err.contains(said) && status == Some(code), "{arguments:?}: {status:?} {err}");
    }
}

/// What odd requests can have is not left out: an empty query, a line feed in a server name, a certificate of which only one
/// name can be read.
#[test]
fn odd_requests_count() {
    let condition =
        |action: &str, key: &str, values: &str| policy("p", action, &format!("when: [{{ key: \"{key}\", {values} }}]"));
    let changes = [
        (
            condition("ALLOW", "request.headers[:path]", "values: [\"/a?\"]"),
            condition("ALLOW", "request.headers[:path]", "values: [\"/b?\"]"),
        ),
        (
            condition("DENY", "connection.sni", "notValues: [\"*\"]"),
            condition("DENY", "connection.sni", "notValues: [\"a*\", \"*\"], values: [b]"),
        ),
        (
            policy(
                "p",
                "ALLOW",
                "from: [{ source: { principals: [td/ns/a/sa/x] } }]\n    when: [{ key: source.principal, notValues: [td/ns/b/sa/y] }]",
            ),
            policy("p", "ALLOW", "from: [{ source: { principals: [td/ns/a/sa/x] } }]"),
        ),
    ];
    for (old, new) in changes {
        let comparison = json(&old, &new, &[]);
        assert_ne!(gained_and_lost(&comparison), [0, 0], "{old}\n{new}");
    }
}

/// A CUSTOM policy denies where nobody can be asked.
#[test]
fn who_is_asked_is_known() {
    let custom = |name: &str, provider: &str, target: &str| {
        format!(
            "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{ name: {name}, namespace: shop }}\nspec: {{ {target} \
             action: CUSTOM, provider: {{ name: {provider} }}, rules: [{{ to: [{{ operation: {{ paths: [/{name}] }} }}] }}] }}\n"
        )
    };
    let mesh = |provider: &str, kind: &str| {
        format!(
            "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{ name: istio, namespace: istio-system }}\ndata:\n  mesh: |\n    \
             extensionProviders:\n    - name: {provider}\n      {kind}: {{ service: a.b.svc.cluster.local, port: 80 }}\n"
        )
    };
    let login = custom("login", "login", "");
    let [known, unknown] = ["login", "signin"].map(|name| mesh(name, "envoyExtAuthzGrpc") + &login);
    assert_eq!(gained_and_lost(&json(&known, &unknown, &[])), [0, 1], "the provider is not in the mesh any more");
    assert_eq!(gained_and_lost(&json(&unknown, &known, &[])), [1, 0]);
    let http = |login: &str| mesh("login", "envoyExtAuthzHttp") + login;
    assert_eq!(gained_and_lost(&json(&http(""), &http(&login), &["--tcp"])), [0, 0], "not enforced over TCP");
    assert_eq!(gained_and_lost(&json(&http(""), &http(&login), &[])), [0, 1]);
    let labelled = |app: &str| custom("keys", "keys", &format!("selector: {{ matchLabels: {{ app: {app} }} }},"));
    let both = login.clone() + &labelled("a");
    let (_, err, status) = compare(&login, &both, &[]);
    assert!(
        status == Some(2) && err.contains("name the workload") && err.contains("shop/login and shop/keys"),
        "{err}"
    );
    let at = |app: &str| ["--namespace", "shop", "--label", app].map(str::to_owned);
    for (app, expected) in [("app=a", [0, 2]), ("app=b", [0, 0])] {
        let arguments = at(app);
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        assert_eq!(gained_and_lost(&json(&login, &both, &arguments)), expected, "{app}");
    }
}

/// Long lists of texts that have much in common, of every form.
#[test]
fn long_lists_are_compared() {
    type Item<'i> = &'i dyn Fn(usize) -> String;
    let name =
        |number: usize| format!("{}{}", ["shop", "pay", "admin", "api", "blog"][number % 5], number * 7919 % 1000);
    let host = |number: usize| match number % 4 {
        0 => format!("'*.{}.example'", name(number)),
        1 => format!("{}.example", name(number)),
        2 => format!("'{}.example:*'", name(number)),
        _ => format!("'{}.*'", name(number)),
    };
    let path = |number: usize| match number % 4 {
        0 => format!("'*/{}'", name(number)),
        1 => format!("'/{}/*'", name(number)),
        2 => format!("'/{{*}}/{}/{{**}}'", name(number)),
        _ => format!("/{}", name(number)),
    };
    let network = |number: usize| format!("10.{}.{}.0/{}", number % 7, number % 251, 20 + number % 9);
    let account = |number: usize| format!("{}/{}", name(number), name(number + 7));
    // There can be 16 service accounts at most.
    let lists: [(&str, Item<'_>, usize); 7] = [
        ("to: [{ operation: { hosts: [LIST] } }]", &host, 120),
        ("when: [{ key: 'request.headers[x-tenant]', values: [LIST] }]", &|number| format!("'*{}'", name(number)), 120),
        ("to: [{ operation: { paths: [LIST] } }]", &path, 120),
        ("from: [{ source: { ipBlocks: [LIST] } }]", &network, 120),
        ("from: [{ source: { namespaces: [LIST] } }]", &name, 120),
        ("from: [{ source: { principals: [LIST] } }]", &|number| format!("'*/sa/{}'", name(number)), 120),
        ("from: [{ source: { serviceAccounts: [LIST] } }]", &account, 16),
    ];
    for (rule, item, count) in lists {
        for (action, direction) in [("DENY", [1, 0]), ("ALLOW", [0, 1])] {
            let of = |items: Vec<String>| policy("many", action, &rule.replace("LIST", &items.join(", ")));
            let items: Vec<_> = (0..count).map(item).collect();
            let reversed = of(items.iter().rev().cloned().collect());
            assert_eq!(gained_and_lost(&json(&of(items.clone()), &reversed, &[])), [0, 0], "{action} {rule}");
            let without_one = of([&items[..count / 2], &items[count / 2 + 1..]].concat());
            assert_eq!(gained_and_lost(&json(&of(items), &without_one, &[])), direction, "{action} {rule}");
        }
    }
}

/// Envoy cuts a name of more than 2,048 bytes, so it means another one than what is written.
#[test]
fn a_difference_is_only_said_if_it_is_decided_so() {
    let rule = |name: &str| format!("from: [{{ source: {{ principals: [{name}] }} }}]");
    let long = format!("cluster.local/ns/shop/sa/{}", "a".repeat(2_100));
    let old = policy("orders", "ALLOW", &rule("cluster.local/ns/shop/sa/b"));
    let new = policy("orders", "ALLOW", &rule(&long));
    let comparison = json(&old, &new, &[]);
    assert_eq!(comparison["gained"].as_array().unwrap().len(), 0, "{comparison}");
}

/// What asks for a request principal and excludes it matches nothing.
#[test]
fn a_request_principal_that_is_excluded_is_none() {
    let rule = |who: &str| {
        let rule = format!("from: [{{ source: {{ requestPrincipals: [{who}], notRequestPrincipals: [{who}] }} }}]");
        policy("orders", "ALLOW", &rule)
    };
    let comparison = json(&rule("issuer/a"), &rule("issuer/b"), &[]);
    assert_eq!(gained_and_lost(&comparison), [0, 0], "{comparison}");
    let unchanged = comparison["unchanged"].as_array().unwrap();
    assert!(!unchanged.is_empty(), "{comparison}");
    for unchanged in unchanged {
        assert_eq!(unchanged["reason"], "no request can match it", "{comparison}");
    }
}

/// With permit-overrides, a DENY policy that applies is enough to refuse what no ALLOW rule matches.
#[test]
fn a_policy_that_newly_applies_is_called_what_it_is() {
    let deny = policy("other", "DENY", "to: [{ operation: { methods: [DELETE] } }]");
    let allow = policy("orders", "ALLOW", "to: [{ operation: { methods: [GET] } }]");
    let permit = &["--combining", "permit-overrides"][..];
    let said = |old: &str, new: &str, direction: &str, arguments: &[&str]| {
        let comparison = json(old, new, arguments);
        comparison[direction][0]["requests"].as_str().map(str::to_owned)
    };
    let none = "\n";
    let any = "a policy applies to their workload now, and no rule of an ALLOW policy matches them";
    assert_eq!(said(none, &deny, "lost", permit).as_deref(), Some(any));
    let no_more = "no policy applies to their workload any more, and no rule of an ALLOW policy matched them";
    assert_eq!(said(&deny, none, "gained", permit).as_deref(), Some(no_more));
    let newly = "an ALLOW policy applies to their workload now, and no rule of one matches them";
    assert_eq!(said(none, &allow, "lost", &[]).as_deref(), Some(newly));
}
