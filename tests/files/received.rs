//! What Envoy makes of a request before the filter sees it. The end-to-end tests ask Envoy the same.

use std::path::PathBuf;
use std::sync::Arc;

use mesh_authz::config::Mesh;
use mesh_authz::diagnostic::Diagnostics;
use mesh_authz::engine::Verdict;
use mesh_authz::policy::Labels;
use mesh_authz::policy::Traffic;
use mesh_authz::policy::scope::{Gateway, Workload};
use mesh_authz::request::headers::JOINED;
use mesh_authz_cli::load::finding::SourceText;
use mesh_authz_cli::load::policy_set::PolicySet;
use mesh_authz_cli::load::{Resources, yaml};
use mesh_authz_cli::received::{Answered, EscapedSlashes, Known, answers, where_answered};
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
        revision: None,
    };
    let envoy = Known::of(&resources);
    PolicySet { resources: resources.into(), workload, mesh: Mesh::default(), envoy }
}

/// The answers to a request, where there is a policy with this rule: each with where it is given and what is said about
/// the request.
fn ask_all(rule: &str, others: &str, request: &str) -> Vec<(bool, String, Vec<String>)> {
    let set = set(&format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{ name: p }}\nspec: {{ rules: [{rule}] }}\n{others}"
    ));
    let request = RequestFields::read(&yaml::documents(request).unwrap()[0], &mut Diagnostics::new()).unwrap();
    let engine = set.engine(Traffic::Http);
    let answers = answers(&request, &set, &engine);
    let all = answers.iter().map(|answered| {
        let allowed = answered.verdict() == Verdict::Allow;
        (allowed, where_answered(answered, &answers), answered.received.notes.clone())
    });
    all.collect()
}

