//! The examples, applied as their pages say, with the image of the mesh's registry.

use std::{env, net::Ipv4Addr, process::Command};

use mesh_authz_istio::{Pod, Role, Workloads};
use serde_json::{Value, json};
use testbed::{Client, Issuer, Request};

use crate::{
    place::{eventually, mesh, mesh_authz, status},
    plugin::{digest, image},
    rendered::has_plugin,
};

fn project(path: &str) -> String {
    format!("{}/../../{path}", env!("CARGO_MANIFEST_DIR"))
}

/// Runs a script of the project, which finds kubectl and mesh-authz on its path.
fn run_script(path: &str) {
    let programs = mesh().programs().join("bin").display().to_string();
    let command = env::var("MESH_AUTHZ").unwrap();
    let (folder, _) = command.rsplit_once('/').unwrap();
    let output = Command::new(project(path))
        .env("PATH", format!("{programs}:{folder}:{}", env::var("PATH").unwrap()))
        .env("KUBECONFIG", mesh().kubeconfig())
        .env("KUBECACHEDIR", mesh().home().join("cache"))
        .env("IMAGE", image())
        .env("DIGEST", digest())
        .output()
        .unwrap();
    assert!(output.status.success(), "{path}: {}", String::from_utf8_lossy(&output.stderr));
}

/// What a pod's application gets, through its own sidecar and that of the Service's pod.
fn call(pod: &Pod, service: &str, request: &Request) -> u16 {
    let address = mesh().kubectl(&["get", "service", service, "-o", "jsonpath={.spec.clusterIP}"], "").unwrap();
    let address: Ipv4Addr = address.parse().unwrap();
    let client = Client::plain((address, 80).into());
    pod.as_application(|| status(&client, &request.clone().host(service))).unwrap()
}

#[test]
fn the_example_for_a_cluster_does_what_its_page_says() {
    run_script("tests/istio/apply-example.sh");
    let mut workloads = Workloads::default();
    workloads.update(mesh()).unwrap();
    let frontend = &workloads.get("default", "frontend").unwrap().pod;
    let backend = workloads.get("default", "backend").unwrap();
    eventually("the requests of the page", &[200, 403, 403], || {
        [Request::get("/api/v1/data"), Request::new("POST", "/api/v1/data").body("{}"), Request::get("/api/v1/other")]
            .map(|request| call(frontend, "backend", &request))
    });
    assert!(backend.applications[0].reached() > 0);
    eventually("the plugin", &true, || has_plugin(&backend.pod));
    // The callers' own sidecars decide nothing about what they send, whatever is in force for their pods.
    let stranger = mesh().certificate("default", "stranger").unwrap();
    let client = backend.pod.client(80, Some(&stranger));
    assert_eq!(status(&client, &Request::get("/api/v1/data")), 403);
    // Without a certificate: PeerAuthentication ends the connection.
    assert_eq!(status(&backend.pod.client(80, None), &Request::get("/api/v1/data")), 0);
}

#[test]
fn the_example_with_tokens_decides_by_their_claims() {
    let mesh = mesh();
    // Another test may have made it.
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "shop" } });
    mesh.apply(&namespace.to_string()).unwrap();
    let files =
        ["orders", "require-token", "request-authentication"].map(|name| project(&format!("examples/jwt/{name}.yaml")));
    let (image, digest) = (image(), digest());
    let rendered = mesh_authz(
        &[
            "render",
            "wasm-plugin",
            &files[0],
            &files[1],
            &files[2],
            "--url",
            &image,
            "--sha256",
            &digest,
            "--deny-warnings",
        ],
        "",
    );
    mesh.apply(&rendered).unwrap();
    // The example's keys have no private keys: nobody could make a token.
    let (accounts, staff) = (Issuer::new().unwrap(), Issuer::new().unwrap());
    let authentication = mesh
        .kubectl(
            &["create", "--dry-run=client", "-o", "json", "-f", &project("examples/jwt/request-authentication.yaml")],
            "",
        )
        .unwrap();
    let mut authentication: Value = serde_json::from_str(&authentication).unwrap();
    for (rule, issuer) in [(0, &accounts), (1, &staff)] {
        authentication["spec"]["jwtRules"][rule]["jwks"] = json!(issuer.jwks());
    }
    mesh.apply(&authentication.to_string()).unwrap();
    let spec = mesh_authz_istio::PodSpec {
        namespace: "shop".into(),
        name: "orders".into(),
        account: "orders".into(),
        labels: json!({ "app": "orders" }),
        role: Role::Sidecar,
    };
    let pod = mesh.pod(spec).unwrap();
    let application = pod.serve(8080).unwrap();
    let client = pod.client(8080, Some(&mesh.certificate("shop", "caller").unwrap()));
    let customer = json!({ "iss": "https://accounts.example.com", "sub": "alice", "aud": ["orders"] });
    let other_audience = json!({ "iss": "https://accounts.example.com", "sub": "alice", "aud": ["billing"] });
    let support = json!({ "iss": "https://staff.example.com", "sub": "bob", "realm_access": { "roles": ["support"] } });
    let claims_support = json!({
        "iss": "https://accounts.example.com", "sub": "eve", "realm_access": { "roles": ["support"] },
    });
    let ask = |method: &str, path: &str, token: Option<String>| {
        let request = Request::new(method, path);
        let request = match token {
            Some(token) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        };
        status(&client, &request)
    };
    // Istio decides in the same way, so the answers do not tell whether the plugin is there.
    eventually("the plugin", &true, || has_plugin(&pod));
    let by = |issuer: &Issuer, claims: &Value| Some(issuer.token(claims).unwrap());
    eventually("the requests of the example", &[200, 403, 200, 403, 403, 200, 403, 401], || {
        [
            ask("GET", "/healthz", None),
            ask("GET", "/orders/7", None),
            ask("GET", "/orders/7", by(&accounts, &customer)),
            ask("GET", "/orders/7", by(&accounts, &other_audience)),
            ask("DELETE", "/orders/7", by(&accounts, &customer)),
            ask("DELETE", "/orders/7/items/1", by(&staff, &support)),
            ask("DELETE", "/orders/7", by(&accounts, &claims_support)),
            ask("GET", "/orders/7", by(&staff, &customer)),
        ]
    });
    assert!(application.reached() > 0);
}
