//! `--watch`: runs a subcommand again whenever a file changes.

use std::collections::BTreeSet;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use notify::{EventKind, RecursiveMode, Watcher as _};

use super::{Failure, note};

/// How long nothing must change before a subcommand runs again: editors write a file in several steps.
const QUIET: Duration = Duration::from_millis(100);

/// The option to watch files.
#[derive(Debug, clap::Args)]
pub struct WatchOption {
    /// Run again whenever a file changes, until Ctrl-C.
    #[arg(long)]
    pub watch: bool,
}

/// Runs `once` now, and whenever something changes in the files and folders that `places` returns. Does not return, unless
/// nothing can be watched.
pub fn forever(places: impl Fn() -> Vec<PathBuf>, mut once: impl FnMut()) -> Failure {
    if places().iter().any(|place| place.as_os_str() == "-") {
        return Failure::unusable("standard input cannot be watched: name files or folders");
    }
    loop {
        let (sender, changes) = mpsc::channel();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| counts(&event)) {
                let _ended = sender.send(());
            }
        });
        let mut watcher = match watcher {
            Ok(watcher) => watcher,
            Err(error) => return Failure::Unusable(format!("files cannot be watched: {error}")),
        };
        // The watch begins first, so that no change is missed.
        for (place, mode) in watched(&places()) {
            if let Err(error) = watcher.watch(&place, mode) {
                return Failure::Unusable(format!("{}: cannot be watched: {error}", place.display()));
            }
        }
        if std::io::stdout().is_terminal() {
            let _closed_pipe = write!(std::io::stdout(), "\x1b[2J\x1b[H");
        }
        once();
        note("waiting for a change; Ctrl-C ends");
        if !wait(&changes) {
            return Failure::unusable("files are no longer watched");
        }
    }
}

/// Whether a file with content has changed. Hidden files are not read.
fn counts(event: &notify::Event) -> bool {
    let is_hidden = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        name.starts_with(b".") || path.components().any(|part| part.as_os_str() == ".git")
    };
    !matches!(event.kind, EventKind::Access(_)) && !event.paths.iter().all(is_hidden)
}

/// Waits for a change, and then until nothing changes any more. Returns whether there is one.
fn wait(changes: &Receiver<()>) -> bool {
    if changes.recv().is_err() {
        return false;
    }
    loop {
        match changes.recv_timeout(QUIET) {
            Ok(()) => {}
            Err(RecvTimeoutError::Timeout) => return true,
            Err(RecvTimeoutError::Disconnected) => return false,
        }
    }
}

/// What to watch: a folder with all that is in it, and for a file its folder, because editors replace files. For a pattern,
/// this is the folder in which it begins.
fn watched(places: &[PathBuf]) -> BTreeSet<(PathBuf, RecursiveMode)> {
    let folder_of = |place: &Path| {
        let folder = place.ancestors().skip(1).find(|folder| folder.is_dir());
        folder.map_or_else(|| PathBuf::from("."), Path::to_owned)
    };
    let of = |place: &PathBuf| match place.is_dir() {
        true => (place.clone(), RecursiveMode::Recursive),
        false if place.exists() => (folder_of(place), RecursiveMode::NonRecursive),
        false => (folder_of(place), RecursiveMode::Recursive),
    };
    places.iter().map(of).collect()
}
