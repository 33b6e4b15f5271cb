//! For each lint: policies on which it fires, and the same after its help was applied.

use crate::{operation, policy, source};

/// Policies on which a lint fires, and the same after its help was applied.
pub struct Applied {
    pub code: &'static str,
    pub before: String,
    pub after: String,
    /// Whether requests pass that did not pass before.
    pub opens: bool,
}

pub fn row(code: &'static str, before: impl Into<String>, after: impl Into<String>, opens: bool) -> Applied {
    Applied { code, before: before.into(), after: after.into(), opens }
}

/// A value, and what the help says to write instead, in each of the four places.
fn value(code: &'static str, of: fn(&str, &str) -> String, field: &str, wrong: &str, right: &str) -> Vec<Applied> {
    let (first, rest) = field.split_at(1);
    let not = format!("not{}{rest}", first.to_ascii_uppercase());
    let mut rows = Vec::new();
    for (action, field, permits) in
        [("ALLOW", field, true), ("ALLOW", &not, false), ("DENY", field, false), ("DENY", &not, true)]
    {
        let with = |value: &str| of(action, &format!("{field}: [\"{value}\"]"));
        rows.push(row(code, with(wrong), with(right), permits));
    }
    rows
}

/// The field for a caller whom a waypoint knows.
const FRONTEND: &str = "principals: ['cluster.local/ns/default/sa/frontend']";

