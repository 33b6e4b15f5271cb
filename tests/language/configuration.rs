//! The plugin configuration: every field with its default, both encodings, and the node metadata.

use mesh_authz::config::{
    DebugHeader, DecisionLog, DenyResponse, NodeMetadata, OnInvalid, Outgoing, Paths, PluginConfig, PrincipalFrom,
    SourceIpFrom, StoredDecisions,
};
use mesh_authz::document::{Node, Value, from_json, from_struct};
use mesh_authz::engine::{Combining, Custom};
use mesh_authz::filter::direction;
use mesh_authz::policy::Labels;
use mesh_authz::policy::scope::{Gateway, ServiceName};
use mesh_authz::request::Lookup;

fn read(text: &str) -> PluginConfig {
    read_on(text.as_bytes(), &NodeMetadata::in_namespace("default"))
}

fn read_on(bytes: &[u8], node: &NodeMetadata) -> PluginConfig {
    PluginConfig::read(bytes, node).unwrap_or_else(|found| panic!("{found:#?}"))
}

fn with(field: &str) -> PluginConfig {
    read(&format!("{{\"policies\":[],{field}}}"))
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

pub const POLICY: &str = r#"{"apiVersion":"security.istio.io/v1","kind":"AuthorizationPolicy","metadata":{"name":"p"},
    "spec":{"selector":{"matchLabels":{"app":"a"}},"action":"DENY","rules":[{}]}}"#;

