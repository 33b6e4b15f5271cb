//! Test files: policies, a workload, requests, and the expected decision for each request.
//!
//! `mesh-authz test` runs a test file through the engine. The end-to-end tests run the same file with real requests in
//! Envoy. Therefore a test file can say about a request only what a client and a bootstrap can bring about.

use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mesh_authz::config::{self, COMBINING, Mesh};
use mesh_authz::diagnostic::Diagnostics;
use mesh_authz::document::{Node, Object, Position, Value, boolean, list, one_of, string, whole_number};
use mesh_authz::engine::Verdict;
use mesh_authz::policy::scope::Workload;
use mesh_authz::policy::{Action, AuthorizationPolicy, DEFAULT_NAMESPACE, PolicyName, Target, Traffic, read};
use mesh_authz::request::metadata::{DEFAULT_PAYLOAD_KEY, JWT_AUTHN};
use mesh_authz::request::{Lookup, PeerName, Request};

use crate::lint::PathNormalization;
use crate::load::finding::{Finding, SourceText};
use crate::load::policy_set::PolicySet;
use crate::load::providers::Providers;
use crate::load::yaml;
use crate::load::{self, InputError, Resources};
use crate::received::{Answered, Known, Protocol};

/// A test file, with the policies that it names.
#[derive(Debug)]
pub struct TestFile {
    /// The text of the test file.
    pub source: Arc<SourceText>,
    /// The policies, all valid, with the workload and the mesh.
    pub set: PolicySet,
    pub tests: Vec<Test>,
    pub proofs: Vec<Proof>,
}

/// What must hold for every request of a kind.
#[derive(Debug)]
pub struct Proof {
    /// What it shows.
    pub name: String,
    /// Where it is in the file.
    pub position: Option<Position>,
    /// The requests, as the rule of a policy.
    pub requests: AuthorizationPolicy,
    pub expect: Verdict,
    /// `None`: every workload.
    pub workload: Option<Workload>,
}

/// One request and the expected decision.
#[derive(Debug)]
pub struct Test {
    /// What the test shows.
    pub name: String,
    /// Where the test is in the file.
    pub position: Option<Position>,
    pub request: RequestFields,
    pub expect: Expectation,
}

/// The expected decision about a request. Fields that are not given are not compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expectation {
    /// Whether the request is allowed.
    pub decision: Verdict,
    /// `namespace/name` of the deciding policy; `none` if no policy decides.
    pub policy: Option<String>,
    /// The index of the deciding rule.
    pub rule: Option<usize>,
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.decision)?;
        if let Some(policy) = &self.policy {
            write!(f, " by {policy}")?;
        }
        if let Some(rule) = self.rule {
            write!(f, " rule {rule}")?;
        }
        Ok(())
    }
}

impl Expectation {
    /// Whether the answer is the expected one.
    #[must_use]
    pub fn is_met_by(&self, answered: &Answered<'_>) -> bool {
        let (verdict, rule) = (answered.verdict(), answered.rule());
        let policy = rule.map_or_else(|| "none".to_owned(), |rule| rule.policy.to_string());
        self.decision == verdict
            && self.policy.as_ref().is_none_or(|expected| *expected == policy)
            && self.rule.is_none_or(|expected| rule.is_some_and(|rule| rule.index == expected))
    }
}

/// A request, in the form of a request in a test file.
#[derive(Clone, Debug, Default)]
pub struct RequestFields {
    /// The peer's SPIFFE ID without `spiffe://`. `None`: the request comes in plaintext.
    pub principal: Option<String>,
    /// The names in the peer's certificate, if they are other than one SPIFFE ID.
    pub peer: Option<PeerFields>,
    /// `GET` when absent.
    pub method: Option<String>,
    /// `/` when absent.
    pub path: Option<String>,
    /// `localhost` when absent.
    pub host: Option<String>,
    /// How it comes to Envoy. `None`: over HTTP/1.1 or HTTP/2. With [`Protocol::Tcp`], this is no request but a connection.
    pub protocol: Option<Protocol>,
    /// Names and values. A name may occur more than once.
    pub headers: Vec<(String, String)>,
    /// The direct peer's address.
    pub source_ip: Option<IpAddr>,
    /// The client's address; the direct peer's address when absent.
    pub remote_ip: Option<IpAddr>,
    /// The local address.
    pub destination_ip: Option<IpAddr>,
    /// The local port.
    pub destination_port: Option<u16>,
    /// The server name in the TLS handshake.
    pub sni: Option<String>,
    /// The claims of a verified token.
    pub jwt: Option<Node>,
    /// Dynamic metadata: the name of each filter, and what it has set.
    pub metadata: Vec<(String, Node)>,
    /// What the providers of CUSTOM policies answer.
    pub providers: Vec<(String, Verdict)>,
}

