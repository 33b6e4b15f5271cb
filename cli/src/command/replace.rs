//! Files that others read while they are replaced.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

/// Gives a file this content, all at once: whoever opens it finds the old content or the new, and never a part, even after
/// a power failure. Who may read it stays as it was.
pub fn file(path: &Path, content: &str) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let (draft, mut file) = draft(folder, path)?;
    let written = (|| {
        match fs::metadata(path) {
            Ok(old) => file.set_permissions(old.permissions())?,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        file.write_all(content.as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, path)
    })();
    if written.is_err() {
        // What went wrong is the answer; that the draft stays, if it does, is not.
        let _ = fs::remove_file(&draft);
        return written;
    }
    // The name in the folder has to last as well.
    File::open(folder)?.sync_all()
}

/// A new file beside the one that is to be replaced: only within a file system is renaming done at once.
fn draft(folder: &Path, path: &Path) -> io::Result<(PathBuf, File)> {
    const MOST_LEFTOVERS: u32 = 100;
    let name = path.file_name().ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "names no file"))?;
    for number in 0..MOST_LEFTOVERS {
        let draft = folder.join(format!(".{}.{}-{number}", name.display(), std::process::id()));
        match OpenOptions::new().write(true).create_new(true).open(&draft) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            file => return Ok((draft, file?)),
        }
    }
    Err(io::Error::new(ErrorKind::AlreadyExists, "the folder is full of drafts that were left behind"))
}
