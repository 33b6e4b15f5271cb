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
fn a_list_itself_is_what_kubectl_reads() {
    let list = |rest: &str| read(&format!("{rest}\nitems: []\n")).2;
    for rest in [
        "apiVersion: v1\nkind: List\nmetadata: { resourceVersion: '', x: y }\nz: 1",
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicyList\nmetadata: { continue: '', remainingItemCount: 1 }",
        "apiVersion: v1\nkind: List\nmetadata: null",
        "apiVersion: v1\nkind: List\nmetadata: { continue: [1], remainingItemCount: x }",
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicyList\nx: null\nmetadata: { ResourceVersion: null, continue: 1 }",
    ] {
        assert_eq!(list(rest), Vec::<String>::new(), "{rest}");
    }
    for (rest, mistake) in [
        ("kind: List", "apiVersion: is missing"),
        ("apiVersion: 1e3\nkind: List", "apiVersion: must be a string, is a number"),
        ("apiVersion: v1\nkind: List\nmetadata: 1", "metadata: must be an object, is a number"),
        ("apiVersion: v1\nkind: List\nmetadata: { resourceVersion: 1 }", "metadata.resourceVersion: must be a string"),
        ("apiVersion: v1\nkind: List\nmetadata: { name: 1 }", "metadata.name: must be a string"),
        ("apiVersion: v1\nkind: List\nmetadata: { labels: { a: 1 } }", "metadata.labels.a: must be a string"),
        (
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicyList\nmetadata: { remainingItemCount: x }",
            "metadata.remainingItemCount: must be a number",
        ),
        (
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicyList\nmetadata: { continue: {} }",
            "metadata.continue: must be a string",
        ),
        (
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicyList\nmetadata: { name: a }",
            "metadata.name: unknown field",
        ),
        ("apiVersion: security.istio.io/v1\nkind: AuthorizationPolicyList\nspec: {}", "spec: unknown field"),
    ] {
        let found = list(rest);
        assert!(found.len() == 1 && found[0].starts_with(mistake), "{rest}: {found:?}");
    }
}

#[test]
fn a_status_is_ignored_apart_from_unknown_fields() {
    let with = |status: &str| read(&format!("{POLICY}status: {status}\n")).2;
    for status in [
        "x",
        "{ conditions: x }",
        "{ conditions: [{ type: 1, status: 'True' }], other: 1 }",
        "{ observedGeneration: 1 }",
        "{ conditions: [[], [a, [b]], { message: [c] }] }",
        "[{ conditions: [{ typ: a }] }]",
    ] {
        assert_eq!(with(status), Vec::<String>::new(), "{status}");
    }
    for (status, path) in [
        ("{ conditions: [{ typ: a }] }", "status.conditions[0].typ: unknown field, did you mean type?"),
        ("{ conditions: [[{ type: a }]] }", "status.conditions[0][0].type: unknown field"),
        ("{ conditions: { type: a } }", "status.conditions.type: unknown field"),
        ("{ conditions: [{ message: { a: b } }] }", "status.conditions[0].message.a: unknown field"),
        ("{ observedGeneration: { a: b } }", "status.observedGeneration.a: unknown field"),
        ("{ validationMessages: [{ type: { cod: a } }] }", "status.validationMessages[0].type.cod: unknown field"),
        ("{ validationMessages: [{ code: a }] }", "status.validationMessages[0].code: unknown field"),
    ] {
        assert!(with(status)[0].contains(path), "{status}: {:?}", with(status));
    }
}

#[test]
fn a_mistyped_peer_authentication_is_not_skipped() {
    let with = |version: &str, kind: &str| {
        read(&format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{ name: d }}\nspec: {{}}\n")).2
    };
    assert_eq!(with("security.istio.io/v1", "PeerAuthentication"), Vec::<String>::new());
    assert!(with("security.istio.io/v1", "PeerAuthentiction")[0].contains("must be PeerAuthentication"));
    assert!(with("security.istoi.io/v1", "PeerAuthentication")[0].contains("`security.istoi.io/v1` is not supported"));
    assert!(with("security.istio.io/v1/x", "PeerAuthentication")[0].contains("has two slashes"));
    assert_eq!(with("example.com/v1", "PeerAuthentication"), Vec::<String>::new());
}

