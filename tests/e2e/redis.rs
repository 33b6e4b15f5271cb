//! examples/redis: a real `redis-server` behind the filter. `make redis` runs it.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Instant;
use std::{env, thread};

use testbed::Client;

use crate::rendered::{TLS_FILES, start_rendered};
use crate::sidecar::{PATIENCE, client_of, filter_lines};

/// A Redis server without a file, on a port of the loopback. It ends when it is dropped.
struct Redis(Child, SocketAddr);

impl Redis {
    fn start() -> Self {
        let program = env::var("REDIS_SERVER").expect("REDIS_SERVER: run `make redis`");
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let port = address.port().to_string();
        let server = Command::new(program)
            .args(["--bind", "127.0.0.1", "--port", &port, "--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let redis = Self(server, address);
        let begin = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(begin.elapsed() < PATIENCE, "redis-server does not start");
            thread::sleep(PATIENCE / 100);
        }
        redis
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _ended = self.0.wait();
    }
}

/// What Redis answers to a command: the first line. `None`: the connection is closed.
fn answer(client: &Client, command: &str) -> Option<String> {
    let mut connection = client.connect().ok()?;
    connection.write(format!("{command}\r\n").as_bytes()).ok()?;
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        line.extend(connection.read_exact(1).ok()?);
    }
    Some(String::from_utf8(line).unwrap().trim_end().to_owned())
}

#[test]
#[ignore = "needs redis-server: `make redis`"]
fn only_the_shop_can_use_the_server() {
    let redis = Redis::start();
    let upstream = redis.1.to_string();
    let arguments = ["examples/redis", "--namespace=default", "--label=app=sessions", "--listen-tcp=127.0.0.1:0"];
    let (envoy, _) = start_rendered(&[&arguments[..], &TLS_FILES, &["--upstream", &upstream]].concat());
    let client = |account: &str| {
        client_of(envoy.address("inbound_tcp").unwrap(), &format!("cluster.local/ns/default/sa/{account}"))
    };
    let shop = client("shop");
    assert_eq!(answer(&shop, "PING").as_deref(), Some("+PONG"));
    assert_eq!(answer(&shop, "SET session:7 alice").as_deref(), Some("+OK"));
    assert_eq!(answer(&client("stranger"), "DEL session:7"), None);
    assert_eq!(answer(&shop, "EXISTS session:7").as_deref(), Some(":1"));
    let lines = filter_lines(&envoy.log());
    let refusal = lines.iter().find(|line| line.contains("\"decision\":\"DENY\"")).unwrap();
    assert!(refusal.contains("default/sa/stranger") && refusal.contains("from[0].source.principals"), "{refusal}");
}
