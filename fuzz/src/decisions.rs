//! Any policies and any request together, made of the same bytes.

use arbitrary::{Result, Unstructured};
use mesh_authz::diagnostic::Diagnostics;
use mesh_authz::document::{Node, Value};
use mesh_authz::engine::{Combining, Custom, Engine, Options, Verdict};
use mesh_authz::filter::telemetry::{filter_state, log_line::Line};
use mesh_authz::identity::TrustDomains;
use mesh_authz::policy::{AuthorizationPolicy, Traffic, read};
use mesh_authz::request::{Address, Lookup, PeerName, Request};

/// Pieces of which values of policies and of requests are made, so that they often match or nearly match.
const PIECES: [&str; 44] = [
    "*",
    "/",
    "a",
    "b",
    "td",
    "alias",
    "/ns/",
    "/sa/",
    "spiffe://",
    "{*}",
    "{**}",
    "/{*}",
    "/{**}",
    "GET",
    "P",
    ".",
    ":80",
    ":",
    "10.0.0.1",
    "/8",
    "::1",
    "::ffff:10.0.0.1",
    "80",
    "i/s",
    "?",
    "#",
    "\n",
    "\0",
    "é",
    "[",
    "]",
    "@",
    " ",
    "%",
    ";",
    ",",
    "cluster.local",
    "A",
    "h",
    "\t",
    "0",
    "1",
    "2",
    "30",
];

const SOURCE: [&str; 7] =
    ["principals", "namespaces", "serviceAccounts", "trustDomains", "ipBlocks", "remoteIpBlocks", "requestPrincipals"];

const OPERATION: [&str; 4] = ["hosts", "methods", "paths", "ports"];

const KEYS: [&str; 21] = [
    "source.ip",
    "remote.ip",
    "source.namespace",
    "source.serviceAccount",
    "source.principal",
    "source.trustDomain",
    "request.auth.principal",
    "request.auth.audiences",
    "request.auth.presenter",
    "request.auth.claims[a]",
    "request.auth.claims[a][b]",
    "destination.ip",
    "destination.port",
    "connection.sni",
    "request.headers[a]",
    "request.headers[:path]",
    "request.headers[:method]",
    "request.headers[host]",
    "request.headers[:authority]",
    "experimental.envoy.filters.a[b]",
    "experimental.envoy.filters.a[b][a]",
];

const ACTIONS: [&str; 4] = ["ALLOW", "DENY", "AUDIT", "CUSTOM"];

/// Reads policies and a request from the bytes, and decides.
pub fn run(input: &[u8]) {
    let mut bytes = Unstructured::new(input);
    let Ok((combining, policies)) = policies(&mut bytes) else { return };
    if policies.is_empty() {
        return;
    }
    let options = Options {
        trust_domains: TrustDomains::new("td".to_owned(), ["alias".to_owned()]),
        combining,
        custom: Custom::Refuse,
        jwt_payload_key: "payload".to_owned(),
        traffic: if bytes.arbitrary().unwrap_or_default() { Traffic::Tcp } else { Traffic::Http },
    };
    let engine = Engine::new(&policies, &options);
    let scan = Engine::without_index(&policies, &options);
    // Alone, a rule is evaluated without what the others have found out about the request.
    let alone = policies.first().map(|policy| Engine::without_index([policy], &options));
    // Several requests, so that policies are made less often than they are used.
    while let Ok((request, dark)) = request(&mut bytes) {
        let decision = engine.decide(&request);
        assert_eq!(decision, scan.decide(&request), "the index leaves out only rules that do not match");
        if engine.decide(&dark).outcome.verdict() == Verdict::Allow {
            assert_eq!(decision.outcome.verdict(), Verdict::Allow, "what passes unread passes whatever it is");
        }
        for trace in alone.iter().flat_map(|alone| alone.explain(&request)) {
            let together = scan.explain(&request).into_iter().find(|other| other.rule == trace.rule);
            assert_eq!(together.map(|other| other.matches), Some(trace.matches), "{}", trace.rule);
        }
        let nearest = engine.nearest_miss(&request, || true);
        let line = Line {
            traffic: options.traffic,
            decision: &decision,
            near_miss: nearest,
            workload: "{}",
            service: None,
            suppressed: 0,
        };
        let line = line.write(&request);
        assert!(!line.contains('\n') && serde_json::from_str::<serde_json::Value>(&line).is_ok(), "{line}");
        let mut state = String::new();
        filter_state::write(&mut state, &decision, nearest);
        assert!(state.is_ascii() && serde_json::from_str::<serde_json::Value>(&state).is_ok(), "{state}");
        if bytes.is_empty() {
            return;
        }
    }
}

