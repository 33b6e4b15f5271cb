//! Starts a real Envoy for a test, and ends it with the test.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    admin::Admin,
    process::{envoy_binary, spawn},
};

const LOG: &str = "envoy.log";
const ADMIN_ADDRESS: &str = "admin-address";

/// How long Envoy may take to become live, or to refuse its configuration.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// How Envoy is started.
#[derive(Clone, Debug)]
pub struct StartOptions {
    /// The files to write into Envoy's directory before it starts: names relative to the directory, and contents.
    pub files: Vec<(String, Vec<u8>)>,
    /// The argument `-l`: the log level.
    pub log_level: String,
    /// The argument `--component-log-level`, such as `wasm:debug,http:debug`.
    pub component_log_level: String,
    /// The number of worker threads.
    pub concurrency: u32,
    /// Further arguments for Envoy.
    pub extra_args: Vec<String>,
}

impl Default for StartOptions {
    fn default() -> Self {
        Self {
            files: Vec::new(),
            log_level: "info".into(),
            // At info, `main` prints a list of all extensions, which makes the other lines hard to find.
            component_log_level: "main:warning".into(),
            concurrency: 1,
            extra_args: Vec::new(),
        }
    }
}

impl StartOptions {
    /// The same options with one more file.
    #[must_use]
    pub fn file(mut self, name: &str, content: impl AsRef<[u8]>) -> Self {
        self.files.push((name.into(), content.as_ref().to_vec()));
        self
    }
}

/// A running Envoy. Dropping it kills the process and removes its directory.
///
/// It runs in its own directory, so relative file names in the bootstrap mean files in that directory. The name of a
/// watched file needs a directory to watch: `./lds.json`. Listeners should ask for port 0. [`Admin::address`] then
/// tells which port they got.
///
/// The methods of [`Admin`] ask the administration interface for what Envoy knows about itself: statistics, addresses,
/// and its configuration.
pub struct Envoy {
    process: Process,
    admin: Admin,
}

impl Envoy {
    /// Starts Envoy with a bootstrap, and waits until it is live. The administration listener is added to the
    /// bootstrap.
    pub fn start(bootstrap: &Value) -> Result<Self> {
        Self::start_with(bootstrap, &StartOptions::default())
    }

    /// Like [`Envoy::start`], with options.
    pub fn start_with(bootstrap: &Value, options: &StartOptions) -> Result<Self> {
        let process = Process::start(bootstrap, options)?;
        match process.wait_for_start()? {
            Start::Live(admin) => Ok(Self { process, admin: *admin }),
            Start::Refused(status) => bail!("Envoy refused to start ({status}):\n{}", tail(&process.log())),
        }
    }

    /// Starts Envoy with a bootstrap that it must refuse, and returns its log.
    pub fn start_refused(bootstrap: &Value) -> Result<String> {
        Self::start_refused_with(bootstrap, &StartOptions::default())
    }

    /// Like [`Envoy::start_refused`], with options.
    pub fn start_refused_with(bootstrap: &Value, options: &StartOptions) -> Result<String> {
        let process = Process::start(bootstrap, options)?;
        match process.wait_for_start()? {
            Start::Refused(status) if !status.success() => Ok(process.log()),
            Start::Refused(_) => bail!("Envoy ended as if all were well:\n{}", tail(&process.log())),
            Start::Live(_) => bail!("Envoy accepted a bootstrap that it should refuse:\n{}", tail(&process.log())),
        }
    }

    /// The directory that Envoy runs in.
    pub fn dir(&self) -> &Path {
        self.process.dir.path()
    }

    /// The id of the process.
    pub fn pid(&self) -> u32 {
        self.process.child().id()
    }

    /// The CPU time that Envoy's threads have used so far, in user and in kernel space, as the kernel's scheduler
    /// counts it (on Linux). For a running thread, the time after its last tick is not counted, so let Envoy go idle
    /// first.
    pub fn cpu_time(&self) -> Result<Duration> {
        let tasks = PathBuf::from(format!("/proc/{}/task", self.pid()));
        let mut total = Duration::ZERO;
        for task in fs::read_dir(&tasks).with_context(|| format!("listing {}", tasks.display()))? {
            // It is no error if a thread has just ended.
            let Ok(line) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
            let on_cpu = line.split(' ').next().unwrap_or_default();
            total += Duration::from_nanos(on_cpu.parse().with_context(|| format!("schedstat of Envoy: {line}"))?);
        }
        Ok(total)
    }

