//! The extension providers of a mesh: the services that CUSTOM policies ask.
//!
//! They are in Istio's mesh configuration, as `extensionProviders`: in a `ConfigMap`, in an `IstioOperator`, or in a file that
//! is a mesh configuration itself. Providers of other kinds, for traces and logs, are none of these.

use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::Duration;

use mesh_authz::diagnostic::{Diagnostics, Path, suggestion};
use mesh_authz::document::{Node, Object, Value, boolean, list, string, whole_number};
use mesh_authz::request::headers::is_name;

use super::finding::{Finding, SourceText};
use super::request_authentication::duration;
use super::{Other, Resources, yaml};

/// A service that decides about requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    pub name: String,
    /// The host of the service.
    pub host: String,
    pub port: u16,
    /// How long an answer may take. `None`: ten minutes.
    pub timeout: Option<Duration>,
    /// Whether requests pass if there is no answer.
    pub fail_open: bool,
    /// The status of the response if there is no answer, by its name in Envoy.
    pub status_on_error: Option<&'static str>,
    /// How much of a request's body it gets. `None`: nothing.
    pub body: Option<Body>,
    /// `None`: it is asked over gRPC.
    pub http: Option<HttpSettings>,
}

/// How much of a request's body a provider gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    pub most_bytes: u32,
    pub allow_partial: bool,
    pub pack_as_bytes: bool,
}

/// What only providers over HTTP have. Names of headers can begin or end with `*`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpSettings {
    pub path_prefix: String,
    /// Headers of the request that it gets.
    pub request_headers: Vec<String>,
    /// Further headers that it gets, sorted by name.
    pub further_headers: Vec<(String, String)>,
    /// Headers of its answer that the application gets.
    pub to_upstream: Vec<String>,
    /// Headers of its answer that a client gets whose request is refused.
    pub to_client_on_deny: Vec<String>,
    /// Headers of its answer that a client gets whose request is allowed.
    pub to_client_on_allow: Vec<String>,
}

/// Envoy refuses longer names and values of headers.
const LONGEST_HEADER: usize = 16384;

/// Envoy refuses some longer times.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The providers in the input, and the mistakes in them.
#[derive(Clone, Debug, Default)]
pub struct Providers {
    /// The valid ones, in the order of the input.
    pub valid: Vec<Provider>,
    pub findings: Vec<Finding>,
    /// Whether the input has a mesh configuration.
    pub are_known: bool,
}

impl Providers {
    /// The providers in these resources.
    #[must_use]
    pub fn of(resources: &Resources) -> Self {
        let mut found = Self::default();
        for other in &resources.others {
            let Some((mesh, path)) = mesh_configuration(other) else { continue };
            found.are_known = true;
            found.add(&other.source, &other.node, &mesh, &path);
        }
        found
    }

    /// Whether the mesh has the provider, as far as is known.
    #[must_use]
    pub fn may_have(&self, name: &str) -> bool {
        !self.are_known || self.named(name).is_some()
    }

    /// The provider with this name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Provider> {
        self.valid.iter().find(|provider| provider.name == name)
    }

    /// What to do about a policy that names a provider which is not there.
    #[must_use]
    pub fn hint(&self, unknown: &str) -> String {
        let known = self.valid.iter().map(|provider| provider.name.as_str());
        match suggestion(unknown, known) {
            Some(near) => format!("did you mean `{near}`?"),
            None if self.are_known => "add it to `extensionProviders` of the mesh configuration".to_owned(),
            None => "give a mesh configuration with it in `extensionProviders` as well".to_owned(),
        }
    }

    fn add(&mut self, source: &Arc<SourceText>, document: &Node, mesh: &Node, path: &Path) {
        let mut diagnostics = Diagnostics::new();
        let entries = mesh.get("extensionProviders");
        let read = entries.map(|node| diagnostics.field("extensionProviders", |d| list(node, d, provider)));
        for provider in read.into_iter().flatten().flatten() {
            if self.named(&provider.name).is_some() {
                let message = format!("another provider is called {} too", provider.name);
                diagnostics
                    .field("extensionProviders", |d| d.error_with_hint(message, "give each provider its own name"));
            } else {
                self.valid.push(provider);
            }
        }
        self.findings.extend(diagnostics.into_found().into_iter().map(|mut diagnostic| {
            diagnostic.path = Path(path.0.iter().cloned().chain(diagnostic.path.0).collect());
            Finding::error(source, document, diagnostic)
        }));
    }
}

