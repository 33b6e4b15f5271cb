//! Small files, each with one value that may be wrong: every value of the vocabulary in every field that it is for, and
//! every kind of scalar in every kind of field.

use super::{
    tree::Tree,
    vocabulary::{
        ADDRESSES, CLAIM_HEADERS, CLAIMS, DRY_RUNS, DURATIONS, HEADER_NAMES, HOSTS, ISSUERS, JWKS, JWKS_URIS, KEYS,
        LABEL_KEYS, LABEL_VALUES, METHODS, NAMES, NAMESPACE_NAMES, NAMESPACES, ODD_ANNOTATIONS, ODD_KEYS, PATHS, PORTS,
        PRINCIPALS, REQUEST_PRINCIPALS, SCALARS, SERVICE_ACCOUNTS, TEXTS, TRUST_DOMAINS, Values,
    },
};

/// Fields of a source that some others exclude.
const FIELDS: [&str; 7] =
    ["principals", "notPrincipals", "namespaces", "notNamespaces", "serviceAccounts", "notServiceAccounts", "ipBlocks"];

/// All of them.
pub fn all() -> Vec<Tree> {
    let mut probes = Vec::new();
    policies(&mut probes);
    metadata(&mut probes);
    authentications(&mut probes);
    scalars(&mut probes);
    probes
}

fn every(values: &Values) -> impl Iterator<Item = Tree> {
    values.odd.iter().chain(values.right).map(|value| Tree::text(*value))
}

fn list(item: Tree) -> Tree {
    Tree::List(vec![item])
}

fn one<const N: usize>(entries: [(&str, Tree); N]) -> Tree {
    Tree::map(entries)
}

fn resource(kind: &str, metadata: Tree, spec: Tree) -> Tree {
    let version = ("apiVersion", Tree::text("security.istio.io/v1"));
    one([version, ("kind", Tree::text(kind)), ("metadata", metadata), ("spec", spec)])
}

fn name() -> Tree {
    one([("name", Tree::text("p"))])
}

fn policy(spec: Tree) -> Tree {
    resource("AuthorizationPolicy", name(), spec)
}

fn rule(rule: Tree) -> Tree {
    policy(one([("action", Tree::text("DENY")), ("rules", list(rule))]))
}

fn custom(rule: Tree) -> Tree {
    let provider = one([("name", Tree::text("allows"))]);
    policy(one([("action", Tree::text("CUSTOM")), ("provider", provider), ("rules", list(rule))]))
}

fn source(field: &str, values: Tree) -> Tree {
    rule(one([("from", list(one([("source", Tree::map([(field, values)]))])))]))
}

fn operation(field: &str, values: Tree) -> Tree {
    rule(one([("to", list(one([("operation", Tree::map([(field, values)]))])))]))
}

fn condition(key: Tree, field: &str, values: Tree) -> Tree {
    rule(one([("when", list(Tree::map([("key", key), (field, values)])))]))
}

fn jwt(rule: Tree) -> Tree {
    resource("RequestAuthentication", name(), one([("jwtRules", list(rule))]))
}

