//! Reads files, and finds the listeners, routes, clusters and extensions in them.
//!
//! A file is a bootstrap, the `/config_dump` of a running Envoy, or a file from which Envoy gets a part of its configuration:
//! a discovery response. A path in a configuration names such a file. It is read as well, if it is there. A dump has everything
//! itself, and what its paths name need not be in force.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mesh_authz::diagnostic::{Diagnostic, Segment};
use mesh_authz::document::{Node, Span, Value};

use super::catalogue::{AMBIGUOUS, UNKNOWN};
use super::place::{Place, has_free_names, is_same, last_part, snake_case};
use crate::load::finding::{Finding, SourceText};
use crate::load::yaml::{self, YamlError};
use crate::load::{InputError, not_yaml};

/// The files of a configuration.
#[derive(Debug, Default)]
pub struct Documents {
    files: Vec<(Arc<SourceText>, Option<Node>)>,
    errors: Vec<(Arc<SourceText>, YamlError)>,
    ambiguous: Vec<Finding>,
}

impl Documents {
    /// Reads the files, and those that they name.
    ///
    /// # Errors
    /// A file that is given cannot be read.
    pub fn read(files: &[PathBuf]) -> Result<Self, InputError> {
        let mut documents = Self::default();
        let mut seen = BTreeSet::new();
        let mut named: Vec<(PathBuf, &Path)> = Vec::new();
        for file in files {
            if seen.insert(file.canonicalize().unwrap_or_else(|_| file.clone())) {
                // A relative path starts at the folder in which Envoy is started, also in a file in another folder.
                let started_in = file.parent().unwrap_or(Path::new(""));
                named.extend(documents.add(SourceText::read(file)?, started_in));
            }
        }
        while let Some((file, started_in)) = named.pop() {
            let is_new = file.canonicalize().is_ok_and(|file| seen.insert(file));
            if is_new && let Ok(source) = SourceText::read(&file) {
                named.extend(documents.add(source, started_in));
            }
        }
        Ok(documents)
    }

    /// Adds a file. Returns the places where the files may be that it names.
    fn add<'p>(&mut self, source: SourceText, started_in: &'p Path) -> Vec<(PathBuf, &'p Path)> {
        let source = Arc::new(source);
        let (nodes, errors) = yaml::read(&source.text);
        self.errors.extend(errors.into_iter().map(|error| (Arc::clone(&source), error)));
        let mut nodes = nodes.into_iter();
        let first = nodes.next();
        if let Some(further) = nodes.next() {
            let message = "Envoy reads only the first document of a file, and this one is another";
            self.ambiguous.push(ambiguous(&source, further.place.as_deref().map(|place| place.value), message));
        }
        let mut named = Vec::new();
        if let Some(document) = &first {
            find_ambiguous(&source, &mut Vec::new(), document, &mut self.ambiguous);
            if document.get("configs").is_none() {
                named_files(&Place::document(&source, document), false, &mut named);
            }
        }
        self.find_ignored(&source);
        self.files.push((source, first));
        let places = named.iter().flat_map(|name| [started_in.join(name), PathBuf::from(name)]);
        places.map(|place| (place, started_in)).collect()
    }

    /// Envoy leaves out a key with this tag. Our reader does not know it.
    fn find_ignored(&mut self, source: &Arc<SourceText>) {
        for (number, line) in (1..).zip(source.text.lines()) {
            let key = line.trim_start().trim_start_matches("- ");
            if key.starts_with("!ignore ") {
                let at = |column| mesh_authz::document::Position { line: number, column };
                let column = u32::try_from(line.len().saturating_sub(key.len())).unwrap_or_default().saturating_add(1);
                let span = Span { start: at(column), end: at(column.saturating_add(7)) };
                let message = "Envoy leaves this key out, and this command does not";
                self.ambiguous.push(ambiguous(source, Some(span), message));
            }
        }
    }

    /// What is not YAML, and what Envoy reads otherwise.
    pub fn errors(&self) -> Vec<Finding> {
        let not_yaml = self.errors.iter().map(|(source, error)| not_yaml(source, error));
        not_yaml.chain(self.ambiguous.iter().cloned()).collect()
    }

    /// Whether a file cannot be read.
    pub fn is_unreadable(&self) -> bool {
        !self.errors.is_empty()
    }

    pub fn all(&self) -> impl Iterator<Item = Place<'_>> {
        self.files.iter().filter_map(|(source, node)| Some(Place::document(source, node.as_ref()?)))
    }
}

fn ambiguous(source: &Arc<SourceText>, span: Option<Span>, message: &str) -> Finding {
    let diagnostic = Diagnostic {
        message: message.to_owned(),
        hint: Some("remove it, or what differs from it".to_owned()),
        ..Diagnostic::default()
    };
    let document = Node::from(Value::Null);
    Finding { span, code: Some(AMBIGUOUS.code), ..Finding::error(source, &document, diagnostic) }
}

