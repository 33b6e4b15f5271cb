//! Reads files, and finds the listeners, routes, clusters and extensions in them.
//!
//! A file is a bootstrap, the `/config_dump` of a running Envoy, or a file from which Envoy gets a part of its configuration:
//! a discovery response. A path in a configuration names such a file. It is read as well, if it is there.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mesh_authz::document::Node;

use super::catalogue::UNKNOWN;
use super::place::Place;
use crate::load::finding::{Finding, SourceText};
use crate::load::yaml::{self, YamlError};
use crate::load::{InputError, not_yaml};

/// The files of a configuration.
#[derive(Debug, Default)]
pub struct Documents {
    files: Vec<(Arc<SourceText>, Vec<Node>)>,
    errors: Vec<(Arc<SourceText>, YamlError)>,
}

impl Documents {
    /// Reads the files, and those that they name.
    ///
    /// # Errors
    /// A file that is given cannot be read.
    pub fn read(files: &[PathBuf]) -> Result<Self, InputError> {
        let mut documents = Self::default();
        let mut seen = BTreeSet::new();
        let mut named: Vec<PathBuf> = Vec::new();
        for file in files {
            if seen.insert(file.canonicalize().unwrap_or_else(|_| file.clone())) {
                named.extend(documents.add(SourceText::read(file)?));
            }
        }
        while let Some(file) = named.pop() {
            let is_new = file.canonicalize().is_ok_and(|file| seen.insert(file));
            if is_new && let Ok(source) = SourceText::read(&file) {
                named.extend(documents.add(source));
            }
        }
        Ok(documents)
    }

    /// Adds a file. Returns the places where the files may be that it names.
    fn add(&mut self, source: SourceText) -> Vec<PathBuf> {
        let source = Arc::new(source);
        let (nodes, errors) = yaml::read(&source.text);
        self.errors.extend(errors.into_iter().map(|error| (Arc::clone(&source), error)));
        let mut named = Vec::new();
        for node in &nodes {
            named_files(&Place::document(&source, node), &mut named);
        }
        // A relative path starts at the folder in which Envoy is started.
        let folder = source.file.parent().map(Path::to_owned).unwrap_or_default();
        let candidates = named.iter().flat_map(|name| [folder.join(name), PathBuf::from(name)]).collect();
        self.files.push((source, nodes));
        candidates
    }

    /// What is not YAML.
    pub fn errors(&self) -> Vec<Finding> {
        self.errors.iter().map(|(source, error)| not_yaml(source, error)).collect()
    }

    pub fn all(&self) -> impl Iterator<Item = Place<'_>> {
        self.files.iter().flat_map(|(source, nodes)| nodes.iter().map(move |node| Place::document(source, node)))
    }
}

/// The files from which Envoy gets listeners, routes, clusters and extensions. Files with secrets are left out.
fn named_files(place: &Place<'_>, named: &mut Vec<String>) {
    for (name, child) in place.children() {
        match name {
            "path_config_source" | "pathConfigSource" => named.extend(child.text("path").map(str::to_owned)),
            "sds_config" | "sdsConfig" => {}
            _ => named_files(&child, named),
        }
    }
}

/// The configuration of one Envoy.
#[derive(Debug, Default)]
pub struct Configuration<'c> {
    pub listeners: Vec<Place<'c>>,
    /// Route configurations by name.
    pub routes: HashMap<&'c str, Place<'c>>,
    /// Clusters by name.
    pub clusters: HashMap<&'c str, Place<'c>>,
    /// The endpoints of clusters that get them by discovery, by the name of the cluster.
    pub endpoints: HashMap<&'c str, Place<'c>>,
    /// Extensions that come by discovery, by name.
    pub extensions: HashMap<&'c str, Place<'c>>,
    pub node: Option<Place<'c>>,
    /// Where listeners come from elsewhere.
    lds: Option<Place<'c>>,
}

impl<'c> Configuration<'c> {
    pub fn of(documents: &'c Documents) -> Self {
        let mut configuration = Self::default();
        let mut has_listener_dump = false;
        for document in documents.all() {
            let dumps = document.items("configs");
            has_listener_dump |= dumps.iter().any(|dump| dump.message_type() == "envoy.admin.v3.ListenersConfigDump");
            let is_complete = has_listener_dump;
            let bootstrap = dumps.iter().find_map(|dump| dump.get("bootstrap")).unwrap_or_else(|| document.clone());
            // A dump has the listeners and clusters of the bootstrap once more, as they are in force.
            if let Some(resources) = bootstrap.get("static_resources")
                && !is_complete
            {
                for listener in resources.items("listeners") {
                    configuration.listeners.push(listener);
                }
                for cluster in resources.items("clusters") {
                    configuration.add(&cluster, "envoy.config.cluster.v3.Cluster");
                }
            }
            configuration.node = configuration.node.or_else(|| bootstrap.get("node"));
            configuration.lds = configuration.lds.or_else(|| bootstrap.at(["dynamic_resources", "lds_config"]));
            configuration.collect(&document);
        }
        if has_listener_dump || configuration.listeners.iter().any(|listener| !listener.message_type().is_empty()) {
            configuration.lds = None;
        }
        configuration
    }

    /// Adds everything that says by `@type` what it is.
    fn collect(&mut self, place: &Place<'c>) {
        for (name, child) in place.children() {
            // These are not in force, or no more.
            if matches!(name, "error_state" | "errorState" | "draining_state" | "drainingState") {
                continue;
            }
            let message_type = child.message_type();
            if !self.add(&child, message_type) {
                self.collect(&child);
            }
        }
    }

    /// Adds a resource. Returns whether it is one.
    fn add(&mut self, place: &Place<'c>, message_type: &str) -> bool {
        let name = || place.text("name").unwrap_or_default();
        match message_type {
            "envoy.config.listener.v3.Listener" => self.listeners.push(place.clone()),
            "envoy.config.route.v3.RouteConfiguration" => drop(self.routes.insert(name(), place.clone())),
            "envoy.config.cluster.v3.Cluster" => drop(self.clusters.insert(name(), place.clone())),
            "envoy.config.endpoint.v3.ClusterLoadAssignment" => {
                drop(self.endpoints.insert(place.text("cluster_name").unwrap_or_default(), place.clone()));
            }
            "envoy.config.core.v3.TypedExtensionConfig" => drop(self.extensions.insert(name(), place.clone())),
            _ => return false,
        }
        true
    }

    /// A warning if listeners come from elsewhere.
    pub fn unknown(&self) -> Option<Finding> {
        self.lds.as_ref().map(|lds| {
            lds.warning(
                &UNKNOWN,
                "Envoy gets further listeners from elsewhere, and nothing is known of them",
                "give the /config_dump of the running Envoy in place of its bootstrap",
            )
        })
    }
}
