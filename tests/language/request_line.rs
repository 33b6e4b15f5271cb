//! `hosts` and `methods`.

use mesh_authz::request::Request;

use crate::support::{Attribute, Matched, MatchedWhereItDenies, Unmatched, Unreadable, check_all, get};

const HOSTS: Attribute = Attribute::field("operation", "hosts", "notHosts");
const METHODS: Attribute = Attribute::field("operation", "methods", "notMethods");

fn host(host: &str) -> Request {
    Request::new("GET", "/").header(":authority", host)
}

fn method(method: &str) -> Request {
    Request::new(method, "/").header(":authority", "backend")
}

#[test]
fn a_host_is_compared_as_sent_port_included_in_any_case() {
    check_all(
        &HOSTS,
        &[
            ("httpbin.com", host("httpbin.com"), Matched),
            ("httpbin.com", host("HTTPBIN.com"), Matched),
            ("HttpBin.Com", host("httpbin.com"), Matched),
            ("httpbin.com", host("httpbin.com:80"), Unmatched),
            ("httpbin.com:80", host("httpbin.com:80"), Matched),
            ("httpbin.com:80", host("httpbin.com"), Unmatched),
            ("httpbin.com:*", host("httpbin.com:80"), Matched),
            ("httpbin.com:*", host("HttpBin.com:8080"), Matched),
            ("httpbin.com*", host("httpbin.com.evil.example"), Matched),
            ("*.com", host("a.COM"), Matched),
            ("*.COM", host("a.com"), Matched),
            ("*.com", host("com"), Unmatched),
            ("*.com", host("a.com."), MatchedWhereItDenies),
            ("httpbin.com", host("httpbin.com."), MatchedWhereItDenies),
            ("[2001:db8::1]", host("[2001:DB8::1]"), Matched),
            ("*", host("anything"), Matched),
            ("*", host(""), Matched),
            ("*", Request::new("GET", "/"), Unmatched),
            ("k", host("\u{212a}"), Unmatched),
        ],
    );
}

#[test]
fn a_header_called_host_is_not_the_host() {
    let request = Request::new("GET", "/").header(":authority", "public").header("host", "secret");
    HOSTS.check(&["secret"], &request, Unmatched);
    HOSTS.check(&["public"], &request, Matched);
}

#[test]
fn a_method_is_compared_case_included() {
    check_all(
        &METHODS,
        &[
            ("GET", method("GET"), Matched),
            ("GET", method("get"), Unmatched),
            ("get", method("GET"), Unmatched),
            ("GET", method("GETX"), Unmatched),
            ("P*", method("PATCH"), Matched),
            ("*T", method("PUT"), Matched),
            ("*", method("ANY"), Matched),
            ("*", method(""), Matched),
            ("GET", method("GET "), Unmatched),
            ("CONNECT", method("CONNECT"), Matched),
            ("*", Request::default().header(":path", "/"), Unmatched),
        ],
    );
}

#[test]
fn what_is_unreadable_counts_against_the_request() {
    HOSTS.check(&["a"], &get("/").unreadable_headers(), Unreadable);
    METHODS.check(&["*"], &get("/").unreadable_headers(), Unreadable);
}
