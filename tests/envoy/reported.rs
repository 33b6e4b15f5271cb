//! Configurations with which people got past the filter while nothing was found, or that were found without a reason.

use serde_json::{Value, json};

use super::{
    COMPLETE, assert_finds, assert_tree_finds, filter, http_filters, listener, listeners, manager, route, tcp_proxy,
    tree, with,
};

pub fn chain(tree: &mut Value) -> &mut Value {
    &mut listeners(tree)[0]["filter_chains"][0]
}

fn common_tls(tree: &mut Value) -> &mut Value {
    chain(tree).pointer_mut("/transport_socket/typed_config/common_tls_context").unwrap()
}

fn clusters(tree: &mut Value) -> &mut Vec<Value> {
    tree["static_resources"]["clusters"].as_array_mut().unwrap()
}

fn to(cluster: &str) -> Value {
    json!({ "match": { "prefix": "/" }, "route": { "cluster": cluster } })
}

#[test]
fn a_list_with_one_item_can_be_the_item() {
    for place in ["listeners", "filter_chains", "filters", "http_filters", "virtual_hosts"] {
        let mut tree = tree();
        let mut open = vec![&mut tree];
        while let Some(value) = open.pop() {
            match value {
                Value::Object(fields) => {
                    if let Some(Value::Array(items)) =
                        fields.get_mut(place).filter(|list| list.as_array().is_some_and(|l| l.len() == 1))
                    {
                        let only = items.remove(0);
                        fields.insert(place.to_owned(), only);
                    }
                    open.extend(fields.values_mut());
                }
                Value::Array(items) => open.extend(items),
                _ => {}
            }
        }
        assert_finds(&tree.to_string(), &[]);
    }
    let single = |tree: &mut Value| {
        let mut side = listener(&to("application"));
        side["filter_chains"] = side["filter_chains"][0].take();
        side["filter_chains"]["filters"] = side["filter_chains"]["filters"][0].take();
        listeners(tree).push(side);
    };
    assert_tree_finds(single, &["ME002"]);
    assert_tree_finds(
        |tree| {
            manager(tree)["upgrade_configs"] =
                json!({ "upgrade_type": "websocket", "filters": filter("router.v3.Router", json!({})) })
        },
        &["ME003"],
    );
}

#[test]
fn what_envoy_reads_otherwise_is_an_error() {
    let twice = "merge_slashes: true\n          merge_slashes: false";
    let checked = assert_finds(&with("merge_slashes: true", twice), &["ME006", "ME018"]);
    assert!(checked.findings.iter().any(|finding| finding.to_string().contains("takes the last one")));
    let two_spellings = "merge_slashes: true\n          mergeSlashes: false";
    let checked = assert_finds(&with("merge_slashes: true", two_spellings), &["ME006", "ME018"]);
    let message = "mergeSlashes is merge_slashes in another spelling, and each start of Envoy can take another one";
    assert!(checked.findings.iter().any(|finding| finding.to_string().contains(message)));
    assert_finds(&format!("{COMPLETE}---\nadmin: {{}}\n"), &["ME018"]);
    assert_finds(&with("          merge_slashes: true", "          !ignore merge_slashes: true"), &["ME018"]);
}

#[test]
fn values_count_in_every_form_that_envoy_takes() {
    assert_tree_finds(|tree| http_filters(tree)[2]["disabled"] = json!("true"), &["ME003"]);
    assert_tree_finds(|tree| manager(tree)["merge_slashes"] = json!("true"), &[]);
    assert_tree_finds(|tree| manager(tree)["normalize_path"] = json!({ "value": true }), &[]);
    let policy = "/typed_config/config/failure_policy";
    for fail_open in [json!(3), json!("3"), json!("FAIL_OPEN"), json!("fail_open"), json!("Fail_Open")] {
        assert_tree_finds(|tree| *http_filters(tree)[2].pointer_mut(policy).unwrap() = fail_open, &["ME011"]);
    }
    for action in [json!(4), json!("4"), json!("unescape_and_forward")] {
        assert_tree_finds(|tree| manager(tree)["path_with_escaped_slashes_action"] = action, &[]);
    }
    assert_tree_finds(|tree| *http_filters(tree)[2].pointer_mut(policy).unwrap() = json!(2), &[]);
    let port = "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address/port_value";
    assert_tree_finds(
        |tree| {
            let mut again = clusters(tree)[0].clone();
            again["name"] = json!("again");
            *again.pointer_mut(port).unwrap() = json!("8080");
            clusters(tree).push(again);
            listeners(tree).push(listener(&to("again")));
        },
        &["ME002"],
    );
}

