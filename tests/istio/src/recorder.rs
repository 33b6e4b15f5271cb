//! An application that answers whatever it gets, HTTP or not.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::fd::AsRawFd as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::Result;

/// Counts the connections on which a byte arrived, and answers each of them as an HTTP server that is not picky. It
/// shows what reaches an application: also HTTP/0.9, a version that does not exist, or no HTTP.
#[derive(Debug)]
pub struct Recorder {
    listener: TcpListener,
    port: u16,
    reached: Arc<AtomicU64>,
}

impl Recorder {
    /// Listens on a port of all addresses of the network namespace that this thread is in.
    pub(crate) fn start(port: u16, greeting: &'static [u8]) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?;
        let port = listener.local_addr()?.port();
        let reached = Arc::new(AtomicU64::new(0));
        let (accepting, counter) = (listener.try_clone()?, Arc::clone(&reached));
        thread::spawn(move || {
            loop {
                match accepting.accept() {
                    Ok((connection, _)) => {
                        let counter = Arc::clone(&counter);
                        thread::spawn(move || answer(connection, greeting, &counter));
                    }
                    // The listener was shut down.
                    Err(error) if error.kind() == ErrorKind::InvalidInput => return,
                    // This connection failed, or there are too many: the next one may succeed.
                    Err(_) => thread::sleep(Duration::from_millis(10)),
                }
            }
        });
        Ok(Self { listener, port, reached })
    }

    /// The port that it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The number of requests that have reached it.
    #[must_use]
    pub fn reached(&self) -> u64 {
        self.reached.load(Ordering::SeqCst)
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // SAFETY: it has no effect on memory. It ends the thread that accepts.
        unsafe { libc::shutdown(self.listener.as_raw_fd(), libc::SHUT_RDWR) };
    }
}

/// Each read is taken as one request, which is true for the small requests of tests.
fn answer(mut connection: TcpStream, greeting: &[u8], reached: &AtomicU64) {
    let mut bytes = [0; 8_192];
    let usable =
        connection.set_nonblocking(false).and_then(|()| connection.set_read_timeout(Some(Duration::from_secs(30))));
    if usable.is_err() || connection.write_all(greeting).is_err() {
        return;
    }
    while let Ok(1..) = connection.read(&mut bytes) {
        reached.fetch_add(1, Ordering::SeqCst);
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\nx-app: reached\r\n\r\nreached\n";
        if connection.write_all(answer).is_err() {
            return;
        }
    }
}