fn pick<'a>(bytes: &mut Unstructured<'_>, from: &[&'a str]) -> Result<&'a str> {
    bytes.choose(from).copied()
}

fn text(bytes: &mut Unstructured<'_>) -> Result<String> {
    let mut text = String::new();
    for _ in 0..bytes.int_in_range(0..=5)? {
        text.push_str(pick(bytes, &PIECES)?);
    }
    if bytes.ratio(1, 16)? {
        text.push_str(bytes.arbitrary()?);
    }
    Ok(text)
}

/// A value for this field or key: for the most part one that is valid.
fn value(bytes: &mut Unstructured<'_>, of: &str) -> Result<String> {
    if bytes.ratio(1, 4)? {
        return text(bytes);
    }
    let valid: &[&str] = match of {
        _ if of.contains("rincipal") => &["*", "td/ns/a/sa/b", "cluster.local/ns/a/sa/b", "td/*", "*/sa/b", "i/s"],
        _ if of.contains("amespace") => &["a", "*", "a*", "*b*"],
        _ if of.contains("erviceAccount") => &["a/b", "b"],
        _ if of.contains("rustDomain") => &["td", "*", "t*", "*d", "alias"],
        _ if of.contains("Block") || of.ends_with("ip") => &["10.0.0.0/8", "10.0.0.1", "::/0", "::ffff:0:0/96"],
        _ if of.contains("ort") => &["80", "0", "443"],
        "methods" => &["*", "GET", "P*", "*T"],
        "hosts" | "request.headers[host]" => &["*", "h", "h:80", "*.h", "h*"],
        "paths" => &["*", "/a", "/a*", "*b", "/a/{*}", "/{**}/b", "/{*}/a/{**}", "/*"],
        _ => &["*", "a", "a*", "*b", "[a]", "[*]"],
    };
    pick(bytes, valid).map(str::to_owned)
}

fn values(bytes: &mut Unstructured<'_>, of: &str) -> Result<Node> {
    let mut list = Vec::new();
    for _ in 0..bytes.int_in_range(1..=3)? {
        list.push(Value::String(value(bytes, of)?).into());
    }
    Ok(Value::List(list).into())
}

fn map<'a>(fields: impl IntoIterator<Item = (&'a str, Node)>) -> Node {
    Value::Map(fields.into_iter().map(|(name, node)| (name.to_owned(), node)).collect()).into()
}

fn string(text: &str) -> Node {
    Value::String(text.to_owned()).into()
}

/// A source or an operation.
fn fields(bytes: &mut Unstructured<'_>, names: &[&str]) -> Result<Node> {
    let mut fields = Vec::<(String, Node)>::new();
    for _ in 0..bytes.int_in_range(1..=2)? {
        let name = pick(bytes, names)?;
        let values = values(bytes, name)?;
        let name = match name.split_at(1) {
            (first, rest) if bytes.arbitrary()? => format!("not{}{rest}", first.to_ascii_uppercase()),
            _ => name.to_owned(),
        };
        if fields.iter().all(|(other, _)| *other != name) {
            fields.push((name, values));
        }
    }
    Ok(Value::Map(fields).into())
}

fn rule(bytes: &mut Unstructured<'_>) -> Result<Node> {
    let mut rule = Vec::new();
    for (list, inner, names) in [("from", "source", &SOURCE[..]), ("to", "operation", &OPERATION[..])] {
        let mut entries = Vec::new();
        for _ in 0..bytes.int_in_range(0..=2)? {
            entries.push(map([(inner, fields(bytes, names)?)]));
        }
        if !entries.is_empty() {
            rule.push((list, Value::List(entries).into()));
        }
    }
    let mut when = Vec::new();
    for _ in 0..bytes.int_in_range(0..=2)? {
        let key = pick(bytes, &KEYS)?;
        let form = bytes.int_in_range(1..=3)?;
        let mut condition = vec![("key", string(key))];
        if form & 1 > 0 {
            condition.push(("values", values(bytes, key)?));
        }
        if form & 2 > 0 {
            condition.push(("notValues", values(bytes, key)?));
        }
        when.push(map(condition));
    }
    if !when.is_empty() {
        rule.push(("when", Value::List(when).into()));
    }
    Ok(map(rule))
}

