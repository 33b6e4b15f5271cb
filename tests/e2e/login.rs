//! examples/login: oauth2-proxy itself, with a small `OpenID` provider, decides who has logged in. `make login` builds it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};
use std::{env, fs, thread};

use serde_json::json;
use testbed::{Client, HttpAnswer, HttpAuthorizer, Question, Request, Response};

use crate::jwt::issuer;
use crate::rendered::{Standalone, text};
use crate::sidecar::{PATIENCE, project};

/// The parameters of a query or of a form.
fn parameters(text: &str) -> BTreeMap<String, String> {
    let decode = |text: &str| {
        let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
        while let [first, after @ ..] = rest {
            rest = match (first, after) {
                (b'%', [high, low, after @ ..]) => {
                    let digits = String::from_utf8(vec![*high, *low]).unwrap();
                    bytes.push(u8::from_str_radix(&digits, 16).unwrap());
                    after
                }
                (b'+', _) => {
                    bytes.push(b' ');
                    after
                }
                _ => {
                    bytes.push(*first);
                    after
                }
            };
        }
        String::from_utf8(bytes).unwrap()
    };
    text.split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), decode(value)))
        .collect()
}

fn leaked(text: String) -> &'static str {
    text.leak()
}

/// An `OpenID` provider at which everybody is the user that the request to `/authorize` names in the header `x-user`.
fn open_id_provider() -> HttpAuthorizer {
    let address = Arc::new(OnceLock::<SocketAddr>::new());
    let own = Arc::clone(&address);
    let provider = HttpAuthorizer::start(move |question: &Question| {
        let issuer_url = format!("http://{}", own.get().unwrap());
        let json = |value: serde_json::Value| {
            HttpAnswer::Response(200, vec![("content-type", "application/json")], leaked(value.to_string()))
        };
        let (path, query) = question.path.split_once('?').unwrap_or((&question.path, ""));
        match path {
            "/.well-known/openid-configuration" => json(json!({
                "issuer": issuer_url,
                "authorization_endpoint": format!("{issuer_url}/authorize"),
                "token_endpoint": format!("{issuer_url}/token"),
                "jwks_uri": format!("{issuer_url}/jwks"),
                "id_token_signing_alg_values_supported": ["ES256"],
                "response_types_supported": ["code"],
                "subject_types_supported": ["public"],
            })),
            "/jwks" => json(serde_json::from_str(&issuer().jwks()).unwrap()),
            "/authorize" => {
                let query = parameters(query);
                let user = question.header_values("x-user").concat();
                let nonce = query.get("nonce").cloned().unwrap_or_default();
                let back = format!("{}?code={user}.{nonce}&state={}", query["redirect_uri"], query["state"]);
                HttpAnswer::Response(302, vec![("location", leaked(back))], "")
            }
            "/token" => {
                let form = parameters(&String::from_utf8_lossy(&question.body));
                let (user, nonce) = form["code"].rsplit_once('.').unwrap();
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
                let mut claims = json!({
                    "iss": issuer_url, "aud": "orders", "sub": user, "email": user, "email_verified": true,
                    "iat": now, "exp": now + 600,
                });
                if !nonce.is_empty() {
                    claims["nonce"] = json!(nonce);
                }
                json(json!({
                    "access_token": "unused", "token_type": "Bearer", "expires_in": 600,
                    "id_token": issuer().token(&claims).unwrap(),
                }))
            }
            _ => HttpAnswer::Response(404, vec![], ""),
        }
    })
    .unwrap();
    address.set(provider.address()).unwrap();
    provider
}

/// oauth2-proxy, on a port that was free a moment ago. It ends with the test.
struct Oauth2Proxy(Child);

impl Oauth2Proxy {
    fn start(program: &Path, issuer: SocketAddr, port: u16) -> Self {
        let mut command = Command::new(program);
        command
            .arg(format!("--http-address=127.0.0.1:{port}"))
            .arg(format!("--oidc-issuer-url=http://{issuer}"))
            .args(["--provider=oidc", "--client-id=orders", "--client-secret=secret", "--email-domain=*"])
            .args(["--cookie-secret=0123456789abcdef0123456789abcdef", "--cookie-secure=false"])
            .args(["--upstream=static://200", "--set-xauthrequest", "--skip-provider-button"])
            .arg("--redirect-url=http://orders.example/oauth2/callback")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let proxy = Self(testbed::spawn(command).unwrap());
        let client = Client::plain((Ipv4Addr::LOCALHOST, port).into());
        let begin = Instant::now();
        while client.send(&Request::get("/ping")).map_or(true, |response| response.status != 200) {
            assert!(begin.elapsed() < PATIENCE, "oauth2-proxy does not answer");
            thread::sleep(Duration::from_millis(50));
        }
        proxy
    }
}

