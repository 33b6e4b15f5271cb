//! The filter loads, decides, and answers.

use serde_json::json;
use testbed::Request;

use crate::sidecar::Sidecar;

#[test]
fn a_refused_request_gets_what_istio_users_know() {
    let sidecar = Sidecar::start(&json!({ "policies": [{
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": { "name": "deny-admin" },
        "spec": { "action": "DENY", "rules": [{ "to": [{ "operation": { "paths": ["/admin"] } }] }] },
    }] }));
    let client = sidecar.client("cluster.local/ns/default/sa/frontend");

    assert_eq!(client.send(&Request::get("/data")).unwrap().status, 200);
    let refused = client.send(&Request::get("/admin")).unwrap();

    println!("{}", sidecar.envoy.log());
    assert_eq!((refused.status, refused.text().as_str()), (403, "RBAC: access denied"));
    let details = "rbac_access_denied_matched_policy[ns[default]-policy[deny-admin]-rule[0]]";
    sidecar.envoy.wait_for_log(details, std::time::Duration::from_secs(5)).unwrap();
}
