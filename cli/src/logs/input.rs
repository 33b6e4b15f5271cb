//! Log files, read in chunks of whole lines: from files, from standard input, compressed with gzip or not.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use indicatif::ProgressBar;

use crate::load::{self, InputError};

/// Lines are read together until they have so many bytes.
const CHUNK: usize = 1 << 20;

/// A line with more bytes is not kept. Envoy's longest has all headers of a request, of which it takes 8 MiB at most.
const LONGEST_LINE: usize = 1 << 24;

/// Some lines of a file.
#[derive(Debug)]
pub struct Chunk {
    /// The number of the file.
    pub file: usize,
    /// The number of the first line, counted from 1.
    pub first_line: u64,
    /// The lines, each with its line feed; the last of a file can have none.
    pub text: Vec<u8>,
    /// Whether this is the beginning of a line that is too long. The rest of that line is left out.
    pub is_too_long: bool,
}

/// Reads files one after the other.
pub struct Input<'f> {
    files: &'f [PathBuf],
    next: usize,
    current: Option<Current>,
    progress: ProgressBar,
}

struct Current {
    reader: Box<dyn BufRead + Send>,
    is_compressed: bool,
    line: u64,
    /// The beginning of a line, of which the end is not read yet.
    rest: Vec<u8>,
    is_skipping: bool,
}

impl<'f> Input<'f> {
    /// Reads these files. The progress is in bytes of the files.
    #[must_use]
    pub fn new(files: &'f [PathBuf], progress: ProgressBar) -> Self {
        Self { files, next: 0, current: None, progress }
    }

    /// The size of all files, if it is known.
    #[must_use]
    pub fn size(files: &[PathBuf]) -> Option<u64> {
        let sizes = files.iter().map(|file| {
            let metadata = std::fs::metadata(file).ok().filter(|metadata| metadata.is_file() && file != Path::new("-"));
            metadata.map(|metadata| metadata.len())
        });
        sizes.sum()
    }

    /// The next lines. `None`: there are no more.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn next_chunk(&mut self) -> Result<Option<Chunk>, InputError> {
        loop {
            let current = if let Some(current) = &mut self.current {
                current
            } else {
                let Some(file) = self.files.get(self.next) else { return Ok(None) };
                let error = |error: io::Error| InputError { file: file.clone(), message: error.to_string() };
                let (reader, is_compressed) = open(file, &self.progress).map_err(error)?;
                self.next = self.next.saturating_add(1);
                self.current.insert(Current { reader, is_compressed, line: 1, rest: Vec::new(), is_skipping: false })
            };
            let number = self.next.saturating_sub(1);
            let chunk = current.chunk(number).map_err(|error| InputError {
                file: self.files.get(number).cloned().unwrap_or_default(),
                message: current.explained(&error),
            })?;
            match chunk {
                Some(chunk) => return Ok(Some(chunk)),
                None => self.current = None,
            }
        }
    }
}

impl Current {
    /// What is wrong with the file.
    fn explained(&self, error: &io::Error) -> String {
        if !self.is_compressed {
            return error.to_string();
        }
        format!(
            "the gzip data is cut or damaged, somewhere after line {}: {error}; if it is still being written, wait; to replay what \
             can be read, write `zcat FILE` to standard input, and give `-`",
            self.line.saturating_sub(1)
        )
    }

    /// The next lines. `None`: the file ends.
    fn chunk(&mut self, file: usize) -> io::Result<Option<Chunk>> {
        let mut text = std::mem::take(&mut self.rest);
        let mut is_at_end = false;
        while text.len() < CHUNK && !is_at_end {
            let wanted = u64::try_from(CHUNK.saturating_sub(text.len())).unwrap_or(u64::MAX);
            is_at_end = (&mut self.reader).take(wanted).read_to_end(&mut text)? == 0;
            if self.is_skipping {
                match memchr::memchr(b'\n', &text) {
                    Some(end) => {
                        text.drain(..=end);
                        self.is_skipping = false;
                        self.line = self.line.saturating_add(1);
                    }
                    None => text.clear(),
                }
            }
        }
        while !is_at_end && !text.contains(&b'\n') && text.len() < LONGEST_LINE {
            let wanted = u64::try_from(CHUNK).unwrap_or(u64::MAX);
            is_at_end = (&mut self.reader).take(wanted).read_to_end(&mut text)? == 0;
        }
        if text.is_empty() {
            return Ok(None);
        }
        let first_line = self.line;
        match memchr::memrchr(b'\n', &text) {
            _ if is_at_end => {}
            Some(end) => self.rest = text.split_off(end.saturating_add(1)),
            None => {
                self.is_skipping = true;
                text.truncate(CHUNK);
                return Ok(Some(Chunk { file, first_line, text, is_too_long: true }));
            }
        }
        let lines = memchr::memchr_iter(b'\n', &text).count();
        self.line = self.line.saturating_add(u64::try_from(lines).unwrap_or(u64::MAX));
        Ok(Some(Chunk { file, first_line, text, is_too_long: false }))
    }
}

fn open(file: &Path, progress: &ProgressBar) -> io::Result<(Box<dyn BufRead + Send>, bool)> {
    const COMPRESSED: [(&[u8], &str, &str); 3] =
        [(b"\x28\xb5\x2f\xfd", "zstd", "zstdcat"), (b"BZh", "bzip2", "bzcat"), (b"\xfd7zXZ", "xz", "xzcat")];
    let raw: Box<dyn Read + Send> = if file == Path::new("-") {
        Box::new(io::stdin())
    } else {
        if let Some(why) = load::not_readable(file) {
            return Err(io::Error::other(why));
        }
        Box::new(progress.wrap_read(File::open(file)?))
    };
    let mut reader = BufReader::with_capacity(CHUNK, raw);
    // A pipe can give its first bytes one by one.
    let beginning = reader.fill_buf()?;
    if beginning.starts_with(b"\x1f\x8b") {
        return Ok((Box::new(BufReader::with_capacity(CHUNK, MultiGzDecoder::new(reader))), true));
    }
    if let Some((_, name, command)) = COMPRESSED.iter().find(|(magic, ..)| beginning.starts_with(magic)) {
        let file = file.display();
        return Err(io::Error::other(format!(
            "is compressed with {name}: write `{command} {file}` to standard input, and give `-`"
        )));
    }
    Ok((Box::new(reader), false))
}

impl std::fmt::Debug for Input<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Input").field("files", &self.files).finish_non_exhaustive()
    }
}
