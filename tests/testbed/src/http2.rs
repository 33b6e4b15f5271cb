//! HTTP/2 over an open connection, one request at a time, with headers as bytes.
//!
//! The protocol (RFC 9113, RFC 7541) is written out here, because libraries check what they send, and a test needs a
//! `:path` with any byte in it. Headers are sent as literals, without indexing and without Huffman coding. So the bytes
//! on the wire are the bytes of the test.

use std::io::{ErrorKind, Read, Write};

use anyhow::{Context, Result, anyhow, bail, ensure};
use loona_hpack::Decoder;

use crate::{Http2Request, Response, transport::Stream};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The largest frame that every peer accepts.
const MAX_FRAME: usize = 16_384;
/// The largest window for request bodies that every peer accepts.
const INITIAL_WINDOW: usize = 65_535;

/// Frame types of RFC 9113, section 6.
mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Frame flags. ACK and `END_STREAM` are the same bit in different frames.
mod flag {
    pub const ACK: u8 = 1;
    pub const END_STREAM: u8 = 1;
    pub const END_HEADERS: u8 = 4;
    pub const PADDED: u8 = 8;
    pub const PRIORITY: u8 = 32;
}

/// An HTTP/2 connection that stays open between requests.
pub struct Http2Connection {
    stream: Stream,
    decoder: Decoder<'static>,
    next_id: u32,
    extended_connect: bool,
    /// The number of body bytes that may still be sent over this connection.
    window: usize,
}

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Http2Connection {
    /// Opens the connection by an exchange of settings.
    pub(crate) fn new(mut stream: Stream) -> Result<Self> {
        // SETTINGS_ENABLE_PUSH is 0. SETTINGS_INITIAL_WINDOW_SIZE is the largest value, so that responses need no
        // window updates.
        let settings = [0, 2, 0, 0, 0, 0, 0, 4, 0x7f, 0xff, 0xff, 0xff];
        let mut opening = PREFACE.to_vec();
        opening.extend(frame(kind::SETTINGS, 0, 0, &settings));
        let largest = (0x7fff_ffff - INITIAL_WINDOW as u32).to_be_bytes();
        opening.extend(frame(kind::WINDOW_UPDATE, 0, 0, &largest));
        stream.write_all(&opening)?;
        stream.flush()?;
        let mut connection =
            Self { stream, decoder: Decoder::new(), next_id: 1, extended_connect: false, window: INITIAL_WINDOW };
        let first = connection.read_frame().context("waiting for the server's settings")?;
        ensure!(first.kind == kind::SETTINGS, "the server does not speak HTTP/2");
        connection.manage(&first)?;
        Ok(connection)
    }

    /// Whether the server accepts extended CONNECT (RFC 8441).
    pub fn allows_extended_connect(&self) -> bool {
        self.extended_connect
    }

    /// Sends a request and waits for its response. If the request leaves the stream open, it waits only for the
    /// headers.
    ///
    /// If the server resets the stream, the result is an error that names the code.
    pub fn send(&mut self, request: &Http2Request) -> Result<Response> {
        ensure!(
            request.body.len() <= self.window,
            "a request body beyond the connection's window of {} bytes",
            self.window
        );
        self.window -= request.body.len();
        let id = self.next_id;
        self.next_id += 2;
        let written = self.stream.write_all(&encode(request, id)).and_then(|()| self.stream.flush());
        let response = self.read_response(id, request.ends);
        if response.is_err() {
            written.context("sending the request")?;
        }
        response
    }

    /// Sends a request, takes no byte of the answer's body, and resets the stream. Returns the status of the answer.
    pub fn give_up(&mut self, request: &Http2Request) -> Result<u16> {
        const CANCEL: u32 = 8;
        // SETTINGS_INITIAL_WINDOW_SIZE is 0.
        self.write(&frame(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]))?;
        let id = self.next_id;
        self.next_id += 2;
        self.write(&encode(request, id))?;
        let response = self.read_response(id, false)?;
        self.write(&frame(kind::RST_STREAM, 0, id, &CANCEL.to_be_bytes()))?;
        Ok(response.status)
    }

    /// Sends bytes through the tunnel that the last request has opened by CONNECT, and reads until the peer ends it.
    pub fn tunnel(&mut self, bytes: &[u8]) -> Result<Vec<u8>> {
        let id = self.next_id.checked_sub(2).context("no request has opened a tunnel")?;
        self.write(&frame(kind::DATA, 0, id, bytes))?;
        let mut received = Vec::new();
        loop {
            let frame = self.read_frame()?;
            match frame.kind {
                kind::DATA if frame.stream == id => received.extend(unpadded(&frame)?),
                kind::RST_STREAM if frame.stream == id => return Ok(received),
                kind::HEADERS if frame.stream == id => {
                    self.read_header_block(frame)?;
                    return Ok(received);
                }
                _ => {
                    self.manage(&frame)?;
                    continue;
                }
            }
            if frame.flags & flag::END_STREAM != 0 {
                return Ok(received);
            }
        }
    }

    fn read_response(&mut self, id: u32, whole: bool) -> Result<Response> {
        let mut response = Response::default();
        loop {
            let frame = self.read_frame()?;
            if frame.kind != kind::HEADERS && (frame.stream != id || frame.stream == 0) {
                self.manage(&frame)?;
                continue;
            }
            let ended = frame.flags & flag::END_STREAM != 0;
            match frame.kind {
                kind::HEADERS => {
                    // The blocks of all streams are decoded, because the decoder's table depends on each of them.
                    let stream = frame.stream;
                    let fields = self.read_header_block(frame)?;
                    if stream != id {
                        continue;
                    }
                    if !take_fields(&mut response, fields)? {
                        continue;
                    }
                    if !whole && response.status != 0 {
                        return Ok(response);
                    }
                }
                kind::DATA => response.body.extend(unpadded(&frame)?),
                kind::RST_STREAM => bail!("the server reset the stream: code {}", code(&frame, 0)),
                _ => continue,
            }
            if ended {
                return Ok(response);
            }
        }
    }

    /// Handles frames that concern the connection or streams that have ended.
    fn manage(&mut self, received: &Frame) -> Result<()> {
        let acknowledged = received.flags & flag::ACK != 0;
        match received.kind {
            kind::SETTINGS if !acknowledged => {
                for setting in received.payload.chunks_exact(6) {
                    if setting[..2] == [0, 8] {
                        self.extended_connect = setting[5] == 1;
                    }
                }
                self.write(&frame(kind::SETTINGS, flag::ACK, 0, &[]))
            }
            kind::PING if !acknowledged => self.write(&frame(kind::PING, flag::ACK, 0, &received.payload)),
            kind::WINDOW_UPDATE if received.stream == 0 => {
                let more = code(received, 0) as usize;
                self.window = (self.window + more).min(INITIAL_WINDOW);
                Ok(())
            }
            kind::GOAWAY if code(received, 4) != 0 => {
                bail!("the server ended the connection: code {}", code(received, 4))
            }
            kind::PUSH_PROMISE => bail!("the server pushes, which was forbidden"),
            _ => Ok(()),
        }
    }

    fn read_header_block(&mut self, first: Frame) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut block = unpadded(&first)?.to_vec();
        if first.flags & flag::PRIORITY != 0 {
            ensure!(block.len() >= 5, "a truncated HEADERS frame");
            block.drain(..5);
        }
        let mut flags = first.flags;
        while flags & flag::END_HEADERS == 0 {
            let next = self.read_frame()?;
            ensure!(next.kind == kind::CONTINUATION, "a header block that breaks off");
            block.extend(next.payload);
            flags = next.flags;
        }
        self.decoder.decode(&block).map_err(|error| anyhow!("cannot decode the response's headers: {error:?}"))
    }

    fn read_frame(&mut self) -> Result<Frame> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).map_err(|error| {
            if error.kind() == ErrorKind::UnexpectedEof {
                anyhow!("the server closed the connection without a response")
            } else {
                anyhow!(error).context("reading the response")
            }
        })?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.stream.read_exact(&mut payload)?;
        Ok(Frame { kind, flags, stream: u32::from_be_bytes(stream) & 0x7fff_ffff, payload })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes)?;
        Ok(self.stream.flush()?)
    }
}