#[test]
fn secrets_say_whose_certificates_are_trusted() {
    let named = json!({ "name": "peers", "sds_config": { "ads": {} } });
    let with_secret = |context: Option<Value>| {
        let named = named.clone();
        move |tree: &mut Value| {
            common_tls(tree)["validation_context"].take();
            common_tls(tree)["validation_context_sds_secret_config"] = named;
            if let Some(context) = context {
                let secret = json!({ "name": "peers", "validation_context": context });
                tree["static_resources"]["secrets"] = json!([secret]);
            }
        }
    };
    assert_tree_finds(with_secret(Some(json!({ "trusted_ca": {} }))), &[]);
    assert_tree_finds(with_secret(Some(json!({}))), &["ME010"]);
    let untrusted = json!({ "trusted_ca": {}, "trust_chain_verification": "ACCEPT_UNTRUSTED" });
    assert_tree_finds(with_secret(Some(untrusted)), &["ME010"]);
    assert_tree_finds(with_secret(None), &["ME017 warning"]);
}

#[test]
fn a_tunnel_that_envoy_ends_is_not_decided_about() {
    let ends = json!([{ "upgrade_type": "CONNECT", "connect_config": {} }]);
    assert_tree_finds(|tree| route(tree)["route"]["upgrade_configs"] = ends, &["ME003"]);
    let forwards = json!([{ "upgrade_type": "CONNECT" }]);
    assert_tree_finds(|tree| route(tree)["route"]["upgrade_configs"] = forwards, &[]);
}

#[test]
fn the_filter_without_its_policies_is_no_protection() {
    let second = |config: Value| {
        move |tree: &mut Value| {
            let mut second = listeners(tree)[0].clone();
            second["name"] = json!("second");
            second["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"][2]["typed_config"]["config"]["configuration"]
                ["value"] = config;
            listeners(tree).push(second);
        }
    };
    assert_tree_finds(second(json!({ "policies": [] })), &["ME001 warning", "ME002"]);
    let other = json!({ "policies": [{
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": { "name": "other" }, "spec": {},
    }] });
    let checked = assert_tree_finds(second(other), &["ME002"]);
    assert!(checked.findings[0].diagnostic.message.contains("different policies"), "{:?}", checked.findings);
    let same = tree();
    let same = same.pointer("/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters/2/typed_config/config/configuration/value");
    assert_tree_finds(second(same.unwrap().clone()), &[]);
    // On the outgoing side of a sidecar, the filter lets everything pass.
    let outgoing = |tree: &mut Value| {
        tree["node"]["id"] = json!("sidecar~10.0.0.1~a.b~b.svc.cluster.local");
        let mut second = listeners(tree)[0].clone();
        second["traffic_direction"] = json!("OUTBOUND");
        second["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"][2]["typed_config"]["config"]["configuration"]
            ["value"]["outgoing"] = json!("pass");
        listeners(tree).push(second);
    };
    assert_tree_finds(outgoing, &["ME002"]);
    assert_tree_finds(
        |tree| {
            outgoing(tree);
            listeners(tree).remove(0);
        },
        &["ME001 warning"],
    );
}

#[test]
fn a_default_or_a_filter_that_envoy_may_not_call_is_no_protection() {
    let discovery = |tree: &mut Value, default: Value| {
        http_filters(tree)[2] = json!({
            "name": "mesh_authz",
            "config_discovery": { "config_source": { "ads": {} }, "default_config": default },
        });
    };
    let default = http_filters(&mut tree())[2]["typed_config"].clone();
    assert_tree_finds(|tree| discovery(tree, default), &["ME003", "ME017 warning"]);
    let restricted = |names: &[&str]| {
        let allowed: serde_json::Map<_, _> = names.iter().map(|name| ((*name).to_owned(), json!({}))).collect();
        move |tree: &mut Value| {
            http_filters(tree)[2]["typed_config"]["config"]["capability_restriction_config"] =
                json!({ "allowed_capabilities": allowed });
        }
    };
    assert_tree_finds(restricted(&["proxy_on_configure", "proxy_on_context_create"]), &["ME003"]);
    let decides = ["proxy_on_configure", "proxy_on_context_create", "proxy_on_request_headers"];
    assert_tree_finds(restricted(&decides), &["ME003 warning"]);
    let asks = ["proxy_on_tick", "proxy_set_effective_context"];
    assert_tree_finds(restricted(&[&decides[..], &asks].concat()), &[]);
}

