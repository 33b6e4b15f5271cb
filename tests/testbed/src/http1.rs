//! HTTP/1.1 over an open connection. Requests are bytes. Responses are framed as in RFC 9112.

use std::io::{ErrorKind, Read, Write};

use anyhow::{Context, Result, bail, ensure};

use crate::{Request, Response, transport::Stream};

/// A connection that stays open between requests.
pub struct Connection {
    stream: Stream,
    /// The bytes that have been read and not yet used.
    buffer: Vec<u8>,
    open: bool,
}

impl Connection {
    pub(crate) fn new(stream: Stream) -> Self {
        Self { stream, buffer: Vec::new(), open: true }
    }

    /// Sends a request and waits for its response.
    ///
    /// After a 101, or after a CONNECT that was accepted, the connection is a tunnel. Then continue with
    /// [`Connection::write`] and [`Connection::read_exact`].
    pub fn send(&mut self, request: &Request) -> Result<Response> {
        self.exchange(&request.to_bytes(), &request.method)
    }

    /// Sends bytes that need not be HTTP, and reads a response. The first word of the bytes is taken as the method.
    pub fn send_raw(&mut self, bytes: &[u8]) -> Result<Response> {
        let method = bytes.split(|&byte| byte == b' ').next().unwrap_or_default();
        self.exchange(bytes, method)
    }

    /// Whether the connection can take another request, according to the last response.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Sends bytes without waiting for a response.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes)?;
        Ok(self.stream.flush()?)
    }

    /// Reads exactly this many bytes.
    pub fn read_exact(&mut self, length: usize) -> Result<Vec<u8>> {
        while self.buffer.len() < length {
            ensure!(self.fill()?, "the connection ended within the data");
        }
        Ok(self.buffer.drain(..length).collect())
    }

    /// Closes the client's half of the connection.
    pub fn finish(&mut self) -> Result<()> {
        self.stream.finish()
    }

    /// Reads until the connection ends, in whatever way. Fails if it stays open.
    pub fn read_to_end(&mut self) -> Result<Vec<u8>> {
        loop {
            match self.fill() {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => match error.downcast_ref::<std::io::Error>().map(std::io::Error::kind) {
                    Some(ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe) => break,
                    _ => return Err(error.context("the connection stays open")),
                },
            }
        }
        Ok(std::mem::take(&mut self.buffer))
    }

    /// Reads the response to a request with this method. The method decides whether there is a body.
    pub fn read_response(&mut self, method: &[u8]) -> Result<Response> {
        let mut response = self.read_head()?;
        while response.status < 200 && response.status != 101 {
            response = self.read_head()?;
        }
        match body_framing(&response, method)? {
            Framing::None => {}
            Framing::Length(length) => response.body = self.read_exact(length)?,
            Framing::Chunked => self.read_chunks(&mut response)?,
            Framing::UntilClose => {
                while self.fill()? {}
                response.body = std::mem::take(&mut self.buffer);
                self.open = false;
            }
        }
        if response.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
            self.open = false;
        }
        Ok(response)
    }

    /// Sends bytes and reads a response. A server may answer and close the connection before it has read everything. So
    /// the response is read even if a write has failed.
    fn exchange(&mut self, bytes: &[u8], method: &[u8]) -> Result<Response> {
        let written = self.write(bytes);
        let response = self.read_response(method);
        if response.is_err() {
            self.open = false;
            written.context("sending the request")?;
        }
        response
    }

    /// Reads more bytes into the buffer. Returns `false` at the end of the stream.
    fn fill(&mut self) -> Result<bool> {
        let mut chunk = [0; 16 * 1024];
        let length = self.stream.read(&mut chunk).context("reading the response")?;
        self.buffer.extend_from_slice(&chunk[..length]);
        Ok(length > 0)
    }

    fn read_head(&mut self) -> Result<Response> {
        loop {
            let mut headers = [httparse::EMPTY_HEADER; 128];
            let mut head = httparse::Response::new(&mut headers);
            let parsed = head.parse(&self.buffer).with_context(|| {
                let start = &self.buffer[..self.buffer.len().min(200)];
                format!("not an HTTP response: {}", start.escape_ascii())
            })?;
            if let httparse::Status::Complete(length) = parsed {
                let response = Response {
                    status: head.code.context("a response without a status")?,
                    headers: owned(head.headers),
                    ..Response::default()
                };
                self.buffer.drain(..length);
                return Ok(response);
            }
            ensure!(self.fill()?, "the connection ended without a response, after {} bytes", self.buffer.len());
        }
    }

    fn read_chunks(&mut self, response: &mut Response) -> Result<()> {
        loop {
            let line = self.read_line()?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).with_context(|| format!("a chunk of size {line:?}"))?;
            if size == 0 {
                break;
            }
            response.body.extend(self.read_exact(size)?);
            ensure!(self.read_line()?.is_empty(), "a chunk without an end");
        }
        loop {
            let line = self.read_line()?;
            let Some((name, value)) = line.split_once(':') else {
                return Ok(());
            };
            response.trailers.push((name.to_owned(), value.trim().as_bytes().to_vec()));
        }
    }

    fn read_line(&mut self) -> Result<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let line = self.buffer.drain(..end + 2).take(end).collect();
                return Ok(String::from_utf8(line)?);
            }
            ensure!(self.fill()?, "the connection ended within a line");
        }
    }
}

enum Framing {
    None,
    Length(usize),
    Chunked,
    UntilClose,
}

/// How the body of a response is framed: RFC 9112, section 6.3.
fn body_framing(response: &Response, method: &[u8]) -> Result<Framing> {
    let tunnel = method == b"CONNECT" && (200..300).contains(&response.status);
    if method == b"HEAD" || tunnel || matches!(response.status, 101 | 204 | 304) {
        return Ok(Framing::None);
    }
    if let Some(coding) = response.header("transfer-encoding") {
        if !coding.eq_ignore_ascii_case("chunked") {
            bail!("a response with the transfer coding {coding:?}");
        }
        return Ok(Framing::Chunked);
    }
    match response.header("content-length") {
        Some(length) => Ok(Framing::Length(length.parse().context("content-length")?)),
        None => Ok(Framing::UntilClose),
    }
}

fn owned(headers: &[httparse::Header<'_>]) -> Vec<(String, Vec<u8>)> {
    headers.iter().map(|header| (header.name.to_owned(), header.value.to_vec())).collect()
}