fn policies(probes: &mut Vec<Tree>) {
    for (field, not_field, values) in [
        ("principals", "notPrincipals", &PRINCIPALS),
        ("requestPrincipals", "notRequestPrincipals", &REQUEST_PRINCIPALS),
        ("namespaces", "notNamespaces", &NAMESPACES),
        ("serviceAccounts", "notServiceAccounts", &SERVICE_ACCOUNTS),
        ("trustDomains", "notTrustDomains", &TRUST_DOMAINS),
        ("ipBlocks", "notIpBlocks", &ADDRESSES),
        ("remoteIpBlocks", "notRemoteIpBlocks", &ADDRESSES),
    ] {
        probes.extend(every(values).map(|value| source(field, list(value))));
        probes.extend(every(values).step_by(3).map(|value| source(not_field, list(value))));
        for field in [field, not_field] {
            let source = Tree::map([(field, list(Tree::text(values.right[0])))]);
            probes.push(custom(one([("from", list(one([("source", source)])))])));
            for other in FIELDS.into_iter().filter(|other| *other != field) {
                let values = list(Tree::text(values.right[0]));
                let source = Tree::map([(field, values), (other, list(Tree::text("10.0.0.1")))]);
                probes.push(rule(one([("from", list(one([("source", source)])))])));
            }
        }
    }
    for (field, not_field, values) in [
        ("hosts", "notHosts", &HOSTS),
        ("methods", "notMethods", &METHODS),
        ("paths", "notPaths", &PATHS),
        ("ports", "notPorts", &PORTS),
    ] {
        probes.extend(every(values).map(|value| operation(field, list(value))));
        probes.extend(every(values).step_by(3).map(|value| operation(not_field, list(value))));
    }
    for (key, values) in KEYS {
        probes.extend(every(values).map(|value| condition(Tree::text(*key), "values", list(value))));
        probes.extend(every(values).step_by(5).map(|value| condition(Tree::text(*key), "notValues", list(value))));
        // What CUSTOM policies cannot ask about.
        let condition = one([("key", Tree::text(*key)), ("values", list(Tree::text(values.right[0])))]);
        probes.push(custom(one([("when", list(condition))])));
    }
    probes.extend(ODD_KEYS.iter().map(|key| condition(Tree::text(*key), "values", list(Tree::text("a")))));
    for action in ["ALLOW", "DENY", "AUDIT", "CUSTOM", "", "allow", "LOG", " ALLOW"] {
        for name in ["", "allows"] {
            let provider = one([("name", Tree::text(name))]);
            let rules = list(Tree::Map(Vec::new()));
            probes.push(policy(one([
                ("action", Tree::text(action)),
                ("provider", provider),
                ("rules", rules.clone()),
            ])));
            probes.push(policy(one([("action", Tree::text(action)), ("rules", rules)])));
            probes.push(policy(one([("action", Tree::text(action))])));
        }
        for value in every(&DRY_RUNS) {
            let annotations = one([("istio.io/dry-run", value)]);
            let metadata = one([("name", Tree::text("p")), ("annotations", annotations)]);
            let spec = one([("action", Tree::text(action)), ("rules", list(Tree::Map(Vec::new())))]);
            probes.push(resource("AuthorizationPolicy", metadata, spec));
        }
    }
    for group in ["", "core", "networking.istio.io", "gateway.networking.k8s.io", "apps", "Core"] {
        for kind in ["Service", "ServiceEntry", "Gateway", "GatewayClass", "service", "Pod", ""] {
            let reference =
                || one([("group", Tree::text(group)), ("kind", Tree::text(kind)), ("name", Tree::text("a"))]);
            probes.push(policy(one([("targetRefs", list(reference()))])));
            probes.push(policy(one([("targetRef", reference())])));
        }
    }
    for name in every(&NAMES) {
        probes.push(policy(one([("targetRefs", list(one([("kind", Tree::text("Service")), ("name", name)])))])));
    }
    for namespace in ["", "foo"] {
        let reference =
            [("kind", Tree::text("Service")), ("name", Tree::text("a")), ("namespace", Tree::text(namespace))];
        probes.push(policy(one([("targetRefs", list(one(reference)))])));
    }
}