/// Whether a policy with this condition allows the request, whatever Envoy's settings, and what is said about the request.
fn ask(condition: &str, others: &str, request: &str) -> (bool, Vec<String>) {
    let mut answers = ask_all(&format!("{{ when: [{condition}] }}"), others, request);
    assert_eq!(answers.len(), 1, "{answers:?}");
    let (allowed, _, notes) = answers.remove(0);
    (allowed, notes)
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
fn without_a_token_that_is_required_no_policy_decides() {
    let rule = |issuer: &str, presence: &str| format!("{{ issuer: {issuer}, presence: {presence} }}");
    let passes = |rules: &[String], request: &str| {
        let rules = format!("{{ jwtRules: [{}] }}", rules.join(", "));
        ask_path("*", &authentication(&rules), request) == one(true)
    };
    let both = [rule("i", "REQUIRED"), rule("j", "OPTIONAL")];
    assert!(!passes(&both, "path: /"));
    assert!(!passes(&both, "jwt: { iss: j, sub: s }"), "another issuer");
    assert!(passes(&both, "jwt: { iss: i, sub: s }"));
    assert!(passes(&both[1..], "path: /"));
    let preflight = |method: &str, headers: &str| format!("{{ method: {method}, headers: {{ {headers} }} }}");
    assert!(passes(&both, &preflight("OPTIONS", "Origin: a, access-control-request-method: PUT")));
    assert!(!passes(&both, &preflight("GET", "origin: a, access-control-request-method: PUT")));
    assert!(!passes(&both, &preflight("OPTIONS", "origin: a")));
    assert!(!passes(&both, &preflight("OPTIONS", "origin: '', access-control-request-method: PUT")));

    // A request has the claims of one token here.
    let two = [rule("i", "REQUIRED"), rule("j", "REQUIRED")];
    assert!(!passes(&two, "path: /") && !passes(&two, "jwt: { iss: k, sub: s }"));
    let rules = authentication(&format!("{{ jwtRules: [{}] }}", two.join(", ")));
    let found = ask("{ key: 'request.auth.claims[iss]', values: [j] }", &rules, "jwt: { iss: j, sub: s }");
    let note = "RequestAuthentication default/r requires a token of `i`: this answer is for a request that has it too";
    assert_eq!(found, (true, vec![note.to_owned()]));
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
    // Envoy removes the others at the edge, or writes something else into them.
    let stay = JOINED.into_iter().filter(|name| !name.starts_with("x-envoy") && !name.starts_with("x-forwarded"));
    for name in stay.filter(|name| *name != "x-request-id") {
        assert_eq!((passes(name, "a").0, passes(name, "a,b").0), (false, true), "{name}");
    }
    assert_eq!((passes("x-role", "a").0, passes("x-role", "a,b").0), (true, false));
    assert_eq!(passes("Accept", "a,b").1, ["Envoy joins the lines of `accept`: `a,b`"]);
    assert!(JOINED.is_sorted());
}

/// The answers of a policy that allows this path.
fn ask_path(path: &str, others: &str, request: &str) -> Vec<(bool, String)> {
    let answers = ask_all(&format!("{{ to: [{{ operation: {{ paths: ['{path}'] }} }}] }}"), others, request);
    answers.into_iter().map(|(allowed, place, _)| (allowed, place)).collect()
}

const ISTIO: &str = "with Istio's default settings";
const RENDERED: &str = "with the settings of this project's bootstraps";

fn one(allowed: bool) -> Vec<(bool, String)> {
    vec![(allowed, String::new())]
}

#[test]
fn a_path_is_decided_as_envoy_makes_it() {
    for path in ["/x/../admin", "/%61dmin", "/./admin", "\\admin", "/x/%2E%2e\\admin", "/admin?/../x"] {
        let path = path.replacen('\\', "/x/..\\", usize::from(path.starts_with('\\')));
        assert_eq!(ask_path("/admin", "", &format!("path: '{path}'")), one(true), "{path}");
    }
    for path in ["/admin/", "/admin/..", "/x/..admin", "/admin%2e"] {
        assert_eq!(ask_path("/admin", "", &format!("path: '{path}'")), one(false), "{path}");
    }
    let (_, _, notes) = &ask_all("{ to: [{ operation: { paths: ['/admin'] } }] }", "", "path: /x/../admin?q")[0];
    assert_eq!(notes, &["Envoy makes `/admin?q` of `/x/../admin?q`"]);
}

#[test]
fn where_settings_differ_both_answers_are_given() {
    for path in ["//admin", "/%2Fadmin", "/x/..%2fadmin", "/x%5C..%5Cadmin"] {
        let both = vec![(false, ISTIO.to_owned()), (true, RENDERED.to_owned())];
        assert_eq!(ask_path("/admin", "", &format!("path: '{path}'")), both, "{path}");
    }
    let host = |request: &str| {
        let answers = ask_all("{ to: [{ operation: { hosts: [a.example] } }] }", "", request);
        answers.into_iter().map(|(allowed, place, _)| (allowed, place)).collect::<Vec<_>>()
    };
    assert_eq!(host("host: a.example."), [(false, ISTIO.to_owned()), (true, RENDERED.to_owned())]);
    assert_eq!(host("host: A.example"), one(true));
}

#[test]
fn what_the_input_says_of_envoy_counts() {
    let operator = |normalization: &str| {
        format!(
            "---\napiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nmetadata: {{ name: o }}\nspec: {{ meshConfig: {{ pathNormalization: {{ normalization: {normalization} }} }} }}\n"
        )
    };
    let map = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: { name: istio }\ndata: { mesh: \"pathNormalization:\\n  normalization: MERGE_SLASHES\\n\" }\n";
    assert_eq!(ask_path("/admin", &operator("MERGE_SLASHES"), "path: //admin"), one(true));
    assert_eq!(ask_path("/admin", map, "path: //admin"), one(true));
    assert_eq!(ask_path("/admin", &operator("BASE"), "path: //admin"), one(false));
    assert_eq!(ask_path("/admin", &operator("NONE"), "path: /x/../admin"), one(false));
    assert_eq!(ask_path("/admin", &operator("DECODE_AND_MERGE_SLASHES"), "path: /%2Fadmin"), one(true));
    // The input contradicts itself: both answers are given.
    let both = format!("{}{}", operator("BASE"), map);
    let of = |number: usize| format!("with mesh configuration {number} of the input");
    assert_eq!(ask_path("/admin", &both, "path: //admin"), [(false, of(1)), (true, of(2))]);
    let silent = operator("BASE").replace("pathNormalization: { normalization: BASE }", "");
    let both = format!("{}{}", operator("NONE"), silent);
    assert_eq!(ask_path("/admin", &both, "path: /x/../admin"), [(false, of(1)), (true, of(2))]);
}

#[test]
fn a_request_that_envoy_itself_refuses_is_decided_by_no_policy() {
    for path in ["/a#b", "/a%00", "a", "/a b"] {
        assert_eq!(ask_path("*", "", &format!("path: '{path}'")), one(false), "{path}");
    }
    let by_protocol = vec![(false, "over HTTP/1.1".to_owned()), (true, "over HTTP/2".to_owned())];
    assert_eq!(ask_path("*", "", "path: '/é'"), by_protocol);
    assert_eq!(ask_path("/%C3%A9", "", "{ path: '/é', protocol: http2 }"), one(true));
    assert_eq!(ask_path("*", "", "{ host: 'u@a.example' }").len(), 2);
}

#[test]
fn parameters_of_dots_are_read_as_the_version_of_envoy_does() {
    let versions = vec![
        (true, "in Envoy with the fix for `..;`".to_owned()),
        (false, "in Envoy without the fix for `..;`".to_owned()),
    ];
    for path in ["/x/..;/admin", "/x/..;a=b/admin", "/x/.;/../admin"] {
        assert_eq!(ask_path("/admin", "", &format!("path: '{path}'")), versions, "{path}");
    }
    assert_eq!(ask_path("/x/..;/admin", "", "path: '/x/%2e%2e;/admin'"), one(true), "an escaped dot is none");
}

#[test]
fn over_http2_cookies_are_joined_and_white_space_is_kept() {
    let ask = |condition: &str, request: &str| {
        let answers = ask_all(&format!("{{ when: [{condition}] }}"), "", request);
        answers.into_iter().map(|(allowed, place, _)| (allowed, place)).collect::<Vec<_>>()
    };
    let http1 = vec![(true, "over HTTP/1.1".to_owned()), (false, "over HTTP/2".to_owned())];
    let cookie = "{ key: 'request.headers[cookie]', values: [b=2] }";
    assert_eq!(ask(cookie, "headers: { cookie: [a=1, b=2] }"), http1);
    assert_eq!(ask(cookie, "{ protocol: http2, headers: { cookie: [a=1, b=2] } }"), one(false));
    let any = "{ key: 'request.headers[cookie]', values: ['*'] }";
    assert_eq!(ask(any, "headers: { cookie: '' }"), http1, "HTTP/2 has no empty cookie");
    let role = "{ key: 'request.headers[x-role]', values: [admin] }";
    assert_eq!(ask(role, "headers: { x-role: ' admin\t' }"), http1);
}

#[test]
fn the_clients_address_comes_from_where_envoy_takes_it() {
    let ask = |block: &str, others: &str, request: &str| {
        let rule = format!("{{ from: [{{ source: {{ remoteIpBlocks: ['{block}'] }} }}] }}");
        let answers = ask_all(&rule, others, request);
        answers.into_iter().map(|(allowed, place, _)| (allowed, place)).collect::<Vec<_>>()
    };
    let request = "{ sourceIp: 10.0.0.1, headers: { x-forwarded-for: ['1.1.1.1, 2.2.2.2', 3.3.3.3] } }";
    assert_eq!(ask("3.3.3.3", "", request), [(true, ISTIO.to_owned()), (false, RENDERED.to_owned())]);
    assert_eq!(ask("10.0.0.1", "", request), [(false, ISTIO.to_owned()), (true, RENDERED.to_owned())]);
    let given = request.replace("sourceIp", "remoteIp: 4.4.4.4, sourceIp");
    assert_eq!(ask("4.4.4.4", "", &given), one(true), "the request says it");
    for (use_remote_address, hops, address) in [
        (true, 0, "10.0.0.1"),
        (true, 1, "3.3.3.3"),
        (true, 2, "2.2.2.2"),
        (false, 1, "2.2.2.2"),
        (false, 9, "10.0.0.1"),
    ] {
        let manager = format!(
            "{{ '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, use_remote_address: {use_remote_address}, xff_num_trusted_hops: {hops} }}"
        );
        let bootstrap = format!("{{ static_resources: {{ listeners: [{{ typed_config: {manager} }}] }} }}");
        let known = Known::of(&Resources::of(&Arc::new(SourceText::new(PathBuf::from("e.yaml"), bootstrap))));
        assert_eq!(known.found[0].trusted_hops, hops);
        let mut set = set(&format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{ name: p }}\nspec: {{ rules: [{{ from: [{{ source: {{ remoteIpBlocks: ['{address}'] }} }}] }}] }}\n"
        ));
        set.envoy = known;
        let request = RequestFields::read(&yaml::documents(request).unwrap()[0], &mut Diagnostics::new()).unwrap();
        let engine = set.engine(Traffic::Http);
        let answers = answers(&request, &set, &engine);
        let verdicts: Vec<_> = answers.iter().map(Answered::verdict).collect();
        assert_eq!(verdicts, [Verdict::Allow], "{use_remote_address} {hops}");
    }
}

