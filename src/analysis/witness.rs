//! A request, and the workload that it is for, that show what is claimed.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use super::region::Region;
use super::solve::Workloads;
use super::subject::{GATEWAY, Subject, Value, WAYPOINT, is_expected};
use crate::attribute::{Address, ConnectionText};
use crate::document::{self, Node};
use crate::engine::compile::MetadataPath;
use crate::policy::scope::{GATEWAY_NAME_LABEL, Gateway, ServiceName, Workload};
use crate::request::{Lookup, PeerName, Request};

/// A request, and the workload that it is for.
#[derive(Clone, Debug)]
pub struct Witness {
    /// The workload.
    pub workload: Workload,
    /// The names in the peer's certificate. With [`PeerName::FurtherUris`], it has several URIs.
    pub names: Vec<(PeerName, Vec<u8>)>,
    /// The names and the values of headers, pseudo-headers among them.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The addresses. One that is missing is unreadable.
    pub addresses: BTreeMap<Address, IpAddr>,
    /// The local port. `None`: it is unreadable.
    pub destination_port: Option<u16>,
    /// The server name in the TLS handshake.
    pub sni: Option<Vec<u8>>,
    /// Dynamic metadata, by filter.
    pub metadata: Vec<(String, Node)>,
    /// Whether people may expect a request that shows the same. Otherwise, none that they expect does.
    pub is_expected: bool,
}

/// Where a request comes from and goes to if nothing depends on it.
const ADDRESSES: [(Address, IpAddr); 3] = [
    (Address::Source, IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))),
    (Address::Remote, IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))),
    (Address::Destination, IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2))),
];
const PORT: u16 = 8080;

impl Witness {
    /// A request of the region.
    pub(super) fn of(region: &Region<'_>, workloads: &Workloads) -> Self {
        let workload = match workloads {
            Workloads::One(workload) => (**workload).clone(),
            Workloads::All { root_namespace, revision } => {
                Workload { revision: revision.clone(), ..some_workload(region, root_namespace) }
            }
        };
        let mut witness = Self {
            workload,
            names: Vec::new(),
            headers: Vec::new(),
            addresses: BTreeMap::from(ADDRESSES),
            destination_port: Some(PORT),
            sni: None,
            metadata: Vec::new(),
            is_expected: region.values().all(|(subject, value)| is_expected(subject, value)),
        };
        let usual: [(&str, &[u8]); 3] = [(":method", b"GET"), (":path", b"/"), (":authority", b"localhost")];
        for (name, usual) in usual {
            match region.value(&Subject::header(name.as_bytes())) {
                None => witness.headers.push((name.to_owned(), usual.to_vec())),
                Some(Value::Text(value)) => witness.headers.push((name.to_owned(), value.clone())),
                Some(_) => {}
            }
        }
        for (subject, value) in region.values() {
            witness.set(subject, value);
        }
        witness
    }

    fn set(&mut self, subject: &Subject, value: &Value) {
        match (subject, value) {
            (Subject::Peer, Value::Names(names)) => self.names.clone_from(names),
            (Subject::Address(which), Value::Address(address)) => {
                self.addresses.insert(*which, *address);
            }
            (Subject::Address(which), Value::Unreadable) => {
                self.addresses.remove(which);
            }
            (Subject::DestinationPort, Value::Port(port)) => self.destination_port = Some(*port),
            (Subject::DestinationPort, Value::Unreadable) => self.destination_port = None,
            (Subject::Connection(ConnectionText::Sni), Value::Text(name)) => self.sni = Some(name.clone()),
            (Subject::Header(name), _) if matches!(&**name, b":method" | b":path" | b":authority") => {}
            (Subject::Header(name), Value::Text(value)) => self.add_header(name, value),
            (Subject::Header(name), Value::Texts(values)) => {
                for value in values {
                    self.add_header(name, value);
                }
            }
            (Subject::Metadata(path), Value::Text(text)) => insert(&mut self.metadata, path, string(text)),
            (Subject::Metadata(path), Value::Texts(texts)) => {
                let list = texts.iter().map(|text| string(text).into()).collect();
                insert(&mut self.metadata, path, document::Value::List(list));
            }
            _ => {}
        }
    }