/// Fields of a mesh configuration. A document with one of them, and without a kind, is one.
const MESH_FIELDS: [&str; 4] = ["extensionProviders", "accessLogFile", "accessLogFormat", "accessLogEncoding"];

/// The mesh configuration in a document, and where it is.
#[must_use]
pub fn mesh_configuration(other: &Other) -> Option<(Node, Path)> {
    match other.text("kind") {
        "ConfigMap" if other.name().is_some_and(|name| name == "istio" || name.starts_with("istio-")) => {
            let text = other.node.get("data")?.get("mesh")?.as_str()?;
            Some((yaml::documents(text).ok()?.into_iter().next()?, Path::of(["data", "mesh"])))
        }
        "IstioOperator" => {
            let mesh = other.node.get("spec")?.get("meshConfig").cloned()?;
            Some((mesh, Path::of(["spec", "meshConfig"])))
        }
        // Values for Helm.
        "" if other.node.get("meshConfig").is_some() => {
            Some((other.node.get("meshConfig").cloned()?, Path::of(["meshConfig"])))
        }
        "" if MESH_FIELDS.iter().any(|field| other.node.get(field).is_some()) => {
            Some((other.node.clone(), Path::default()))
        }
        _ => None,
    }
}

/// Reads a provider. `None`: it is one of another kind, or has mistakes.
fn provider(node: &Node, d: &mut Diagnostics) -> Option<Provider> {
    const HTTP: &str = "envoyExtAuthzHttp";
    const GRPC: &str = "envoyExtAuthzGrpc";
    let (kind, is_http) = match (node.get(HTTP), node.get(GRPC)) {
        (Some(_), None) => (HTTP, true),
        (None, Some(_)) => (GRPC, false),
        (None, None) => return None,
        (Some(_), Some(_)) => {
            d.error("has both envoyExtAuthzHttp and envoyExtAuthzGrpc");
            return None;
        }
    };
    let before = d.count();
    let mut object = Object::open(node, d)?;
    let name = object.read("name", d, name).flatten();
    if !object.has("name") {
        d.field("name", |d| d.error("is missing"));
    }
    let settings = object.read(kind, d, |node, d| service(node, is_http, d)).flatten();
    object.finish(d);
    let provider = Provider { name: name?, ..settings? };
    (d.count() == before).then_some(provider)
}

/// Whether Istio takes this for the name of a provider.
#[must_use]
pub fn is_provider_name(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}

fn name(node: &Node, d: &mut Diagnostics) -> Option<String> {
    let name = string(node, d)?;
    let is_valid = is_provider_name(name);
    if !is_valid {
        d.error_with_hint(
            format!("`{name}` is not the name of a provider"),
            "lower-case letters, digits and `-`, at most 63, starting and ending with a letter or digit",
        );
    }
    is_valid.then(|| name.to_owned())
}

fn service(node: &Node, is_http: bool, d: &mut Diagnostics) -> Option<Provider> {
    let mut object = Object::open(node, d)?;
    let host = object.read("service", d, host).flatten();
    let port = object.read("port", d, port).flatten();
    for required in ["service", "port"] {
        if !object.has(required) {
            d.field(required, |d| d.error("is missing"));
        }
    }
    let timeout = object.read("timeout", d, duration).flatten();
    if timeout.is_some_and(|timeout| timeout > LONGEST_TIMEOUT) {
        d.field("timeout", |d| d.error("is longer than a year"));
    }
    let fail_open = object.read("failOpen", d, boolean).flatten().unwrap_or(false);
    let status_on_error = object.read("statusOnError", d, status).flatten();
    let body = object.read("includeRequestBodyInCheck", d, body).flatten();
    // A later version of Istio knows it. It changes no decision.
    let _ignored = object.read("clearRouteCache", d, boolean);
    let http = is_http.then(|| http_settings(&mut object, d));
    object.finish(d);
    let name = String::new();
    Some(Provider { name, host: host?, port: port?, timeout, fail_open, status_on_error, body, http })
}

