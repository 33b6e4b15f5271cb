//! The bed itself, tried on a real Envoy.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};
use testbed::{
    App, Authority, Client, Envoy, Http2Request, Issuer, Request, San, StartOptions, Tls,
    bootstrap::{
        ClientCertificate, bootstrap, cluster, direct_response, http_connection_manager, listener, mutual_tls, route_to,
    },
};

const PATIENCE: Duration = Duration::from_secs(10);

/// An Envoy with mutual TLS in front of an application, with an access log that tells what Envoy made of the peer.
struct Sidecar {
    authority: Authority,
    app: App,
    envoy: Envoy,
}

impl Sidecar {
    fn start() -> Result<Self> {
        let authority = Authority::new()?;
        let app = App::start()?;
        let own = authority.server("cluster.local/ns/default/sa/backend")?;
        let tls = mutual_tls(&authority, &own, ClientCertificate::Required);
        let manager = logging(http_connection_manager(&[], &[route_to("app")]));
        let envoy =
            Envoy::start(&bootstrap(&[listener("inbound", manager, Some(tls))], &[cluster("app", app.address())]))?;
        Ok(Self { authority, app, envoy })
    }

    fn client(&self) -> Result<Client> {
        self.client_named(&[San::Uri("spiffe://cluster.local/ns/default/sa/frontend".into())])
    }

    fn client_named(&self, names: &[San]) -> Result<Client> {
        let certificate = self.authority.issue(names, Some("frontend"))?;
        Ok(Client::tls(self.envoy.address("inbound")?, Tls::mutual(self.authority.pem(), &certificate)))
    }

    /// Sends a request and waits for the line of the access log that says `expected`.
    fn logs(&self, client: &Client, expected: &str) -> Result<()> {
        let mark = self.envoy.log_mark();
        assert_eq!(client.send(&Request::get("/"))?.status, 200);
        self.envoy.wait_for_log_since(mark, expected, PATIENCE)
    }
}

fn logging(mut manager: Value) -> Value {
    manager["typed_config"]["access_log"] = json!([{
        "name": "envoy.access_loggers.stdout",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
            "log_format": { "text_format_source": { "inline_string": concat!(
                "uri=<%DOWNSTREAM_PEER_URI_SAN%> subject=<%DOWNSTREAM_PEER_SUBJECT%> ",
                "from=<%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%> ",
                "for=<%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%> sni=<%REQUESTED_SERVER_NAME%> ",
                "path=<%REQ(:PATH)%>\n",
            ) } },
        },
    }]);
    manager
}

#[test]
fn an_honest_client_reaches_the_application_and_others_do_not() -> Result<()> {
    let sidecar = Sidecar::start()?;
    let client = sidecar.client()?;
    let response = client.send(&Request::get("/api/v1/data?x=1"))?;
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(response.header("X-App").as_deref(), Some("reached"));
    assert_eq!(response.json()?["path"], "/api/v1/data?x=1");

    let anonymous = Client::tls(client.address, Tls::new(sidecar.authority.pem()));
    assert!(anonymous.send(&Request::get("/")).is_err());
    let stranger = Authority::new()?.spiffe("cluster.local/ns/default/sa/frontend")?;
    let stranger = Client::tls(client.address, Tls::mutual(sidecar.authority.pem(), &stranger));
    assert!(stranger.send(&Request::get("/")).is_err());
    assert!(Client::plain(client.address).send(&Request::get("/")).is_err());
    assert_eq!(sidecar.app.requests(), 1);
    Ok(())
}

#[test]
fn envoy_sees_the_names_source_address_and_server_name_that_a_client_presents() -> Result<()> {
    let sidecar = Sidecar::start()?;
    let uri = |text: &str| San::Uri(text.to_owned());
    sidecar
        .logs(&sidecar.client_named(&[uri("spiffe://a/b c"), uri("spiffe://d")])?, "uri=<spiffe://a/b c,spiffe://d>")?;
    sidecar.logs(&sidecar.client_named(&[San::UriBytes(b"spiffe://a/\xff".to_vec())])?, "uri=<spiffe://a/\u{fffd}>")?;
    sidecar.logs(&sidecar.client_named(&[uri("spiffe://a/\0b\nc")])?, "uri=<spiffe://a/\0b\nc>")?;
    sidecar.logs(&sidecar.client_named(&[])?, "uri=<-> subject=<CN=frontend>")?;
    sidecar.logs(&sidecar.client()?.from_ip([127, 0, 0, 7]), "from=<127.0.0.7>")?;
    let mut client = sidecar.client()?;
    client.tls = client.tls.map(|tls| tls.server_name("backend.example"));
    sidecar.logs(&client, "sni=<backend.example>")
}

