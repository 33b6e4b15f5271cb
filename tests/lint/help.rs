//! The help of every lint, applied: no request passes that did not pass before, unless the help says so.

use std::collections::BTreeSet;

use mesh_authz::document::{Node, Value};
use mesh_authz::engine::{Engine, Verdict};
use mesh_authz::policy::Labels;
use mesh_authz::policy::scope::{Gateway, Scope, ServiceName, Workload, scope};
use mesh_authz::request::{Address, Lookup, Request};
use mesh_authz_cli::lint::{self, CATALOGUE, LintContext};
use mesh_authz_cli::load::Resources;

use crate::help_rows::{Applied, row, rows};
use crate::{findings, mesh, one_spelling, resources, source};

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
            engines.push(engine(&resources, context, namespace, labels, None));
        }
    }
    engines
}

/// The engine of the policies that apply to a workload.
fn engine(
    resources: &Resources,
    context: &LintContext,
    namespace: &str,
    labels: Labels,
    gateway: Option<Gateway>,
) -> Engine {
    let workload = Workload {
        namespace: namespace.to_owned(),
        labels: Some(labels),
        gateway,
        root_namespace: context.mesh.root_namespace.clone(),
        revision: None,
    };
    let policies = resources.policies.iter().map(|resource| &resource.policy);
    Engine::new(policies.filter(|policy| scope(policy, &workload) == Scope::Applies), &context.mesh.options())
}

/// The engine of a waypoint of the Service `default/cart`.
fn waypoint(text: &str, context: &LintContext) -> Engine {
    let cart = ServiceName { namespace: "default".to_owned(), name: "cart".to_owned(), host: None };
    let gateway = Gateway { waypoint: true, services: vec![cart], ..Gateway::default() };
    engine(&resources(text), context, "default", Labels::default(), Some(gateway))
}

/// A request that passes in some workload with `after`, and did not pass with `before`.
fn opened(before: &str, after: &str, context: &LintContext) -> Option<String> {
    let requests = requests();
    let passes = |engine: &Engine, request: &_| engine.decide(request).outcome.verdict() == Verdict::Allow;
    // A waypoint does not know the address of the direct peer.
    let [at_waypoint_before, at_waypoint_after] = [before, after].map(|text| waypoint(text, context));
    for request in &requests {
        let request = request.clone().with_address(Address::Source, Lookup::Unreadable);
        if !passes(&at_waypoint_before, &request) && passes(&at_waypoint_after, &request) {
            return Some(format!("at the waypoint: {request:?}"));
        }
    }
    let (before, after) = (engines(before, context), engines(after, context));
    for (before, after) in before.iter().zip(&after) {
        for request in &requests {
            if !passes(before, request) && passes(after, request) {
                return Some(format!("{request:?}"));
            }
        }
    }
    None
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
    // Those whose help changes no policy: an error, another setting of Envoy, other files, sources that are pinned, keys, who is asked.
    let without: BTreeSet<_> =
        ["MA008", "MA011", "MA019", "MA021", "MA032", "MA033", "MA034", "MA035", "MA048", "MA049", "MA050"].into();
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