/// Finds fields that are there twice, also in two spellings.
fn find_ambiguous<'n>(
    source: &Arc<SourceText>,
    way: &mut Vec<(Option<&'n str>, usize)>,
    node: &'n Node,
    found: &mut Vec<Finding>,
) {
    match &node.value {
        Value::Map(fields) => {
            let mut seen = HashMap::with_capacity(fields.len());
            for (index, (name, child)) in fields.iter().enumerate() {
                let is_free =
                    way.iter().any(|(name, _)| name.is_some_and(|name| has_free_names(name) || name == "value"));
                let key = if is_free { Cow::Borrowed(name.as_str()) } else { snake_case(name) };
                if let Some(other) = seen.insert(key, name) {
                    let span = child.place.as_deref().and_then(|place| place.key);
                    let message = if other == name {
                        format!("{name} is there twice in one map, and Envoy takes the last one")
                    } else {
                        format!("{name} is {other} in another spelling, and each start of Envoy can take another one")
                    };
                    let finding = ambiguous(source, span, &message);
                    let path = way.iter().map(|(name, index)| match name {
                        Some(name) => Segment::Field((*name).to_owned()),
                        None => Segment::Index(*index),
                    });
                    let path = mesh_authz::diagnostic::Path(path.collect());
                    let diagnostic = Diagnostic { path, ..finding.diagnostic };
                    found.push(Finding { diagnostic, ..finding });
                }
                way.push((Some(name), index));
                find_ambiguous(source, way, child, found);
                way.pop();
            }
        }
        Value::List(items) => {
            for (index, child) in items.iter().enumerate() {
                way.push((None, index));
                find_ambiguous(source, way, child, found);
                way.pop();
            }
        }
        _ => {}
    }
}

/// The files from which Envoy gets a part of its configuration.
fn named_files(place: &Place<'_>, is_source: bool, named: &mut Vec<String>) {
    for (name, child) in place.children() {
        // The old form has the path in the source itself.
        if name == "path" && is_source {
            named.extend(child.node.as_str().map(str::to_owned));
        }
        if name == "path_config_source" {
            named.extend(child.text("path").map(str::to_owned));
        }
        let is_source = matches!(
            &*name,
            "config_source" | "lds_config" | "cds_config" | "eds_config" | "sds_config" | "fcds_config"
        );
        named_files(&child, is_source, named);
    }
}

/// The configuration of one Envoy.
#[derive(Debug, Default)]
pub struct Configuration<'c> {
    pub listeners: Vec<Place<'c>>,
    /// Route configurations by name. Two sources can have one of the same name each; then both count.
    pub routes: HashMap<&'c str, Vec<Place<'c>>>,
    /// What scopes choose among: route configurations, or their names.
    pub scopes: Vec<Place<'c>>,
    /// Clusters by name.
    pub clusters: HashMap<&'c str, Vec<Place<'c>>>,
    /// The endpoints of clusters that get them by discovery, by the name of the cluster.
    pub endpoints: HashMap<&'c str, Place<'c>>,
    /// Extensions that come by discovery, by name.
    extensions: HashMap<&'c str, Vec<Place<'c>>>,
    /// Secrets by name: certificates, and whose certificates are trusted.
    pub secrets: HashMap<&'c str, Vec<Place<'c>>>,
    /// Filter chains that come by discovery.
    pub filter_chains: Vec<Place<'c>>,
    pub node: Option<Place<'c>>,
    /// Whether the input has a bootstrap, and not only parts of one.
    pub has_bootstrap: bool,
    /// The static layers of the runtime, which can undo settings.
    pub runtime: Vec<Place<'c>>,
    /// A layer of the runtime that comes from elsewhere.
    pub unknown_runtime: Option<Place<'c>>,
    /// Where listeners come from elsewhere.
    lds: Option<Place<'c>>,
}

/// What an extension does.
#[derive(Clone, Debug)]
pub struct Extension<'c> {
    /// The name of its message.
    pub name: &'c str,
    /// Its configuration. `None`: it comes from elsewhere, and is not in the input.
    pub config: Option<Place<'c>>,
}

impl<'c> Configuration<'c> {
    pub fn of(documents: &'c Documents) -> Self {
        let mut configuration = Self::default();
        let is_listener_dump = |dump: &Place<'_>| dump.message_type() == "envoy.admin.v3.ListenersConfigDump";
        let has_dump = documents.all().any(|document| document.items("configs").iter().any(is_listener_dump));
        for document in documents.all() {
            let dumps = document.items("configs");
            let bootstrap = dumps.iter().find_map(|dump| dump.get("bootstrap")).unwrap_or_else(|| document.clone());
            if let Some(resources) = bootstrap.get("static_resources") {
                configuration.has_bootstrap = true;
                // A dump has the listeners and clusters of the bootstrap once more, as they are in force.
                if !has_dump {
                    configuration.listeners.extend(resources.items("listeners"));
                    for cluster in resources.items("clusters") {
                        configuration.add(&cluster, "envoy.config.cluster.v3.Cluster");
                    }
                }
                for secret in resources.items("secrets") {
                    configuration.add(&secret, "envoy.extensions.transport_sockets.tls.v3.Secret");
                }
            }
            configuration.node = configuration.node.or_else(|| bootstrap.get("node"));
            let dynamic = bootstrap.get("dynamic_resources");
            let lds = dynamic.and_then(|from| from.get("lds_config").or_else(|| from.get("lds_resources_locator")));
            configuration.lds = configuration.lds.or(lds);
            let layers = bootstrap.get("layered_runtime").map(|runtime| runtime.items("layers")).unwrap_or_default();
            configuration.runtime.extend(layers.iter().filter_map(|layer| layer.get("static_layer")));
            let is_elsewhere =
                |layer: &&Place<'c>| ["disk_layer", "rtds_layer"].iter().any(|name| layer.get(name).is_some());
            configuration.unknown_runtime =
                configuration.unknown_runtime.or_else(|| layers.iter().find(is_elsewhere).cloned());
            configuration.collect(&document);
        }
        if has_dump || configuration.listeners.iter().any(|listener| !listener.message_type().is_empty()) {
            configuration.lds = None;
        }
        configuration
    }

