//! `paths` without templates: the path up to its query or fragment, as bytes.

use mesh_authz::request::Request;

use crate::support::{
    Attribute, Matched, Unmatched, Unreadable, allowed_by_default, check_all, decide, denied_by, get, policy,
};

const PATHS: Attribute = Attribute::field("operation", "paths", "notPaths");

#[test]
fn the_query_and_the_fragment_are_not_part_of_the_path() {
    check_all(
        &PATHS,
        &[
            ("/admin", get("/admin"), Matched),
            ("/admin", get("/admin?x=1"), Matched),
            ("/admin", get("/admin?"), Matched),
            ("/admin", get("/admin#x"), Matched),
            ("/admin", get("/admin#"), Matched),
            ("/admin", get("/admin#a?b"), Matched),
            ("/admin", get("/admin?a#b"), Matched),
            ("/admin", get("/public?/admin"), Unmatched),
            ("*/admin", get("/public?/admin"), Unmatched),
            ("*/admin", get("/public#/admin"), Unmatched),
            ("/admin?x", get("/admin?x"), Unmatched),
            ("/admin", get("?/admin"), Unmatched),
            ("*", get("?q"), Unmatched),
            ("*", get("#f"), Unmatched),
        ],
    );
}

#[test]
fn a_path_is_bytes_and_never_taken_apart() {
    check_all(
        &PATHS,
        &[
            ("/admin", get("/admin/"), Unmatched),
            ("/admin", get("//admin"), Unmatched),
            ("/admin", get("/%61dmin"), Unmatched),
            ("/admin", get("/ADMIN"), Unmatched),
            ("/admin", get("/x/../admin"), Unmatched),
            ("/admin", get("/admin;v=1"), Unmatched),
            ("/admin", get("/admin%3Fx"), Unmatched),
            ("/admin", get("/admin\u{0}"), Unmatched),
            ("/admin*", get("/administrator"), Matched),
            ("/admin/*", get("/admin"), Unmatched),
            ("/admin/*", get("/admin/"), Matched),
            ("/admin/*", get("/admin/a/b"), Matched),
            ("*/info", get("/a/b/info"), Matched),
            ("*/info", get("/info"), Matched),
            ("*/info", get("/a/info/"), Unmatched),
            ("*.js", get("/a.js?v=2"), Matched),
            ("/a*b", get("/a*b"), Matched),
            ("/a*b", get("/aXb"), Unmatched),
            ("/a/*/b", get("/a/x/b"), Unmatched),
            ("admin", get("/admin"), Unmatched),
            ("http://backend/admin", get("http://backend/admin"), Matched),
            ("/admin", get("http://backend/admin"), Unmatched),
            ("*", get("*"), Matched),
            ("/é", get("/é"), Matched),
        ],
    );
}

#[test]
fn a_request_without_a_path_has_no_path() {
    let connect = Request::default().header(":method", "CONNECT").header(":authority", "backend:443");
    for value in ["*", "/admin", "/admin*", "*admin", "/{**}", "/{*}"] {
        PATHS.check(&[value], &connect, Unmatched);
    }
}

#[test]
fn a_path_that_cannot_be_read_counts_against_the_request() {
    for value in ["*", "/admin", "/{**}"] {
        PATHS.check(&[value], &get("/").unreadable_headers(), Unreadable);
    }
}

#[test]
fn a_path_and_a_template_stand_in_one_list() {
    let rules = r#"[{ to: [{ operation: { paths: ["/a", "/b/{*}", "*.png"] } }] }]"#;
    for path in ["/a", "/b/x", "/c/d.png"] {
        assert_eq!(decide(&policy("deny", "DENY", rules), &get(path)), denied_by("default/deny", 0));
    }
    assert_eq!(decide(&policy("deny", "DENY", rules), &get("/b/x/y")), allowed_by_default());
}