/// Similar rules, so many that the index files them.
fn many_rules(bytes: &mut Unstructured<'_>) -> Result<Vec<Node>> {
    let (inner, name) = *bytes.choose(&[
        ("operation", "paths"),
        ("operation", "methods"),
        ("operation", "hosts"),
        ("operation", "ports"),
        ("source", "principals"),
        ("source", "namespaces"),
        ("source", "requestPrincipals"),
        ("source", "ipBlocks"),
        ("source", "serviceAccounts"),
    ])?;
    let (before, after) = *bytes.choose(&[
        ("", ""),
        ("/", ""),
        ("/", "*"),
        ("*", ""),
        ("/{*}/", ""),
        ("/", "/{**}"),
        ("td/ns/a/sa/", ""),
        ("a/", ""),
        ("10.0.0.", ""),
        ("10.0.", ".0/24"),
        ("i/", "*"),
    ])?;
    let list = if inner == "source" { "from" } else { "to" };
    let mut rules = Vec::new();
    for number in 0..bytes.int_in_range(17..=24)? {
        let one = Value::List(vec![string(&format!("{before}{number}{after}"))]).into();
        let mut rule = vec![(list, Value::List(vec![map([(inner, map([(name, one)]))])]).into())];
        if bytes.ratio(1, 4)? {
            let condition =
                map([("key", string("request.headers[a]")), ("values", values(bytes, "request.headers[a]")?)]);
            rule.push(("when", Value::List(vec![condition]).into()));
        }
        rules.push(map(rule));
    }
    Ok(rules)
}

/// The valid ones among some policies, and how they are combined.
fn policies(bytes: &mut Unstructured<'_>) -> Result<(Combining, Vec<AuthorizationPolicy>)> {
    let combining = if bytes.arbitrary()? { Combining::DenyOverrides } else { Combining::PermitOverrides };
    let mut policies = Vec::new();
    for number in 0..bytes.int_in_range(1..=4)? {
        let mut rules = Vec::new();
        for _ in 0..bytes.int_in_range(0..=3)? {
            rules.push(rule(bytes)?);
        }
        if bytes.ratio(1, 12)? {
            rules.extend(many_rules(bytes)?);
        }
        let action = pick(bytes, &ACTIONS)?;
        let mut metadata = vec![("name", string(&format!("p{number}")))];
        if bytes.ratio(1, 8)? {
            metadata.push(("annotations", map([("istio.io/dry-run", string("true"))])));
        }
        let policy = map([
            ("apiVersion", string("security.istio.io/v1")),
            ("kind", string("AuthorizationPolicy")),
            ("metadata", map(metadata)),
            ("spec", map([("action", string(action)), ("rules", Value::List(rules).into())])),
        ]);
        policies.extend(read::policy(&policy, &mut Diagnostics::new()));
    }
    Ok((combining, policies))
}