#[test]
fn the_scheme_is_a_header() {
    let is_http = |request: &str| {
        let answers = ask_all("{ when: [{ key: 'request.headers[:scheme]', values: [http] }] }", "", request);
        answers.into_iter().map(|(allowed, place, _)| (allowed, place)).collect::<Vec<_>>()
    };
    assert_eq!(is_http("{}"), one(true));
    assert_eq!(is_http("principal: cluster.local/ns/a/sa/b"), one(false));
    assert_eq!(is_http("{ protocol: http1, path: 'https://a.example/' }"), one(false));
    let forwarded = "{ protocol: http1, headers: { x-forwarded-proto: https } }";
    assert_eq!(is_http(forwarded), [(false, ISTIO.to_owned()), (true, RENDERED.to_owned())]);
}

#[test]
fn a_whole_url_is_a_host_and_a_path() {
    let ask = |path: &str| {
        let rule = "{ to: [{ operation: { hosts: [a.example], paths: [/b] } }] }";
        let answers = ask_all(rule, "", &format!("{{ protocol: http1, host: c.example, path: '{path}' }}"));
        answers.into_iter().map(|(allowed, place, _)| (allowed, place)).collect::<Vec<_>>()
    };
    for path in ["http://a.example/b", "HTTP://a.example/x/../b?c", "https://u:p@a.example/b"] {
        assert_eq!(ask(path), one(true), "{path}");
    }
    for path in ["http://a.example", "http:///b", "http://a.example/b#c", "http://a.example?b", "http://a b/b"] {
        assert_eq!(ask(path), one(false), "{path}");
    }
}

