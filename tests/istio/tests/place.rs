//! The mesh that all tests share, and a namespace in it for each of them.

use std::{
    env,
    fmt::Debug,
    net::Ipv4Addr,
    process::{Command, Stdio},
    sync::{
        OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use mesh_authz_istio::{Mesh, MeshSettings, Pod, PodSpec, Role, endpoint_slice};
use serde_json::{Value, json};
use testbed::{Certified, Client, Request};

/// How long a change may take from `kubectl apply` until the proxy decides by it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The mesh. The first test starts it. It ends with the namespaces that `isolated.sh` made.
pub fn mesh() -> &'static Mesh {
    static MESH: OnceLock<Mesh> = OnceLock::new();
    MESH.get_or_init(|| {
        Mesh::start(MeshSettings::from_environment().unwrap()).unwrap_or_else(|error| panic!("{error:#}"))
    })
}

/// Most tests run beside others. Those that end istiod run alone.
static MESH_USERS: RwLock<()> = RwLock::new(());

/// A namespace that one test has for itself.
pub struct Place {
    pub mesh: &'static Mesh,
    pub namespace: String,
    pub number: u32,
    _user: User,
}

enum User {
    One { _guard: RwLockReadGuard<'static, ()> },
    Only { _guard: RwLockWriteGuard<'static, ()> },
}

impl Place {
    pub fn new() -> Self {
        Self::of(User::One { _guard: MESH_USERS.read().unwrap_or_else(PoisonError::into_inner) })
    }

    /// While no other test uses the mesh.
    pub fn alone() -> Self {
        Self::of(User::Only { _guard: MESH_USERS.write().unwrap_or_else(PoisonError::into_inner) })
    }

    fn of(user: User) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let namespace = format!("place-{number}");
        let mesh = mesh();
        mesh.kubectl(&["create", "namespace", &namespace], "").unwrap();
        Self { mesh, namespace, number, _user: user }
    }

    /// Starts a pod with the label `app: NAME` and the account of this name.
    pub fn pod(&self, name: &str, role: Role) -> Pod {
        self.labelled_pod(name, role, json!({ "app": name }))
    }

    pub fn labelled_pod(&self, name: &str, role: Role, labels: Value) -> Pod {
        let (namespace, name, account) = (self.namespace.clone(), name.to_owned(), name.to_owned());
        self.mesh.pod(PodSpec { namespace, name, account, labels, role }).unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// The certificate of an account of this namespace.
    pub fn certificate(&self, account: &str) -> Certified {
        self.mesh.certificate(&self.namespace, account).unwrap()
    }

    /// Applies resources in this namespace, unless they name another one.
    pub fn apply(&self, resources: &str) {
        self.kubectl(&["apply", "--server-side", "-f", "-"], resources);
    }

    pub fn kubectl(&self, arguments: &[&str], input: &str) -> String {
        let arguments = [&["-n", &self.namespace], arguments].concat();
        self.mesh.kubectl(&arguments, input).unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Has a Service lead to these addresses.
    pub fn endpoints(&self, service: &str, port_name: &str, port: u16, addresses: &[Ipv4Addr]) {
        self.apply(&endpoint_slice(&self.namespace, service, Some(port_name), port, addresses).to_string());
    }
}

/// Runs `mesh-authz` with `input` as its standard input, and returns what it prints.
pub fn mesh_authz(arguments: &[&str], input: &str) -> String {
    let program = env::var_os("MESH_AUTHZ").expect("MESH_AUTHZ is not set: run `make istio`");
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "mesh-authz {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The status of a request. 0: the connection ended without an answer.
pub fn status(client: &Client, request: &Request) -> u16 {
    client.send(request).map_or(0, |response| response.status)
}

/// Checks again and again until something has happened, and a moment longer.
pub fn always_until(what: &str, has_happened: impl Fn() -> bool, check: impl Fn()) {
    let begin = Instant::now();
    let mut more = 10;
    while more > 0 {
        check();
        if has_happened() {
            more -= 1;
        }
        assert!(begin.elapsed() < PATIENCE, "{what}: it has not happened");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Asks until the answer is the wanted one.
pub fn eventually<T: PartialEq + Debug>(what: &str, wanted: &T, ask: impl Fn() -> T) {
    let begin = Instant::now();
    loop {
        let answer = ask();
        if answer == *wanted {
            return;
        }
        assert!(begin.elapsed() < PATIENCE, "{what}: {answer:?}, and not {wanted:?}");
        thread::sleep(Duration::from_millis(50));
    }
}