#[test]
fn clusters_that_a_client_chooses_lead_anywhere() {
    let dynamic =
        json!({ "typed_config": { "@type": "x/envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig" } });
    for (cluster, expected) in [
        (json!({ "name": "c", "cluster_type": dynamic }), "ME002"),
        (
            json!({ "name": "c", "type": "ORIGINAL_DST", "original_dst_lb_config": { "use_http_header": true } }),
            "ME002",
        ),
        (json!({ "name": "c", "type": "ORIGINAL_DST" }), "ME002 warning"),
        (json!({ "name": "c", "type": "EDS" }), "ME017 warning"),
    ] {
        assert_tree_finds(
            |tree| {
                clusters(tree).push(cluster);
                listeners(tree).push(listener(&to("c")));
            },
            &[expected],
        );
    }
    // What another cluster of the same listener leads to does not make it harmless.
    for members in [["chosen", "original"], ["original", "chosen"]] {
        let aggregate = json!({
            "typed_config": { "@type": "x/envoy.extensions.clusters.aggregate.v3.ClusterConfig", "clusters": members },
        });
        assert_tree_finds(
            |tree| {
                clusters(tree).push(json!({ "name": "chosen", "cluster_type": dynamic }));
                clusters(tree).push(json!({ "name": "original", "type": "ORIGINAL_DST" }));
                clusters(tree).push(json!({ "name": "both", "cluster_type": aggregate }));
                listeners(tree).push(listener(&to("both")));
            },
            &["ME002"],
        );
    }
    let by_header = json!({ "match": {}, "route": { "cluster_header": "x-cluster" } });
    assert_tree_finds(|tree| listeners(tree).push(listener(&by_header)), &["ME002"]);
    // Behind the filter, the request chooses: it may be the other chain's cluster.
    assert_tree_finds(
        |tree| {
            *route(tree) = by_header.clone();
            listeners(tree).push(listener(&to("application")));
        },
        &["ME002 warning"],
    );
    let sni = json!({ "typed_config": { "@type": "x/envoy.extensions.filters.network.sni_cluster.v3.SniCluster" } });
    assert_tree_finds(
        |tree| {
            let mut chain = tcp_proxy(json!({ "cluster": "elsewhere" }));
            chain["filters"].as_array_mut().unwrap().insert(0, sni);
            listeners(tree).push(json!({ "name": "sni", "filter_chains": [chain] }));
        },
        &["ME002"],
    );
    let composite = json!({ "typed_config": { "@type": "x/envoy.extensions.clusters.composite.v3.ClusterConfig", "clusters": [{ "name": "application" }] } });
    assert_tree_finds(
        |tree| {
            clusters(tree).push(json!({ "name": "c", "cluster_type": composite }));
            listeners(tree).push(listener(&to("c")));
        },
        &["ME002"],
    );
}