#[test]
fn what_envoy_does_not_take_passes_nowhere() {
    let passes = |request: &str| ask_path("*", "", request);
    for request in [
        "{ protocol: http1, method: get }",
        "{ method: 'x y' }",
        "{ headers: { x: \"a\\u0001b\" } }",
        "{ headers: { 'x y': a } }",
        "{ headers: { content-length: a } }",
        "host: a b",
        "host: a/b",
        "{ protocol: http2, host: a/b }",
        "{ protocol: http1, headers: { connection: upgrade, upgrade: other } }",
    ] {
        assert_eq!(passes(request), one(false), "{request}");
    }
    for request in
        ["{ protocol: http2, method: get }", "method: PURGE", "host: 'a_b:99999'", "{ headers: { x: \"a\\tb\" } }"]
    {
        assert_eq!(passes(request), one(true), "{request}");
    }
    let expects = |value: &str| {
        ask("{ key: 'request.headers[expect]', values: ['*'] }", "", &format!("headers: {{ expect: {value} }}")).0
    };
    assert!(expects("other") && !expects("100-Continue"));
}

#[test]
fn a_token_is_accepted_and_changes_headers_as_the_input_says() {
    let rule = |more: &str| format!("{{ jwtRules: [{{ issuer: i, audiences: [shop], {more} }}] }}");
    let rules = rule("outputClaimToHeaders: [{ header: x-group, claim: group }], outputPayloadToHeader: x-payload");
    let passes = |claims: &str| ask_path("*", &authentication(&rules), &format!("jwt: {{ {claims} }}"));
    assert_eq!(passes("iss: i, sub: s, aud: shop"), one(true));
    assert_eq!(passes("iss: i, sub: s, aud: [other, shop], exp: 9999999999, nbf: 1"), one(true));
    for claims in [
        "iss: other, sub: s, aud: shop",
        "sub: s, aud: shop",
        "iss: i, sub: s, aud: other",
        "iss: i, sub: s",
        "iss: i, sub: s, aud: shop, exp: 1",
        "iss: i, sub: s, aud: shop, nbf: 9999999999",
    ] {
        assert_eq!(passes(claims), one(false), "{claims}");
    }
    let has = |name: &str, value: &str, rules: &str, request: &str| {
        ask(&format!("{{ key: 'request.headers[{name}]', values: ['{value}'] }}"), &authentication(rules), request).0
    };
    let token = "jwt: { iss: i, sub: s, aud: shop, group: guest }";
    assert!(has("x-group", "guest", &rules, token) && has("x-payload", "*", &rules, token));
    assert!(!has("x-group", "spoof", &rules, "headers: { x-group: spoof }"), "Envoy removes it");
    let with_token = format!("{{ {token}, headers: {{ authorization: Bearer }} }}");
    assert!(!has("authorization", "*", &rules, &with_token));
    assert!(has("authorization", "*", &rule("forwardOriginalToken: true"), &with_token));
    assert!(has("authorization", "*", &rule("fromHeaders: [{ name: x-token }]"), &with_token));
}

