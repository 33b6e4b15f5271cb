//! A few things that policies ask about, with a few values, and every request that these values tell apart.
//!
//! Of each thing, there are many raw values: every short text over a small alphabet. Those that no value of a policy tells
//! apart are there once. So the requests are few, and a request that is not among them is decided as one that is.

use std::collections::BTreeSet;
use std::net::IpAddr;

use mesh_authz::analysis::{self, CompiledRule};
use mesh_authz::engine::{Combining, Options};
use mesh_authz::policy::Cidr;
use mesh_authz::request::{Address, Lookup, PeerName, Request};
use serde_json::{Map, Value, json};

use crate::policies::{named, node, options, read};

/// Where a field stands in a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    Source,
    Operation,
    When,
}

/// A field or a condition, and the values that it may have.
#[derive(Clone, Debug)]
pub struct Field {
    pub place: Place,
    pub name: &'static str,
    pub values: Vec<&'static str>,
}

impl Field {
    /// The field in a rule, with these values or, if `is_not`, in the `not` field.
    pub fn entry(&self, values: &Value, is_not: bool) -> (String, Value) {
        let name = match (self.place, is_not) {
            (Place::When, false) => "values".to_owned(),
            (Place::When, true) => "notValues".to_owned(),
            (_, false) => self.name.to_owned(),
            (_, true) => format!("not{}{}", self.name[..1].to_ascii_uppercase(), &self.name[1..]),
        };
        (name, values.clone())
    }

    /// A rule with nothing but this field.
    pub fn alone(&self, values: &Value, is_not: bool) -> Value {
        let (name, values) = self.entry(values, is_not);
        match self.place {
            Place::Source => json!({ "from": [{ "source": { name: values } }] }),
            Place::Operation => json!({ "to": [{ "operation": { name: values } }] }),
            Place::When => json!({ "when": [{ "key": self.name, name: values }] }),
        }
    }
}

/// What a request has of one thing.
#[derive(Clone, Debug, Default)]
struct Part {
    headers: Vec<(&'static str, Vec<u8>)>,
    names: Vec<(PeerName, Vec<u8>)>,
    has_further_names: bool,
    addresses: Vec<(Address, Lookup<IpAddr>)>,
    port: Option<Lookup<u16>>,
    sni: Option<Vec<u8>>,
    /// By filter.
    metadata: Map<String, Value>,
    is_connect_only: bool,
    /// Whether it has something that people do not think of.
    is_odd: bool,
}

/// Puts the fields of objects together, and the elements of lists.
fn merge(one: &mut Value, other: &Value) {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            for (key, value) in other {
                match one.get_mut(key) {
                    Some(known) => merge(known, value),
                    None => {
                        one.insert(key.clone(), value.clone());
                    }
                }
            }
        }
        (Value::Array(one), Value::Array(other)) => one.extend(other.iter().cloned()),
        (one, other) => *one = other.clone(),
    }
}

impl Part {
    /// What a request has that has both.
    fn with(&self, other: &Self) -> Self {
        let mut metadata = Value::Object(self.metadata.clone());
        merge(&mut metadata, &Value::Object(other.metadata.clone()));
        let Value::Object(metadata) = metadata else { panic!("objects make an object") };
        Self {
            headers: [&self.headers[..], &other.headers].concat(),
            names: [&self.names[..], &other.names].concat(),
            has_further_names: self.has_further_names || other.has_further_names,
            addresses: [&self.addresses[..], &other.addresses].concat(),
            port: self.port.or(other.port),
            sni: self.sni.clone().or(other.sni.clone()),
            metadata,
            is_connect_only: self.is_connect_only || other.is_connect_only,
            is_odd: self.is_odd || other.is_odd,
        }
    }

    fn request(&self) -> Request {
        let usual = |which| (which, Lookup::Value("192.0.2.1".parse::<IpAddr>().unwrap()));
        let mut request = Request::default().destination_port(self.port.unwrap_or(Lookup::Value(8080)));
        let addresses = [Address::Source, Address::Remote, Address::Destination].map(usual);
        for (which, address) in addresses.into_iter().chain(self.addresses.iter().copied()) {
            request = request.with_address(which, address);
        }
        let method: &[u8] = if self.is_connect_only { b"CONNECT" } else { b"GET" };
        let path: Option<&[u8]> = (!self.is_connect_only).then_some(b"/");
        for (name, usual) in [(":method", Some(method)), (":path", path), (":authority", Some(b"localhost"))] {
            if let Some(usual) = usual
                && !self.headers.iter().any(|(own, _)| *own == name)
            {
                request = request.header(name, usual);
            }
        }
        request = self.headers.iter().fold(request, |request, (name, value)| request.header(name, value));
        for (which, name) in &self.names {
            request = request.peer_name(*which, Lookup::Value(name));
        }
        if self.has_further_names {
            request = request.peer_name(PeerName::FurtherUris, Lookup::Unreadable);
        }
        if let Some(sni) = &self.sni {
            request = request.sni(Lookup::Value(sni));
        }
        self.metadata.iter().fold(request, |request, (filter, fields)| request.metadata(filter, &node(fields)))
    }

