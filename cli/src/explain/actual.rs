//! The values that a request has for the attribute that a predicate looks at, as text for people.

use mesh_authz::policy::Predicate;
use mesh_authz::request::metadata::JWT_AUTHN;
use mesh_authz::request::{Address, Attributes, ConnectionText, Lookup, Metadata, PeerName, metadata, without_query};

/// What a request has for an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actual {
    /// Its values, at least one.
    Values(Vec<String>),
    /// No value. The text says why.
    Nothing(&'static str),
    /// Unknown: the request does not say whether it has a value.
    Unreadable,
}

/// A request, and the key that leads to the claims of its token.
pub(super) struct RequestView<'r, A> {
    pub request: &'r A,
    /// The metadata key under which `jwt_authn` stores the payload of the token.
    pub payload_key: &'r str,
}

impl<A: Attributes> RequestView<'_, A> {
    /// What the request has for the attribute that a predicate looks at.
    pub(super) fn actual(&self, predicate: &Predicate) -> Actual {
        let request = self.request;
        match predicate {
            Predicate::Principal(_)
            | Predicate::ServiceAccount(_)
            | Predicate::TrustDomain(_)
            | Predicate::Namespace(_) => identity(request),
            Predicate::RequestPrincipal(_) => match (self.issuer_and_subject(), self.request.metadata()) {
                (Some((issuer, subject)), _) => Actual::Values(vec![format!("{issuer}/{subject}")]),
                (None, Lookup::Unreadable) => Actual::Unreadable,
                (None, _) => Actual::Nothing("the request has no verified token with an issuer and a subject"),
            },
            Predicate::RemoteIp(_) => of(request.address(Address::Remote).map(|ip| ip.to_string())),
            Predicate::SourceIp(_) => of(request.address(Address::Source).map(|ip| ip.to_string())),
            Predicate::DestinationIp(_) => of(request.address(Address::Destination).map(|ip| ip.to_string())),
            Predicate::DestinationPort(_) => of(request.destination_port().map(|port| port.to_string())),
            Predicate::Host(_) => header(request, ":authority"),
            Predicate::Method(_) => header(request, ":method"),
            Predicate::Path(_) => match header(request, ":path") {
                Actual::Values(paths) => {
                    Actual::Values(paths.iter().map(|path| lossy(without_query(path.as_bytes()))).collect())
                }
                none => none,
            },
            Predicate::Sni(_) => match request.text(ConnectionText::Sni) {
                Lookup::Absent => Actual::Nothing("the client named no server in its TLS handshake"),
                name => of(name.map(lossy)),
            },
            Predicate::Header { name, .. } => match name.to_ascii_lowercase().as_str() {
                "host" => header(request, ":authority"),
                name => header(request, name),
            },
            Predicate::Claim { path, .. } => {
                let path: Vec<&str> = path.iter().map(String::as_str).collect();
                match request.metadata().and_then(|all| all.get(JWT_AUTHN.as_bytes(), &[self.payload_key])) {
                    Lookup::Absent => Actual::Nothing("the request has no verified token"),
                    Lookup::Value(_) | Lookup::Unreadable => {
                        let keys: Vec<&str> = std::iter::once(self.payload_key).chain(path.iter().copied()).collect();
                        metadata_values(self.claim(&path), || self.kind(JWT_AUTHN, &keys))
                    }
                }
            }
            Predicate::Metadata { filter, key, .. } => {
                let value = request.metadata().and_then(|all| all.get(filter.as_bytes(), &[key]));
                match metadata_values(value, || self.kind(filter, &[key])) {
                    // As in policies: a value in brackets is an element of a list, any other value is a string.
                    Actual::Values(values) if is_list(request, filter, key) => {
                        Actual::Values(values.into_iter().map(|value| format!("[{value}]")).collect())
                    }
                    other => other,
                }
            }
        }
    }

    /// The issuer and the subject of the token, if both are texts.
    pub(super) fn issuer_and_subject(&self) -> Option<(String, String)> {
        Some((text(self.claim(&["iss"]))?, text(self.claim(&["sub"]))?))
    }

    fn kind(&self, filter: &str, keys: &[&str]) -> Option<&'static str> {
        self.request.metadata().known()?.kind_of_other(filter.as_bytes(), keys)
    }

    /// The claim at this path.
    pub(super) fn claim(&self, path: &[&str]) -> Lookup<metadata::Value<'_>> {
        let keys: Vec<&str> = std::iter::once(self.payload_key).chain(path.iter().copied()).collect();
        self.request.metadata().and_then(|all: Metadata<'_>| all.get(JWT_AUTHN.as_bytes(), &keys))
    }
}

fn is_list(request: &impl Attributes, filter: &str, key: &str) -> bool {
    let value = request.metadata().and_then(|all| all.get(filter.as_bytes(), &[key]));
    matches!(value, Lookup::Value(metadata::Value::List(_)))
}

fn of(value: Lookup<String>) -> Actual {
    match value {
        Lookup::Value(value) => Actual::Values(vec![value]),
        Lookup::Absent => Actual::Nothing("the request has none"),
        Lookup::Unreadable => Actual::Unreadable,
    }
}

fn identity(request: &impl Attributes) -> Actual {
    let mut names = Vec::new();
    for which in PeerName::ALL {
        match request.checked_peer_name(which) {
            Lookup::Value(name) => names.push(lossy(name)),
            Lookup::Absent => {}
            Lookup::Unreadable => return Actual::Unreadable,
        }
    }
    if names.is_empty() {
        return Actual::Nothing("the peer has no identity: it comes in plaintext, or without a client certificate");
    }
    Actual::Values(names)
}

pub(super) fn header(request: &impl Attributes, name: &str) -> Actual {
    match request.header(name.as_bytes()).map(|values| values.map(lossy).collect::<Vec<_>>()) {
        Lookup::Value(values) if values.is_empty() => Actual::Nothing("the request has no such header"),
        Lookup::Value(values) => Actual::Values(values),
        Lookup::Absent => Actual::Nothing("the request has no such header"),
        Lookup::Unreadable => Actual::Unreadable,
    }
}

fn text(value: Lookup<metadata::Value<'_>>) -> Option<String> {
    match value {
        Lookup::Value(metadata::Value::String(text)) => Some(lossy(text)),
        _ => None,
    }
}

/// `kind`: the kind of a value that is neither a string nor a list.
fn metadata_values(value: Lookup<metadata::Value<'_>>, kind: impl FnOnce() -> Option<&'static str>) -> Actual {
    match value {
        Lookup::Value(metadata::Value::String(text)) => Actual::Values(vec![lossy(text)]),
        Lookup::Value(metadata::Value::List(list)) => {
            let mut values = Vec::new();
            let _all_are_looked_at = list.any_string(|text| {
                values.push(lossy(text));
                false
            });
            if values.is_empty() {
                Actual::Nothing("it is a list without a string in it")
            } else {
                Actual::Values(values)
            }
        }
        Lookup::Value(metadata::Value::Other) => Actual::Nothing(match kind() {
            Some("a number") => "it is a number, and a number never matches, not even in quotes",
            Some("a boolean") => "it is a boolean, and a boolean never matches, not even in quotes",
            Some("an object") => "it is an object, and an object never matches: its claims have keys of their own",
            _ => "it is null, and null never matches",
        }),
        Lookup::Absent => Actual::Nothing("the request has no such value"),
        Lookup::Unreadable => Actual::Unreadable,
    }
}

pub(super) fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
