//! Gateways, of Istio's API and of the Gateway API.

use mesh_authz_istio::{Pod, Recorder, Role};
use serde_json::{Value, json};
use testbed::{Client, Request};

use crate::{
    place::{Place, eventually, status},
    plugin::{plugin_with, policy, service},
};

/// A gateway with port 8080 for every host, in front of an application without a sidecar.
pub struct Gateway {
    pub place: Place,
    pub pod: Pod,
    _upstream: Pod,
    _application: Recorder,
}

impl Gateway {
    fn with_upstream(place: Place, labels: &Value) -> Self {
        let upstream = place.pod("shop", Role::None);
        let application = upstream.serve(8080).unwrap();
        place.apply(&service("shop", &[("http", 8080)]).to_string());
        place.endpoints("shop", "http", 8080, &[upstream.ip()]);
        let pod = place.labelled_pod("gateway", Role::Router, labels.clone());
        Self { place, pod, _upstream: upstream, _application: application }
    }

    /// A gateway of Istio's API, which has these labels.
    pub fn labelled(labels: &Value) -> Self {
        let place = Place::new();
        let mut labels = labels.clone();
        // A Gateway selects pods in all namespaces.
        labels["place"] = json!(place.namespace);
        let gateway = Self::with_upstream(place, &labels);
        let namespace = &gateway.place.namespace;
        gateway.place.apply(
            &json!({ "apiVersion": "v1", "kind": "List", "items": [
                {
                    "apiVersion": "networking.istio.io/v1",
                    "kind": "Gateway",
                    "metadata": { "name": "public" },
                    "spec": {
                        "selector": labels,
                        "servers": [{ "port": { "number": 8080, "name": "http", "protocol": "HTTP" }, "hosts": ["*"] }],
                    },
                },
                {
                    "apiVersion": "networking.istio.io/v1",
                    "kind": "VirtualService",
                    "metadata": { "name": "shop" },
                    "spec": {
                        "hosts": ["*"],
                        "gateways": ["public"],
                        "http": [{ "route": [{ "destination": {
                            "host": format!("shop.{namespace}.svc.cluster.local"), "port": { "number": 8080 },
                        } }] }],
                    },
                },
            ]})
            .to_string(),
        );
        gateway.opens();
        gateway
    }

    /// A gateway of the Gateway API.
    pub fn named(name: &str) -> Self {
        let labels = json!({
            "gateway.networking.k8s.io/gateway-name": name,
            "gateway.istio.io/managed": "istio.io-gateway-controller",
        });
        let gateway = Self::with_upstream(Place::new(), &labels);
        let service_name = format!("{name}-istio");
        let mut own = service(&service_name, &[("http", 8080)]);
        own["spec"]["selector"] = json!({ "gateway.networking.k8s.io/gateway-name": name });
        own["metadata"]["labels"] = json!({ "gateway.networking.k8s.io/gateway-name": name });
        gateway.place.apply(&own.to_string());
        gateway.place.endpoints(&service_name, "http", 8080, &[gateway.pod.ip()]);
        gateway.place.apply(
            &json!({ "apiVersion": "v1", "kind": "List", "items": [
                {
                    "apiVersion": "gateway.networking.k8s.io/v1",
                    "kind": "Gateway",
                    "metadata": { "name": name },
                    "spec": {
                        "gatewayClassName": "istio",
                        "listeners": [{ "name": "http", "port": 8080, "protocol": "HTTP" }],
                    },
                },
                {
                    "apiVersion": "gateway.networking.k8s.io/v1",
                    "kind": "HTTPRoute",
                    "metadata": { "name": "shop" },
                    "spec": {
                        "parentRefs": [{ "name": name }],
                        "rules": [{ "backendRefs": [{ "name": "shop", "port": 8080 }] }],
                    },
                },
            ]})
            .to_string(),
        );
        gateway.opens();
        gateway
    }

    fn opens(&self) {
        eventually("the gateway is open", &[200; 3], || self.answers());
    }

    fn client(&self) -> Client {
        self.pod.client(8080, None)
    }

    /// What three requests get: to the shop, to its administration, and to the shop by another host.
    pub fn answers(&self) -> [u16; 3] {
        [("/", "shop.example"), ("/admin/users", "shop.example"), ("/", "other.example")]
            .map(|(path, host)| status(&self.client(), &Request::get(path).host(host)))
    }
}

fn no_admin() -> Value {
    json!([{ "to": [{ "operation": { "paths": ["/admin", "/admin/*"] } }] }])
}

#[test]
fn a_plugin_decides_on_a_gateway_of_the_gateway_api() {
    let gateway = Gateway::named("public");
    let place = &gateway.place;
    let mut denial = policy("no-admin", "", "DENY", no_admin());
    denial["metadata"]["namespace"] = json!(place.namespace);
    denial["spec"].as_object_mut().unwrap().remove("selector");
    let target = json!([{ "group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "public" }]);
    denial["spec"]["targetRefs"] = target.clone();
    let mut plugin = plugin_with("plugin", "", &json!({ "policies": [denial], "onInvalid": "deny" }));
    let spec = plugin["spec"].as_object_mut().unwrap();
    spec.remove("selector");
    spec.insert("targetRefs".into(), target);
    place.apply(&plugin.to_string());
    eventually("with the plugin", &[200, 403, 200], || gateway.answers());
}

#[test]
fn a_plugin_decides_on_a_gateway_with_any_labels() {
    let gateway = Gateway::labelled(&json!({ "app": "public-gw", "istio": "public-gw" }));
    let place = &gateway.place;
    let mut denial = policy("no-admin", "public-gw", "DENY", no_admin());
    denial["metadata"]["namespace"] = json!(place.namespace);
    let plugin = plugin_with("plugin", "public-gw", &json!({ "policies": [denial], "onInvalid": "deny" }));
    place.apply(&plugin.to_string());
    eventually("with the plugin", &[200, 403, 200], || gateway.answers());
}
