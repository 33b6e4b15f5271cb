//! Reads policies from files, for the command and the tests: YAML or JSON, several documents, lists, directories,
//! patterns.

pub mod finding;
pub mod kustomization;
pub mod let_through;
mod metadata;
pub mod peer_authentication;
pub mod policy_set;
pub mod providers;
pub mod request_authentication;
pub mod twins;
pub mod yaml;

use std::collections::HashSet;
use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::string::FromUtf8Error;
use std::sync::Arc;

use mesh_authz::diagnostic::{self, Diagnostic, Diagnostics};
use mesh_authz::document::{Node, Span, Value};
use mesh_authz::policy::{AuthorizationPolicy, read};
use rayon::prelude::*;

use self::finding::{Finding, Related, Severity, SourceText};
use self::kustomization::Kustomizations;
use self::request_authentication::RequestAuthentication;
use self::yaml::YamlError;

const LIST_KINDS: [&str; 3] = ["List", "AuthorizationPolicyList", "RequestAuthenticationList"];

/// The resources in some files, and the mistakes in them.
#[derive(Debug, Default)]
pub struct Resources {
    /// The valid policies, in the order of the input.
    pub policies: Vec<LoadedPolicy>,
    /// The valid `RequestAuthentications`, in the order of the input.
    pub request_authentications: Vec<Authentication>,
    /// All other documents, in the order of the input.
    pub others: Vec<Other>,
    /// What is deployed together. `None`: everything.
    pub kustomizations: Option<Kustomizations>,
    /// All mistakes.
    pub findings: Vec<Finding>,
}

/// A valid policy and where it came from.
#[derive(Debug)]
pub struct LoadedPolicy {
    /// The text that contains it.
    pub source: Arc<SourceText>,
    /// The document, as written.
    pub node: Node,
    /// The policy, as read from the document.
    pub policy: AuthorizationPolicy,
}

/// A valid `RequestAuthentication` and where it came from.
#[derive(Debug)]
pub struct Authentication {
    /// The text that contains it.
    pub source: Arc<SourceText>,
    /// The document, as written.
    pub node: Node,
    /// The resource, as read from the document.
    pub authentication: RequestAuthentication,
}

/// A document that is neither an `AuthorizationPolicy` nor a `RequestAuthentication`, or the policy of
/// [`let_through`].
#[derive(Debug)]
pub struct Other {
    /// The text that contains it.
    pub source: Arc<SourceText>,
    /// The document, as written.
    pub node: Node,
}

/// The error that an input cannot be read at all.
#[derive(Debug)]
pub struct InputError {
    pub file: PathBuf,
    pub message: String,
}

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.message)
    }
}

impl std::error::Error for InputError {}

impl Other {
    /// The text of a field at the root, such as `kind` or `apiVersion`; empty if there is none.
    #[must_use]
    pub fn text(&self, field: &str) -> &str {
        self.node.get(field).and_then(Node::as_str).unwrap_or_default()
    }

    /// Whether it is a file of tests for `mesh-authz test`.
    #[must_use]
    pub fn is_test_file(&self) -> bool {
        is_test(&self.node)
    }

    /// Whether it is the policy that lets all HTTP through to the plugin.
    #[must_use]
    pub fn lets_http_through(&self) -> bool {
        let_through::is_one(&self.node)
    }

    /// What the document is: the kind of the resource, if it is one.
    #[must_use]
    pub fn what(&self) -> &str {
        match self.text("kind") {
            _ if self.lets_http_through() => "policy of `render`, which lets HTTP through to the plugin",
            kind if self.is_resource() => kind,
            _ if self.is_test_file() => "test file",
            _ if self.node.get("extensionProviders").is_some() => "mesh configuration",
            _ => "document that is no Kubernetes resource",
        }
    }

    fn is_resource(&self) -> bool {
        !self.text("kind").is_empty() || !self.text("apiVersion").is_empty()
    }

    /// `metadata.name`.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.node.get("metadata")?.get("name")?.as_str()
    }
}

/// Prints the file, and what the document is.
impl fmt::Display for Other {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.source.file.display())?;
        if self.is_resource() {
            write!(f, "{} {} of {}", self.what(), self.name().unwrap_or("?"), self.text("apiVersion"))
        } else {
            write!(f, "a {}", self.what())
        }
    }
}

