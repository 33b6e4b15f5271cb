//! mesh-authz inside a filter that chooses by the request which filters run.

use serde_json::{Value, json};
use testbed::Request;

use super::{Refused, TO_ADMIN, deny_admin, get, http_filter, lua, outcome, passed, typed, with};
use crate::sidecar::{Blueprint, Sidecar};

/// The sidecar with another filter in the place of mesh-authz, made from it.
fn wrapped(wrap: impl FnOnce(Value) -> Value) -> Blueprint {
    let mut blueprint = with(&[deny_admin()]);
    let filters = blueprint.manager()["http_filters"].as_array_mut().unwrap();
    let ours = filters.iter_mut().find(|filter| filter["name"] == "mesh_authz").unwrap();
    *ours = wrap(ours.take());
    blueprint
}

/// A filter that takes this action for requests with `x-choice: yes`.
fn by_header(filter: Value, action: Value) -> Value {
    let input = "type.googleapis.com/envoy.type.matcher.v3.HttpRequestHeaderMatchInput";
    let header = json!({ "name": "header", "typed_config": { "@type": input, "header_name": "x-choice" } });
    let action = json!({ "action": { "name": "composite-action", "typed_config": action } });
    let matcher = json!({ "matcher_tree": { "input": header, "exact_match_map": { "map": { "yes": action } } } });
    let config = json!({ "extension_config": filter, "xds_matcher": matcher });
    json!({ "name": "chosen", "typed_config": typed("common.matching.v3.ExtensionWithMatcher", config) })
}

fn chosen(path: &str) -> Request {
    Request::get(path).header("x-choice", "yes")
}

#[test]
fn a_client_can_switch_off_a_filter_with_a_matcher() {
    let skip = typed("filters.common.matcher.action.v3.SkipFilter", json!({}));
    let sidecar = wrapped(|ours| by_header(ours, skip)).start_shared();
    assert_eq!([get(&sidecar, "/admin"), outcome(&sidecar, &chosen("/admin"))], [Refused, passed("GET /admin")]);
}

#[test]
fn in_a_composite_filter_only_chosen_requests_are_decided_about() {
    let sidecar = wrapped(|ours| {
        let run = typed("filters.http.composite.v3.ExecuteFilterAction", json!({ "typed_config": ours }));
        by_header(http_filter("composite.v3.Composite", json!({})), run)
    });
    let sidecar = sidecar.start_shared();
    assert_eq!([get(&sidecar, "/admin"), outcome(&sidecar, &chosen("/admin"))], [passed("GET /admin"), Refused]);
}

#[test]
fn a_route_replaces_the_filters_in_a_filter_chain() {
    let any: Sidecar = with(&[]).start_shared();
    if any.version() < (1, 40, 0) {
        return;
    }
    let chain = |filter: Value| json!({ "filters": [filter] });
    let blueprint = || {
        wrapped(|ours| http_filter("filter_chain.v3.FilterChainConfig", json!({ "default_filter_chain": chain(ours) })))
    };
    assert_eq!(get(&blueprint().start_shared(), "/admin"), Refused);

    let mut replaced = blueprint();
    let other = typed(
        "filters.http.filter_chain.v3.FilterChainConfigPerRoute",
        json!({ "filter_chain": chain(lua(TO_ADMIN)) }),
    );
    replaced.virtual_host()["typed_per_filter_config"] = json!({ "envoy.filters.http.filter_chain": other });
    assert_eq!(get(&replaced.start_shared(), "/data"), passed("GET /admin"));
}
