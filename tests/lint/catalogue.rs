//! The catalogue of lints: its examples behave as documented, and docs/lints.md is generated from it.

use mesh_authz_cli::lint::{self, CATALOGUE, Lint, LintContext};

use crate::{found, mesh, one_spelling};

/// The example as a complete resource.
pub fn resource(example: &str) -> String {
    if example.contains("kind:") {
        return example.to_owned();
    }
    format!("apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata:\n  name: p\n{example}")
}

pub fn context(lint: &Lint) -> LintContext {
    match lint.trust_domain {
        Some(domain) => mesh(domain, &[]),
        None if lint.code == "MA019" => LintContext::default(),
        None => one_spelling(),
    }
}

#[test]
fn each_lint_fires_on_its_bad_example_and_no_other_does() {
    for lint in CATALOGUE {
        let found = found(&resource(lint.bad), &context(lint));
        assert!(!found.is_empty() && found.iter().all(|(code, _)| *code == lint.code), "{}: {found:?}", lint.code);
    }
}

#[test]
fn no_lint_fires_on_a_good_example() {
    for lint in CATALOGUE {
        assert_eq!(found(&resource(lint.good), &context(lint)), [], "{}", lint.code);
    }
}

#[test]
fn codes_are_in_order_and_names_are_unique() {
    for (number, lint) in (1..).zip(CATALOGUE) {
        assert_eq!(lint.code, format!("MA{number:03}"));
        assert!(lint::find(&lint.code.to_lowercase()).is_some_and(|found| found.code == lint.code));
        assert_eq!(CATALOGUE.iter().filter(|other| other.name == lint.name).count(), 1);
    }
    assert!(lint::find("MA000").is_none());
}

#[test]
fn the_page_of_lints_is_current() {
    snapbox::assert_data_eq!(lint::page(), snapbox::file!["../../docs/lints.md"].raw());
}
