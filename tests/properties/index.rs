//! The index gives the same decision as a scan of all rules: verdict, rule, audit, dry run, and unreadable attribute.

use std::cell::Cell;
use std::net::IpAddr;

use mesh_authz::document::from_json;
use mesh_authz::engine::{Combining, Decision, Engine, Verdict};
use mesh_authz::request::owned::encode_value;
use mesh_authz::request::{Address, Attributes, ConnectionText, HeaderValues, Lookup, Metadata, PeerName, Request};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::cases;
use crate::policies::{BOTH, named, only_excluding, options, read, spec};
use crate::requests::{Facts, partly_readable};

/// Two engines for these policies: one with an index, one without.
fn engines(combining: Combining, policies: &[Value]) -> (Engine, Engine) {
    let policies: Vec<_> = policies.iter().map(read).collect();
    let options = options(combining);
    (Engine::new(&policies, &options), Engine::without_index(&policies, &options))
}

/// Policies with the actions ALLOW, DENY and AUDIT, including dry runs. There are enough of them for several rules to
/// have the same values.
fn many() -> impl Strategy<Value = Vec<Value>> {
    const ACTIONS: [&str; 6] = ["ALLOW", "ALLOW", "ALLOW", "DENY", "DENY", "AUDIT"];
    let one = (select(&ACTIONS[..]), proptest::bool::weighted(0.1)).prop_flat_map(|(action, dry_run)| {
        let dry_run = dry_run && matches!(action, "ALLOW" | "DENY");
        (spec(action), Just(dry_run))
    });
    vec(one, 1..120).prop_map(|all| {
        let policy = |(number, (spec, dry_run)): (usize, (Value, bool))| {
            let mut policy = named(&format!("p{number}"), spec);
            if dry_run {
                policy["metadata"]["annotations"] = json!({ "istio.io/dry-run": "true" });
            }
            policy
        };
        all.into_iter().enumerate().map(policy).collect()
    })
}