impl Drop for Oauth2Proxy {
    fn drop(&mut self) {
        let _is_gone = self.0.kill();
        let _status = self.0.wait();
    }
}

/// A browser: it keeps cookies.
struct Browser<'b> {
    standalone: &'b Standalone,
    cookies: BTreeMap<String, String>,
}

impl Browser<'_> {
    fn send(&mut self, request: Request) -> Response {
        let cookies: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = if cookies.is_empty() { request } else { request.header("cookie", cookies.join("; ")) };
        let response = Client::plain(self.standalone.address()).send(&request.host("orders.example")).unwrap();
        for value in response.header_values("set-cookie") {
            let cookie = String::from_utf8_lossy(value).into_owned();
            let pair = cookie.split(';').next().unwrap().split_once('=').unwrap();
            if pair.1.is_empty() {
                self.cookies.remove(pair.0)
            } else {
                self.cookies.insert(pair.0.to_owned(), pair.1.to_owned())
            };
        }
        response
    }

    /// Follows the login of this user from the page, and returns what the page then is.
    fn log_in(&mut self, provider: &HttpAuthorizer, user: &str, path: &str) -> Response {
        let refused = self.send(Request::get(path));
        let to_login = refused.header("location").unwrap_or_default();
        let login = format!("http://{}", provider.address());
        assert!(refused.status == 302 && to_login.starts_with(&format!("{login}/authorize?")), "{refused:?}");
        let at_login = Request::get(&to_login[login.len()..]).header("x-user", user);
        let back = Client::plain(provider.address()).send(&at_login).unwrap().header("location").unwrap();
        let callback = back.strip_prefix("http://orders.example").unwrap();
        let logged_in = self.send(Request::get(callback));
        assert_eq!((logged_in.status, logged_in.header("location").as_deref()), (302, Some(path)), "{logged_in:?}");
        self.send(Request::get(path))
    }
}

#[test]
#[ignore = "`make login` builds oauth2-proxy, and runs this"]
fn whoever_logs_in_may_do_what_the_policies_say() {
    let program = env::var_os("OAUTH2_PROXY").expect("OAUTH2_PROXY: run `make login`");
    let open_id = open_id_provider();
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let _proxy = Oauth2Proxy::start(Path::new(&program), open_id.address(), port);

    let folder = tempfile::tempdir().unwrap();
    for name in ["login.yaml", "orders.yaml", "mesh.yaml"] {
        let file = fs::read_to_string(project("examples/login").join(name)).unwrap();
        let file = if name == "mesh.yaml" { file.replace("4180", &port.to_string()) } else { file };
        fs::write(folder.path().join(name), file).unwrap();
    }
    let arguments = [text(folder.path()), "--namespace=shop", "--label=app=orders", "--plaintext"];
    let (standalone, _) = Standalone::start(&arguments);
    let browser = || Browser { standalone: &standalone, cookies: BTreeMap::new() };

    let mut nobody = browser();
    assert_eq!(nobody.send(Request::get("/healthz")).status, 200);
    let forged = Request::get("/orders/7").header("x-auth-request-email", "alice@example.com");
    assert_eq!(nobody.send(forged).status, 302);
    assert_eq!(nobody.send(Request::get("/orders/7").header("cookie", "_oauth2_proxy=forged")).status, 302);

    let mut bob = browser();
    let page = bob.log_in(&open_id, "bob@example.com", "/orders/7");
    assert_eq!(page.status, 200, "{page:?} {}", standalone.envoy.log());
    let seen = standalone.app.last_request().unwrap();
    assert_eq!(seen.header_values("x-auth-request-email"), [b"bob@example.com"]);
    assert_eq!(bob.send(Request::new("PUT", "/orders/7")).status, 403);
    // He stays who he is.
    let as_alice = Request::new("PUT", "/orders/7").header("x-auth-request-email", "alice@example.com");
    assert_eq!(bob.send(as_alice).status, 403);

    let mut alice = browser();
    assert_eq!(alice.log_in(&open_id, "alice@example.com", "/orders/7").status, 200);
    assert_eq!(alice.send(Request::new("PUT", "/orders/7")).status, 200);

    let mut mallory = browser();
    assert_eq!(mallory.log_in(&open_id, "mallory@other.example", "/orders/7").status, 403);
    let reached = standalone.app.requests();
    assert_eq!(mallory.send(Request::get("/orders/7")).status, 403);
    assert_eq!(standalone.app.requests(), reached);
}
