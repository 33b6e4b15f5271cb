//! Access logs of Envoy: format strings, and lines that are split by them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "tests fail by panicking"
)]

use mesh_authz::request::Address;
use mesh_authz_cli::access_log::format::{ENVOY_TEXT, ISTIO_TEXT, Lines, Operator, Piece, Tells, pieces};
use mesh_authz_cli::access_log::line::{Column, Splitter};

fn literal(text: &str) -> Piece {
    Piece::Literal(text.to_owned())
}

fn operator(tells: Tells) -> Piece {
    Piece::Operator(Operator { tells, length: None })
}

fn header(name: &str, lines: Lines) -> Tells {
    Tells::Header { name: name.to_owned(), instead: None, lines }
}

#[test]
fn format_strings_are_read_as_envoy_reads_them() {
    let path = |without_query, original| Tells::Path { without_query, original };
    let address = |which, has_port| Tells::Address { which, has_port };
    let metadata = |filter: &str, keys: &[&str]| Tells::Metadata {
        filter: filter.to_owned(),
        keys: keys.iter().map(|key| (*key).to_owned()).collect(),
    };
    for (format, expected) in [
        ("", vec![]),
        ("a", vec![literal("a")]),
        ("100%%", vec![literal("100%")]),
        ("%REQ(:METHOD)%%%X", vec![operator(header(":method", Lines::First)), literal("%X")]),
        ("%REQ(:PATH)%", vec![operator(path(false, false))]),
        ("%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%", vec![operator(path(false, true))]),
        ("%PATH%", vec![operator(path(false, true))]),
        ("%PATH(NQ:PATH)%", vec![operator(path(true, false))]),
        ("%REQ_WITHOUT_QUERY(:PATH)%", vec![operator(path(true, false))]),
        ("%REQ(Host)%", vec![operator(header(":authority", Lines::First))]),
        ("%CEL(request.headers['X-Tenant'])%", vec![operator(header("x-tenant", Lines::Joined))]),
        ("%CEL(request.headers[\"x\"])%", vec![operator(header("x", Lines::Joined))]),
        ("%CEL(f('x') && (1 == 1))%", vec![operator(Tells::Nothing)]),
        ("%START_TIME(%Y/%m)%!", vec![operator(Tells::Nothing), literal("!")]),
        ("%DOWNSTREAM_LOCAL_PORT%", vec![operator(Tells::DestinationPort)]),
        ("%DOWNSTREAM_REMOTE_ADDRESS%", vec![operator(address(Address::Remote, true))]),
        ("%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%", vec![operator(address(Address::Source, false))]),
        (
            "%DYNAMIC_METADATA(envoy.filters.http.jwt_authn:payload:iss)%",
            vec![operator(metadata("envoy.filters.http.jwt_authn", &["payload", "iss"]))],
        ),
        ("%METADATA(DYNAMIC:a:b)%", vec![operator(metadata("a", &["b"]))]),
        ("%METADATA(ROUTE:a:b)%", vec![operator(Tells::Nothing)]),
        ("%RESPONSE_CODE_DETAILS%", vec![operator(Tells::CodeDetails)]),
        ("%RESPONSE_CODE_DETAILS(ALLOW_WHITESPACES)%", vec![operator(Tells::Nothing)]),
        ("%NEWER_THAN_THIS(a)%", vec![operator(Tells::Nothing)]),
        (
            "%REQ(X?Y):5%",
            vec![Piece::Operator(Operator {
                tells: Tells::Header { name: "x".to_owned(), instead: Some("y".to_owned()), lines: Lines::First },
                length: Some(5),
            })],
        ),
    ] {
        assert_eq!(pieces(format).as_ref(), Ok(&expected), "{format}");
    }
    for (format, at) in [("100%", 3), ("a %req(x)% b", 2), ("% %", 0), ("%REQ(x)", 0), ("%REQ(X):five%", 0)] {
        let error = pieces(format).unwrap_err();
        assert_eq!(error.at, at, "{format}: {error}");
        assert!(error.to_string().contains("is no operator"), "{error}");
    }
}

