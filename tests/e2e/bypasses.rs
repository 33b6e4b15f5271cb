//! Published bypasses of a proxy's authorization. Each one has one test or more, with its id in the test's name.
//!
//! Each test sends the request that bypassed a policy, and a similar request that must pass. Envoy's configuration must
//! stop some of these requests. Their tests run with `envoy/backend.yaml` as shipped. The filter must stop all others.
//! The tests about paths also run without Envoy's path normalisation.

use serde_json::{Value, json};
use testbed::{Client, Http2Request, Issuer, Request, San};

use crate::failures::trapping_module;
use crate::jwt::{issuer, jwt_authn, with_token};
use crate::protocols::{accepting_connect, connect, start as accepting_extended_connect};
use crate::question::Sent;
use crate::shared::resources;
use crate::sidecar::{Blueprint, FRONTEND, PATIENCE, STRANGER, Sidecar, Version, policy, to, when};
use crate::stricter::{both, both_with, statuses};
use crate::updates::{deny, listener};

/// The result of a request.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Passed,
    /// Refused by the filter.
    Refused,
    /// Any other status, which did not come from the filter.
    Failed(u16),
}

use Fate::{Failed, Passed, Refused};

fn fate(client: &Client, request: &impl Sent) -> Fate {
    let response = request.send(client);
    match response.status {
        200 | 101 => Passed,
        403 if response.text() == "RBAC: access denied" => Refused,
        // After a CONNECT, the client does not wait for a body.
        403 if response.header("x-details").is_some_and(|details| details.starts_with("rbac_access_denied")) => Refused,
        status => Failed(status),
    }
}

/// The result of a request for a path. It must be the same over HTTP/1.1 and HTTP/2.
#[track_caller]
fn get(sidecar: &Sidecar, path: &str) -> Fate {
    let client = sidecar.client(FRONTEND);
    let http2 = fate(&client, &Http2Request::get(path));
    assert_eq!(fate(&client, &Request::get(path)), http2, "{path}: the versions of HTTP do not agree");
    http2
}

#[track_caller]
fn assert_refused(sidecar: &Sidecar, paths: &[&str]) {
    for path in paths {
        assert_eq!(get(sidecar, path), Refused, "{path}");
    }
}

#[track_caller]
fn assert_passes(sidecar: &Sidecar, paths: &[&str]) {
    for path in paths {
        assert_eq!(get(sidecar, path), Passed, "{path}");
    }
}

/// The releases of August 2026 in which Envoy began to recognize the parameters of path segments, `/admin;x=y`.
const FIXES_OF_PATH_PARAMETERS: [Version; 4] = [(1, 36, 10), (1, 37, 6), (1, 38, 4), (1, 39, 1)];

fn blueprint(policy: &Value) -> Blueprint {
    Blueprint::new(&json!({ "policies": [policy] }))
}

/// The shipped sidecar. Only its port and its policies are changed.
fn as_it_ships(policy: &Value) -> Sidecar {
    blueprint(policy).start()
}

/// The filter with Envoy's normalisation of paths, and without it.
fn with_and_without_normalisation(policy: &Value) -> [Sidecar; 2] {
    [blueprint(policy).start_shared(), on_its_own(policy)]
}

/// The filter without Envoy's normalisation of paths.
fn on_its_own(policy: &Value) -> Sidecar {
    blueprint(policy).without_normalisation().answering_by_itself().start_shared()
}

/// A sidecar that verifies tokens.
fn verifying_tokens(policy: &Value) -> Sidecar {
    blueprint(policy).filter(jwt_authn()).start_shared()
}

/// The result of a request with a verified token that has these claims.
fn fate_of_claims(sidecar: &Sidecar, claims: &Value) -> Fate {
    fate(&sidecar.client(FRONTEND), &with_token(issuer(), claims))
}

fn on_paths(action: &str, field: &str, path: &str) -> Value {
    policy("paths", action, &[to(json!({ field: [path] }))])
}

fn on_source(action: &str, field: &str, values: &[&str]) -> Value {
    policy("source", action, &[json!({ "from": [{ "source": { field: values } }] })])
}

fn on_role_claim(action: &str, value: &str) -> Value {
    policy("role", action, &[when("request.auth.claims[role]", &[value])])
}

// Paths.