/// Counts the decisions of one kind.
type Kind<'c> = (&'c Cell<u32>, fn(&Decision<'_>) -> bool);

/// Compares the decisions about these requests, and counts those of each kind.
fn assert_alike(
    combining: Combining,
    policies: &[Value],
    requests: &[Facts],
    kinds: [Kind<'_>; 3],
) -> Result<(), TestCaseError> {
    let (index, scan) = engines(combining, policies);
    for facts in requests {
        let request = facts.request();
        let decision = index.decide(&request);
        prop_assert_eq!(&decision, &scan.decide(&request), "{:?}", facts);
        for (seen, is) in kinds {
            seen.set(seen.get() + u32::from(is(&decision)));
        }
    }
    Ok(())
}

#[test]
fn the_index_decides_as_a_scan_does() {
    let strategy = (many(), vec(partly_readable(), 30), select(&BOTH[..]));
    let [allowed, by_rule, unreadable] = [0, 0, 0].map(Cell::new);
    TestRunner::new(cases(150))
        .run(&strategy, |(policies, requests, combining)| {
            assert_alike(
                combining,
                &policies,
                &requests,
                [
                    (&allowed, |decision| decision.outcome.verdict() == Verdict::Allow),
                    (&by_rule, |decision| decision.outcome.rule().is_some()),
                    (&unreadable, |decision| decision.unreadable.is_some()),
                ],
            )
        })
        .unwrap();
    for seen in [allowed, by_rule, unreadable] {
        assert!((100..4_450).contains(&seen.get()), "every kind of decision occurs: {}", seen.get());
    }
}

#[test]
fn a_rule_is_left_out_for_what_it_excludes_only_if_it_does_not_match() {
    let keeps = select(&["methods", "methods", "ports", "values", ""][..]);
    let one = (select(&["ALLOW", "DENY", "DENY", "AUDIT"][..]).prop_flat_map(spec), keeps)
        .prop_map(|(spec, keeps)| only_excluding(spec, keeps));
    let policies = vec(one, 30..120).prop_map(|specs| {
        specs.into_iter().enumerate().map(|(number, spec)| named(&format!("p{number}"), spec)).collect::<Vec<_>>()
    });
    let [by_rule, unreadable, audited] = [0, 0, 0].map(Cell::new);
    TestRunner::new(cases(200))
        .run(&(policies, vec(partly_readable(), 30), select(&BOTH[..])), |(policies, requests, combining)| {
            assert_alike(
                combining,
                &policies,
                &requests,
                [
                    (&by_rule, |decision| decision.outcome.rule().is_some()),
                    (&unreadable, |decision| decision.unreadable.is_some()),
                    (&audited, |decision| decision.audited.is_some()),
                ],
            )
        })
        .unwrap();
    for seen in [by_rule, unreadable, audited] {
        assert!((100..5_990).contains(&seen.get()), "every kind of decision occurs: {}", seen.get());
    }
}

/// What a rule says about methods, in all forms: in operations, in conditions, and in both.
#[test]
fn a_rule_is_left_out_for_its_methods_only_if_it_does_not_match() {
    let methods = || vec(select(&["GET", "POST", "get", "*", "P*", "*T", "PROPFIND", "MKCOL"][..]), 1..3);
    let operation = (methods(), any::<bool>(), any::<bool>()).prop_map(|(methods, not, path)| {
        let mut operation = json!({ if not { "notMethods" } else { "methods" }: methods });
        if path {
            operation["paths"] = json!(["/a*"]);
        }
        json!({ "operation": operation })
    });
    let condition = (methods(), any::<bool>()).prop_map(|(methods, not)| {
        json!({ "key": "request.headers[:method]", if not { "notValues" } else { "values" }: methods })
    });
    let rule =
        (vec(operation, 0..3), vec(condition, 0..2)).prop_map(|(to, when)| match (to.is_empty(), when.is_empty()) {
            (true, true) => json!({}),
            (true, false) => json!({ "when": when }),
            (false, true) => json!({ "to": to }),
            (false, false) => json!({ "to": to, "when": when }),
        });
    let policies = (select(&["ALLOW", "DENY"][..]), vec(rule, 1..60)).prop_map(|(action, rules)| {
        let policy = |(number, rule)| named(&format!("p{number}"), json!({ "action": action, "rules": [rule] }));
        rules.into_iter().enumerate().map(policy).collect::<Vec<_>>()
    });
    let request =
        (vec(select(&["GET", "POST", "get", " GET", "GET ", "MKCOL", ""][..]), 0..3), select(&["/a", "/b"][..]));
    TestRunner::new(cases(600))
        .run(&(policies, vec(request, 30)), |(policies, requests)| {
            let (index, scan) = engines(BOTH[0], &policies);
            for (methods, path) in requests {
                let request =
                    methods.iter().fold(Request::default(), |request, method| request.header(":method", method));
                let request = request.header(":path", path);
                prop_assert_eq!(index.decide(&request), scan.decide(&request), "{:?} {:?}", methods, path);
            }
            let dark = Request::default().unreadable_headers();
            prop_assert_eq!(index.decide(&dark), scan.decide(&dark));
            Ok(())
        })
        .unwrap();
}

/// Texts of a few letters, so that they are often prefixes or suffixes of each other.
fn short(letters: &'static [&'static str], most: usize) -> impl Strategy<Value = String> {
    vec(select(letters), 0..=most).prop_map(|letters| letters.concat())
}

/// A value of `paths`: exact, a prefix, a suffix or a template.
fn path_value() -> impl Strategy<Value = String> {
    let template =
        (vec(select(&["a", "b", "{*}", "{*}"][..]), 0..5), select(&["", "/", "/{**}", "/{**}/b", "/{**}/"][..]));
    prop_oneof![
        short(&["/", "a", "b"], 4).prop_map(|text| format!("/{text}")),
        short(&["/", "a", "b"], 4).prop_map(|text| format!("/{text}*")),
        short(&["/", "a", "b"], 3).prop_map(|text| format!("*{text}")),
        template.prop_map(|(segments, tail)| {
            let segments = if segments.is_empty() { String::new() } else { format!("/{}", segments.join("/")) };
            let path = format!("{segments}{tail}");
            if path.contains('{') { path } else { format!("/{{*}}{path}") }
        }),
    ]
}

/// A path of a request. It may contain odd bytes.
fn path() -> impl Strategy<Value = Vec<u8>> {
    const PIECES: [&[u8]; 8] = [b"/", b"/", b"/a", b"/b", b"a", b"b", b"\xff", b"["];
    vec(select(&PIECES[..]).prop_map(<[u8]>::to_vec), 0..8).prop_map(|pieces| [b"/".to_vec(), pieces.concat()].concat())
}

/// Policies with one rule each. The operation of each rule has paths and sometimes a method.
fn path_policies(action: &'static str) -> impl Strategy<Value = Vec<Value>> {
    let rule = (vec(path_value(), 1..3), proptest::bool::weighted(0.2), proptest::bool::weighted(0.1));
    vec(rule, 1..80).prop_map(move |rules| {
        let policy = |(number, (paths, method, not)): (usize, (Vec<String>, bool, bool))| {
            let mut operation = json!({ if not { "notPaths" } else { "paths" }: paths });
            if method {
                operation["methods"] = json!(["POST"]);
            }
            let spec = json!({ "action": action, "rules": [{ "to": [{ "operation": operation }] }] });
            named(&format!("p{number}"), spec)
        };
        rules.into_iter().enumerate().map(policy).collect()
    })
}

#[test]
fn paths_are_found_whatever_form_they_are_filed_in() {
    let strategy = (select(&["ALLOW", "DENY"][..]).prop_flat_map(path_policies), vec(path(), 40));
    TestRunner::new(cases(400))
        .run(&strategy, |(policies, paths)| {
            let (index, scan) = engines(BOTH[0], &policies);
            for path in paths {
                for method in ["GET", "POST"] {
                    let request = Request::default().header(":method", method).header(":path", &path);
                    prop_assert_eq!(index.decide(&request), scan.decide(&request), "{:?}", path);
                }
            }
            Ok(())
        })
        .unwrap();
}

/// Names of peers that have parts in common.
fn name() -> impl Strategy<Value = String> {
    let domain = select(&["td", "alias", "t", "other", "td/ns/a"][..]);
    let namespace = select(&["a", "b", "ab", "", "a/ns/b"][..]);
    let account = select(&["x", "y", "xy", "x/sa/y", "sa/x", ""][..]);
    let scheme = select(&["spiffe://", "spiffe://", "https://", "CN="][..]);
    (scheme, domain, namespace, account)
        .prop_map(|(scheme, domain, namespace, account)| format!("{scheme}{domain}/ns/{namespace}/sa/{account}"))
}

fn source() -> impl Strategy<Value = Value> {
    let of = |field: &'static str, values: &'static [&'static str]| {
        proptest::sample::subsequence(values, 1..3).prop_map(move |values| json!({ field: values }))
    };
    prop_oneof![
        of("principals", &["td/ns/a/sa/x", "cluster.local/ns/a/sa/y", "td/*", "*/sa/x", "*", "td/ns/ab*", "*x"]),
        of("namespaces", &["a", "b", "a*", "*b", "*", "a/ns/b", "ab"]),
        of("serviceAccounts", &["a/x", "b/x", "x", "ab/xy", "y", "ab/y"]),
        of("trustDomains", &["td", "t*", "*", "alias", "*d", "o*"]),
    ]
}

#[test]
fn peers_are_found_by_any_of_their_names() {
    let rule = vec(source(), 1..3).prop_map(|sources| {
        let from: Vec<_> = sources.into_iter().map(|source| json!({ "source": source })).collect();
        json!({ "from": from })
    });
    let policies = (select(&["ALLOW", "DENY"][..]), vec(rule, 1..80)).prop_map(|(action, rules)| {
        let policy = |(number, rule)| named(&format!("p{number}"), json!({ "action": action, "rules": [rule] }));
        rules.into_iter().enumerate().map(policy).collect::<Vec<_>>()
    });
    let peer = vec(proptest::option::of(name()), 3);
    TestRunner::new(cases(300))
        .run(&(policies, vec(peer, 40)), |(policies, peers)| {
            let (index, scan) = engines(BOTH[0], &policies);
            for names in peers {
                let which = [PeerName::Uri, PeerName::Dns, PeerName::Subject];
                let request = which.into_iter().zip(&names).fold(Request::default(), |request, (which, name)| {
                    request
                        .peer_name(which, name.as_ref().map_or(Lookup::Absent, |name| Lookup::Value(name.as_bytes())))
                });
                prop_assert_eq!(index.decide(&request), scan.decide(&request), "{:?}", names);
            }
            Ok(())
        })
        .unwrap();
}

/// A rule with one of a few paths and a condition. For many requests of [`dark`], the condition's attribute is
/// unreadable.
fn half_known() -> impl Strategy<Value = Value> {
    let condition = select(
        &[
            ("source.ip", "10.0.0.1"),
            ("remote.ip", "10.0.0.1"),
            ("destination.ip", "10.0.0.1"),
            ("destination.port", "80"),
            ("connection.sni", "v"),
            ("source.principal", "td/ns/a/sa/x"),
            ("request.auth.claims[role]", "v"),
        ][..],
    );
    let path = select(&["/a", "/b", "/*", "/{*}", "*b"][..]);
    (path, condition, any::<bool>()).prop_map(|(path, (key, value), not)| {
        let values = if not { "notValues" } else { "values" };
        json!({ "to": [{ "operation": { "paths": [path] } }], "when": [{ "key": key, values: [value] }] })
    })
}

/// A request with a path. Most of its other attributes are unreadable.
fn dark() -> impl Strategy<Value = Request> {
    (select(&["/a", "/b", "/ab"][..]), vec(0..3_u8, 7)).prop_map(|(path, known)| {
        let bytes = |known, text: &'static str| match known {
            0 => Lookup::Value(text.as_bytes()),
            _ => Lookup::Unreadable,
        };
        let address = |known| match known {
            0 => Lookup::Value([10, 0, 0, 1].into()),
            _ => Lookup::Unreadable,
        };
        let request = Request::new("GET", path)
            .source_ip(address(known[0]))
            .remote_ip(address(known[1]))
            .destination_ip(address(known[2]))
            .sni(bytes(known[4], "v"))
            .peer_name(PeerName::Uri, bytes(known[5], "spiffe://td/ns/a/sa/x"));
        let request = if known[3] == 0 { request.destination_port(Lookup::Value(80)) } else { request };
        if known[6] == 0 { request } else { request.encoded_metadata(Lookup::Unreadable) }
    })
}

