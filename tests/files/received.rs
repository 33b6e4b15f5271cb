//! What Envoy makes of a request before the filter sees it. The end-to-end tests ask Envoy the same.

use std::path::PathBuf;
use std::sync::Arc;

use mesh_authz::config::Mesh;
use mesh_authz::diagnostic::Diagnostics;
use mesh_authz::engine::Verdict;
use mesh_authz::policy::Labels;
use mesh_authz::policy::scope::Workload;
use mesh_authz_cli::load::finding::SourceText;
use mesh_authz_cli::load::policy_set::PolicySet;
use mesh_authz_cli::load::{Resources, yaml};
use mesh_authz_cli::received::{JOINED, received};
use mesh_authz_cli::testfile::RequestFields;

fn set(text: &str) -> PolicySet {
    let resources = Resources::of(&Arc::new(SourceText::new(PathBuf::from("p.yaml"), text.to_owned())));
    assert!(
        resources.findings.is_empty(),
        "{:?}",
        resources.findings.iter().map(ToString::to_string).collect::<Vec<_>>()
    );
    let labels: Labels = vec![("app".to_owned(), "a".to_owned())].into();
    let workload = Workload {
        namespace: "default".to_owned(),
        labels: Some(labels),
        gateway: None,
        root_namespace: "istio-system".to_owned(),
    };
    PolicySet { resources, workload, mesh: Mesh::default() }
}

/// Whether a policy with this condition allows the request, and what is said about the request.
fn ask(condition: &str, others: &str, request: &str) -> (bool, Vec<String>) {
    let set = set(&format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{ name: p }}\nspec: {{ rules: [{{ when: [{condition}] }}] }}\n{others}"
    ));
    let request = RequestFields::read(&yaml::documents(request).unwrap()[0], &mut Diagnostics::new()).unwrap();
    let found = received(&request, &set);
    (set.engine().decide(&found.request).outcome.verdict() == Verdict::Allow, found.notes)
}

fn authentication(spec: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{ name: r }}\nspec: {spec}\n"
    )
}

#[test]
fn claims_are_split_as_istio_configures_it() {
    let read = |claim: &str, others: &str, jwt: &str| {
        ask(&format!("{{ key: 'request.auth.claims[{claim}]', values: [read] }}"), others, &format!("jwt: {{ {jwt} }}"))
            .0
    };
    for claim in ["scope", "permission"] {
        for (value, matches) in [
            ("read", true),
            ("read write", true),
            ("write  read", true),
            (" read", true),
            ("reads", false),
            ("a\\tread", false),
            ("", false),
        ] {
            assert_eq!(read(claim, "", &format!("iss: i, sub: s, {claim}: \"{value}\"")), matches, "{claim} {value:?}");
        }
        assert!(read(claim, "", &format!("iss: i, sub: s, {claim}: [read]")));
    }
    let jwt = "iss: i, sub: s, teams: 'write read'";
    assert!(!read("teams", "", jwt));
    let rules = "{ jwtRules: [{ issuer: i, jwks: '{\"keys\":[{\"kty\":\"oct\",\"k\":\"eA\"}]}', spaceDelimitedClaims: [teams] }] }";
    assert!(read("teams", &authentication(rules), jwt));
    assert!(!read("teams", &authentication(rules), "iss: j, sub: s, teams: 'write read'"), "another issuer");
    let elsewhere = rules.replacen('{', "{ selector: { matchLabels: { app: b } },", 1);
    assert!(!read("teams", &authentication(&elsewhere), jwt), "another workload");
    let (_, notes) = ask("{ key: 'request.auth.claims[scope]', values: [a] }", "", "jwt: { scope: a b }");
    assert_eq!(notes, ["Envoy makes a list of the claim `scope`: a, b"]);
}

#[test]
fn lines_of_some_headers_are_joined() {
    let passes = |name: &str, value: &str| {
        ask(
            &format!("{{ key: 'request.headers[{name}]', values: ['{value}'] }}"),
            "",
            &format!("headers: {{ {name}: [a, b] }}"),
        )
    };
    for name in JOINED {
        assert_eq!((passes(name, "a").0, passes(name, "a,b").0), (false, true), "{name}");
    }
    assert_eq!((passes("x-role", "a").0, passes("x-role", "a,b").0), (true, false));
    assert_eq!(passes("Accept", "a,b").1, ["Envoy joins the lines of `accept`: `a,b`"]);
    assert!(JOINED.is_sorted());
}

#[test]
fn a_path_that_envoy_may_change_is_said() {
    let notes = |path: &str| ask("{ key: source.ip, values: ['10.0.0.1'] }", "", &format!("path: '{path}'")).1;
    assert_eq!(notes("/a/b?c=/../d"), Vec::<String>::new());
    for path in ["/x/../admin", "//admin", "/%61dmin", "/a\\b"] {
        assert!(notes(path)[0].contains("this answer is for the path as it is"), "{path}");
    }
}