impl Resources {
    /// Reads the resources in these inputs. A file that is named in several ways is read once.
    ///
    /// | input | what is read |
    /// | --- | --- |
    /// | a file | the file |
    /// | a directory | all `.yaml`, `.yml` and `.json` files in it and in its subdirectories, except hidden ones |
    /// | a pattern such as `policies/**/*.yaml` | all files that match |
    /// | `-` | standard input |
    ///
    /// # Errors
    /// An input cannot be read, or it names no file. A mistake in the content of a file is a finding, not an error. So is
    /// a file in a directory that cannot be read.
    pub fn read<P: AsRef<Path>>(inputs: &[P]) -> Result<Self, InputError> {
        Self::read_except(inputs, &Excluded::default())
    }

    /// Like [`Self::read`], without what is excluded from folders.
    ///
    /// # Errors
    /// As of [`Self::read`].
    pub fn read_except<P: AsRef<Path>>(inputs: &[P], excluded: &Excluded) -> Result<Self, InputError> {
        let files = all_files(inputs, excluded)?;
        let texts: Vec<_> = files.par_iter().map(|file| SourceText::read_documents(file)).collect();
        let mut resources = Self::default();
        for (file, read) in files.iter().zip(texts) {
            match read {
                Ok((source, documents)) => resources.add_documents(&Arc::new(source), documents),
                Err(error) if inputs.iter().any(|input| input.as_ref() == file) => return Err(error),
                Err(error) => resources.findings.push(Finding::unreadable(error)),
            }
        }
        resources.find_twins();
        Ok(resources)
    }

    /// The resources in a text.
    #[must_use]
    pub fn of(source: &Arc<SourceText>) -> Self {
        let mut resources = Self::default();
        resources.add_documents(source, yaml::read(&source.text));
        resources.find_twins();
        resources
    }

    fn add_documents(&mut self, source: &Arc<SourceText>, (documents, errors): Documents) {
        // kubectl takes a file only if each document in it is a resource. A file without any is not for kubectl.
        let is_for_kubectl = documents.iter().any(|node| is_resource(node) || has_resources(node));
        for node in documents {
            let is_test = is_test(&node);
            match not_a_resource(&node).filter(|_| is_for_kubectl && !is_test) {
                Some((message, hint)) => self.error(source, &node, message, hint),
                None => self.document(source, node),
            }
        }
        self.findings.extend(errors.iter().map(|error| not_yaml(source, error)));
    }

    fn error(&mut self, source: &Arc<SourceText>, node: &Node, message: &str, hint: &str) {
        let mut diagnostics = Diagnostics::new();
        diagnostics.error_with_hint(message, hint);
        self.findings.extend(findings(source, node, diagnostics));
    }

    /// The files with policies that a kustomization in the input changes or patches, each with the folder of the kustomization.
    /// A cluster gets other policies than these files have.
    #[must_use]
    pub fn built_policies(&self) -> Vec<(&Path, PathBuf)> {
        let kustomizations = Kustomizations::of(self);
        let named = |folder: &Path| if folder.as_os_str().is_empty() { Path::new(".") } else { folder }.to_owned();
        let built = |policy: &LoadedPolicy| kustomizations.that_builds(&policy.source.file).map(named);
        let mut found: Vec<_> = Vec::new();
        for policy in &self.policies {
            let file = policy.source.file.as_path();
            if found.last().is_none_or(|(last, _)| *last != file) {
                found.extend(built(policy).map(|folder| (file, folder)));
            }
        }
        found
    }