#[test]
fn cve_2019_9901_dot_segments_do_not_hide_a_path() {
    let sidecar = as_it_ships(&on_paths("DENY", "paths", "/admin"));
    assert_refused(&sidecar, &["/public/../admin", "/public/%2e%2e/admin", "/./admin", "/public/..%2fadmin"]);
    assert_passes(&sidecar, &["/public/../data"]);
    // The application gets the same path that the policies were compared with.
    assert_eq!(sidecar.app.last_request().unwrap().path, "/data");
}

#[test]
fn cve_2026_73551_dot_segments_with_parameters_hide_a_path_from_old_envoys_only() {
    let sidecar = as_it_ships(&on_paths("DENY", "paths", "/admin"));
    for path in ["/..;/admin", "/public/..;/admin", "/public/..;x=1/admin"] {
        if sidecar.has_fix(&FIXES_OF_PATH_PARAMETERS) {
            assert_refused(&sidecar, &[path]);
        } else {
            // For such an Envoy, `..;` is an ordinary name. An application that reads it as `..` serves /admin.
            assert_passes(&sidecar, &[path]);
            assert_eq!(sidecar.app.last_request().unwrap().path, path);
        }
    }
    assert_passes(&sidecar, &["/admin;x", "/data;x", "/public/..;/data"]);
}

/// Policies do not depend on how Envoy matches routes. `docs/envoy-versions.md` says not to configure routes this way.
#[test]
fn cve_2026_73553_a_route_that_ignores_path_parameters_answers_to_names_that_no_policy_has() {
    let native = json!({ "url_path": { "path": { "exact": "/admin" } } });
    let native = json!({ "permissions": [native], "principals": [{ "any": true }] });
    let sidecars = both_with(&on_paths("DENY", "paths", "/admin"), &native, |mut blueprint| {
        let routes = &mut blueprint.manager()["route_config"];
        routes["ignore_path_parameters_in_path_matching"] = json!(true);
        routes["virtual_hosts"][0]["routes"][0]["match"] = json!({ "path": "/admin" });
        blueprint
    });
    let get = |path: &str| statuses(&sidecars, |sidecar| sidecar.client(FRONTEND).send(&Request::get(path)).unwrap());
    let in_native = if sidecars[1].has_fix(&FIXES_OF_PATH_PARAMETERS) { 403 } else { 200 };
    assert_eq!(get("/admin"), [403, 403]);
    assert_eq!(get("/admin;x=y"), [200, in_native]);
    // A policy can match these paths explicitly.
    let covering = on_paths("DENY", "paths", "/admin;*");
    assert_refused(&blueprint(&covering).start_shared(), &["/admin;x=y", "/admin;"]);
    assert_passes(&blueprint(&covering).start_shared(), &["/data;x"]);
}

#[test]
fn cve_2020_8595_neither_query_nor_fragment_hides_a_path() {
    let policy = on_paths("DENY", "paths", "/admin");
    for sidecar in with_and_without_normalisation(&policy) {
        assert_refused(&sidecar, &["/admin?x", "/admin?", "/admin?/data"]);
        assert_passes(&sidecar, &["/data?x", "/data?/admin"]);
        // Envoy itself refuses this request.
        assert_eq!(get(&sidecar, "/admin#x"), Failed(400));
    }
    assert_fragments_are_cut_off(&policy, "/admin");
}

#[test]
fn cve_2021_39156_a_fragment_does_not_hide_a_path() {
    let policy = on_paths("DENY", "paths", "/user/profile");
    for sidecar in with_and_without_normalisation(&policy) {
        assert_eq!(get(&sidecar, "/user/profile#s"), Failed(400));
    }
    assert_fragments_are_cut_off(&policy, "/user/profile");
}

/// Asserts that the filter itself refuses a denied path with a fragment. Envoy accepts no such path from a client, but
/// a filter that runs before ours can set one. Here, that filter takes it from a header.
#[track_caller]
fn assert_fragments_are_cut_off(policy: &Value, denied: &str) {
    let rewrite = "function envoy_on_request(request)
        request:headers():replace(':path', request:headers():get('x-path'))
    end";
    let sidecar = blueprint(policy).answering_by_itself().filter(json!({
        "name": "envoy.filters.http.lua",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
            "default_source_code": { "inline_string": rewrite },
        },
    }));
    let sidecar = sidecar.start_shared();
    let rewritten = |path: &str| fate(&sidecar.client(FRONTEND), &Request::get("/").header("x-path", path));
    for end in ["", "#s", "#", "#?", "?x#s", "#/data"] {
        assert_eq!(rewritten(&format!("{denied}{end}")), Refused, "{end}");
    }
    assert_eq!(rewritten(&format!("/data#{denied}")), Passed);
}

