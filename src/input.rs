//! Policies from files, for the command and the tests: YAML or JSON, several documents, lists, directories.

use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::diagnostic::{self, Diagnostic, Diagnostics, Severity};
use crate::document::{Node, Position, Value};
use crate::policy::{AuthorizationPolicy, PolicyName, read};
use crate::yaml;

const LIST_KIND: &str = "AuthorizationPolicyList";

/// What was found in some files.
#[derive(Debug, Default)]
pub struct Resources {
    /// The valid policies, in the order of the input.
    pub policies: Vec<Resource>,
    /// Everything that is wrong or doubtful.
    pub findings: Vec<Finding>,
    /// Resources of other kinds, which were skipped.
    pub skipped: Vec<String>,
}

/// A valid policy and where it came from.
#[derive(Debug)]
pub struct Resource {
    /// The file; `-` for standard input.
    pub file: PathBuf,
    /// As written.
    pub node: Node,
    /// As read.
    pub policy: AuthorizationPolicy,
}

/// Something wrong or doubtful in a file; prints as `FILE:LINE: …`.
#[derive(Debug)]
pub struct Finding {
    /// The file.
    pub file: PathBuf,
    /// Where in it.
    pub position: Option<Position>,
    /// What.
    pub diagnostic: Diagnostic,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(position) = self.position {
            write!(f, "{}:", position.line)?;
        }
        write!(f, " {}", self.diagnostic)
    }
}

/// An input could not be read at all.
#[derive(Debug)]
pub struct InputError {
    /// The file.
    pub file: PathBuf,
    /// Why.
    pub message: String,
}

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.message)
    }
}

impl std::error::Error for InputError {}

impl Resources {
    /// Reads files, directories (their `.yaml`, `.yml` and `.json` files, not deeper) and `-`, standard input.
    ///
    /// # Errors
    /// A file cannot be read or is not YAML. What is wrong with a policy is a finding, not an error.
    pub fn read<P: AsRef<Path>>(inputs: &[P]) -> Result<Self, InputError> {
        let mut resources = Self::default();
        for input in inputs {
            for file in files(input.as_ref(), &mut resources.skipped)? {
                for document in documents(&file)? {
                    resources.document(&file, document);
                }
            }
        }
        resources.find_twins();
        Ok(resources)
    }

    /// Whether anything found makes the input unusable.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.findings.iter().any(|finding| finding.diagnostic.severity == Severity::Error)
    }

    fn document(&mut self, file: &Path, node: Node) {
        let text = |name| node.get(name).and_then(Node::as_str).unwrap_or_default();
        let (kind, group) = (text("kind"), text("apiVersion").split_once('/').map_or("", |(group, _)| group));
        if kind == "List" || kind == LIST_KIND {
            self.list(file, node);
        } else if kind.is_empty() && group.is_empty() && node.get("spec").is_none() && node.get("metadata").is_none() {
            self.skipped.push(format!("{}: skipped: a document that is no Kubernetes resource", file.display()));
        } else if is_ours(kind, group) {
            self.policy(file, node);
        } else {
            let name = node.get("metadata").and_then(|m| m.get("name")).and_then(Node::as_str).unwrap_or("?");
            let version = text("apiVersion");
            self.skipped.push(format!("{}: skipped: {kind} {name} of {version}", file.display()));
        }
    }

    /// A list of resources, as `kubectl get -o yaml` prints one.
    fn list(&mut self, file: &Path, node: Node) {
        let mut diagnostics = Diagnostics::new();
        match node.get("items").map(|items| &items.value) {
            Some(Value::List(_)) => {}
            Some(other) => {
                diagnostics.field("items", |d| d.error(format!("must be a list, is {}", other.kind())));
            }
            None => diagnostics.field("items", |d| d.error("is missing")),
        }
        self.findings.extend(findings(file, &node, diagnostics));
        let Value::Map(entries) = node.value else { return };
        for (_, items) in entries.into_iter().filter(|(key, _)| key == "items") {
            let Value::List(items) = items.value else { continue };
            for item in items {
                self.document(file, item);
            }
        }
    }

    fn policy(&mut self, file: &Path, node: Node) {
        let mut diagnostics = Diagnostics::new();
        let policy = read::policy(&node, &mut diagnostics);
        self.findings.extend(findings(file, &node, diagnostics));
        if let Some(policy) = policy {
            self.policies.push(Resource { file: file.to_owned(), node, policy });
        }
    }

    /// Two policies of one namespace and name: a cluster would keep the last.
    fn find_twins(&mut self) {
        let mut seen: std::collections::HashMap<&PolicyName, &Path> = std::collections::HashMap::new();
        for resource in &self.policies {
            if let Some(first) = seen.insert(&resource.policy.name, &resource.file) {
                let diagnostic = Diagnostic {
                    severity: Severity::Error,
                    policy: Some(resource.policy.name.to_string()),
                    path: diagnostic::Path::default(),
                    message: format!("another policy, in {}, has the same namespace and name", first.display()),
                    hint: Some("rename or remove one; a cluster cannot hold both".to_owned()),
                };
                let position = resource.node.position;
                self.findings.push(Finding { file: resource.file.clone(), position, diagnostic });
            }
        }
    }
}

/// Gives each diagnostic its place in the file.
#[must_use]
pub fn findings(file: &Path, node: &Node, diagnostics: Diagnostics) -> Vec<Finding> {
    let place =
        |diagnostic: Diagnostic| Finding { file: file.to_owned(), position: node.locate(&diagnostic.path), diagnostic };
    diagnostics.into_found().into_iter().map(place).collect()
}

/// The documents of one file, or of standard input for `-`.
///
/// # Errors
/// It cannot be read, or is not YAML.
pub fn documents(file: &Path) -> Result<Vec<Node>, InputError> {
    let error = |message: String| InputError { file: file.to_owned(), message };
    let text = if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(file)
    };
    yaml::documents(&text.map_err(|e| error(e.to_string()))?).map_err(|e| error(format!("line {e}")))
}

fn files(input: &Path, skipped: &mut Vec<String>) -> Result<Vec<PathBuf>, InputError> {
    if !input.is_dir() {
        return Ok(vec![input.to_owned()]);
    }
    let error = |e: std::io::Error| InputError { file: input.to_owned(), message: e.to_string() };
    let entries = std::fs::read_dir(input).map_err(error)?;
    let paths: Result<Vec<_>, _> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    let paths = paths.map_err(error)?;
    let folders = paths.iter().filter(|path| path.is_dir());
    skipped.extend(folders.map(|folder| format!("{}: skipped: a folder in a folder", folder.display())));
    let is_resource = |path: &PathBuf| {
        path.extension().is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|known| extension == *known))
    };
    let mut files: Vec<_> = paths.into_iter().filter(is_resource).collect();
    files.sort();
    if files.is_empty() {
        let message = "the folder has no .yaml, .yml or .json file (folders in it are not read)".to_owned();
        return Err(InputError { file: input.to_owned(), message });
    }
    Ok(files)
}

/// Whether a resource is, or is meant to be, an `AuthorizationPolicy` of Istio: a mistyped one must not be skipped as
/// something else. One of another group's is something else.
fn is_ours(kind: &str, group: &str) -> bool {
    const GROUP: &str = "security.istio.io";
    let near = |text: &str, ours| text.is_empty() || diagnostic::suggestion(text, [ours]).is_some();
    let is_sibling = matches!(kind, "PeerAuthentication" | "RequestAuthentication");
    (near(kind, read::KIND) && (near(group, GROUP) || group.ends_with("istio.io"))) || (group == GROUP && !is_sibling)
}
