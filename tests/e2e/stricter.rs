//! Cases in which the filter is stricter than Istio on purpose. In the same Envoy, the filter that Istio would
//! configure lets the request pass, and the project's filter refuses it.

use serde_json::{Value, json};
use testbed::{Http2Request, Request, Response};

use crate::jwt::{issuer, jwt_authn, with_token};
use crate::sidecar::{Blueprint, FRONTEND, Sidecar, policy, to, when};

/// Two sidecars: one has the project's filter with `policy`, the other has Envoy's own RBAC filter with the DENY rule
/// `native`.
pub fn both(policy: &Value, native: &Value) -> [Sidecar; 2] {
    both_with(policy, native, |blueprint| blueprint)
}

/// As [`both`], with a change to both sidecars.
pub fn both_with(policy: &Value, native: &Value, change: impl Fn(Blueprint) -> Blueprint) -> [Sidecar; 2] {
    let ours = Blueprint::new(&json!({ "policies": [policy] }));
    let mut theirs = Blueprint::new(&json!({ "policies": [] }));
    theirs = theirs.filter(json!({
        "name": "envoy.filters.http.rbac",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
            "rules": { "action": "DENY", "policies": { "rule": native } },
        },
    }));
    [ours, theirs].map(|blueprint| {
        let odd_paths_pass = blueprint.setting("normalize_path", json!(false)).answering_by_itself();
        change(odd_paths_pass.filter(jwt_authn())).start_shared()
    })
}

/// The status that each sidecar returns for the same request.
pub fn statuses(sidecars: &[Sidecar; 2], send: impl Fn(&Sidecar) -> Response) -> [u16; 2] {
    [send(&sidecars[0]).status, send(&sidecars[1]).status]
}

#[test]
fn odd_bytes_do_not_slip_past_a_template_as_they_do_in_istio() {
    let template = json!({ "uri_template": {
        "name": "uri-template",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig",
            "path_template": "/admin/**",
        },
    } });
    let sidecars = both(
        &policy("deny", "DENY", &[to(json!({ "paths": ["/admin/{**}"] }))]),
        &json!({ "permissions": [template], "principals": [{ "any": true }] }),
    );
    let get = |path: &str| {
        let request = Http2Request::get(path);
        statuses(&sidecars, |sidecar| sidecar.client(FRONTEND).send_http2(&request).unwrap())
    };
    for path in ["/admin/a[1]", "/admin/a|b", "/admin/]"] {
        assert_eq!(get(path), [403, 200], "{path}");
    }
    for path in ["/admin/a", "/admin/*x", "/admin/"] {
        assert_eq!(get(path), [403, 403], "{path}");
    }
    assert_eq!(get("/data"), [200, 200]);
}

#[test]
fn a_line_feed_does_not_hide_a_claim_as_it_does_in_istio() {
    let present = json!({ "metadata": {
        "filter": "envoy.filters.http.jwt_authn",
        "path": [{ "key": "payload" }, { "key": "sub" }],
        "value": { "string_match": { "safe_regex": { "regex": ".+" } } },
    } });
    let sidecars = both(
        &policy("deny", "DENY", &[when("request.auth.claims[sub]", &["*"])]),
        &json!({ "permissions": [{ "any": true }], "principals": [present] }),
    );
    let with_subject = |subject: &str| {
        let request = with_token(issuer(), &json!({ "iss": "i", "sub": subject }));
        statuses(&sidecars, |sidecar| sidecar.client(FRONTEND).send(&request).unwrap())
    };
    assert_eq!(with_subject("a\nb"), [403, 200]);
    assert_eq!(with_subject("ab"), [403, 403]);
    let without = statuses(&sidecars, |sidecar| sidecar.client(FRONTEND).send(&Request::get("/")).unwrap());
    assert_eq!(without, [200, 200]);
}