#[test]
fn cve_2021_31920_slashes_do_not_hide_a_path() {
    for policy in [on_paths("DENY", "paths", "/admin"), on_paths("ALLOW", "notPaths", "/admin")] {
        let sidecar = as_it_ships(&policy);
        assert_refused(&sidecar, &["//admin", "///admin", "//public/..//admin"]);
        assert_passes(&sidecar, &["//data", "//adminx"]);
    }
}

#[test]
fn cve_2021_29492_escaped_slashes_do_not_hide_a_path() {
    for policy in [on_paths("DENY", "paths", "/admin"), on_paths("ALLOW", "notPaths", "/admin")] {
        let sidecar = as_it_ships(&policy);
        assert_refused(&sidecar, &["/%2Fadmin", "/%2fadmin", "/%5cadmin", "/%5Cadmin", "/\\admin"]);
        assert_passes(&sidecar, &["/%2Fdata", "/%5cdata"]);
    }
}

#[test]
fn cve_2023_27487_a_forged_original_path_is_never_read() {
    let sidecar = as_it_ships(&on_paths("DENY", "paths", "/admin"));
    let client = sidecar.client(FRONTEND);
    let claiming = |path: &str, claimed: &str| Request::get(path).header("x-envoy-original-path", claimed);
    assert_eq!(fate(&client, &claiming("/admin", "/public")), Refused);
    assert_eq!(fate(&client, &claiming("/public", "/admin")), Passed);
}

#[test]
fn cve_2025_46821_a_star_does_not_hide_a_path_from_a_template() {
    for sidecar in with_and_without_normalisation(&on_paths("DENY", "paths", "/admin/{**}")) {
        assert_refused(&sidecar, &["/admin/*x", "/admin/*", "/admin/x*/y"]);
        assert_passes(&sidecar, &["/data/*x", "/*x"]);
    }
}

#[test]
fn odd_bytes_under_templates_do_not_hide_a_path() {
    for sidecar in with_and_without_normalisation(&on_paths("DENY", "paths", "/admin/{**}")) {
        assert_refused(&sidecar, &["/admin/a|b", "/admin/a[1]", "/admin/a\"<>^`{}"]);
        assert_passes(&sidecar, &["/data/a|b", "/data/a[1]"]);
    }
    for sidecar in with_and_without_normalisation(&on_paths("ALLOW", "notPaths", "/admin/{*}")) {
        assert_refused(&sidecar, &["/admin/a|b", "/admin/a[1]"]);
        assert_passes(&sidecar, &["/data/a|b", "/admin/a/b"]);
    }
}

#[test]
fn cve_2026_32811_a_path_is_the_bytes_before_the_query_and_never_a_url() {
    for (denied, near) in [
        ("/mypath", &["/mypathx?x", "/x?/mypath"][..]),
        // A URL of this form has the host `admin` and the path `/x`.
        ("//admin/x", &["/x", "/admin/x", "///admin/x"]),
        ("/x", &["//admin/x"]),
        ("/a/%2e%2e/b", &["/b", "/a/../b", "/a/%2E%2E/b"]),
    ] {
        let sidecar = on_its_own(&on_paths("DENY", "paths", denied));
        assert_refused(&sidecar, &[denied, &format!("{denied}?x"), &format!("{denied}?//y/../z")]);
        assert_passes(&sidecar, near);
    }
    // A request to a proxy has a whole URL as its path. Envoy takes the host from it.
    let sidecar = on_its_own(&on_paths("DENY", "paths", "/mypath"));
    let client = sidecar.client(FRONTEND);
    assert_eq!(fate(&client, &Request::get("http://other.example/mypath?x")), Refused);
    assert_eq!(fate(&client, &Request::get("http://mypath/other")), Passed);
}

#[test]
fn cve_2026_73547_a_connect_without_a_path_matches_no_path() {
    for (action, field, expected) in [
        ("DENY", "paths", Passed),
        ("DENY", "notPaths", Refused),
        ("ALLOW", "paths", Refused),
        ("ALLOW", "notPaths", Passed),
    ] {
        let sidecar = accepting_connect(blueprint(&on_paths(action, field, "/admin"))).telling_details().start_shared();
        let client = sidecar.client(FRONTEND);
        let authority = "backend.example:443";
        assert_eq!(fate(&client, &connect(authority)), expected, "{action} {field}");
        let http1 = Request::new("CONNECT", authority).host(authority);
        assert_eq!(fate(&client, &http1), expected, "{action} {field} over HTTP/1.1");
        // With the same policy, a request that has a path.
        let admin_is_refused = (action == "DENY") == (field == "paths");
        assert_eq!(get(&sidecar, "/admin") == Refused, admin_is_refused, "{action} {field}");
    }
}