#[test]
fn the_first_rule_that_is_left_open_is_named_in_whatever_order_rules_are_found() {
    let policies = (select(&["ALLOW", "DENY"][..]), vec(half_known(), 1..60)).prop_map(|(action, rules)| {
        let policy = |(number, rule)| named(&format!("p{number}"), json!({ "action": action, "rules": [rule] }));
        rules.into_iter().enumerate().map(policy).collect::<Vec<_>>()
    });
    let open = Cell::new(0);
    TestRunner::new(cases(200))
        .run(&(policies, vec(dark(), 20)), |(policies, requests)| {
            let (index, scan) = engines(BOTH[0], &policies);
            for request in requests {
                let decision = index.decide(&request);
                prop_assert_eq!(&decision, &scan.decide(&request), "{:?}", request);
                open.set(open.get() + u32::from(decision.unreadable.is_some()));
            }
            Ok(())
        })
        .unwrap();
    assert!(open.get() > 1_000, "{}", open.get());
}

/// A field of a protobuf message, shorter than 128 bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).ok().filter(|length| *length < 128).unwrap();
    [&[(number << 3) | 2, length], bytes].concat()
}

#[test]
fn a_broken_message_is_as_unreadable_to_the_index() {
    let group = |number: usize| {
        let value = ["b", "c", "x", "b*", "*c", "*x"][number % 6];
        json!({ "when": [{ "key": "request.auth.claims[groups]", "values": [value] }] })
    };
    let principal = |number: usize| {
        let value = ["i/s".to_owned(), format!("i{number}/s{number}"), format!("i/{number}")][number % 3].clone();
        json!({ "when": [{ "key": "request.auth.principal", "values": [value] }] })
    };
    let conditions: [&dyn Fn(usize) -> Value; 2] = [&group, &principal];
    let claims = br#"{"payload":{"iss":"i","sub":"s","groups":["a","b"]}}"#;
    // In a `Value` that contains a struct, the struct follows the tag and the length.
    let claims = encode_value(&from_json(claims).unwrap()).split_off(2);
    let entry = [field(1, b"envoy.filters.http.jwt_authn"), field(2, &claims)].concat();
    let message = field(1, &entry);
    for (action, condition) in ["ALLOW", "DENY"].into_iter().flat_map(|action| conditions.map(|c| (action, c))) {
        let policy =
            |number: usize| named(&format!("p{number}"), json!({ "action": action, "rules": [condition(number)] }));
        let (index, scan) = engines(BOTH[0], &(0..60).map(policy).collect::<Vec<_>>());
        let short = (0..message.len()).map(|length| message[..length].to_vec());
        let flipped = (0..message.len()).flat_map(|at| {
            let flip = |bit: u32| {
                let mut message = message.clone();
                message[at] ^= 1 << bit;
                message
            };
            (0..8).map(flip).collect::<Vec<_>>()
        });
        for message in short.chain(flipped) {
            let request = Request::new("GET", "/").encoded_metadata(Lookup::Value(message.clone()));
            assert_eq!(index.decide(&request), scan.decide(&request), "{action} {message:?}");
        }
    }
}

