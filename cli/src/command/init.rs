//! `mesh-authz init`: writes first policies, tests for them, and a recipe for CI.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Component, Path, PathBuf};

use clap::ValueEnum;
use mesh_authz::diagnostic::Diagnostics;
use mesh_authz::policy::{DEFAULT_NAMESPACE, read};

use super::options::{key_value, namespace};
use super::{Answer, Failure};
use crate::load::yaml;

/// Arguments of `mesh-authz init`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  mesh-authz init
  mesh-authz init --namespace shop --label app=orders --ci gitlab
  mesh-authz init --only-ci --ci github --ci pre-commit

Exit status:
  0  everything is written
  2  wrong usage, or a file is there already: then nothing is written")]
pub struct Arguments {
    /// Folder to write to. It is made if it does not exist.
    #[arg(value_name = "FOLDER", default_value = ".")]
    folder: PathBuf,

    /// Namespace of the workload that the policies protect.
    #[arg(long, default_value = DEFAULT_NAMESPACE, value_parser = namespace)]
    namespace: String,

    /// Label of the workload that the policies protect.
    #[arg(long, value_name = "KEY=VALUE", default_value = "app=backend", value_parser = key_value)]
    label: (String, String),

    /// CI service that gets a recipe (repeatable). Recipes check and test the folder `policies`.
    #[arg(long, value_enum, default_value = "github")]
    ci: Vec<Ci>,

    /// Write only recipes, and no policies. For a folder that has policies already.
    #[arg(long)]
    only_ci: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Ci {
    /// A workflow of GitHub Actions, `.github/workflows/policies.yaml`.
    Github,
    /// A pipeline of GitLab, `.gitlab-ci.yml`.
    Gitlab,
    /// Hooks of pre-commit, `.pre-commit-config.yaml`.
    PreCommit,
    /// No recipe.
    None,
}

/// The files are those for the workload `app: backend` in the namespace `default`.
const POLICIES: [(&str, &str); 3] = [
    ("policies/allow-nothing.yaml", include_str!("init/allow-nothing.yaml")),
    ("policies/allow-frontend.yaml", include_str!("init/allow-frontend.yaml")),
    ("policies/tests.yaml", include_str!("init/tests.yaml")),
];

impl Ci {
    fn recipe(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Github => Some((".github/workflows/policies.yaml", include_str!("init/github.yaml"))),
            Self::Gitlab => Some((".gitlab-ci.yml", include_str!("init/gitlab.yaml"))),
            Self::PreCommit => Some((".pre-commit-config.yaml", include_str!("init/pre-commit.yaml"))),
            Self::None => None,
        }
    }
}

pub fn run(arguments: &Arguments, out: &mut String) -> Result<Answer, Failure> {
    let Arguments { folder, namespace, label: (key, value), ci, only_ci } = arguments;
    let named = |(name, text): (&str, &'static str)| (in_folder(folder, name), text);
    let policies: Vec<_> = POLICIES.into_iter().filter(|_| !only_ci).map(named).collect();
    let recipes: BTreeMap<_, _> = ci.iter().filter_map(|ci| ci.recipe()).map(named).collect();
    if policies.is_empty() && recipes.is_empty() {
        return Err(Failure::unusable(
            "there is nothing to write: --only-ci leaves out policies, and --ci none recipes",
        ));
    }
    let recipe_names = ci.iter().filter_map(|ci| Some(ci.recipe()?.0)).collect::<BTreeSet<_>>();
    let recipe_names = recipe_names.into_iter().collect::<Vec<_>>().join(", ");
    let is_there = |file: &&PathBuf| file.symlink_metadata().is_ok();
    let policy = policies.iter().map(|(file, _)| file).find(is_there);
    if let Some(file) = policy.or_else(|| recipes.keys().find(is_there)) {
        let instead = match policy {
            Some(_) => "give another folder, or --only-ci if only a recipe is missing",
            None => "give another folder, and copy from there what is missing in the recipe, or give --ci none",
        };
        let file = file.display();
        return Err(Failure::Unusable(format!("{file} is there already, so nothing is written; {instead}")));
    }
    let fill = |text: &str| {
        text.replace("namespace: default", &format!("namespace: {}", quoted(namespace)))
            .replace("/ns/default/", &format!("/ns/{namespace}/"))
            .replace("app: backend", &format!("{}: {}", quoted(key), quoted(value)))
    };
    let files: Vec<_> = policies.into_iter().chain(recipes).map(|(file, text)| (file, fill(text))).collect();
    for (_, text) in files.iter().filter(|(_, text)| text.contains("kind: AuthorizationPolicy")) {
        refuse_mistakes(text)?;
    }
    for (file, text) in &files {
        write(file, text).map_err(|error| Failure::Unusable(format!("{}: {error}", file.display())))?;
        let _infallible = writeln!(out, "wrote {}", file.display());
    }
    if !recipe_names.is_empty() && folder.components().any(|part| part != Component::CurDir) {
        let _infallible = writeln!(out, "\nCI services read {recipe_names} only at the root of the repository.");
    }
    if recipe_names.contains(".pre-commit-config.yaml") {
        out.push_str("\nOn each machine, run `pre-commit install`.\n");
    }
    if *only_ci {
        return Ok(Answer::Good);
    }
    let policies = in_folder(folder, "policies");
    let _infallible = write!(
        out,
        "
Next, change the policies and the tests to what you need, and run

  mesh-authz check {policies}
  mesh-authz test --require-coverage {policies}
  mesh-authz explain {policies} --namespace {namespace} --label {key}={value} --path /orders
",
        policies = policies.display(),
    );
    Ok(Answer::Good)
}

/// The path of a file in the folder, without `.` in it, as people name it.
fn in_folder(folder: &Path, name: &str) -> PathBuf {
    let path: PathBuf = folder.join(name).components().collect();
    path.strip_prefix(".").map(Path::to_owned).unwrap_or(path)
}

/// Fails if a cluster would refuse the policy, because the label is none.
fn refuse_mistakes(text: &str) -> Result<(), Failure> {
    let mut diagnostics = Diagnostics::new();
    for document in yaml::documents(text).map_err(Failure::unusable)? {
        read::policy(&document, &mut diagnostics);
    }
    match diagnostics.into_found().first() {
        Some(mistake) => Err(Failure::Unusable(format!("the workload cannot be selected: {mistake}"))),
        None => Ok(()),
    }
}

/// A text that YAML reads as this text.
fn quoted(text: &str) -> String {
    let is_plain = text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || matches!(c, '-' | '.' | '/'))
        && !matches!(text, "y" | "n" | "yes" | "no" | "on" | "off" | "true" | "false" | "null");
    if is_plain { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}

/// Writes a file that does not exist.
fn write(file: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    OpenOptions::new().write(true).create_new(true).open(file)?.write_all(text.as_bytes())
}
