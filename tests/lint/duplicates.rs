//! Resources with one name: an error where one cluster gets both, and a warning or nothing elsewhere.

use mesh_authz_cli::lint::lint;
use mesh_authz_cli::load::Resources;
use mesh_authz_cli::load::finding::Severity;

use crate::{one_spelling, policy};

const GET: &str = "{ rules: [{ to: [{ operation: { methods: [GET] } }] }] }";

/// What `check` says of files about resources with one name.
fn found(files: &[(&str, &str)], together: bool) -> Vec<Severity> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let file = folder.path().join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }
    let mut resources = Resources::read(&[folder.path()]).unwrap();
    if !together {
        resources.keep_errors_about_what_is_deployed_together();
    }
    let mut findings = std::mem::take(&mut resources.findings);
    findings.extend(lint(&resources, &one_spelling()));
    findings.iter().filter(|finding| finding.code == Some("MA011")).map(|finding| finding.severity).collect()
}

fn kustomization(fields: &str) -> String {
    format!("apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n{fields}\n")
}

#[test]
fn in_one_file_it_is_an_error() {
    let twice = policy("p", "{}") + &policy("p", GET);
    assert_eq!(found(&[("p.yaml", &twice)], false), [Severity::Error]);
}

#[test]
fn in_two_files_it_is_a_warning_unless_one_cluster_gets_both() {
    let (one, other) = (policy("p", "{}"), policy("p", GET));
    let files = [("dev/p.yaml", one.as_str()), ("prod/p.yaml", other.as_str())];
    assert_eq!(found(&files, false), [Severity::Warning]);
    assert_eq!(found(&files, true), [Severity::Error]);
    let allowed = other.replace("namespace: default", "namespace: default, annotations: { mesh-authz/allow: MA011 }");
    assert_eq!(found(&[files[0], ("prod/p.yaml", &allowed)], false), []);
    let elsewhere = policy("prod/p", GET);
    assert_eq!(found(&[files[0], ("prod/p.yaml", &elsewhere)], true), []);
}

#[test]
fn kustomizations_say_what_is_deployed_together() {
    let (one, other) = (policy("p", "{}"), policy("p", GET));
    let own = kustomization("resources: [p.yaml]");
    let with_base = kustomization("resources: [../../base]\npatches: [{ path: patch.yaml }]");
    let as_resource = kustomization("resources: [../../base, patch.yaml]");
    let strategic = kustomization("bases: [../../base]\npatchesStrategicMerge: [patch.yaml]");
    let base = [
        ("base/p.yaml", one.as_str()),
        ("base/kustomization.yaml", own.as_str()),
        ("overlays/prod/patch.yaml", other.as_str()),
    ];
    let overlay = |text: &str| {
        let mut files = base.to_vec();
        files.push(("overlays/prod/kustomization.yaml", text));
        found(&files, false)
    };
    assert_eq!(overlay(&with_base), [], "a patch");
    assert_eq!(overlay(&strategic), [], "a patch");
    assert_eq!(overlay(&as_resource), [Severity::Error], "both are deployed");
    assert_eq!(found(&base, false), [Severity::Warning], "nothing says what the other file is for");

    let both = [
        ("dev/p.yaml", one.as_str()),
        ("dev/kustomization.yaml", own.as_str()),
        ("prod/p.yaml", other.as_str()),
        ("prod/kustomization.yml", own.as_str()),
    ];
    assert_eq!(found(&both, false), [], "two kustomizations");
    let above = kustomization("resources: [dev, ./prod/]");
    let mut files = both.to_vec();
    files.push(("kustomization.yaml", &above));
    assert_eq!(found(&files, false), [Severity::Error], "one for both");

    let renamed = ["namespace: prod", "namePrefix: prod-", "nameSuffix: -prod"];
    for fields in renamed {
        let own_name = kustomization(&format!("resources: [p.yaml]\n{fields}"));
        let mut files = files.clone();
        files[3] = ("prod/kustomization.yml", &own_name);
        assert_eq!(found(&files, false), [], "{fields}");
    }
    let without_kind = "resources: [a.yaml, b.yaml]\n";
    let files = [("a.yaml", one.as_str()), ("b.yaml", other.as_str()), ("kustomization.yaml", without_kind)];
    assert_eq!(found(&files, false), [Severity::Error]);
}

/// What a kustomization changes is not what the files say.
#[test]
fn names_that_a_kustomization_changes_are_not_known() {
    let folder = tempfile::tempdir().unwrap();
    let text = policy(
        "shop/p",
        "{ selector: { matchLabels: { app: a } }, rules: [{ from: [{ source: { serviceAccounts: [shop/web] } }], to: [{ operation: { \
         ports: ['80'] } }] }] }",
    );
    let others = "---\n{ apiVersion: v1, kind: ServiceAccount, metadata: { name: eb, namespace: shop } }\n---\n{ apiVersion: apps/v1, kind: \
                  Deployment, metadata: { name: d, namespace: shop }, spec: { template: { metadata: { labels: { app: b } } } } }\n---\n{ \
                  apiVersion: v1, kind: Service, metadata: { name: s, namespace: shop }, spec: { selector: { app: a }, ports: [{ \
                  port: 80, targetPort: 8080 }] } }\n";
    std::fs::create_dir(folder.path().join("base")).unwrap();
    std::fs::write(folder.path().join("p.yaml"), text).unwrap();
    std::fs::write(folder.path().join("base/others.yaml"), others).unwrap();
    let codes = |fields: &str| {
        let file = folder.path().join("base/kustomization.yaml");
        std::fs::write(file, kustomization(&format!("resources: [others.yaml]\n{fields}"))).unwrap();
        let resources = Resources::read(&[folder.path()]).unwrap();
        let mut codes: Vec<_> = lint(&resources, &one_spelling()).iter().filter_map(|finding| finding.code).collect();
        codes.sort_unstable();
        codes
    };
    assert_eq!(codes(""), ["MA010", "MA044", "MA045"]);
    for fields in [
        "namespace: other",
        "namePrefix: w",
        "nameSuffix: -x",
        "commonLabels: { app: a }",
        "labels: [{ pairs: { app: a } }]",
    ] {
        assert_eq!(codes(fields), [""; 0], "{fields}");
    }
}

#[test]
fn a_kustomization_that_names_itself_ends() {
    let one = policy("p", "{}");
    let circle = kustomization("resources: [../b, p.yaml]");
    let back = kustomization("resources: [../a]");
    let files = [
        ("a/p.yaml", one.as_str()),
        ("a/kustomization.yaml", circle.as_str()),
        ("b/kustomization.yaml", back.as_str()),
    ];
    assert_eq!(found(&files, false), []);
}
