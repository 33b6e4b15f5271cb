//! The request of a line, as far as the line has it. What it does not have is unreadable, never absent.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use mesh_authz::document::{Node, Value, from_json};
use mesh_authz::policy::{AuthorizationPolicy, Predicate, Traffic};
use mesh_authz::request::headers::is_joined;
use mesh_authz::request::metadata::JWT_AUTHN;
use mesh_authz::request::{
    Address, Attributes, ConnectionText, HeaderValues, Headers, Lookup, Metadata, PartlyKnown, PeerName, without_query,
};

use super::format::{Lines, Tells};
use super::happened::{Evidence, Happened, SENT};
use super::record::{Format, Record, Said};

/// What policies look at.
#[derive(Debug, Default)]
pub struct Needs {
    /// Headers and pseudo-headers by name, each with the values that policies compare it with.
    headers: BTreeMap<String, BTreeSet<String>>,
    /// The values that policies compare the server name with.
    server_names: BTreeSet<String>,
    /// Whether a policy looks at the path with its query.
    whole_path: bool,
    /// Filters, and the keys from their metadata down to a value.
    metadata: BTreeSet<(String, Vec<String>)>,
}

impl Needs {
    /// What these policies look at. `payload_key`: the key of the payload of a token in the metadata.
    pub fn of<'p>(policies: impl Iterator<Item = &'p AuthorizationPolicy>, payload_key: &str) -> Self {
        let mut needs = Self::default();
        let claim = |path: &[String]| {
            let keys = std::iter::once(payload_key.to_owned()).chain(path.iter().cloned()).collect();
            (JWT_AUTHN.to_owned(), keys)
        };
        for predicate in policies.flat_map(AuthorizationPolicy::predicates) {
            match predicate {
                Predicate::Header { name, values } => {
                    let name = name.to_ascii_lowercase();
                    needs.whole_path |= name == ":path";
                    let name = if name == "host" { ":authority".to_owned() } else { name };
                    needs.headers.entry(name).or_default().extend(values.any.iter().chain(&values.none).cloned());
                }
                Predicate::Host(values) => {
                    let hosts = values.any.iter().chain(&values.none).cloned();
                    needs.headers.entry(":authority".to_owned()).or_default().extend(hosts);
                }
                Predicate::Sni(values) => needs.server_names.extend(values.any.iter().chain(&values.none).cloned()),
                Predicate::RequestPrincipal(_) => {
                    needs.metadata.extend([claim(&["iss".to_owned()]), claim(&["sub".to_owned()])]);
                }
                Predicate::Claim { path, .. } => {
                    needs.metadata.insert(claim(path));
                }
                Predicate::Metadata { filter, key, .. } => {
                    needs.metadata.insert((filter.clone(), vec![key.clone()]));
                }
                _ => {}
            }
        }
        needs
    }
}

/// Whether a value of a policy can match the text, as if case did not count.
fn can_match(value: &str, text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text).to_ascii_lowercase();
    let value = value.to_ascii_lowercase();
    value == "*"
        || value == text
        || value.strip_suffix('*').is_some_and(|beginning| text.starts_with(beginning))
        || value.strip_prefix('*').is_some_and(|end| text.ends_with(end))
}

/// How a line is read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reading {
    /// A request is taken to be as its line says: no route has changed it, no client has sent `x-envoy-original-path`, and each
    /// header has one line.
    pub as_logged: bool,
    /// The lines are those of a gateway or a waypoint.
    pub is_gateway: bool,
    /// They are those of a waypoint.
    pub is_waypoint: bool,
}

/// Where the columns of a format have what counts.
#[derive(Debug)]
pub struct Plan<'n> {
    needs: &'n Needs,
    method: Option<usize>,
    decided_path: Option<usize>,
    decided_authority: Option<usize>,
    authority: Option<usize>,
    /// `:path`, and whether its query is cut.
    path: Option<(usize, bool)>,
    /// The header `x-envoy-original-path` or, if there is none, `:path`; and whether its query is cut.
    original_or_path: Option<(usize, bool)>,
    original_path: Option<usize>,
    peer_uris: Option<usize>,
    peer_dns: Option<usize>,
    peer_subject: Option<usize>,
    waypoint_peer: Option<usize>,
    tls_version: Option<usize>,
    addresses: BTreeMap<Address, (usize, bool)>,
    port: Option<usize>,
    server_name: Option<usize>,
    headers: Vec<HeaderPlan<'n>>,
    metadata: Vec<MetadataPlan<'n>>,
    details: Option<usize>,
    termination: Option<usize>,
    flags: Option<usize>,
    code: Option<usize>,
    protocol: Option<usize>,
    start: Option<usize>,
    cluster: Option<usize>,
    upstream: Option<usize>,
    received: Option<usize>,
    sent: Option<usize>,
    filter_chain: Option<usize>,
    decision: Option<usize>,
    log_type: Option<usize>,
    namespace: Option<usize>,
    is_json: bool,
}

