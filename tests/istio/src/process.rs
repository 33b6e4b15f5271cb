//! Programs that run until they are dropped.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

/// How long a program may take until it does its work.
pub(crate) const START_DEADLINE: Duration = Duration::from_secs(120);

/// A running program, with the processes that it started. Dropping it ends all of them.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program. Its output goes to `NAME.log` in `directory`, behind what is already there.
    pub(crate) fn start(name: &str, directory: &Path, mut command: Command) -> Result<Self> {
        let log = directory.join(format!("{name}.log"));
        let output = File::options().create(true).append(true).open(&log).context("a log")?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).process_group(0);
        let child = testbed::spawn(command)?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// Waits until `ready` says so. An error has the end of the program's log.
    pub(crate) fn wait_until(&mut self, ready: impl Fn() -> bool) -> Result<()> {
        self.wait_until_within(START_DEADLINE, ready)
    }

    /// Like [`Process::wait_until`], with another deadline.
    pub(crate) fn wait_until_within(&mut self, deadline: Duration, ready: impl Fn() -> bool) -> Result<()> {
        let begin = Instant::now();
        while !ready() {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended ({status}):\n{}", self.name, self.end_of_log(30));
            }
            if begin.elapsed() > deadline {
                bail!("{} is not ready after {deadline:?}:\n{}", self.name, self.end_of_log(30));
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// What the program has written so far.
    pub(crate) fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The last lines that the program has written, without those of an access log, of waiting and of decisions.
    pub(crate) fn end_of_log(&self, count: usize) -> String {
        let log = self.log();
        let lines: Vec<_> = log
            .lines()
            .filter(|line| {
                !line.contains(" HTTP/1.1\" ") && !line.contains("NOT ready") && !line.contains("\"decision\":")
            })
            .collect();
        lines.get(lines.len().saturating_sub(count)..).unwrap_or_default().join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Ok(group) = i32::try_from(self.child.id()) {
            // SAFETY: kill has no effect on memory. The group is that of a child that was not waited for, so its
            // number belongs to nobody else.
            unsafe { libc::kill(-group, libc::SIGKILL) };
        }
        // The process was killed, so this ends.
        let _ = self.child.wait();
    }
}

/// Runs a program to its end, and returns what it prints. `input` is its standard input.
pub(crate) fn run(command: &mut Command, input: &str) -> Result<String> {
    let shown = |command: &Command| {
        let words = [command.get_program()].into_iter().chain(command.get_args());
        words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
    };
    let mut stdin = tempfile::tempfile()?;
    io::Write::write_all(&mut stdin, input.as_bytes())?;
    io::Seek::rewind(&mut stdin)?;
    let output = command.stdin(stdin).output().with_context(|| shown(command))?;
    if !output.status.success() {
        bail!("{} ({}):\n{}", shown(command), output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
