//! Finds the Envoy to run, and runs it so that no process is left behind.

use std::{
    io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        mpsc::{Sender, channel},
    },
    thread,
};

use anyhow::{Context, Result, anyhow, ensure};

/// The path of the Envoy that `envoy/find-envoy.sh` names. The script runs only once.
pub fn envoy_binary() -> Result<&'static Path> {
    static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    BINARY
        .get_or_init(|| find_envoy().map_err(|error| format!("{error:#}")))
        .as_deref()
        .map_err(|message| anyhow!("{message}"))
}

fn find_envoy() -> Result<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../envoy/find-envoy.sh");
    let output =
        Command::new(&script).stdin(Stdio::null()).output().with_context(|| format!("running {}", script.display()))?;
    ensure!(output.status.success(), "no Envoy to test with: {}", String::from_utf8_lossy(&output.stderr).trim());
    let path = String::from_utf8(output.stdout).context("the path of Envoy")?;
    Ok(PathBuf::from(path.trim_end()))
}

type Answer = Sender<io::Result<Child>>;

/// Starts a process that ends with this one at the latest (on Linux). So a test that is killed leaves no Envoy behind.
/// A test that keeps an Envoy in a static, which is never dropped, leaves none behind either.
///
/// The kernel ends a child when the thread that started it ends, and the threads of tests are short-lived. So a single
/// thread starts every child. This thread lives as long as the process.
pub fn spawn(command: Command) -> Result<Child> {
    static SPAWNER: OnceLock<Sender<(Command, Answer)>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, receiver) = channel::<(Command, Answer)>();
        thread::spawn(move || {
            for (mut command, answer) in receiver {
                die_with_parent(&mut command);
                // The caller waits for the answer below.
                let _ = answer.send(command.spawn());
            }
        });
        sender
    });
    let program = command.get_program().to_owned();
    let (answer, child) = channel();
    spawner.send((command, answer)).map_err(|_| anyhow!("the thread that starts processes is gone"))?;
    child
        .recv()
        .context("the thread that starts processes is gone")?
        .with_context(|| format!("starting {}", program.display()))
}

#[cfg(target_os = "linux")]
fn die_with_parent(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    // SAFETY: between fork and exec, only async-signal-safe calls are allowed. prctl is one, and nothing is allocated.
    unsafe {
        command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        });
    }
}

#[cfg(not(target_os = "linux"))]
fn die_with_parent(_: &mut Command) {}