// Hosts, headers, bytes.

fn deny_hosts(hosts: &[&str]) -> Value {
    policy("hosts", "DENY", &[to(json!({ "hosts": hosts }))])
}

fn on_hosts(hosts: &[&str]) -> Sidecar {
    blueprint(&deny_hosts(hosts)).start_shared()
}

/// The result of a request to a host. It must be the same over HTTP/1.1 and HTTP/2.
#[track_caller]
fn to_host(sidecar: &Sidecar, host: &str) -> Fate {
    let client = sidecar.client(FRONTEND);
    let http2 = fate(&client, &Http2Request::get("/").replace(":authority", host));
    assert_eq!(fate(&client, &Request::get("/").host(host)), http2, "{host}: the versions of HTTP do not agree");
    http2
}

#[test]
fn cve_2021_39155_case_does_not_hide_a_host() {
    let sidecar = on_hosts(&["secret.com"]);
    for host in ["Secret.com", "SECRET.COM", "secret.com"] {
        assert_eq!(to_host(&sidecar, host), Refused, "{host}");
    }
    assert_eq!(to_host(&sidecar, "Secrets.com"), Passed);
}

/// Servers take these hosts for the same. HTTP/2 lets no userinfo through.
#[test]
fn host_forms_do_not_hide_a_host() {
    let policy = deny_hosts(&["admin.example.com", "admin.example.com:*"]);
    let alone = blueprint(&policy).setting("strip_trailing_host_dot", json!(false)).start();
    for sidecar in [as_it_ships(&policy), alone] {
        for host in ["admin.example.com.", "admin.example.com.:80", "ADMIN.example.com."] {
            assert_eq!(to_host(&sidecar, host), Refused, "{host}");
        }
        let client = sidecar.client(FRONTEND);
        for host in ["u@admin.example.com", "@admin.example.com", "u:p@admin.example.com.:80"] {
            assert_eq!(fate(&client, &Request::get("/").host(host)), Refused, "{host}");
        }
        assert_eq!(to_host(&sidecar, "public.example.com."), Passed);
        assert_eq!(fate(&client, &Request::get("/").host("admin.example.com@public.example.com")), Passed);
    }
}

/// HTTP/2 lets white space around a value through. An application that gets the request over HTTP/1 does not see it.
#[test]
fn white_space_in_http2_values_does_not_hide_a_value() {
    let deny = blueprint(&on_role_header("DENY", "admin")).start_shared();
    let allow_not = policy(
        "role",
        "ALLOW",
        &[json!({
            "when": [{ "key": "request.headers[x-role]", "notValues": ["admin"] }],
        })],
    );
    let allow_not = blueprint(&allow_not).start_shared();
    let allow = blueprint(&on_role_header("ALLOW", "admin")).start_shared();
    for sent in [&b" admin"[..], b"admin ", b"\tadmin", b"admin \t"] {
        let request = Http2Request::get("/").header("x-role", sent);
        for sidecar in [&deny, &allow_not] {
            assert_eq!(fate(&sidecar.client(FRONTEND), &request), Refused, "{}", sent.escape_ascii());
        }
        // Where a match permits, the value counts as sent.
        assert_eq!(fate(&allow.client(FRONTEND), &request), Refused, "{}", sent.escape_ascii());
    }
    assert_eq!(fate(&deny.client(FRONTEND), &Http2Request::get("/").header("x-role", "ad min")), Passed);
    assert_eq!(fate(&allow.client(FRONTEND), &Http2Request::get("/").header("x-role", "admin")), Passed);
}

#[test]
fn host_and_port_are_one_text_as_in_istio() {
    let sidecar = on_hosts(&["httpbin.com"]);
    assert_eq!([to_host(&sidecar, "httpbin.com"), to_host(&sidecar, "httpbin.com:80")], [Refused, Passed]);
    let sidecar = on_hosts(&["httpbin.com", "httpbin.com:*"]);
    assert_eq!([to_host(&sidecar, "httpbin.com"), to_host(&sidecar, "httpbin.com:80")], [Refused, Refused]);
    assert_eq!(to_host(&sidecar, "other.com:80"), Passed);
}

