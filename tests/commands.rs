//! What the command prints: every subcommand on every example, its errors, and every output that the documentation shows.
//!
//! `TRYCMD=overwrite cargo test --test commands` writes down what is printed now; read the difference before you keep it.

#![allow(clippy::unwrap_used, missing_docs, clippy::allow_attributes, reason = "tests fail by panicking")]

#[test]
fn the_command_prints_what_it_printed_before() {
    // Several threads print at once otherwise, and a terminal's width would decide where help is wrapped.
    let cases = trycmd::TestCases::new();
    cases
        .env("COLUMNS", "100")
        .case("tests/commands/*.trycmd")
        .case("tests/commands/*.toml")
        .case("docs/commands/*.md");
}
