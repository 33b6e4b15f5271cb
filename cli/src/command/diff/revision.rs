//! The policies of a revision of a Git repository.

use std::path::{Component, Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::super::Failure;
use crate::load::{self, Resources};

/// The files of a revision, in a folder that is removed in the end.
pub(super) struct Revision {
    name: String,
    folder: TempDir,
    /// The path in the folder.
    path: PathBuf,
}

impl Revision {
    /// Fetches a path from a revision. A path that the revision does not have has no policies.
    pub fn of(path: &Path, revision: &str) -> Result<Self, Failure> {
        if path == Path::new("-") {
            return Err(Failure::unusable("with --against, the new policies cannot be standard input"));
        }
        // What is a pattern now could be other files in the revision.
        if !path.exists() {
            let path = path.display();
            return Err(Failure::Unusable(format!("with --against, name a file or a folder: there is no `{path}`")));
        }
        if revision.starts_with('-') {
            return Err(Failure::unusable("a revision does not begin with `-`"));
        }
        let around = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new("")) };
        let around = if around == Path::new("") { Path::new(".") } else { around };
        let git = |arguments: &[&str]| git(around, arguments);
        let prefix = text(&git(&["rev-parse", "--show-prefix"])?);
        let prefix = prefix.trim_end_matches('\n');
        let named = match path.file_name() {
            Some(name) if !path.is_dir() => format!("{prefix}{}", name.to_string_lossy()),
            _ => prefix.to_owned(),
        };
        let commit = text(&git(&["rev-parse", "--verify", "--end-of-options", &format!("{revision}^{{commit}}")])?);
        let commit = commit.trim_end().to_owned();
        let folder = TempDir::with_prefix("mesh-authz-").map_err(Failure::unusable)?;
        let listed = git(&["ls-tree", "-r", "-z", "--full-name", "--full-tree", &commit])?;
        let named = named.trim_end_matches('/').to_owned();
        let is_wanted = |name: &str| named.is_empty() || name == named || name.starts_with(&format!("{named}/"));
        let listed = text(&listed);
        let entries = listed.split('\0').filter_map(|line| line.split_once('\t'));
        for (about, name) in entries.filter(|(_, name)| is_wanted(name)) {
            let inside = Path::new(name);
            if about.starts_with("120000") {
                return Err(Failure::Unusable(format!(
                    "--against: {name} is a symbolic link in {revision}, and only files of the revision are read"
                )));
            }
            if !about.starts_with("100") || !(load::can_have_resources(inside) || name == named) {
                continue;
            }
            if inside.components().any(|part| !matches!(part, Component::Normal(_))) {
                continue;
            }
            let to = folder.path().join(inside);
            std::fs::create_dir_all(to.parent().unwrap_or(folder.path())).map_err(Failure::unusable)?;
            let content = git(&["cat-file", "blob", &format!("{commit}:{name}")])?;
            std::fs::write(&to, content).map_err(Failure::unusable)?;
        }
        let path = folder.path().join(&named);
        Ok(Self { name: revision.to_owned(), folder, path })
    }

    /// The policies of the revision.
    pub fn resources(&self) -> Result<Resources, Failure> {
        if !self.path.exists() {
            return Ok(Resources::default());
        }
        super::valid(Resources::read(&[&self.path])?)
    }

    /// A text with `REVISION:PATH` in place of the path in the folder.
    pub fn named(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.folder.path().display()), &format!("{}:", self.name))
    }
}

fn git(folder: &Path, arguments: &[&str]) -> Result<Vec<u8>, Failure> {
    let output = Command::new("git").arg("-C").arg(folder).args(arguments).output();
    let output =
        output.map_err(|error| Failure::Unusable(format!("--against needs Git, which cannot be run: {error}")))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let message = String::from_utf8_lossy(&output.stderr);
    Err(Failure::Unusable(format!("--against: git {}: {}", arguments.join(" "), message.trim_end())))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
