//! Configurations like those of public examples, from `tests/envoy/public`. What `check --envoy` finds in those that got the filter
//! without further thought is open. Those that follow its advice withstand the bypasses of [`bypasses`].

mod bypasses;
mod running;

use std::collections::BTreeSet;
use std::thread;

use mesh_authz_cli::envoy;
use testbed::{Client, Request};

use crate::sidecar::project;
use bypasses::Ask::{self, Address, At, Bare, Path, Token, User};
use running::Running;

/// A public example, with what the tests ask of it.
#[derive(Debug, PartialEq, Eq)]
pub struct Example {
    name: &'static str,
    /// The path that the policies refuse, before and after its last slash.
    refused: [&'static str; 2],
    /// The listeners, with a server name where there is TLS. The first one has the filter in both configurations.
    doors: &'static [Door],
}

type Door = (&'static str, Option<&'static str>);

const ADMIN: [&str; 2] = ["", "admin"];

static EDGE_JWT: Example = Example { name: "edge-jwt", refused: ADMIN, doors: &[("https", Some("www.example.com"))] };
static GRPC: Example =
    Example { name: "grpc-transcoder", refused: ["/helloworld.Greeter", "DeleteAll"], doors: &[("listener1", None)] };
static FRONT_PROXY: Example = Example {
    name: "front-proxy",
    refused: ADMIN,
    doors: &[("https", Some("domain1.example.com")), ("https", Some("domain2.example.com")), ("debug", None)],
};
static DYNAMIC: Example = Example { name: "dynamic", refused: ADMIN, doors: &[("main", None), ("side", None)] };
static EXT_AUTHZ: Example = Example { name: "ext-authz", refused: ADMIN, doors: &[("ingress", None)] };

/// The codes of what the check finds in a configuration.
fn codes(text: &str) -> BTreeSet<&'static str> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dump.json");
    std::fs::write(&file, text).unwrap();
    let checked = envoy::check(&[file], &[]).unwrap();
    checked.findings.iter().filter_map(|finding| finding.code).collect()
}