    /// A request without a path is a CONNECT.
    fn is_possible(&self) -> bool {
        let is_other = |(name, value): &(&str, Vec<u8>)| *name == ":method" && value != b"CONNECT";
        !(self.is_connect_only && self.headers.iter().any(is_other))
    }
}

/// Something that policies ask about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thing {
    Method,
    Path,
    Host,
    /// The lines of a header.
    Lines,
    /// A header of one line.
    Line,
    Peer,
    Source,
    Remote,
    Destination,
    Port,
    Sni,
    /// The issuer and the subject of a token.
    Principal,
    /// Another claim.
    Claim,
    /// A claim, and a claim within it.
    Nested,
    Metadata,
}

const PRINCIPALS: &[&str] =
    &["*", "td/ns/a/sa/x", "cluster.local/ns/a/sa/x", "td/*", "*/sa/x", "*d", "td/ns/a/*", "*/ns/a/sa/x"];
const NAMESPACES: &[&str] = &["a", "*", "a*", "b", "*b*", "*a"];
const ACCOUNTS: &[&str] = &["a/x", "x", "b/y"];
const DOMAINS: &[&str] = &["td", "*", "t*", "*d", "alias"];
const BLOCKS: &[&str] =
    &["10.0.0.0/8", "10.0.0.1", "::/0", "0.0.0.0/0", "10.0.0.0/31", "128.0.0.0/1", "::1", "255.255.255.255"];
const REQUEST_PRINCIPALS: &[&str] = &["*", "i/s", "*s", "i*", "i/*", "*/s", "*i/s", "i/s*", "s/i", "i/", "is"];
const ISSUERS: &[&str] = &["*", "i", "i*", "*i", "s", "is"];
const HOSTS: &[&str] = &["*", "a", "A*", "*.a", "a:8", "*a", "a.*", "a.", "*:8"];
const METHODS: &[&str] = &["*", "GET", "G*", "*T", "CONNECT", "POST"];
const WORDS: &[&str] = &["*", "v", "v*", "*w", "vw", "w*"];
const PORTS: &[&str] = &["80", "0", "443", "8080", "65535"];

/// The fields about a thing, with their values.
fn fields_of(thing: Thing) -> &'static [(Place, &'static str, &'static [&'static str])] {
    use Place::{Operation, Source, When};
    match thing {
        Thing::Method => &[(Operation, "methods", METHODS), (When, "request.headers[:method]", METHODS)],
        Thing::Path => &[
            (
                Operation,
                "paths",
                &["*", "/a", "/a*", "*b", "/a/{*}", "/a/{**}", "/{*}/b", "/{**}/b", "/{*}", "/a/*", "/{*}/{**}"],
            ),
            (When, "request.headers[:path]", &["*", "/a", "/a*", "*b", "*?", "/a?*"]),
        ],
        Thing::Host => &[(Operation, "hosts", HOSTS), (When, "request.headers[host]", HOSTS)],
        Thing::Lines => &[(When, "request.headers[x]", WORDS), (When, "request.headers[X]", WORDS)],
        Thing::Line => &[(When, "request.headers[accept]", WORDS)],
        Thing::Peer => &[
            (Source, "principals", PRINCIPALS),
            (When, "source.principal", PRINCIPALS),
            (Source, "namespaces", NAMESPACES),
            (When, "source.namespace", NAMESPACES),
            (Source, "serviceAccounts", ACCOUNTS),
            (When, "source.serviceAccount", ACCOUNTS),
            (Source, "trustDomains", DOMAINS),
            (When, "source.trustDomain", DOMAINS),
        ],
        Thing::Source => &[(Source, "ipBlocks", BLOCKS), (When, "source.ip", BLOCKS)],
        Thing::Remote => &[(Source, "remoteIpBlocks", BLOCKS), (When, "remote.ip", BLOCKS)],
        Thing::Destination => &[(When, "destination.ip", BLOCKS)],
        Thing::Port => &[(Operation, "ports", PORTS), (When, "destination.port", PORTS)],
        Thing::Sni => &[(When, "connection.sni", WORDS)],
        Thing::Principal => &[
            (Source, "requestPrincipals", REQUEST_PRINCIPALS),
            (When, "request.auth.principal", REQUEST_PRINCIPALS),
            (When, "request.auth.claims[iss]", ISSUERS),
            (When, "request.auth.claims[sub]", ISSUERS),
            (When, "request.auth.claims[iss][m]", &["v", "*"]),
        ],
        Thing::Claim => &[(When, "request.auth.claims[role]", WORDS), (When, "request.auth.claims[role]", WORDS)],
        Thing::Nested => &[
            (When, "request.auth.claims[n]", WORDS),
            (When, "request.auth.claims[n][m]", WORDS),
            (When, "request.auth.claims[n][m][o]", WORDS),
        ],
        Thing::Metadata => {
            &[(When, "experimental.envoy.filters.f[k]", &["*", "v", "v*", "*w", "[*]", "[v]", "[v*]", "[*w]", "[w*]"])]
        }
    }
}

