//! Starts the configurations in front of applications, and sends requests.

use std::net::SocketAddr;

use mesh_authz_cli::load::yaml;
use serde_json::{Value, json};
use testbed::bootstrap::{http_connection_manager, listener};
use testbed::{App, Client, Envoy, Http2Request, Request, Response, StartOptions, Tls};

use super::bypasses::{From, InVersion, Sent, token_of};
use super::{DYNAMIC, Door, EDGE_JWT, EXT_AUTHZ, Example, GRPC};
use crate::jwt::issuer;
use crate::sidecar::{authority, project, wasm};

pub struct Running {
    pub envoy: Envoy,
    /// The applications at ports 8081 to 8083 of the configurations.
    apps: [App; 3],
}

impl Running {
    pub fn start(example: &Example, kind: &str) -> Self {
        let apps = [(); 3].map(|()| App::start().unwrap());
        let own = authority().server("cluster.local/ns/shop/sa/edge").unwrap();
        let mut options = StartOptions::default()
            .file("mesh_authz.wasm", wasm())
            .file("jwks.json", issuer().jwks())
            .file("certs/servercert.pem", &own.cert_pem)
            .file("certs/serverkey.pem", &own.key_pem);
        if *example == DYNAMIC {
            for name in ["cds", "ecds", "eds-app", "eds-app2", "rds-side"] {
                let file = format!("dynamic/{name}.yaml");
                options = options.file(&file, filled(&file, &apps).to_string());
            }
            for name in ["lds", "rds-main"] {
                let file = format!("dynamic-{kind}/{name}.yaml");
                options = options.file(&file, filled(&file, &apps).to_string());
            }
        }
        let mut bootstrap = filled(&format!("{}-{kind}.yaml", example.name), &apps);
        if *example == EXT_AUTHZ {
            add_authorizer(&mut bootstrap);
        }
        Self { envoy: Envoy::start_with(&bootstrap, &options).unwrap(), apps }
    }

    /// A request that the policies allow.
    pub fn base(example: &Example) -> Request {
        let request = match example {
            _ if *example == GRPC => Request::new("POST", "/helloworld.Greeter/SayHello")
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .body([0; 5]),
            _ if *example == EDGE_JWT => Request::get("/data").header("authorization", token_of("customer")),
            _ if *example == EXT_AUTHZ => Request::get("/data").header("authorization", "Bearer token1"),
            _ => Request::get("/data"),
        };
        request.host("www.example.com")
    }

    pub fn address(&self, listener: &str) -> SocketAddr {
        self.envoy.address(listener).unwrap()
    }

    pub fn client(&self, (listener, server_name): Door) -> Client {
        let address = self.address(listener);
        match server_name {
            Some(name) => Client::tls(address, Tls::new(authority().pem()).server_name(name)),
            None => Client::plain(address),
        }
    }

    fn send(&self, door: Door, sent: &Sent) -> Option<Response> {
        let client = match sent.from {
            From::Anywhere => self.client(door),
            From::Ip(ip) => self.client(door).from_ip(ip),
        };
        match &sent.request {
            InVersion::Http1(request) => client.send(request).ok(),
            InVersion::Http2(request) => client.send_http2(request).ok(),
        }
    }

    /// The status of the response. `None`: Envoy has closed the connection or the stream.
    pub fn status(&self, door: Door, request: &Request) -> Option<u16> {
        let sent = Sent { from: From::Anywhere, request: InVersion::Http1(request.clone()) };
        self.send(door, &sent).map(|response| status(&response))
    }

    /// The number of requests that have reached an application.
    pub fn requests(&self) -> u64 {
        self.apps.iter().map(App::requests).sum()
    }

    pub fn assert_reached(&self, door: Door, sent: &Sent, what: &str) {
        let before = self.requests();
        let response = self.send(door, sent).unwrap();
        assert_eq!((status(&response), self.requests() - before), (200, 1), "{what}: {}", response.text());
    }

    pub fn assert_refused(&self, door: Door, sent: &Sent, what: &str) {
        let response = self.send(door, sent);
        let got = response.as_ref().map(status);
        assert!(matches!(got, None | Some(400 | 401 | 403 | 307)), "{what}: {got:?}");
        assert!(response.as_ref().is_none_or(|response| response.header("x-app").is_none()), "{what}: {got:?}");
        // Instead of a path with escaped slashes, Envoy can show the client the path without them.
        if let Some(location) = response.filter(|_| got == Some(307)).and_then(|response| response.header("location")) {
            let redirected = sent.clone().with_path(&location);
            assert_eq!(
                self.send(door, &redirected).as_ref().map(status),
                Some(403),
                "{what}: redirected to {location}"
            );
        }
    }
}

/// The status; for gRPC, the one that its status stands for.
fn status(response: &Response) -> u16 {
    let is_grpc = response.header("content-type").is_some_and(|kind| kind.starts_with("application/grpc"));
    let grpc = response.header("grpc-status").or_else(|| response.trailer("grpc-status")).filter(|_| is_grpc);
    match grpc.as_deref() {
        None | Some("0") => response.status,
        Some("7") => 403,
        Some("13") => 400,
        Some("16") => 401,
        Some(other) => panic!("gRPC status {other}"),
    }
}

/// A file of `tests/envoy/public`. The system chooses the ports of the listeners.
fn filled(file: &str, apps: &[App; 3]) -> Value {
    let text = std::fs::read_to_string(project("tests/envoy/public").join(file)).unwrap();
    let mut value = serde_json::to_value(yaml::documents(&text).unwrap().remove(0)).unwrap();
    fill(&mut value, apps);
    value
}

fn fill(value: &mut Value, apps: &[App; 3]) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                match (name.as_str(), field.as_u64()) {
                    ("port_value", Some(port @ 8081..=8083)) => {
                        let app = usize::try_from(port - 8081).unwrap();
                        *field = json!(apps[app].address().port());
                    }
                    ("port_value", _) => *field = json!(0),
                    _ => fill(field, apps),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| fill(item, apps)),
        _ => {}
    }
}

/// The authorizer: each token has a user, and without one, nobody is let in.
fn add_authorizer(bootstrap: &mut Value) {
    const SOCKET: &str = "./authorizer.sock";
    let mut routes: Vec<_> = (1..=3)
        .map(|number| {
            let token =
                json!({ "name": "authorization", "string_match": { "exact": format!("Bearer token{number}") } });
            let user = json!({ "key": "x-current-user", "value": format!("user{number}") });
            json!({
                "match": { "prefix": "/", "headers": [token] },
                "direct_response": { "status": 200 },
                "response_headers_to_add": [{ "header": user }],
            })
        })
        .collect();
    routes.push(testbed::bootstrap::direct_response(403, ""));
    let mut authorizer = listener("authorizer", http_connection_manager(&[], &routes), None);
    authorizer["address"] = json!({ "pipe": { "path": SOCKET } });
    let resources = &mut bootstrap["static_resources"];
    resources["listeners"].as_array_mut().unwrap().push(authorizer);
    let endpoint = "/clusters/1/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address";
    *resources.pointer_mut(endpoint).unwrap() = json!({ "pipe": { "path": SOCKET } });
}

/// The same request over HTTP/2.
pub fn http2(request: &Request) -> Http2Request {
    let host = request.host.as_deref().unwrap_or_default();
    let mut same = Http2Request::new(&request.method, &request.path).replace(":authority", host).body(&request.body);
    for (name, value) in &request.headers {
        same = same.header(name.to_ascii_lowercase(), value);
    }
    same
}