/// The first path has the same hash as the prefix `/admin`. A tenant's rule with such a path must not hide the
/// administrator's rule.
#[test]
fn a_path_that_was_made_to_have_the_hash_of_another_hides_nothing() {
    let made = "/x9\u{1}\u{1e}\u{6}:\u{1}\u{1}\u{4}\u{4}\u{e}>\u{3}\u{1}\u{1}\u{e}\u{1}\u{7}\u{5}\u{6}\u{c}\u{e}";
    let others = (0..40).map(|number| format!("/{number}"));
    let paths: Vec<_> = std::iter::once(made.to_owned()).chain(others).chain(["/admin*".to_owned()]).collect();
    let policy = |(number, path): (usize, &String)| {
        let rule = json!({ "to": [{ "operation": { "paths": [path] } }] });
        named(&format!("p{number:02}"), json!({ "action": "DENY", "rules": [rule] }))
    };
    let (index, scan) = engines(BOTH[0], &(0..).zip(&paths).map(policy).collect::<Vec<_>>());
    for path in ["/admin/users", made, "/1", "/5"] {
        let request = Request::new("GET", path);
        assert_eq!(index.decide(&request), scan.decide(&request), "{path:?}");
    }
    assert_eq!(index.decide(&Request::new("GET", "/admin/users")).outcome.verdict(), Verdict::Deny);
}

