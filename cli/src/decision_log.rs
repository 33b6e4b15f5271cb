//! Lines of the filter's decision log, read back: what was decided, and what a line says about the request.
//!
//! A line says little about a request: the filter never logs headers, claims or a query. What a line does not have is
//! unreadable, never absent. So a decision about a [`LoggedRequest`] says whether it rests on something that the line
//! does not have.

use std::collections::HashMap;

use mesh_authz::engine::Verdict;
use mesh_authz::policy::{Labels, Traffic};
use mesh_authz::request::{
    Address, Attributes, ConnectionText, HeaderValues, Lookup, Metadata, PeerName, Request, is_normalized,
};
use serde_json::{Deserializer, Value};

/// The lines of a decision log. Lines that say the same are one entry.
#[derive(Debug, Default)]
pub struct DecisionLog {
    pub entries: Vec<Entry>,
    /// How many lines are not of the decision log.
    pub others: usize,
    /// The numbers of the lines that are cut or malformed.
    pub malformed: Vec<usize>,
}

/// A line of the decision log.
#[derive(Debug)]
pub struct Entry {
    /// The number of the line, counted from 1.
    pub line: usize,
    /// How many further lines say the same.
    pub alike: usize,
    /// How many decisions before it were not logged, because there were too many.
    pub suppressed: u64,
    /// What the filter decided.
    pub verdict: Verdict,
    /// Why, in the words of the filter.
    pub reason: String,
    /// The deciding rule: `namespace/name` of its policy, and its index.
    pub rule: Option<(String, u64)>,
    /// The nearest miss, in words.
    pub nearest: Option<String>,
    /// The attribute that Envoy did not provide, and that the decision rests on.
    pub unreadable: Option<String>,
    /// The namespace of the workload, if the line has it.
    pub namespace: Option<String>,
    /// The labels of the workload, if the line has them.
    pub labels: Option<Labels>,
    /// The host of the service behind a waypoint, if the line has it.
    pub service: Option<String>,
    pub request: LoggedRequest,
}

impl DecisionLog {
    /// Reads the lines of a log. A line may have anything in front of the decision, such as Envoy's prefix, or may be a
    /// JSON object that has the line in one of its fields.
    #[must_use]
    pub fn read(log: &str) -> Self {
        let mut all = Self::default();
        let mut known: HashMap<String, usize> = HashMap::new();
        for (number, line) in (1..).zip(log.lines()) {
            let object = match decision_in(line) {
                Found::Decision(object) => object,
                Found::Nothing => {
                    all.others = all.others.saturating_add(usize::from(!line.trim().is_empty()));
                    continue;
                }
                Found::Malformed => {
                    all.malformed.push(number);
                    continue;
                }
            };
            all.add(number, object, &mut known);
        }
        if all.entries.is_empty() {
            // Objects over several lines, as formatters print them.
            let objects: Result<Vec<Value>, _> = Deserializer::from_str(log).into_iter().collect();
            let objects: Vec<_> = objects.unwrap_or_default().into_iter().filter(is_decision).collect();
            if !objects.is_empty() {
                all = Self::default();
                objects.into_iter().zip(1..).for_each(|(object, number)| all.add(number, object, &mut known));
            }
        }
        all
    }

    /// Reads one line. `None`: it is not of the decision log.
    ///
    /// # Errors
    /// The decision is cut or malformed.
    #[must_use]
    pub fn line(number: usize, line: &str) -> Option<Result<Entry, Malformed>> {
        match decision_in(line) {
            Found::Decision(object) => Some(Entry::new(number, &object).ok_or(Malformed)),
            Found::Malformed => Some(Err(Malformed)),
            Found::Nothing => None,
        }
    }

    fn add(&mut self, number: usize, mut object: Value, known: &mut HashMap<String, usize>) {
        if let Value::Object(fields) = &mut object {
            fields.remove("suppressed");
        }
        let position = *known.entry(object.to_string()).or_insert(self.entries.len());
        if let Some(entry) = self.entries.get_mut(position) {
            entry.alike = entry.alike.saturating_add(1);
        } else if let Some(entry) = Entry::new(number, &object) {
            self.entries.push(entry);
        } else {
            known.remove(&object.to_string());
            self.malformed.push(number);
        }
    }
}

/// A decision that is cut or malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

