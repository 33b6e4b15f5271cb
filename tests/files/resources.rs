//! What a cluster takes and refuses of a file, apart from the policy language: documents, lists, metadata, durations.

use std::path::PathBuf;
use std::sync::Arc;

use mesh_authz_cli::load::Resources;
use mesh_authz_cli::load::finding::SourceText;

/// The number of policies and other resources in a text, and all mistakes.
fn read(text: &str) -> (usize, usize, Vec<String>) {
    let resources = Resources::of(&Arc::new(SourceText::new(PathBuf::from("p.yaml"), text.to_owned())));
    let mistakes = resources.findings.iter().map(|finding| finding.diagnostic.to_string()).collect();
    (resources.policies.len(), resources.others.len(), mistakes)
}

const POLICY: &str = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: p }\nspec: {}\n";

#[test]
fn every_document_of_a_file_for_kubectl_is_a_resource() {
    for (other, mistake) in [
        ("foo: bar", "this document has no `apiVersion` or no `kind`: kubectl refuses the file"),
        ("{}", "this document has no `apiVersion` or no `kind`: kubectl refuses the file"),
        ("kind: ConfigMap", "this document has no `apiVersion` or no `kind`: kubectl refuses the file"),
        ("[]", "a list is no resource: kubectl refuses the file"),
        ("text", "a single value is no resource: kubectl refuses the file"),
    ] {
        let (policies, _, mistakes) = read(&format!("{POLICY}---\n{other}\n"));
        assert_eq!((policies, mistakes.len()), (1, 1), "{other}");
        assert!(mistakes[0].starts_with(mistake), "{other}: {mistakes:?}");
        // By itself, it is no file for kubectl.
        assert_eq!(read(&format!("{other}\n")), (0, 1, vec![]), "{other}");
    }
    let array = format!(
        "[{}]",
        r#"{"apiVersion":"security.istio.io/v1","kind":"AuthorizationPolicy","metadata":{"name":"p"}}"#
    );
    assert!(read(&array).2[0].starts_with("a list is no resource"));
    assert_eq!(read(&format!("{POLICY}---\napiVersion: v1\nkind: ConfigMap\n")), (1, 1, vec![]));
    assert_eq!(read(&format!("{POLICY}---\n# nothing\n---\nnull\n")), (1, 0, vec![]));
    assert_eq!(read(&format!("{POLICY}---\ntests: []\n")), (1, 1, vec![]));
}

#[test]
fn lists_are_read_as_kubectl_reads_them() {
    let item = "- metadata: { name: p }\n  spec: {}\n";
    let list = |kind: &str, item: &str| format!("apiVersion: security.istio.io/v1\nkind: {kind}\nitems:\n{item}");
    assert_eq!(read(&list("AuthorizationPolicyList", item)), (1, 0, vec![]));
    assert_eq!(read(&list("List", item)).0, 0);
    assert_eq!(read(&list("RequestAuthenticationList", item)).0, 0);
    let nested = "- apiVersion: v1\n  kind: List\n  items: []\n";
    assert!(read(&list("List", nested)).2[0].starts_with("a list within a list: kubectl refuses the file"));
}

#[test]
fn metadata_is_what_a_cluster_takes() {
    let with = |metadata: &str| read(&POLICY.replace("{ name: p }", &format!("{{ name: p, {metadata} }}"))).2;
    for metadata in [
        "namespace: ''",
        "labels: { a: b, 'example.com/a': 'b_c.d-1', c: '' }",
        "annotations: { 'example.com/A_b': 'any text / at all', UPPER.example/x: '' }",
        "creationTimestamp: '2026-02-28T23:59:59Z', generation: 3, uid: u, resourceVersion: '1'",
        "creationTimestamp: '2024-02-29T00:00:00.5+02:00', deletionTimestamp: null, deletionGracePeriodSeconds: 0",
        "creationTimestamp: null, labels: null, annotations: null, finalizers: [example.com/f]",
        "ownerReferences: [{ apiVersion: v1, kind: Pod, name: x, uid: u, controller: true, blockOwnerDeletion: false }]",
        "managedFields: [{ manager: kubectl, operation: Apply }]",
        "creationTimestamp: '2024-01-01T0:00:00,5Z', deletionTimestamp: '2024-01-01T00:00:00+24:60'",
        "generateName: a.b-, finalizers: [orphan, example.com/f]",
    ] {
        assert_eq!(with(metadata), Vec::<String>::new(), "{metadata}");
    }
    let large = format!("annotations: {{ a: '{}' }}", "x".repeat(262_144));
    for (metadata, path) in [
        ("labels: { a: 'b c' }", "metadata.labels.a"),
        ("labels: { a: '-b' }", "metadata.labels.a"),
        ("labels: { 'a b': c }", "metadata.labels[\"a b\"]"),
        ("labels: { 'Example.com/a': c }", "metadata.labels[\"Example.com/a\"]"),
        ("labels: { 'a/b/c': c }", "metadata.labels[\"a/b/c\"]"),
        ("labels: { 'a/': c }", "metadata.labels[\"a/\"]"),
        ("annotations: { 'a b': c }", "metadata.annotations[\"a b\"]"),
        (&large, "metadata.annotations"),
        ("clusterName: x", "metadata.clusterName"),
        ("finalizers: a", "metadata.finalizers"),
        ("finalizers: ['a b']", "metadata.finalizers[0]"),
        ("creationTimestamp: bad", "metadata.creationTimestamp"),
        ("creationTimestamp: '2026-02-29T00:00:00Z'", "metadata.creationTimestamp"),
        ("creationTimestamp: '2026-01-01T24:00:00Z'", "metadata.creationTimestamp"),
        ("creationTimestamp: '2026-01-01T00:00:00'", "metadata.creationTimestamp"),
        ("creationTimestamp: '2026-01-01 00:00:00Z'", "metadata.creationTimestamp"),
        ("generation: '3'", "metadata.generation"),
        ("generation: 1.5", "metadata.generation"),
        ("uid: 5", "metadata.uid"),
        ("generation: 9223372036854775808", "metadata.generation"),
        ("generateName: A-", "metadata.generateName"),
        ("generateName: 'a b'", "metadata.generateName"),
        ("managedFields: x", "metadata.managedFields"),
        ("finalizers: [orphan, foregroundDeletion]", "metadata.finalizers"),
        ("creationTimestamp: '2026-01-01T000:00:00Z'", "metadata.creationTimestamp"),
        ("creationTimestamp: '2026-01-01T00:00:00+25:00'", "metadata.creationTimestamp"),
        ("ownerReferences: [{ kind: Pod, name: x, uid: u }]", "metadata.ownerReferences[0].apiVersion"),
        ("ownerReferences: [{ apiVersion: v1, kind: Pod, name: x, uid: u, x: y }]", "metadata.ownerReferences[0].x"),
    ] {
        let mistakes = with(metadata);
        assert_eq!(mistakes.len(), 1, "{}: {mistakes:?}", &metadata[..metadata.len().min(99)]);
        assert!(mistakes[0].contains(&format!("{path}: ")), "{mistakes:?}");
    }
}