/// A request that counts how often its headers are read.
struct Counted(Request, Cell<usize>);

impl Attributes for Counted {
    fn header<'a>(&'a self, name: &'a [u8]) -> Lookup<HeaderValues<'a>> {
        self.1.set(self.1.get() + 1);
        Attributes::header(&self.0, name)
    }

    fn peer_name(&self, which: PeerName) -> Lookup<&[u8]> {
        Attributes::peer_name(&self.0, which)
    }

    fn address(&self, which: Address) -> Lookup<IpAddr> {
        self.0.address(which)
    }

    fn destination_port(&self) -> Lookup<u16> {
        Attributes::destination_port(&self.0)
    }

    fn text(&self, which: ConnectionText) -> Lookup<&[u8]> {
        self.0.text(which)
    }

    fn metadata(&self) -> Lookup<Metadata<'_>> {
        Attributes::metadata(&self.0)
    }
}

#[test]
fn a_header_of_many_values_costs_no_more_than_a_few_looks_at_every_rule() {
    let policy = |number: usize| {
        let value = if number.is_multiple_of(3) { "a".to_owned() } else { format!("g{number}") };
        let rule = json!({ "when": [
            { "key": "request.headers[x]", "values": [value] }, { "key": "request.headers[y]", "notValues": ["t"] },
        ] });
        named(&format!("p{number}"), json!({ "action": "ALLOW", "rules": [rule] }))
    };
    let (index, scan) = engines(BOTH[0], &(0..300).map(policy).collect::<Vec<_>>());
    let request = (0..500).fold(Request::new("GET", "/").header("y", "t"), |request, _| request.header("x", "a"));
    let request = Counted(request, Cell::new(0));
    assert_eq!(scan.decide(&request).outcome.verdict(), Verdict::Deny);
    let scanned = request.1.replace(0);
    assert_eq!(index.decide(&request).outcome.verdict(), Verdict::Deny);
    let asked = request.1.get();
    assert!(asked > scanned && asked <= scanned * 3, "{asked} instead of {scanned}");
}

