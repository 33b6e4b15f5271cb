//! An application that speaks TCP.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    runtime::Runtime,
};

/// An application on a port of its own. It runs until it is dropped.
///
/// On each connection, it first sends its greeting, and then sends back every byte that it receives. When the client has
/// closed its half of the connection, it says `bye` and closes its own.
pub struct TcpApp {
    address: SocketAddr,
    seen: Arc<Seen>,
    runtime: Option<Runtime>,
}

#[derive(Default)]
struct Seen {
    connections: AtomicU64,
    received: Mutex<Vec<u8>>,
}

impl TcpApp {
    /// What the application says when the client says nothing more.
    pub const BYE: &'static [u8] = b"bye";

    /// Starts the application on 127.0.0.1. The greeting may be empty: then the client speaks first.
    pub fn start(greeting: &'static [u8]) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .context("starting the application")?;
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let address = listener.local_addr()?;
        let seen = Arc::new(Seen::default());
        runtime.spawn(serve(listener, greeting, Arc::clone(&seen)));
        Ok(Self { address, seen, runtime: Some(runtime) })
    }

    /// The address that the application listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The number of connections that have reached the application.
    pub fn connections(&self) -> u64 {
        self.seen.connections.load(Ordering::SeqCst)
    }

    /// Everything that the application has received, on all connections.
    pub fn received(&self) -> Vec<u8> {
        self.seen.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for TcpApp {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn serve(listener: TcpListener, greeting: &'static [u8], seen: Arc<Seen>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        seen.connections.fetch_add(1, Ordering::SeqCst);
        let seen = Arc::clone(&seen);
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            stream.write_all(greeting).await?;
            let mut chunk = vec![0; 16 * 1024];
            loop {
                let length = stream.read(&mut chunk).await?;
                if length == 0 {
                    break stream.write_all(TcpApp::BYE).await;
                }
                seen.received.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&chunk[..length]);
                stream.write_all(&chunk[..length]).await?;
            }
        });
    }
}