/// The values of a line by what they tell. `None`: ambiguous.
fn split<'l>(format: &str, line: &'l str) -> Option<Vec<(Tells, Option<&'l str>)>> {
    let splitter = Splitter::new(&pieces(format).unwrap(), false);
    let columns = splitter.split(line.as_bytes())?;
    let value = |column: Column| match column {
        Column::At(range) => Some(&line[range]),
        Column::Ambiguous => None,
    };
    Some(splitter.columns().iter().map(|operator| operator.tells.clone()).zip(columns.into_iter().map(value)).collect())
}

const ISTIO_LINE: &str = "[2026-11-28T17:35:10.779Z] \"GET /api/v1?q=1 HTTP/1.1\" 403 - \
    rbac_access_denied_matched_policy[none] - \"-\" 0 19 1 - \"10.1.2.3\" \"USER-AGENT\" \
    \"0b1c\" \"backend:8080\" \"-\" inbound|8080|| - 10.4.5.6:8080 10.1.2.3:40000 \
    outbound_.80_._.backend.default.svc.cluster.local default";

#[test]
fn a_line_of_istio_is_split() {
    let line = ISTIO_LINE.replace("USER-AGENT", "curl/8.5.0");
    let columns = split(ISTIO_TEXT, &line).unwrap();
    let of = |wanted: &Tells| columns.iter().find(|(tells, _)| tells == wanted).unwrap().1;
    assert_eq!(of(&header(":method", Lines::First)), Some("GET"));
    assert_eq!(of(&Tells::Path { without_query: false, original: true }), Some("/api/v1?q=1"));
    assert_eq!(of(&Tells::CodeDetails), Some("rbac_access_denied_matched_policy[none]"));
    assert_eq!(of(&header(":authority", Lines::First)), Some("backend:8080"));
    assert_eq!(of(&Tells::Address { which: Address::Destination, has_port: true }), Some("10.4.5.6:8080"));
    assert_eq!(of(&Tells::Cluster), Some("inbound|8080||"));
    assert!(split(ENVOY_TEXT, &line).is_none());
    assert!(split(ISTIO_TEXT, &line[..line.len() - 9]).is_none());
}

/// Quotes in a user agent make its own borders ambiguous, and nothing before it.
#[test]
fn what_a_client_can_forge_is_ambiguous_and_the_rest_is_not() {
    let line = ISTIO_LINE.replace("USER-AGENT", "evil\" \"fake-id\" \"fake.host");
    let columns = split(ISTIO_TEXT, &line).unwrap();
    let of = |wanted: &Tells| columns.iter().find(|(tells, _)| tells == wanted).unwrap().1;
    assert_eq!(of(&Tells::Path { without_query: false, original: true }), Some("/api/v1?q=1"));
    assert_eq!(of(&Tells::CodeDetails), Some("rbac_access_denied_matched_policy[none]"));
    assert_eq!(of(&header("user-agent", Lines::First)), None);
    assert_eq!(of(&Tells::Cluster), Some("inbound|8080||"));
}