/// All texts of at most `most` of these pieces.
fn texts(pieces: &[&[u8]], most: usize) -> Vec<Vec<u8>> {
    let mut all = vec![Vec::new()];
    let mut last = all.clone();
    for _ in 0..most {
        last = last.iter().flat_map(|text| pieces.iter().map(|piece| [text, *piece].concat())).collect();
        all.extend(last.iter().cloned());
    }
    all
}

fn is_odd(text: &[u8]) -> bool {
    text.contains(&b'\n') || std::str::from_utf8(text).is_err()
}

fn headers(name: &'static str, values: Vec<Vec<u8>>) -> Vec<Part> {
    let is_blank = |byte: Option<&u8>| byte.is_some_and(|byte| b" \t".contains(byte));
    let part = |value: Vec<u8>| Part {
        is_odd: is_odd(&value) || is_blank(value.first()) || is_blank(value.last()),
        headers: vec![(name, value)],
        ..Part::default()
    };
    values.into_iter().map(part).collect()
}

/// Hosts that people do not think of: [`analysis::Requests::Expected`].
fn is_odd_host(host: &[u8]) -> bool {
    host.iter().any(|byte| b" \t@,".contains(byte)) || {
        let end = host.iter().rposition(|byte| !byte.is_ascii_digit());
        let name = match end {
            Some(at) if host[at] == b':' && at + 1 < host.len() => &host[..at],
            _ => host,
        };
        name.last().is_some_and(|byte| b":.".contains(byte))
    }
}

fn addresses(which: Address) -> Vec<Part> {
    let mut all = BTreeSet::new();
    for block in BLOCKS.iter().map(|text| Cidr::parse(text).unwrap()) {
        match block.address {
            IpAddr::V4(address) => {
                let hosts = u32::MAX.checked_shr(block.prefix.into()).unwrap_or(0);
                let (first, last) = (u32::from(address) & !hosts, u32::from(address) | hosts);
                let edges = [first, last, first.wrapping_sub(1), last.wrapping_add(1)];
                all.extend(edges.map(|bits| IpAddr::V4(bits.into())));
            }
            IpAddr::V6(address) => {
                let hosts = u128::MAX.checked_shr(block.prefix.into()).unwrap_or(0);
                let (first, last) = (u128::from(address) & !hosts, u128::from(address) | hosts);
                let edges = [first, last, first.wrapping_sub(1), last.wrapping_add(1)];
                all.extend(edges.map(|bits| IpAddr::V6(bits.into())));
            }
        }
    }
    let part =
        |address| Part { addresses: vec![(which, address)], is_odd: address == Lookup::Unreadable, ..Part::default() };
    all.into_iter().map(Lookup::Value).chain([Lookup::Unreadable]).map(part).collect()
}

/// A claim with this value, at a path.
fn claim(path: &[&str], value: Value) -> Part {
    let fields = path.iter().rev().fold(value, |value, key| json!({ *key: value }));
    let text = fields.to_string();
    let metadata = json!({ "envoy.filters.http.jwt_authn": { "payload": fields } });
    let Value::Object(metadata) = metadata else { panic!("it is an object") };
    Part { metadata, is_odd: text.contains("\\n"), ..Part::default() }
}

