//! Runs every test file through the engine: the files of the examples, and the files in `tests/cases`. Each file in
//! `tests/cases` covers one attribute. The end-to-end tests send the same requests through a real Envoy.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "tests fail by panicking"
)]

use std::path::{Path, PathBuf};

use mesh_authz_cli::load::policy_set::Engines;
use mesh_authz_cli::received::{answers, where_answered};
use mesh_authz_cli::testfile::TestFile;

/// Runs one test file. Returns its failures and its number of tests.
fn run(path: &Path) -> (Vec<String>, usize) {
    let file = match TestFile::read(path) {
        Ok(file) => file,
        Err(error) => return (vec![format!("{}: {error}", path.display())], 0),
    };
    let engines = Engines::of(&file.set);
    let failed = file.tests.iter().filter_map(|test| {
        let answers = answers(&test.request, &file.set, engines.engine(test.request.traffic()));
        let wrong = answers.iter().find(|answered| !test.expect.is_met_by(answered))?;
        let place = where_answered(wrong, &answers);
        Some(format!("{}: {}: expected {}, got {wrong} {place}", path.display(), test.name, test.expect))
    });
    (failed.collect(), file.tests.len())
}

fn run_all(files: &[PathBuf]) {
    assert!(!files.is_empty(), "no test files found");
    let (failed, counts): (Vec<_>, Vec<_>) = files.iter().map(|file| run(file)).unzip();
    let failed = failed.concat();
    println!("{} tests in {} files", counts.iter().sum::<usize>(), files.len());
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
}

/// The files in a folder whose names satisfy `is_wanted`, sorted by path.
fn files(folder: &Path, is_wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let is_test_file =
        |path: &PathBuf| path.is_file() && path.file_name().and_then(|n| n.to_str()).is_some_and(&is_wanted);
    let mut files: Vec<_> = entries.filter(is_test_file).collect();
    files.sort();
    files
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

#[test]
fn the_test_files_of_every_attribute() {
    run_all(&files(&root().join("tests/cases"), |name| Path::new(name).extension().is_some_and(|e| e == "yaml")));
}

#[test]
fn every_attribute_that_a_policy_of_the_cases_looks_at_is_given() {
    for path in files(&root().join("tests/cases"), |name| Path::new(name).extension().is_some_and(|e| e == "yaml")) {
        let file = TestFile::read(&path).unwrap();
        let engines = Engines::of(&file.set);
        for test in &file.tests {
            for answered in answers(&test.request, &file.set, engines.engine(test.request.traffic())) {
                let unreadable = answered.decision.and_then(|decision| decision.unreadable);
                assert_eq!(unreadable, None, "{}: {}", path.display(), test.name);
            }
        }
    }
}

#[test]
fn the_test_files_of_the_examples() {
    let folders = std::fs::read_dir(root().join("examples")).unwrap().map(|entry| entry.unwrap().path());
    let is_test_file =
        |name: &str| name.starts_with("tests") && Path::new(name).extension().is_some_and(|e| e == "yaml");
    let mut all: Vec<_> =
        folders.filter(|path| path.is_dir()).flat_map(|folder| files(&folder, is_test_file)).collect();
    all.sort();
    run_all(&all);
}