#[test]
fn host_and_port_can_be_empty_and_are_then_no_host_of_a_policy() {
    let sidecar = blueprint(&deny_hosts(&["httpbin.com"])).answering_by_itself().start_shared();
    let client = sidecar.client(FRONTEND);
    assert_eq!(fate(&client, &Request::get("/").host("")), Passed);
    let nowhere = Http2Request::get("/").replace(":authority", "");
    if sidecar.has_fix(&[(1, 37, 0)]) {
        assert!(client.send_http2(&nowhere).is_err(), "Envoy has taken a request without a host");
    } else {
        assert_eq!(fate(&client, &nowhere), Passed);
    }
}

fn on_role_header(action: &str, value: &str) -> Value {
    policy("role", action, &[when("request.headers[x-role]", &[value])])
}

/// The result of a request with one header line `x-role` for each value. It must be the same over HTTP/1.1 and HTTP/2.
#[track_caller]
fn with_roles(sidecar: &Sidecar, roles: &[&[u8]]) -> Fate {
    let client = sidecar.client(FRONTEND);
    let http1 = roles.iter().fold(Request::get("/"), |request, role| request.header("x-role", role));
    let http2 = roles.iter().fold(Http2Request::get("/"), |request, role| request.header("x-role", role));
    let fates = [fate(&client, &http1), fate(&client, &http2)];
    assert_eq!(fates[0], fates[1], "the versions of HTTP do not agree");
    let [_, http2] = fates;
    http2
}

#[test]
fn cve_2020_25017_and_cve_2021_32777_every_line_of_a_header_counts() {
    let sidecar = blueprint(&on_role_header("DENY", "admin")).start_shared();
    for roles in [[&b"user"[..], b"admin"], [b"admin", b"user"]] {
        assert_eq!(with_roles(&sidecar, &roles), Refused);
    }
    assert_eq!(with_roles(&sidecar, &[b"user", b"guest"]), Passed);
    // One line is one value, even with a comma in it.
    assert_eq!(with_roles(&sidecar, &[b"user,admin"]), Passed);
}

#[test]
fn cve_2026_26308_every_line_of_a_header_counts_whatever_envoys_own_filter_does() {
    let matcher = json!({ "header": { "name": "x-role", "string_match": { "exact": "admin" } } });
    let sidecars =
        both(&on_role_header("DENY", "admin"), &json!({ "permissions": [{ "any": true }], "principals": [matcher] }));
    let with_lines = |first: &str, second: &str| {
        let request = Request::get("/").header("x-role", first).header("x-role", second);
        statuses(&sidecars, |sidecar| sidecar.client(FRONTEND).send(&request).unwrap())
    };
    let native = if sidecars[1].has_fix(&[(1, 36, 5), (1, 37, 1)]) { 403 } else { 200 };
    assert_eq!([with_lines("user", "admin"), with_lines("admin", "user")], [[403, native], [403, native]]);
    assert_eq!(with_lines("user", "guest"), [200, 200]);
}

/// Envoy joins the lines of these headers with a comma before a filter sees them. An application may see the lines.
#[test]
fn joined_headers_are_what_envoys_own_filter_sees_too() {
    for name in ["user-agent", "authorization", "accept", "x-forwarded-proto", "content-type", "x-other"] {
        let policy = policy("joined", "DENY", &[when(&format!("request.headers[{name}]"), &["two", "one,two"])]);
        let matcher = |value: &str| json!({ "header": { "name": name, "string_match": { "exact": value } } });
        let native = json!({ "permissions": [{ "any": true }], "principals": [matcher("two"), matcher("one,two")] });
        let sidecars = both(&policy, &native);
        for lines in [&["one", "two"][..], &["two", "one"], &["two"], &["one,two"], &["three", "four"]] {
            let request = lines.iter().fold(Request::get("/"), |request, line| request.header(name, line));
            let [ours, native] = statuses(&sidecars, |sidecar| sidecar.client(FRONTEND).send(&request).unwrap());
            // A line of its own counts even where Envoy's own filter joins the lines of any header.
            assert!(ours == native || (ours == 403 && name == "x-other"), "{name} {lines:?}: {ours}, native {native}");
        }
    }
}

