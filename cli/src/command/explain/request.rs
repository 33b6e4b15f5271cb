//! The request that `mesh-authz explain` explains, from a file and from options.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::builder::PossibleValuesParser;
use mesh_authz::diagnostic::Diagnostics;
use mesh_authz::document::{Node, Value, from_json};

use crate::command::Failure;
use crate::command::options::key_value;
use crate::load;
use crate::load::finding::SourceText;
use crate::load::yaml;
use crate::received::Protocol;
use crate::testfile::RequestFields;

/// The request. If they are not given, the method is `GET`, the path is `/`, the host is `localhost`, and the client's
/// address is the direct peer's. Another address or a port that is not given is unreadable. The request does not have
/// anything else that is not given.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Request")]
pub struct RequestOptions {
    /// File with the request, in the form of a request in a test file; `-` is standard input. The other options replace
    /// its fields, except that --header and --claim add to them.
    #[arg(long, value_name = "FILE")]
    request: Option<PathBuf>,

    /// SPIFFE ID of the peer, without `spiffe://`. If it is not given, the request comes in plaintext.
    #[arg(long)]
    principal: Option<String>,

    /// HTTP method; `GET` if it is not given.
    #[arg(long)]
    method: Option<String>,

    /// Path with its query; `/` if it is not given.
    #[arg(long)]
    path: Option<String>,

    /// Host, with its port if it has one; `localhost` if it is not given.
    #[arg(long)]
    host: Option<String>,

    /// How the request comes to Envoy. If it is not given, the request is decided for both versions of HTTP.
    #[arg(long, value_parser = PossibleValuesParser::new(Protocol::NAMES.map(|(name, _)| name)))]
    protocol: Option<String>,

    /// Decide about a TCP connection instead of a request, as `--protocol tcp`. A rule of ALLOW with a field that only HTTP
    /// has does not count then. In a policy of another action, such a field does not count.
    #[arg(long, conflicts_with_all = ["protocol", "method", "path", "host", "headers", "claims"])]
    tcp: bool,

    /// Header of the request (repeatable).
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = key_value)]
    headers: Vec<(String, String)>,

    /// Address of the direct peer; `sourceIp` in a file.
    #[arg(long, value_name = "ADDRESS")]
    source_ip: Option<String>,

    /// Address of the client, `remoteIp` in a file; the direct peer's address if it is not given.
    #[arg(long, value_name = "ADDRESS")]
    remote_ip: Option<String>,

    /// Local address; `destinationIp` in a file.
    #[arg(long, value_name = "ADDRESS")]
    destination_ip: Option<String>,

    /// Local port; `destinationPort` in a file.
    #[arg(long)]
    port: Option<u16>,

    /// Server name in the TLS handshake.
    #[arg(long)]
    sni: Option<String>,

    /// Claim of the verified token (repeatable). A claim that is given several times is a list. `[a][b]=v` is the claim
    /// `b` inside the claim `a`. The value is a string; with `NAME:=JSON` it is any JSON value, for example a number,
    /// which no policy matches.
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = key_value)]
    claims: Vec<(String, String)>,

    /// Answer of the provider of a CUSTOM policy: `NAME=allow` or `NAME=deny` (repeatable). If it is not given, both are
    /// shown.
    #[arg(long = "provider", value_name = "NAME=ANSWER", value_parser = key_value)]
    providers: Vec<(String, String)>,
}

impl RequestOptions {
    /// Fails if both the policies and the request are on standard input, which can be read only once.
    pub fn no_second_standard_input(&self, files: &[PathBuf]) -> Result<(), Failure> {
        let is_standard_input = |file: &PathBuf| file == Path::new("-");
        if files.iter().any(is_standard_input) && self.request.as_ref().is_some_and(is_standard_input) {
            let message =
                "the policies and the request cannot both be `-`, standard input: write one of them to a file";
            return Err(Failure::unusable(message));
        }
        Ok(())
    }

