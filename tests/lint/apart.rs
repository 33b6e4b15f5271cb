//! Lints about files that kustomizations keep apart, or of which one is a patch of another.

use mesh_authz_cli::lint::{LintContext, lint};
use mesh_authz_cli::load::Resources;

use crate::policy;

/// The codes of the findings in a tree of files, each with the file.
fn found(files: &[(&str, &str)]) -> Vec<(&'static str, String)> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let resources = Resources::read(&[folder.path()]).unwrap();
    let name = |path: &std::path::Path| path.strip_prefix(folder.path()).unwrap().display().to_string();
    let found = lint(&resources, &LintContext::default());
    let mut found: Vec<_> =
        found.into_iter().map(|finding| (finding.code.unwrap(), name(&finding.source.file))).collect();
    found.sort();
    found
}

fn kustomization(fields: &str) -> String {
    format!("apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n{fields}\n")
}

/// A policy without a namespace, which a kustomization adds.
fn without_namespace(name: &str, spec: &str) -> String {
    policy(name, spec).replace(", namespace: default", "")
}

#[test]
fn rules_of_two_deployments_are_not_compared() {
    let locked = policy("shop/locked", "{ action: DENY, rules: [{}] }");
    let allow = policy("shop/allow", "{ rules: [{ from: [{ source: { namespaces: [web] } }] }] }");
    let again = policy("shop/again", "{ rules: [{ from: [{ source: { namespaces: [web, batch] } }] }] }");
    let [own, only_locked] = ["resources: [allow.yaml]", "resources: [locked.yaml]"].map(kustomization);
    let both = kustomization("resources: [../prod, locked.yaml]");
    let files = |dev: &'static str| {
        let dev = if dev == "both" { &both } else { &only_locked };
        vec![
            ("prod/allow.yaml", allow.as_str()),
            ("prod/kustomization.yaml", own.as_str()),
            ("dev/locked.yaml", locked.as_str()),
            ("dev/kustomization.yaml", dev.as_str()),
        ]
    };
    assert_eq!(found(&files("apart")), []);
    assert_eq!(found(&files("both")), [("MA001", "prod/allow.yaml".to_owned())], "one deploys both");
    let unknown = [("a.yaml", allow.as_str()), ("b.yaml", locked.as_str())];
    assert_eq!(found(&unknown), [("MA001", "a.yaml".to_owned())], "nothing keeps them apart");
    let wider = [
        ("prod/allow.yaml", allow.as_str()),
        ("prod/kustomization.yaml", own.as_str()),
        ("dev/locked.yaml", again.as_str()),
        ("dev/kustomization.yaml", only_locked.as_str()),
    ];
    assert_eq!(found(&wider), []);
}

#[test]
fn two_applications_of_one_tree_have_their_own_namespaces() {
    let tokens = |issuer: &str| {
        without_namespace(
            "tokens",
            &format!("{{ rules: [{{ from: [{{ source: {{ requestPrincipals: ['{issuer}/*'] }} }}] }}] }}"),
        )
    };
    let issuer = |issuer: &str| {
        format!(
            "---\n{{ apiVersion: security.istio.io/v1, kind: RequestAuthentication, metadata: {{ name: r }}, spec: {{ jwtRules: [{{ \
             issuer: '{issuer}', jwksUri: 'https://k/k' }}] }} }}\n"
        )
    };
    let open =
        without_namespace("open", "{ rules: [{ to: [{ operation: { methods: [GET] } }] }] }") + &issuer("https://b");
    let (a, b) =
        (kustomization("resources: [p.yaml]\nnamespace: a"), kustomization("resources: [p.yaml]\nnamespace: b"));
    let files = |text: &str| {
        found(&[
            ("a/p.yaml", text),
            ("a/kustomization.yaml", &a),
            ("b/p.yaml", &open),
            ("b/kustomization.yaml", &b),
            ("kustomization.yaml", &kustomization("resources: [a, b]")),
        ])
    };
    let optional = ("MA043", "b/p.yaml".to_owned());
    assert_eq!(files(&tokens("https://a")), [], "the issuer of another application says nothing about it");
    let own = tokens("https://a") + &issuer("https://other").replace("name: r", "name: own");
    assert_eq!(files(&own), [("MA042", "a/p.yaml".to_owned())]);
    let nothing = without_namespace("nothing", "{ rules: [{ from: [{ source: { namespaces: [x] } }] }] }");
    assert_eq!(files(&nothing), [optional]);
}

#[test]
fn what_one_application_refuses_says_nothing_about_another() {
    let deny = without_namespace("deny", "{ action: DENY, rules: [{ from: [{ source: { namespaces: [dev] } }] }] }");
    let allow = |source: &str| without_namespace("allow", &format!("{{ rules: [{{ {source} }}] }}"));
    let identity = "from: [{ source: { principals: ['*'] } }]";
    let permissive = "---\n{ apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: { name: q }, spec: { mtls: { mode: \
                      PERMISSIVE } } }\n";
    let strict = permissive.replace("PERMISSIVE", "STRICT").replace("name: q", "name: s");
    let (a, b) =
        (kustomization("resources: [p.yaml]\nnamespace: a"), kustomization("resources: [p.yaml]\nnamespace: b"));
    let files = |one: &str, other: &str| {
        found(&[("a/p.yaml", one), ("a/kustomization.yaml", &a), ("b/p.yaml", other), ("b/kustomization.yaml", &b)])
    };
    let slips = [("MA003", "a/p.yaml".to_owned())];
    assert_eq!(files(&deny, &allow("to: [{ operation: { methods: [GET] } }]")), slips);
    let with_allow = deny.clone() + &allow(identity);
    assert_eq!(files(&with_allow, &allow("to: [{ operation: { methods: [GET] } }]")), [], "the other one is open");
    assert_eq!(files(&(deny + &strict), permissive), [], "the other one accepts plaintext");
}

#[test]
fn a_patch_is_not_a_whole_policy() {
    let base = policy(
        "shop/p",
        "{ selector: { matchLabels: { app: a } }, action: DENY, rules: [{ from: [{ source: { notNamespaces: [shop] } }] }] }",
    );
    let patch = policy(
        "shop/p",
        "{ rules: [{ from: [{ source: { notNamespaces: [shop, qa] } }] }, { to: [{ operation: { notPaths: [/open], methods: [get] } }] }] }",
    );
    let [own, patched, both] =
        ["resources: [p.yaml]", "resources: [../base]\npatches: [{ path: p.yaml }]", "resources: [p.yaml]"]
            .map(kustomization);
    let files = |overlay: &str| {
        let overlay = if overlay == "patch" { &patched } else { &both };
        found(&[
            ("base/p.yaml", base.as_str()),
            ("base/kustomization.yaml", own.as_str()),
            ("qa/p.yaml", patch.as_str()),
            ("qa/kustomization.yaml", overlay.as_str()),
        ])
    };
    let codes = |overlay: &str| files(overlay).into_iter().map(|(code, _)| code).collect::<Vec<_>>();
    assert_eq!(codes("patch"), ["MA006"], "a value is wrong whatever the action is");
    assert_eq!(codes("resource"), ["MA004", "MA006", "MA017", "MA019", "MA038"]);
}