/// Requests that show what each finding is about: the code, the door and the request.
type Shown<'s> = &'s [(&'static str, Door, Ask)];

/// What the paths, the hosts and the addresses of clients are without the settings of the connection manager.
fn settings(door: Door) -> Vec<(&'static str, Door, Ask)> {
    let paths = ["{parent}//{leaf}", "{parent}/public/../{leaf}", "{parent}/%2F{leaf}"];
    let mut shown: Vec<_> = paths.iter().map(|path| ("ME006", door, Path(path))).collect();
    shown.push(("ME009", door, Address("127.0.0.9", &[("x-forwarded-for", "10.0.0.1")])));
    shown
}

/// What is found in the naive configuration is open there. In the mended one, it is closed, as is every other bypass. Returns both.
fn assert_open_and_closed(example: &'static Example, shown: Shown<'_>) -> [Running; 2] {
    let file = |kind: &str| project(&format!("tests/envoy/public/{}-{kind}.yaml", example.name));
    let found: BTreeSet<_> =
        envoy::check(&[file("naive")], &[]).unwrap().findings.iter().filter_map(|finding| finding.code).collect();
    let mut expected: BTreeSet<_> = shown.iter().map(|(code, ..)| *code).collect();
    // Nothing passes without this setting. A policy refuses a request that it is meant to allow.
    expected.insert("ME008");
    assert_eq!(found, expected);
    let with_dot = Running::base(example).host("www.example.com.");

    let naive = Running::start(example, "naive");
    assert_eq!(naive.status(example.doors[0], &Running::base(example)), Some(200));
    assert_eq!(naive.status(example.doors[0], &with_dot), Some(403));
    for (code, door, ask) in shown {
        naive.assert_reached(*door, &ask.over_http1(example), &format!("{code}: {ask:?}"));
    }

    let mended = Running::start(example, "mended");
    for door in example.doors {
        assert_eq!(mended.status(*door, &Running::base(example)), Some(200), "{door:?}");
        assert_eq!(mended.status(*door, &with_dot), Some(200), "{door:?}");
    }
    let passed = mended.requests();
    let meant = bypasses::TABLE.iter().filter(|(_, on, _)| on.contains(&example));
    let all: Vec<_> =
        meant.flat_map(|(id, _, ask)| ask.sent(example).into_iter().map(move |sent| (id, ask, sent))).collect();
    // Envoy closes a connection only after a second if it has received something that is not HTTP.
    thread::scope(|scope| {
        for (door, some) in example.doors.iter().flat_map(|door| all.chunks(20).map(move |some| (*door, some))) {
            let mended = &mended;
            scope.spawn(move || {
                for (id, ask, sent) in some {
                    let what = format!("{}, {door:?}, {id}: {ask:?}, {}", example.name, sent.version());
                    mended.assert_refused(door, sent, &what);
                }
            });
        }
    });
    assert_eq!(mended.requests(), passed, "{}", example.name);
    if let Some(door) = example.doors.iter().find(|door| door.1.is_some()) {
        let refused = Request::get("/admin").host("www.example.com");
        let answer = Client::plain(mended.address(door.0)).send(&refused);
        assert!(answer.is_err(), "plaintext: {answer:?}");
    }
    [naive, mended]
}

#[test]
fn an_edge_proxy_that_verifies_tokens() {
    let suspended = Token("/data", || bypasses::token_of("suspended"));
    assert_open_and_closed(&EDGE_JWT, &[("ME012", EDGE_JWT.doors[0], suspended)]);
}

#[test]
fn grpc_for_clients_that_send_json() {
    let door = GRPC.doors[0];
    let json = Bare("DELETE", "/all/orders", &[]);
    let [_, mended] = assert_open_and_closed(&GRPC, &[settings(door), vec![("ME004", door, json)]].concat());
    assert_eq!(mended.status(door, &Request::get("/say?name=x").host("www.example.com")), Some(200));
}

#[test]
fn a_front_proxy_with_server_names() {
    let open = ("ME002", ("debug", None), Path("{parent}/{leaf}"));
    let [_, mended] = assert_open_and_closed(&FRONT_PROXY, &[settings(FRONT_PROXY.doors[0]), vec![open]].concat());
    let redirected = Client::plain(mended.address("redirect")).send(&Request::get("/admin").host("www.example.com"));
    let redirected = redirected.unwrap();
    assert_eq!((redirected.status, redirected.header("x-app")), (301, None));
    let unknown = mended.client(("https", Some("domain4.example.com"))).send(&Running::base(&FRONT_PROXY));
    assert!(unknown.is_err(), "{unknown:?}");
}

#[test]
fn a_configuration_from_files_as_the_running_envoy_shows_it() {
    let shown = [
        ("ME002", ("side", None), Path("{parent}/{leaf}")),
        ("ME002", ("tcp", None), Path("{parent}/{leaf}")),
        ("ME003", ("main", None), At("/legacy/data", &[("x-role", "guest")])),
    ];
    let [naive, mended] = assert_open_and_closed(&DYNAMIC, &[settings(DYNAMIC.doors[0]), shown.to_vec()].concat());
    for (running, expected) in [(naive, &["ME002", "ME003", "ME006", "ME008", "ME009"][..]), (mended, &[])] {
        let dump = running.envoy.admin_get("/config_dump?include_eds").unwrap();
        assert_eq!(codes(&dump), expected.iter().copied().collect());
    }
}

#[test]
fn a_service_behind_an_authorizer() {
    let door = EXT_AUTHZ.doors[0];
    let forged = User("token3", &[("x-current-user", "user1")]);
    assert_open_and_closed(&EXT_AUTHZ, &[settings(door), vec![("ME004", door, forged)]].concat());
}