/// Where a header is that policies look at.
#[derive(Debug)]
struct HeaderPlan<'n> {
    name: &'n str,
    values: &'n BTreeSet<String>,
    /// The columns with its first line, with all lines, with whether there are any, and with their lengths: as they were when the
    /// policies were evaluated.
    decided: [Option<usize>; 4],
    /// The same, as they were in the end.
    logged: [Option<usize>; 2],
}

/// Where metadata is that policies look at: the column with it, and how many of the keys lead to what the column has.
#[derive(Debug)]
struct MetadataPlan<'n> {
    filter: &'n str,
    keys: &'n [String],
    column: Option<(usize, usize)>,
}

impl<'n> Plan<'n> {
    /// Finds the columns.
    #[must_use]
    pub fn new(format: &Format, needs: &'n Needs) -> Self {
        let columns: Vec<_> = format.columns().iter().map(|operator| &operator.tells).collect();
        // Of several columns, one that is not cut is better.
        let is_whole = |number: &usize| format.columns().get(*number).is_some_and(|operator| operator.length.is_none());
        let find = |wanted: &dyn Fn(&Tells) -> bool| {
            let all: Vec<_> = columns.iter().enumerate().filter(|(_, tells)| wanted(tells)).map(|(at, _)| at).collect();
            all.iter().copied().find(is_whole).or(all.first().copied())
        };
        let is = |wanted: &Tells| find(&|tells| tells == wanted);
        let header = |name: &str, lines: Lines| is(&Tells::Header { name: name.to_owned(), instead: None, lines });
        let path = |original: bool| {
            let of = |without_query| is(&Tells::Path { without_query, original }).map(|at| (at, without_query));
            of(false).or_else(|| of(true))
        };
        let address = |which: Address| {
            let of = |has_port| is(&Tells::Address { which, has_port }).map(|at| (at, has_port));
            Some((which, of(true).or_else(|| of(false))?))
        };
        let has_own_columns = |name: &str| [":method", ":path", ":authority"].contains(&name);
        let headers = needs.headers.iter().filter(|(name, _)| !has_own_columns(name));
        let header_plan = |(name, values): (&'n String, &'n BTreeSet<String>)| HeaderPlan {
            name,
            values,
            decided: [Lines::First, Lines::Joined, Lines::Has, Lines::Lengths]
                .map(|lines| is(&Tells::Decided { name: name.clone(), lines })),
            logged: [Lines::First, Lines::Joined].map(|lines| header(name, lines)),
        };
        let metadata_plan = |(filter, keys): &'n (String, Vec<String>)| {
            let leads = |tells: &Tells| match tells {
                Tells::Metadata { filter: of, keys: to } if of == filter && keys.starts_with(to) => Some(to.len()),
                _ => None,
            };
            // The column that tells least besides.
            let found = columns.iter().enumerate().filter_map(|(at, tells)| Some((at, leads(tells)?)));
            MetadataPlan { filter, keys, column: found.max_by_key(|(_, length)| *length) }
        };
        Self {
            method: header(":method", Lines::First),
            decided_path: is(&Tells::Decided { name: ":path".to_owned(), lines: Lines::First }),
            decided_authority: is(&Tells::Decided { name: ":authority".to_owned(), lines: Lines::First }),
            authority: header(":authority", Lines::First),
            path: path(false),
            original_or_path: path(true),
            original_path: header("x-envoy-original-path", Lines::First),
            peer_uris: is(&Tells::PeerUris),
            peer_dns: is(&Tells::PeerDnsNames),
            peer_subject: is(&Tells::PeerSubject),
            waypoint_peer: is(&Tells::WaypointPeer),
            tls_version: is(&Tells::TlsVersion),
            addresses: [Address::Source, Address::Remote, Address::Destination]
                .into_iter()
                .filter_map(address)
                .collect(),
            port: is(&Tells::DestinationPort),
            server_name: is(&Tells::ServerName),
            headers: headers.map(header_plan).collect(),
            metadata: needs.metadata.iter().map(metadata_plan).collect(),
            details: is(&Tells::CodeDetails),
            termination: is(&Tells::TerminationDetails),
            flags: is(&Tells::Flags),
            code: is(&Tells::Code),
            protocol: is(&Tells::Protocol),
            start: is(&Tells::StartTime),
            cluster: is(&Tells::Cluster),
            upstream: is(&Tells::UpstreamHost),
            received: is(&Tells::BytesReceived),
            sent: is(&Tells::BytesSent),
            filter_chain: is(&Tells::FilterChain),
            decision: is(&Tells::Decision),
            log_type: is(&Tells::LogType),
            namespace: is(&Tells::PodNamespace),
            is_json: format.is_json(),
            needs,
        }
    }
}

