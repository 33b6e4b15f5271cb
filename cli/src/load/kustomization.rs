//! What is deployed together, as the kustomizations in the input say.
//!
//! A tree of files often has a base and overlays, or one folder for each environment. Two policies with one name in it
//! are a mistake only if one cluster gets both.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Component, Path, PathBuf};

use mesh_authz::document::Node;

use super::{Other, Resources, items};

/// The names of files with a kustomization.
const FILES: [&str; 2] = ["kustomization.yaml", "kustomization.yml"];

/// The fields that can change anything in a resource.
const PATCHES: [&str; 6] =
    ["patches", "patchesJson6902", "patchesStrategicMerge", "replacements", "transformers", "vars"];

/// Whether two files are deployed together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deployment {
    /// The kustomizations keep them apart: none has both.
    Apart,
    /// Nothing in the input says it.
    Unknown,
    /// They are one file, or a kustomization has both as resources.
    Together,
}

/// Whether the document is a kustomization.
#[must_use]
pub fn is_kustomization(other: &Other) -> bool {
    let group = other.text("apiVersion").split_once('/').map_or("", |(group, _)| group);
    let is_file = other.source.file.file_name().is_some_and(|name| FILES.iter().any(|file| name == *file));
    group == "kustomize.config.k8s.io" || (is_file && other.text("kind").is_empty())
}

/// The kustomizations in the input.
#[derive(Debug, Default)]
pub struct Kustomizations {
    /// For each kustomization: the files that it deploys, each with what it does to their names.
    deployed: Vec<HashMap<PathBuf, Vec<Renaming>>>,
    /// The files that kustomizations name, as resources or as patches.
    known: HashSet<PathBuf>,
    /// The files with resources whose namespace, name or labels a kustomization changes.
    changed: HashSet<PathBuf>,
    /// The files with resources that a kustomization changes or patches, and its patches, each with the folder of the
    /// kustomization.
    built: BTreeMap<PathBuf, PathBuf>,
}

/// What kustomizations do to the namespaces and the names of resources.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Renaming {
    namespace: Option<String>,
    prefix: String,
    suffix: String,
    /// Whether labels are added.
    labels: bool,
    /// Whether a kustomization has patches, which can change anything.
    patches: bool,
}

/// A kustomization, as written.
struct Written<'r> {
    folder: PathBuf,
    node: &'r Node,
}

impl Kustomizations {
    /// Reads the kustomizations in the input.
    #[must_use]
    pub fn of(resources: &Resources) -> Self {
        let written: Vec<_> = resources
            .others
            .iter()
            .filter(|other| is_kustomization(other))
            .map(|other| Written { folder: folder(&other.source.file), node: &other.node })
            .collect();
        let mut all = Self::default();
        for one in &written {
            let mut deployed = HashMap::new();
            one.deploy(&written, &Renaming::default(), &mut vec![one.folder.clone()], &mut deployed);
            all.known.extend(deployed.keys().cloned());
            let is_changed =
                |renaming: &Renaming| *renaming != Renaming { patches: renaming.patches, ..Renaming::default() };
            let is_built = |renaming: &Renaming| *renaming != Renaming::default();
            let built = deployed.iter().filter(|(_, renamings)| renamings.iter().any(is_built));
            all.built.extend(built.map(|(file, _)| (file.clone(), one.folder.clone())));
            let changed = deployed.iter().filter(|(_, renamings)| renamings.iter().any(is_changed));
            all.changed.extend(changed.map(|(file, _)| file.clone()));
            all.known.extend(one.patches());
            all.built.extend(one.patches().map(|patch| (patch, one.folder.clone())));
            all.deployed.push(deployed);
        }
        all
    }

    /// Whether a kustomization deploys the resources of a file with another namespace, another name or other labels than
    /// the file says.
    #[must_use]
    pub fn changes(&self, file: &Path) -> bool {
        !self.changed.is_empty() && self.changed.contains(&plain(file))
    }

    /// The folder of a kustomization that changes or patches the resources of a file, so that a cluster gets others.
    #[must_use]
    pub fn that_builds(&self, file: &Path) -> Option<&Path> {
        if self.built.is_empty() { None } else { self.built.get(&plain(file)).map(PathBuf::as_path) }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.deployed.is_empty()
    }