/// Strings, and lists of one string.
fn strings_and_lists(pieces: &[&[u8]], most: usize) -> Vec<Value> {
    let strings: Vec<_> = texts(pieces, most).into_iter().map(|text| json!(String::from_utf8(text).unwrap())).collect();
    let lists = strings.iter().map(|text| json!([text])).chain([json!([]), json!([5])]);
    lists.chain(strings.iter().cloned()).collect()
}

/// The raw values of the issuer or the subject of a token: those that are no list, and lists of one string.
fn of_principal(key: &'static str) -> [Vec<Part>; 2] {
    let pieces: [&[u8]; 3] = [b"i", b"s", b"/"];
    let ends = ["", "i", "s", "is"];
    let odd = ends.iter().flat_map(|begin| ends.iter().map(move |end| format!("{begin}\n{end}")));
    let strings = texts(&pieces, 2).into_iter().map(|text| String::from_utf8(text).unwrap());
    let strings: Vec<_> = strings.chain(odd).map(|text| json!(text)).collect();
    let lists = strings.iter().map(|text| json!([text])).chain([json!([]), json!([5])]);
    let lists = lists.map(|list| claim(&[key], list)).collect();
    let inner =
        [json!("v"), json!("w"), json!("\n"), json!(["v"]), json!(["w"]), json!(["\n"]), json!(["v", "w"]), json!([])];
    let inner = inner.map(|value| claim(&[key, "m"], value));
    let strings = strings.iter().map(|text| claim(&[key], text.clone()));
    [strings.chain(inner).chain([Part::default()]).collect(), lists]
}

/// The raw hosts.
fn hosts() -> Vec<Part> {
    let names = [
        texts(&[b"a", b".", b":8"], 3),
        texts(&[b"A", b"a", b".", b":8", b"\xff"], 2),
        texts(&[b"a.a:8", b"a.x:8", b"x"], 1),
    ]
    .concat();
    let around = ["", " ", "a@", "A@", " A@", "a.@", "z@", "a,", "A,", "a.,"];
    let hosts = names.iter().flat_map(|name| {
        let host = |before: &&str| [before.as_bytes(), name].concat();
        around.iter().flat_map(move |before| [host(before), [&host(before)[..], b" "].concat()])
    });
    let hosts = [hosts.collect(), texts(&[b"a", b".", b":8", b"@", b" ", b",", b"]"], 3)];
    let mut parts = headers(":authority", hosts.concat());
    for part in &mut parts {
        part.is_odd |= is_odd_host(&part.headers[0].1);
    }
    parts
}