#[test]
fn durations_are_those_of_go() {
    let with = |timeout: &str| {
        read(&format!(
            "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{ name: r }}\nspec: {{ jwtRules: [{{ issuer: i, \
             jwksUri: 'https://i/j', timeout: '{timeout}' }}] }}\n"
        ))
        .2
    };
    for timeout in
        ["1m", "500ms", "1h", "1m30s", "5s", "0.5s", "1.5h", ".5s", "5.s", "+5s", "1000us", "1000µs", "1h0.1s"]
    {
        assert_eq!(with(timeout), Vec::<String>::new(), "{timeout}");
    }
    for timeout in [
        "",
        "5",
        "s",
        "5 s",
        "-5s",
        "0s",
        "1us",
        "999us",
        "5d",
        "1.5ms",
        "0.0015s",
        "1000001ns",
        "1..5s",
        "5ss",
        "1m30",
        "99999999999h",
    ] {
        assert_eq!(with(timeout).len(), 1, "{timeout}");
    }
}

#[test]
fn a_peer_authentication_is_what_a_cluster_takes() {
    let with = |spec: &str| {
        let head = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: { name: p }\n";
        let (_, others, mistakes) = read(&format!("{head}spec: {spec}\n"));
        assert_eq!(others, 1);
        mistakes
    };
    for spec in [
        "{}",
        "{ mtls: { mode: STRICT } }",
        "{ mtls: {} }",
        "{ selector: { matchLabels: { app: a } }, mtls: { mode: UNSET }, portLevelMtls: { 8080: { mode: DISABLE }, '443': {} } }",
        "",
    ] {
        assert_eq!(with(spec), Vec::<String>::new(), "{spec}");
    }
    for (spec, mistake) in [
        ("{ mtls: { mode: strict } }", "spec.mtls.mode: `strict` is unknown; did you mean `STRICT`?"),
        ("{ mtls: { mode: STRCIT } }", "spec.mtls.mode: `STRCIT` is unknown; did you mean `STRICT`?"),
        ("{ mtls: STRICT }", "spec.mtls: must be an object, is a string"),
        ("{ mtls: { mdoe: STRICT } }", "spec.mtls.mdoe: unknown field, did you mean mode?"),
        (
            "{ selector: { match_labels: { app: a } } }",
            "spec.selector.match_labels: unknown field, did you mean matchLabels?",
        ),
        ("{ selector: { matchLabels: { app: 'a*' } } }", "spec.selector.matchLabels.app: a selector takes no wildcard"),
        ("{ portLevelMtls: { 80: {} } }", "spec.portLevelMtls: needs a selector"),
        (
            "{ selector: { matchLabels: { a: b } }, portLevelMtls: { http: {} } }",
            "spec.portLevelMtls.http: `http` is not a port",
        ),
        (
            "{ selector: { matchLabels: { a: b } }, portLevelMtls: { 0: {} } }",
            "spec.portLevelMtls.0: `0` is not a port",
        ),
        (
            "{ selector: { matchLabels: { a: b } }, portLevelMtls: { '+80': {} } }",
            "spec.portLevelMtls[\"+80\"]: `+80` is not a port",
        ),
        (
            "{ selector: { matchLabels: { a: b } }, portLevelMtls: { '080': {} } }",
            "spec.portLevelMtls.080: `080` is not a port",
        ),
        ("{ selector: { matchLabels: { a: b } }, portLevelMtls: {} }", "spec.portLevelMtls: has no port in it"),
    ] {
        let mistakes = with(spec);
        assert_eq!(mistakes.len(), 1, "{spec}: {mistakes:?}");
        assert!(mistakes[0].starts_with(&format!("policy default/p: {mistake}")), "{spec}: {mistakes:?}");
    }
}