/// Adds a header block to the response. Returns `false` if the block belongs to an interim response.
fn take_fields(response: &mut Response, fields: Vec<(Vec<u8>, Vec<u8>)>) -> Result<bool> {
    let trailing = response.status != 0;
    for (name, value) in fields {
        if name == b":status" {
            let status = std::str::from_utf8(&value)?.parse()?;
            if (100..200).contains(&status) {
                return Ok(false);
            }
            response.status = status;
            continue;
        }
        let field = (String::from_utf8_lossy(&name).into_owned(), value);
        if trailing {
            response.trailers.push(field);
        } else {
            response.headers.push(field);
        }
    }
    ensure!(response.status != 0, "a response without a status");
    Ok(true)
}

fn unpadded(frame: &Frame) -> Result<&[u8]> {
    if frame.flags & flag::PADDED == 0 {
        return Ok(&frame.payload);
    }
    let (&padding, rest) = frame.payload.split_first().context("an empty frame")?;
    let length = rest.len().checked_sub(padding.into()).context("padding beyond the frame")?;
    Ok(&rest[..length])
}

/// The 32-bit number at `offset` of a frame's payload.
fn code(frame: &Frame, offset: usize) -> u32 {
    frame.payload.get(offset..offset + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes)
}

fn encode(request: &Http2Request, id: u32) -> Vec<u8> {
    let has_trailers = !request.trailers.is_empty();
    let end = if request.ends { flag::END_STREAM } else { 0 };
    let headers_are_last = request.body.is_empty() && !has_trailers;
    let mut bytes = headers(&request.headers, if headers_are_last { end } else { 0 }, id);
    let mut chunks = request.body.chunks(MAX_FRAME).peekable();
    while let Some(chunk) = chunks.next() {
        let last = chunks.peek().is_none() && !has_trailers;
        bytes.extend(frame(kind::DATA, if last { end } else { 0 }, id, chunk));
    }
    if has_trailers {
        bytes.extend(headers(&request.trailers, end, id));
    }
    bytes
}