#[test]
fn repeated_headers_and_bytes_beyond_ascii_arrive_unchanged() -> Result<()> {
    let sidecar = Sidecar::start()?;
    let client = sidecar.client()?;
    let values = [b"one".as_slice(), b"t\xc3\xa9\xff", b"one"];
    let request = values.iter().fold(Request::get("/"), |request, value| request.header("x-many", value));
    assert_eq!(client.send(&request)?.status, 200);
    let seen = sidecar.app.last_request().expect("a request");
    assert_eq!(seen.header_values("x-many"), values);

    let request = values.iter().fold(Http2Request::get("/"), |request, value| request.header("x-many", value));
    assert_eq!(client.send_http2(&request)?.status, 200);
    let seen = sidecar.app.last_request().expect("a request");
    assert_eq!(seen.header_values("x-many"), values);
    Ok(())
}

#[test]
fn http2_carries_bodies_trailers_and_grpc() -> Result<()> {
    let sidecar = Sidecar::start()?;
    let mut connection = sidecar.client()?.connect_http2()?;
    for body in [0, 1, 40_000] {
        let mut request = Http2Request::new("POST", "/upload").body(vec![b'x'; body]);
        request.trailers.push((b"x-sum".into(), b"1".into()));
        let response = connection.send(&request)?;
        assert_eq!(response.status, 200, "{}", response.text());
        assert_eq!(response.json()?["path"], "/upload");
    }
    let response = connection.send(&Http2Request::grpc("/hello.Greeter/Hello"))?;
    assert_eq!(response.trailer("grpc-status").as_deref(), Some("0"));
    assert_eq!(response.body, [0; 5]);

    Ok(())
}

#[test]
fn http2_carries_any_byte_in_a_path() -> Result<()> {
    let manager = logging(http_connection_manager(&[], &[direct_response(200, "ok")]));
    let envoy = Envoy::start(&bootstrap(&[listener("inbound", manager, None)], &[]))?;
    let client = Client::plain(envoy.address("inbound")?);
    let response = client.send_http2(&Http2Request::get(b"/a\xff\xfe?\xc3\xa9"))?;
    assert_eq!(response.text(), "ok");
    envoy.wait_for_log("path=</a\u{fffd}\u{fffd}?\u{e9}>", PATIENCE)
}

#[test]
fn tunnels_open_over_both_versions_of_http() -> Result<()> {
    let sidecar = Sidecar::start()?;
    let upgrade = Request::get("/socket").header("connection", "upgrade").header("upgrade", "websocket");
    let mut connection = sidecar.client()?.connect()?;
    assert_eq!(connection.send(&upgrade)?.status, 101);
    connection.write(b"echo")?;
    assert_eq!(connection.read_exact(4)?, b"echo");

    let mut connection = sidecar.client()?.connect_http2()?;
    assert!(connection.allows_extended_connect());
    let response = connection.send(&Http2Request::extended_connect("websocket", "/socket"))?;
    assert_eq!(response.status, 200);
    Ok(())
}

#[test]
fn kept_connections_serve_many_requests() -> Result<()> {
    let sidecar = Sidecar::start()?;
    let manager = http_connection_manager(&[], &[direct_response(200, "ok")]);
    let direct = Envoy::start(&bootstrap(&[listener("direct", manager, None)], &[]))?;
    let clients = [
        ("mutual TLS, application", sidecar.client()?),
        ("plain, direct response", Client::plain(direct.address("direct")?)),
    ];
    for (name, client) in clients {
        let mut connection = client.connect()?;
        let begun = Instant::now();
        for _ in 0..500 {
            assert_eq!(connection.send(&Request::get("/"))?.status, 200);
        }
        assert!(connection.is_open());
        println!("{name}: {:.0} requests/s", 500.0 / begun.elapsed().as_secs_f64());
    }
    Ok(())
}

#[test]
fn a_bootstrap_that_envoy_refuses_gives_the_log() -> Result<()> {
    let manager = http_connection_manager(&[], &[json!({ "nonsense": true })]);
    let refused = bootstrap(&[listener("inbound", manager, None)], &[]);
    assert!(Envoy::start_refused(&refused)?.contains("nonsense"));
    let error = Envoy::start(&refused).err().expect("a refusal");
    assert!(error.to_string().contains("nonsense"), "{error}");
    assert!(Envoy::start_refused(&bootstrap(&[], &[])).is_err());
    Ok(())
}