/// Which kind of Istio's proxies writes such a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proxy {
    Sidecar,
    Waypoint,
    /// The line does not say.
    Any,
}

impl Proxy {
    fn of(cluster: Option<&str>, filter_chain: Option<&str>) -> Self {
        let is_of_service = |name: &str| name.starts_with("inbound-vip|");
        match (cluster, filter_chain) {
            (Some(cluster), _) if cluster.starts_with("inbound|") => Self::Sidecar,
            (Some(cluster), _) if is_of_service(cluster) || cluster == "encap" => Self::Waypoint,
            (_, Some(chain)) if is_of_service(chain) || ["direct-http", "direct-tcp"].contains(&chain) => {
                Self::Waypoint
            }
            _ => Self::Any,
        }
    }
}

/// A line with a request, or with a connection.
#[derive(Debug)]
pub struct Line<'l> {
    /// What the policies look at.
    pub request: LoggedRequest<'l>,
    /// What became of it.
    pub happened: Happened,
    /// When it began, as the line has it.
    pub start: Option<Cow<'l, str>>,
    /// The namespace of the workload, if the line has it.
    pub namespace: Option<Cow<'l, str>>,
    /// The name of the filter chain, if the line has it. At a waypoint, it tells which service a request was for. The cluster does
    /// not: a route can lead to that of another service.
    pub filter_chain: Option<Cow<'l, str>>,
    /// Which kind of proxy can have written the line.
    pub proxy: Proxy,
    /// Whether the line can be about a request that the workload has sent.
    pub may_be_outbound: bool,
    /// Whether Envoy found no route for the request.
    pub has_no_route: bool,
}

/// A request, as far as a line has it.
#[derive(Debug)]
pub struct LoggedRequest<'l> {
    /// Whether it is a request, or a connection that is none of HTTP.
    pub traffic: Traffic,
    peer: Names<'l>,
    addresses: BTreeMap<Address, IpAddr>,
    port: Option<u16>,
    server_name: Lookup<Cow<'l, [u8]>>,
    /// The names of the headers that the line has, or says that there are none of.
    known: Vec<Cow<'l, str>>,
    headers: Vec<u8>,
    metadata: Vec<u8>,
    /// What the line says about the path, even if the path can have been another.
    pub shown_path: Option<Cow<'l, [u8]>>,
    /// The port of the peer, if the address is that of the connection.
    remote_port: Option<u16>,
    is_from_mesh: bool,
}

/// The names of a peer, in the order of [`PeerName::ALL`].
type Names<'l> = [Lookup<Cow<'l, [u8]>>; 4];

/// The parts of the line that is read.
struct Columns<'r, 'l> {
    record: &'r Record<'l>,
}

impl<'l> Columns<'_, 'l> {
    fn said(&self, column: Option<usize>) -> Option<&Said<'l>> {
        self.record.said.get(column?)
    }

    fn text(&self, column: Option<usize>) -> Option<&str> {
        self.said(column)?.text()
    }
}