fn http_settings(object: &mut Object<'_>, d: &mut Diagnostics) -> HttpSettings {
    let path_prefix = object.string("pathPrefix", d).unwrap_or_default();
    if !path_prefix.is_empty() && !path_prefix.starts_with('/') {
        d.field("pathPrefix", |d| d.error_with_hint("must begin with a slash", format!("write /{path_prefix}")));
    }
    let request_headers = headers(object, "includeRequestHeadersInCheck", d);
    // The older name counts only where the newer one is not there.
    let older = headers(object, "includeHeadersInCheck", d);
    let further = object.read("includeAdditionalHeadersInCheck", d, texts).unwrap_or_default();
    let mut further_headers = further;
    further_headers.sort();
    HttpSettings {
        path_prefix,
        request_headers: if request_headers.is_empty() { older } else { request_headers },
        further_headers,
        to_upstream: headers(object, "headersToUpstreamOnAllow", d),
        to_client_on_deny: headers(object, "headersToDownstreamOnDeny", d),
        to_client_on_allow: headers(object, "headersToDownstreamOnAllow", d),
    }
}

/// Reads a map from names to texts.
fn texts(node: &Node, d: &mut Diagnostics) -> Vec<(String, String)> {
    let Value::Map(fields) = &node.value else {
        d.error(format!("must be an object, is {}", node.value.kind()));
        return Vec::new();
    };
    let text = |(name, node): &(String, Node)| {
        let value = d.field(name, |d| {
            let value = string(node, d)?;
            if !is_name(name) || name.eq_ignore_ascii_case("host") || name.len() > LONGEST_HEADER {
                d.error("is not the name of a header that can be set");
            }
            if value.contains(['\r', '\n', '\0']) {
                d.error_with_hint(
                    "has a line break, with which Envoy refuses the filter",
                    "in YAML, `|` and `>` add one at the end, and `|-` and `>-` do not",
                );
            }
            if value.replace("%%", "").contains('%') {
                d.error_with_hint(
                    "has a percent sign, with which a command of Envoy's access log begins",
                    "write %% for a percent sign",
                );
            }
            if value.len() > LONGEST_HEADER {
                d.error(format!("is longer than {LONGEST_HEADER} bytes"));
            }
            Some(value)
        });
        Some((name.clone(), value?.to_owned()))
    };
    fields.iter().filter_map(text).collect()
}

fn headers(object: &mut Object<'_>, field: &'static str, d: &mut Diagnostics) -> Vec<String> {
    let read = |node: &Node, d: &mut Diagnostics| {
        list(node, d, |node, d| {
            let name = string(node, d)?;
            if name == "*" || name.is_empty() {
                d.error_with_hint(
                    format!("`{name}` is not the name of a header"),
                    "a prefix such as `x-*`, or a suffix",
                );
            }
            Some(name.to_owned())
        })
    };
    object.read(field, d, read).into_iter().flatten().flatten().collect()
}

/// Reads `NAMESPACE/HOST` or `HOST`.
fn host(node: &Node, d: &mut Diagnostics) -> Option<String> {
    let text = string(node, d)?;
    let host = match text.split_once('/') {
        Some((namespace, host)) if !namespace.is_empty() => host,
        None => text,
        Some(_) => "",
    };
    // A port has a field of its own.
    let has_port = host.contains(':') && host.parse::<Ipv6Addr>().is_err();
    let has_odd_characters = !host.bytes().all(|byte| byte.is_ascii_graphic()) || host.contains(['/', '*']);
    if host.is_empty() || has_odd_characters || has_port {
        d.error_with_hint(format!("`{text}` is not a service"), "write NAMESPACE/HOST, or HOST");
        return None;
    }
    Some(host.to_owned())
}