/// Some values count as matching whatever a policy asks for. The index must not leave out a rule for them.
#[test]
fn rules_are_found_for_values_that_match_whatever_a_policy_asks_for() {
    type Rule = fn(usize) -> Value;
    let rules: [Rule; 3] = [
        |number| json!({ "to": [{ "operation": { "hosts": [format!("h{number}.example.com")] } }] }),
        |number| json!({ "when": [{ "key": "request.headers[host]", "values": [format!("h{number}.example.com")] }] }),
        |number| json!({ "when": [{ "key": "request.headers[x]", "values": [format!("h{number}.example.com")] }] }),
    ];
    let host = |host: String| Request::new("GET", "/").header(":authority", host);
    let header = |value: String| Request::new("GET", "/").header(":authority", "other.example.com").header("x", value);
    let requests = [
        host(format!("{}.", "a".repeat(1_100))),
        host(format!("{}@h3.example.com.", "a".repeat(1_100))),
        host(format!("h3.example.com{}", ".".repeat(1_100))),
        host(format!("{}h3.example.com", " ".repeat(300))),
        header(format!("{}h3.example.com", " ".repeat(300))),
        header(format!("h3.example.com{}", "\t".repeat(300))),
        header(" ".repeat(300)).header("x", "h3.example.com"),
    ];
    let mut denied = 0;
    for rule in rules {
        for count in [3, 16, 17, 60] {
            let policies: Vec<_> = (0..count)
                .map(|number| {
                    read(&named(&format!("p{number:02}"), json!({ "action": "DENY", "rules": [rule(number)] })))
                })
                .collect();
            let options = options(Combining::DenyOverrides);
            let (with, without) = (Engine::new(&policies, &options), Engine::without_index(&policies, &options));
            for request in &requests {
                let decision = with.decide(request);
                assert!(decision == without.decide(request), "{count} rules: {:?}", decision.outcome);
                denied += usize::from(decision.outcome.verdict() == Verdict::Deny);
            }
        }
    }
    assert_eq!(denied, 44);
}

