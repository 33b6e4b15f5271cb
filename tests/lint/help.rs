//! The help of every lint, applied: no request passes that did not pass before, unless the help says so.

use std::collections::BTreeSet;

use mesh_authz::document::{Node, Value};
use mesh_authz::engine::{Engine, Verdict};
use mesh_authz::policy::Labels;
use mesh_authz::policy::scope::{Scope, Workload, scope};
use mesh_authz::request::{Address, Lookup, Request};
use mesh_authz_cli::lint::{self, CATALOGUE, LintContext};

use crate::{findings, mesh, one_spelling, operation, policy, resources, source};

/// What the help says where requests can pass that did not pass before.
const SAYS_SO: [&str; 9] = [
    "are to pass",
    "then passes",
    "what it allows passes there",
    "no other workload has this policy",
    "refuses less",
    "protects nothing",
    "only where Istio itself enforces it",
    "clients choose that address themselves",
    "match passes",
];

/// Requests that differ in everything that the policies here look at.
fn requests() -> Vec<Request> {
    let claims = |subject: &str| {
        let text = |text: &str| Node::from(Value::String(text.to_owned()));
        let payload = vec![("iss".to_owned(), text("https://i")), ("sub".to_owned(), text(subject))];
        Node::from(Value::Map(vec![("payload".to_owned(), Value::Map(payload).into())]))
    };
    let address = |text: &str| Lookup::Value(text.parse().unwrap());
    let principals = [
        None,
        Some("cluster.local/ns/default/sa/frontend"),
        Some("cluster.local/ns/foo/sa/bar"),
        Some("td1/ns/foo/sa/bar"),
        Some("old/ns/foo/sa/bar"),
        Some("old/ns/default/sa/frontend"),
        Some("ns/default/sa/frontend"),
    ];
    let paths = [
        "/", "/api", "/api/x", "/api?q=1", "/a/*/b", "/a/x/b", "/a/b", "/admin", "/admin/", "/admin/x", "/[0-9]+", "/7",
    ];
    let mut requests = Vec::new();
    for principal in principals {
        for path in paths {
            for method in ["GET", "POST", "get"] {
                for (host, port) in [("a.example", 80), ("a.example:80", 8080), ("b.example", 9090), ("A.example", 80)]
                {
                    for (x, subject, client) in [
                        (None, None, "203.0.113.7"),
                        (Some("a"), Some("s"), "10.0.0.1"),
                        (Some("ab"), None, "10.0.0.1"),
                        (Some("b"), Some("t"), "203.0.113.7"),
                    ] {
                        // The client writes X-Forwarded-For itself.
                        for forwarded in ["203.0.113.7", "10.0.0.1"] {
                            let mut request = Request::new(method, path)
                                .header(":authority", host)
                                .destination_port(Lookup::Value(port))
                                .with_address(Address::Source, address(client))
                                .with_address(Address::Remote, address(forwarded));
                            request = principal.into_iter().fold(request, Request::principal);
                            request = x.into_iter().fold(request, |request, x| request.header("x", x));
                            if let Some(subject) = subject {
                                request = request.metadata("envoy.filters.http.jwt_authn", &claims(subject));
                            }
                            requests.push(request);
                        }
                    }
                }
            }
        }
    }
    requests
}

/// For each workload, the engine of the policies that apply to it.
fn engines(text: &str, context: &LintContext) -> Vec<Engine> {
    let resources = resources(text);
    let mut engines = Vec::new();
    for namespace in ["default", "shop", "istio-system"] {
        for labels in [&[][..], &[("app", "backend")], &[("app", "a")], &[("app", "b")], &[("action", "DENY")]] {
            let labels: Labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            let workload = Workload {
                namespace: namespace.to_owned(),
                labels: Some(labels),
                gateway: None,
                root_namespace: context.mesh.root_namespace.clone(),
                revision: None,
            };
            let policies = resources.policies.iter().map(|resource| &resource.policy);
            let applying = policies.filter(|policy| scope(policy, &workload) == Scope::Applies);
            engines.push(Engine::new(applying, &context.mesh.options()));
        }
    }
    engines
}

/// A request that passes in some workload with `after`, and did not pass with `before`.
fn opened(before: &str, after: &str, context: &LintContext) -> Option<String> {
    let (before, after) = (engines(before, context), engines(after, context));
    let requests = requests();
    let passes = |engine: &Engine, request| engine.decide(request).outcome.verdict() == Verdict::Allow;
    for (before, after) in before.iter().zip(&after) {
        for request in &requests {
            if !passes(before, request) && passes(after, request) {
                return Some(format!("{request:?}"));
            }
        }
    }
    None
}

