//! `request.headers[…]`.

use mesh_authz::request::Request;

use crate::support::{Attribute, Matched, MatchedWhereItDenies, Unmatched, Unreadable, get};

const ROLE: Attribute = Attribute::condition("request.headers[x-role]");

#[test]
fn each_value_of_a_repeated_header_is_compared() {
    for roles in [["user", "admin"], ["admin", "user"]] {
        let request = get("/").header("x-role", roles[0]).header("x-role", roles[1]);
        for value in ["admin", "user", "adm*", "*min", "*"] {
            ROLE.check(&[value], &request, Matched);
        }
        for value in ["user,admin", "admin,user", "user, admin", "guest"] {
            ROLE.check(&[value], &request, Unmatched);
        }
    }
}

#[test]
fn one_line_is_one_value() {
    let request = get("/").header("x-role", "user,admin");
    ROLE.check(&["admin"], &request, Unmatched);
    ROLE.check(&["user"], &request, Unmatched);
    ROLE.check(&["user,admin"], &request, Matched);
    ROLE.check(&["*admin"], &request, Matched);
    ROLE.check(&["user*"], &request, Matched);
}

#[test]
fn the_name_of_a_header_is_case_insensitive() {
    for key in ["request.headers[X-ROLE]", "request.headers[x-Role]", "request.headers[x-role]"] {
        Attribute::condition(key).check(&["admin"], &get("/").header("X-rOlE", "admin"), Matched);
    }
}

#[test]
fn the_name_of_a_header_is_the_whole_name() {
    let request = get("/").header("x-role-x", "admin").header("xx-role", "admin").header("x", "x-role");
    ROLE.check(&["admin"], &request, Unmatched);
    ROLE.check(&["*"], &request, Unmatched);
}

#[test]
fn the_path_of_the_request_as_a_header_includes_the_query() {
    let path = Attribute::condition("request.headers[:path]");
    path.check(&["/a?b#c"], &get("/a?b#c"), Matched);
    path.check(&["/a"], &get("/a?b"), Unmatched);
    path.check(&["*?b"], &get("/a?b"), Matched);
    Attribute::condition("request.headers[:Method]").check(&["GET"], &get("/"), Matched);
}

#[test]
fn host_means_the_authority() {
    let request = Request::new("GET", "/").header(":authority", "Backend:80").header("host", "other");
    for key in ["request.headers[host]", "request.headers[Host]", "request.headers[:authority]"] {
        let host = Attribute::condition(key);
        host.check(&["Backend:80"], &request, Matched);
        host.check(&["backend:80"], &request, Unmatched);
        host.check(&["other"], &request, Unmatched);
    }
}

#[test]
fn an_empty_header_is_present_and_equals_nothing_else() {
    let request = get("/").header("x-role", "");
    ROLE.check(&["*"], &request, Matched);
    for value in ["a", "a*", "*a"] {
        ROLE.check(&[value], &request, Unmatched);
    }
}

#[test]
fn values_are_any_bytes() {
    for bytes in [&b"a\nb"[..], b"\xff\xfe", b"a\x00b", b"\x01", b" a "] {
        let request = get("/").header("x-role", bytes);
        ROLE.check(&["*"], &request, Matched);
        ROLE.check(&["a"], &request, if bytes == b" a " { MatchedWhereItDenies } else { Unmatched });
    }
    ROLE.check(&["é"], &get("/").header("x-role", "é"), Matched);
    ROLE.check(&["é"], &get("/").header("x-role", b"\xe9"), Unmatched);
    ROLE.check(&["a\u{0}b"], &get("/").header("x-role", b"a\x00b"), Matched);
}

#[test]
fn odd_names_of_headers_are_names() {
    let row = |key, name: &str, is| {
        Attribute::condition(key).check(&["v"], &get("/").header(name, "v"), is);
    };
    row("request.headers[a][b]", "a][b", Matched);
    row("request.headers[a][b]", "a", Unmatched);
    row("request.headers[a]b]", "a]b", Matched);
    row("request.headers[[a]]", "[a]", Matched);
    row("request.headers[*]", "x", Unmatched);
    row("request.headers[x y]", "x y", Matched);
}

#[test]
fn headers_that_cannot_be_read_count_against_the_request() {
    ROLE.check(&["admin"], &get("/").header("x-role", "user").unreadable_headers(), Unreadable);
    ROLE.check(&["*"], &get("/").unreadable_headers(), Unreadable);
}