impl Plan<'_> {
    /// What a line says.
    #[must_use]
    pub fn line<'l>(&self, record: &Record<'l>, reading: Reading) -> Line<'l> {
        let columns = Columns { record };
        let traffic = self.traffic(&columns);
        // A method or a path can be `-`, which also stands for none.
        let paths = [self.decided_path, self.path.map(|(at, _)| at), self.original_or_path.map(|(at, _)| at)];
        let mut of_request_line =
            paths.into_iter().chain([self.method]).filter_map(|column| columns.said(column)).peekable();
        let has_request_line = of_request_line.peek().is_none() || of_request_line.any(|said| !said.is_absent());
        let details = self.details.map(|column| columns.text(Some(column)));
        let evidence = Evidence {
            details,
            termination: columns.text(self.termination),
            flags: columns.text(self.flags),
            decision: columns.text(self.decision),
            log_type: columns.text(self.log_type),
            has_passed: columns.text(self.received).is_some_and(|bytes| bytes != "0")
                && columns.said(self.termination).is_some_and(Said::is_absent)
                // Our filter gives no reason for closing a connection, but a denied client gets no byte.
                && (columns.said(self.decision).is_some_and(Said::is_absent)
                    || columns.text(self.sent).is_some_and(|bytes| bytes != "0")),
            has_upstream: columns.text(self.upstream).is_some(),
            has_request_line,
        };
        let cluster = columns.text(self.cluster);
        let mut happened = Happened::of(&evidence, traffic);
        let is_outbound = cluster.is_some_and(is_outbound) && !reading.is_gateway;
        if is_outbound && !matches!(happened, Happened::Denied(_)) {
            happened = Happened::NotDecided(SENT);
        }
        let owned = |column: Option<usize>| columns.text(column).map(|text| Cow::Owned(text.to_owned()));
        let is_inbound = cluster.is_some_and(is_inbound) && !reading.is_gateway;
        let has_no_route = details.flatten() == Some("route_not_found");
        let is_denied = matches!(happened, Happened::Denied(_));
        let is_redirected = details.flatten() == Some("internal_redirect");
        let is_certain = (is_inbound || has_no_route || is_denied) && !is_redirected;
        let change = Change { is_certain, is_denied, is_redirected, reading };
        let has_no_direction = match columns.said(self.cluster) {
            None | Some(Said::Unknown) => true,
            // A sidecar has a route for every request that it receives.
            Some(said) => said.is_absent() && matches!(happened, Happened::Allowed | Happened::Unknown),
        };
        Line {
            may_be_outbound: !reading.is_gateway && has_no_direction,
            has_no_route,
            request: self.request(&columns, traffic, change, is_inbound),
            happened,
            start: owned(self.start),
            namespace: owned(self.namespace).filter(|namespace| namespace != "-"),
            filter_chain: owned(self.filter_chain),
            proxy: Proxy::of(cluster, columns.text(self.filter_chain)),
        }
    }

    /// A connection has neither a request line nor a protocol, and no code.
    fn traffic(&self, columns: &Columns<'_, '_>) -> Traffic {
        let is_absent = |column: Option<usize>| columns.said(column).is_some_and(Said::is_absent);
        let has_no_code = columns.text(self.code) == Some("0");
        let has_no_details = columns.said(self.details).is_none_or(Said::is_absent);
        if is_absent(self.protocol) && is_absent(self.method) && has_no_code && has_no_details {
            Traffic::Tcp
        } else {
            Traffic::Http
        }
    }

    fn request<'l>(
        &self,
        columns: &Columns<'_, 'l>,
        traffic: Traffic,
        change: Change,
        is_inbound: bool,
    ) -> LoggedRequest<'l> {
        let mut addresses = BTreeMap::new();
        let mut port = columns.text(self.port).and_then(|text| text.parse().ok());
        let mut remote_port = None;
        for (which, (column, has_port)) in &self.addresses {
            let Some(text) = columns.text(Some(*column)) else { continue };
            let (address, of_address) = match text.parse::<SocketAddr>() {
                Ok(socket) if *has_port => (Some(socket.ip()), Some(socket.port())),
                _ => (text.parse().ok().filter(|_| !has_port), None),
            };
            match which {
                Address::Destination => port = port.or(of_address),
                Address::Remote => remote_port = of_address,
                Address::Source => {}
            }
            if let Some(address) = address {
                addresses.insert(*which, address);
            }
        }
        let mut known: Vec<Cow<'l, str>> = Vec::new();
        let mut pairs: Vec<(Cow<'l, str>, Cow<'l, [u8]>)> = Vec::new();
        let mut add = |name: &str, lines: Option<Vec<Cow<'l, [u8]>>>| {
            if let Some(lines) = lines {
                known.push(Cow::Owned(name.to_owned()));
                pairs.extend(lines.into_iter().map(|line| (Cow::Owned(name.to_owned()), line)));
            }
        };
        let path = self.path(columns, change);
        if traffic == Traffic::Http {
            add(":method", columns.said(self.method).and_then(|said| one_line(said, None)));
            add(":path", path);
            add(":authority", self.authority(columns, change));
            for header in &self.headers {
                add(header.name, header.lines(columns, change));
            }
        }
        let server_name = match columns.said(self.server_name) {
            Some(Said::Value(name)) if !name.starts_with(b"invalid:") => Lookup::Value(name.clone()),
            Some(Said::Absent) => Lookup::Absent,
            Some(Said::AbsentOr(text)) if !self.needs.server_names.iter().any(|value| can_match(value, text)) => {
                Lookup::Absent
            }
            _ => Lookup::Unreadable,
        };
        LoggedRequest {
            traffic,
            peer: self.peer(columns, change.reading, is_inbound),
            addresses,
            port,
            server_name,
            known,
            headers: Headers::encode(&pairs.iter().map(|(name, value)| (name.as_bytes(), value)).collect::<Vec<_>>()),
            metadata: self.metadata(columns),
            shown_path: self.shown_path(columns),
            remote_port,
            is_from_mesh: is_inbound
                && !columns.said(self.tls_version).is_some_and(Said::is_absent)
                && columns.text(self.server_name).is_some_and(|name| name.starts_with("outbound_")),
        }
    }

    fn peer<'l>(&self, columns: &Columns<'_, 'l>, reading: Reading, is_inbound: bool) -> Names<'l> {
        const NONE: Names<'static> = [Lookup::Absent, Lookup::Absent, Lookup::Absent, Lookup::Absent];
        const ANY: Names<'static> = [Lookup::Unreadable, Lookup::Unreadable, Lookup::Unreadable, Lookup::Unreadable];
        // At a waypoint, and in a tunnel to a sidecar, the peer's name is in a filter state. It is `-` if the peer has none.
        let tunnel = columns.said(self.waypoint_peer);
        match tunnel {
            Some(Said::Value(name)) if **name == *b"-" => return NONE,
            Some(Said::Value(name)) => {
                return [Lookup::Value(name.clone()), Lookup::Absent, Lookup::Absent, Lookup::Absent];
            }
            Some(Said::Absent | Said::AbsentOr(_)) if reading.is_waypoint => return NONE,
            Some(Said::Absent | Said::AbsentOr(_)) => {}
            None if !reading.is_waypoint && !is_inbound => {}
            // Without the state, a tunnel looks like plaintext.
            None if !reading.is_waypoint && columns.said(self.peer_uris).is_some_and(|said| !said.is_absent()) => {}
            _ => return ANY,
        }
        if columns.said(self.tls_version).is_some_and(Said::is_absent) {
            return NONE;
        }
        match columns.said(self.peer_uris) {
            // A name can have a comma in it, and commas are between names.
            Some(Said::Value(name)) if !name.contains(&b',') => {
                [Lookup::Value(name.clone()), Lookup::Absent, Lookup::Absent, Lookup::Absent]
            }
            Some(Said::Absent | Said::AbsentOr(_)) => {
                let name = |column: Option<usize>| match columns.said(column) {
                    Some(Said::Value(name)) => Lookup::Value(name.clone()),
                    Some(Said::Absent | Said::AbsentOr(_)) => Lookup::Absent,
                    _ => Lookup::Unreadable,
                };
                let dns = match name(self.peer_dns) {
                    Lookup::Value(names) if names.contains(&b',') => Lookup::Unreadable,
                    dns => dns,
                };
                [Lookup::Absent, Lookup::Absent, dns, name(self.peer_subject)]
            }
            _ => ANY,
        }
    }

    /// The path that the policies decided about, if that is certain.
    fn path<'l>(&self, columns: &Columns<'_, 'l>, change: Change) -> Option<Vec<Cow<'l, [u8]>>> {
        let decided = columns.said(self.decided_path).and_then(|said| one_line(&said.of_state(), None));
        if decided.is_some() || change.is_redirected {
            return decided;
        }
        let column = match self.path.filter(|_| change.is_certain) {
            Some(plain) => plain,
            None if change.reading.as_logged => {
                if let Some(Said::Value(path)) = columns.said(self.original_path) {
                    return Some(vec![path.clone()]);
                }
                self.original_or_path.or(self.path)?
            }
            None => return None,
        };
        let (column, without_query) = column;
        if without_query && self.needs.whole_path {
            return None;
        }
        one_line(columns.said(Some(column))?, None)
    }

    /// What the line has as the path.
    fn shown_path<'l>(&self, columns: &Columns<'_, 'l>) -> Option<Cow<'l, [u8]>> {
        let columns_of_paths =
            [self.decided_path, self.path.map(|(column, _)| column), self.original_or_path.map(|(column, _)| column)];
        columns_of_paths.into_iter().find_map(|column| match columns.said(column) {
            Some(Said::Value(path)) => Some(path.clone()),
            _ => None,
        })
    }

    fn authority<'l>(&self, columns: &Columns<'_, 'l>, change: Change) -> Option<Vec<Cow<'l, [u8]>>> {
        let none = BTreeSet::new();
        let values = self.needs.headers.get(":authority").unwrap_or(&none);
        let decided = columns.said(self.decided_authority);
        let decided = decided.and_then(|said| one_line(&said.of_state(), Some(values)));
        if decided.is_some() || change.is_redirected || !(change.is_certain || change.reading.as_logged) {
            return decided;
        }
        one_line(columns.said(self.authority)?, Some(values))
    }

    /// The metadata that policies look at, encoded.
    fn metadata(&self, columns: &Columns<'_, '_>) -> Vec<u8> {
        let mut filters: Vec<(String, PartlyKnown)> = Vec::new();
        for MetadataPlan { filter, keys, column } in &self.metadata {
            let value = match column {
                Some((column, length)) => {
                    let said = columns.said(Some(*column)).unwrap_or(&Said::Unknown);
                    self.value(
                        said,
                        keys.get(*length..).unwrap_or_default(),
                        *length <= usize::from(*filter == JWT_AUTHN),
                    )
                }
                None => Some(PartlyKnown::Unknown),
            };
            let Some(value) = value else { continue };
            let path: Vec<_> = std::iter::once(*filter).chain(keys.iter().map(String::as_str)).collect();
            insert(&mut filters, &path, value);
        }
        PartlyKnown::encode(&filters)
    }

    /// The value under these keys of what a column has. `None`: there is none. `is_object`: the column has an object for sure.
    fn value(&self, said: &Said<'_>, keys: &[String], is_object: bool) -> Option<PartlyKnown> {
        let node = match said {
            Said::Absent => return None,
            Said::Json(json) => from_json(json.as_bytes()).ok(),
            // In a text format, nothing tells a string from JSON.
            Said::Value(text) if !self.is_json => {
                let json = from_json(text).ok();
                match (json, keys) {
                    (Some(Node { value: Value::Map(fields), place }), [_, ..]) if is_object => {
                        Some(Node { value: Value::Map(fields), place })
                    }
                    (None, []) => std::str::from_utf8(text).ok().map(|text| Value::String(text.to_owned()).into()),
                    _ => None,
                }
            }
            Said::Value(text) => std::str::from_utf8(text).ok().map(|text| Value::String(text.to_owned()).into()),
            Said::AbsentOr(_) | Said::Unknown => None,
        };
        let Some(mut node) = node else { return Some(PartlyKnown::Unknown) };
        for key in keys {
            let Value::Map(fields) = node.value else { return None };
            node = fields.into_iter().rev().find(|(name, _)| name == key)?.1;
        }
        Some(PartlyKnown::Value(node))
    }
}