    /// The kustomizations that deploy a file, each with the same number for the same names; `None` if no kustomization names
    /// the file. Two files with nothing in common are deployed apart.
    #[must_use]
    pub fn deployments(&self, file: &Path) -> Option<Vec<(usize, String)>> {
        let file = plain(file);
        let deployments = |(number, deployed): (usize, &HashMap<PathBuf, Vec<Renaming>>)| {
            let renamings = deployed.get(&file).map_or(&[][..], Vec::as_slice);
            renamings.iter().map(|renaming| (number, format!("{renaming:?}"))).collect::<Vec<_>>()
        };
        self.known.contains(&file).then(|| self.deployed.iter().enumerate().flat_map(deployments).collect())
    }

    /// Whether a file is only a patch: a part of a resource, and not one of its own.
    #[must_use]
    pub fn is_patch(&self, file: &Path) -> bool {
        let file = plain(file);
        self.known.contains(&file) && !self.deployed.iter().any(|deployed| deployed.contains_key(&file))
    }

    /// Whether two files are deployed together.
    #[must_use]
    pub fn relation(&self, one: &Path, other: &Path) -> Deployment {
        let (one, other) = (plain(one), plain(other));
        let meet = |deployed: &HashMap<PathBuf, Vec<Renaming>>| {
            let (Some(ones), Some(others)) = (deployed.get(&one), deployed.get(&other)) else { return false };
            ones.iter().any(|renaming| others.contains(renaming))
        };
        if one == other || self.deployed.iter().any(meet) {
            Deployment::Together
        } else if self.known.contains(&one) && self.known.contains(&other) {
            Deployment::Apart
        } else {
            Deployment::Unknown
        }
    }
}

impl Written<'_> {
    /// Adds the files that it deploys, with those of the kustomizations that it names.
    fn deploy(
        &self,
        all: &[Written<'_>],
        outer: &Renaming,
        seen: &mut Vec<PathBuf>,
        deployed: &mut HashMap<PathBuf, Vec<Renaming>>,
    ) {
        let text = |field: &str| self.node.get(field).and_then(Node::as_str).unwrap_or_default();
        let own = Some(text("namespace")).filter(|namespace| !namespace.is_empty()).map(str::to_owned);
        let renaming = Renaming {
            namespace: outer.namespace.clone().or(own),
            prefix: format!("{}{}", outer.prefix, text("namePrefix")),
            suffix: format!("{}{}", text("nameSuffix"), outer.suffix),
            labels: outer.labels || ["labels", "commonLabels"].iter().any(|field| self.node.get(field).is_some()),
            patches: outer.patches || PATCHES.iter().any(|field| self.node.get(field).is_some()),
        };
        for path in ["resources", "bases", "components"].iter().flat_map(|field| texts(self.node.get(field))) {
            let path = plain(&self.folder.join(path));
            match all.iter().find(|other| other.folder == path) {
                Some(inner) if !seen.contains(&path) => {
                    seen.push(path);
                    inner.deploy(all, &renaming, seen, deployed);
                    seen.pop();
                }
                Some(_) => {}
                None => deployed.entry(path).or_default().push(renaming.clone()),
            }
        }
    }

    fn patches(&self) -> impl Iterator<Item = PathBuf> {
        let paths = ["patches", "patchesJson6902"].iter().flat_map(|field| items(self.node.get(field)));
        let paths = paths.filter_map(|patch| patch.get("path").and_then(Node::as_str));
        paths.chain(texts(self.node.get("patchesStrategicMerge"))).map(|path| plain(&self.folder.join(path)))
    }
}

fn texts(list: Option<&Node>) -> impl Iterator<Item = &str> {
    items(list).iter().filter_map(Node::as_str)
}

fn folder(file: &Path) -> PathBuf {
    plain(file.parent().unwrap_or(Path::new("")))
}

/// The path without `.` and, where it can be told, without `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if matches!(plain.components().next_back(), Some(Component::Normal(_))) => {
                plain.pop();
            }
            other => plain.push(other),
        }
    }
    plain
}