fn port(node: &Node, d: &mut Diagnostics) -> Option<u16> {
    let port = whole_number(node, u16::MAX.into()).and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
    if port.is_none() {
        d.error(format!("must be a port, 1 to 65535, is {}", node.value.shown()));
    }
    port
}

fn status(node: &Node, d: &mut Diagnostics) -> Option<&'static str> {
    let text = string(node, d)?;
    let found = STATUSES.iter().find(|(code, _)| text.parse() == Ok(*code));
    if found.is_none() {
        d.error_with_hint(
            format!("`{text}` is not a status that Envoy knows"),
            "write a number in quotes, such as \"503\"",
        );
    }
    found.map(|(_, name)| *name)
}

fn body(node: &Node, d: &mut Diagnostics) -> Option<Body> {
    let mut object = Object::open(node, d)?;
    let most_bytes = object.read("maxRequestBytes", d, |node, d| {
        let bytes = whole_number(node, u32::MAX).filter(|bytes| *bytes > 0);
        if bytes.is_none() {
            d.error(format!("must be a number of bytes, 1 or more, is {}", node.value.shown()));
        }
        bytes
    });
    if !object.has("maxRequestBytes") {
        d.field("maxRequestBytes", |d| d.error("is missing"));
    }
    let allow_partial = object.read("allowPartialMessage", d, boolean).flatten().unwrap_or(false);
    let pack_as_bytes = object.read("packAsBytes", d, boolean).flatten().unwrap_or(false);
    object.finish(d);
    Some(Body { most_bytes: most_bytes.flatten()?, allow_partial, pack_as_bytes })
}

/// The statuses that Envoy knows, by their names there.
const STATUSES: [(u16, &str); 56] = [
    (100, "Continue"),
    (200, "OK"),
    (201, "Created"),
    (202, "Accepted"),
    (203, "NonAuthoritativeInformation"),
    (204, "NoContent"),
    (205, "ResetContent"),
    (206, "PartialContent"),
    (207, "MultiStatus"),
    (208, "AlreadyReported"),
    (226, "IMUsed"),
    (300, "MultipleChoices"),
    (301, "MovedPermanently"),
    (302, "Found"),
    (303, "SeeOther"),
    (304, "NotModified"),
    (305, "UseProxy"),
    (307, "TemporaryRedirect"),
    (308, "PermanentRedirect"),
    (400, "BadRequest"),
    (401, "Unauthorized"),
    (402, "PaymentRequired"),
    (403, "Forbidden"),
    (404, "NotFound"),
    (405, "MethodNotAllowed"),
    (406, "NotAcceptable"),
    (407, "ProxyAuthenticationRequired"),
    (408, "RequestTimeout"),
    (409, "Conflict"),
    (410, "Gone"),
    (411, "LengthRequired"),
    (412, "PreconditionFailed"),
    (413, "PayloadTooLarge"),
    (414, "URITooLong"),
    (415, "UnsupportedMediaType"),
    (416, "RangeNotSatisfiable"),
    (417, "ExpectationFailed"),
    (421, "MisdirectedRequest"),
    (422, "UnprocessableEntity"),
    (423, "Locked"),
    (424, "FailedDependency"),
    (426, "UpgradeRequired"),
    (428, "PreconditionRequired"),
    (429, "TooManyRequests"),
    (431, "RequestHeaderFieldsTooLarge"),
    (500, "InternalServerError"),
    (501, "NotImplemented"),
    (502, "BadGateway"),
    (503, "ServiceUnavailable"),
    (504, "GatewayTimeout"),
    (505, "HTTPVersionNotSupported"),
    (506, "VariantAlsoNegotiates"),
    (507, "InsufficientStorage"),
    (508, "LoopDetected"),
    (510, "NotExtended"),
    (511, "NetworkAuthenticationRequired"),
];
