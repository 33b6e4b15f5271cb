//! What `mesh-authz render` writes for a standalone Envoy passes `mesh-authz check --envoy`.

use std::path::{Path, PathBuf};
use std::process::Command;

use mesh_authz_cli::envoy;

use super::codes;

fn project(path: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(path)
}

fn render(arguments: &[&str], folder: &Path) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_mesh-authz"))
        .current_dir(folder)
        .arg("render")
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The codes of what is found in a bootstrap with these options.
fn found(files: &[&str], options: &[&str]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let files: Vec<_> = files.iter().map(|file| project(file).to_str().unwrap().to_owned()).collect();
    let files: Vec<_> = files.iter().map(String::as_str).collect();
    let bootstrap = folder.path().join("envoy.yaml");
    std::fs::write(&bootstrap, render(&[&["envoy"], files.as_slice(), options].concat(), folder.path())).unwrap();
    if options.contains(&"--watch") {
        let of_workload = ["--namespace", "default", "--label", "app=backend", "--output", "watched.yaml"];
        render(&[&["ecds"], files.as_slice(), &of_workload].concat(), folder.path());
    }
    codes(&envoy::check(&[bootstrap], &[]).unwrap())
}

const TUTORIAL: [&str; 2] =
    ["examples/tutorial/allow-frontend-get-data.yaml", "examples/tutorial/allow-nothing-backend.yaml"];
const BACKEND: [&str; 4] = ["--namespace", "default", "--label", "app=backend"];

fn with_options(options: &[&str]) -> Vec<String> {
    found(&TUTORIAL, &[&BACKEND, options].concat())
}

#[test]
fn rendered_bootstraps_have_everything_that_decisions_depend_on() {
    for options in [
        &[][..],
        &["--listen", "127.0.0.1:8080", "--listen", "127.0.0.1:9090", "--upstream", "10.0.0.1"],
        &["--trusted-hops", "1"],
        &["--upstream-protocol", "http2"],
        &["--set", "decisionLog=all", "--set", "paths=strict"],
        &["--watch", "watched.yaml"],
    ] {
        assert_eq!(with_options(options), Vec::<&str>::new(), "{options:?}");
    }
    let orders =
        ["examples/jwt/orders.yaml", "examples/jwt/require-token.yaml", "examples/jwt/request-authentication.yaml"];
    let workload =
        ["--namespace", "shop", "--label", "app=orders", "--listen", "127.0.0.1:8080", "--upstream", "10.0.0.1"];
    assert_eq!(found(&orders, &workload), Vec::<&str>::new());
    assert_eq!(found(&orders, &[&workload[..], &["--set", "jwt.payloadKey=claims"]].concat()), Vec::<&str>::new());
}

/// Here, somebody has said that peers need no identity, or that others say what the client's address is.
#[test]
fn what_an_option_gives_up_is_found() {
    assert_eq!(with_options(&["--plaintext"]), ["ME010 warning"]);
    assert_eq!(with_options(&["--server-only-tls"]), ["ME010 warning", "ME010 warning"]);
    // No policy of the tutorial looks at the client's address.
    assert_eq!(with_options(&["--proxy-protocol"]), Vec::<&str>::new());
}