#[test]
fn the_clients_certificate_is_in_a_header_where_envoy_writes_it() {
    let has = |request: &str| {
        let rule = "{ when: [{ key: 'request.headers[x-forwarded-client-cert]', values: ['*'] }] }";
        let answers = ask_all(rule, "", request);
        answers.into_iter().map(|(allowed, place, _)| (allowed, place)).collect::<Vec<_>>()
    };
    let istio = vec![(true, ISTIO.to_owned()), (false, RENDERED.to_owned())];
    assert_eq!(has("principal: cluster.local/ns/a/sa/b"), istio);
    assert_eq!(has("headers: { x-forwarded-client-cert: a }"), one(false), "without a certificate");
}

#[test]
fn each_connection_manager_of_the_input_answers() {
    let manager = |options: &str| {
        format!(
            "{{ '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, {options} }}"
        )
    };
    let known = |field: &str, managers: &[String]| {
        let text = format!("{{ {field}: {{ listeners: [{}] }} }}", managers.join(", "));
        Known::of(&Resources::of(&Arc::new(SourceText::new(PathBuf::from("e.yaml"), text))))
    };
    let [plain, normal] =
        ["normalize_path: false", "normalizePath: true, pathWithEscapedSlashesAction: 4"].map(manager);
    for field in ["static_resources", "staticResources"] {
        let found = known(field, &[plain.clone(), normal.clone(), plain.clone()]).found;
        assert_eq!(found.len(), 2, "each once");
        assert_eq!(
            found.iter().map(|settings| (settings.normalize_path, settings.escaped_slashes)).collect::<Vec<_>>(),
            [(false, EscapedSlashes::Keep), (true, EscapedSlashes::Decode)]
        );
    }
    let odd = manager(
        "strip_any_host_port: true, preserve_external_request_id: false, generate_request_id: false, upgrade_configs: [{ upgrade_type: websocket }]",
    );
    for (option, strips_any, strips_local) in [
        ("strip_any_host_port: true", true, true),
        ("strip_matching_host_port: true", false, true),
        ("merge_slashes: true", false, false),
    ] {
        let mut set = set(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: p }\nspec: { rules: [{ to: [{ operation: { hosts: [a.example] } }] }] }\n",
        );
        set.envoy = known("static_resources", &[manager(option)]);
        let engine = set.engine(Traffic::Http);
        for (port, expected) in [(80, strips_any), (8080, strips_local)] {
            let request = format!("{{ host: 'a.example:{port}', destinationPort: 8080 }}");
            let request = RequestFields::read(&yaml::documents(&request).unwrap()[0], &mut Diagnostics::new()).unwrap();
            let allowed = answers(&request, &set, &engine)[0].verdict() == Verdict::Allow;
            assert_eq!(allowed, expected, "{option} {port}");
        }
    }
    let options: Vec<_> = known("static_resources", &[odd]).not_considered.into_iter().collect();
    assert_eq!(options, ["generate_request_id"]);
}