#[test]
fn cve_2023_27488_and_cve_2026_73552_bytes_that_are_no_text_are_bytes() {
    let denying = blueprint(&on_role_header("DENY", "admin*")).start_shared();
    let allowing = blueprint(&on_role_header("ALLOW", "admin*")).start_shared();
    for odd in [&b"admin\xff"[..], b"admin\x80\xc3(", b"admin\xed\xa0\x80", "admin\u{e9}".as_bytes()] {
        assert_eq!([with_roles(&denying, &[odd]), with_roles(&allowing, &[odd])], [Refused, Passed]);
    }
    for odd in [&b"\xffadmin"[..], b"adm\xffin", b"\x80"] {
        assert_eq!([with_roles(&denying, &[odd]), with_roles(&allowing, &[odd])], [Passed, Refused]);
    }
    // Such bytes in a path, over HTTP/2. Over HTTP/1.1, Envoy itself refuses them.
    for sidecar in with_and_without_normalisation(&on_paths("DENY", "paths", "/admin*")) {
        let client = sidecar.client(FRONTEND);
        for odd in [&b"/admin\xff"[..], b"/admin\x80\xc3(", "/admin\u{e9}".as_bytes()] {
            assert_eq!(fate(&client, &Http2Request::get(odd)), Refused, "{}", odd.escape_ascii());
        }
        assert_eq!(fate(&client, &Http2Request::get(b"/\xffadmin")), Passed);
        assert_eq!(fate(&client, &Request::get(b"/admin\xff")), Failed(400));
    }
}

#[test]
fn cve_2024_45808_a_decision_is_one_line_of_json_whatever_the_request_says() {
    let config = json!({ "policies": [on_paths("DENY", "paths", "/admin*")], "decisionLog": "all" });
    let sidecar = Blueprint::new(&config).without_normalisation().answering_by_itself().start();
    let identity = "spiffe://evil/\"}\r\n{\"decision\":\"ALLOW\"}\u{1b}[31m\t\u{7f}";
    let client = sidecar.client_named(&[San::Uri(identity.to_owned())], None);
    let paths = ["/admin\",\"decision\":\"ALLOW\",\"\\", "/data\"},{\"decision\":\"DENY\",\"\u{85}\u{2028}"];
    let fates = paths.map(|path| {
        let request = Http2Request::get(path).header("x-role", b"\"}\t{\"\xff").header("user-agent", "\"}{\"");
        fate(&client, &request)
    });
    assert_eq!(fates, [Refused, Passed]);
    let decisions = sidecar.decisions();
    let said: Vec<_> = decisions.iter().map(|line| [&line["decision"], &line["path"], &line["principal"]]).collect();
    assert_eq!(said, [["DENY", paths[0], identity], ["ALLOW", paths[1], identity]]);
    let lines = sidecar.filter_log();
    assert!(!lines.iter().any(|line| line.contains(|c: char| c.is_control())), "{lines:#?}");
}

// Identities.

#[test]
fn cve_2020_16844_a_suffix_finds_a_principal_that_repeats_its_beginning() {
    let sidecar = blueprint(&on_source("DENY", "principals", &["*/ns/ns1/sa/foo"])).start_shared();
    let of = |principal: &str| fate(&sidecar.client(principal), &Request::get("/"));
    for principal in ["td/ns/ns1/sa/foo", "td/ns/ns/ns1/sa/foo", "td/ns/ns1/sa/foo/ns/ns1/sa/foo"] {
        assert_eq!(of(principal), Refused, "{principal}");
    }
    assert_eq!([of("td/ns/ns2/sa/foo"), of("td/ns/ns1/sa/foo2")], [Passed, Passed]);
}

#[test]
fn cve_2026_39350_a_dot_in_a_service_account_is_a_dot() {
    let sidecar = blueprint(&on_source("ALLOW", "serviceAccounts", &["ns/cert-manager.io"])).start_shared();
    let of = |account: &str| fate(&sidecar.client(&format!("cluster.local/ns/ns/sa/{account}")), &Request::get("/"));
    assert_eq!([of("cert-manager-io"), of("cert-managerXio"), of("cert-manager.io")], [Refused, Refused, Passed]);
}

#[test]
fn istio_59992_namespaces_and_principals_are_literal() {
    let names = ["a.b", "c[xy]", "d+", "e|f"];
    let lookalikes = ["axb", "cx", "dd", "e"];
    let principal = |name: &str| format!("cluster.local/ns/{name}/sa/x");
    let principals = names.map(principal);
    for (field, values) in [("namespaces", names), ("principals", principals.each_ref().map(String::as_str))] {
        for (action, literal, lookalike) in [("DENY", Refused, Passed), ("ALLOW", Passed, Refused)] {
            let sidecar = blueprint(&on_source(action, field, &values)).start_shared();
            let of = |name: &str| fate(&sidecar.client(&principal(name)), &Request::get("/"));
            for (name, other) in names.into_iter().zip(lookalikes) {
                assert_eq!(of(name), literal, "{action} {field}: {name}");
                assert_eq!(of(other), lookalike, "{action} {field}: {other}");
            }
        }
    }
}