    /// Adds everything that says by `@type` what it is.
    fn collect(&mut self, place: &Place<'c>) {
        for (name, child) in place.children() {
            // These are not in force, not yet or no more.
            let is_other =
                matches!(&*name, "error_state" | "draining_state" | "dynamic_warming_clusters" | "warming_state");
            if is_other || self.add(&child, child.message_type()) {
                continue;
            }
            self.collect(&child);
        }
    }

    /// Adds a resource. Returns whether it is one, with nothing else of interest in it.
    fn add(&mut self, place: &Place<'c>, message_type: &str) -> bool {
        let name = place.text("name").unwrap_or_default();
        let table = match message_type {
            "envoy.config.listener.v3.Listener" => {
                self.listeners.push(place.clone());
                return true;
            }
            "envoy.config.listener.v3.FilterChain" => {
                self.filter_chains.push(place.clone());
                return true;
            }
            "envoy.config.route.v3.ScopedRouteConfiguration" => {
                self.scopes.push(place.clone());
                return true;
            }
            "envoy.config.endpoint.v3.ClusterLoadAssignment" => {
                self.endpoints.insert(place.text("cluster_name").unwrap_or_default(), place.clone());
                return true;
            }
            "envoy.config.route.v3.RouteConfiguration" => &mut self.routes,
            "envoy.config.cluster.v3.Cluster" => &mut self.clusters,
            "envoy.config.core.v3.TypedExtensionConfig" => &mut self.extensions,
            "envoy.extensions.transport_sockets.tls.v3.Secret" => &mut self.secrets,
            _ => return false,
        };
        let known = table.entry(name).or_default();
        // A dump has some of them in several places.
        if !known.iter().any(|known| is_same(known.node, place.node)) {
            known.push(place.clone());
        }
        true
    }

    /// What a filter is, wherever its configuration comes from. Several if it is not known which one of them.
    pub fn extensions(&self, filter: &Place<'c>) -> Vec<Extension<'c>> {
        let known = |(name, config)| vec![Extension { name, config: Some(config) }];
        if let Some(typed) = filter.typed_config() {
            return known(typed);
        }
        let Some(discovery) = filter.get("config_discovery") else { return Vec::new() };
        let found = filter.text("name").and_then(|name| self.extensions.get(name)).into_iter().flatten();
        let found: Vec<_> = found.filter_map(Place::typed_config).flat_map(known).collect();
        if !found.is_empty() {
            return found;
        }
        let types = discovery.items("type_urls");
        let types = types.iter().filter_map(|url| url.node.as_str()).map(last_part);
        types.map(|name| Extension { name, config: None }).collect()
    }

    /// The configuration of a filter, if it is in the input and of this message.
    pub fn config(&self, filter: &Place<'c>, message: &str) -> Option<Place<'c>> {
        self.extensions(filter).into_iter().find(|extension| extension.name == message)?.config
    }

    /// An error if a filter's configuration comes by a name that several have.
    pub fn several(&self, filter: &Place<'c>) -> Option<Finding> {
        let found = filter.get("config_discovery").map(|_| self.extensions(filter)).unwrap_or_default();
        let known = found.iter().filter(|extension| extension.config.is_some()).count();
        (known > 1).then(|| {
            let message = "the input has several configurations of this name, and this filter can have any of them";
            filter.error(&AMBIGUOUS, message, "give each of them its own name")
        })
    }

    /// Whether the configuration of a filter comes from elsewhere and is not in the input.
    pub fn is_unknown(&self, filter: &Place<'c>) -> bool {
        filter.get("config_discovery").is_some() && self.extensions(filter).iter().all(|found| found.config.is_none())
    }

    /// A warning if listeners come from elsewhere.
    pub fn unknown(&self) -> Option<Finding> {
        self.lds.as_ref().map(|lds| {
            let message = "Envoy gets further listeners from elsewhere, and nothing is known of them";
            lds.warning(&UNKNOWN, message, "give the /config_dump of the running Envoy in place of its bootstrap")
        })
    }
}
