//! `ports`, `destination.port` and `connection.sni`.

use mesh_authz::request::Lookup;

use crate::support::{Attribute, Matched, Unmatched, Unreadable, get};

const PORTS: Attribute = Attribute::field("operation", "ports", "notPorts").or_condition("destination.port");
const SNI: Attribute = Attribute::condition("connection.sni");

#[test]
fn a_port_is_a_number_and_not_a_text() {
    let rows = [
        ("80", 80, true),
        ("80", 8080, false),
        ("080", 80, true),
        ("00080", 80, true),
        ("0", 0, true),
        ("0", 65535, false),
        ("65535", 65535, true),
        ("65535", 65534, false),
        ("1", 10, false),
    ];
    for (value, port, matched) in rows {
        let request = get("/").destination_port(Lookup::Value(port));
        PORTS.check(&[value], &request, if matched { Matched } else { Unmatched });
    }
}

#[test]
fn one_of_several_ports_is_enough() {
    for (port, is) in [(80, Matched), (443, Matched), (81, Unmatched)] {
        PORTS.check(&["80", "443"], &get("/").destination_port(Lookup::Value(port)), is);
    }
}

#[test]
fn the_port_in_the_host_is_not_the_port_of_the_connection() {
    let request = get("/").header(":authority", "backend:9090").destination_port(Lookup::Value(8080));
    PORTS.check(&["9090"], &request, Unmatched);
    PORTS.check(&["8080"], &request, Matched);
}

#[test]
fn a_port_that_is_absent_or_unreadable() {
    PORTS.check(&["80"], &get("/").destination_port(Lookup::Absent), Unmatched);
    PORTS.check(&["80"], &get("/").destination_port(Lookup::Unreadable), Unreadable);
}

#[test]
fn the_server_name_is_the_one_of_the_handshake() {
    let rows = [
        ("outbound_.80_._.backend.default.svc.cluster.local", Matched),
        ("outbound_.80_*", Matched),
        ("*.backend.default.svc.cluster.local", Matched),
        ("*", Matched),
        ("backend", Unmatched),
    ];
    for (value, is) in rows {
        SNI.check(&[value], &get("/").sni(Lookup::Value(b"outbound_.80_._.backend.default.svc.cluster.local")), is);
    }
}

#[test]
fn an_empty_server_name_is_none() {
    for value in ["*", "a", "a*", "*a"] {
        SNI.check(&[value], &get("/").sni(Lookup::Value(b"")), Unmatched);
        SNI.check(&[value], &get("/").sni(Lookup::Absent), Unmatched);
    }
}

#[test]
fn a_server_name_that_cannot_be_read_counts_against_the_request() {
    SNI.check(&["*"], &get("/").sni(Lookup::Unreadable), Unreadable);
    SNI.check(&["backend"], &get("/").sni(Lookup::Unreadable), Unreadable);
}