/// The names in the peer's certificate.
#[derive(Clone, Debug, Default)]
pub struct PeerFields {
    /// The URIs. If there are several, nobody can read them.
    pub uris: Vec<String>,
    /// The DNS name.
    pub dns: Option<String>,
    /// The subject.
    pub subject: Option<String>,
}

impl PeerFields {
    fn read(node: &Node, d: &mut Diagnostics) -> Option<Self> {
        let mut object = Object::open(node, d)?;
        let peer = Self {
            uris: object.strings("uris", d),
            dns: object.string("dns", d),
            subject: object.string("subject", d),
        };
        object.finish(d);
        Some(peer)
    }
}

impl RequestFields {
    /// Reads a request, in the form of a request in a test file.
    pub fn read(node: &Node, d: &mut Diagnostics) -> Option<Self> {
        let mut object = Object::open(node, d)?;
        let request = Self {
            principal: object.read("principal", d, principal).flatten(),
            peer: object.read("peer", d, PeerFields::read).flatten(),
            method: object.string("method", d),
            path: object.string("path", d),
            host: object.string("host", d),
            protocol: object.read("protocol", d, |node, d| one_of(node, &Protocol::NAMES, d)).flatten(),
            headers: object.read("headers", d, headers).unwrap_or_default(),
            source_ip: object.read("sourceIp", d, address).flatten(),
            remote_ip: object.read("remoteIp", d, address).flatten(),
            destination_ip: object.read("destinationIp", d, address).flatten(),
            destination_port: object.read("destinationPort", d, |node, d| number(node, u16::MAX, d)).flatten(),
            sni: object.string("sni", d),
            jwt: object.read("jwt", d, map),
            metadata: object.read("metadata", d, |node, d| entries(node, d).to_vec()).unwrap_or_default(),
            providers: object.read("provider", d, providers).unwrap_or_default(),
        };
        object.finish(d);
        if request.peer.is_some() && request.principal.is_some() {
            d.field("peer", |d| d.error_with_hint("says the same as `principal`", "give one of the two"));
        }
        if request.traffic() == Traffic::Tcp {
            for field in
                ["method", "path", "host", "headers", "jwt"].into_iter().filter(|field| node.get(field).is_some())
            {
                d.field(field, |d| {
                    d.error_with_hint("is of HTTP, and a connection with `protocol: tcp` has none", "remove it")
                });
            }
        }
        Some(request)
    }

    /// What the policies are read for.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        match self.protocol {
            Some(Protocol::Tcp) => Traffic::Tcp,
            Some(Protocol::Http1 | Protocol::Http2) | None => Traffic::Http,
        }
    }

    /// The method; `GET` if it is not given.
    #[must_use]
    pub fn method(&self) -> &str {
        self.method.as_deref().unwrap_or("GET")
    }

    /// The path with its query; `/` if it is not given.
    #[must_use]
    pub fn path(&self) -> &str {
        self.path.as_deref().unwrap_or("/")
    }

    /// The authority; `localhost` if it is not given.
    #[must_use]
    pub fn host(&self) -> &str {
        self.host.as_deref().unwrap_or("localhost")
    }

    /// The request as the engine takes it. An address or a port that is not given is unreadable, never absent, because
    /// a real request has one.
    #[must_use]
    pub fn to_request(&self) -> Request {
        let given = |address: Option<IpAddr>| address.map_or(Lookup::Unreadable, Lookup::Value);
        let mut request = Request::default().header(":method", self.method());
        // A CONNECT has no path, unless it is given.
        if self.path.is_some() || self.method() != "CONNECT" {
            request = request.header(":path", self.path());
        }
        request = request
            .header(":authority", self.host())
            .source_ip(given(self.source_ip))
            .remote_ip(given(self.remote_ip.or(self.source_ip)))
            .destination_ip(given(self.destination_ip))
            .destination_port(self.destination_port.map_or(Lookup::Unreadable, Lookup::Value))
            .sni(self.sni.as_ref().map_or(Lookup::Absent, |name| Lookup::Value(name.as_bytes())));
        if let Some(principal) = &self.principal {
            request = request.principal(principal);
        }
        if let Some(PeerFields { uris, dns, subject }) = &self.peer {
            let further = if uris.len() > 1 { Lookup::Unreadable } else { Lookup::Absent };
            for (which, name) in
                [(PeerName::Uri, &uris.first().cloned()), (PeerName::Dns, dns), (PeerName::Subject, subject)]
            {
                let name = name.as_ref().map_or(Lookup::Absent, |name| Lookup::Value(name.as_bytes()));
                request = request.peer_name(which, name);
            }
            request = request.peer_name(PeerName::FurtherUris, further);
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        if let Some(claims) = &self.jwt {
            let payload = Value::Map(vec![(DEFAULT_PAYLOAD_KEY.to_owned(), claims.clone())]).into();
            request = request.metadata(JWT_AUTHN, &payload);
        }
        for (filter, fields) in &self.metadata {
            request = request.metadata(filter, fields);
        }
        request
    }
}

