//! Authorizers, which Envoy's `ext_authz` asks: one over HTTP, one over gRPC.

use std::{
    convert::Infallible,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result};
use envoy_types::ext_authz::v3::pb::{Authorization, AuthorizationServer, CheckRequest, CheckResponse};
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Bytes, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, runtime::Runtime, time::sleep};
use tonic::{Status, transport::Server};

/// A question to an authorizer over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The HTTP method.
    pub method: String,
    /// The path, with its query.
    pub path: String,
    /// The headers. Names are in lower case.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Question {
    /// All values of the header `name`, which must be in lower case, as text.
    pub fn header_values(&self, name: &str) -> Vec<String> {
        let values = self.headers.iter().filter(|(key, _)| key == name);
        values.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).collect()
    }
}

/// What an authorizer over HTTP does.
#[derive(Clone, Debug)]
pub enum HttpAnswer {
    /// It answers with this status, these headers and this body.
    Response(u16, Vec<(&'static str, &'static str)>, &'static str),
    /// It closes the connection.
    Reset,
    /// It answers with 200, but only after this time.
    Late(Duration),
}

/// An authorizer over HTTP, on a port of its own. It runs until it is dropped.
pub struct HttpAuthorizer {
    address: SocketAddr,
    questions: Arc<Mutex<Vec<Question>>>,
    runtime: Option<Runtime>,
}

impl HttpAuthorizer {
    /// Starts an authorizer on 127.0.0.1 that answers like this.
    pub fn start(answer: impl Fn(&Question) -> HttpAnswer + Send + Sync + 'static) -> Result<Self> {
        let runtime = runtime()?;
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let address = listener.local_addr()?;
        let questions = Arc::new(Mutex::new(Vec::new()));
        runtime.spawn(serve(listener, Arc::clone(&questions), Arc::new(answer)));
        Ok(Self { address, questions, runtime: Some(runtime) })
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The questions so far.
    pub fn questions(&self) -> Vec<Question> {
        self.questions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for HttpAuthorizer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn runtime() -> Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build().context("starting the authorizer")
}

type Answers = dyn Fn(&Question) -> HttpAnswer + Send + Sync;

async fn serve(listener: TcpListener, questions: Arc<Mutex<Vec<Question>>>, answers: Arc<Answers>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (questions, answers) = (Arc::clone(&questions), Arc::clone(&answers));
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let (questions, answers) = (Arc::clone(&questions), Arc::clone(&answers));
                async move { answer(request, &questions, &*answers).await }
            });
            // Errors are ignored: a connection that breaks off is the peer's affair.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// An error closes the connection.
async fn answer(
    request: Request<Incoming>,
    questions: &Mutex<Vec<Question>>,
    answers: &Answers,
) -> Result<Response<Full<Bytes>>, io::Error> {
    let (head, body) = request.into_parts();
    let headers = head.headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()));
    let question = Question {
        method: head.method.to_string(),
        path: head.uri.to_string(),
        headers: headers.collect(),
        body: body.collect().await.map_err(io::Error::other)?.to_bytes().to_vec(),
    };
    let answer = answers(&question);
    questions.lock().unwrap_or_else(PoisonError::into_inner).push(question);
    match answer {
        HttpAnswer::Response(status, headers, body) => {
            let response = Response::builder().status(status);
            let response = headers.iter().fold(response, |response, (name, value)| response.header(*name, *value));
            response.body(Full::from(body)).map_err(io::Error::other)
        }
        HttpAnswer::Reset => Err(io::Error::other("the authorizer closes the connection")),
        HttpAnswer::Late(time) => {
            sleep(time).await;
            Ok(Response::new(Full::default()))
        }
    }
}

/// An authorizer over gRPC, with Envoy's own messages, on a port of its own. It runs until it is dropped.
pub struct GrpcAuthorizer {
    address: SocketAddr,
    questions: Arc<Mutex<Vec<CheckRequest>>>,
    runtime: Option<Runtime>,
}

struct Service<F> {
    answer: F,
    questions: Arc<Mutex<Vec<CheckRequest>>>,
}

#[tonic::async_trait]
impl<F> Authorization for Service<F>
where
    F: Fn(&CheckRequest) -> Result<CheckResponse, Status> + Send + Sync + 'static,
{
    async fn check(&self, request: tonic::Request<CheckRequest>) -> Result<tonic::Response<CheckResponse>, Status> {
        let request = request.into_inner();
        let answer = (self.answer)(&request);
        self.questions.lock().unwrap_or_else(PoisonError::into_inner).push(request);
        answer.map(tonic::Response::new)
    }
}

impl GrpcAuthorizer {
    /// Starts an authorizer on 127.0.0.1 that answers like this.
    pub fn start<F>(answer: F) -> Result<Self>
    where
        F: Fn(&CheckRequest) -> Result<CheckResponse, Status> + Send + Sync + 'static,
    {
        let runtime = runtime()?;
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let address = listener.local_addr()?;
        let questions = Arc::new(Mutex::new(Vec::new()));
        let service = AuthorizationServer::new(Service { answer, questions: Arc::clone(&questions) });
        runtime.spawn(async move {
            let incoming = tonic::transport::server::TcpIncoming::from(listener);
            // If serving fails, the tests see that nobody answers.
            let _ = Server::builder().add_service(service).serve_with_incoming(incoming).await;
            Ok::<_, Infallible>(())
        });
        Ok(Self { address, questions, runtime: Some(runtime) })
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The questions so far.
    pub fn questions(&self) -> Vec<CheckRequest> {
        self.questions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for GrpcAuthorizer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