enum Found {
    Decision(Value),
    Nothing,
    Malformed,
}

/// How a line of the decision log begins.
const BEGINNING: &str = "{\"decision\":";

fn decision_in(line: &str) -> Found {
    let first = |text: &str| Deserializer::from_str(text).into_iter::<Value>().next();
    // The whole line is JSON: a decision, or an object of a log shipper that holds the line.
    if let Some(Ok(value @ Value::Object(_))) = line.trim_start().starts_with('{').then(|| first(line)).flatten() {
        if is_decision(&value) {
            return Found::Decision(value);
        }
        let Value::Object(fields) = value else { return Found::Nothing };
        let texts = fields.values().filter_map(Value::as_str).filter(|text| text.contains(BEGINNING));
        let mut inner = texts.map(decision_in).filter(|found| !matches!(found, Found::Nothing));
        return inner.next().unwrap_or(Found::Nothing);
    }
    let Some(start) = line.find(BEGINNING) else { return Found::Nothing };
    match line.get(start..).and_then(first) {
        Some(Ok(value)) if is_decision(&value) => Found::Decision(value),
        // The filter state in an access log begins in the same way.
        Some(Ok(_)) => Found::Nothing,
        Some(Err(_)) | None => Found::Malformed,
    }
}

fn is_decision(value: &Value) -> bool {
    value.get("decision").is_some() && value.get("reason").is_some()
}

impl Entry {
    fn new(line: usize, object: &Value) -> Option<Self> {
        let text = |name: &str| object.get(name).and_then(Value::as_str);
        let verdict = match text("decision")? {
            "ALLOW" => Verdict::Allow,
            "DENY" => Verdict::Deny,
            _ => return None,
        };
        let workload = object.get("workload");
        let of_workload = |name: &str| workload.and_then(|workload| workload.get(name)).and_then(Value::as_str);
        Some(Self {
            line,
            alike: 0,
            suppressed: object.get("suppressed").and_then(Value::as_u64).unwrap_or_default(),
            verdict,
            reason: text("reason")?.to_owned(),
            rule: text("policy").map(str::to_owned).zip(object.get("rule").and_then(Value::as_u64)),
            nearest: object.get("nearest").and_then(nearest),
            unreadable: text("unreadable").map(str::to_owned),
            namespace: of_workload("namespace").map(str::to_owned),
            labels: of_workload("labels").map(labels),
            service: text("service").map(str::to_owned),
            request: LoggedRequest::new(object),
        })
    }

    /// Whether the filter refused the request because of its path, whatever the policies are.
    #[must_use]
    pub fn is_about_normalization(&self) -> bool {
        let path = self.request.path.as_deref().unwrap_or("/");
        self.verdict == Verdict::Deny
            && self.rule.is_none()
            && !is_normalized(path.as_bytes())
            && self.reason == "the path is not normalized"
    }

    /// Whether the filter refused the request because a CUSTOM policy matches it, and nobody asks its provider.
    #[must_use]
    pub fn is_about_a_provider(&self) -> bool {
        self.verdict == Verdict::Deny && self.reason.ends_with("and CUSTOM has no provider to ask here")
    }

    /// Whether the filter refused the request because Envoy does not ask the provider of a CUSTOM policy, although it should.
    #[must_use]
    pub fn is_about_missing_filters(&self) -> bool {
        self.verdict == Verdict::Deny
            && self.rule.is_none()
            && self.reason == "Envoy's filters for CUSTOM policies are missing"
    }

    /// Whether the filter of a waypoint refused the request because it could not tell the service, whatever the policies
    /// are.
    #[must_use]
    pub fn is_about_the_service(&self) -> bool {
        self.verdict == Verdict::Deny
            && self.rule.is_none()
            && self.reason == "the filter chain does not tell which service the request is for"
    }
}

/// Says which condition of which rule failed, and how.
fn nearest(object: &Value) -> Option<String> {
    let text = |name: &str| object.get(name).and_then(Value::as_str);
    let (policy, failed) = (text("policy")?, text("failed")?);
    let rule = object.get("rule").and_then(Value::as_u64)?;
    let key = text("key").map_or_else(String::new, |key| format!(" ({key})"));
    let how = text("how").map_or_else(String::new, |how| format!(": {how}"));
    Some(format!("rule {rule} of {policy}, {failed}{key}{how}"))
}