/// Puts a value under these keys. What is unknown stays so, with everything in it.
fn insert(fields: &mut Vec<(String, PartlyKnown)>, path: &[&str], value: PartlyKnown) {
    let Some((key, rest)) = path.split_first() else { return };
    let position = fields.iter().position(|(name, _)| name == key);
    let Some(position) = position else {
        let value = if rest.is_empty() {
            value
        } else {
            let mut inner = Vec::new();
            insert(&mut inner, rest, value);
            PartlyKnown::Fields(inner)
        };
        fields.push(((*key).to_owned(), value));
        return;
    };
    let Some((_, there)) = fields.get_mut(position) else { return };
    match (&mut *there, rest) {
        (PartlyKnown::Fields(inner), [_, ..]) => insert(inner, rest, value),
        // The whole value has this one too, or there is none.
        (PartlyKnown::Unknown, _) | (PartlyKnown::Value(_), [_, ..]) => {}
        (_, []) => *there = value,
    }
}

/// What can have changed a request between the policies and its line.
#[derive(Clone, Copy, Debug)]
struct Change {
    /// Nothing: no route has.
    is_certain: bool,
    /// The policies denied it, so that it went no further.
    is_denied: bool,
    /// Envoy followed a redirect: the line has the request that it made of this one.
    is_redirected: bool,
    reading: Reading,
}