/// Policies on which a lint fires, and the same after its help was applied.
struct Applied {
    code: &'static str,
    before: String,
    after: String,
    /// Whether requests pass that did not pass before.
    opens: bool,
}

fn row(code: &'static str, before: impl Into<String>, after: impl Into<String>, opens: bool) -> Applied {
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

#[allow(clippy::too_many_lines, reason = "a table")]
fn rows() -> Vec<Applied> {
    let kill = policy("kill", "{ action: DENY, rules: [{}] }");
    let nothing = policy("nothing", "{}");
    let get = policy("get", "{ rules: [{ to: [{ operation: { methods: [GET] } }] }] }");
    let all = policy("all", "{ rules: [{}] }");
    let to = |action: &str, operations: &str| {
        policy("p", &format!("{{ action: {action}, rules: [{{ to: [{operations}] }}] }}"))
    };
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
    let gateway = "---\n{ apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: { name: website } }\n";
    let target = |name: &str| {
        policy(
            "p",
            &format!(
                "{{ targetRef: {{ group: gateway.networking.k8s.io, kind: Gateway, name: {name} }}, rules: [{{}}] }}"
            ),
        )
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
            to("ALLOW", "{ operation: { methods: [GET] } }, { operation: { paths: [/api] } }"),
            to("ALLOW", "{ operation: { methods: [GET], paths: [/api] } }"),
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

fn hints(code: &str, text: &str, context: &LintContext) -> Vec<String> {
    let found = findings(text, context).into_iter().filter(|finding| finding.code == Some(code));
    found.filter_map(|finding| finding.diagnostic.hint).collect()
}

fn check(Applied { code, before, after, opens }: &Applied, context: &LintContext) {
    let hints = hints(code, before, context);
    assert!(!hints.is_empty(), "{code} does not fire on\n{before}");
    let opened = opened(before, after, context);
    assert_eq!(opened.is_some(), *opens, "{code}: {before}{after}{opened:?}");
    let says_so = hints.iter().any(|hint| SAYS_SO.iter().any(|phrase| hint.contains(phrase)));
    assert!(says_so || !opens, "{code} opens something without a word: {hints:?}\n{before}{after}");
}

#[test]
fn no_help_opens_anything_in_silence() {
    let rows = rows();
    for row in &rows {
        check(row, &one_spelling());
    }
    let mesh = mesh("td1", &["old"]);
    for domain in ["cluster.local", "td1"] {
        let before = source("ALLOW", &format!("principals: ['{domain}/ns/foo/*']"));
        check(&row("MA008", before, source("ALLOW", "namespaces: [foo], trustDomains: [td1]"), true), &mesh);
        for (action, field, opens) in
            [("ALLOW", "notPrincipals", false), ("DENY", "principals", false), ("DENY", "notPrincipals", true)]
        {
            let before = source(action, &format!("{field}: ['{domain}/ns/foo/*']"));
            let after = source(action, &format!("{field}: ['{domain}/ns/foo/*', 'td1/ns/foo/*', 'old/ns/foo/*']"));
            check(&row("MA008", before, after, opens), &mesh);
        }
    }
    for (action, field, opens) in [
        ("ALLOW", "trustDomains", true),
        ("ALLOW", "notTrustDomains", false),
        ("DENY", "trustDomains", false),
        ("DENY", "notTrustDomains", true),
    ] {
        let [before, after] =
            if opens { ["'cluster.local'", "'td1'"] } else { ["'cluster.local'", "'cluster.local', 'td1'"] };
        let [before, after] = [before, after].map(|values| source(action, &format!("{field}: [{values}]")));
        check(&row("MA008", before, after, opens), &mesh);
    }
    // Those whose help changes no policy: an error, another setting of Envoy, other files, sources that are pinned.
    let without: BTreeSet<_> = ["MA008", "MA011", "MA019", "MA021", "MA032", "MA033", "MA034", "MA035"].into();
    let applied: BTreeSet<_> = rows.iter().map(|row| row.code).chain(without).collect();
    assert_eq!(applied, CATALOGUE.iter().map(|lint| lint.code).collect());
}

/// The good example of a lint is what its explanation advises.
#[test]
fn no_good_example_opens_anything_in_silence() {
    for lint in CATALOGUE.iter().filter(|lint| lint.code != "MA011") {
        let resource = crate::catalogue::resource;
        let context = crate::catalogue::context(lint);
        let Some(request) = opened(&resource(lint.bad), &resource(lint.good), &context) else { continue };
        let hints = hints(lint.code, &resource(lint.bad), &context);
        let says_so = hints.iter().any(|hint| SAYS_SO.iter().any(|phrase| hint.contains(phrase)));
        assert!(says_so, "{}: {hints:?} {request}", lint::find(lint.code).unwrap().code);
    }
}
