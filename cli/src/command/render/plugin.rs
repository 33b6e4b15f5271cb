//! Further fields of the plugin configuration, from a file and from options. The filter's own reader judges them.

use std::path::PathBuf;
use std::sync::Arc;

use mesh_authz::config::{Mesh, NodeMetadata, PluginConfig};
use mesh_authz::diagnostic::{Diagnostic, Part, Path, Segment};
use mesh_authz::document::{Node, Value, from_json};
use mesh_authz::policy::DEFAULT_NAMESPACE;
use mesh_authz::policy::scope::Gateway;

use crate::command::Failure;
use crate::command::options::key_value;
use crate::load::finding::{Finding, SourceText};
use crate::load::{not_yaml, yaml};
use crate::render::{FilterSettings, WorkloadSettings, plugin_config_of};

/// Fields of the plugin configuration that have no option of their own.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Plugin configuration")]
pub struct PluginOptions {
    /// File with fields of the plugin configuration, in YAML or JSON, such as `decisionLog: all`.
    #[arg(long, value_name = "FILE")]
    plugin: Option<PathBuf>,

    /// Field of the plugin configuration (repeatable), such as decisionLog=all or denyResponse.status=404. The value is read
    /// as JSON or, if it is no JSON, as a text. It wins over the field in --plugin.
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,
}

/// What a plugin configuration is rendered for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PluginFor {
    /// One workload, whose Envoy has it from elsewhere.
    Workload,
    /// One workload, with the other filters that this one needs.
    Standalone,
    /// A file that the Envoy of a workload watches.
    WatchedFile,
    /// A resource of Istio.
    Cluster,
}

/// Further fields of a plugin configuration, and where each is from.
#[derive(Debug)]
pub struct PluginFields {
    pub fields: Vec<(String, Node)>,
    file: Option<(Arc<SourceText>, Node)>,
    set: Vec<SetField>,
}

/// A field that `--set` gives.
#[derive(Debug)]
struct SetField {
    path: Path,
    /// It stands for the file, in messages.
    source: Arc<SourceText>,
    value: Node,
}

impl PluginOptions {
    /// Reads the fields. Fails if one of them is not for this place, or if the filter would refuse it where it is loaded: at
    /// one of these gateways, or at a workload that is none.
    pub fn read<'g>(
        &self,
        place: PluginFor,
        gateways: impl IntoIterator<Item = Option<&'g Gateway>>,
    ) -> Result<PluginFields, Failure> {
        let file = self.plugin.as_deref().map(from_file).transpose()?;
        let set: Vec<_> = self.set.iter().map(|(key, value)| SetField::of(key, value)).collect();
        let mut root = file.as_ref().map_or(Value::Map(Vec::new()).into(), |(_, node)| node.clone());
        let mut found = Vec::new();
        for (number, field) in set.iter().enumerate() {
            let overlaps = |before: &&SetField| before.path.0.starts_with(&field.path.0);
            let message = match set.iter().take(number).find(overlaps) {
                Some(before) => Some(format!("{} says this already", before.source.file.display())),
                None => put(&mut root, &field.path.0, &field.value).err(),
            };
            let error = |message| Diagnostic { path: field.path.clone(), message, ..Diagnostic::default() };
            found.extend(message.map(|message| Finding::error(&field.source, &root, error(message))));
        }
        let Value::Map(fields) = root.value else { return Err(Failure::unusable("--plugin: not an object")) };
        let read = PluginFields { fields, file, set };
        found.extend(read.fields.iter().filter_map(|(name, _)| read.elsewhere(name, place)));
        let refused = gateways.into_iter().map(|gateway| read.refused(place, gateway));
        // What is wrong at one place is wrong at the others, too.
        found.extend(refused.into_iter().find(|found| !found.is_empty()).into_iter().flatten());
        if found.is_empty() { Ok(read) } else { Err(Failure::Invalid(found)) }
    }
}

