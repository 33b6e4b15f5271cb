//! Plugin configurations that are refused. One error refuses the whole configuration, and all errors are reported.

use mesh_authz::config::{NodeMetadata, PluginConfig};
use mesh_authz::document::{from_json, from_struct};
use mesh_authz::filter::direction;
use mesh_authz::policy::Labels;
use mesh_authz::request::Lookup;

use crate::configuration::{POLICY, encode};

/// The errors in a configuration, which must be refused.
fn errors(bytes: &[u8]) -> Vec<String> {
    let node = NodeMetadata { labels: Lookup::Value(Labels::default()), ..NodeMetadata::in_namespace("default") };
    let found = PluginConfig::read(bytes, &node).expect_err("is to be refused");
    found.iter().map(ToString::to_string).collect()
}

fn only(field: &str, expected: &str) {
    let text = format!("{{\"policies\":[],{field}}}");
    assert_eq!(errors(text.as_bytes()), [expected], "{text}");
    let as_struct = encode(&from_json(text.as_bytes()).unwrap());
    assert_eq!(errors(&as_struct), [expected], "{text} as a Struct");
}

#[test]
fn an_unknown_field_is_an_error_with_a_suggestion() {
    only(r#""policys":[]"#, "policys: unknown field, did you mean policies?");
    only(r#""trustdomain":"x""#, "trustdomain: unknown field, did you mean trustDomain?");
    only(r#""workload":{"namespaces":"x"}"#, "workload.namespaces: unknown field, did you mean namespace?");
    only(r#""workload":{"label":{}}"#, "workload.label: unknown field, did you mean labels?");
    only(r#""gateway":{"name":"g","service":[]}"#, "gateway.service: unknown field, did you mean services?");
    only(r#""jwt":{"key":"x"}"#, "jwt.key: unknown field; known here: payloadKey");
    only(r#""denyResponse":{"stauts":403}"#, "denyResponse.stauts: unknown field, did you mean status?");
    only(
        r#""zzz":1"#,
        "zzz: unknown field; known here: policies, rootNamespace, workload, gateway, revision, trustDomain, trustDomainAliases, \
         combining, custom, jwt, principalFrom, sourceIpFrom, outgoing, paths, denyResponse, decisionLog, decisionLogRate, filterState, \
         debugHeader, onInvalid, allowNoneApplies",
    );
}

#[test]
fn a_choice_is_one_of_its_words() {
    only(
        r#""combining":"first-match""#,
        "combining: `first-match` is unknown; known here: deny-overrides, permit-overrides",
    );
    only(
        r#""combining":"permit_overrides""#,
        "combining: `permit_overrides` is unknown; did you mean `permit-overrides`?",
    );
    only(r#""principalFrom":"xfcc""#, "principalFrom: `xfcc` is unknown; known here: peer-certificate, filter-state");
    only(r#""sourceIpFrom":"remote""#, "sourceIpFrom: `remote` is unknown; known here: filter-state, remote-address");
    only(r#""outgoing":"allow""#, "outgoing: `allow` is unknown; known here: decide, pass");
    only(r#""decisionLog":"DENIED""#, "decisionLog: `DENIED` is unknown; did you mean `denied`?");
    only(r#""decisionLog":true"#, "decisionLog: must be a string, is a boolean; write it in quotes");
    only(r#""custom":"nativ""#, "custom: `nativ` is unknown; did you mean `native`?");
    only(r#""combining":null"#, "combining: has no value; give it one, or remove the field");
}

#[test]
fn a_field_of_the_wrong_type() {
    only(r#""workload":"x""#, "workload: must be an object, is a string");
    only(r#""workload":{"labels":["a"]}"#, "workload.labels: must be an object, is a list");
    only(r#""workload":{"labels":{"a":1}}"#, "workload.labels.a: must be a string, is a number; write it in quotes");
    only(r#""workload":{"labels":{"a":null}}"#, "workload.labels.a: must be a string, is null");
    only(r#""workload":{"namespace":1}"#, "workload.namespace: must be a string, is a number; write it in quotes");
    only(r#""workload":null"#, "workload: has no value; give it one, or remove the field");
    only(r#""gateway":{"waypoint":true}"#, "gateway.name: is missing");
    only(
        r#""gateway":{"name":"g","waypoint":"true"}"#,
        "gateway.waypoint: must be true or false, is a string; write it without quotes",
    );
    only(
        r#""gateway":{"name":"g","services":"a"}"#,
        "gateway.services: must be a list, is a string; put it in brackets: [ … ]",
    );
    only(r#""rootNamespace":["a"]"#, "rootNamespace: must be a string, is a list");
    only(r#""trustDomainAliases":"a""#, "trustDomainAliases: must be a list, is a string; put it in brackets: [ … ]");
    only(r#""jwt":"payload""#, "jwt: must be an object, is a string");
    only(r#""denyResponse":{"body":403}"#, "denyResponse.body: must be a string, is a number; write it in quotes");
}

#[test]
fn a_waypoint_tells_services_apart_and_sees_no_certificates() {
    let expected = "gateway: without their hosts, several services of a waypoint cannot be told apart; write each one as \
                    {host, namespace, name}";
    only(r#""gateway":{"name":"w","waypoint":true,"services":["a"],"serviceEntries":["b"]}"#, expected);
    only(
        r#""gateway":{"name":"w","waypoint":true,"services":["a"],
            "serviceEntries":[{"host":"b.example","namespace":"b","name":"b"}]}"#,
        expected,
    );
    only(
        r#""gateway":{"name":"w","waypoint":true},"principalFrom":"peer-certificate""#,
        "principalFrom: a waypoint does not see its peers' certificates; use `filter-state`",
    );
    only(
        r#""workload":{"labels":{"gateway.istio.io/managed":"istio.io-mesh-controller"}}"#,
        "by its labels this workload is a waypoint; set `gateway`, with `waypoint: true` and the services that \
         policies name",
    );
}

#[test]
fn a_configuration_for_a_waypoint_is_for_no_other_proxy_of_istio() {
    let on = |node_id: &str| {
        let is_no_waypoint = direction::is_sidecar_or_gateway(&Lookup::Value(node_id.as_bytes().to_vec()));
        let node = NodeMetadata { is_no_waypoint, ..NodeMetadata::in_namespace("default") };
        let config = r#"{"policies":[],"gateway":{"name":"w","waypoint":true}}"#;
        PluginConfig::read(config.as_bytes(), &node).err().map(|found| found[0].to_string())
    };
    let refused = "gateway: by its node id this proxy is no waypoint, and the peer's identity is not where a waypoint has it; \
                   leave out `waypoint: true`";
    assert_eq!(on("sidecar~10.0.0.1~b.default~x").as_deref(), Some(refused));
    assert_eq!(on("router~10.0.0.1~b.default~x").as_deref(), Some(refused));
    assert_eq!(on("waypoint~10.0.0.1~b.default~x"), None);
    assert_eq!(on("my-envoy"), None, "whatever it is, it is not Istio's");
}

#[test]
fn a_trust_domain_is_what_stands_between_the_scheme_and_the_slash() {
    let hint = "is not a trust domain; write the part between `spiffe://` and the first slash only";
    for value in ["", "spiffe://td", "td/", "a/b"] {
        only(&format!("\"trustDomain\":\"{value}\""), &format!("trustDomain: `{value}` {hint}"));
        only(
            &format!("\"trustDomainAliases\":[\"a\",\"{value}\"]"),
            &format!("trustDomainAliases[1]: `{value}` {hint}"),
        );
    }
}

#[test]
fn a_response_refuses() {
    let expected = "denyResponse.status: must be the status of a refusal, a number from 400 to 599";
    for status in ["200", "302", "399", "600", "-403", "0"] {
        only(&format!(r#""denyResponse":{{"status":{status}}}"#), &format!("{expected}, is {status}"));
    }
    for (status, found) in [("\"403\"", "`403`"), ("403.5", "a fraction"), ("true", "a boolean"), ("[403]", "a list")] {
        only(&format!(r#""denyResponse":{{"status":{status}}}"#), &format!("{expected}, is {found}"));
    }
    only(r#""denyResponse":{"headers":{"":"x"}}"#, "denyResponse.headers[\"\"]: is not the name of a header");
    only(r#""denyResponse":{"headers":{"a b":"x"}}"#, "denyResponse.headers[\"a b\"]: is not the name of a header");
    only(
        r#""denyResponse":{"headers":{":status":"200"}}"#,
        "denyResponse.headers[\":status\"]: is not the name of a header",
    );
    for value in ["\\r", "\\n", "\\u0000"] {
        only(
            &format!(r#""denyResponse":{{"headers":{{"a":"x{value}y"}}}}"#),
            "denyResponse.headers.a: a header's value has no line breaks and no NUL",
        );
    }
}

#[test]
fn a_rate_is_a_whole_number_of_lines() {
    let expected = "decisionLogRate: must be a whole number of lines a second, from 1 to 1000000";
    for rate in ["0", "-1", "1000001"] {
        only(&format!(r#""decisionLogRate":{rate}"#), &format!("{expected}, is {rate}"));
    }
    for (rate, found) in
        [("\"10\"", "`10`"), ("0.5", "a fraction"), ("1e300", "a number"), ("true", "a boolean"), ("[]", "a list")]
    {
        only(&format!(r#""decisionLogRate":{rate}"#), &format!("{expected}, is {found}"));
    }
    only(r#""filterState":"denied""#, "filterState: `denied` is unknown; known here: none, notable, all");
}

#[test]
fn a_debug_header_has_a_name_and_somebody_who_gets_it() {
    only(r#""debugHeader":{"principals":["a"]}"#, "debugHeader.name: is missing");
    only(r#""debugHeader":{"name":"x"}"#, "debugHeader.principals: is missing");
    only(r#""debugHeader":{"name":"x","principals":[""]}"#, "debugHeader.principals[0]: must not be empty");
    only(r#""debugHeader":{"name":":status","principals":["a"]}"#, "debugHeader.name: is not the name of a header");
    only(r#""debugHeader":{"name":"a\r\nb","principals":["a"]}"#, "debugHeader.name: is not the name of a header");
    only(
        r#""debugHeader":{"name":"x","principals":["spiffe://td/ns/a/sa/b"]}"#,
        "debugHeader.principals[0]: `spiffe://td/ns/a/sa/b` matches nobody; leave out `spiffe://`",
    );
    only(
        r#""debugHeader":{"name":"x","principals":["a"],"to":1}"#,
        "debugHeader.to: unknown field; known here: name, principals",
    );
}

#[test]
fn names_that_nothing_can_have_are_refused() {
    // An empty namespace, gateway or payload key matches nothing. Every policy that needs it would silently have no
    // effect.
    for field in [
        r#""workload":{"namespace":""}"#,
        r#""gateway":{"name":""}"#,
        r#""gateway":{"name":"g","waypoint":true,"services":["/a"]}"#,
        r#""jwt":{"payloadKey":""}"#,
    ] {
        let text = format!("{{\"policies\":[],{field}}}");
        assert!(
            PluginConfig::read(text.as_bytes(), &NodeMetadata::in_namespace("default")).is_err(),
            "{text} is accepted"
        );
    }
}

#[test]
fn policies_are_required() {
    assert_eq!(errors(b"{}"), ["policies: is missing; an empty list, `[]`, allows everything"]);
    assert_eq!(errors(br#"{"policies":null}"#), ["policies: has no value; give it one, or remove the field"]);
    assert_eq!(errors(br#"{"policies":{}}"#), ["policies: must be a list, is an object; put a dash before it"]);
    assert_eq!(errors(b""), ["the plugin configuration is empty; give it at least `policies: []`"]);
    assert_eq!(errors(b"[]"), ["must be an object, is a list"]);
    assert_eq!(errors(b"null"), ["must be an object, is null"]);
}

#[test]
fn what_is_neither_json_nor_a_struct() {
    for bytes in [
        &b"{"[..],
        b"{}x",
        b"\xff",
        b"\n\xff",
        b"\n",
        b"policies: []",
        b"{\"policies\":[]}{",
        b"{'a':1}",
        b"{\"a\":\"\xff\"}",
    ] {
        let found = errors(bytes);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("the plugin configuration is not JSON: "), "{found:?}");
        assert!(
            found[0].ends_with("; send a google.protobuf.StringValue that holds JSON, or a google.protobuf.Struct")
        );
    }
    let deep = format!("{{\"policies\":{}1{}}}", "[".repeat(200), "]".repeat(200));
    assert!(errors(deep.as_bytes())[0].contains("recursion limit exceeded"));
}

#[test]
fn a_struct_that_is_malformed_or_too_deep_is_refused() {
    let good = encode(&from_json(br#"{"policies":[]}"#).unwrap());
    for cut in 1..good.len() {
        assert!(from_struct(&good[..cut]).is_err(), "{cut} of {} bytes", good.len());
        errors(&good[..cut]);
    }
    let mut node = from_json(b"{}").unwrap();
    for _ in 0..200 {
        node = mesh_authz::document::Value::Map(vec![("a".to_owned(), node)]).into();
    }
    assert!(from_struct(&encode(&node)).is_err());
    let not_utf8 = [0x0a, 0x05, 0x0a, 0x01, 0xff, 0x12, 0x00];
    assert!(from_struct(&not_utf8).is_err());
}

#[test]
fn fields_and_labels_that_stand_there_twice() {
    only(r#""trustDomain":"a","trustDomain":"b""#, "trustDomain: stands here twice; keep one of the two");
    only(r#""policies":[]"#, "policies: stands here twice; keep one of the two");
    only(r#""workload":{"labels":{"a":"b","a":"c"}}"#, "workload.labels.a: stands here twice; keep one of the two");
}

#[test]
fn two_policies_of_one_name() {
    let text = format!(r#"{{"policies":[{POLICY},{},{POLICY}]}}"#, POLICY.replace("\"p\"", "\"q\""));
    let expected = "policy default/p: policies[2]: another policy, at position 0, has the same namespace and name; \
                    rename or remove one; a cluster cannot hold both";
    assert_eq!(errors(text.as_bytes()), [expected]);
    let explicit = POLICY.replace("\"name\":\"p\"", "\"name\":\"p\",\"namespace\":\"default\"");
    assert_eq!(errors(format!(r#"{{"policies":[{POLICY},{explicit}]}}"#).as_bytes()).len(), 1);
    let elsewhere = POLICY.replace("\"name\":\"p\"", "\"name\":\"p\",\"namespace\":\"other\"");
    let node = NodeMetadata { labels: Lookup::Value(Labels::default()), ..NodeMetadata::in_namespace("default") };
    PluginConfig::read(format!(r#"{{"policies":[{POLICY},{elsewhere}],"allowNoneApplies":true}}"#).as_bytes(), &node)
        .unwrap();
}

#[test]
fn everything_wrong_in_all_policies_is_said_at_once() {
    let wrong = POLICY.replace("DENY", "DENI").replace("\"p\"", "\"q\"");
    let worse = POLICY.replace("\"rules\":[{}]", "\"rules\":[{\"from\":[]}]").replace("\"p\"", "\"r\"");
    let text = format!(r#"{{"policies":[{wrong},{POLICY},{worse}],"combining":"x","extra":1}}"#);
    let found = errors(text.as_bytes());
    let starts = [
        "policy default/q: policies[0].spec.action: ",
        "policy default/r: policies[2].spec.rules[0].from: ",
        "combining: ",
        "extra: ",
    ];
    assert_eq!(found.len(), starts.len(), "{found:#?}");
    for (finding, start) in found.iter().zip(starts) {
        assert!(finding.starts_with(start), "{finding}");
    }
}

#[test]
fn a_selector_needs_known_labels() {
    let text = format!(r#"{{"policies":[{POLICY}]}}"#);
    let found = PluginConfig::read(text.as_bytes(), &NodeMetadata::in_namespace("default")).unwrap_err();
    let expected = "policy default/p: has a selector, and the labels of this workload are unknown; set \
                    `workload.labels` in the plugin configuration, or node.metadata.LABELS in Envoy's bootstrap";
    assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), [expected]);
    let reference =
        text.replace(r#""selector":{"matchLabels":{"app":"a"}}"#, r#""targetRef":{"kind":"Service","name":"a"}"#);
    let found = PluginConfig::read(reference.as_bytes(), &NodeMetadata::in_namespace("default")).unwrap_err();
    assert_eq!(found[0].to_string(), expected.replace("a selector", "a target reference"));
    let empty = text.replace("{\"app\":\"a\"}", "{}");
    assert!(
        PluginConfig::read(empty.as_bytes(), &NodeMetadata::in_namespace("default")).is_ok(),
        "an empty selector needs no label"
    );
}

/// istiod adds labels to those of the proxy, and selects by them too.
#[test]
fn a_selector_by_a_label_that_only_istiod_knows_needs_labels_in_the_configuration() {
    let policy = POLICY.replace(r#"{"app":"a"}"#, r#"{"app":"a","topology.kubernetes.io/zone":"z"}"#);
    let text = format!(r#"{{"policies":[{policy}],"allowNoneApplies":true}}"#);
    let node = |app: &str, further: &[(&str, &str)]| {
        let labels = [&[("app", app)], further].concat();
        let labels = labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        NodeMetadata { labels: Lookup::Value(labels), ..NodeMetadata::in_namespace("default") }
    };
    for further in [&[][..], &[("topology.kubernetes.io/zone", "z")], &[("topology.kubernetes.io/zone", "y")]] {
        let found = PluginConfig::read(text.as_bytes(), &node("a", further)).unwrap_err();
        let expected = "policy default/p: selects by the label `topology.kubernetes.io/zone`, which a proxy does not know \
                        as istiod does; select by another label, or leave this policy to Istio";
        assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), [expected]);
    }
    PluginConfig::read(text.as_bytes(), &node("b", &[])).expect("another label says that it does not apply");
    let elsewhere = NodeMetadata { namespace: Lookup::Value("other".into()), ..node("a", &[]) };
    PluginConfig::read(text.as_bytes(), &elsewhere).expect("the namespace says that it does not apply");
    let given = text.replace(r#","allowNoneApplies""#, r#","workload":{"labels":{"app":"a"}},"allowNoneApplies""#);
    PluginConfig::read(given.as_bytes(), &node("a", &[])).expect("who writes labels knows them");
}

const TARGETS: &str = r#"{"apiVersion":"security.istio.io/v1","kind":"AuthorizationPolicy","metadata":{"name":"t"},
    "spec":{"targetRefs":[{"kind":"Gateway","group":"gateway.networking.k8s.io","name":"g"}]}}"#;

#[test]
fn what_the_labels_and_the_gateway_say_must_agree() {
    let label = |key: &str, value: &str| format!(r#""workload":{{"labels":{{"{key}":"{value}"}}}}"#);
    let named = label("gateway.networking.k8s.io/gateway-name", "a");
    only(
        &format!(r#"{named},"gateway":{{"name":"b"}}"#),
        "by its labels this workload is the gateway `a`, by `gateway.name` it is `b`; correct one of the two",
    );
    let waypoint = label("gateway.istio.io/managed", "istio.io-mesh-controller");
    let expected = "by its labels this workload is a waypoint; set `gateway`, with `waypoint: true` and the services that \
                    policies name";
    only(&waypoint, expected);
    only(&format!(r#"{waypoint},"gateway":{{"name":"b"}}"#), expected);
}

#[test]
fn a_host_tells_one_service_of_a_waypoint() {
    let services = |services: &str, entries: &str, expected: &str| {
        only(
            &format!(
                r#""gateway":{{"name":"w","waypoint":true,"services":[{services}],"serviceEntries":[{entries}]}}"#
            ),
            expected,
        );
    };
    let entry = r#"{"host":"Example.com","namespace":"a","name":"x"}"#;
    let twin = "keep one: Istio protects a host of a waypoint as one service";
    services("", &format!("{entry},{entry}"), &format!("gateway: the host `Example.com` is there twice; {twin}"));
    let other = r#"{"host":"example.com","namespace":"b","name":"y"}"#;
    services("", &format!("{entry},{other}"), &format!("gateway: the host `example.com` is there twice; {twin}"));
    services(
        r#"{"host":"a.b.svc.mesh","namespace":"b","name":"a"}"#,
        r#"{"host":"a.b.svc.mesh","namespace":"b","name":"entry"}"#,
        &format!("gateway: the host `a.b.svc.mesh` is there twice; {twin}"),
    );
    for host in ["a", "a.b", "a.b.svc", "b.a.svc.mesh", "a.b.svcx.mesh", "A.b.svc.mesh", "example.com"] {
        services(
            &format!(r#"{{"host":"{host}","namespace":"b","name":"a"}}"#),
            "",
            "gateway.services[0]: is not the host of this Service; write NAME.NAMESPACE.svc.DOMAIN",
        );
    }
    services("", r#"{"host":"h","namespace":"b"}"#, "gateway.serviceEntries[0].name: is missing");
    services("", r#"{"namespace":"b","name":"a"}"#, "gateway.serviceEntries[0].host: is missing");
    services("", r#"{"host":"h","name":"a"}"#, "gateway.serviceEntries[0].namespace: is missing");
    services("", r#"{"host":"","namespace":"b","name":"a"}"#, "gateway.serviceEntries[0].host: must not be empty");
    let unknown = "gateway.serviceEntries[0].hosts: unknown field, did you mean host?";
    services("", r#"{"host":"h","hosts":[],"namespace":"b","name":"a"}"#, unknown);
    services("", "1", "gateway.serviceEntries[0]: must be a string, is a number; write it in quotes");
}

/// Nobody could tell which requests the policy is for, and it would protect none.
#[test]
fn where_services_are_told_apart_policies_name_known_ones() {
    let policy = |targets: &str| {
        format!(
            r#"{{"apiVersion":"security.istio.io/v1","kind":"AuthorizationPolicy","metadata":{{"name":"p","namespace":"a",
                "labels":{{"istio.io/rev":"canary"}}}},"spec":{{"targetRefs":[{targets}]}}}}"#
        )
    };
    let config = |targets: &str, more: &str| {
        format!(
            r#"{{"policies":[{}],{more} "workload":{{"namespace":"a"}},"gateway":{{"name":"w","waypoint":true,
                "services":[{{"host":"s.a.svc.mesh","namespace":"a","name":"s"}}]}}}}"#,
            policy(targets)
        )
    };
    let service = |name: &str| format!(r#"{{"kind":"Service","name":"{name}"}}"#);
    let entry = r#"{"kind":"ServiceEntry","group":"networking.istio.io","name":"s"}"#;
    let whole = r#"{"kind":"Gateway","group":"gateway.networking.k8s.io","name":"w"}"#;
    let expected = |name: &str| {
        format!(
            "policy a/p: is for `{name}`, whose host is unknown; add {{host, namespace, name}} to `gateway.services` or \
             `gateway.serviceEntries`"
        )
    };
    for (targets, unknown) in [
        (service("t"), "t"),
        (format!("{},{}", service("s"), service("t")), "t"),
        (entry.to_owned(), "s"),
        (format!("{},{entry}", service("s")), "s"),
    ] {
        assert_eq!(errors(config(&targets, "").as_bytes()), [expected(unknown)], "{targets}");
        let other = config(&targets, r#""revision":"stable","allowNoneApplies":true,"#);
        assert!(PluginConfig::read(other.as_bytes(), &NodeMetadata::default()).is_ok(), "of another revision");
    }
    for targets in [service("s"), format!("{},{whole}", service("t"))] {
        let config = config(&targets, "");
        assert!(PluginConfig::read(config.as_bytes(), &NodeMetadata::default()).is_ok(), "{targets}");
    }
}

#[test]
fn only_a_waypoint_has_services() {
    let expected = "gateway: only a waypoint has services; set `waypoint: true`";
    only(r#""gateway":{"name":"g","services":["a"]}"#, expected);
    only(r#""gateway":{"name":"g","serviceEntries":["a"]}"#, expected);
}

#[test]
fn node_metadata_that_cannot_be_read_matters_where_it_is_needed() {
    let node = NodeMetadata { namespace: Lookup::Unreadable, labels: Lookup::Unreadable, ..NodeMetadata::default() };
    let found = PluginConfig::read(br#"{"policies":[]}"#, &node).expect_err("is to be refused");
    let found: Vec<_> = found.iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            "node.metadata.NAMESPACE: is not a string; write one, or set `workload.namespace` in the plugin configuration",
            "node.metadata.LABELS: is not a map of strings, or has no value in it; write numbers and booleans in quotes, \
             or set `workload.labels` in the plugin configuration",
        ]
    );
    PluginConfig::read(br#"{"policies":[],"workload":{"namespace":"a","labels":{}}}"#, &node).unwrap();
}

#[test]
fn an_unknown_namespace_is_refused() {
    let expected = "workload.namespace: is unknown: it is neither here nor in node.metadata.NAMESPACE of Envoy's bootstrap; \
                    set one of the two; without it, nobody can tell which policies apply";
    for text in [format!(r#"{{"policies":[{POLICY}]}}"#), r#"{"policies":[],"workload":{"labels":{}}}"#.to_owned()] {
        let node = NodeMetadata { labels: Lookup::Value(Labels::default()), ..NodeMetadata::default() };
        let found = PluginConfig::read(text.as_bytes(), &node).expect_err("is to be refused");
        assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), [expected]);
    }
}

#[test]
fn policies_none_of_which_applies_are_refused() {
    let p = POLICY.replace("\"name\":\"p\"", "\"name\":\"p\",\"namespace\":\"other\"");
    let expected = "nothing is protected: policy other/p does not apply: it is for another namespace; this workload is in \
                    namespace default; correct the workload or the policies, or set `allowNoneApplies: true` if no policy has to apply";
    assert_eq!(errors(format!(r#"{{"policies":[{p}],"workload":{{"labels":{{}}}}}}"#).as_bytes()), [expected]);
    let q = p.replace("\"p\"", "\"q\"");
    let expected = "nothing is protected: none of the 2 policies applies to this workload in namespace default; for example, policy other/p does not apply: it is for another namespace; correct the workload or \
                    the policies, or set `allowNoneApplies: true` if no policy has to apply";
    assert_eq!(errors(format!(r#"{{"policies":[{p},{q}],"workload":{{"labels":{{}}}}}}"#).as_bytes()), [expected]);
}

#[test]
fn a_target_reference_needs_labels_or_a_gateway() {
    let node = NodeMetadata::in_namespace("default");
    let text = format!(r#"{{"policies":[{TARGETS}]}}"#);
    let found = PluginConfig::read(text.as_bytes(), &node).expect_err("is to be refused");
    assert!(found[0].message.contains("has a target reference, and the labels of this workload are unknown"));
    let text = format!(r#"{{"policies":[{TARGETS}],"gateway":{{"name":"g"}}}}"#);
    PluginConfig::read(text.as_bytes(), &node).unwrap();
}

#[test]
fn an_empty_value_is_no_map_of_labels() {
    use mesh_authz::filter::property::labels;
    use mesh_authz::request::Headers;
    let pairs = |pairs: &[(&str, &str)]| labels(&Headers::encode(pairs));
    assert_eq!(labels(b""), Lookup::Unreadable);
    assert_eq!(pairs(&[]), Lookup::Value(Labels::default()));
    assert_eq!(pairs(&[("app", ""), ("b", "")]), Lookup::Unreadable, "cannot be told from a list");
    assert_eq!(pairs(&[("app", ""), ("b", "c")]).known().map(|labels| labels.len()), Some(2));
    assert_eq!(pairs(&[("app", "\0\0\0\0\0\0\0@")]), Lookup::Unreadable, "the number 2");
}