    /// Whether there is a mistake, which makes the input unusable.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        !self.findings.is_empty()
    }

    /// The resources of this kind, among those that are neither an `AuthorizationPolicy` nor a `RequestAuthentication`.
    pub fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Other> {
        self.others.iter().filter(move |other| other.text("kind") == kind)
    }

    fn document(&mut self, source: &Arc<SourceText>, node: Node) {
        let is_list = is_list(&node);
        let ours = Ours::of_document(&node);
        if (is_list || !matches!(ours, Some(Ours::Policy | Ours::RequestAuthentication)))
            && let Some(twice) = field_written_twice(&node)
        {
            let message = "is written twice, and readers disagree about which one counts";
            let mut diagnostics = Diagnostics::new();
            diagnostics.field(twice, |diagnostics| diagnostics.error_with_hint(message, "remove one of them"));
            self.findings.extend(findings(source, &node, diagnostics));
            return;
        }
        if is_list {
            self.list(source, node);
            return;
        }
        match ours {
            Some(Ours::Policy) => self.policy(source, node),
            Some(Ours::RequestAuthentication) => self.request_authentication(source, node),
            Some(Ours::PeerAuthentication) => {
                let mut diagnostics = Diagnostics::new();
                peer_authentication::check(&node, &mut diagnostics);
                metadata::check(&node, source, &mut diagnostics);
                self.findings.extend(findings(source, &node, diagnostics));
                self.others.push(Other { source: Arc::clone(source), node });
            }
            None => self.others.push(Other { source: Arc::clone(source), node }),
        }
    }

    /// Reads a list of resources, as `kubectl get -o yaml` prints one.
    fn list(&mut self, source: &Arc<SourceText>, node: Node) {
        let mut diagnostics = Diagnostics::new();
        match node.get("items").map(|items| &items.value) {
            Some(Value::List(_)) => {}
            Some(other) => {
                diagnostics.field("items", |d| d.error(format!("must be a list, is {}", other.kind())));
            }
            None => diagnostics.field("items", |d| d.error("is missing")),
        }
        metadata::check_list(&node, &mut diagnostics);
        self.findings.extend(findings(source, &node, diagnostics));
        let list_kind =
            node.get("kind").zip(node.get("apiVersion")).map(|(kind, version)| (kind.clone(), version.clone()));
        let Value::Map(entries) = node.value else { return };
        for (_, items) in entries.into_iter().filter(|(key, _)| key == "items") {
            let Value::List(items) = items.value else { continue };
            for item in items {
                if is_list(&item) {
                    let hint = "put its items into the list around it";
                    self.error(source, &item, "a list within a list: kubectl refuses the file", hint);
                    continue;
                }
                let item = with_kind_of_list(item, list_kind.as_ref());
                match not_a_resource(&item) {
                    Some((message, hint)) => self.error(source, &item, message, hint),
                    None => self.document(source, item),
                }
            }
        }
    }

    fn policy(&mut self, source: &Arc<SourceText>, node: Node) {
        let mut diagnostics = Diagnostics::new();
        let policy = read::policy(&node, &mut diagnostics);
        metadata::check(&node, source, &mut diagnostics);
        self.findings.extend(findings(source, &node, diagnostics));
        if let_through::is_one(&node) {
            self.others.push(Other { source: Arc::clone(source), node });
        } else if let Some(policy) = policy {
            self.policies.push(LoadedPolicy { source: Arc::clone(source), node, policy });
        }
    }

    fn request_authentication(&mut self, source: &Arc<SourceText>, node: Node) {
        let mut diagnostics = Diagnostics::new();
        let authentication = request_authentication::request_authentication(&node, &mut diagnostics);
        metadata::check(&node, source, &mut diagnostics);
        self.findings.extend(findings(source, &node, diagnostics));
        if let Some(authentication) = authentication {
            self.request_authentications.push(Authentication { source: Arc::clone(source), node, authentication });
        }
    }
}

/// Whether the document says which kind of resource it is.
fn is_resource(node: &Node) -> bool {
    ["kind", "apiVersion"]
        .into_iter()
        .all(|field| node.get(field).and_then(Node::as_str).is_some_and(|text| !text.is_empty()))
}

/// Whether the document is a list of resources, such as a `List` or a `ConfigMapList`.
fn is_list(node: &Node) -> bool {
    let kind = node.get("kind").and_then(Node::as_str).unwrap_or_default();
    LIST_KINDS.contains(&kind) || kind.ends_with("List") && node.get("items").is_some()
}

/// Whether the document is a list without a kind, and has resources in it.
fn has_resources(node: &Node) -> bool {
    matches!(&node.value, Value::List(items) if items.iter().any(is_resource))
}

/// Why kubectl refuses a file with this document, and what to do about it.
fn not_a_resource(node: &Node) -> Option<(&'static str, &'static str)> {
    match &node.value {
        _ if is_resource(node) => {
            let version = node.get("apiVersion").and_then(Node::as_str).unwrap_or_default();
            (version.matches('/').count() > 1)
                .then_some(("its `apiVersion` has two slashes: kubectl refuses the file", "write GROUP/VERSION"))
        }
        Value::Map(_) if Ours::of_document(node).is_some() => None,
        Value::Map(_) => Some((
            "this document has no `apiVersion` or no `kind`: kubectl refuses the file",
            "write both, or move the document to another file",
        )),
        Value::List(_) => Some((
            "a list is no resource: kubectl refuses the file",
            "write its items into `items` of a resource with `apiVersion: v1` and `kind: List`",
        )),
        _ => Some(("a single value is no resource: kubectl refuses the file", "remove it")),
    }
}