fn metadata(probes: &mut Vec<Tree>) {
    let with = |field: &str, value: Tree| {
        let metadata = Tree::map([("name", Tree::text("p")), (field, value)]);
        resource("AuthorizationPolicy", metadata, Tree::Map(Vec::new()))
    };
    for kind in ["AuthorizationPolicy", "RequestAuthentication", "PeerAuthentication"] {
        probes.extend(every(&NAMES).map(|name| resource(kind, one([("name", name)]), Tree::Map(Vec::new()))));
    }
    probes.extend(every(&NAMESPACE_NAMES).map(|namespace| with("namespace", namespace)));
    for key in LABEL_KEYS.odd.iter().chain(LABEL_KEYS.right) {
        let labels = || Tree::map([(*key, Tree::text("a"))]);
        probes.push(with("labels", labels()));
        probes.push(with("annotations", labels()));
        probes.push(policy(one([("selector", one([("matchLabels", labels())]))])));
    }
    for value in every(&LABEL_VALUES) {
        let labels = || one([("a", value.clone())]);
        probes.push(with("labels", labels()));
        probes.push(policy(one([("selector", one([("matchLabels", labels())]))])));
        probes.push(resource("PeerAuthentication", name(), one([("selector", one([("matchLabels", labels())]))])));
    }
    probes.extend(ODD_ANNOTATIONS.iter().map(|key| with("annotations", Tree::map([(*key, Tree::text("a"))]))));
    let owner = |field: &str, value: Tree| {
        let fields = ["apiVersion", "kind", "name", "uid"]
            .map(|name| if name == field { (name, value.clone()) } else { (name, Tree::text("v1")) });
        with("ownerReferences", list(one(fields)))
    };
    for field in ["apiVersion", "kind", "name", "uid"] {
        probes.extend(["", "a", "a/b", "a/b/c", "/", "A b"].map(|value| owner(field, Tree::text(value))));
    }
    for (field, values) in [
        (
            "finalizers",
            &["orphan", "foregroundDeletion", "a b", "", "x", "kubernetes", "example.com/x", "a/b/c", "A.b/c"][..],
        ),
        ("generateName", &["a-", "A-", "-", "a", "A", "a.-", "--", "\u{e9}-", "a_-", ""]),
    ] {
        let value = |value: &str| if field == "finalizers" { Tree::texts([value]) } else { Tree::text(value) };
        probes.extend(values.iter().map(|text| with(field, value(text))));
    }
    probes.push(with("finalizers", Tree::texts(["orphan", "foregroundDeletion"])));
    for field in [
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "finalizers",
        "generateName",
        "generation",
        "managedFields",
        "ownerReferences",
        "resourceVersion",
        "selfLink",
        "uid",
        "labels",
        "annotations",
    ] {
        let values = ["1", "-1", "1.5", "true", "null", "[]", "{}", "[1]", "[null]", "{a: 1}", "''", "'1'", "x"];
        probes.extend(values.map(|value| with(field, Tree::raw(value))));
    }
    for time in [
        "2026-01-31T12:00:00Z",
        "2026-01-31T12:00:00.5+01:00",
        "2024-02-29T00:00:00Z",
        "2026-02-29T00:00:00Z",
        "2100-02-29T00:00:00Z",
        "2026-04-31T00:00:00Z",
        "2026-01-31T1:00:00Z",
        "2026-01-31T12:00:00,5Z",
        "2026-01-31",
        "2026-01-31 12:00:00Z",
        "2026-01-31t12:00:00z",
        "2026-13-01T00:00:00Z",
        "2026-00-01T00:00:00Z",
        "2026-01-00T00:00:00Z",
        "",
        "2026-01-31T24:00:00Z",
        "2026-01-31T12:60:00Z",
        "2026-01-31T12:00:60Z",
        "2026-01-31T12:00:00",
        "2026-01-31T12:00:00+25:00",
        "2026-01-31T12:00:00+24:60",
        "2026-01-31T12:00:00+24:61",
        "2026-01-31T12:00:00.Z",
        "12026-01-31T12:00:00Z",
        "2026-1-31T12:00:00Z",
        "2026-01-31T12:0:00Z",
        "0000-01-01T00:00:00Z",
    ] {
        probes.push(with("creationTimestamp", Tree::text(time)));
        probes.push(with("managedFields", list(one([("time", Tree::text(time))]))));
    }
}