#[test]
fn the_proxy_protocol_gives_the_source_address() -> Result<()> {
    let mut manager = logging(http_connection_manager(&[], &[direct_response(200, "ok")]));
    manager["typed_config"]["use_remote_address"] = json!(true);
    let mut listener = listener("inbound", manager, None);
    listener["listener_filters"] = json!([{
        "name": "envoy.filters.listener.proxy_protocol",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol",
        },
    }]);
    let envoy = Envoy::start(&bootstrap(&[listener], &[]))?;
    let client = Client::plain(envoy.address("inbound")?);
    for (source, destination, logged) in [
        ("203.0.113.9:4000", "10.0.0.8:80", "from=<127.0.0.1> for=<203.0.113.9>"),
        ("[2001:db8::1]:4000", "[2001:db8::2]:80", "from=<127.0.0.1> for=<2001:db8::1>"),
    ] {
        let client = client.clone().proxied(source.parse()?, destination.parse()?);
        assert_eq!(client.send(&Request::get("/"))?.text(), "ok");
        envoy.wait_for_log(logged, PATIENCE)?;
    }
    Ok(())
}

#[test]
fn listeners_are_updated_from_a_file() -> Result<()> {
    let resources = |body: &str| {
        let manager = http_connection_manager(&[], &[direct_response(200, body)]);
        let mut listener = listener("inbound", manager, None);
        listener["@type"] = json!("type.googleapis.com/envoy.config.listener.v3.Listener");
        json!({ "resources": [listener] }).to_string()
    };
    let bootstrap = json!({
        "node": { "id": "testbed", "cluster": "testbed" },
        "dynamic_resources": { "lds_config": {
            "resource_api_version": "V3",
            "path_config_source": { "path": "./lds.json" },
        } },
    });
    let options = StartOptions::default().file("lds.json", resources("before"));
    let envoy = Envoy::start_with(&bootstrap, &options)?;
    let before = Client::plain(envoy.address("inbound")?);
    assert_eq!(before.send(&Request::get("/"))?.text(), "before");

    envoy.write_file_atomically("lds.json", resources("after"))?;
    envoy.wait_for_stat("listener_manager.listener_modified", |count| count == 1, PATIENCE)?;
    let after = Client::plain(envoy.address("inbound")?);
    assert_eq!(after.send(&Request::get("/"))?.text(), "after");

    envoy.write_file_atomically("lds.json", r#"{ "resources": [{ "@type": "nonsense" }] }"#)?;
    envoy.wait_for_log("nonsense", PATIENCE)?;
    assert!(envoy.is_running());
    Ok(())
}

#[test]
fn tokens_verify_with_the_issuers_keys_alone() -> Result<()> {
    let issuer = Issuer::new()?;
    let filter = json!({
        "name": "envoy.filters.http.jwt_authn",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
            "providers": { "testbed": {
                "issuer": "https://issuer.example",
                "local_jwks": { "inline_string": issuer.jwks() },
            } },
            "rules": [{ "match": { "prefix": "/" }, "requires": { "provider_name": "testbed" } }],
        },
    });
    let manager = http_connection_manager(&[filter], &[direct_response(200, "ok")]);
    let envoy = Envoy::start(&bootstrap(&[listener("inbound", manager, None)], &[]))?;
    let client = Client::plain(envoy.address("inbound")?);
    let claims = json!({ "iss": "https://issuer.example", "sub": "alice" });
    for (issuer, status) in [(&issuer, 200), (&Issuer::new()?, 401)] {
        let authorization = format!("Bearer {}", issuer.token(&claims)?);
        let request = Request::get("/").header("authorization", authorization);
        assert_eq!(client.send(&request)?.status, status);
    }
    Ok(())
}

#[test]
fn an_envoy_ends_when_it_is_dropped() -> Result<()> {
    let envoy = Envoy::start(&bootstrap(&[], &[]))?;
    assert!(envoy.prometheus()?.contains("envoy_server_live"));
    assert!(envoy.config_dump()?["configs"].is_array());
    let (address, dir) = (envoy.admin_address(), envoy.dir().to_owned());
    drop(envoy);
    assert!(Client::plain(address).send(&Request::get("/ready")).is_err());
    assert!(!dir.exists());
    Ok(())
}
