//! Files with a name: what once differed, and what a generator seldom or never writes.

/// What is expected of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The cluster and the command take it, and read the same.
    Taken,
    /// Both refuse it.
    Refused,
    /// They differ, for the reason with this name.
    Differs(&'static str),
}

use Expected::{Differs, Refused, Taken};

/// A policy with this metadata and spec.
fn policy(metadata: &str, spec: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{ name: p{metadata} }}\nspec: {spec}\n"
    )
}

fn paths(paths: &str) -> String {
    policy("", &format!("{{ rules: [{{ to: [{{ operation: {{ paths: {paths} }} }}] }}] }}"))
}

fn condition(key: &str) -> String {
    policy("", &format!("{{ rules: [{{ when: [{{ key: '{key}', values: [a] }}] }}] }}"))
}

fn block(value: &str) -> String {
    policy("", &format!("\n  rules:\n  - to:\n    - operation:\n        paths:{value}"))
}

/// A `RequestAuthentication` with this rule.
fn jwt(rule: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{ name: r }}\nspec: {{ jwtRules: [{{ {rule} }}] }}\n"
    )
}

fn jwks(set: &str) -> String {
    jwt(&format!("issuer: i, jwks: '{set}'"))
}

fn peer(version: &str, kind: &str, spec: &str) -> String {
    format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{ name: d }}\nspec: {spec}\n")
}

fn many(count: usize, item: impl Fn(usize) -> String) -> String {
    (0..count).map(item).collect::<Vec<_>>().join(", ")
}

/// Lists of nine aliases of lists of nine aliases, and so on, in a field that no cluster has.
fn bomb(levels: usize) -> String {
    let level = |n: usize| {
        format!("  a{n}: &a{n} [{}]\n", many(9, |_| if n == 0 { "x".to_owned() } else { format!("*a{}", n - 1) }))
    };
    format!("{}status:\n{}", policy("", "{}"), (0..=levels).map(level).collect::<String>())
}

const JSON: &str = r#"{"apiVersion":"security.istio.io/v1","kind":"AuthorizationPolicy","metadata":{"name":"p"},"spec":{"action":"DENY","rules":[{}]}}"#;

/// All files, with their names.
pub fn files() -> Vec<(&'static str, String, Expected)> {
    let plain = policy("", "{}");
    let mut files = readings(&plain);
    files.extend(metadata(&plain));
    files.extend(policies());
    files.extend(authentications());
    files
}