    fn add_header(&mut self, name: &[u8], value: &[u8]) {
        self.headers.push((String::from_utf8_lossy(name).into_owned(), value.to_vec()));
    }

    /// The request, as the engine takes it.
    #[must_use]
    pub fn request(&self) -> Request {
        let mut request = Request::default()
            .destination_port(self.destination_port.map_or(Lookup::Unreadable, Lookup::Value))
            .sni(self.sni.as_deref().map_or(Lookup::Absent, Lookup::Value));
        for (which, address) in &self.addresses {
            request = request.with_address(*which, Lookup::Value(*address));
        }
        for (which, name) in &self.names {
            let name = if *which == PeerName::FurtherUris { Lookup::Unreadable } else { Lookup::Value(&**name) };
            request = request.peer_name(*which, name);
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        self.metadata.iter().fold(request, |request, (filter, fields)| request.metadata(filter, fields))
    }
}

/// A text about the workload. `None`: it has none.
pub(super) fn of_workload<'v>(region: &'v Region<'_>, subject: &Subject) -> Option<&'v [u8]> {
    match (region.value(subject), subject) {
        (Some(Value::Text(text)), _) => Some(text),
        (None, Subject::Namespace) => Some(b"default"),
        (None, Subject::Proxy) => Some(super::subject::SIDECAR),
        _ => None,
    }
}

/// The workload of the requests of a region.
fn some_workload(region: &Region<'_>, root_namespace: &str) -> Workload {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let about = |subject: &Subject| text(of_workload(region, subject).unwrap_or_default());
    let label = |(subject, value): (&Subject, &Value)| match (subject, value) {
        (Subject::Label(key), Value::Text(value)) => Some((key.to_string(), text(value))),
        _ => None,
    };
    let mut labels: Vec<_> = region.values().filter_map(label).collect();
    let proxy = about(&Subject::Proxy);
    let kinds = [(GATEWAY, false), (WAYPOINT, true)];
    let gateway = kinds.into_iter().find_map(|(kind, waypoint)| {
        let name = text(proxy.as_bytes().strip_prefix(kind)?);
        Some(Gateway { name, waypoint, services: Vec::new(), service_entries: Vec::new() })
    });
    if let Some(Gateway { name, waypoint: false, .. }) = &gateway {
        labels.push((GATEWAY_NAME_LABEL.to_owned(), name.clone()));
    }
    let service = about(&Subject::Service);
    let service = service.split_once('/').and_then(|(kind, name)| Some((kind, name.split_once('/')?)));
    let gateway = gateway.map(|mut gateway| {
        if let Some((kind, (namespace, name))) = service {
            let service = ServiceName { namespace: namespace.to_owned(), name: name.to_owned(), host: None };
            if kind == "Service" { gateway.services.push(service) } else { gateway.service_entries.push(service) }
        }
        gateway
    });
    Workload {
        namespace: about(&Subject::Namespace),
        labels: Some(labels.into_iter().collect()),
        gateway,
        root_namespace: root_namespace.to_owned(),
        revision: None,
    }
}

fn string(bytes: &[u8]) -> document::Value {
    document::Value::String(String::from_utf8_lossy(bytes).into_owned())
}

/// Sets a value at a path, and creates the maps that lead to it.
fn insert(metadata: &mut Vec<(String, Node)>, path: &MetadataPath, value: document::Value) {
    let keys = std::iter::once(&path.filter).chain(&path.keys);
    let mut keys: Vec<_> = keys.map(|key| String::from_utf8_lossy(key).into_owned()).collect();
    let Some(last) = keys.pop() else { return };
    let mut entries = metadata;
    for key in keys {
        let at = entries.iter().position(|(name, _)| *name == key).unwrap_or_else(|| {
            entries.push((key, document::Value::Map(Vec::new()).into()));
            entries.len().saturating_sub(1)
        });
        entries = match entries.get_mut(at).map(|(_, node)| &mut node.value) {
            Some(document::Value::Map(inner)) => inner,
            _ => return,
        };
    }
    entries.push((last, value.into()));
}