impl<'l> Said<'l> {
    /// What a filter state says that another filter has set by a format string: `-` if there was no value. If there is no such
    /// state, the filter did not run.
    fn of_state(&self) -> Said<'l> {
        match self {
            Self::Value(value) if **value == *b"-" => Self::AbsentOr(b"-"),
            Self::Absent | Self::AbsentOr(_) => Self::Unknown,
            said => said.clone(),
        }
    }
}

/// The line of a header that has at most one. `values`: those that policies compare it with. `None`: that is not known.
fn one_line<'l>(said: &Said<'l>, values: Option<&BTreeSet<String>>) -> Option<Vec<Cow<'l, [u8]>>> {
    let can_be = |text: &[u8]| values.is_some_and(|values| values.iter().any(|value| can_match(value, text)));
    match said {
        Said::Value(value) => Some(vec![value.clone()]),
        Said::Absent => Some(Vec::new()),
        Said::AbsentOr(text) if !can_be(text) => Some(Vec::new()),
        Said::AbsentOr(_) | Said::Json(_) | Said::Unknown => None,
    }
}

impl HeaderPlan<'_> {
    /// The lines of the header, in order. `None`: they are not known.
    fn lines<'l>(&self, columns: &Columns<'_, 'l>, change: Change) -> Option<Vec<Cow<'l, [u8]>>> {
        let [first, joined, has, lengths] = self.decided.map(|column| columns.said(column));
        if let (Some(Said::Value(joined)), Some(lengths)) = (joined, lengths.and_then(Said::text))
            && let Some(lines) = lines_of_lengths(joined, lengths)
        {
            return Some(lines);
        }
        match has.and_then(Said::text) {
            Some("false") => return Some(Vec::new()),
            // A hyphen does not stand for none.
            Some("true") => return self.there(first?, joined?),
            _ => {}
        }
        let decided = [first, joined].map(|said| said.map(Said::of_state).filter(|said| *said != Said::Unknown));
        let is_certain = change.is_denied || (change.is_certain && !is_set_by_envoy(self.name));
        let [first, joined] = match decided {
            [None, None] if is_certain || change.reading.as_logged => {
                self.logged.map(|column| columns.said(column).cloned())
            }
            decided => decided,
        };
        let has_one_line = self.has_one_line() || change.reading.as_logged;
        match (&first, &joined) {
            (Some(first), _) if first.is_absent() => one_line(first, Some(self.values)),
            (Some(first), _) if self.has_one_line() => one_line(first, Some(self.values)),
            (Some(Said::Value(first)), Some(Said::Value(joined))) => lines_of(first, joined),
            // An empty header looks like none to an expression.
            (Some(Said::Value(first)), Some(joined)) if first.is_empty() && joined.is_absent() => {
                Some(vec![first.clone()])
            }
            (Some(first), None) if has_one_line => one_line(first, Some(self.values)),
            (None, Some(joined @ Said::Value(_))) if has_one_line => one_line(joined, Some(self.values)),
            (None, Some(joined)) => self.joined(joined),
            _ => None,
        }
    }

    /// Whether a request cannot have several lines of it.
    fn has_one_line(&self) -> bool {
        self.name.starts_with(':') || is_joined(self.name.as_bytes())
    }

    /// The lines of a header that is there.
    fn there<'l>(&self, first: &Said<'l>, joined: &Said<'l>) -> Option<Vec<Cow<'l, [u8]>>> {
        let (Said::Value(first), Said::Value(joined)) = (first, joined) else { return None };
        if self.has_one_line() || (first.is_empty() && (**joined == *b"-" || joined.is_empty())) {
            return Some(vec![first.clone()]);
        }
        lines_of(first, joined)
    }

    /// The lines of which all are known, with commas between them. A value with a comma can be several lines.
    fn joined<'l>(&self, joined: &Said<'l>) -> Option<Vec<Cow<'l, [u8]>>> {
        match joined {
            Said::Value(value) if !value.contains(&b',') => Some(vec![value.clone()]),
            Said::Absent | Said::AbsentOr(_) => {
                let can_be = |text: &[u8]| self.values.iter().any(|value| can_match(value, text));
                let text: &[u8] = if let Said::AbsentOr(text) = joined { text } else { b"" };
                (!can_be(b"") && !can_be(text)).then(Vec::new)
            }
            _ => None,
        }
    }
}

