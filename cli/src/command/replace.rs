//! Replaces files that other programs may read at the same time.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

/// Gives a file this content in one step. A program that opens the file finds the old content or the new, never a part,
/// even after a power failure. The permissions of an existing file stay the same.
pub fn file(path: &Path, content: &str) -> io::Result<()> {
    // A link stays a link: programs read the file behind it.
    let behind = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let path = behind.as_path();
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
        // Report the first error only, even if the draft cannot be removed.
        let _ = fs::remove_file(&draft);
        return written;
    }
    // The folder's entry for the file has to reach the disk too.
    File::open(folder)?.sync_all()
}

/// Creates a new file in the folder of the file to be replaced, because a rename is atomic only within one file system.
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