impl TestFile {
    /// Whether a document is, or is meant to be, a test file.
    #[must_use]
    pub fn is_one(node: &Node) -> bool {
        // One with a mistyped `tests` is to be reported, and not to be skipped.
        let names_policies = match node.get("policies").map(|policies| &policies.value) {
            Some(Value::List(items)) => items.first().is_some_and(|first| first.as_str().is_some()),
            _ => false,
        };
        let has_tests = ["tests", "proofs"].iter().any(|field| node.get(field).is_some());
        (has_tests || names_policies) && node.get("kind").is_none()
    }

    /// Reads a test file and the policies that it names.
    ///
    /// # Errors
    /// The test file or a file with policies cannot be read, is not YAML, or is not valid. The error has all mistakes.
    /// It is also an error if a policy needs the workload's labels and the test file does not give them.
    pub fn read(file: &Path) -> Result<Self, TestFileError> {
        let source = Arc::new(SourceText::read(file)?);
        let mut documents = match yaml::documents(&source.text) {
            Ok(documents) => documents,
            Err(error) => return Err(TestFileError::Invalid(vec![load::not_yaml(&source, &error)])),
        };
        let count = documents.len();
        let Some(node) = documents.pop().filter(|_| count == 1) else {
            let message = format!("a test file is one document, and this file has {count}");
            return Err(InputError { file: file.to_owned(), message }.into());
        };
        let has_tests = ["tests", "proofs"].iter().any(|field| node.get(field).is_some());
        if let Some(kind) = node.get("kind").and_then(Node::as_str).filter(|_| !has_tests) {
            let message = format!("this is of kind {kind}, and not a test file, which has `policies` and `tests`");
            return Err(InputError { file: file.to_owned(), message }.into());
        }
        let mut diagnostics = Diagnostics::new();
        let fields = fields(&node, &mut diagnostics);
        let has_errors = diagnostics.count() > 0;
        let mut findings: Vec<_> = load::findings(&source, &node, diagnostics).collect();
        let Some(Fields { policies, workload, mesh, path_normalization, none_may_apply, tests, proofs }) =
            fields.filter(|_| !has_errors)
        else {
            return Err(TestFileError::Invalid(findings));
        };
        let folder = file.parent().unwrap_or(Path::new(""));
        // The components of a path are without `.`, so `policies: [.]` names the files as people name them.
        let paths: Vec<PathBuf> = policies.iter().map(|path| folder.join(path).components().collect()).collect();
        if file == Path::new("-") && paths.iter().any(|path| path == file) {
            let message = "the test file and its policies cannot both be `-`, standard input".to_owned();
            return Err(InputError { file: file.to_owned(), message }.into());
        }
        let mut resources = Resources::read(&paths)?;
        if let Some((policies, folder)) = resources.built_policies().first() {
            let message = format!(
                "{} is changed by the kustomization in {}, so a cluster gets other policies; test what `kubectl kustomize` prints, or \
                 name the files without the kustomization",
                policies.display(),
                folder.display()
            );
            return Err(InputError { file: file.to_owned(), message }.into());
        }
        let of_providers = Providers::of(&resources).findings;
        if resources.has_errors() || !of_providers.is_empty() {
            findings.extend(of_providers);
            findings.append(&mut resources.findings);
            return Err(TestFileError::Invalid(findings));
        }
        let mut envoy = Known::of(&resources);
        envoy.path_normalization = path_normalization;
        let set = PolicySet { resources: Arc::new(resources), workload, mesh, envoy };
        if let Some((resource, what)) = set.missing_labels().filter(|_| !tests.is_empty()) {
            let message = format!(
                "policy {} has {what}: give `workload.labels`, or `labels: {{}}` if the workload has none",
                resource.policy.name
            );
            return Err(InputError { file: file.to_owned(), message }.into());
        }
        if !none_may_apply && !tests.is_empty() && set.applying().next().is_none() {
            let message = format!(
                "no policy applies to the workload of these tests in namespace {}: correct `workload` or `policies`, or write \
                 `allowNoneApplies: true` if that is meant",
                set.workload.namespace
            );
            return Err(InputError { file: file.to_owned(), message }.into());
        }
        for test in &tests {
            let names = test.request.providers.iter().map(|(name, _)| name.as_str());
            if let Some(why) = set.unknown_provider(names) {
                let message = format!("test `{}`: request.provider: {why}", test.name);
                return Err(InputError { file: file.to_owned(), message }.into());
            }
        }
        Ok(Self { source, set, tests, proofs })
    }
}