/// The items of a list; none if it is no list.
pub(crate) fn items(list: Option<&Node>) -> &[Node] {
    match list.map(|node| &node.value) {
        Some(Value::List(items)) => items,
        _ => &[],
    }
}

/// Whether a file in a folder can have resources, by its name.
#[must_use]
pub fn can_have_resources(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default();
    ["yaml", "yml", "json"].iter().any(|known| extension.eq_ignore_ascii_case(known))
}

/// Whether the document is a file of tests for `mesh-authz test`.
fn is_test(node: &Node) -> bool {
    let is_empty = |field| node.get(field).and_then(Node::as_str).unwrap_or_default().is_empty();
    let has_tests = ["tests", "proofs"].iter().any(|field| node.get(field).is_some());
    is_empty("kind") && is_empty("apiVersion") && has_tests
}

/// An item of a list of one kind. In such a list, an item need not say its kind and version.
fn with_kind_of_list(item: Node, list: Option<&(Node, Node)>) -> Node {
    let kind = list.and_then(|(kind, version)| Some((kind.as_str()?.strip_suffix("List")?, kind, version)));
    let Some((kind, kind_of_list, version)) = kind.filter(|(kind, ..)| !kind.is_empty()) else { return item };
    let Value::Map(mut entries) = item.value else { return item };
    if !entries.iter().any(|(key, _)| key == "kind" || key == "apiVersion") {
        entries.push(("apiVersion".to_owned(), version.clone()));
        entries.push(("kind".to_owned(), Node { value: Value::String(kind.to_owned()), ..kind_of_list.clone() }));
    }
    Node { value: Value::Map(entries), place: item.place }
}

/// A field of every resource, or of a list, that the document has twice.
fn field_written_twice(node: &Node) -> Option<&'static str> {
    let Value::Map(entries) = &node.value else { return None };
    let count = |field: &str| entries.iter().filter(|(key, _)| key == field).count();
    ["apiVersion", "kind", "metadata", "spec", "items"].into_iter().find(|field| count(field) > 1)
}

impl SourceText {
    /// Reads a file, or standard input for `-`.
    ///
    /// # Errors
    /// The file cannot be read, or is no text.
    pub fn read(file: &Path) -> Result<Self, InputError> {
        let text = text(bytes(file)?).map_err(|message| InputError { file: file.to_owned(), message })?;
        Ok(Self::new(file.to_owned(), text))
    }

    /// Like [`Self::read`], and also returns the documents. A file that is no text is not an error here: it counts as a
    /// text that is not YAML.
    fn read_documents(file: &Path) -> Result<(Self, Documents), InputError> {
        let (text, error) = match text(bytes(file)?) {
            Ok(text) => (text, None),
            Err(message) => (String::new(), Some(message)),
        };
        let source = Self::new(file.to_owned(), text);
        let documents = match error {
            None => yaml::read(&source.text),
            Some(message) => (Vec::new(), vec![YamlError::new(message)]),
        };
        Ok((source, documents))
    }
}

/// The text in the bytes of a file: UTF-8, or UTF-16 with a mark of byte order, as some programs on Windows write it.
/// kubectl reads both.
///
/// # Errors
/// It is neither; says so.
fn text(bytes: Vec<u8>) -> Result<String, String> {
    let unit: fn([u8; 2]) -> u16 = match bytes.get(..2) {
        Some([0xff, 0xfe]) => u16::from_le_bytes,
        Some([0xfe, 0xff]) => u16::from_be_bytes,
        _ => return String::from_utf8(bytes).map_err(|error| not_text(&error)),
    };
    let (units, rest) = bytes.as_chunks();
    let not_utf_16 = || "the file is not UTF-16, though it begins as if it were".to_owned();
    String::from_utf16(&units.iter().copied().map(unit).collect::<Vec<_>>())
        .ok()
        .filter(|_| rest.is_empty())
        .ok_or_else(not_utf_16)
}

/// The documents of a text, and the mistakes in those that cannot be read.
type Documents = (Vec<Node>, Vec<YamlError>);