/// A rule that takes no single method can still count against a request whose method is unknown.
#[test]
fn a_rule_that_contradicts_itself_counts_if_the_method_is_not_known() {
    for action in ["ALLOW", "DENY"] {
        let rule = json!({
            "to": [{ "operation": { "methods": ["GET"] } }],
            "when": [{ "key": "request.headers[:method]", "values": ["POST"] }],
        });
        let (index, scan) = engines(BOTH[0], &[named("p", json!({ "action": action, "rules": [rule] }))]);
        let several = Request::default().header(":method", "GET").header(":method", "POST");
        for request in [Request::default().unreadable_headers(), several, Request::new("GET", "/")] {
            assert_eq!(index.decide(&request), scan.decide(&request), "{action} {request:?}");
        }
    }
}

#[test]
fn a_value_that_may_be_excluded_excludes_nothing() {
    let rule = json!({ "from": [{ "source": { "notPrincipals": ["*"] } }] });
    for action in ["ALLOW", "DENY"] {
        let policy = |number| named(&format!("p{number:02}"), json!({ "action": action, "rules": [rule] }));
        let (index, scan) = engines(BOTH[0], &(0..40).map(policy).collect::<Vec<_>>());
        for name in [Lookup::Unreadable, Lookup::Absent, Lookup::Value(&b"spiffe://td/ns/a/sa/x"[..])] {
            let request = Request::new("GET", "/").peer_name(PeerName::Uri, name);
            assert_eq!(index.decide(&request), scan.decide(&request), "{action} {name:?}");
        }
    }
}

#[test]
fn exact_values_of_every_length_are_found() {
    let path = |length: usize| format!("/{}", "a".repeat(length));
    let policy = |length| {
        let rule = json!({ "to": [{ "operation": { "paths": [path(length)] } }] });
        named(&format!("p{length:03}"), json!({ "action": "DENY", "rules": [rule] }))
    };
    let (index, scan) = engines(BOTH[0], &(1..200).map(policy).collect::<Vec<_>>());
    for length in 0..300 {
        let request = Request::new("GET", &path(length));
        assert_eq!(index.decide(&request), scan.decide(&request), "{length}");
    }
}

/// A request can lead to the same group of rules again and again, and each time to look-ups that find nothing.
#[test]
fn what_a_group_of_rules_costs_is_paid_each_time() {
    let header =
        |name: &str, field: &str, value: String| json!({ "key": format!("request.headers[{name}]"), field: [value] });
    let policies = |rule: &dyn Fn(usize) -> Value| -> Vec<_> {
        (0..400)
            .map(|number| named(&format!("p{number:03}"), json!({ "action": "DENY", "rules": [rule(number)] })))
            .collect()
    };
    let excluding = policies(&|number| {
        let other = header("y", "notValues", format!("{}*", "b".repeat(number % 20 + 1)));
        json!({ "when": if number.is_multiple_of(2) {
            json!([header("x", "values", "a".to_owned()), other])
        } else {
            json!([header("x", "values", format!("b{number}"))])
        } })
    });
    let looking_up = policies(&|number| {
        json!({ "when": [
            header("x", "values", format!("a{}", number / 40)), header("y", "values", format!("c{}", number % 40)),
        ] })
    });
    for (policies, x, y) in [(excluding, "a", "b".repeat(600)), (looking_up, "a1", "zz".to_owned())] {
        let (index, scan) = engines(BOTH[0], &policies);
        let mut request = Request::new("GET", "/").header("y", &y);
        for _ in 0..300 {
            request = request.header("x", x).header("y", &y);
        }
        let request = Counted(request, Cell::new(0));
        let decision = scan.decide(&request);
        let scanned = request.1.replace(0);
        assert_eq!(index.decide(&request), decision);
        let asked = request.1.get();
        assert!(asked <= scanned * 4, "{asked} instead of {scanned}");
    }
}