/// A value that may be absent or unreadable.
fn lookup<T>(
    bytes: &mut Unstructured<'_>,
    value: impl FnOnce(&mut Unstructured<'_>) -> Result<T>,
) -> Result<Lookup<T>> {
    Ok(match bytes.int_in_range(0..=7)? {
        0 => Lookup::Absent,
        1 => Lookup::Unreadable,
        _ => Lookup::Value(value(bytes)?),
    })
}

/// A name, an address or a header of a request: pieces, then some bytes that may be anything.
fn raw(bytes: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let mut raw = text(bytes)?.into_bytes();
    if bytes.ratio(1, 8)? {
        let more = bytes.int_in_range(0..=8)?;
        raw.extend(bytes.bytes(more)?);
    }
    Ok(raw)
}

fn name(bytes: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    if bytes.arbitrary()? {
        pick(bytes, &["spiffe://td/ns/a/sa/b", "spiffe://alias/ns/b/sa/b"]).map(Into::into)
    } else {
        raw(bytes)
    }
}

fn metadata_value(bytes: &mut Unstructured<'_>, depth: u32) -> Result<Node> {
    Ok(match bytes.int_in_range(0..=if depth == 0 { 3 } else { 5 })? {
        0 => Value::Null.into(),
        1 => Value::Number(f64::from(bytes.arbitrary::<i8>()?)).into(),
        2 => Value::Bool(bytes.arbitrary()?).into(),
        3 => string(&text(bytes)?),
        4 => {
            let mut list = Vec::new();
            for _ in 0..bytes.int_in_range(0..=3)? {
                list.push(metadata_value(bytes, depth - 1)?);
            }
            // So many that they are sorted.
            if bytes.ratio(1, 4)? {
                let (text, count) = (text(bytes)?, bytes.int_in_range(60..=80)?);
                list.extend((0..count).map(|number| string(&format!("{text}{number}"))));
            }
            Value::List(list).into()
        }
        _ => {
            let mut fields = Vec::new();
            for _ in 0..bytes.int_in_range(0..=3)? {
                fields.push((
                    pick(bytes, &["payload", "a", "b", "iss", "sub", "aud", "azp"])?,
                    metadata_value(bytes, depth - 1)?,
                ));
            }
            map(fields)
        }
    })
}

/// A request, and the same request with one more attribute unreadable.
fn request(bytes: &mut Unstructured<'_>) -> Result<(Request, Request)> {
    let mut request = Request::default();
    for which in [PeerName::Uri, PeerName::Dns, PeerName::Subject] {
        let name = lookup(bytes, name)?;
        request = request.peer_name(which, name.as_slice());
    }
    for which in [Address::Source, Address::Remote, Address::Destination] {
        let address = lookup(bytes, |bytes| {
            Ok(if bytes.arbitrary()? {
                bytes.arbitrary::<[u8; 16]>()?.into()
            } else {
                [10, 0, 0, bytes.arbitrary()?].into()
            })
        })?;
        request = request.with_address(which, address);
    }
    request = request
        .destination_port(lookup(bytes, |bytes| Ok(if bytes.arbitrary()? { 80 } else { bytes.arbitrary()? }))?);
    let sni = lookup(bytes, raw)?;
    request = request.sni(sni.as_slice());
    for header in [":method", ":path", ":authority", "a", "a"] {
        if bytes.ratio(7, 8)? {
            request = request.header(header, raw(bytes)?);
        }
    }
    if bytes.ratio(1, 8)? {
        let value = raw(bytes)?;
        for number in 0..40 {
            request = request.header(if number % 2 == 0 { "a" } else { "b" }, [&value[..], &[b'a' + number]].concat());
        }
    }
    match bytes.int_in_range(0..=9)? {
        0 => {
            let some = bytes.int_in_range(0..=60)?;
            request = request.encoded_metadata(Lookup::Value(bytes.bytes(some)?.to_vec()));
        }
        1 => request = request.encoded_metadata(Lookup::Unreadable),
        2..=5 => {
            let payload = map([
                ("iss", string("i")),
                ("sub", string("s")),
                ("aud", metadata_value(bytes, 1)?),
                ("azp", metadata_value(bytes, 1)?),
                ("a", metadata_value(bytes, 2)?),
            ]);
            request = request.metadata("envoy.filters.http.jwt_authn", &map([("payload", payload)]));
            request = request.metadata("envoy.filters.a", &map([("b", metadata_value(bytes, 2)?)]));
        }
        _ => {}
    }
    let without = request.clone();
    let dark = match bytes.int_in_range(0..=9)? {
        0 => without.peer_name(PeerName::Uri, Lookup::Unreadable),
        1 => without.peer_name(PeerName::Dns, Lookup::Unreadable),
        2 => without.peer_name(PeerName::Subject, Lookup::Unreadable),
        3 => without.source_ip(Lookup::Unreadable),
        4 => without.remote_ip(Lookup::Unreadable),
        5 => without.destination_ip(Lookup::Unreadable),
        6 => without.destination_port(Lookup::Unreadable),
        7 => without.sni(Lookup::Unreadable),
        8 => without.unreadable_headers(),
        _ => without.encoded_metadata(Lookup::Unreadable),
    };
    Ok((request, dark))
}