/// The content of a file; of standard input for `-`.
///
/// # Errors
/// The file cannot be read.
pub fn bytes(file: &Path) -> Result<Vec<u8>, InputError> {
    let bytes = if file == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes).map(|_| bytes)
    } else if let Some(why) = not_readable(file) {
        return Err(InputError { file: file.to_owned(), message: why.to_owned() });
    } else {
        std::fs::read(file)
    };
    bytes.map_err(|error| InputError { file: file.to_owned(), message: error.to_string() })
}

/// Why a file must not be opened, if so.
pub(crate) fn not_readable(file: &Path) -> Option<&'static str> {
    is_named_pipe(file).then_some(
        "is a named pipe, and nobody may ever write to it: write its content to standard input, and give `-`",
    )
}

/// Whether the file is a pipe in a folder. A pipe of the shell, as in `<(command)`, is in none, and has a writer.
#[cfg(unix)]
fn is_named_pipe(file: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    std::fs::metadata(file).is_ok_and(|found| found.file_type().is_fifo()) && file.canonicalize().is_ok()
}

#[cfg(not(unix))]
fn is_named_pipe(_: &Path) -> bool {
    false
}

fn not_text(error: &FromUtf8Error) -> String {
    format!("the file is not UTF-8, from byte {} on", error.utf8_error().valid_up_to())
}

/// The documents of one file.
///
/// # Errors
/// The file cannot be read, or is not YAML.
pub fn documents(file: &Path) -> Result<Vec<Node>, InputError> {
    let source = SourceText::read(file)?;
    let not_yaml = |error: YamlError| InputError { file: source.file.clone(), message: error.to_string() };
    yaml::documents(&source.text).map_err(not_yaml)
}

/// Turns diagnostics into findings, each with its place in the file. Where a value is a placeholder, the hint says so.
pub fn findings(source: &Arc<SourceText>, node: &Node, diagnostics: Diagnostics) -> impl Iterator<Item = Finding> {
    diagnostics.into_found().into_iter().map(|mut diagnostic| {
        if let Some(found) = node.at(&diagnostic.path).and_then(Node::as_str).and_then(yaml::placeholder) {
            let hint = "is a placeholder that nothing has filled in: check the output of the tool that fills it in";
            diagnostic.hint = Some(format!("`{found}` {hint}"));
        }
        Finding::error(source, node, diagnostic)
    })
}

/// The finding for a text that is not YAML.
#[must_use]
pub fn not_yaml(source: &Arc<SourceText>, error: &YamlError) -> Finding {
    let message = format!("this is not YAML: {}", error.message);
    let within = error.within.map(|start| Related {
        source: Arc::clone(source),
        span: Some(Span { start, end: start }),
        message: format!("it was read as part of what begins here, in column {}", start.column),
    });
    Finding {
        source: Arc::clone(source),
        span: Some(Span { start: error.position, end: error.position }),
        severity: Severity::Error,
        code: None,
        diagnostic: Diagnostic { message, hint: error.hint.map(str::to_owned), ..Diagnostic::default() },
        related: within.into_iter().collect(),
    }
}

/// What is left out of folders, and of what matches a pattern: a pattern without a slash is for the name of a file or a folder, and one
/// with a slash for a path. A file that is named is never left out.
#[derive(Clone, Debug, Default)]
pub struct Excluded(pub Vec<glob::Pattern>);

impl Excluded {
    fn has(&self, path: &Path) -> bool {
        let path = path.strip_prefix("./").unwrap_or(path);
        self.0.iter().any(|pattern| {
            let is_of_a_name = !pattern.as_str().contains('/');
            let name = path.file_name().map(Path::new).filter(|_| is_of_a_name);
            pattern.matches_path(name.unwrap_or(path))
        })
    }
}

/// The files that the arguments name, each once. A directory names the files with resources in it, and a pattern
/// names the files that match it.
///
/// # Errors
/// A directory cannot be read, a directory has no file with resources, or a pattern is wrong or matches no file.
pub fn all_files<P: AsRef<Path>>(inputs: &[P], excluded: &Excluded) -> Result<Vec<PathBuf>, InputError> {
    let mut seen = HashSet::new();
    let mut all = Vec::new();
    for input in inputs {
        let found = files(input.as_ref(), excluded)?;
        all.extend(found.into_iter().filter(|file| seen.insert(file.canonicalize().unwrap_or(file.clone()))));
    }
    Ok(all)
}

