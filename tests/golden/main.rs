//! Compares what the command renders with golden files: the project's own, and Istio's if `ISTIO_TESTDATA` names their
//! folder.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "tests fail by panicking"
)]

mod beside;
mod fields;
mod many;
mod network;
mod providers;
mod proxies;
mod rendered;
mod schema;
mod waypoints;
mod yaml;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use mesh_authz::identity::TrustDomains;
use mesh_authz::policy::Traffic;
use mesh_authz::policy::scope::{Scope, Workload, scope};
use mesh_authz_cli::load::providers::Providers;
use mesh_authz_cli::load::{self, Resources};
use mesh_authz_cli::render::rbac::custom::Several;
use mesh_authz_cli::render::rbac::{self, Place};
use serde_json::{Value, json};

/// Istio's output for proxies older than 1.11, with regular expressions for hosts. Istio's control plane no longer
/// renders it, and Istio's own tests no longer read this file.
const BEFORE_1_11: &str = "allow-host-before-111";

/// Runs the command, with these resources as its standard input.
fn mesh_authz(arguments: &[&str], resources: &[Value]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_mesh-authz"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": resources });
    child.stdin.take().unwrap().write_all(list.to_string().as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// The workload in Istio's golden files.
fn httpbin() -> Workload {
    let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    Workload {
        namespace: "foo".to_owned(),
        labels: Some(vec![label("app", "httpbin"), label("version", "v1")].into()),
        gateway: None,
        root_namespace: "istio-config".to_owned(),
        revision: None,
    }
}

/// The trust domains with which a golden file was generated.
fn trust_domains(name: &str) -> TrustDomains {
    let (domain, aliases): (&str, &[&str]) = match name {
        "simple-policy-td-aliases" => ("td1", &["cluster.local"]),
        "simple-policy-multiple-td-aliases" => ("td1", &["cluster.local", "some-td"]),
        "simple-policy-principal-with-wildcard" => ("td1", &["foobar"]),
        "td-aliases-source-principal" => ("new-td", &["old-td", "some-trustdomain"]),
        _ => ("cluster.local", &[]),
    };
    TrustDomains::new(domain.to_owned(), aliases.iter().map(|alias| (*alias).to_owned()))
}

/// The filters in the golden file of a case. A case with several filters can have several files.
fn expected(folder: &Path, name: &str) -> Vec<Value> {
    let files = [format!("{name}-out.yaml"), format!("{name}-out1.yaml"), format!("{name}-out2.yaml")];
    let present = files.iter().map(|file| folder.join(file)).filter(|file| file.exists());
    let documents = present.flat_map(|file| load::documents(&file).unwrap());
    let filters = documents.flat_map(|node| match serde_json::to_value(node).unwrap() {
        Value::Array(filters) => filters,
        filter => vec![filter],
    });
    filters.collect()
}

/// What is rendered for the policies in a file, with the providers in another one.
fn rendered(input: &Path, name: &str, traffic: Traffic, providers: Option<&Path>) -> Vec<Value> {
    let files: Vec<_> = std::iter::once(input).chain(providers).collect();
    let resources = Resources::read(&files).unwrap();
    assert!(!resources.has_errors(), "{:?}", resources.findings);
    let policies = resources.policies.iter().map(|resource| &resource.policy);
    let applying: Vec<_> = policies.filter(|policy| scope(policy, &httpbin()) == Scope::Applies).collect();
    let domains = trust_domains(name);
    let place = Place::of_workload(traffic, &domains);
    let providers = Providers::of(&resources).valid;
    let mut filters = rbac::custom::filters(&applying, &providers, place, Several::Deny);
    filters.extend(rbac::filters(&applying, place));
    filters
}

/// The golden files about CUSTOM policies: traffic, input, providers and the expected filters. Istio's test has the providers in
/// its code.
const CUSTOM: [(Traffic, &str, &str, &str); 7] = [
    (Traffic::Http, "custom-simple-http", "grpc-no-namespace", "custom-grpc-provider-no-namespace"),
    (Traffic::Http, "custom-simple-http", "grpc", "custom-grpc-provider"),
    (Traffic::Http, "custom-simple-http", "http", "custom-http-provider"),
    (Traffic::Http, "custom-bad-multiple-providers", "http", "custom-bad-multiple-providers"),
    (Traffic::Http, "custom-simple-http", "invalid", "custom-bad"),
    (Traffic::Tcp, "custom-both-http-tcp", "grpc", "custom-both-http-tcp"),
    // Nothing is expected: over TCP, a provider over HTTP is not asked.
    (Traffic::Tcp, "custom-only-http", "http", "custom-only-http"),
];

#[test]
#[ignore = "needs Istio's files: ISTIO_TESTDATA=… make conformance"]
fn istio_asks_providers_by_the_same_filters() {
    let folder = std::env::var_os("ISTIO_TESTDATA").expect("ISTIO_TESTDATA names the folder of Istio's files");
    for (traffic, input, providers, name) in CUSTOM {
        let folder = Path::new(&folder).join(if traffic == Traffic::Http { "http" } else { "tcp" });
        let providers = project(&format!("tests/golden/providers/{providers}.yaml"));
        let rendered = rendered(&folder.join(format!("{input}-in.yaml")), name, traffic, Some(&providers));
        let expected = expected(&folder, name);
        assert_eq!(
            serde_json::to_string_pretty(&rendered).unwrap(),
            serde_json::to_string_pretty(&expected).unwrap(),
            "{name}"
        );
        println!("equal: {name}, {} filters", expected.len());
    }
}

/// Compares the rendered filters with the golden files for every case in a folder. Returns the names of the compared
/// cases.
fn compare(folder: &Path, traffic: Traffic) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut inputs: Vec<PathBuf> = entries.filter(|path| path.to_str().unwrap().ends_with("-in.yaml")).collect();
    inputs.sort();
    let mut compared = Vec::new();
    for input in inputs {
        let name = input.file_name().unwrap().to_str().unwrap().strip_suffix("-in.yaml").unwrap().to_owned();
        if name.starts_with("custom-") || name == BEFORE_1_11 {
            continue;
        }
        let (rendered, expected) = (rendered(&input, &name, traffic, None), expected(folder, &name));
        assert_eq!(
            serde_json::to_string_pretty(&rendered).unwrap(),
            serde_json::to_string_pretty(&expected).unwrap(),
            "{name}"
        );
        compared.push(name);
    }
    compared
}

#[test]
#[ignore = "needs Istio's files: ISTIO_TESTDATA=… make conformance"]
fn istio_generates_the_same_filters() {
    let folder = std::env::var_os("ISTIO_TESTDATA").expect("ISTIO_TESTDATA names the folder of Istio's files");
    let http = compare(&Path::new(&folder).join("http"), Traffic::Http);
    let tcp = compare(&Path::new(&folder).join("tcp"), Traffic::Tcp);
    println!("equal for HTTP: {}", http.join(", "));
    println!("equal for TCP: {}", tcp.join(", "));
    assert!(http.len() >= 17 && tcp.len() >= 5, "only {http:?} and {tcp:?}");
}

#[test]
fn every_field_and_value_form_is_rendered_as_before() {
    let folder = project("tests/golden");
    assert_eq!(compare(&folder, Traffic::Http), ["every-field"]);
}

fn project(path: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(path)
}