/// Whether Envoy can set the header when it sends a request on.
fn is_set_by_envoy(name: &str) -> bool {
    const BEGINNINGS: [&str; 10] = [
        "x-envoy-",
        "x-forwarded-",
        "x-b3-",
        "x-cloud-trace-",
        "x-datadog-",
        "x-ot-",
        "x-amzn-trace-",
        "grpc-trace-",
        "sw8",
        "trace",
    ];
    [":scheme", "x-request-id", "b3"].contains(&name) || BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
}

/// The lines of a header, by the first of them and all of them with commas between.
fn lines_of<'l>(first: &Cow<'l, [u8]>, joined: &Cow<'l, [u8]>) -> Option<Vec<Cow<'l, [u8]>>> {
    if first == joined {
        return Some(vec![first.clone()]);
    }
    let second = joined.strip_prefix(&**first)?.strip_prefix(b",")?;
    (!second.contains(&b',')).then(|| vec![first.clone(), Cow::Owned(second.to_vec())])
}

/// The lines of a header, by all of them with commas between, and by the length of each. `None`: the lengths do not fit.
fn lines_of_lengths<'l>(joined: &Cow<'l, [u8]>, lengths: &str) -> Option<Vec<Cow<'l, [u8]>>> {
    let mut rest = Some(&**joined);
    let mut lines = Vec::new();
    for length in lengths.split(',') {
        let (line, after) = rest?.split_at_checked(length.parse().ok()?)?;
        lines.push(Cow::Owned(line.to_vec()));
        rest = match after.split_first() {
            None => None,
            Some((b',', after)) => Some(after),
            Some(_) => return None,
        };
    }
    rest.is_none().then_some(lines)
}