#[allow(clippy::too_many_lines, reason = "a table")]
pub fn rows() -> Vec<Applied> {
    let kill = policy("kill", "{ action: DENY, rules: [{}] }");
    let nothing = policy("nothing", "{}");
    let get = policy("get", "{ rules: [{ to: [{ operation: { methods: [GET] } }] }] }");
    let all = policy("all", "{ rules: [{}] }");
    let to = |action: &str, operations: &str| {
        policy("p", &format!("{{ action: {action}, rules: [{{ to: [{operations}] }}] }}"))
    };
    let source_list = |sources: &str| policy("p", &format!("{{ rules: [{{ from: [{sources}] }}] }}"));
    let apart = |action| to(action, "{ operation: { notMethods: [GET] } }, { operation: { notMethods: [POST] } }");
    let together = |action| to(action, "{ operation: { notMethods: [GET, POST] } }");
    let on = |app: &str, action: &str| {
        policy(
            "for-app",
            &format!("{{ action: {action}, selector: {{ matchLabels: {{ app: {app} }} }}, rules: [{{}}] }}"),
        )
    };
    let workload = "---\n{ apiVersion: v1, kind: Pod, metadata: { name: w, labels: { app: backend } } }\n";
    let account = "---\n{ apiVersion: v1, kind: ServiceAccount, metadata: { name: bar, namespace: foo } }\n";
    let service = "---\n{ apiVersion: v1, kind: Service, metadata: { name: s }, spec: { selector: { app: a }, ports: [{ port: 81, targetPort: 8080 }] } }\n";
    let tcp_service = "---\n{ apiVersion: v1, kind: Service, metadata: { name: s }, spec: { selector: { app: a }, ports: [{ name: redis, port: 8080 }] } }\n".to_owned();
    let gateway = "---\n{ apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: { name: website } }\n";
    let target = |name: &str| {
        policy(
            "p",
            &format!(
                "{{ targetRef: {{ group: gateway.networking.k8s.io, kind: Gateway, name: {name} }}, rules: [{{}}] }}"
            ),
        )
    };
    let at_waypoint = |action: &str, fields: &str| {
        let rule = format!("{{ from: [{{ source: {{ {fields} }} }}] }}");
        policy("p", &format!("{{ action: {action}, targetRef: {{ kind: Service, name: cart }}, rules: [{rule}] }}"))
    };
    let tokens = "---\n{ apiVersion: security.istio.io/v1, kind: RequestAuthentication, metadata: { name: r }, spec: { jwtRules: [{ issuer: 'https://i', jwksUri: 'https://i/k' }] } }\n";
    let annotated = |text: &str, annotation: &str| {
        text.replace("namespace: default", &format!("namespace: default, annotations: {{ {annotation}: 'true' }}"))
    };
    let exclusive = |action: &str, conditions: &str| {
        policy("p", &format!("{{ action: {action}, rules: [{{ when: [{conditions}] }}] }}"))
    };
    let a = "{ key: 'request.headers[x]', values: [a], notValues: [a] }";
    let root = |spec: &str| policy("istio-system/p", spec);
    let mut rows = vec![
        // MA001: remove the ALLOW rule; replace the DENY by an ALLOW without rules; keep the policy without its rule.
        row("MA001", format!("{kill}{all}"), kill.clone(), false),
        row("MA001", format!("{kill}{get}"), format!("{nothing}{get}"), true),
        row("MA001", format!("{kill}{get}"), kill.clone(), false),
        row(
            "MA001",
            operation("DENY", "paths: ['/a*'], ports: ['80', '8080', '9090']")
                + &policy("allow", "{ rules: [{ to: [{ operation: { paths: ['/api'], ports: ['80'] } }] }] }"),
            operation("DENY", "paths: ['/a*'], ports: ['80', '8080', '9090']") + &policy("allow", "{ rules: [] }"),
            false,
        ),
        // MA002: remove a condition.
        row("MA002", exclusive("ALLOW", a), exclusive("ALLOW", "{ key: 'request.headers[x]', values: [a] }"), true),
        row("MA002", exclusive("DENY", a), exclusive("DENY", "{ key: 'request.headers[x]', notValues: [a] }"), false),
        // MA003, MA004: ask for an identity.
        row(
            "MA003",
            source("DENY", "namespaces: [foo]"),
            source("DENY", "namespaces: [foo]")
                + &policy("q", "{ action: DENY, rules: [{ from: [{ source: { notPrincipals: ['*'] } }] }] }"),
            false,
        ),
        row(
            "MA004",
            source("ALLOW", "notNamespaces: [foo]"),
            source("ALLOW", "notNamespaces: [foo], principals: ['*']"),
            false,
        ),
        // MA005: add the host with its port.
        row(
            "MA005",
            operation("DENY", "hosts: [a.example]"),
            operation("DENY", "hosts: [a.example, 'a.example:*']"),
            false,
        ),
        row(
            "MA005",
            operation("ALLOW", "notHosts: ['*.example']"),
            operation("ALLOW", "notHosts: ['*.example', '*.example:80']"),
            false,
        ),
        // MA010: correct a label.
        row("MA010", on("bakend", "ALLOW") + &nothing + workload, on("backend", "ALLOW") + &nothing + workload, true),
        row("MA010", on("bakend", "DENY") + workload, on("backend", "DENY") + workload, false),
        // MA040: fill a placeholder in.
        row("MA040", on("'${APP}'", "ALLOW") + &nothing, on("backend", "ALLOW") + &nothing, true),
        row("MA040", on("'${APP}'", "DENY"), on("backend", "DENY"), false),
        // MA044: write the account that exists. MA045: the port of the workload. MA046: the target that exists.
        row(
            "MA044",
            source("ALLOW", "serviceAccounts: [foo/baz]") + account,
            source("ALLOW", "serviceAccounts: [foo/bar]") + account,
            true,
        ),
        row(
            "MA044",
            source("DENY", "serviceAccounts: [foo/baz]") + account,
            source("DENY", "serviceAccounts: [foo/bar]") + account,
            false,
        ),
        row(
            "MA045",
            operation("ALLOW", "ports: ['81']") + service,
            operation("ALLOW", "ports: ['8080']") + service,
            true,
        ),
        row(
            "MA045",
            operation("DENY", "notPorts: ['81']") + service,
            operation("DENY", "notPorts: ['8080']") + service,
            true,
        ),
        row("MA046", target("web") + gateway, target("website") + gateway, false),
        // MA047: say who the callers are; write the address that a waypoint has.
        row("MA047", at_waypoint("ALLOW", "ipBlocks: ['10.0.0.1']"), at_waypoint("ALLOW", FRONTEND), true),
        row(
            "MA047",
            at_waypoint("ALLOW", "ipBlocks: ['10.0.0.1']"),
            at_waypoint("ALLOW", "remoteIpBlocks: ['10.0.0.1']"),
            true,
        ),
        row(
            "MA047",
            at_waypoint("ALLOW", "notIpBlocks: ['10.0.0.1']"),
            at_waypoint("ALLOW", "notRemoteIpBlocks: ['10.0.0.1']"),
            true,
        ),
        row(
            "MA047",
            at_waypoint("DENY", "ipBlocks: ['10.0.0.1']"),
            at_waypoint("DENY", "remoteIpBlocks: ['10.0.0.1']"),
            true,
        ),
        row(
            "MA047",
            at_waypoint("DENY", "notIpBlocks: ['10.0.0.1']"),
            at_waypoint("DENY", "notRemoteIpBlocks: ['10.0.0.1']"),
            true,
        ),
        // MA042: write the issuer that is accepted. MA043: require a token.
        row(
            "MA042",
            source("ALLOW", "requestPrincipals: ['https://i//*']") + tokens,
            source("ALLOW", "requestPrincipals: ['https://i/*']") + tokens,
            true,
        ),
        row(
            "MA042",
            source("DENY", "requestPrincipals: ['https://i//*']") + tokens,
            source("DENY", "requestPrincipals: ['https://i/*']") + tokens,
            false,
        ),
        row(
            "MA042",
            source("DENY", "notRequestPrincipals: ['https://i//*']") + tokens,
            source("DENY", "notRequestPrincipals: ['https://i/*']") + tokens,
            true,
        ),
        row(
            "MA043",
            get.clone() + tokens,
            get.clone()
                + tokens
                + &policy("q", "{ action: DENY, rules: [{ from: [{ source: { notRequestPrincipals: ['*'] } }] }] }"),
            false,
        ),
        // MA012: remove the narrower rule; narrow the wider one.
        row("MA012", all.clone() + &get, all.clone(), false),
        row(
            "MA012",
            all.clone() + &get,
            policy("all", "{ rules: [{ to: [{ operation: { methods: [POST] } }] }] }") + &get,
            false,
        ),
        row(
            "MA012",
            policy(
                "p",
                "{ action: DENY, rules: [{ to: [{ operation: { methods: [GET], ports: ['80'] } }] }, { to: [{ operation: { methods: [GET], ports: ['80', '8080'] } }] }] }",
            ),
            policy(
                "p",
                "{ action: DENY, rules: [{ to: [{ operation: { methods: [GET], ports: ['80', '8080'] } }] }] }",
            ),
            false,
        ),
        // MA051: a rule for TCP. Over HTTP, it lets requests pass, too.
        row(
            "MA051",
            policy(
                "p",
                "{ selector: { matchLabels: { app: a } }, rules: [{ to: [{ operation: { methods: [GET] } }] }] }",
            ) + &tcp_service,
            policy(
                "p",
                "{ selector: { matchLabels: { app: a } }, rules: [{ to: [{ operation: { methods: [GET] } }] }, { to: [{ operation: { ports: ['8080'] } }] }] }",
            ) + &tcp_service,
            true,
        ),
        // MA013: name the ports.
        row("MA013", operation("DENY", "methods: [GET]"), operation("DENY", "methods: [GET], ports: ['8080']"), true),
        // MA017: add the path with or without its slash.
        row("MA017", operation("DENY", "paths: ['/admin']"), operation("DENY", "paths: ['/admin', '/admin/']"), false),
        row("MA017", operation("DENY", "paths: ['/admin']"), operation("DENY", "paths: ['/admin', '/admin/*']"), false),
        row(
            "MA017",
            operation("ALLOW", "notPaths: ['/admin/']"),
            operation("ALLOW", "notPaths: ['/admin/', '/admin']"),
            false,
        ),
        // MA020: the client's address where nobody can forge it; and where everybody can.
        row(
            "MA020",
            source("ALLOW", "ipBlocks: ['203.0.113.0/24']"),
            source("ALLOW", "remoteIpBlocks: ['203.0.113.0/24']"),
            true,
        ),
        // MA023, MA025: say that it is meant; add a selector.
        row(
            "MA023",
            root("{ action: DENY, rules: [{}] }"),
            annotated(&root("{ action: DENY, rules: [{}] }"), "mesh-authz/allow"),
            false,
        ),
        row(
            "MA023",
            root("{ action: DENY, rules: [{}] }"),
            root("{ action: DENY, selector: { matchLabels: { app: a } }, rules: [{}] }"),
            true,
        ),
        row("MA025", policy("p", "{ action: DENY, selector: {}, rules: [{}] }"), kill.clone(), false),
        row("MA025", policy("p", "{ action: DENY, selector: {}, rules: [{}] }"), on("a", "DENY"), true),
        // MA024, MA029: end the trial, begin one.
        row("MA024", annotated(&get, "istio.io/dry-run") + &nothing, get.clone() + &nothing, true),
        row("MA024", annotated(&kill, "istio.io/dry-run"), kill.clone(), false),
        row("MA029", annotated(&kill, "istio.io/dryrun"), annotated(&kill, "istio.io/dry-run"), true),
        row("MA029", annotated(&kill, "istio.io/dryrun"), kill.clone(), false),
        // MA037: write both values into one list.
        row("MA037", apart("ALLOW"), together("ALLOW"), false),
        row("MA037", apart("DENY"), together("DENY"), true),
        row(
            "MA037",
            policy(
                "p",
                "{ action: DENY, rules: [{ to: [{ operation: { methods: [GET] } }] }, { to: [{ operation: { notMethods: [GET] } }] }] }",
            ),
            policy("p", "{ action: DENY, rules: [{ to: [{ operation: { notMethods: [GET] } }] }] }"),
            true,
        ),
        // MA038: write both into one rule, or into one operation.
        row(
            "MA038",
            policy(
                "p",
                "{ rules: [{ from: [{ source: { namespaces: [foo] } }] }, { to: [{ operation: { paths: [/api] } }] }] }",
            ),
            policy(
                "p",
                "{ rules: [{ from: [{ source: { namespaces: [foo] } }], to: [{ operation: { paths: [/api] } }] }] }",
            ),
            false,
        ),
        row(
            "MA038",
            to("ALLOW", "{ operation: { methods: [POST] } }, { operation: { paths: [/api] } }"),
            to("ALLOW", "{ operation: { methods: [POST], paths: [/api] } }"),
            false,
        ),
        row(
            "MA038",
            source_list("{ source: { principals: ['*'] } }, { source: { namespaces: [foo] } }"),
            source_list("{ source: { principals: ['*'], namespaces: [foo] } }"),
            false,
        ),
        row(
            "MA038",
            source_list("{ source: { principals: ['*'] } }, { source: { namespaces: [foo] } }"),
            source_list("{ source: { principals: ['*'] } }"),
            false,
        ),
        // MA036: write `spec: {}`; leave `rules` out.
        row("MA036", policy("a", ""), policy("a", "{}"), false),
        row("MA036", policy("a", "{ rules: }"), policy("a", "{}"), false),
        // MA026: remove the empty list; name a value.
        row("MA026", operation("DENY", "methods: [], ports: ['80']"), operation("DENY", "ports: ['80']"), false),
        row(
            "MA026",
            operation("DENY", "methods: [], ports: ['80']"),
            operation("DENY", "methods: [GET], ports: ['80']"),
            true,
        ),
        row(
            "MA026",
            operation("ALLOW", "methods: [], ports: ['80']"),
            operation("ALLOW", "methods: [GET], ports: ['80']"),
            false,
        ),
        // MA028: correct the indentation.
        row(
            "MA028",
            policy("p", "{ selector: { matchLabels: { app: a, action: ALLOW } }, rules: [{}] }") + &nothing,
            policy("p", "{ selector: { matchLabels: { app: a } }, action: ALLOW, rules: [{}] }") + &nothing,
            true,
        ),
        // MA052: write the label without the space.
        row(
            "MA052",
            policy("p", "{ selector: { matchLabels: { app: ' a' } }, rules: [{}] }") + &nothing,
            policy("p", "{ selector: { matchLabels: { app: a } }, rules: [{}] }") + &nothing,
            true,
        ),
        // MA031: leave it out where Istio does not enforce it.
        row("MA031", policy("p", "{ action: CUSTOM, provider: { name: x }, rules: [{}] }") + &all, all.clone(), true),
        // MA030: leave the skipped resource out.
        row(
            "MA030",
            kill.clone() + "---\n{ apiVersion: v1, kind: ConfigMap, metadata: { name: s } }\n",
            kill.clone(),
            false,
        ),
    ];
    rows.extend(value("MA006", operation, "methods", "post", "POST"));
    for (action, opens) in [("ALLOW", true), ("DENY", false)] {
        let [before, after] = ["methods", "paths"].map(|field| operation(action, &format!("{field}: [/api]")));
        rows.push(row("MA006", before, after, opens));
    }
    rows.extend(value(
        "MA007",
        source,
        "principals",
        "spiffe://cluster.local/ns/foo/sa/bar",
        "cluster.local/ns/foo/sa/bar",
    ));
    rows.extend(value("MA009", operation, "paths", "api", "/api"));
    rows.extend(value("MA009", operation, "paths", "' /api'", "/api"));
    rows.extend(value("MA009", operation, "paths", "'https://example.com/api'", "/api"));
    rows.extend(value("MA014", source, "principals", "frontend", "cluster.local/ns/default/sa/frontend"));
    rows.extend(value("MA015", operation, "paths", "/a/*/b", "/a/{*}/b"));
    rows.extend(value("MA015", operation, "hosts", "*.exam*", "*.example"));
    rows.extend(value("MA016", operation, "paths", "/api?q=1", "/api"));
    rows.extend(value("MA018", operation, "paths", "^/api/.*", "/api/*"));
    rows.extend(value("MA018", source, "principals", "^cluster.local/ns/foo/sa/.*$", "cluster.local/ns/foo/sa/*"));
    for (action, values, opens) in [
        ("ALLOW", "values", true),
        ("ALLOW", "notValues", false),
        ("DENY", "values", false),
        ("DENY", "notValues", true),
    ] {
        for (code, wrong_key, wrong) in
            [("MA018", "x", "^ab$"), ("MA039", "x", "ab "), ("MA041", "\"x\"", "ab"), ("MA040", "x", "${X}")]
        {
            let of = |key: &str, value: &str| {
                exclusive(action, &format!("{{ key: 'request.headers[{key}]', {values}: ['{value}'] }}"))
            };
            rows.push(row(code, of(wrong_key, wrong), of("x", "ab"), opens));
        }
    }
    rows.extend(value("MA039", operation, "methods", "GET, POST", "GET\", \"POST"));
    rows.extend(value("MA039", operation, "hosts", " a.example", "a.example"));
    rows.extend(value("MA039", operation, "paths", "/api,/admin", "/api\", \"/admin"));
    rows.extend(value("MA040", source, "namespaces", "${NS}", "foo"));
    rows.extend(value("MA022", source, "requestPrincipals", "https://i*", "https://i/*"));
    rows.extend(value("MA027", operation, "hosts", "https://a.example", "a.example"));
    rows
}
