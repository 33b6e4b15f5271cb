//! Requests that the analysis of policies has found, in the form of test files.

use std::net::IpAddr;

use mesh_authz::analysis::Example;
use mesh_authz::document::{Node, Value};
use mesh_authz::engine::Verdict;
use mesh_authz::identity::SCHEME;
use mesh_authz::policy::scope::Workload;
use mesh_authz::request::metadata::{DEFAULT_PAYLOAD_KEY, JWT_AUTHN};
use mesh_authz::request::{Address, PeerName};
use serde_json::{Map, json};

use crate::received::Protocol;
use crate::testfile::{ANSWERS, PeerFields, RequestFields};

/// The request, in the form of a request in a test file. Bytes that are no text become U+FFFD.
#[must_use]
pub fn fields(example: &Example, is_tcp: bool) -> RequestFields {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let header = |wanted: &str| {
        let found = example.headers.iter().find(|(name, _)| name == wanted);
        found.map(|(_, value)| text(value)).filter(|_| !is_tcp)
    };
    let headers = example.headers.iter().filter(|(name, _)| !name.starts_with(':'));
    let address = |which| example.addresses.get(&which).copied();
    let (principal, peer) = peer(&example.names);
    let mut metadata = example.metadata.clone();
    let jwt = take_token(&mut metadata);
    RequestFields {
        principal,
        peer,
        method: header(":method"),
        path: header(":path"),
        host: header(":authority"),
        protocol: is_tcp.then_some(Protocol::Tcp),
        headers: headers.map(|(name, value)| (name.clone(), text(value))).collect(),
        source_ip: address(Address::Source),
        remote_ip: address(Address::Remote),
        destination_ip: address(Address::Destination),
        destination_port: example.destination_port,
        sni: example.sni.as_deref().map(text),
        jwt,
        metadata,
        providers: Vec::new(),
    }
}

/// A name that nobody can read: [`mesh_authz::request::Attributes::checked_peer_name`].
const UNREADABLE: &str = "\0";

/// The names of the peer: one SPIFFE ID, or whatever they are.
fn peer(names: &[(PeerName, Vec<u8>)]) -> (Option<String>, Option<PeerFields>) {
    let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
    let mut peer = PeerFields::default();
    for (which, name) in names {
        match which {
            PeerName::Uri => peer.uris.push(text(name)),
            PeerName::FurtherUris if peer.uris.is_empty() => peer.uris.push(UNREADABLE.to_owned()),
            PeerName::FurtherUris => peer.uris.push("https://further.invalid".to_owned()),
            PeerName::Dns => peer.dns = Some(text(name)),
            PeerName::Subject => peer.subject = Some(text(name)),
        }
    }
    match (peer.uris.as_slice(), &peer.dns, &peer.subject) {
        ([], None, None) => (None, None),
        ([uri], None, None) if uri.strip_prefix(SCHEME).is_some_and(|id| id.contains('/')) => {
            (uri.strip_prefix(SCHEME).map(str::to_owned), None)
        }
        _ => (None, Some(peer)),
    }
}

/// Takes the claims of the token out of the metadata.
fn take_token(metadata: &mut Vec<(String, Node)>) -> Option<Node> {
    let at = metadata.iter().position(|(filter, _)| filter == JWT_AUTHN)?;
    let (_, fields) = metadata.get(at)?;
    let payload = fields.get(DEFAULT_PAYLOAD_KEY)?.clone();
    metadata.remove(at);
    Some(payload)
}

/// Leaves out what does not matter: whatever can be left out so that the request is still decided as it is.
#[must_use]
pub fn shortest(mut fields: RequestFields, is_decided_so: impl Fn(&RequestFields) -> bool) -> RequestFields {
    let parts: [fn(&mut RequestFields); 7] = [
        |fields| fields.remote_ip = None,
        |fields| fields.source_ip = None,
        |fields| fields.destination_ip = None,
        |fields| fields.destination_port = None,
        |fields| fields.host = None,
        |fields| fields.path = None,
        |fields| fields.method = None,
    ];
    for leave_out in parts {
        let mut shorter = fields.clone();
        leave_out(&mut shorter);
        if is_decided_so(&shorter) {
            fields = shorter;
        }
    }
    fields
}