/// Whatever is in a line: what is said to stand in it does.
#[test]
fn a_value_that_is_not_ambiguous_is_the_one_that_was_logged() {
    const PARTS: [&str; 12] = ["a", " ", "\"", "\" \"", "HTTP/1.1", "-", "200", "/x", ",", "[", "] ", "UF"];
    let random = &mut fastrand::Rng::with_seed(1);
    let formats = [
        ISTIO_TEXT,
        ENVOY_TEXT,
        "%REQ(:METHOD)% %REQ(:PATH)% %PROTOCOL%",
        "\"%REQ(A)%\" \"%REQ(B)%\" %RESPONSE_CODE% %RESPONSE_FLAGS%",
        "%REQ(A)%%REQ(B)% %RESPONSE_CODE%",
        "[%REQ(A)%] %RESPONSE_CODE% [%REQ(B)%]",
    ];
    let [mut known, mut ambiguous] = [0, 0];
    for _ in 0..20_000 {
        let pieces = pieces(formats[random.usize(..formats.len())]).unwrap();
        let splitter = Splitter::new(&pieces, false);
        let (mut line, mut values) = (String::new(), Vec::new());
        for piece in &pieces {
            let operator = match piece {
                Piece::Literal(text) => {
                    line.push_str(text);
                    continue;
                }
                Piece::Operator(operator) => operator,
            };
            let value = loop {
                let parts = random.usize(1..4);
                let value: String = (0..parts).map(|_| PARTS[random.usize(..PARTS.len())]).collect();
                if operator.tells.can_be(value.as_bytes()) {
                    break value;
                }
            };
            values.push(line.len()..line.len() + value.len());
            line.push_str(&value);
        }
        let line = line.trim_end_matches('\n');
        let columns = splitter.split(line.as_bytes()).unwrap_or_else(|| panic!("{line}"));
        if columns.len() != values.len() {
            // Values without anything between them are one.
            continue;
        }
        for (column, value) in columns.into_iter().zip(values) {
            match column {
                Column::At(range) => {
                    assert_eq!(range, value, "{line}");
                    known += 1;
                }
                Column::Ambiguous => ambiguous += 1,
            }
        }
    }
    assert!(known > 10_000 && ambiguous > 10_000, "{known} {ambiguous}");
}

/// The work for a line is bounded by its bytes: hundred thousands of blanks, quotes and commas. Then
/// everything that can be among them is ambiguous.
#[test]
fn a_hostile_line_is_split_all_the_same() {
    let blanks = "\" \"".repeat(100_000);
    let line = ISTIO_LINE.replace("USER-AGENT", &blanks);
    let columns = split(ISTIO_TEXT, &line).unwrap();
    assert!(columns.iter().any(|(tells, value)| *tells == Tells::Cluster && value.is_none()));
    let format =
        "%REQ(:METHOD)%,%REQ(USER-AGENT)%,%RESPONSE_CODE_DETAILS%,%UPSTREAM_HOST%,%UPSTREAM_CLUSTER_RAW%,%REQ(X-A)%";
    let agent = format!("{}\"", ",".repeat(1_000)).repeat(60);
    let line = format!("GET,{agent},via_upstream,10.0.0.1:80,inbound|80||,x");
    let columns = split(format, &line).unwrap();
    assert!(columns.len() == 6 && columns.iter().all(|(_, value)| value.is_none()));
}

/// A client can send a method of any length. The true way to split a line is always among those that are looked at.
#[test]
fn a_long_value_without_blanks_is_one_of_the_ways() {
    let format =
        "\"%REQ(USER-AGENT)%\" %REQ(:METHOD)% %RESPONSE_CODE_DETAILS% %UPSTREAM_CLUSTER_RAW% \"%REQ(REFERER)%\"";
    let forged = "x\" GET via_upstream inbound|8080|| \"y";
    for length in [1, 1_000, 1_025, 50_000] {
        let method = "A".repeat(length);
        let denied = "rbac_access_denied_matched_policy[none]";
        let line = format!("\"{forged}\" {method} {denied} inbound|8080|| \"-\"");
        let columns = split(format, &line).unwrap();
        let of = |wanted: &Tells| columns.iter().find(|(tells, _)| tells == wanted).unwrap().1;
        for tells in [header(":method", Lines::First), Tells::CodeDetails] {
            assert_eq!(of(&tells), None, "{length}");
        }
        let plain = format!("\"x\" {method} {denied} inbound|8080|| \"-\"");
        let columns = split(format, &plain).unwrap();
        assert_eq!(columns[1].1, Some(&*method));
    }
    assert!(split(format, "\"x\" 1GET via_upstream inbound|8080|| \"-\"").is_some());
}