fn authentications(probes: &mut Vec<Tree>) {
    let issuer = || ("issuer", Tree::text("i"));
    probes.extend(every(&ISSUERS).map(|value| jwt(one([("issuer", value)]))));
    probes.extend(every(&JWKS).map(|value| jwt(one([issuer(), ("jwks", value)]))));
    probes.extend(every(&JWKS_URIS).map(|value| jwt(one([("jwksUri", value)]))));
    probes.extend(every(&JWKS_URIS).step_by(3).map(|value| jwt(one([("jwks_uri", value)]))));
    probes.extend(every(&DURATIONS).map(|value| jwt(one([issuer(), ("timeout", value)]))));
    for field in ["audiences", "fromParams", "fromCookies", "spaceDelimitedClaims"] {
        probes.extend(every(&CLAIMS).map(|value| jwt(Tree::map([issuer(), (field, list(value))]))));
    }
    for value in every(&HEADER_NAMES) {
        probes.push(jwt(one([issuer(), ("outputPayloadToHeader", value.clone())])));
        probes.push(jwt(one([issuer(), ("fromHeaders", list(one([("name", value)])))])));
    }
    for value in every(&TEXTS).step_by(4) {
        probes.push(jwt(one([issuer(), ("fromHeaders", list(one([("name", Tree::text("a")), ("prefix", value)])))])));
    }
    let output = |header: Tree, claim: Tree| {
        jwt(one([issuer(), ("outputClaimToHeaders", list(one([("header", header), ("claim", claim)])))]))
    };
    probes.extend(every(&CLAIM_HEADERS).map(|value| output(value, Tree::text("a"))));
    probes.extend(every(&CLAIMS).map(|value| output(Tree::text("a"), value)));
    let keys = [
        ("jwks", Tree::text(JWKS.right[1])),
        ("jwksUri", Tree::text("https://a/k")),
        ("jwks_uri", Tree::text("https://a/k")),
    ];
    for (at, one_of) in keys.iter().enumerate() {
        probes.push(jwt(one([issuer(), one_of.clone(), keys[(at + 1) % keys.len()].clone()])));
        probes.push(jwt(one([one_of.clone()])));
    }
    for mode in ["UNSET", "DISABLE", "PERMISSIVE", "STRICT", "strict", "", "MUTUAL"] {
        let mtls = || one([("mode", Tree::text(mode))]);
        probes.push(resource("PeerAuthentication", name(), one([("mtls", mtls())])));
        for port in PORTS.right.iter().chain(PORTS.odd).step_by(if mode == "STRICT" { 1 } else { 9 }) {
            let selector = one([("matchLabels", one([("app", Tree::text("a"))]))]);
            let ports = Tree::map([(*port, mtls())]);
            probes.push(resource(
                "PeerAuthentication",
                name(),
                one([("selector", selector), ("portLevelMtls", ports)]),
            ));
        }
    }
}

/// Every scalar as an item of a list, as a text, as a boolean, as a number, as a label and as a key.
fn scalars(probes: &mut Vec<Tree>) {
    for scalar in SCALARS {
        let raw = || Tree::raw(*scalar);
        probes.push(operation("hosts", list(raw())));
        probes.push(condition(Tree::text("request.auth.claims[a]"), "values", list(raw())));
        probes.push(jwt(one([("issuer", raw())])));
        probes.push(jwt(one([("issuer", Tree::text("i")), ("forwardOriginalToken", raw())])));
        let labels =
            one([("name", Tree::text("p")), ("labels", one([("a", raw())])), ("annotations", one([("b", raw())]))]);
        probes.push(resource("AuthorizationPolicy", labels, Tree::Map(Vec::new())));
        let generation = one([("name", Tree::text("p")), ("generation", raw())]);
        probes.push(resource("AuthorizationPolicy", generation, Tree::Map(Vec::new())));
        let key = one([("name", Tree::text("p")), ("labels", Tree::Raw(format!("{{ {scalar}: a }}")))]);
        probes.push(resource("AuthorizationPolicy", key, Tree::Map(Vec::new())));
        probes.push(policy(raw()));
        probes.push(policy(one([("rules", raw())])));
        probes.push(policy(one([("action", raw())])));
    }
}