fn endpoint(name: &str, address: &Value) -> Value {
    json!({ "name": name, "load_assignment": { "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address } }] }] } })
}

#[test]
fn a_way_through_another_listener_of_the_same_envoy_is_a_way() {
    let socket = json!({ "socket_address": { "address": "127.0.0.1", "port_value": 7000 } });
    // The filter decides, and then a second listener leads on. Whoever reaches that one goes around the filter.
    assert_tree_finds(
        |tree| {
            *route(tree) = to("hop");
            clusters(tree).push(endpoint("hop", &socket));
            let mut second = listener(&to("application"));
            second["address"] = socket.clone();
            listeners(tree).push(second);
        },
        &["ME002"],
    );
    let internal = json!({ "envoy_internal_address": { "server_listener_name": "inner" } });
    let with_inner = |tree: &mut Value| {
        clusters(tree).push(endpoint("hop", &internal));
        let mut inner = listener(&to("application"));
        inner["name"] = json!("inner");
        inner["internal_listener"] = json!({});
        listeners(tree).push(inner);
    };
    // Only the chain with the filter leads to the internal listener.
    assert_tree_finds(
        |tree| {
            *route(tree) = to("hop");
            with_inner(tree);
        },
        &[],
    );
    let open = |tree: &mut Value| {
        with_inner(tree);
        listeners(tree).push(listener(&to("hop")));
    };
    assert_tree_finds(open, &["ME002"]);
}

#[test]
fn the_same_address_in_other_words_is_the_same() {
    for address in ["0.0.0.0", "LOCALHOST", "localhost.", "::1", "::ffff:127.0.0.1"] {
        let socket = json!({ "socket_address": { "address": address, "port_value": 8080 } });
        assert_tree_finds(
            |tree| {
                clusters(tree).push(endpoint("again", &socket));
                listeners(tree).push(listener(&to("again")));
            },
            &["ME002"],
        );
    }
}

#[test]
fn routes_that_change_the_request_after_the_decision_are_found() {
    let rewrite = |field: &str, value: Value| {
        let field = field.to_owned();
        move |tree: &mut Value| route(tree)["route"][field] = value
    };
    assert_tree_finds(rewrite("prefix_rewrite", json!("/")), &["ME019 warning"]);
    assert_tree_finds(|tree| *route(tree) = json!({ "match": {}, "redirect": { "prefix_rewrite": "/new" } }), &[]);
    assert_tree_finds(rewrite("host_rewrite_literal", json!("a")), &["ME019 warning"]);
    assert_tree_finds(rewrite("path_rewrite", json!("%REQ(x-path)%")), &["ME019"]);
    assert_tree_finds(rewrite("host_rewrite_header", json!("x-host")), &["ME019"]);
    assert_tree_finds(rewrite("host_rewrite_path_regex", json!({})), &["ME019"]);
    let add = |key: &str, value: &str| {
        let added = json!([{ "header": { "key": key, "value": value } }]);
        move |tree: &mut Value| route(tree)["request_headers_to_add"] = added
    };
    assert_tree_finds(add("X-Role", "%REQ(x-wish)%"), &["ME019"]);
    assert_tree_finds(add("x-role", "guest"), &["ME019 warning"]);
    assert_tree_finds(add("x-trace", "%REQ(x-wish)%"), &[]);
}

#[test]
fn an_address_that_somebody_sends_is_found() {
    let detection = |name: &str| {
        let extension =
            json!([{ "typed_config": { "@type": format!("x/envoy.extensions.http.original_ip_detection.{name}") } }]);
        move |tree: &mut Value| manager(tree)["original_ip_detection_extensions"] = extension
    };
    assert_tree_finds(detection("custom_header.v3.CustomHeaderConfig"), &["ME009"]);
    assert_tree_finds(detection("xff.v3.XffConfig"), &["ME009 warning"]);
    // Without the setting, the hops count one entry more, which a client writes.
    assert_tree_finds(
        |tree| {
            manager(tree)["use_remote_address"] = json!(false);
            manager(tree)["xff_num_trusted_hops"] = json!(1);
        },
        &["ME009"],
    );
    assert_tree_finds(|tree| chain(tree)["use_proxy_proto"] = json!(true), &["ME009 warning"]);
    let proxy =
        json!({ "typed_config": { "@type": "x/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol" } });
    assert_tree_finds(
        |tree| listeners(tree)[0]["listener_filters"].as_array_mut().unwrap().push(proxy),
        &["ME009 warning"],
    );
}

#[test]
fn a_runtime_that_undoes_a_setting_is_found() {
    let layer = |static_layer: Value| {
        move |tree: &mut Value| {
            tree["layered_runtime"] = json!({ "layers": [{ "name": "a", "static_layer": static_layer }] })
        }
    };
    let key = "http_connection_manager.path_with_escaped_slashes_action_enabled";
    assert_tree_finds(layer(json!({ key: 0 })), &["ME006"]);
    assert_tree_finds(
        layer(json!({ "http_connection_manager": { "path_with_escaped_slashes_action_enabled": { "numerator": 0 } } })),
        &["ME006"],
    );
    assert_tree_finds(layer(json!({ key: 100 })), &[]);
    assert_tree_finds(layer(json!({ "re2": { "max_program_size": { "error_level": 5 } } })), &[]);
}

#[test]
fn tokens_that_are_not_verified_for_every_request_are_found() {
    let rules = |rules: Value| move |tree: &mut Value| http_filters(tree)[1]["typed_config"]["rules"] = rules;
    let requires = json!({ "provider_name": "accounts" });
    assert_tree_finds(rules(json!([{ "match": { "prefix": "/api" }, "requires": requires }])), &["ME012"]);
    let public = json!([{ "match": { "path": "/healthz" } }, { "match": { "prefix": "/" }, "requires": requires }]);
    assert_tree_finds(rules(public), &["ME012"]);
    let both = json!({ "requires_all": { "requirements": [requires, requires] } });
    assert_tree_finds(rules(json!([{ "match": { "prefix": "/" }, "requires": both }])), &["ME012"]);
    // Istio's form: the first token that is there decides.
    let istio = json!({ "requires_any": { "requirements": [requires, both] } });
    assert_tree_finds(rules(json!([{ "match": { "prefix": "/" }, "requires": istio }])), &[]);
    let other_order = json!({ "requires_any": { "requirements": [both, requires] } });
    assert_tree_finds(rules(json!([{ "match": { "prefix": "/" }, "requires": other_order }])), &["ME012"]);
    let any = json!({ "requires_any": { "requirements": [requires, { "allow_missing": {} }] } });
    assert_tree_finds(rules(json!([{ "match": { "prefix": "/" }, "requires": any }])), &[]);
    // A second filter stores its token in the same place. One that is disabled does not.
    let second = |tree: &mut Value| {
        let second = http_filters(tree)[1].clone();
        http_filters(tree).insert(1, second);
    };
    assert_tree_finds(second, &["ME012"]);
    assert_tree_finds(
        |tree| {
            second(tree);
            http_filters(tree)[1]["disabled"] = json!(true);
        },
        &[],
    );
    let nested = json!({ "envoy.filters.http.jwt_authn": { "config": { "disabled": true } } });
    assert_tree_finds(|tree| route(tree)["typed_per_filter_config"] = nested, &["ME012"]);
}

#[test]
fn only_the_value_that_the_filter_wants_counts() {
    let stored = |tree: &mut Value, value: Value| {
        http_filters(tree)[0]["typed_config"]["on_request_headers"].as_array_mut().unwrap().push(value);
    };
    let text = |operator: &str| json!({ "text_format_source": { "inline_string": operator } });
    let overwritten = json!({ "object_key": "mesh_authz.source_ip", "factory_key": "envoy.string", "format_string": text("%REQ(x-ip)%") });
    assert_tree_finds(|tree| stored(tree, overwritten), &["ME013"]);
    let factory = "/typed_config/on_request_headers/1/factory_key";
    assert_tree_finds(|tree| drop(http_filters(tree)[0].pointer_mut(factory).unwrap().take()), &["ME014"]);
}

#[test]
fn what_is_off_for_a_route_without_an_application_is_no_finding() {
    let off = json!({ "mesh_authz": { "disabled": true } });
    let health = json!({ "match": { "path": "/healthz" }, "direct_response": { "status": 200 }, "typed_per_filter_config": off });
    let routes = |tree: &mut Value, route: Value| {
        manager(tree)
            .pointer_mut("/route_config/virtual_hosts/0/routes")
            .unwrap()
            .as_array_mut()
            .unwrap()
            .insert(0, route);
    };
    assert_tree_finds(|tree| routes(tree, health), &[]);
    let enabled = |tree: &mut Value| {
        http_filters(tree)[2]["disabled"] = json!(true);
        manager(tree)["route_config"]["typed_per_filter_config"] = json!({ "mesh_authz": {} });
    };
    assert_tree_finds(enabled, &[]);
    assert_tree_finds(
        |tree| {
            enabled(tree);
            listeners(tree).push(listener(&to("application")));
        },
        &["ME002"],
    );
}

#[test]
fn scopes_and_discovered_parts_are_read() {
    let off = json!({ "mesh_authz": { "disabled": true } });
    let mut b = to("application");
    b["typed_per_filter_config"] = off;
    let configuration = |name: &str, route: Value| json!({ "@type": "x/envoy.config.route.v3.RouteConfiguration", "name": name, "virtual_hosts": [{ "domains": ["*"], "routes": [route] }] });
    let scope = |routes: &str| json!({ "@type": "x/envoy.config.route.v3.ScopedRouteConfiguration", "name": routes, "route_configuration_name": routes });
    assert_tree_finds(
        |tree| {
            manager(tree)["route_config"].take();
            manager(tree)["scoped_routes"] = json!({ "scoped_rds": {} });
            tree["scopes"] =
                json!([scope("a"), scope("b"), configuration("a", to("application")), configuration("b", b)]);
        },
        &["ME003"],
    );
    // A network filter and filter chains can come by discovery, too.
    let proxy = tcp_proxy(json!({ "cluster": "application" }))["filters"][0]["typed_config"].clone();
    let discovered = json!({ "name": "tcp", "config_discovery": { "type_urls": [] } });
    let with_extension = |extension: Option<Value>| {
        let discovered = discovered.clone();
        move |tree: &mut Value| {
            listeners(tree).push(json!({ "name": "second", "filter_chains": [{ "filters": [discovered] }] }));
            if let Some(config) = extension {
                tree["found"] = json!([{ "@type": "x/envoy.config.core.v3.TypedExtensionConfig", "name": "tcp", "typed_config": config }]);
            }
        }
    };
    assert_tree_finds(with_extension(Some(proxy)), &["ME002"]);
    assert_tree_finds(with_extension(None), &["ME017 warning"]);
    let mutation = super::mutation(&json!({ "remove": "x-role" }))["typed_config"].clone();
    assert_tree_finds(
        |tree| {
            http_filters(tree).insert(3, json!({ "name": "late", "config_discovery": { "type_urls": [] } }));
            tree["found"] = json!([{ "@type": "x/envoy.config.core.v3.TypedExtensionConfig", "name": "late", "typed_config": mutation }]);
        },
        &["ME004"],
    );
    let udp = json!({ "name": "udp", "typed_config": { "@type": "x/envoy.extensions.filters.udp.udp_proxy.v3.UdpProxyConfig", "cluster": "application" } });
    assert_tree_finds(|tree| listeners(tree).push(json!({ "name": "udp", "listener_filters": [udp] })), &["ME002"]);
}

#[test]
fn names_of_values_count_in_any_case_and_numbers_as_text() {
    let context = |value: &str| {
        let value = json!(value);
        move |tree: &mut Value| common_tls(tree)["validation_context"]["trust_chain_verification"] = value
    };
    assert_tree_finds(context("accept_untrusted"), &["ME010"]);
    assert_tree_finds(context("1"), &["ME010"]);
    assert_tree_finds(context("verify_trust_chain"), &[]);
    assert_tree_finds(|tree| manager(tree)["path_with_escaped_slashes_action"] = json!("unescape_and_forward"), &[]);
    // Envoy does not look at this field.
    assert_tree_finds(
        |tree| common_tls(tree)["validation_context"] = json!({ "ca_certificate_provider_instance": {} }),
        &["ME010"],
    );
}

#[test]
fn names_that_a_user_chooses_are_no_fields() {
    let off = json!({ "mesh_authz": { "disabled": true } });
    let by_path = |key: &str, mut route: Value| {
        route["typed_per_filter_config"] = off.clone();
        let on_match = json!({ key: { "action": { "typed_config": route } } });
        json!({ "matcher_tree": { "exact_match_map": { "map": on_match } } })
    };
    for key in ["a", "redirect", "direct_response", "access_log", "typed_per_filter_config"] {
        let matcher = by_path(key, to("application"));
        assert_tree_finds(
            |tree| manager(tree).pointer_mut("/route_config/virtual_hosts/0").unwrap()["matcher"] = matcher,
            &["ME003"],
        );
    }
    assert_tree_finds(|tree| tree["node"]["metadata"]["LABELS"] = json!({ "appName": "a", "app_name": "b" }), &[]);
}

#[test]
fn a_configuration_for_a_route_can_be_wrapped() {
    let wrapped = |name: &str, config: Value| {
        let config = json!({ "@type": "x/envoy.config.route.v3.FilterConfig", "config": config });
        json!({ name: config })
    };
    let per_route = super::mutation(&json!({ "remove": "x-role" }))["typed_config"].clone();
    let idle = filter("header_mutation.v3.HeaderMutation", json!({}));
    assert_tree_finds(|tree| http_filters(tree).insert(3, idle.clone()), &[]);
    assert_tree_finds(
        |tree| {
            http_filters(tree).insert(3, idle);
            route(tree)["typed_per_filter_config"] = wrapped("header_mutation.v3.HeaderMutation", per_route);
        },
        &["ME004"],
    );
    let forward = json!({ "@type": "x/envoy.extensions.filters.http.dynamic_forward_proxy.v3.PerRouteConfig", "host_rewrite_header": "x-host" });
    assert_tree_finds(|tree| route(tree)["typed_per_filter_config"] = wrapped("forward", forward), &["ME019"]);
    let off = json!({ "@type": "x/envoy.extensions.filters.http.ext_proc.v3.ExtProcPerRoute", "disabled": true });
    let skipping =
        filter("ext_proc.v3.ExternalProcessor", json!({ "processing_mode": { "request_header_mode": "skip" } }));
    assert_tree_finds(
        |tree| {
            http_filters(tree).insert(3, skipping);
            route(tree)["typed_per_filter_config"] = json!({ "ext_proc.v3.ExternalProcessor": off });
        },
        &[],
    );
}

#[test]
fn filter_state_from_elsewhere_counts_too() {
    let text = |operator: &str| json!({ "text_format_source": { "inline_string": operator } });
    let value = json!({ "object_key": "mesh_authz.source_ip", "factory_key": "envoy.string", "format_string": text("%REQ(x-ip)%") });
    let of_route = json!({ "envoy.filters.http.set_filter_state": { "on_request_headers": [value] } });
    assert_tree_finds(|tree| route(tree)["typed_per_filter_config"] = of_route, &["ME013"]);
    let of_connection = json!({ "typed_config": { "@type": "x/envoy.extensions.filters.network.set_filter_state.v3.Config", "on_new_connection": [value] } });
    assert_tree_finds(|tree| chain(tree)["filters"].as_array_mut().unwrap().insert(0, of_connection), &["ME013"]);
    let old = json!({ "text_format": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%" });
    let format = "/typed_config/on_request_headers/0/format_string";
    assert_tree_finds(|tree| *http_filters(tree)[0].pointer_mut(format).unwrap() = old, &[]);
}

#[test]
fn several_configurations_of_one_name_all_count() {
    let off = json!({ "mesh_authz": { "disabled": true } });
    let configuration = |route: &Value| json!({ "@type": "x/envoy.config.route.v3.RouteConfiguration", "name": "r", "virtual_hosts": [{ "domains": ["*"], "routes": [route] }] });
    let mut without = to("application");
    without["typed_per_filter_config"] = off;
    for found in [
        [configuration(&without), configuration(&to("application"))],
        [configuration(&to("application")), configuration(&without)],
    ] {
        assert_tree_finds(
            |tree| {
                manager(tree)["route_config"].take();
                manager(tree)["rds"] = json!({ "route_config_name": "r" });
                tree["found"] = json!(found);
            },
            &["ME003"],
        );
    }
    let extension = |config: Value| json!({ "@type": "x/envoy.config.core.v3.TypedExtensionConfig", "name": "mesh_authz", "typed_config": config });
    let mut tree = tree();
    let one = http_filters(&mut tree)[2]["typed_config"].take();
    let mut other = one.clone();
    other["config"]["name"] = json!("another");
    http_filters(&mut tree)[2] = json!({ "name": "mesh_authz", "config_discovery": {} });
    tree["found"] = json!([extension(one.clone()), extension(one.clone())]);
    assert_finds(&tree.to_string(), &[]);
    tree["found"] = json!([extension(one), extension(other)]);
    assert_finds(&tree.to_string(), &["ME018"]);
}

#[test]
fn what_is_behind_the_decision_in_another_listener_counts() {
    let internal = json!({ "envoy_internal_address": { "server_listener_name": "inner" } });
    let with_inner = |inner_route: Value, filters: Vec<Value>| {
        let internal = internal.clone();
        move |tree: &mut Value| {
            *route(tree) = to("hop");
            clusters(tree).push(endpoint("hop", &internal));
            let mut inner = listener(&inner_route);
            inner["name"] = json!("inner");
            inner["internal_listener"] = json!({});
            let all = inner.pointer_mut("/filter_chains/0/filters/0/typed_config/http_filters").unwrap();
            for filter in filters {
                all.as_array_mut().unwrap().insert(0, filter);
            }
            listeners(tree).push(inner);
        }
    };
    assert_tree_finds(with_inner(to("application"), vec![]), &[]);
    assert_tree_finds(with_inner(to("application"), vec![filter("lua.v3.Lua", json!({}))]), &["ME004"]);
    let mut rewriting = to("application");
    rewriting["route"]["prefix_rewrite"] = json!("/");
    assert_tree_finds(with_inner(rewriting, vec![]), &["ME019 warning"]);
    let chosen = json!({ "match": {}, "route": { "cluster_header": "x" } });
    assert_tree_finds(
        |tree| {
            with_inner(chosen, vec![])(tree);
            listeners(tree).push(listener(&to("hop")));
        },
        &["ME002"],
    );
}

#[test]
fn requirements_and_claims_that_prove_nothing_are_found() {
    let config = |tree: &mut Value| http_filters(tree)[1]["typed_config"].clone();
    let with_config = |change: fn(&mut Value)| {
        move |tree: &mut Value| {
            let mut changed = config(tree);
            change(&mut changed);
            http_filters(tree)[1]["typed_config"] = changed;
        }
    };
    assert_tree_finds(
        with_config(|config| {
            config["requirement_map"] = json!({ "none": {}, "some": { "provider_name": "accounts" } });
            config["rules"] = json!([{ "match": { "prefix": "/" }, "requirement_name": "some" }]);
        }),
        &[],
    );
    assert_tree_finds(
        with_config(|config| {
            config["requirement_map"] = json!({ "none": {} });
            config["rules"] = json!([{ "match": { "prefix": "/" }, "requirement_name": "none" }]);
        }),
        &["ME012", "ME012"],
    );
    assert_tree_finds(with_config(|config| drop(config["providers"]["accounts"]["issuer"].take())), &["ME012"]);
    let of_route = json!({ "envoy.filters.http.jwt_authn": { "requirement_name": "none" } });
    assert_tree_finds(|tree| route(tree)["typed_per_filter_config"] = of_route, &["ME012"]);
    // It is off, and one route enables it. The others have no claims.
    assert_tree_finds(
        |tree| {
            http_filters(tree)[1]["disabled"] = json!(true);
            route(tree)["typed_per_filter_config"] = json!({ "envoy.filters.http.jwt_authn": {} });
        },
        &["ME012"],
    );
    let rule = json!({ "header": "x", "on_header_present": { "metadata_namespace": "envoy.filters.http.jwt_authn", "key": "payload" } });
    let writer = filter("header_to_metadata.v3.Config", json!({ "request_rules": [rule] }));
    assert_tree_finds(|tree| http_filters(tree).insert(0, writer), &["ME012"]);
}

#[test]
fn a_header_can_be_the_path_or_the_host() {
    let header = |name: &str| filter("basic_auth.v3.BasicAuth", json!({ "forward_username_header": name }));
    for (name, expected) in
        [(":path", vec!["ME004"]), ("Host", vec!["ME004"]), ("x-role", vec!["ME004"]), ("x-user", vec![])]
    {
        assert_tree_finds(|tree| http_filters(tree).insert(3, header(name)), &expected);
    }
    // A client sends the header itself where the filter does not run.
    let off = json!({ "basic_auth.v3.BasicAuth": { "disabled": true } });
    for (name, expected) in [("x-role", vec!["ME004"]), ("x-user", vec![])] {
        assert_tree_finds(
            |tree| {
                http_filters(tree).insert(0, header(name));
                route(tree)["typed_per_filter_config"] = off.clone();
            },
            &expected,
        );
    }
    let of_route = json!({ "ext_authz.v3.ExtAuthz": { "check_settings": super::upstream_headers("x-role") } });
    assert_tree_finds(
        |tree| {
            http_filters(tree).insert(3, filter("ext_authz.v3.ExtAuthz", json!({ "http_service": {} })));
            route(tree)["typed_per_filter_config"] = of_route;
        },
        &["ME004"],
    );
}

#[test]
fn policies_that_are_only_tried_out_are_no_protection() {
    let tried = with(
        "                        name: everything\n",
        "                        name: everything\n                        annotations: { istio.io/dry-run: \"true\" }\n",
    );
    assert_finds(&tried, &["ME001 warning"]);
}

#[test]
fn parts_of_the_runtime_from_elsewhere_are_a_warning() {
    let layers = |layer: Value| move |tree: &mut Value| tree["layered_runtime"] = json!({ "layers": [layer] });
    assert_tree_finds(layers(json!({ "name": "a", "disk_layer": { "symlink_root": "/x" } })), &["ME017 warning"]);
    assert_tree_finds(layers(json!({ "name": "a", "rtds_layer": {} })), &["ME017 warning"]);
    assert_tree_finds(layers(json!({ "name": "a", "admin_layer": {} })), &[]);
}

/// The work grows with the configuration, and not with its square: this would take minutes.
#[test]
fn many_listeners_and_clusters_are_no_trouble() {
    let mut large = tree();
    for number in 0..2_000 {
        let name = format!("c{number}");
        let socket = json!({ "socket_address": { "address": "10.0.0.1", "port_value": number } });
        clusters(&mut large).push(endpoint(&name, &socket));
    }
    let routes: Vec<_> = (0..2_000).map(|number| to(&format!("c{number}"))).collect();
    let all = json!({ "@type": "x/envoy.config.route.v3.RouteConfiguration", "name": "all", "virtual_hosts": [{ "domains": ["*"], "routes": routes }] });
    large["found"] = json!([all]);
    for number in 0..500 {
        let mut listener = listener(&to("elsewhere"));
        listener["name"] = json!(format!("l{number}"));
        let manager = listener.pointer_mut("/filter_chains/0/filters/0/typed_config").unwrap();
        manager["route_config"].take();
        manager["rds"] = json!({ "route_config_name": "all" });
        listeners(&mut large).push(listener);
    }
    assert_finds(&large.to_string(), &[]);
}