    /// Reads the request from the file and from the other options. Headers and claims of the options are added to those
    /// of the file; every other option replaces the file's field.
    pub fn read(&self) -> Result<RequestFields, Failure> {
        let mut fields = match &self.request {
            Some(file) => from_file(file)?,
            None => Vec::new(),
        };
        let text = |text: &String| Value::String(text.clone());
        let simple = [
            ("principal", self.principal.as_ref().map(text)),
            ("method", self.method.as_ref().map(text)),
            ("path", self.path.as_ref().map(text)),
            ("host", self.host.as_ref().map(text)),
            (
                "protocol",
                self.protocol.as_ref().map(text).or_else(|| self.tcp.then(|| Value::String("tcp".to_owned()))),
            ),
            ("sourceIp", self.source_ip.as_ref().map(text)),
            ("remoteIp", self.remote_ip.as_ref().map(text)),
            ("destinationIp", self.destination_ip.as_ref().map(text)),
            ("destinationPort", self.port.map(|port| Value::Number(port.into()))),
            ("sni", self.sni.as_ref().map(text)),
        ];
        for (name, value) in simple {
            if let Some(value) = value {
                fields.retain(|(field, _)| field != name);
                fields.push((name.to_owned(), value.into()));
            }
        }
        for (name, value) in &self.headers {
            add(field(&mut fields, "headers")?, name, Value::String(value.clone()));
        }
        for (name, value) in &self.claims {
            let (name, is_json) = match name.strip_suffix(':') {
                Some(name) => (name, true),
                None => (name.as_str(), false),
            };
            let keys = claim_path(name)?;
            let (last, outer) = keys.split_last().ok_or_else(|| Failure::unusable("a claim needs a name"))?;
            let innermost = outer.iter().try_fold(field(&mut fields, "jwt")?, |map, key| field(map, key))?;
            let value = if is_json { claim_value(name, value)? } else { Value::String(value.clone()) };
            add(innermost, last, value);
        }
        for (name, answer) in &self.providers {
            add(field(&mut fields, "provider")?, name, Value::String(answer.clone()));
        }
        let mut diagnostics = Diagnostics::new();
        let request = RequestFields::read(&Value::Map(fields).into(), &mut diagnostics);
        match (request, diagnostics.into_found().first()) {
            (Some(request), None) => Ok(request),
            (_, error) => {
                let why = error.map(ToString::to_string).unwrap_or_default();
                Err(Failure::Unusable(format!("the request: {why}")))
            }
        }
    }
}

type Fields = Vec<(String, Node)>;

/// Reads the request in a file. It is checked here as a whole, so that an error names its line.
fn from_file(file: &Path) -> Result<Fields, Failure> {
    let source = Arc::new(SourceText::read(file)?);
    let mut documents =
        yaml::documents(&source.text).map_err(|error| Failure::unusable(load::not_yaml(&source, &error)))?;
    let count = documents.len();
    let node = documents.pop().filter(|_| count == 1).ok_or_else(|| {
        Failure::Unusable(format!("{}: a request is one document, and this file has {count}", file.display()))
    })?;
    let mut diagnostics = Diagnostics::new();
    RequestFields::read(&node, &mut diagnostics);
    let findings: Vec<_> = load::findings(&source, &node, diagnostics).map(|finding| finding.to_string()).collect();
    match node.value {
        Value::Map(fields) if findings.is_empty() => Ok(fields),
        _ => Err(Failure::Unusable(findings.join("\n"))),
    }
}

/// The map in the field of this name. Creates the field if it does not exist.
fn field<'f>(fields: &'f mut Fields, name: &str) -> Result<&'f mut Fields, Failure> {
    let at = fields.iter().position(|(field, _)| field == name).unwrap_or_else(|| {
        fields.push((name.to_owned(), Value::Map(Vec::new()).into()));
        fields.len().saturating_sub(1)
    });
    match fields.get_mut(at).map(|(_, node)| &mut node.value) {
        Some(Value::Map(inner)) => Ok(inner),
        _ => Err(Failure::Unusable(format!("`{name}` cannot both be a value and have values in it"))),
    }
}

/// Adds a value to a field. If the field has a value already, the values become a list.
fn add(fields: &mut Fields, name: &str, value: Value) {
    match fields.iter_mut().find(|(field, _)| field == name).map(|(_, node)| &mut node.value) {
        Some(Value::List(items)) => items.push(value.into()),
        Some(before) => {
            let first = std::mem::replace(before, Value::Null);
            *before = Value::List(vec![first.into(), value.into()]);
        }
        None => fields.push((name.to_owned(), value.into())),
    }
}

/// The keys in the name of a claim: `a` is one key, and `[a][b]` is two, as in policies.
fn claim_path(name: &str) -> Result<Vec<&str>, Failure> {
    let Some(inner) = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) else { return Ok(vec![name]) };
    let keys: Vec<&str> = inner.split("][").collect();
    if keys.iter().any(|key| key.is_empty()) {
        return Err(Failure::Unusable(format!("`{name}`: a claim needs a name")));
    }
    Ok(keys)
}

fn claim_value(name: &str, value: &str) -> Result<Value, Failure> {
    let node = from_json(value.as_bytes())
        .map_err(|error| Failure::Unusable(format!("claim {name}: `{value}` is not JSON: {error}")))?;
    Ok(node.value)
}