/// A HEADERS frame, followed by CONTINUATION frames if the block is long.
fn headers(fields: &[(Vec<u8>, Vec<u8>)], flags: u8, id: u32) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0); // literal, not indexed, new name
        literal(&mut block, name);
        literal(&mut block, value);
    }
    let mut bytes = Vec::with_capacity(block.len() + 9);
    let mut chunks = block.chunks(MAX_FRAME).peekable();
    let mut head = (kind::HEADERS, flags);
    while let Some(chunk) = chunks.next() {
        let last = if chunks.peek().is_none() { flag::END_HEADERS } else { 0 };
        bytes.extend(frame(head.0, head.1 | last, id, chunk));
        head = (kind::CONTINUATION, 0);
    }
    bytes
}

/// Writes a string as in RFC 7541, section 5.2: its length with a 7-bit prefix, then its bytes unchanged.
fn literal(block: &mut Vec<u8>, text: &[u8]) {
    if text.len() < 127 {
        block.push(text.len() as u8);
    } else {
        block.push(127);
        let mut rest = text.len() - 127;
        while rest >= 128 {
            block.push((rest % 128) as u8 | 128);
            rest /= 128;
        }
        block.push(rest as u8);
    }
    block.extend_from_slice(text);
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = (payload.len() as u32).to_be_bytes();
    let mut bytes = vec![a, b, c, kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}
