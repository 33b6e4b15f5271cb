//! What other filters talk to: authorizers, a processor, an application that redirects or fails. They are listeners
//! of the shared Envoy itself, on sockets in its directory.

use serde_json::{Value, json};
use testbed::bootstrap::{cluster, http_connection_manager, listener, route_to};

use super::{TO_ADMIN, http_filter, lua, typed};

/// Adds the services to the bootstrap of an Envoy in front of an application.
///
/// | cluster | does |
/// | --- | --- |
/// | `helper` | answers, see `helper()` |
/// | `copies`, `failing` | the same, with statistics of their own |
/// | `grpc-servers` | for `ext_authz` and `ext_proc`: replaces the path by `/admin`; for `ratelimit`: is over the limit |
/// | `rewriting` | the application behind a filter in the cluster that replaces the path by `/admin` |
pub fn add(bootstrap: &mut Value, application: std::net::SocketAddr) {
    let resources = &mut bootstrap["static_resources"];
    resources["listeners"] = json!([helper(), grpc_servers()]);
    resources["secrets"] =
        json!(["oauth-token", "oauth-hmac"].map(|name| {
            json!({ "name": name, "generic_secret": { "secret": { "inline_string": "of this test" } } })
        }));
    let mut rewriting = cluster("rewriting", application);
    let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    rewriting["typed_extension_protocol_options"][options]["http_filters"] = json!(upstream_filters());
    let clusters = resources["clusters"].as_array_mut().unwrap();
    clusters.extend(["helper", "copies", "failing"].map(|name| on_socket(name, "./helper.sock")));
    clusters.extend([on_socket("grpc-servers", "./grpc-servers.sock"), rewriting]);
}

/// Filters that run after the router, for a cluster or for the router itself.
pub fn upstream_filters() -> [Value; 2] {
    [lua(TO_ADMIN), http_filter("upstream_codec.v3.UpstreamCodec", json!({}))]
}

/// | request | answer |
/// | --- | --- |
/// | `/refuse` | 401 |
/// | `/fail` | 503 |
/// | `/to-admin` | a redirect to `http://other.example/admin` |
/// | `/to-data` | a redirect to `http://other.example/data` |
/// | any other | 200 with `x-role: admin` |
fn helper() -> Value {
    let answer =
        |path: &str, status: u16| json!({ "match": { "path": path }, "direct_response": { "status": status } });
    let redirect = |path: &str, to: &str| {
        let target = json!({ "host_redirect": "other.example", "path_redirect": to, "response_code": "FOUND" });
        json!({ "match": { "path": path }, "redirect": target })
    };
    let accepted = json!({
        "match": { "prefix": "/" },
        "direct_response": { "status": 200 },
        "response_headers_to_add": [{ "header": { "key": "x-role", "value": "admin" } }],
    });
    let routes = [
        answer("/refuse", 401),
        answer("/fail", 503),
        redirect("/to-admin", "/admin"),
        redirect("/to-data", "/data"),
        accepted,
    ];
    listener_on_socket("helper", "./helper.sock", http_connection_manager(&[], &routes))
}

/// The application answers a gRPC call with an empty message. Lua code puts the server's message in its place.
fn grpc_servers() -> Value {
    let answers = [
        ("/envoy.service.auth.v3.Authorization/Check", accepted_as_admin()),
        ("/envoy.service.ext_proc.v3.ExternalProcessor/Process", path_becomes_admin()),
        ("/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit", OVER_LIMIT.to_vec()),
    ];
    let answers = answers.map(|(path, message)| format!("['{path}'] = {}", lua_string(&grpc_message(&message))));
    let code = format!(
        "function envoy_on_request(request)
            request:streamInfo():dynamicMetadata():set('call', 'path', request:headers():get(':path'))
        end
        function envoy_on_response(response)
            local answers = {{ {} }}
            response:body():setBytes(answers[response:streamInfo():dynamicMetadata():get('call')['path']])
        end",
        answers.join(", ")
    );
    let filter = http_filter("lua.v3.Lua", json!({ "default_source_code": { "inline_string": code } }));
    let manager = http_connection_manager(&[filter], &[route_to("application")]);
    listener_on_socket("grpc-servers", "./grpc-servers.sock", manager)
}

/// `RateLimitResponse { overall_code: OVER_LIMIT }`
const OVER_LIMIT: [u8; 2] = [1 << 3, 2];

/// `ProcessingResponse { request_headers { response { header_mutation { set_headers {
///     header { key: ":path", raw_value: "/admin" }, append_action: OVERWRITE_IF_EXISTS_OR_ADD } } } } }`
fn path_becomes_admin() -> Vec<u8> {
    let option = [field(1, &[field(1, b":path"), field(3, b"/admin")].concat()), OVERWRITE.to_vec()].concat();
    field(1, &field(1, &field(2, &field(1, &option))))
}

/// `CheckResponse { status {}, ok_response { headers {
///     header { key: ":path", value: "/admin" }, append_action: OVERWRITE_IF_EXISTS_OR_ADD } } }`
fn accepted_as_admin() -> Vec<u8> {
    let option = [field(1, &[field(1, b":path"), field(2, b"/admin")].concat()), OVERWRITE.to_vec()].concat();
    [field(1, &[]), field(3, &field(2, &option))].concat()
}

/// The field `append_action` of a `HeaderValueOption`.
const OVERWRITE: [u8; 2] = [3 << 3, 2];

/// A field of a protobuf message that contains bytes or another message.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, u8::try_from(content.len()).unwrap()], content].concat()
}

fn grpc_message(content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    [&[0], &length[..], content].concat()
}

fn lua_string(bytes: &[u8]) -> String {
    let escaped: Vec<_> = bytes.iter().map(|byte| format!("\\{byte:03}")).collect();
    format!("\"{}\"", escaped.concat())
}

fn listener_on_socket(name: &str, path: &str, manager: Value) -> Value {
    let mut listener = listener(name, manager, None);
    listener["address"] = json!({ "pipe": { "path": path } });
    listener
}

/// A cluster with the listener on this socket. Envoy speaks HTTP/2 to it.
fn on_socket(name: &str, path: &str) -> Value {
    json!({
        "name": name,
        "type": "STATIC",
        "load_assignment": { "cluster_name": name, "endpoints": [{ "lb_endpoints": [{
            "endpoint": { "address": { "pipe": { "path": path } } },
        }] }] },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": typed("upstreams.http.v3.HttpProtocolOptions", json!({
                "explicit_http_config": { "http2_protocol_options": {} },
            })),
        },
    })
}