/// Reads `KEY=VALUE,…`.
fn labels(text: &str) -> Labels {
    let pairs = text.split(',').filter_map(|label| label.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// A request, as far as a line of the decision log has it. What it does not have is unreadable.
#[derive(Debug)]
pub struct LoggedRequest {
    /// Whether it is a request, or a connection that is none of HTTP.
    pub traffic: Traffic,
    pub method: Option<String>,
    pub host: Option<String>,
    /// Without its query.
    pub path: Option<String>,
    /// The URI in the peer's certificate.
    pub principal: Option<String>,
    known: Request,
    knows_sni: bool,
    /// The pseudo-headers that the line has.
    headers: Vec<&'static str>,
}

impl LoggedRequest {
    fn new(line: &Value) -> Self {
        let unreadable = line.get("unreadable").and_then(Value::as_str);
        let mut known = Request::default();
        let mut headers = Vec::new();
        let field = |name: &str| match line.get(name) {
            Some(Value::String(text)) if is_whole(text) => Lookup::Value(text.as_str()),
            Some(Value::Null) => Lookup::Absent,
            _ => Lookup::Unreadable,
        };
        for (name, header) in [("method", ":method"), ("host", ":authority"), ("path", ":path")] {
            match field(name) {
                Lookup::Value(value) => {
                    known = known.header(header, value);
                    headers.push(header);
                }
                // Every request has a method and a path.
                Lookup::Absent if name == "host" => headers.push(header),
                Lookup::Absent | Lookup::Unreadable => {}
            }
        }
        let principal = match field("principal") {
            Lookup::Absent if unreadable == Some("source.principal") => Lookup::Unreadable,
            known => known.map(str::as_bytes),
        };
        known = known.peer_name(PeerName::Uri, principal);
        for (name, address) in [("source_ip", Address::Source), ("remote_ip", Address::Remote)] {
            let value = field(name).known().and_then(|text| text.parse().ok());
            known = known.with_address(address, value.map_or(Lookup::Unreadable, Lookup::Value));
        }
        let port = line.get("destination_port").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok());
        known = known.destination_port(port.map_or(Lookup::Unreadable, Lookup::Value));
        let text = |name: &str| line.get(name).and_then(Value::as_str).map(str::to_owned);
        let is_tcp = line.get("protocol").and_then(Value::as_str) == Some("tcp");
        let sni = field("sni");
        Self {
            traffic: if is_tcp { Traffic::Tcp } else { Traffic::Http },
            knows_sni: sni != Lookup::Unreadable,
            method: text("method"),
            host: text("host"),
            path: text("path"),
            principal: text("principal"),
            known: known.sni(sni.map(str::as_bytes)),
            headers,
        }
    }
}

/// Whether the filter has logged a value as it is. It cuts long values, and replaces bytes that are not UTF-8.
fn is_whole(text: &str) -> bool {
    let is_cut = text.len() >= 2_048 && text.ends_with('…');
    !is_cut && !text.contains(char::REPLACEMENT_CHARACTER)
}

impl Attributes for LoggedRequest {
    fn peer_name(&self, which: PeerName) -> Lookup<&[u8]> {
        match which {
            PeerName::Uri => Attributes::peer_name(&self.known, which),
            // Peers of a mesh have one name, a URI.
            PeerName::FurtherUris | PeerName::Dns | PeerName::Subject => Lookup::Absent,
        }
    }

    fn address(&self, which: Address) -> Lookup<std::net::IpAddr> {
        Attributes::address(&self.known, which)
    }

    fn destination_port(&self) -> Lookup<u16> {
        Attributes::destination_port(&self.known)
    }

    fn text(&self, which: ConnectionText) -> Lookup<&[u8]> {
        match which {
            ConnectionText::Sni if self.knows_sni => Attributes::text(&self.known, which),
            ConnectionText::Sni => Lookup::Unreadable,
        }
    }

    fn header<'a>(&'a self, name: &'a [u8]) -> Lookup<HeaderValues<'a>> {
        if self.headers.iter().any(|known| known.as_bytes() == name) {
            return Attributes::header(&self.known, name);
        }
        Lookup::Unreadable
    }

    fn metadata(&self) -> Lookup<Metadata<'_>> {
        Lookup::Unreadable
    }
}