/// Whether a workload sends requests through the cluster.
fn is_outbound(cluster: &str) -> bool {
    ["outbound|", "outbound_."].iter().any(|beginning| cluster.starts_with(beginning))
        || ["PassthroughCluster", "BlackHoleCluster", "block_all"].contains(&cluster.trim_end_matches(';'))
}

/// Whether Istio's sidecar passes requests on to its workload through the cluster. Its routes change nothing.
fn is_inbound(cluster: &str) -> bool {
    cluster.starts_with("inbound|") || cluster.starts_with("InboundPassthroughCluster")
}

impl LoggedRequest<'_> {
    /// The peer's address and port on its connection, as far as the line has them.
    #[must_use]
    pub fn peer_address(&self) -> Option<IpAddr> {
        let of_connection =
            || self.addresses.get(&Address::Remote).filter(|_| self.remote_port.is_some_and(|port| port != 0));
        self.addresses.get(&Address::Source).or_else(of_connection).copied()
    }

    /// The local address.
    #[must_use]
    pub fn local_address(&self) -> Option<IpAddr> {
        self.addresses.get(&Address::Destination).copied()
    }

    /// Whether the line does not say who the peer is.
    #[must_use]
    pub fn has_unknown_peer(&self) -> bool {
        self.peer.first() == Some(&Lookup::Unreadable)
    }

    /// Takes this for the URI of the peer.
    pub fn infer_peer(&mut self, uri: String) {
        self.peer = [Lookup::Value(Cow::Owned(uri.into_bytes())), Lookup::Absent, Lookup::Absent, Lookup::Absent];
    }

    /// Whether the line shows that the peer has a certificate of the mesh: Istio's clients name the service in the handshake with
    /// a sidecar, which then requires a certificate.
    #[must_use]
    pub fn is_from_mesh(&self) -> bool {
        self.is_from_mesh
    }

    /// The method, for messages.
    #[must_use]
    pub fn shown_method(&self) -> Option<String> {
        let Lookup::Value(mut values) = self.header(b":method") else { return None };
        values.next().map(|method| String::from_utf8_lossy(method).into_owned())
    }

    /// The path without its query, for messages.
    #[must_use]
    pub fn shown_path(&self) -> Option<Cow<'_, str>> {
        self.shown_path.as_ref().map(|path| String::from_utf8_lossy(without_query(path)))
    }
}

fn borrowed<'a>(lookup: &'a Lookup<Cow<'_, [u8]>>) -> Lookup<&'a [u8]> {
    match lookup {
        Lookup::Value(value) => Lookup::Value(value),
        Lookup::Absent => Lookup::Absent,
        Lookup::Unreadable => Lookup::Unreadable,
    }
}

impl Attributes for LoggedRequest<'_> {
    fn peer_name(&self, which: PeerName) -> Lookup<&[u8]> {
        let names = PeerName::ALL.into_iter().zip(&self.peer);
        names.into_iter().find(|(name, _)| *name == which).map_or(Lookup::Unreadable, |(_, name)| borrowed(name))
    }

    fn address(&self, which: Address) -> Lookup<IpAddr> {
        self.addresses.get(&which).copied().map_or(Lookup::Unreadable, Lookup::Value)
    }

    fn destination_port(&self) -> Lookup<u16> {
        self.port.map_or(Lookup::Unreadable, Lookup::Value)
    }

    fn text(&self, which: ConnectionText) -> Lookup<&[u8]> {
        match which {
            ConnectionText::Sni => borrowed(&self.server_name),
        }
    }

    fn header<'a>(&'a self, name: &'a [u8]) -> Lookup<HeaderValues<'a>> {
        if self.known.iter().any(|known| known.as_bytes() == name) {
            return Headers::again(&self.headers).map(|headers| headers.values(name));
        }
        Lookup::Unreadable
    }

    fn metadata(&self) -> Lookup<Metadata<'_>> {
        Lookup::Value(Metadata::new(&self.metadata))
    }
}