#[test]
fn san_with_a_nul_is_unreadable() {
    for policy in [
        on_source("ALLOW", "principals", &["*"]),
        on_source("ALLOW", "principals", &[FRONTEND]),
        on_source("DENY", "principals", &[STRANGER]),
        on_source("DENY", "notPrincipals", &[FRONTEND]),
    ] {
        let sidecar = as_it_ships(&policy);
        for end in [&b"\0"[..], b"\0.evil"] {
            let uri = [b"spiffe://", FRONTEND.as_bytes(), end].concat();
            let client = sidecar.client_named(&[San::UriBytes(uri)], None);
            assert_eq!(fate(&client, &Request::get("/")), Refused, "{policy}");
        }
        let decisions = sidecar.decisions();
        let unreadable: Vec<_> = decisions.iter().map(|line| &line["unreadable"]).collect();
        assert_eq!(unreadable, ["source.principal"; 2], "{policy}");
        assert_eq!(get(&sidecar, "/"), Passed, "{policy}");
    }
}

#[test]
fn plaintext_is_nobody() {
    for policy in [on_source("ALLOW", "principals", &["*"]), on_source("DENY", "notPrincipals", &["*"])] {
        let plaintext = blueprint(&policy).plaintext().start_shared();
        assert_eq!(fate(&plaintext.plain_client(), &Request::get("/")), Refused);
        let optional = blueprint(&policy).optional_client_certificate().start_shared();
        assert_eq!(fate(&optional.anonymous_client(), &Request::get("/")), Refused);
        assert_eq!(get(&optional, "/"), Passed);
        // With the shipped configuration, no such client reaches the filter.
        let required = blueprint(&policy).start_shared();
        assert!(required.anonymous_client().send(&Request::get("/")).is_err());
        assert!(required.plain_client().send(&Request::get("/")).is_err());
    }
}

// Tokens.

#[test]
fn cve_2021_21378_a_token_that_nobody_has_verified_says_nothing() {
    let policy = on_source("ALLOW", "requestPrincipals", &["*"]);
    let claims = json!({ "iss": "i", "sub": "alice" });
    let genuine = with_token(issuer(), &claims);
    let forged = with_token(&Issuer::new().unwrap(), &claims);

    let nobody_verifies = blueprint(&policy).start_shared();
    assert_eq!(fate(&nobody_verifies.client(FRONTEND), &genuine), Refused);

    // An Envoy that also accepts requests whose tokens it could not verify.
    let mut lenient = jwt_authn();
    lenient["typed_config"]["rules"][0]["requires"]["requires_any"]["requirements"] =
        json!([{ "provider_name": "test" }, { "allow_missing_or_failed": {} }]);
    let sidecar = blueprint(&policy).filter(lenient).start_shared();
    let client = sidecar.client(FRONTEND);
    assert_eq!([fate(&client, &forged), fate(&client, &genuine)], [Refused, Passed]);
    let unsigned =
        Request::get("/").header("authorization", "Bearer eyJhbGciOiJub25lIn0.eyJpc3MiOiJpIiwic3ViIjoicyJ9.");
    assert_eq!(fate(&client, &unsigned), Refused);

    let strict = verifying_tokens(&policy);
    assert_eq!(fate(&strict.client(FRONTEND), &forged), Failed(401));
}

#[test]
fn null_claim_matches_nothing() {
    for (action, of_null, of_text) in [("DENY", Passed, Refused), ("ALLOW", Refused, Passed)] {
        let sidecar = verifying_tokens(&on_role_claim(action, "*"));
        let with_role = |role: Value| fate_of_claims(&sidecar, &json!({ "iss": "i", "sub": "s", "role": role }));
        assert_eq!(with_role(json!(null)), of_null, "{action}");
        assert_eq!(with_role(json!([null])), of_null, "{action}");
        assert_eq!(with_role(json!("admin")), of_text, "{action}");
    }
}

#[test]
fn list_mimicry_is_a_string() {
    // `["admin"]` in the encoding in which Envoy passes lists to a filter, and as JSON.
    let mimicry = ["\u{1}\0\0\0\u{5}\0\0\0\0\0\0\0admin\0\0", "[\"admin\"]", "[admin]"];
    for (action, of_text, of_list) in [("DENY", Passed, Refused), ("ALLOW", Refused, Passed)] {
        let sidecar = verifying_tokens(&on_role_claim(action, "admin"));
        for text in mimicry {
            assert_eq!(fate_of_claims(&sidecar, &json!({ "role": text })), of_text, "{action}: {text:?}");
        }
        assert_eq!(fate_of_claims(&sidecar, &json!({ "role": ["admin"] })), of_list, "{action}");
    }
}