#[test]
fn a_port_of_a_peer_authentication_stands_there_once() {
    let with = |first: &str| {
        read(&format!(
            "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{ name: d }}\nspec:\n  selector: {{ matchLabels: \
             {{ a: b }} }}\n  portLevelMtls:\n    '8080': {{ mode: {first} }}\n    '8080': {{ mode: UNSET }}\n"
        ))
        .2
    };
    for first in ["STRICT", "'no'"] {
        let found = with(first);
        assert!(found.len() == 1 && found[0].contains("spec.portLevelMtls.8080: stands here twice"), "{found:?}");
    }
}

#[test]
fn files_are_decoded_as_kubectl_decodes_them() {
    let folder = tempfile::tempdir().unwrap();
    let found = |bytes: &[u8]| {
        let file = folder.path().join("p.yaml");
        std::fs::write(&file, bytes).unwrap();
        let resources = Resources::read(&[file]).unwrap();
        let findings = resources.findings.iter().map(|finding| finding.diagnostic.to_string()).collect::<Vec<_>>();
        (resources.policies.len(), findings)
    };
    let in_utf_16 = |text: &str, bytes: fn(u16) -> [u8; 2]| -> Vec<u8> {
        ['\u{feff}'].into_iter().chain(text.chars()).collect::<String>().encode_utf16().flat_map(bytes).collect()
    };
    let json = r#"{"apiVersion":"security.istio.io\/v1","kind":"AuthorizationPolicy","metadata":{"name":"p"}}"#;
    for text in [POLICY, json] {
        assert_eq!(found(&[b"\xef\xbb\xbf", text.as_bytes()].concat()), (1, vec![]));
        assert_eq!(found(&in_utf_16(text, u16::to_le_bytes)), (1, vec![]));
        assert_eq!(found(&in_utf_16(text, u16::to_be_bytes)), (1, vec![]));
    }
    let odd = [in_utf_16(POLICY, u16::to_le_bytes), vec![b' ']].concat();
    assert!(found(&odd).1[0].contains("the file is not UTF-16"));
    assert!(found(b"a: \xff\n").1[0].contains("the file is not UTF-8, from byte 3 on"));
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
        "managedFields: [{ manager: \"a\\n\", operation: Apply, apiVersion: v1, fieldsType: FieldsV1 }]",
        "creationTimestamp: '2024-01-01T0:00:00,5Z', deletionTimestamp: '2024-01-01T00:00:00+24:60'",
        "generateName: a.b-, finalizers: [orphan, example.com/f]",
        "generateName: A-, generation: 9223372036854775807, deletionGracePeriodSeconds: -1",
        "managedFields: [{ manager: m, time: '2026-01-31T12:00:00Z', fieldsV1: { 'f:spec': {} }, subresource: status }]",
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
        ("generateName: A", "metadata.generateName"),
        (
            "ownerReferences: [{ apiVersion: a/b/c, kind: Pod, name: x, uid: u }]",
            "metadata.ownerReferences[0].apiVersion",
        ),
        ("ownerReferences: [{ apiVersion: a/, kind: Pod, name: x, uid: u }]", "metadata.ownerReferences[0].apiVersion"),
        ("generateName: '-'", "metadata.generateName"),
        ("generation: 9223372036854775808", "metadata.generation"),
        ("generation: 1e3", "metadata.generation"),
        ("generation: 0x10", "metadata.generation"),
        ("generation: 1.0", "metadata.generation"),
        ("managedFields: [x]", "metadata.managedFields[0]"),
        ("managedFields: [{ manager: 1 }]", "metadata.managedFields[0].manager"),
        ("managedFields: [{ time: now }]", "metadata.managedFields[0].time"),
        ("managedFields: [{ fields: {} }]", "metadata.managedFields[0].fields"),
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