/// How a file is read.
fn readings(plain: &str) -> Vec<(&'static str, String, Expected)> {
    let list = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicyList\nitems:\n- metadata: { name: p }\n  spec: {}\n";
    let any = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: security.istio.io/v1\n  kind: AuthorizationPolicy\n  metadata: { name: p }\n";
    let in_metadata = |fields: &str| list.replace("items:", &format!("metadata: {{ {fields} }}\nitems:"));
    let in_any = |fields: &str| any.replace("items:", &format!("metadata: {{ {fields} }}\nitems:"));
    vec![
        ("a list with an unknown field that is null", format!("{list}x:\n"), Taken),
        ("a list with an unknown field", format!("{list}x: y\n"), Refused),
        ("a list with unknown metadata that is null", in_metadata("ResourceVersion:"), Taken),
        ("a list with unknown metadata", in_metadata("ResourceVersion: a"), Refused),
        ("a list with a number in its metadata", in_metadata("continue: 1"), Taken),
        ("a list with a map in its metadata", in_metadata("continue: { a: b }"), Refused),
        ("a list with a list in its metadata", in_metadata("continue: []"), Refused),
        ("a list with a version that is a boolean", in_metadata("resourceVersion: true"), Refused),
        ("a list with a number of items", in_metadata("remainingItemCount: 1.5"), Taken),
        ("a list with a number of items that is no number", in_metadata("remainingItemCount: x"), Refused),
        ("a list of any kind with a map in its metadata", in_any("continue: { a: b }, remainingItemCount: x"), Taken),
        ("a list of any kind with a version that is a number", in_any("resourceVersion: 1"), Refused),
        ("a list of any kind with a name that is a number", in_any("name: 1"), Refused),
        ("a list of any kind with a label that is a number", in_any("labels: { a: 1 }"), Refused),
        ("a list of any kind with a label that is null", in_any("labels: { a: }"), Taken),
        ("a list of any kind with annotations that are a text", in_any("annotations: a"), Refused),
        ("a flow list over several lines", block(" [\n  \"/a\", # one\n\n  \"/b\",\n]"), Taken),
        ("tabs in a flow list", block(" [\n\t\"/a\"\n]"), Taken),
        ("a line of only a tab", format!("{plain}\t\n"), Refused),
        ("a question mark in a flow list", block(" [/a?b]"), Refused),
        ("a colon in a flow list", policy("", "{ rules: [{ from: [{ source: { ipBlocks: [::1] } }] }] }"), Refused),
        ("text behind a separator", format!("{plain}--- x\n{plain}"), Refused),
        ("a comment behind a separator", format!("{plain}---#x\n"), Taken),
        ("a directive", format!("%YAML 1.2\n---\n{plain}"), Refused),
        ("JSON, one object after the other", format!("{JSON}\n{}\n", JSON.replace("\"p\"", "\"q\"")), Taken),
        ("JSON on one line", format!("{JSON}{}", JSON.replace("\"p\"", "\"q\"")), Taken),
        ("JSON in a list", format!("[{JSON}]"), Refused),
        ("JSON with escaped slashes", JSON.replace('/', "\\/"), Taken),
        ("JSON with a mark of byte order", format!("\u{feff}{}", JSON.replace('/', "\\/")), Taken),
        ("JSON with half a character", JSON.replace("DENY", "DENY\\ud800"), Refused),
        (
            "JSON with the other half of a character",
            JSON.replace("{}", r#"{"to":[{"operation":{"paths":["/\udc00"]}}]}"#),
            Taken,
        ),
        (
            "JSON with both halves of a character",
            JSON.replace("{}", r#"{"to":[{"operation":{"paths":["/\ud83d\ude00"]}}]}"#),
            Taken,
        ),
        ("JSON with a comment", JSON.replace(",\"spec\"", ", # c\n\"spec\""), Differs("what begins as JSON")),
        ("YAML with a mark of byte order", format!("\u{feff}{plain}"), Taken),
        (
            "a mark of byte order in a later document",
            format!("{plain}---\n\u{feff}{}", plain.replace(" p ", " q ")),
            Taken,
        ),
        ("a mark of byte order in a text", block(" ['/\u{feff}a']"), Differs("a mark of byte order")),
        (
            "a directive behind a document, and no YAML",
            format!("{plain}%YAML 1.1\n    -  a:\n"),
            Differs("text outside a document"),
        ),
        ("an open quote behind a document", format!("{plain}...\n\"\n"), Differs("text outside a document")),
        ("a document behind its end", format!("{plain}...\n{plain}"), Differs("text outside a document")),
        ("a tag for a time", block(" [!!timestamp 2024-01-01]"), Differs("a tag")),
        ("a tag for bytes", block(" [!!binary L2E=]"), Taken),
        ("a merge key", format!("x-a: &a {{ name: p }}\n{}", plain.replace("{ name: p }", "{ <<: *a }")), Refused),
        ("a merge key of a map", plain.replace("{ name: p }", "{ <<: { name: p } }"), Taken),
        ("line breaks of Unicode", block(" [\"/a\u{85}b\", '/c\u{2028}d']"), Taken),
        ("a key that is no number", policy(", labels: { .nan: a }", "{}"), Refused),
        ("numbers of YAML 1.1 as text", block(" [1_000]"), Refused),
        ("a boolean of YAML 1.1 as text", policy("", "{ action: on }"), Refused),
        ("a list without kinds", list.to_owned(), Taken),
        (
            "a list in a list",
            "apiVersion: v1\nkind: List\nitems:\n- { apiVersion: v1, kind: List, items: [] }\n".to_owned(),
            Refused,
        ),
        ("a list without a version", list.replace("apiVersion: security.istio.io/v1\n", ""), Refused),
        ("a list with another version", list.replace("security.istio.io/v1", "1e3"), Refused),
        ("a list with unknown metadata", format!("{list}metadata: {{ x: y }}\n"), Refused),
        ("a list with metadata that is no map", format!("{list}metadata: 1.5\n"), Refused),
        ("a list with an unknown field", format!("{list}x: y\n"), Refused),
        ("a document without a kind", format!("{plain}---\na: b\n"), Refused),
        ("an apiVersion with two slashes", plain.replace("io/v1", "io/v1/x"), Refused),
        ("a mistyped group", peer("security.istoi.io/v1", "PeerAuthentication", "{}"), Refused),
        ("no text at all", "# nothing\n".to_owned(), Refused),
        ("deep nesting", format!("{plain}status: {}{}\n", "[".repeat(200), "]".repeat(200)), Differs("deep nesting")),
        ("aliases of aliases", bomb(9), Refused),
        ("some aliases of aliases", bomb(3), Refused),
        ("aliases", bomb(1), Taken),
        (
            "many aliases of one list",
            format!("{plain}status: {{ a: &a [1, 2, 3], b: [{}] }}\n", many(300, |_| "*a".to_owned())),
            Taken,
        ),
        (
            "too many aliases of a list",
            format!(
                "{plain}status: {{ a: &a [{}], b: [{}] }}\n",
                many(300, |n| n.to_string()),
                many(400, |_| "*a".to_owned())
            ),
            Refused,
        ),
        (
            "aliases of a list with many values",
            format!("{plain}status: {{ a: &a [{}], b: [*a, *a] }}\n", many(300, |n| n.to_string())),
            Taken,
        ),
        ("a long line", block(&format!(" ['/{}']", "a".repeat(70_000))), Taken),
        ("a name twice", format!("{plain}---\n{plain}"), Differs("a name twice")),
        (
            "a key twice, in JSON",
            JSON.replace("\"action\":", "\"action\":\"ALLOW\",\"action\":"),
            Differs("a key twice"),
        ),
        ("a key twice", policy("", "{ action: ALLOW, action: DENY, rules: [{}] }"), Differs("a key twice")),
        (
            "a kind that no cluster has",
            peer("example.com/v1", "Thing", "{}"),
            Differs("a kind that the cluster does not have"),
        ),
        (
            "a Service that is wrong",
            peer("v1", "Service", "{ ports: 80 }"),
            Differs("a mistake in a resource of another kind"),
        ),
    ]
}

fn metadata(plain: &str) -> Vec<(&'static str, String, Expected)> {
    let with = |metadata: &str| policy(&format!(", {metadata}"), "{}");
    let long = "x".repeat(262_140);
    vec![
        ("a label with a space", with("labels: { a: b c }"), Refused),
        ("a label without a value", with("labels: { a: }"), Differs("null")),
        ("a long label", with(&format!("labels: {{ {}: b }}", "a".repeat(64))), Refused),
        ("an annotation with a space", with("annotations: { a b: c }"), Refused),
        ("large annotations", with(&format!("annotations: {{ a: {long} }}")), Taken),
        ("annotations that are too large", with(&format!("annotations: {{ a: {long}xxxx }}")), Refused),
        ("a reserved annotation", with("annotations: { internal.istio.io/parents: x }"), Refused),
        ("an unknown field of metadata", with("clusterName: x"), Refused),
        ("an empty namespace", with("namespace: ''"), Taken),
        ("only the beginning of a name", plain.replace("name: p", "generateName: p-"), Refused),
        ("a name that begins with a dash", with("generateName: '-'"), Refused),
        ("a name that begins with what is cut off", with("generateName: A-"), Taken),
        ("a generation in quotes", with("generation: '1'"), Refused),
        ("a large generation", with("generation: 9223372036854775807"), Taken),
        ("a generation that is too large", with("generation: 9223372036854775808"), Refused),
        ("a generation with an exponent", with("generation: 1e3"), Differs("a number of metadata")),
        ("a generation with an exponent, in JSON", JSON.replace("\"p\"", "\"p\",\"generation\":1e3"), Refused),
        ("who manages which fields", with("managedFields: [{ manager: m, operation: Apply, time: '2026-01-31T12:00:00Z', fieldsV1: { 'f:spec': {} } }]"), Taken),
        ("managed fields at no time", with("managedFields: [{ manager: m, time: now }]"), Refused),
        ("managed fields that are a text", with("managedFields: [x]"), Refused),
        ("an owner without a name", with("ownerReferences: [{ apiVersion: v1, kind: Pod, uid: u }]"), Refused),
        (
            "a namespace that is no text, in a list",
            "apiVersion: v1\nkind: List\nitems: [{ apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: { name: d, namespace: yes } }]\n".to_owned(),
            Differs("a namespace that is no text"),
        ),
        ("a namespace that is no text", with("namespace: yes"), Refused),
        ("a status with an unknown field", format!("{plain}status: {{ conditions: [{{ typ: a }}] }}\n"), Refused),
        ("a status with an unknown field, in a list within a list", format!("{plain}status: {{ conditions: [[{{ type: a }}]] }}\n"), Refused),
        ("a status with a field in a text", format!("{plain}status: {{ conditions: [{{ message: {{ a: b }} }}] }}\n"), Refused),
        ("a status with a field in a number", format!("{plain}status: {{ observedGeneration: {{ a: b }} }}\n"), Refused),
        ("a status with a field in the type of a message", format!("{plain}status: {{ validationMessages: [{{ type: {{ cod: a }} }}] }}\n"), Refused),
        ("a status with a map in place of a list", format!("{plain}status: {{ conditions: {{ a: b }} }}\n"), Refused),
        ("a status with lists in place of other values", format!("{plain}status: {{ conditions: [[], [a, [b]], {{ message: [c] }}] }}\n"), Taken),
        (
            "a manager with a line feed, without fields",
            with("managedFields: [{ manager: \"a\\nb\", operation: Update, apiVersion: security.istio.io/v1, fieldsType: FieldsV1 }]"),
            Taken,
        ),
        (
            "a manager with a line feed, and with fields",
            with("managedFields: [{ manager: \"a\\nb\", operation: Update, apiVersion: security.istio.io/v1, fieldsType: FieldsV1, fieldsV1: { 'f:x': {} } }]"),
            Differs("who manages fields"),
        ),
        ("a status that is a text", format!("{plain}status: x\n"), Taken),
        ("an owner with two slashes in its version", with("ownerReferences: [{ apiVersion: a/b/c, kind: Pod, name: x, uid: u }]"), Refused),
        ("a status", format!("{plain}status: {{ conditions: [{{ type: a, status: 'True' }}], observedGeneration: '1' }}\n"), Taken),
    ]
}

fn policies() -> Vec<(&'static str, String, Expected)> {
    let rules = |count| policy("", &format!("{{ rules: [{}] }}", many(count, |_| "{}".to_owned())));
    let accounts = |count| {
        policy(
            "",
            &format!(
                "{{ rules: [{{ from: [{{ source: {{ serviceAccounts: [{}] }} }}] }}] }}",
                many(count, |n| format!("a{n}"))
            ),
        )
    };
    let targets = |count| {
        policy("", &format!("{{ targetRefs: [{}] }}", many(count, |n| format!("{{ kind: Service, name: s{n} }}"))))
    };
    let from = |from: &str| policy("", &format!("{{ rules: [{{ from: {from} }}] }}"));
    vec![
        ("512 rules", rules(512), Taken),
        ("513 rules", rules(513), Refused),
        ("16 service accounts", accounts(16), Taken),
        ("17 service accounts", accounts(17), Refused),
        ("16 targets", targets(16), Taken),
        ("17 targets", targets(17), Refused),
        (
            "a service account of 320 bytes",
            from(&format!("[{{ source: {{ serviceAccounts: [{}] }} }}]", "a".repeat(320))),
            Taken,
        ),
        (
            "a service account of 321 bytes",
            from(&format!("[{{ source: {{ serviceAccounts: [{}] }} }}]", "a".repeat(321))),
            Refused,
        ),
        ("a name of 253 bytes", policy("", "{}").replace("name: p", &format!("name: {}", "a".repeat(253))), Taken),
        ("a name of 254 bytes", policy("", "{}").replace("name: p", &format!("name: {}", "a".repeat(254))), Refused),
        ("512 sources", from(&format!("[{}]", many(512, |_| "{ source: { namespaces: [a] } }".to_owned()))), Taken),
        ("513 sources", from(&format!("[{}]", many(513, |_| "{ source: { namespaces: [a] } }".to_owned()))), Refused),
        (
            "a target with a name of 254 bytes",
            policy("", &format!("{{ targetRef: {{ kind: Service, name: {} }} }}", "a".repeat(254))),
            Refused,
        ),
        (
            "a label of 63 other letters",
            policy("", &format!("{{ selector: {{ matchLabels: {{ a: {} }} }} }}", "é".repeat(63))),
            Taken,
        ),
        (
            "a label of 64 other letters",
            policy("", &format!("{{ selector: {{ matchLabels: {{ a: {} }} }} }}", "é".repeat(64))),
            Refused,
        ),
        ("a spec without a value", policy("", ""), Taken),
        ("rules without a value", policy("", "{ rules: }"), Taken),
        ("`from` without a value", from(""), Differs("null")),
        ("`from` without an item", from("[]"), Differs("an empty list")),
        ("a source without a field", from("[{ source: {} }]"), Refused),
        ("an unknown field", from("[{ source: { principal: [a] } }]"), Refused),
        ("a template without a slash", paths("['admin/{**}']"), Differs("a template")),
        ("a template with an empty segment", paths("['/a//{**}']"), Refused),
        ("a template with an empty segment at its end", paths("['/{*}//']"), Differs("a template")),
        ("a key with text before its bracket", condition("request.headersX[foo]"), Differs("a condition key")),
        ("a claim without a name", condition("request.auth.claims[]"), Refused),
        ("a claim without its second name", condition("request.auth.claims[a][]"), Differs("a condition key")),
        ("a key without an end", condition("request.headers[a"), Refused),
        ("an unknown key", condition("request.path"), Refused),
        (
            "an address with a zone",
            policy("", "{ rules: [{ from: [{ source: { ipBlocks: ['fe80::1%eth0'] } }] }] }"),
            Taken,
        ),
        (
            "a network with a zone",
            policy("", "{ rules: [{ from: [{ source: { ipBlocks: ['fe80::1%eth0/64'] } }] }] }"),
            Refused,
        ),
        (
            "a dry run of AUDIT",
            policy(", annotations: { istio.io/dry-run: 'true' }", "{ action: AUDIT, rules: [{}] }"),
            Refused,
        ),
    ]
}

fn authentications() -> Vec<(&'static str, String, Expected)> {
    let mut files = Vec::new();
    for (name, timeout, expected) in [
        ("a minute", "1m", Taken),
        ("milliseconds", "500ms", Taken),
        ("less than a millisecond", "999us", Refused),
        ("half a millisecond more", "1500us", Refused),
        ("no time", "0s", Refused),
        ("the longest time", "2562047h47m16.854s", Taken),
    ] {
        files.push((name, jwt(&format!("issuer: i, timeout: {timeout}")), expected));
    }
    for (name, set, expected) in [
        ("a set without a key", r#"{"keys":[]}"#, Differs("a key set")),
        ("a set that is one key", r#"{"kty":"oct","k":"eA"}"#, Differs("a key set")),
        ("text behind a set", r#"{"keys":[{"kty":"oct","k":"eA"}]} x"#, Differs("a key set")),
        ("a key that is no base64", r#"{"keys":[{"kty":"oct","k":"!"}]}"#, Refused),
        ("a key with a dot for padding", r#"{"keys":[{"kty":"oct","k":"eA.."}]}"#, Refused),
        ("a key in the other alphabet", r#"{"keys":[{"kty":"oct","k":"+/8="}]}"#, Taken),
        ("a key in both alphabets", r#"{"keys":[{"kty":"oct","k":"+_8="}]}"#, Refused),
        ("a key of no kind", r#"{"keys":[{"kty":"rsa","e":"AQAB","n":"AQ"}]}"#, Refused),
        ("an EC key without its curve", r#"{"keys":[{"kty":"EC","x":"AQ","y":"AQ"}]}"#, Refused),
        ("an RSA key without its modulus", r#"{"keys":[{"kty":"RSA","e":"AQAB"}]}"#, Refused),
        ("a key with a name that is a number", r#"{"keys":[{"kty":"oct","k":"eA","kid":1}]}"#, Refused),
        ("a key with uses that are a text", r#"{"keys":[{"kty":"oct","k":"eA","key_ops":"sign"}]}"#, Refused),
        ("a private key without its parts", r#"{"keys":[{"kty":"RSA","e":"AQAB","n":"AQ","d":1}]}"#, Refused),
        ("one wrong key of two", r#"{"keys":[{"kty":"oct","k":"eA"},{}]}"#, Refused),
    ] {
        files.push((name, jwks(set), expected));
    }
    let place = |uri: &str| jwt(&format!("jwksUri: '{uri}'"));
    files.extend([
        ("keys at port 0", place("https://a:0/k"), Differs("the place of a key set")),
        ("keys behind a user name", place("https://u@a/k"), Differs("the place of a key set")),
        ("keys at a path with other letters", place("https://a/é"), Differs("the place of a key set")),
        ("keys at a fragment without a path", place("https://a#k"), Refused),
        ("keys at a fragment", place("https://a/k#f"), Taken),
        ("keys at a place of 2,048 bytes", place(&format!("https://a/{}", "a".repeat(2038))), Taken),
        ("keys at a place of 2,049 bytes", place(&format!("https://a/{}", "a".repeat(2039))), Refused),
        ("64 claims", jwt(&format!("issuer: i, spaceDelimitedClaims: [{}]", many(64, |n| format!("a{n}")))), Taken),
        ("65 claims", jwt(&format!("issuer: i, spaceDelimitedClaims: [{}]", many(65, |n| format!("a{n}")))), Refused),
        ("keys at a wrong escape", place("https://a/%zz"), Refused),
        ("a header with a space", jwt("issuer: i, fromHeaders: [{ name: a b }]"), Differs("the name of a header")),
        (
            "a rule for requests without a token",
            jwt("issuer: i, presence: REQUIRED"),
            Differs("a field of a newer Istio"),
        ),
        ("neither an issuer nor keys", jwt("audiences: [a]"), Refused),
        (
            "a mode in lower case",
            peer("security.istio.io/v1", "PeerAuthentication", "{ mtls: { mode: strict } }"),
            Refused,
        ),
        (
            "a port that stands there twice",
            peer(
                "security.istio.io/v1",
                "PeerAuthentication",
                "{ selector: { matchLabels: { a: b } }, portLevelMtls: { '80': { mode: STRICT }, '80': { mode: UNSET } } }",
            ),
            Differs("a key twice"),
        ),
        (
            "ports without a selector",
            peer("security.istio.io/v1", "PeerAuthentication", "{ portLevelMtls: { 80: { mode: STRICT } } }"),
            Refused,
        ),
    ]);
    files
}