#[test]
fn jwt_numbers_and_booleans_match_no_text() {
    for (value, claim) in [("5", json!(5)), ("true", json!(true))] {
        for (action, of_claim, of_text) in [("DENY", Passed, Refused), ("ALLOW", Refused, Passed)] {
            let sidecar = verifying_tokens(&on_role_claim(action, value));
            assert_eq!(fate_of_claims(&sidecar, &json!({ "role": claim })), of_claim, "{action} {value}");
            assert_eq!(fate_of_claims(&sidecar, &json!({ "role": value })), of_text, "{action} {value}");
        }
    }
}

#[test]
fn preflight_is_no_exception() {
    let sidecar = verifying_tokens(&on_source("ALLOW", "requestPrincipals", &["*"]));
    let client = sidecar.client(FRONTEND);
    let preflight = Request::new("OPTIONS", "/")
        .header("origin", "https://shop.example")
        .header("access-control-request-method", "PUT");
    let token = issuer().token(&json!({ "iss": "i", "sub": "alice" })).unwrap();
    let with_token = preflight.clone().header("authorization", format!("Bearer {token}"));
    assert_eq!([fate(&client, &preflight), fate(&client, &with_token)], [Refused, Passed]);
}

// Protocols and failures.

#[test]
fn websocket_over_http2_is_a_get() {
    let open = |sidecar: &Sidecar| {
        let response = sidecar.client(FRONTEND).send_http2(&Http2Request::extended_connect("websocket", "/socket"));
        response.unwrap().status
    };
    for (method, status) in [("GET", 403), ("CONNECT", 200)] {
        let policy = policy("methods", "DENY", &[to(json!({ "methods": [method] }))]);
        assert_eq!(open(&accepting_extended_connect(json!([policy]))), status, "DENY {method}");
    }
    for (method, status) in [("GET", 200), ("CONNECT", 403)] {
        let policy = policy("methods", "ALLOW", &[to(json!({ "methods": [method] }))]);
        assert_eq!(open(&accepting_extended_connect(json!([policy]))), status, "ALLOW {method}");
    }
    // The shipped sidecar accepts a WebSocket over HTTP/1.1 only.
    let sidecar = as_it_ships(&policy("methods", "DENY", &[to(json!({ "methods": ["GET"] }))]));
    assert!(!sidecar.client(FRONTEND).connect_http2().unwrap().allows_extended_connect());
    let upgrade = Request::get("/socket").header("connection", "upgrade").header("upgrade", "websocket");
    assert_eq!(fate(&sidecar.client(FRONTEND), &upgrade), Refused);
}

#[test]
fn filter_down_means_that_nothing_passes() {
    let policy = on_paths("DENY", "paths", "/admin");
    assert_passes(&blueprint(&policy).start_shared(), &["/data"]);
    let mut broken = blueprint(&policy);
    broken.replace_module(trapping_module());
    let envoy = testbed::Envoy::start_with(&broken.bootstrap, &broken.options).unwrap();
    let client = crate::sidecar::client_of(envoy.address("inbound").unwrap(), FRONTEND);
    for path in ["/data", "/admin", "/data"] {
        assert_eq!(fate(&client, &Request::get(path)), Failed(503), "{path}");
        assert_eq!(fate(&client, &Http2Request::get(path)), Failed(503), "{path}");
    }
}

#[test]
fn bad_update_leaves_the_old_policies_deciding() {
    let sidecar = Blueprint::new(&json!({})).with_listeners(&[listener(&deny(&["/admin"]))]).start();
    for (bad, rejected) in [
        json!({ "policies": [policy("bad", "DENY", &[])] }),
        json!({ "policies": [policy("bad", "DENI", &[json!({})])] }),
        json!({}),
    ]
    .into_iter()
    .zip(1..)
    {
        sidecar.envoy.write_file_atomically("lds.json", resources(&[listener(&bad)])).unwrap();
        sidecar
            .envoy
            .wait_for_stat("listener_manager.lds.update_rejected", |count| count == rejected, PATIENCE)
            .unwrap();
        assert_refused(&sidecar, &["/admin"]);
        assert_passes(&sidecar, &["/data"]);
    }
}
