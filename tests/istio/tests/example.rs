//! The example of `examples/istio`, as its page tells users to apply it.

use mesh_authz_istio::Role;
use testbed::Request;

use crate::place::{Place, eventually, status};

#[test]
fn a_pod_with_a_sidecar_answers() {
    let place = Place::new();
    let backend = place.pod("backend", Role::Sidecar);
    let application = backend.serve(8080).unwrap();
    let client = backend.client(8080, Some(&place.certificate("frontend")));
    eventually("a request", &200, || status(&client, &Request::get("/")));
    assert!(application.reached() > 0);
}
