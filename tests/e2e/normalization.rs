//! Paths that Envoy has not normalized: the filter counts them, warns once and, with `paths: strict`, refuses the
//! request.

use mesh_authz::request::is_normalized;
use serde_json::{Value, json};
use testbed::{Request, Response};

use crate::sidecar::{Blueprint, FRONTEND, PATIENCE, Sidecar, policy, to};

const NOT_NORMALIZED: [&str; 18] = [
    "//admin",
    "/a//b",
    "/a//",
    "/x/../admin",
    "/x/./admin",
    "/x/..",
    "/x/.",
    "/%2e%2e/admin",
    "/x/%2E/admin",
    "/x/.%2e/admin",
    "/x/%2e./admin",
    "/x%2Fadmin",
    "/x%2fadmin",
    "/x%5Cadmin",
    "/x%5cadmin",
    "/x\\admin",
    "/%61dmin",
    "/%2ewell-known",
];

/// Envoy normalizes these from version 1.40 on. Some applications do, too.
const WITH_PARAMETERS: [&str; 4] = ["/x/..;/admin", "/x/.;/admin", "/x/..;a=b/admin", "/x/..;"];

const NORMALIZED: [&str; 13] = [
    "/",
    "/admin",
    "/admin/",
    "/.well-known/x",
    "/x/..admin",
    "/x/...",
    "/x/a.",
    "/x/a..b/c",
    "/%20%25",
    "/x%2",
    "/a?x=//b/../c",
    "/a?x=%2F%5C\\",
    "/*",
];

fn deny_admin(more: &Value) -> Blueprint {
    let mut config = json!({
        "policies": [policy("admin", "DENY", &[to(json!({ "paths": ["/admin*"] }))])], "decisionLog": "all",
    });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Blueprint::new(&config)
}

fn get(sidecar: &Sidecar, path: &str) -> Response {
    sidecar.client(FRONTEND).send(&Request::get(path)).unwrap()
}

fn wait_for(sidecar: &Sidecar, metric: &str, value: u64) {
    sidecar.envoy.wait_for_stat(&format!("wasmcustom.mesh_authz.{metric}"), |now| now == value, PATIENCE).unwrap();
}

const WARNING: &str = "this Envoy does not normalize paths";

#[test]
fn paths_as_sent_are_counted_and_one_warning_tells_which_settings_are_missing() {
    let sidecar = deny_admin(&json!({})).without_normalisation().answering_by_itself().start();
    let all = NOT_NORMALIZED.into_iter().chain(WITH_PARAMETERS);
    for path in all.clone() {
        // By default the policies decide, about the path as it is.
        assert_eq!(get(&sidecar, path).status, 200, "{path}");
    }
    for path in NORMALIZED {
        let expected = if path.starts_with("/admin") { 403 } else { 200 };
        assert_eq!(get(&sidecar, path).status, expected, "{path}");
    }
    wait_for(&sidecar, "unnormalized_path", u64::try_from(all.count()).unwrap());
    let warnings: Vec<_> = sidecar.filter_log().into_iter().filter(|line| line.contains(WARNING)).collect();
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    for setting in ["normalize_path", "merge_slashes", "path_with_escaped_slashes_action", "paths: strict"] {
        assert!(warnings[0].contains(setting), "{}", warnings[0]);
    }
}

#[test]
fn strict_refuses_paths_that_envoy_has_not_normalized() {
    let strict = json!({ "paths": "strict", "policies": [] });
    for more in [json!({ "paths": "strict" }), strict] {
        let sidecar = deny_admin(&more).without_normalisation().answering_by_itself().telling_details().start();
        let all = NOT_NORMALIZED.into_iter().chain(WITH_PARAMETERS);
        for path in all.clone() {
            let response = get(&sidecar, path);
            assert_eq!(response.status, 403, "{path}");
            assert_eq!(response.header("x-details").as_deref(), Some("mesh_authz_unnormalized_path"), "{path}");
        }
        assert_eq!(get(&sidecar, "/x/..admin").status, 200);
        wait_for(&sidecar, "denied", u64::try_from(all.count()).unwrap());
    }
}

/// The filter recognizes exactly the paths that the shipped bootstrap's Envoy would have changed, redirected or
/// refused.
#[test]
fn what_counts_as_normalized_is_what_envoy_passes_on_unchanged() {
    let sidecar = deny_admin(&json!({ "decisionLogRate": 1_000_000 })).answering_by_itself().start();
    let given = NOT_NORMALIZED.into_iter().chain(NORMALIZED).map(str::to_owned);
    // Envoy itself refuses an escaped zero byte.
    let escaped = (1..=0xff_u8).flat_map(|byte| [format!("/x%{byte:02x}y"), format!("/x%{byte:02X}y")]);
    // Envoy escapes the others, and the filter does not count them.
    let plain =
        (0x21..=0x7e_u8).filter(|byte| !b"?#\"<>^`{|}".contains(byte)).map(|byte| format!("/x{}y", char::from(byte)));
    let mut wrong = Vec::new();
    for path in given.chain(escaped).chain(plain) {
        let path = path.as_str();
        let seen_before = sidecar.decisions().len();
        get(&sidecar, path);
        let without_query = path.split('?').next().unwrap();
        let decisions = sidecar.decisions();
        let is_unchanged = decisions.get(seen_before).is_some_and(|decision| decision["path"] == without_query);
        if is_unchanged != is_normalized(without_query.as_bytes()) {
            wrong.push(format!("{path}: {:?}", decisions.get(seen_before).map(|decision| &decision["path"])));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(sidecar.envoy.stats().unwrap()["wasmcustom.mesh_authz.unnormalized_path"], 0);
}