#[test]
fn headers_that_end_at_envoy_are_not_there() {
    let present = |name: &str, request: &str| {
        let answers =
            ask_all(&format!("{{ when: [{{ key: 'request.headers[{name}]', values: ['*'] }}] }}"), "", request);
        answers.into_iter().map(|(allowed, place, _)| (allowed, place)).collect::<Vec<_>>()
    };
    let http1 = |name: &str| present(name, &format!("{{ protocol: http1, headers: {{ {name}: a }} }}"));
    for name in ["keep-alive", "x-envoy-internal", "x-envoy-max-retries", "te"] {
        assert_eq!(http1(name), one(false), "{name}");
    }
    assert_eq!(present("x-a", "{ protocol: http1, headers: { connection: 'close, X-A', x-a: b } }"), one(false));
    assert_eq!(http1("x-envoy-original-path"), [(true, ISTIO.to_owned()), (false, RENDERED.to_owned())]);
    // An upgrade that Envoy accepts.
    for (connection, upgrade, is_there) in [
        ("Upgrade, x-a", "WebSocket", true),
        ("keep-alive", "websocket", false),
        ("upgrade", "h2c", false),
        ("upgrade", "other", false),
    ] {
        let request =
            format!("{{ protocol: http1, headers: {{ connection: '{connection}', upgrade: '{upgrade}', x-a: b }} }}");
        assert_eq!(present("upgrade", &request), one(is_there), "{connection} {upgrade}");
    }
    for (te, is_there) in [("['', a]", false), ("''", true), ("'a, trailers'", true), ("[a, trailers]", true)] {
        assert_eq!(present("te", &format!("{{ protocol: http1, headers: {{ te: {te} }} }}")), one(is_there), "{te}");
    }
    for (referer, is_there) in [
        ("http://a.example/b?c", true),
        ("/b:c", true),
        ("b", true),
        ("b c", false),
        ("b:c", false),
        ("b#c", false),
        ("http://u@a.example/", false),
        ("http:///b", false),
        ("http://a.example/b#c", false),
        ("about:blank", false),
    ] {
        let request = format!("{{ protocol: http1, headers: {{ referer: '{referer}' }} }}");
        assert_eq!(present("referer", &request), one(is_there), "{referer}");
    }
    for name in ["x-request-id", "x-forwarded-proto"] {
        assert_eq!(present(name, "{}"), one(true), "{name}");
    }
}