/// The error that a test file cannot be used.
#[derive(Debug)]
pub enum TestFileError {
    /// A file cannot be read or used.
    Input(InputError),
    /// The test file or its policies are not valid.
    Invalid(Vec<Finding>),
}

impl From<InputError> for TestFileError {
    fn from(error: InputError) -> Self {
        Self::Input(error)
    }
}

impl fmt::Display for TestFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input(error) => error.fmt(f),
            Self::Invalid(findings) => {
                let lines: Vec<_> = findings.iter().map(ToString::to_string).collect();
                f.write_str(&lines.join("\n"))
            }
        }
    }
}

impl std::error::Error for TestFileError {}

struct Fields {
    policies: Vec<String>,
    workload: Workload,
    mesh: Mesh,
    path_normalization: Option<PathNormalization>,
    /// Whether it is no mistake that none of the policies applies.
    none_may_apply: bool,
    tests: Vec<Test>,
    proofs: Vec<Proof>,
}

fn fields(node: &Node, d: &mut Diagnostics) -> Option<Fields> {
    let mut object = Object::open(node, d)?;
    let policies = object.strings("policies", d);
    if !object.has("policies") {
        d.field("policies", |d| {
            d.error_with_hint("is missing", "name the files; without any policy everything passes")
        });
    }
    let (namespace, labels) = object.read("workload", d, config::workload).unwrap_or((None, None));
    let namespace = namespace.unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned());
    let gateway = object.read("gateway", d, |node, d| {
        let gateway = config::gateway(node, &namespace, d)?;
        if gateway.has_hosts() {
            d.error_with_hint(
                "the tests of a file are for one service, and a request here has no filter chain",
                "write the service as NAMESPACE/NAME",
            );
        }
        Some(gateway)
    });
    let gateway = gateway.flatten();
    let (mesh, path_normalization) = object.read("mesh", d, mesh).unwrap_or_default();
    let revision = object.string("revision", d);
    let workload = Workload { revision, ..Workload::new(namespace, labels, gateway, mesh.root_namespace.clone(), d) };
    let none_may_apply = object.read("allowNoneApplies", d, boolean).flatten().unwrap_or(false);
    let tests = object.read("tests", d, tests).unwrap_or_default();
    let of_all = object.has("workload") || object.has("gateway");
    let of_all = of_all.then_some(&workload);
    let proofs = object.read("proofs", d, |node, d| proofs(node, of_all, &workload, d)).unwrap_or_default();
    object.finish(d);
    if tests.is_empty() && proofs.is_empty() {
        d.error("has no tests and no proofs");
    }
    Some(Fields {
        policies,
        workload,
        mesh,
        path_normalization,
        none_may_apply,
        tests: tests.into_iter().flatten().collect(),
        proofs: proofs.into_iter().flatten().collect(),
    })
}

