//! Configurations like those of public examples, with the filter put in without further thought (`-naive`) and with what the check
//! says (`-mended`). `tests/e2e/public.rs` sends requests through them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use mesh_authz_cli::envoy;
use mesh_authz_cli::load::finding::Finding;

const EXAMPLES: [&str; 5] = ["dynamic", "edge-jwt", "ext-authz", "front-proxy", "grpc-transcoder"];

/// A file, a line in it, and a code.
type Mark = (PathBuf, usize, String);

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/envoy/public")
}

/// The codes that the lines of a file end with, in a comment: `# ME006, ME009`.
fn marks(file: &Path) -> Vec<Mark> {
    let text = std::fs::read_to_string(file).unwrap();
    let lines = text.lines().enumerate().filter_map(|(index, line)| Some((index + 1, line.split_once(" # ME")?.1)));
    let marks = lines.flat_map(|(line, codes)| {
        let codes = codes.split(", ME").map(|code| format!("ME{code}"));
        codes.map(move |code| (file.to_owned(), line, code)).collect::<Vec<_>>()
    });
    marks.collect()
}

fn mark(finding: &Finding) -> Mark {
    let line = finding.span.unwrap().start.line as usize;
    (finding.file().to_owned(), line, finding.code.unwrap().to_owned())
}

fn yaml_files(folder: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "yaml")).collect()
}

#[test]
fn what_is_missing_in_a_public_example_is_found_where_it_is_missing() {
    for name in EXAMPLES {
        let bootstrap = folder().join(format!("{name}-naive.yaml"));
        let mut files = vec![bootstrap.clone()];
        if name == "dynamic" {
            files.extend(["dynamic", "dynamic-naive"].iter().flat_map(|part| yaml_files(&folder().join(part))));
        }
        let same_form = |(file, line, code): Mark| (file.canonicalize().unwrap(), line, code);
        let expected: BTreeSet<_> = files.iter().flat_map(|file| marks(file)).map(same_form).collect();
        assert!(!expected.is_empty(), "{name}");
        let checked = envoy::check(&[bootstrap], &[]).unwrap();
        let found: BTreeSet<_> = checked.findings.iter().map(mark).map(same_form).collect();
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn nothing_is_found_in_a_public_example_that_follows_the_advice() {
    for name in EXAMPLES {
        let checked = envoy::check(&[folder().join(format!("{name}-mended.yaml"))], &[]).unwrap();
        let findings: Vec<_> = checked.findings.iter().map(ToString::to_string).collect();
        assert_eq!(findings, Vec::<String>::new(), "{name}");
        assert_eq!(checked.policies, 2, "{name}");
    }
}