#[test]
fn a_waypoint_does_not_know_the_address_of_the_direct_peer() {
    let denied = |field: &str, address: &str| {
        let mut set = set(&format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{ name: p }}\nspec:\n  action: DENY\n  \
             targetRefs: [{{ group: gateway.networking.k8s.io, kind: Gateway, name: w }}]\n  \
             rules: [{{ from: [{{ source: {{ {field}: [10.0.0.0/8] }} }}] }}]\n"
        ));
        set.workload.gateway = Some(Gateway { name: "w".to_owned(), waypoint: true, ..Gateway::default() });
        let document = &yaml::documents(&format!("sourceIp: {address}")).unwrap()[0];
        let request = RequestFields::read(document, &mut Diagnostics::new()).unwrap();
        let engine = set.engine(Traffic::Http);
        let answers = answers(&request, &set, &engine);
        assert!(answers.iter().all(|answered| answered.received.notes.iter().any(|note| note.contains("a waypoint"))));
        answers.iter().all(|answered| answered.verdict() == Verdict::Deny)
    };
    assert!(denied("ipBlocks", "10.0.0.7") && denied("ipBlocks", "192.0.2.1"));
    assert!(denied("remoteIpBlocks", "10.0.0.7") && !denied("remoteIpBlocks", "192.0.2.1"));
}

/// Envoy writes the server name in lower case.
#[test]
fn a_server_name_is_in_lower_case() {
    let condition = "{ key: connection.sni, values: [a.example] }";
    let (allowed, notes) = ask(condition, "", "{ principal: td/ns/a/sa/b, sni: A.example }");
    assert!(allowed && notes == ["Envoy makes `a.example` of the server name `A.example`"], "{notes:?}");
    let condition = "{ key: connection.sni, values: [A.example] }";
    assert!(!ask(condition, "", "{ principal: td/ns/a/sa/b, sni: A.example }").0);
}

/// A connection: what of the policies does not count over TCP is said.
#[test]
fn what_does_not_count_over_tcp_is_said() {
    for (action, rule, allowed, note) in [
        ("ALLOW", "{ to: [{ operation: { ports: ['1'] } }] }", true, None),
        (
            "ALLOW",
            "{ to: [{ operation: { ports: ['1'] } }, { operation: { paths: [/a] } }] }",
            false,
            Some("over TCP, rule 0 of default/p does not count: only HTTP has `paths`"),
        ),
        (
            "DENY",
            "{ to: [{ operation: { ports: ['1'], methods: [GET], notHosts: [a] } }] }",
            false,
            Some("over TCP, rule 0 of default/p counts without `hosts` and `methods`, which only HTTP has"),
        ),
        (
            "DENY",
            "{ when: [{ key: 'request.headers[a]', values: [b] }] }",
            false,
            Some("over TCP, rule 0 of default/p refuses every connection: only HTTP has `request.headers[a]`"),
        ),
    ] {
        let set = set(&format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{ name: p }}\nspec: {{ action: {action}, rules: [{rule}] }}\n"
        ));
        let request = "{ protocol: tcp, destinationPort: 1 }";
        let request = RequestFields::read(&yaml::documents(request).unwrap()[0], &mut Diagnostics::new()).unwrap();
        let engine = set.engine(request.traffic());
        let [answered] = answers(&request, &set, &engine).try_into().unwrap();
        assert_eq!(answered.verdict() == Verdict::Allow, allowed, "{action} {rule}");
        assert_eq!(answered.received.notes, note.into_iter().collect::<Vec<_>>(), "{action} {rule}");
    }
}

#[test]
fn a_connection_has_nothing_of_http() {
    let mut diagnostics = Diagnostics::new();
    let request = "{ protocol: tcp, path: /a, jwt: {}, headers: { a: b }, sni: c }";
    RequestFields::read(&yaml::documents(request).unwrap()[0], &mut diagnostics);
    let found: Vec<_> = diagnostics.into_found().iter().map(|mistake| mistake.path.to_string()).collect();
    assert_eq!(found, ["path", "headers", "jwt"]);
}
