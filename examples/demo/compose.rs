//! The demo in containers: `envoy/docker-compose.yaml`. `make compose` runs it.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use testbed::{Authority, Certified, Client, Issuer, Request};

use crate::mesh::{Answer, project, wasm};
use crate::stages::{DemoRequest, Peer, REQUESTS, STAGES};

/// The folder with the files that the containers read.
const FOLDER: &str = "target/compose";

/// How long the containers may take to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// Writes the certificates, the filter, and the policies. The command `mesh-authz` writes the rest.
pub fn write_files() -> Result<()> {
    let authority = Authority::new()?;
    write("backend/mesh_authz.wasm", &wasm()?)?;
    for (folder, own) in [
        ("backend/certs", authority.server("cluster.local/ns/default/sa/backend")?),
        ("frontend", authority.spiffe("cluster.local/ns/default/sa/frontend")?),
        ("stranger", authority.spiffe("cluster.local/ns/default/sa/stranger")?),
    ] {
        write_certificate(folder, &authority, &own)?;
    }
    // The command writes the watched file there.
    fs::create_dir_all(project(FOLDER).join("backend/policies"))?;
    for policy in STAGES[STAGES.len() - 1].policies {
        let file = format!("{policy}.yaml");
        write(&format!("policies/{file}"), &fs::read(project("examples/tutorial").join(&file))?)?;
    }
    Ok(())
}

/// Writes what `envoy/compose/openid.yaml` answers with, and the filter. The command `mesh-authz` writes the rest.
pub fn write_login_files() -> Result<()> {
    const DAYS: u64 = 30 * 24 * 60 * 60;
    write("orders/mesh_authz.wasm", &wasm()?)?;
    let issuer = Issuer::new()?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let token = issuer.token(&json!({
        "iss": "http://openid:15008",
        "aud": "orders",
        "sub": "bob",
        "email": "bob@example.com",
        "email_verified": true,
        "iat": now,
        "exp": now + DAYS,
    }))?;
    let answer = json!({ "access_token": "unused", "token_type": "Bearer", "expires_in": DAYS, "id_token": token });
    write("openid/token.json", answer.to_string().as_bytes())?;
    write("openid/jwks.json", issuer.jwks().as_bytes())
}

/// Writes the certificates and the filter for examples/redis. The command `mesh-authz` writes the rest.
pub fn write_redis_files() -> Result<()> {
    let authority = Authority::new()?;
    write("sessions/mesh_authz.wasm", &wasm()?)?;
    write_certificate("sessions/certs", &authority, &authority.server("cluster.local/ns/default/sa/sessions")?)?;
    write_certificate("shop", &authority, &authority.spiffe("cluster.local/ns/default/sa/shop")?)?;
    write_certificate("redis-stranger", &authority, &authority.spiffe("cluster.local/ns/default/sa/stranger")?)
}

fn write_certificate(folder: &str, authority: &Authority, own: &Certified) -> Result<()> {
    for (name, content) in [("ca.crt", authority.pem()), ("own.crt", &own.cert_pem), ("own.key", &own.key_pem)] {
        write(&format!("{folder}/{name}"), content.as_bytes())?;
    }
    Ok(())
}

/// Writes a file that every user can read: the containers run as a user whom the host does not know.
fn write(name: &str, content: &[u8]) -> Result<()> {
    let file = project(FOLDER).join(name);
    let folder = file.parent().context("a file has a folder")?;
    fs::create_dir_all(folder)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    fs::write(&file, content).with_context(|| file.display().to_string())?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644))?;
    Ok(())
}

/// Sends the demo's requests to the containers, and prints what they get. Returns how many outcomes are wrong. `compose`
/// is the command of docker-compose, with the arguments that name the project and its file.
pub fn demo(compose: &[String]) -> Result<usize> {
    wait(compose)?;
    let stage = &STAGES[STAGES.len() - 1];
    crate::heading(stage);
    let mut wrong = 0;
    for (request, expected) in REQUESTS.iter().zip(stage.expected) {
        let answer = send(compose, request)?;
        wrong += crate::row(request, expected, &answer);
    }
    println!("\n   curl -i http://{}/api/v1/data   # as the frontend", address(Peer::Frontend));
    println!("   curl -i http://{}/api/v1/data   # as a stranger", address(Peer::Stranger));
    println!("   policies: {FOLDER}/policies; docs/docker-compose.md says how to change them while Envoy runs");
    println!("   make compose-down ends it");
    Ok(wrong)
}

/// The address on the host.
fn address(peer: Peer) -> SocketAddr {
    let port = match peer {
        Peer::Frontend => 15001,
        Peer::Stranger => 15002,
    };
    ([127, 0, 0, 1], port).into()
}

/// Waits until the filter answers the frontend.
fn wait(compose: &[String]) -> Result<()> {
    let begin = Instant::now();
    let client = Client::plain(address(Peer::Frontend));
    while begin.elapsed() < PATIENCE {
        if client.send(&Request::get("/api/v1/data")).is_ok_and(|response| matches!(response.status, 200 | 403)) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    bail!("the containers do not answer:\n{}", output(compose, &["logs", "--no-color"])?)
}

fn send(compose: &[String], request: &DemoRequest) -> Result<Answer> {
    let logs = || output(compose, &["logs", "--no-color", "backend"]);
    let before = decisions(&logs()?).len();
    let message = Request::new(request.method, request.path);
    let response = Client::plain(address(request.peer)).send(&message)?;
    let reached = response.header("x-app").is_some();
    ensure!(reached == (response.status == 200), "status {} does not fit the application's part", response.status);
    let begin = Instant::now();
    while response.status == 403 && begin.elapsed() < Duration::from_secs(10) {
        if let Some(reason) = decisions(&logs()?).into_iter().nth(before) {
            return Ok(Answer { status: response.status, reason });
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    // Allowed requests are not logged.
    let reason = if response.status == 200 { "allowed" } else { "" };
    Ok(Answer { status: response.status, reason: reason.to_owned() })
}

/// The reasons of all decisions in the backend's log.
fn decisions(log: &str) -> Vec<String> {
    let of_line = |line: &str| {
        let (_, json) = line.split_once("wasm log mesh_authz: {")?;
        let decision: Value = serde_json::from_str(&format!("{{{json}")).ok()?;
        Some(decision["reason"].as_str()?.to_owned())
    };
    log.lines().filter_map(of_line).collect()
}

fn output(compose: &[String], arguments: &[&str]) -> Result<String> {
    let (program, first) = compose.split_first().context("--compose takes a command")?;
    let mut command = Command::new(program);
    command.args(first).args(arguments);
    let output = command.current_dir(project("")).output().with_context(|| program.clone())?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