/// The request, as a test file has it.
#[must_use]
pub fn request_as_json(fields: &RequestFields) -> serde_json::Value {
    let mut object = Map::new();
    let mut add = |key: &str, value: serde_json::Value| {
        if !value.is_null() {
            object.insert(key.to_owned(), value);
        }
    };
    let address = |address: Option<IpAddr>| json!(address.map(|address| address.to_string()));
    add("principal", json!(fields.principal));
    add("peer", fields.peer.as_ref().map_or(serde_json::Value::Null, peer_as_json));
    add("method", json!(fields.method));
    add("path", json!(fields.path));
    add("host", json!(fields.host));
    add("sourceIp", address(fields.source_ip));
    add("remoteIp", address(fields.remote_ip));
    add("destinationIp", address(fields.destination_ip));
    add("destinationPort", json!(fields.destination_port));
    add("sni", json!(fields.sni));
    add("jwt", fields.jwt.as_ref().map_or(serde_json::Value::Null, as_json));
    if fields.protocol == Some(Protocol::Tcp) {
        add("protocol", json!("tcp"));
    }
    let mut headers = Map::new();
    for (name, value) in &fields.headers {
        let lines = headers.entry(name).or_insert_with(|| json!([]));
        lines.as_array_mut().into_iter().for_each(|lines| lines.push(json!(value)));
    }
    for lines in headers.values_mut() {
        if let Some([only]) = lines.as_array().map(Vec::as_slice) {
            *lines = only.clone();
        }
    }
    if !headers.is_empty() {
        add("headers", headers.into());
    }
    if !fields.metadata.is_empty() {
        add("metadata", fields.metadata.iter().map(|(filter, node)| (filter.clone(), as_json(node))).collect());
    }
    if !fields.providers.is_empty() {
        let name = |answer: Verdict| ANSWERS.iter().find(|(_, known)| *known == answer).map(|(name, _)| json!(name));
        add(
            "provider",
            fields.providers.iter().filter_map(|(key, answer)| Some((key.clone(), name(*answer)?))).collect(),
        );
    }
    object.into()
}

fn peer_as_json(PeerFields { uris, dns, subject }: &PeerFields) -> serde_json::Value {
    let mut object = Map::new();
    if !uris.is_empty() {
        object.insert("uris".to_owned(), json!(uris));
    }
    object.extend(dns.iter().map(|dns| ("dns".to_owned(), json!(dns))));
    object.extend(subject.iter().map(|subject| ("subject".to_owned(), json!(subject))));
    object.into()
}

fn as_json(node: &Node) -> serde_json::Value {
    match &node.value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(value) => json!(value),
        Value::Number(value) => json!(value),
        Value::String(text) => json!(text),
        Value::List(items) => items.iter().map(as_json).collect(),
        Value::Map(entries) => entries.iter().map(|(key, node)| (key.clone(), as_json(node))).collect(),
    }
}

/// The workload, as the fields `workload` and `gateway` of a test file.
#[must_use]
pub fn workload_as_json(workload: &Workload) -> Map<String, serde_json::Value> {
    let mut fields = Map::new();
    let mut about = Map::from_iter([("namespace".to_owned(), json!(workload.namespace))]);
    if let Some(labels) = &workload.labels {
        let labels = labels.iter().map(|(key, value)| (key.clone(), json!(value)));
        about.insert("labels".to_owned(), serde_json::Value::Object(labels.collect()));
    }
    if let Some(revision) = &workload.revision {
        about.insert("revision".to_owned(), json!(revision));
    }
    fields.insert("workload".to_owned(), about.into());
    if let Some(gateway) = &workload.gateway {
        let services = |services: &[mesh_authz::policy::scope::ServiceName]| -> Vec<_> {
            services.iter().map(|service| format!("{}/{}", service.namespace, service.name)).collect()
        };
        let mut about = Map::from_iter([("name".to_owned(), json!(gateway.name))]);
        if gateway.waypoint {
            about.insert("waypoint".to_owned(), json!(true));
        }
        for (key, names) in [("services", &gateway.services), ("serviceEntries", &gateway.service_entries)] {
            if !names.is_empty() {
                about.insert(key.to_owned(), json!(services(names)));
            }
        }
        fields.insert("gateway".to_owned(), about.into());
    }
    fields
}