/// The raw values of a thing.
fn raw(thing: Thing) -> Vec<Part> {
    let absent = || vec![Part::default()];
    match thing {
        Thing::Method => {
            headers(":method", [&b"GET"[..], b"POST", b"CONNECT", b"G", b"T", b"GT", b"X"].map(<[u8]>::to_vec).into())
        }
        Thing::Path => {
            let paths =
                [texts(&[b"a", b"b", b"/", b"["], 5), texts(&[b"a", b"b", b"/", b"[", b"?", b"\xff"], 4)].concat();
            let no_path = Part { is_connect_only: true, is_odd: true, ..Part::default() };
            let paths = headers(":path", paths.into_iter().map(|path| [b"/", &path[..]].concat()).collect());
            [paths, vec![no_path]].concat()
        }
        Thing::Host => hosts(),
        Thing::Lines | Thing::Line => {
            let name = if thing == Thing::Lines { "x" } else { "accept" };
            let lines = [texts(&[b"v", b"w", b"x", b" "], 3), texts(&[b"v", b"w", b" ", b"\xff"], 4)];
            [absent(), headers(name, lines.concat())].concat()
        }
        Thing::Peer => {
            let pieces: [&[u8]; 6] = [b"spiffe://", b"td", b"/ns/a", b"/sa/x", b"b", b"\n"];
            let names = texts(&pieces, 2).into_iter();
            let namespaces = [
                "",
                "/ns/a",
                "/ns/b",
                "/ns/root",
                "/ns/ca",
                "/ns/cb",
                "/ns/ac",
                "/ns/bc",
                "/ns/a/b",
                "/ns/b/a",
                "/ns/ca/b",
                "/ns/a/ns/b",
                "/ns/b/ns/a",
                "/ns/cb/ns/ca",
                "/ns/a/sa/x/ns/b",
                "/ns/b/ns/ac",
                "/ns/b/ns/ca",
                "/ns/b/sa/y/ns/a/sa/x",
                "/ns/b/sa/y/ns/root/sa/x",
                "/ns/root/sa/x/ns/a/sa/x",
                "/ns/root/sa/x/ns/b/sa/y",
                "/ns/a/sa/x/ns/b/sa/y",
                "/ns/root/sa/x/ns/a/sa/x/ns/b/sa/y",
            ];
            let accounts = ["", "/sa/x", "/sa/y", "/sa/x/d", "/sa/d", "/"];
            let segments = namespaces.map(|namespace| accounts.map(|account| [namespace, account].concat())).concat();
            let domains = ["td", "alias", "cluster.local", "b", "d", "", "t"];
            let ids = domains.into_iter().flat_map(|domain| {
                segments.iter().flat_map(move |segments| {
                    let id = [domain, segments].concat();
                    [format!("\n{id}"), format!("{id}/\n"), id]
                })
            });
            let ids = ids.map(|id| format!("spiffe://{id}").into_bytes());
            let part =
                |name: Vec<u8>| Part { is_odd: is_odd(&name), names: vec![(PeerName::Uri, name)], ..Part::default() };
            names.chain(ids).map(part).chain(absent()).collect()
        }
        Thing::Source => addresses(Address::Source),
        Thing::Remote => addresses(Address::Remote),
        Thing::Destination => addresses(Address::Destination),
        Thing::Port => {
            let ports = [0, 1, 80, 443, 8080, 65535].map(Lookup::Value).into_iter().chain([Lookup::Unreadable]);
            ports.map(|port| Part { port: Some(port), is_odd: port == Lookup::Unreadable, ..Part::default() }).collect()
        }
        Thing::Sni => {
            let part = |name: Vec<u8>| Part { is_odd: is_odd(&name), sni: Some(name), ..Part::default() };
            let names = texts(&[b"v", b"w", b"x", b"\n", b"\xff"], 3).into_iter().filter(|name| !name.is_empty());
            names.map(part).chain(absent()).collect()
        }
        Thing::Principal => ["iss", "sub"].into_iter().flat_map(|key| of_principal(key).concat()).collect(),
        Thing::Claim => {
            let claims =
                strings_and_lists(&[b"v", b"w", b"x", b"\n"], 3).into_iter().map(|value| claim(&["role"], value));
            claims.chain(absent()).collect()
        }
        Thing::Nested => {
            let values = strings_and_lists(&[b"v", b"w", b"x", b"\n"], 3);
            let at = |path: &'static [&str]| values.iter().map(move |value| claim(path, value.clone()));
            at(&["n"]).chain(at(&["n", "m"])).chain(at(&["n", "m", "o"])).chain(absent()).collect()
        }
        Thing::Metadata => {
            let part = |value: Value| {
                let Value::Object(metadata) = json!({ "envoy.filters.f": { "k": value } }) else {
                    panic!("it is an object")
                };
                Part { is_odd: value.to_string().contains("\\n"), metadata, ..Part::default() }
            };
            strings_and_lists(&[b"v", b"w", b"x", b"\n"], 3).into_iter().map(part).chain(absent()).collect()
        }
    }
}

/// What the values of some fields tell apart: a rule for each value.
struct Telling(Vec<CompiledRule>);

impl Telling {
    fn of(fields: &[Field], options: &Options) -> Self {
        let mut rules = Vec::new();
        for field in fields {
            for value in &field.values {
                for (action, is_not) in [("ALLOW", false), ("ALLOW", true), ("DENY", false), ("DENY", true)] {
                    let rule = field.alone(&json!([value]), is_not);
                    let mut policy = named("p", json!({ "action": action, "rules": [rule] }));
                    // A service account can be one of the policy's own namespace.
                    for namespace in ["a", "b", "root"] {
                        policy["metadata"]["namespace"] = json!(namespace);
                        rules.extend(analysis::rules(&read(&policy), options));
                        if *value != "x" {
                            break;
                        }
                    }
                }
            }
        }
        Self(rules)
    }

    /// Those of the parts that are told apart.
    fn apart(&self, parts: impl IntoIterator<Item = Part>) -> Vec<Part> {
        let mut seen = BTreeSet::new();
        let mut is_new = |part: &Part| {
            let request = part.request();
            let matches: Vec<_> = self.0.iter().map(|rule| rule.matches(&request)).collect();
            // Only a CONNECT can have no path.
            let is_connect = part.headers.contains(&(":method", b"CONNECT".to_vec()));
            seen.insert((matches, part.is_odd, part.is_connect_only, is_connect, part.names.is_empty()))
        };
        parts.into_iter().filter(|part| part.is_possible() && is_new(part)).collect()
    }