#[test]
fn the_defaults_of_every_field() {
    let config = read(r#"{"policies":[]}"#);
    assert_eq!(config.policies, []);
    assert_eq!(config.workload.namespace, "default");
    assert_eq!(config.workload.labels, None);
    assert_eq!(config.workload.gateway, None);
    assert_eq!(config.workload.root_namespace, "istio-system");
    assert_eq!(config.options.combining, Combining::DenyOverrides);
    assert_eq!(config.options.custom, Custom::Refuse);
    assert_eq!(config.options.jwt_payload_key, "payload");
    assert_eq!(config.options.trust_domains.expand_principal("cluster.local/ns/a/sa/b"), ["cluster.local/ns/a/sa/b"]);
    assert_eq!(config.principal_from, PrincipalFrom::PeerCertificate);
    assert_eq!(config.source_ip_from, SourceIpFrom::FilterState);
    assert_eq!(config.decision_log, DecisionLog::Denied);
    let response = DenyResponse { status: 403, body: "RBAC: access denied".to_owned(), headers: Vec::new() };
    assert_eq!(config.deny_response, response);
}

#[test]
fn policies_are_resources_as_kubernetes_prints_them() {
    let config = read(&format!(r#"{{"policies":[{POLICY}],"workload":{{"labels":{{"app":"a"}}}}}}"#));
    assert_eq!(config.policies.len(), 1);
    assert_eq!(config.policies[0].name.to_string(), "default/p");
}

#[test]
fn the_workload() {
    let config = with(r#""workload":{"namespace":"shop","labels":{"app":"a","b":""}}"#);
    assert_eq!(config.workload.namespace, "shop");
    assert_eq!(config.workload.labels, Some(labels(&[("app", "a"), ("b", "")])));
    assert_eq!(with(r#""workload":{"labels":{}}"#).workload.labels, Some(Labels::default()), "known to have none");
    assert_eq!(with(r#""workload":{}"#).workload.labels, None);
    assert_eq!(with(r#""revision":"canary""#).workload.revision.as_deref(), Some("canary"));
    assert_eq!(with(r#""workload":{}"#).workload.revision, None, "policies of all revisions apply");
}

/// What istiod has selected the workload by is true, whatever the workload's proxy knew when it started.
#[test]
fn the_selector_of_the_configuration_beats_the_labels_of_the_node() {
    let node = NodeMetadata {
        namespace: Lookup::Value("shop".to_owned()),
        labels: Lookup::Value(labels(&[("app", "db"), ("role", "replica")])),
        ..NodeMetadata::default()
    };
    let on_node = |workload: &str| {
        let config = format!(r#"{{"policies":[],"workload":{workload}}}"#);
        read_on(config.as_bytes(), &node).workload
    };
    let selected = on_node(r#"{"matchLabels":{"role":"primary","tier":"data"}}"#);
    assert_eq!(selected.labels, Some(labels(&[("app", "db"), ("role", "primary"), ("tier", "data")])));
    let given = on_node(r#"{"labels":{"app":"x"},"matchLabels":{"role":"primary"}}"#);
    assert_eq!(given.labels, Some(labels(&[("app", "x"), ("role", "primary")])));
    let gateway = on_node(r#"{"matchLabels":{"gateway.networking.k8s.io/gateway-name":"front"}}"#).gateway;
    assert_eq!(gateway.map(|gateway| gateway.name).as_deref(), Some("front"));
    let nothing = NodeMetadata::in_namespace("shop");
    let unknown = read_on(br#"{"policies":[],"workload":{"matchLabels":{"role":"primary"}}}"#, &nothing);
    assert_eq!(unknown.workload.labels, None, "it may have others");
}

#[test]
fn the_workload_falls_back_to_the_nodes_metadata_field_by_field() {
    let node = NodeMetadata {
        namespace: Lookup::Value("node-ns".to_owned()),
        labels: Lookup::Value(labels(&[("app", "node")])),
        ..NodeMetadata::default()
    };
    let on_node = |text: &str| read_on(text.as_bytes(), &node).workload;
    let workload = on_node(r#"{"policies":[]}"#);
    assert_eq!((workload.namespace.as_str(), workload.labels), ("node-ns", Some(labels(&[("app", "node")]))));
    let workload = on_node(r#"{"policies":[],"workload":{"namespace":"own"}}"#);
    assert_eq!((workload.namespace.as_str(), workload.labels), ("own", Some(labels(&[("app", "node")]))));
    let workload = on_node(r#"{"policies":[],"workload":{"labels":{"app":"own"}}}"#);
    assert_eq!((workload.namespace.as_str(), workload.labels), ("node-ns", Some(labels(&[("app", "own")]))));
}

#[test]
fn a_gateway_by_name_or_by_label() {
    let service = |namespace: &str, name: &str| ServiceName {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        host: None,
    };
    let config = with(
        r#""workload":{"namespace":"shop"},
           "gateway":{"name":"w","waypoint":true,"services":["bank/pay"]}"#,
    );
    let expected = Gateway {
        name: "w".to_owned(),
        waypoint: true,
        services: vec![service("bank", "pay")],
        service_entries: Vec::new(),
    };
    assert_eq!(config.workload.gateway, Some(expected));
    assert_eq!(config.principal_from, PrincipalFrom::FilterState, "a waypoint does not see certificates");
    let entry =
        with(r#""workload":{"namespace":"shop"},"gateway":{"name":"w","waypoint":true,"serviceEntries":["x"]}"#);
    assert_eq!(entry.workload.gateway.unwrap().service_entries, [service("shop", "x")]);
    let named = |name: &str| Some(Gateway { name: name.to_owned(), ..Gateway::default() });
    assert_eq!(with(r#""gateway":{"name":"g"}"#).workload.gateway, named("g"));
    let label = r#""workload":{"labels":{"gateway.networking.k8s.io/gateway-name":"front"}}"#;
    assert_eq!(with(label).workload.gateway, named("front"));
    assert_eq!(with(&format!(r#"{label},"gateway":{{"name":"front"}}"#)).workload.gateway, named("front"));
    let node = NodeMetadata {
        labels: Lookup::Value(labels(&[("gateway.networking.k8s.io/gateway-name", "node")])),
        ..NodeMetadata::in_namespace("default")
    };
    assert_eq!(read_on(br#"{"policies":[]}"#, &node).workload.gateway, named("node"));
}

#[test]
fn the_services_of_a_waypoint_by_their_hosts() {
    let config = with(
        r#""gateway":{"name":"w","waypoint":true,
           "services":[{"host":"pay.bank.svc.cluster.local","namespace":"bank","name":"pay"}],
           "serviceEntries":[{"host":"*.example.com","namespace":"shop","name":"out"},
                             {"host":"example.com","namespace":"shop","name":"out"}]}"#,
    );
    let gateway = config.workload.gateway.unwrap();
    let service = |host: &str, namespace: &str, name: &str| ServiceName {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        host: Some(host.to_owned()),
    };
    assert_eq!(gateway.services, [service("pay.bank.svc.cluster.local", "bank", "pay")]);
    let entries = [service("*.example.com", "shop", "out"), service("example.com", "shop", "out")];
    assert_eq!(gateway.service_entries, entries);
}

#[test]
fn the_mesh() {
    let config = with(r#""trustDomain":"td1","trustDomainAliases":["td2","td3"],"rootNamespace":"mesh""#);
    let expanded = config.options.trust_domains.expand_principal("td2/ns/a/sa/b");
    assert_eq!(expanded, ["td1/ns/a/sa/b", "td2/ns/a/sa/b", "td3/ns/a/sa/b"]);
    assert_eq!(config.workload.root_namespace, "mesh");
}

#[test]
fn every_choice() {
    assert_eq!(with(r#""combining":"deny-overrides""#).options.combining, Combining::DenyOverrides);
    assert_eq!(with(r#""custom":"refuse""#).options.custom, Custom::Refuse);
    assert_eq!(with(r#""custom":"native""#).options.custom, Custom::Native);
    assert_eq!(with(r#""custom":"native-each""#).options.custom, Custom::NativeEach);
    assert_eq!(with(r#""combining":"permit-overrides""#).options.combining, Combining::PermitOverrides);
    assert_eq!(with(r#""principalFrom":"peer-certificate""#).principal_from, PrincipalFrom::PeerCertificate);
    assert_eq!(with(r#""principalFrom":"filter-state""#).principal_from, PrincipalFrom::FilterState);
    assert_eq!(with(r#""sourceIpFrom":"filter-state""#).source_ip_from, SourceIpFrom::FilterState);
    assert_eq!(with(r#""sourceIpFrom":"remote-address""#).source_ip_from, SourceIpFrom::RemoteAddress);
    assert_eq!(with(r#""decisionLog":"none""#).decision_log, DecisionLog::None);
    assert_eq!(with(r#""decisionLog":"denied""#).decision_log, DecisionLog::Denied);
    assert_eq!(with(r#""decisionLog":"all""#).decision_log, DecisionLog::All);
    assert_eq!(with(r#""filterState":"none""#).filter_state, StoredDecisions::None);
    assert_eq!(with(r#""filterState":"notable""#).filter_state, StoredDecisions::Notable);
    assert_eq!(with(r#""filterState":"all""#).filter_state, StoredDecisions::All);
    assert_eq!(with(r#""jwt":{"payloadKey":"claims"}"#).options.jwt_payload_key, "claims");
    assert_eq!(with(r#""paths":"as-sent""#).paths, Paths::AsSent);
    assert_eq!(with(r#""paths":"strict""#).paths, Paths::Strict);
    assert_eq!(with(r#""jwt":{}"#).options.jwt_payload_key, "payload");
}

#[test]
fn how_much_is_said_about_decisions_and_to_whom() {
    let config =
        with(r#""decisionLogRate":1000000,"debugHeader":{"name":"x-authz","principals":["td/ns/a/sa/b","*"]}"#);
    assert_eq!(config.decision_log_rate, 1_000_000);
    let principals = ["td/ns/a/sa/b", "*"].map(str::to_owned).to_vec();
    assert_eq!(config.debug_header, Some(DebugHeader { name: "x-authz".to_owned(), principals }));
    let default = with(r#""combining":"deny-overrides""#);
    assert_eq!(
        (default.decision_log_rate, default.filter_state, default.debug_header),
        (10, StoredDecisions::Notable, None)
    );
}

#[test]
fn the_hash_is_that_of_what_the_configuration_says() {
    let hash = |text: &str| read(text).hash;
    let one = hash(r#"{"policies":[],"trustDomain":"a","rootNamespace":"b"}"#);
    assert_eq!(hash(r#" {"rootNamespace" : "b", "policies":[], "trustDomain":"a"}"#), one);
    for other in [r#"{"policies":[]}"#, r#"{"policies":[],"trustDomain":"b","rootNamespace":"a"}"#] {
        assert_ne!(hash(other), one, "{other}");
    }
    let q = POLICY.replace("\"p\"", "\"q\"");
    let workload = r#""workload":{"labels":{}},"allowNoneApplies":true"#;
    let both = hash(&format!(r#"{{"policies":[{POLICY},{q}],{workload}}}"#));
    assert_eq!(hash(&format!(r#"{{{workload},"policies":[{q},{POLICY}]}}"#)), both, "in any order");
    assert_ne!(hash(&format!(r#"{{"policies":[{POLICY}],{workload}}}"#)), both);
    let node = from_json(format!(r#"{{"policies":[{POLICY},{q}],{workload}}}"#).as_bytes()).unwrap();
    assert_eq!(read_on(&encode(&node), &NodeMetadata::in_namespace("default")).hash, both, "as a Struct");
    assert!(both < 1 << 48);
}

#[test]
fn the_response_to_a_refused_request() {
    let config = with(r#""denyResponse":{"status":404,"body":"","headers":{"x-why":"policy","x-empty":""}}"#);
    let headers = labels(&[("x-why", "policy"), ("x-empty", "")]).to_vec();
    assert_eq!(config.deny_response, DenyResponse { status: 404, body: String::new(), headers });
    for status in [400, 499, 500, 599] {
        assert_eq!(with(&format!(r#""denyResponse":{{"status":{status}}}"#)).deny_response.status, status);
    }
    assert_eq!(with(r#""denyResponse":{}"#).deny_response, DenyResponse::default());
}

/// Encodes a `google.protobuf.Struct` by hand. Each part follows its tag and its length.
pub fn encode(node: &Node) -> Vec<u8> {
    let Value::Map(entries) = &node.value else { panic!("a Struct is an object") };
    let entry = |(key, node): &(String, Node)| bytes(1, &[bytes(1, key.as_bytes()), bytes(2, &value(node))].concat());
    entries.iter().flat_map(entry).collect()
}

fn value(node: &Node) -> Vec<u8> {
    match &node.value {
        Value::Null => vec![0x08, 0],
        Value::Number(number) => [&[0x11][..], &number.to_le_bytes()].concat(),
        Value::String(text) => bytes(3, text.as_bytes()),
        Value::Bool(flag) => vec![0x20, u8::from(*flag)],
        Value::Map(_) => bytes(5, &encode(node)),
        Value::List(items) => bytes(6, &items.iter().flat_map(|item| bytes(1, &value(item))).collect::<Vec<_>>()),
    }
}

fn bytes(field: u8, content: &[u8]) -> Vec<u8> {
    let mut message = vec![field << 3 | 2];
    let mut length = content.len();
    while length >= 0x80 {
        message.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    message.push(u8::try_from(length).unwrap());
    message.extend(content);
    message
}

#[test]
fn a_struct_means_the_same_as_json() {
    let text = format!(
        r#"{{"policies":[{POLICY}],"workload":{{"namespace":"shop","labels":{{"app":"a"}}}},"trustDomain":"td",
            "gateway":{{"name":"g","waypoint":true}},"allowNoneApplies":true,"denyResponse":{{"status":404,"body":"é"}},"decisionLog":"all"}}"#
    );
    let node = from_json(text.as_bytes()).unwrap();
    let encoded = encode(&node);
    assert_eq!(from_struct(&encoded).unwrap(), node);
    let (json, message) = (read(&text), read_on(&encoded, &NodeMetadata::in_namespace("default")));
    assert_eq!(format!("{json:?}"), format!("{message:?}"));
}

#[test]
fn a_struct_keeps_every_type() {
    let node =
        from_json(br#"{"a":null,"b":true,"c":false,"d":1.5,"e":"","f":[],"g":{},"h":[[null,"x"],{"y":-1}]}"#).unwrap();
    assert_eq!(from_struct(&encode(&node)).unwrap(), node);
    assert_eq!(from_struct(b"").unwrap(), Value::Map(Vec::new()).into());
}

#[test]
fn json_may_begin_with_white_space() {
    for text in ["\n{\"policies\":[]}", " \t\r\n{\"policies\":[]}\n\n", "\n\n\n{\"policies\":[]}"] {
        assert_eq!(read(text).policies, []);
    }
}

#[test]
fn policies_that_do_not_apply_are_accepted_where_that_is_meant() {
    let elsewhere = POLICY.replace("\"name\":\"p\"", "\"name\":\"p\",\"namespace\":\"other\"");
    let config = read(&format!(r#"{{"policies":[{elsewhere}],"workload":{{"labels":{{}}}},"allowNoneApplies":true}}"#));
    assert_eq!(config.policies.len(), 1);
    assert!(read(r#"{"policies":[]}"#).policies.is_empty(), "no policy is given");
}

#[test]
fn what_an_invalid_configuration_does_is_read_whatever_else_is_in_it() {
    let deny = r#""onInvalid":"deny""#;
    for text in [
        format!("{{{deny}}}"),
        format!(r#"{{"policies":[{{"spec":5}}],{deny}}}"#),
        format!(r#"{{"zzz":[[{{}}]],"policies":{{}},{deny},"x":1}}"#),
        format!("{{{deny}"),
        format!(r#"{{{deny},"policies":[{{"a"#),
        format!("{{{deny},{deny}}}"),
        format!(r#"{{{deny},"onInvalid2":7}}"#),
    ] {
        assert_eq!(OnInvalid::read(text.as_bytes()), OnInvalid::Deny, "{text}");
    }
    for text in [
        String::new(),
        "{}".to_owned(),
        "null".to_owned(),
        format!("[{deny}]"),
        format!(r#"{{"inner":{{{deny}}}}}"#),
        format!(r#"{{{deny},"onInvalid":"fail"}}"#),
        r#"{"onInvalid":"fail"}"#.to_owned(),
        r#"{"onInvalid":"Deny"}"#.to_owned(),
        r#"{"onInvalid":true}"#.to_owned(),
        format!(r#"{{"policies":[{{]],{deny}}}"#),
    ] {
        assert_eq!(OnInvalid::read(text.as_bytes()), OnInvalid::Fail, "{text}");
    }
    let in_struct = |text: &str| OnInvalid::read(&encode(&from_json(text.as_bytes()).unwrap()));
    assert_eq!(in_struct(&format!(r#"{{"policies":[7],{deny}}}"#)), OnInvalid::Deny);
    assert_eq!(in_struct(r#"{"policies":[7],"onInvalid":"fail"}"#), OnInvalid::Fail);
    assert_eq!(in_struct(r#"{"policies":[{"onInvalid":"deny"}]}"#), OnInvalid::Fail);
}

#[test]
fn what_happens_to_outgoing_requests_is_read_whatever_else_is_in_a_configuration() {
    let pass = r#""outgoing":"pass""#;
    for text in [
        format!("{{{pass}}}"),
        format!(r#"{{"policies":[{{"spec":5}}],{pass}}}"#),
        format!(r#"{{{pass},"policies":[{{"a"#),
        format!("{{{pass},{pass}}}"),
    ] {
        assert_eq!(Outgoing::read(text.as_bytes()), Outgoing::Pass, "{text}");
    }
    for text in [
        String::new(),
        "{}".to_owned(),
        format!(r#"{{"policies":[{{{pass}}}]}}"#),
        format!(r#"{{{pass},"outgoing":"decide"}}"#),
        r#"{"outgoing":"Pass"}"#.to_owned(),
        r#"{"outgoing":true}"#.to_owned(),
        format!(r#"{{"policies":[{{]],{pass}}}"#),
    ] {
        assert_eq!(Outgoing::read(text.as_bytes()), Outgoing::Decide, "{text}");
    }
    assert_eq!(read(&format!(r#"{{"policies":[],{pass}}}"#)).outgoing, Outgoing::Pass);
    assert_eq!(read(r#"{"policies":[]}"#).outgoing, Outgoing::Decide);
}

#[test]
fn only_a_sidecar_and_an_outgoing_listener_are_taken_for_one() {
    let value = |bytes: &[u8]| Lookup::Value(bytes.to_vec());
    for (id, is_sidecar) in [
        (value(b"sidecar~10.0.0.1~a.b~b.svc.cluster.local"), true),
        (value(b"sidecar~"), true),
        (value(b"sidecar"), false),
        (value(b"router~10.0.0.1"), false),
        (value(b"waypoint~10.0.0.1"), false),
        (value(b"x-sidecar~"), false),
        (value(b""), false),
        (Lookup::Absent, false),
        (Lookup::Unreadable, false),
    ] {
        assert_eq!(direction::is_sidecar(&id), is_sidecar, "{id:?}");
    }
    for (bytes, is_outbound) in [
        (value(&2_i64.to_le_bytes()), true),
        (value(&1_i64.to_le_bytes()), false),
        (value(&0_i64.to_le_bytes()), false),
        (value(&[2]), false),
        (value(&[2, 0, 0, 0, 0, 0, 0, 0, 0]), false),
        (value(b"OUTBOUND"), false),
        (value(b""), false),
        (Lookup::Absent, false),
        (Lookup::Unreadable, false),
    ] {
        assert_eq!(direction::is_outbound(&bytes), is_outbound, "{bytes:?}");
    }
}
