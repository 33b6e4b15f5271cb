//! A bridge, and a network namespace for each pod.

use std::{
    fs::File,
    io,
    net::Ipv4Addr,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU16, Ordering},
    thread,
};

use anyhow::{Context as _, Result, bail};

use crate::process::run;

/// The address of the bridge: the node, for pods.
pub(crate) const NODE: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 1);

const BRIDGE: &str = "mesh0";

/// The network that pods are in.
#[derive(Debug)]
pub(crate) struct Network {
    redirect: PathBuf,
    next: AtomicU16,
}

/// The network namespace of a pod. Dropping it removes the namespace.
#[derive(Debug)]
pub(crate) struct PodNetwork {
    name: String,
    ip: Ipv4Addr,
}

impl Network {
    /// Makes the bridge. `redirect` is the program that redirects connections.
    pub(crate) fn new(redirect: &Path) -> Result<Self> {
        if std::env::var("MESH_ISOLATED").as_deref() != Ok("yes") {
            bail!("a mesh needs a network of its own; run it by `make istio`, or by tests/istio/isolated.sh");
        }
        ip(&format!("link add {BRIDGE} type bridge"))?;
        ip(&format!("addr add {NODE}/16 dev {BRIDGE}"))?;
        ip(&format!("link set {BRIDGE} up"))?;
        Ok(Self { redirect: redirect.to_owned(), next: AtomicU16::new(2) })
    }

    /// Makes the namespace of a pod. With `intercepted`, connections to it go to its sidecar, and so do the connections
    /// of its application, which then has a namespace of its own behind the sidecar's.
    pub(crate) fn pod(&self, intercepted: bool) -> Result<PodNetwork> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let [high, low] = number.to_be_bytes();
        let pod = PodNetwork { name: format!("pod{number}"), ip: Ipv4Addr::new(10, 244, high, low) };
        let PodNetwork { name, ip: address } = &pod;
        ip(&format!("netns add {name}"))?;
        ip(&format!("link add {name} type veth peer name eth0 netns {name}"))?;
        ip(&format!("link set {name} master {BRIDGE} up"))?;
        ip(&format!("-n {name} link set lo up"))?;
        ip(&format!("-n {name} addr add {address}/16 dev eth0"))?;
        ip(&format!("-n {name} link set eth0 up"))?;
        ip(&format!("-n {name} route add default via {NODE}"))?;
        if intercepted {
            let application = pod.application();
            ip(&format!("netns add {application}"))?;
            ip(&format!("-n {name} link add application type veth peer name eth0 netns {application}"))?;
            ip(&format!("-n {name} addr add 169.254.1.1/30 dev application"))?;
            ip(&format!("-n {name} link set application up"))?;
            ip(&format!("-n {application} link set lo up"))?;
            ip(&format!("-n {application} addr add 169.254.1.2/30 dev eth0"))?;
            ip(&format!("-n {application} link set eth0 up"))?;
            ip(&format!("-n {application} route add default via 169.254.1.1"))?;
            for (direction, interface) in [("inbound", "eth0"), ("outbound", "application")] {
                run(pod.command(&self.redirect).args([direction, interface]), "")?;
            }
        }
        Ok(pod)
    }
}

impl PodNetwork {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn ip(&self) -> Ipv4Addr {
        self.ip
    }

    /// The namespace of the application, whose connections go to the sidecar.
    pub(crate) fn application(&self) -> String {
        format!("{}-app", self.name)
    }

    /// A command that runs in the pod's namespace.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Does something in the pod's namespace: sockets that it makes are the pod's.
    pub(crate) fn inside<T: Send>(&self, act: impl FnOnce() -> T + Send) -> Result<T> {
        inside(&self.name, act)
    }
}

impl Drop for PodNetwork {
    fn drop(&mut self) {
        // The second one exists only if the pod's connections are redirected.
        let _ = ip(&format!("netns del {}", self.name));
        let _ = ip(&format!("netns del {}", self.application()));
    }
}

/// Does something in the network namespace of this name, in a thread of its own.
pub(crate) fn inside<T: Send>(name: &str, act: impl FnOnce() -> T + Send) -> Result<T> {
    let namespace = File::open(Path::new("/run/netns").join(name)).with_context(|| format!("the network of {name}"))?;
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: it changes this thread only, whose descriptor is open.
            if unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } != 0 {
                return Err(io::Error::last_os_error()).context("entering a network namespace");
            }
            Ok(act())
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn ip(arguments: &str) -> Result<()> {
    run(Command::new("ip").args(arguments.split(' ')), "").map(drop)
}