    /// Every combination that is told apart of a part of each list.
    fn combined(&self, ones: &[Part], others: &[Part]) -> Vec<Part> {
        self.apart(ones.iter().flat_map(|one| others.iter().map(|other| one.with(other))))
    }
}

/// The parts of a thing that fields tell apart.
fn parts(thing: Thing, telling: &Telling) -> Vec<Part> {
    let parts = telling.apart(raw(thing));
    // A request can have several lines, or a list with several elements.
    let lists = |parts: &[Part]| {
        let has_list = |part: &&Part| match thing {
            Thing::Lines => !part.headers.is_empty(),
            _ => Value::Object(part.metadata.clone()).to_string().contains('['),
        };
        parts.iter().filter(has_list).cloned().collect::<Vec<_>>()
    };
    let closed = |parts: &[Part], lists: &dyn Fn(&[Part]) -> Vec<Part>| {
        let ones = lists(parts);
        let mut all = parts.to_vec();
        loop {
            let more = telling.apart([all.clone(), telling.combined(&lists(&all), &ones)].concat());
            if more.len() == all.len() {
                return all;
            }
            all = more;
        }
    };
    match thing {
        Thing::Lines | Thing::Claim | Thing::Nested | Thing::Metadata => closed(&parts, &lists),
        Thing::Principal => {
            // Whether strings are told apart depends on both.
            let of = |key| {
                let [strings, lists] = of_principal(key);
                [strings, closed(&telling.apart(lists), &|parts| parts.to_vec())].concat()
            };
            telling.combined(&of("iss"), &of("sub"))
        }
        Thing::Peer => {
            let renamed = |which| {
                parts.iter().map(move |part| {
                    let names = part.names.iter().map(|(_, name)| (which, name.clone())).collect();
                    Part { names, is_odd: part.is_odd || !part.names.is_empty(), ..Part::default() }
                })
            };
            let dns: Vec<_> = renamed(PeerName::Dns).collect();
            let subjects =
                texts(&[b"/ns/a", b"/ns/b", b"/", b"\n", b"d"], 2).into_iter().map(|text| [b"CN=", &text[..]].concat());
            let subject = |name| Part { names: vec![(PeerName::Subject, name)], is_odd: true, ..Part::default() };
            let subjects = telling.apart(subjects.chain([Vec::new()]).map(subject).chain([Part::default()]));
            let further = Part { has_further_names: true, is_odd: true, ..Part::default() };
            let names = telling.combined(&telling.combined(&parts, &dns), &subjects);
            telling.combined(&names, &[Part::default(), further])
        }
        _ => parts,
    }
}

/// Every request that some values tell apart.
pub struct Universe {
    pub fields: Vec<Field>,
    pub requests: Vec<Request>,
    /// Whether people think of the request.
    pub is_expected: Vec<bool>,
    /// Whether the peer has no name, as in plaintext.
    pub is_plaintext: Vec<bool>,
}

impl Universe {
    /// Requests that differ in these things. Of the fields and their values, some are chosen. `None`: there would be more than
    /// `most` requests.
    pub fn new(things: &[Thing], most: usize, random: &mut fastrand::Rng) -> Option<Self> {
        let options = options(Combining::DenyOverrides);
        let mut fields = Vec::new();
        let mut all = vec![Part::default()];
        for thing in things {
            let mut own: Vec<_> = fields_of(*thing).to_vec();
            random.shuffle(&mut own);
            own.truncate(random.usize(1..=3));
            let choose = |(place, name, values): (Place, &'static str, &[&'static str])| {
                let mut values = values.to_vec();
                random.shuffle(&mut values);
                values.truncate(random.usize(1..=4));
                Field { place, name, values }
            };
            let own: Vec<_> = own.into_iter().map(choose).collect();
            let telling = Telling::of(&own, &options);
            let parts = parts(*thing, &telling);
            all = all.iter().flat_map(|one| parts.iter().map(|part| one.with(part))).collect();
            if all.len() > 4 * most {
                return None;
            }
            fields.extend(own);
        }
        all.retain(Part::is_possible);
        (all.len() <= most).then(|| Self {
            requests: all.iter().map(Part::request).collect(),
            is_expected: all.iter().map(|part| !part.is_odd).collect(),
            is_plaintext: all.iter().map(|part| part.names.is_empty() && !part.has_further_names).collect(),
            fields,
        })
    }
}