impl SetField {
    fn of(key: &str, value: &str) -> Self {
        let path = Path(key.split('.').map(|name| Segment::Field(name.to_owned())).collect());
        let source = SourceText::new(PathBuf::from(format!("--set {key}={value}")), String::new());
        let value = from_json(value.as_bytes()).unwrap_or_else(|_| Value::String(value.to_owned()).into());
        Self { path, source: Arc::new(source), value }
    }
}

/// The object in a file.
fn from_file(file: &std::path::Path) -> Result<(Arc<SourceText>, Node), Failure> {
    let source = Arc::new(SourceText::read(file)?);
    let mut documents =
        yaml::documents(&source.text).map_err(|error| Failure::Invalid(vec![not_yaml(&source, &error)]))?;
    let count = documents.len();
    let not_an_object = |what: &str| {
        let file = file.display();
        Failure::Unusable(format!("{file}: must be one object with fields of the plugin configuration, is {what}"))
    };
    let node = documents.pop().filter(|_| count == 1).ok_or_else(|| not_an_object(&format!("{count} documents")))?;
    match node.value {
        Value::Map(_) => Ok((source, node)),
        other => Err(not_an_object(other.kind())),
    }
}

/// Puts a value at a path, in the place of the value that is there.
fn put(node: &mut Node, path: &[Segment], value: &Node) -> Result<(), String> {
    let [Segment::Field(name), rest @ ..] = path else {
        *node = value.clone();
        return Ok(());
    };
    let kind = node.value.kind();
    let Value::Map(entries) = &mut node.value else {
        return Err(format!("this is a field of {kind}, and not of an object"));
    };
    let position = entries.iter().position(|(key, _)| key == name).unwrap_or_else(|| {
        entries.push((name.clone(), Value::Map(Vec::new()).into()));
        entries.len().saturating_sub(1)
    });
    entries.get_mut(position).map_or(Ok(()), |(_, node)| put(node, rest, value))
}

impl PluginFields {
    /// What the filter would refuse of the fields that are for this place, at this gateway if there is one.
    fn refused(&self, place: PluginFor, gateway: Option<&Gateway>) -> Vec<Finding> {
        let is_for_this_place = |(name, _): &&(String, Node)| self.elsewhere(name, place).is_none();
        let further: Vec<_> = self.fields.iter().filter(is_for_this_place).cloned().collect();
        let workload = WorkloadSettings { gateway: gateway.cloned(), ..WorkloadSettings::default() };
        let settings = FilterSettings { further: &further, ..FilterSettings::default() };
        let config = plugin_config_of(std::iter::empty(), &workload, &Mesh::default(), settings);
        let no_json =
            |error: serde_json::Error| vec![Diagnostic { message: error.to_string(), ..Diagnostic::default() }];
        // This keeps fields that are given twice.
        let text = serde_json::to_vec(&config).map_err(no_json);
        let node = NodeMetadata::in_namespace(DEFAULT_NAMESPACE);
        text.and_then(|text| PluginConfig::read(&text, &node))
            .err()
            .into_iter()
            .flatten()
            .map(|found| self.finding(found))
            .collect()
    }

    /// The key under which `jwt_authn` has to store the claims of a verified token, if a field says so.
    pub fn payload_key(&self) -> Option<&str> {
        let (_, jwt) = self.fields.iter().find(|(name, _)| name == "jwt")?;
        jwt.get("payloadKey")?.as_str()
    }

    /// Whether a field says that the client's address counts as that of the direct peer.
    pub fn takes_client_for_peer(&self) -> bool {
        let is_so = |(name, node): &(String, Node)| name == "sourceIpFrom" && node.as_str() == Some("remote-address");
        self.fields.iter().any(is_so)
    }

