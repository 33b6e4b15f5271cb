//! Runs the inputs that fuzzing has found once more.

#![allow(clippy::unwrap_used, clippy::allow_attributes, reason = "tests fail by panicking")]

use std::fs;
use std::path::Path;

use mesh_authz_fuzz::{configuration, decisions, properties};

fn replay(target: &str, run: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let mut count = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        run(&fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count > 50, "{} has {count} inputs", folder.display());
}

#[test]
fn configuration() {
    replay("configuration", configuration::run);
}

#[test]
fn properties() {
    replay("properties", properties::run);
}

#[test]
fn decisions() {
    replay("decisions", decisions::run);
}