    /// The memory that Envoy uses, in KiB (on Linux). It includes the VMs, which Envoy's own statistics do not count.
    pub fn memory(&self) -> Result<u32> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("the memory of Envoy")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }

    /// Whether the process still runs. Some tests want to know whether Envoy has crashed.
    pub fn is_running(&self) -> bool {
        matches!(self.process.exit_status(), Ok(None))
    }

    /// Everything that Envoy has logged so far, including access logs on standard output.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// The current end of the log, as a mark for [`Envoy::log_since`].
    pub fn log_mark(&self) -> usize {
        self.process.log_bytes().len()
    }

    /// What Envoy has logged since the mark.
    pub fn log_since(&self, mark: usize) -> String {
        let log = self.process.log_bytes();
        String::from_utf8_lossy(log.get(mark..).unwrap_or_default()).into_owned()
    }

    /// Waits until the log contains `text`.
    pub fn wait_for_log(&self, text: &str, timeout: Duration) -> Result<()> {
        self.wait_for_log_since(0, text, timeout)
    }

    /// Waits until the log contains `text` after the mark.
    pub fn wait_for_log_since(&self, mark: usize, text: &str, timeout: Duration) -> Result<()> {
        let found = wait_until(timeout, || Ok(self.log_since(mark).contains(text)))?;
        ensure!(found, "Envoy has not logged {text:?} after {timeout:?}:\n{}", tail(&self.log_since(mark)));
        Ok(())
    }

    /// Waits until a statistic satisfies `wanted`, and returns its value. A statistic that does not exist yet counts as
    /// 0.
    pub fn wait_for_stat(&self, name: &str, wanted: impl Fn(u64) -> bool, timeout: Duration) -> Result<u64> {
        let mut value = 0;
        let satisfied = wait_until(timeout, || {
            value = self.admin.stats()?.get(name).copied().unwrap_or(0);
            Ok(wanted(value))
        })?;
        ensure!(satisfied, "the statistic {name} is still {value} after {timeout:?}:\n{}", tail(&self.log()));
        Ok(value)
    }

    /// Replaces a file in Envoy's directory by a rename. Envoy watches for renames.
    pub fn write_file_atomically(&self, name: &str, content: impl AsRef<[u8]>) -> Result<PathBuf> {
        let path = self.dir().join(name);
        let mut draft = tempfile::Builder::new().prefix(".draft").tempfile_in(self.dir())?;
        std::io::Write::write_all(&mut draft, content.as_ref())?;
        draft.persist(&path)?;
        Ok(path)
    }
}

impl std::ops::Deref for Envoy {
    type Target = Admin;

    fn deref(&self) -> &Admin {
        &self.admin
    }
}

/// The process, its directory and its log. It may never become live.
struct Process {
    child: Mutex<Child>,
    dir: TempDir,
}

enum Start {
    Live(Box<Admin>),
    Refused(ExitStatus),
}

impl Process {
    fn start(bootstrap: &Value, options: &StartOptions) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("testbed-").tempdir()?;
        for (name, content) in &options.files {
            let path = dir.path().join(name);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
        }
        let mut bootstrap = bootstrap.clone();
        bootstrap["admin"] = json!({
            "address": { "socket_address": { "address": "127.0.0.1", "port_value": 0 } }
        });
        fs::write(dir.path().join("bootstrap.json"), serde_json::to_vec_pretty(&bootstrap)?)?;
        let log = File::create(dir.path().join(LOG))?;
        let mut command = Command::new(envoy_binary()?);
        command
            .current_dir(dir.path())
            .args(["-c", "bootstrap.json", "--disable-hot-restart"])
            .args(["--admin-address-path", ADMIN_ADDRESS])
            // Envoy buffers access logs, by default for ten seconds.
            .args(["--file-flush-interval-msec", "50"])
            .args(["--concurrency", &options.concurrency.to_string()])
            .args(["-l", &options.log_level])
            .args(["--component-log-level", &options.component_log_level]);
        command.args(&options.extra_args).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = Mutex::new(spawn(command)?);
        Ok(Self { child, dir })
    }

    fn wait_for_start(&self) -> Result<Start> {
        let mut outcome = None;
        wait_until(START_DEADLINE, || {
            outcome = match self.exit_status()? {
                Some(status) => Some(Start::Refused(status)),
                None => self.live_admin().map(|admin| Start::Live(Box::new(admin))),
            };
            Ok(outcome.is_some())
        })?;
        outcome.with_context(|| format!("Envoy is not live after {START_DEADLINE:?}:\n{}", tail(&self.log())))
    }

    /// The administration interface, once it answers that Envoy is live.
    fn live_admin(&self) -> Option<Admin> {
        let address = fs::read_to_string(self.dir.path().join(ADMIN_ADDRESS)).ok()?;
        let admin = Admin::new(address.trim().parse().ok()?);
        admin.is_live().then_some(admin)
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn exit_status(&self) -> Result<Option<ExitStatus>> {
        Ok(self.child().try_wait()?)
    }

    fn log(&self) -> String {
        String::from_utf8_lossy(&self.log_bytes()).into_owned()
    }

    fn log_bytes(&self) -> Vec<u8> {
        fs::read(self.dir.path().join(LOG)).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let mut child = self.child();
        // Both calls fail only if the process has already ended.
        let _ = child.kill();
        let _ = child.wait();
    }
}

pub(crate) fn wait_until(timeout: Duration, mut condition: impl FnMut() -> Result<bool>) -> Result<bool> {
    let deadline = Instant::now() + timeout;
    loop {
        if condition()? {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// The end of a log, for an error message.
fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}
