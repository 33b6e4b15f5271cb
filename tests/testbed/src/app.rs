//! The application behind a sidecar. It reports the requests that have reached it.

use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::{Context, Result};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{CONNECTION, CONTENT_TYPE, HeaderValue, UPGRADE},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use serde_json::json;
use tokio::{net::TcpListener, runtime::Runtime};

type Reply = Response<BoxBody<Bytes, Infallible>>;

/// An application on a port of its own. It runs until it is dropped, and speaks HTTP/1.1 and HTTP/2 in plain text.
///
/// | request | answer |
/// | --- | --- |
/// | an upgrade | 101; then the application sends back every byte |
/// | CONNECT | 200; then the application sends back every byte |
/// | gRPC | 200 with an empty gRPC message and `grpc-status: 0` |
/// | any other | 200 with the request as JSON (`method`, `path`, `headers` as a list of pairs) |
///
/// Every answer has the header `x-app: reached`.
pub struct App {
    address: SocketAddr,
    seen: Arc<Seen>,
    runtime: Option<Runtime>,
}

#[derive(Default)]
struct Seen {
    requests: AtomicU64,
    last: Mutex<Option<SeenRequest>>,
}

/// A request as it reached the application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenRequest {
    /// The HTTP method.
    pub method: String,
    /// The path, with its query.
    pub path: String,
    /// The headers. Names are in lower case. Repeated headers are next to each other.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl SeenRequest {
    /// All values of the header `name`, byte for byte. `name` must be in lower case.
    pub fn header_values(&self, name: &str) -> Vec<&[u8]> {
        self.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_slice()).collect()
    }
}

impl App {
    /// Starts the application on 127.0.0.1.
    pub fn start() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .context("starting the application")?;
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let address = listener.local_addr()?;
        let seen = Arc::new(Seen::default());
        runtime.spawn(serve(listener, Arc::clone(&seen)));
        Ok(Self { address, seen, runtime: Some(runtime) })
    }

    /// The address that the application listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The number of requests that have reached the application.
    pub fn requests(&self) -> u64 {
        self.seen.requests.load(Ordering::SeqCst)
    }

    /// The last request that has reached the application.
    pub fn last_request(&self) -> Option<SeenRequest> {
        let last = self.seen.last.lock();
        last.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for App {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn serve(listener: TcpListener, seen: Arc<Seen>) {
    while let Ok((stream, _)) = listener.accept().await {
        let seen = Arc::clone(&seen);
        tokio::spawn(async move {
            // Errors are ignored: a connection that breaks off is the peer's affair.
            let _ = stream.set_nodelay(true);
            let mut builder = Builder::new(TokioExecutor::new());
            builder.http2().enable_connect_protocol();
            let service = service_fn(move |request| {
                let reply = answer(&seen, request);
                async move { Ok::<_, Infallible>(reply) }
            });
            let _ = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
        });
    }
}

fn answer(seen: &Seen, request: Request<Incoming>) -> Reply {
    let record = SeenRequest {
        method: request.method().to_string(),
        path: request.uri().path_and_query().map_or_else(|| request.uri().to_string(), ToString::to_string),
        headers: request.headers().iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect(),
    };
    let body = describe(&record);
    *seen.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(record);
    seen.requests.fetch_add(1, Ordering::SeqCst);

    let upgrade = request.headers().get(UPGRADE).cloned();
    let is_grpc =
        request.headers().get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    let mut reply = if request.method() == Method::CONNECT || upgrade.is_some() {
        tunnel(request, upgrade)
    } else if is_grpc {
        grpc()
    } else {
        reply_with("application/json", body)
    };
    reply.headers_mut().insert("x-app", HeaderValue::from_static("reached"));
    reply
}

fn describe(request: &SeenRequest) -> String {
    let headers: Vec<_> = request
        .headers
        .iter()
        .map(|(name, value)| [name.clone(), String::from_utf8_lossy(value).into_owned()])
        .collect();
    json!({ "method": request.method, "path": request.path, "headers": headers }).to_string()
}

fn reply_with(content_type: &'static str, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Full::new(body.into()).boxed());
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

/// An empty gRPC message: not compressed, of length 0. The status follows it as a trailer.
fn grpc() -> Reply {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    reply_with("application/grpc", Bytes::new())
        .map(|_| Full::new(Bytes::from_static(&[0; 5])).with_trailers(std::future::ready(Some(Ok(trailers)))).boxed())
}

fn tunnel(request: Request<Incoming>, upgrade: Option<HeaderValue>) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::new()).boxed());
    if let Some(protocol) = upgrade {
        *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = reply.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol);
    }
    tokio::spawn(async move {
        if let Ok(upgraded) = hyper::upgrade::on(request).await {
            let (mut from, mut to) = tokio::io::split(TokioIo::new(upgraded));
            let _ = tokio::io::copy(&mut from, &mut to).await;
        }
    });
    reply
}