/// The files that one argument names.
fn files(input: &Path, excluded: &Excluded) -> Result<Vec<PathBuf>, InputError> {
    let error = |message: String| InputError { file: input.to_owned(), message };
    if input.is_dir() {
        let files = in_folder(input, excluded).map_err(|e| error(e.to_string()))?;
        if files.is_empty() {
            let but = if excluded.0.is_empty() { "" } else { " that is not excluded" };
            return Err(error(format!("the folder has no .yaml, .yml or .json file in it{but}")));
        }
        return Ok(files);
    }
    let pattern = input.to_str().filter(|text| !input.exists() && text.contains(['*', '?', '[']));
    let Some(pattern) = pattern else { return Ok(vec![input.to_owned()]) };
    let paths = glob::glob(pattern).map_err(|e| error(e.to_string()))?;
    let files: Vec<_> = paths.collect::<Result<_, _>>().map_err(|e| error(e.to_string()))?;
    let files: Vec<_> = files.into_iter().filter(|path| path.is_file() && !excluded.has(path)).collect();
    if files.is_empty() {
        return Err(error("the pattern matches no file".to_owned()));
    }
    Ok(files)
}

/// The files with resources in a folder and in the folders inside it, sorted by name. Hidden files and folders are left
/// out, and so are links back to a folder that contains them, and links to nothing, unless they have the name of a file
/// with resources. What cannot be read is listed, so that reading it says why.
fn in_folder(folder: &Path, excluded: &Excluded) -> Result<Vec<PathBuf>, walkdir::Error> {
    let is_hidden = |entry: &walkdir::DirEntry| {
        entry.depth() > 0 && (entry.file_name().as_encoded_bytes().starts_with(b".") || excluded.has(entry.path()))
    };
    // What is in the current folder is named as people name it.
    let is_current = folder == Path::new(".");
    let named = |path: PathBuf| match path.strip_prefix("./") {
        Ok(short) if is_current => short.to_owned(),
        _ => path,
    };
    let mut files = Vec::new();
    for entry in
        walkdir::WalkDir::new(folder).follow_links(true).sort_by_file_name().into_iter().filter_entry(|e| !is_hidden(e))
    {
        match entry {
            Ok(entry) if can_have_resources(entry.path()) && !entry.path().is_dir() => {
                files.push(named(entry.into_path()))
            }
            Ok(_) => {}
            Err(error) if error.loop_ancestor().is_some() => {}
            Err(error) => match error.path() {
                Some(path) if path.is_symlink() && !can_have_resources(path) => {}
                Some(path) if error.depth() > 0 => files.push(named(path.to_owned())),
                _ => return Err(error),
            },
        }
    }
    Ok(files)
}

/// The kinds that are read here. A resource with a mistyped kind counts as the kind that is meant, so that it is not
/// skipped as something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ours {
    Policy,
    RequestAuthentication,
    PeerAuthentication,
}

impl Ours {
    /// The kind that the document has or is meant to have.
    fn of_document(node: &Node) -> Option<Self> {
        let text = |name| node.get(name).and_then(Node::as_str).unwrap_or_default();
        let (kind, group) = (text("kind"), text("apiVersion").split_once('/').map_or("", |(group, _)| group));
        let is_resource = !kind.is_empty() || !group.is_empty();
        let is_meant = is_resource || node.get("spec").is_some() || node.get("metadata").is_some();
        Self::of(kind, group).filter(|_| is_meant)
    }

    /// The kind that a resource has or is meant to have. `None` for anything else, such as a resource of another API
    /// group.
    fn of(kind: &str, group: &str) -> Option<Self> {
        const GROUP: &str = "security.istio.io";
        let is_group =
            group.is_empty() || group.ends_with("istio.io") || diagnostic::suggestion(group, [GROUP]).is_some();
        let known = [read::KIND, request_authentication::KIND, peer_authentication::KIND];
        match diagnostic::suggestion(kind, known) {
            _ if !is_group => None,
            Some(request_authentication::KIND) => Some(Self::RequestAuthentication),
            Some(peer_authentication::KIND) => Some(Self::PeerAuthentication),
            Some(_) => Some(Self::Policy),
            None if kind.is_empty() || group == GROUP => Some(Self::Policy),
            None => None,
        }
    }
}