/// Reads the proofs. `of_all`: the workload of the file, if it gives one. `usual`: that of tests.
fn proofs(node: &Node, of_all: Option<&Workload>, usual: &Workload, d: &mut Diagnostics) -> Vec<Option<Proof>> {
    let mut seen = HashSet::new();
    list(node, d, |node, d| {
        let proof = proof(node, of_all, usual, d);
        if let Some(name) = node.get("name").and_then(Node::as_str).filter(|name| !seen.insert(name.to_owned())) {
            d.field("name", |d| {
                d.error_with_hint(format!("another proof is called `{name}` too"), "give each proof a name of its own");
            });
        }
        proof
    })
}

fn proof(node: &Node, of_all: Option<&Workload>, usual: &Workload, d: &mut Diagnostics) -> Option<Proof> {
    let mut object = Object::open(node, d)?;
    let name = object.string("name", d);
    let own = object.read("workload", d, |node, d| {
        let (namespace, labels) = config::workload(node, d);
        let namespace = namespace.unwrap_or_else(|| usual.namespace.clone());
        if labels.is_none() {
            d.error_with_hint("has no labels", "give `labels`, or `labels: {}` if the workload has none");
        }
        let workload = Workload::new(namespace, labels, None, usual.root_namespace.clone(), d);
        Workload { revision: usual.revision.clone(), ..workload }
    });
    let expect = object.read("expect", d, |node, d| one_of(node, &DECISIONS, d)).flatten();
    let workload = own.or_else(|| of_all.cloned());
    let namespace = workload.as_ref().map_or(DEFAULT_NAMESPACE, |workload| &workload.namespace);
    let requests = object.read("for", d, |node, d| region(node, expect, namespace, d)).flatten();
    for required in ["name", "for", "expect"] {
        if !object.has(required) {
            d.field(required, |d| d.error("is missing"));
        }
    }
    object.finish(d);
    let position = node.place.as_deref().map(|place| place.value.start);
    Some(Proof { name: name?, position, requests: requests?, expect: expect?, workload })
}

/// Reads the requests of a proof, as the only rule of a policy. What is not quite sure to be among them counts if they must
/// be denied, and does not count if they must be allowed. So it is a rule of a policy that decides as expected.
fn region(node: &Node, expect: Option<Verdict>, namespace: &str, d: &mut Diagnostics) -> Option<AuthorizationPolicy> {
    let action = match expect? {
        Verdict::Allow => Action::Allow,
        Verdict::Deny => Action::Deny,
    };
    let rule = read::rule_for(node, action, d)?;
    Some(AuthorizationPolicy {
        name: PolicyName { namespace: namespace.to_owned(), name: "for".to_owned() },
        revision: None,
        dry_run: false,
        action,
        target: Target::Everything,
        rules: vec![rule],
        provider: None,
    })
}

fn mesh(node: &Node, d: &mut Diagnostics) -> (Mesh, Option<PathNormalization>) {
    let mut mesh = Mesh::default();
    let Some(mut object) = Object::open(node, d) else { return (mesh, None) };
    if let Some(trust_domain) = object.read("trustDomain", d, config::trust_domain).flatten() {
        mesh.trust_domain = trust_domain;
    }
    let aliases = object.read("trustDomainAliases", d, |node, d| list(node, d, config::trust_domain));
    mesh.aliases = aliases.into_iter().flatten().flatten().collect();
    if let Some(root_namespace) = object.read("rootNamespace", d, config::namespace).flatten() {
        mesh.root_namespace = root_namespace;
    }
    if let Some(combining) = object.read("combining", d, |node, d| one_of(node, &COMBINING, d)).flatten() {
        mesh.combining = combining;
    }
    mesh.several_providers = object.read("severalProviders", d, boolean).flatten().unwrap_or(false);
    let paths = object.read("pathNormalization", d, |node, d| one_of(node, &PathNormalization::NAMES, d)).flatten();
    object.finish(d);
    (mesh, paths)
}

/// Reads the tests. Each has a name of its own, so that a report says which one failed.
fn tests(node: &Node, d: &mut Diagnostics) -> Vec<Option<Test>> {
    let mut seen = HashSet::new();
    list(node, d, |node, d| {
        let test = test(node, d);
        if let Some(name) = node.get("name").and_then(Node::as_str).filter(|name| !seen.insert(name.to_owned())) {
            d.field("name", |d| {
                d.error_with_hint(format!("another test is called `{name}` too"), "give each test a name of its own");
            });
        }
        test
    })
}