    /// A mistake, with the option or the file that it is in.
    fn finding(&self, mut found: Diagnostic) -> Finding {
        let path = &found.path.0;
        let set = self.set.iter().rev().find(|field| path.starts_with(&field.path.0));
        let in_file = self.file.as_ref().filter(|(_, node)| path.first().is_none_or(|first| has(node, first)));
        // What is missing is nowhere.
        let near = || self.set.iter().find(|field| field.path.0.first() == path.first()).or(self.set.first());
        let (source, node) = match (set, in_file) {
            (Some(field), _) => (&field.source, None),
            (None, Some((source, node))) => (source, Some(node)),
            (None, None) => match (near(), &self.file) {
                (Some(field), _) => (&field.source, None),
                (None, Some((source, node))) => (source, Some(node)),
                (None, None) => (&Arc::new(SourceText::new(PathBuf::from("--set"), String::new())), None),
            },
        };
        let begins_as_json =
            |field: &SetField| field.value.as_str().is_some_and(|text| text.starts_with(['{', '[', '"']));
        if found.hint.is_none() && set.is_some_and(begins_as_json) {
            found.hint = Some("it is no valid JSON, so it is read as a text".to_owned());
        }
        if node.is_none() && found.hint.as_deref() == Some("write it in quotes") {
            found.hint =
                Some("write the text in double quotes, and all of it in single ones: 'KEY=\"TEXT\"'".to_owned());
        }
        Finding::error(source, node.unwrap_or(&Value::Null.into()), found)
    }

    /// The error that a field is given in another way, or not at all.
    fn elsewhere(&self, name: &str, place: PluginFor) -> Option<Finding> {
        let is_cluster = place == PluginFor::Cluster;
        let (message, hint) = match name {
            "policies" => ("comes from the input", "name the files with the policies"),
            "workload" if is_cluster => ("comes from the policies' selectors", "leave it out"),
            "gateway" if is_cluster => ("has an option of its own", "give --waypoint"),
            "workload" => ("has options of its own", "give --namespace, and --label or --no-labels"),
            "gateway" => ("has options of its own", "give --gateway or --waypoint"),
            "revision" => ("has an option of its own", "give --revision"),
            "trustDomain" => ("has an option of its own", "give --trust-domain"),
            "trustDomainAliases" => ("has an option of its own", "give --trust-domain-alias"),
            "rootNamespace" => ("has an option of its own", "give --root-namespace"),
            "combining" => ("has an option of its own", "give --combining"),
            "allowNoneApplies" => ("has an option of its own", "give --allow-none-applies"),
            // If the filter did not load there, Envoy could go on without it.
            "onInvalid" if matches!(place, PluginFor::WatchedFile | PluginFor::Cluster) => {
                ("is always `deny` where Envoy gets the filter by xDS", "leave it out")
            }
            "custom" if is_cluster => ("is not for a cluster: Istio asks the providers", "leave it out"),
            "custom" if place != PluginFor::Workload => (
                "follows from the input: Envoy asks the providers that `extensionProviders` of a mesh configuration names",
                "leave it out",
            ),
            // Nothing here sets the filter state from which it could come, so nobody would have an identity.
            "principalFrom" if matches!(place, PluginFor::Standalone | PluginFor::WatchedFile) => {
                ("is the peer's certificate, and on a waypoint the filter state", "leave it out")
            }
            "jwt" if place == PluginFor::WatchedFile => {
                ("is fixed by the bootstrap: `render envoy --watch` stores claims as `payload`", "leave it out")
            }
            "outgoing" if is_cluster => ("follows from where Istio loads the filter", "leave it out"),
            _ => return None,
        };
        Some(self.finding(Diagnostic {
            path: Path::of([name]),
            part: Part::Key,
            message: message.to_owned(),
            hint: Some(hint.to_owned()),
            ..Diagnostic::default()
        }))
    }
}

fn has(node: &Node, segment: &Segment) -> bool {
    matches!(segment, Segment::Field(name) if node.get(name).is_some())
}