fn test(node: &Node, d: &mut Diagnostics) -> Option<Test> {
    let mut object = Object::open(node, d)?;
    let name = object.string("name", d);
    if name.as_deref() == Some("") {
        d.field("name", |d| d.error("must not be empty"));
    }
    let request = object.read("request", d, RequestFields::read).flatten();
    let expect = object.read("expect", d, expectation).flatten();
    for required in ["name", "request", "expect"] {
        if !object.has(required) {
            d.field(required, |d| d.error("is missing"));
        }
    }
    object.finish(d);
    let position = node.place.as_deref().map(|place| place.value.start);
    Some(Test { name: name?, position, request: request?, expect: expect? })
}

const DECISIONS: [(&str, Verdict); 2] = [("ALLOW", Verdict::Allow), ("DENY", Verdict::Deny)];

fn expectation(node: &Node, d: &mut Diagnostics) -> Option<Expectation> {
    if matches!(node.value, Value::String(_)) {
        return Some(Expectation { decision: one_of(node, &DECISIONS, d)?, policy: None, rule: None });
    }
    let mut object = Object::open(node, d)?;
    let decision = object.read("decision", d, |node, d| one_of(node, &DECISIONS, d)).flatten();
    if !object.has("decision") {
        d.field("decision", |d| d.error("is missing"));
    }
    let policy = object.string("policy", d);
    let rule = object.read("rule", d, |node, d| number(node, 511, d)).flatten();
    object.finish(d);
    Some(Expectation { decision: decision?, policy, rule: rule.map(usize::from) })
}

/// Reads a SPIFFE ID without its scheme, as in policies.
fn principal(node: &Node, d: &mut Diagnostics) -> Option<String> {
    let text = string(node, d)?;
    if text.starts_with("spiffe://") {
        d.error_with_hint(format!("`{text}` has the scheme in it"), "write it without `spiffe://`, as in policies");
    } else if !text.contains('/') {
        // A test that expects DENY would pass, whatever the policies are.
        d.error_with_hint(
            format!("`{text}` is not the identity of a workload"),
            "write it whole, such as `cluster.local/ns/NAMESPACE/sa/ACCOUNT`",
        );
    }
    Some(text.to_owned())
}

/// Reads a map from the name of each header to its value or a list of its values.
fn headers(node: &Node, d: &mut Diagnostics) -> Vec<(String, String)> {
    let mut headers = Vec::new();
    for (name, node) in entries(node, d) {
        d.field(name, |d| {
            if name.starts_with(':') || name.eq_ignore_ascii_case("host") {
                d.error_with_hint("is not an ordinary header", "use the fields `host`, `method` and `path`");
            }
            let values = match &node.value {
                Value::List(_) => list(node, d, string),
                _ => vec![string(node, d)],
            };
            headers.extend(values.into_iter().flatten().map(|value| (name.clone(), value.to_owned())));
        });
    }
    headers
}

/// The answers of providers, by their names in a file.
pub const ANSWERS: [(&str, Verdict); 2] = [("allow", Verdict::Allow), ("deny", Verdict::Deny)];

fn providers(node: &Node, d: &mut Diagnostics) -> Vec<(String, Verdict)> {
    let entries = entries(node, d);
    let answer = |(name, node): &(String, Node)| Some((name.clone(), d.field(name, |d| one_of(node, &ANSWERS, d))?));
    entries.iter().filter_map(answer).collect()
}

fn entries<'n>(node: &'n Node, d: &mut Diagnostics) -> &'n [(String, Node)] {
    if let Value::Map(entries) = &node.value {
        return entries;
    }
    d.error(format!("must be an object, is {}", node.value.kind()));
    &[]
}

fn map(node: &Node, d: &mut Diagnostics) -> Node {
    entries(node, d);
    node.clone()
}

fn address(node: &Node, d: &mut Diagnostics) -> Option<IpAddr> {
    let text = string(node, d)?;
    let address = text.parse().ok();
    if address.is_none() {
        d.error(format!("`{text}` is not an IP address"));
    }
    address
}

fn number(node: &Node, most: u16, d: &mut Diagnostics) -> Option<u16> {
    let number = whole_number(node, most.into()).and_then(|number| u16::try_from(number).ok());
    if number.is_none() {
        d.error(format!("must be a whole number from 0 to {most}, is {}", node.value.shown()));
    }
    number
}
