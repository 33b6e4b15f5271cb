//! Updates of the configuration while Envoy serves requests.

#[cfg(target_os = "linux")]
use std::env;

use serde_json::{Value, json};
use testbed::Request;

use crate::shared::resources;
use crate::sidecar::{Blueprint, FRONTEND, PATIENCE, Sidecar, policy, to};

/// A plugin configuration that denies these paths.
pub fn deny(paths: &[&str]) -> Value {
    json!({ "policies": [policy("deny", "DENY", &[to(json!({ "paths": paths }))])] })
}

fn status(sidecar: &Sidecar, path: &str) -> u16 {
    sidecar.client(FRONTEND).send(&Request::get(path)).unwrap().status
}

/// The listener of the shipped sidecar, with this plugin configuration.
pub fn listener(plugin_config: &Value) -> Value {
    Blueprint::new(plugin_config).listener().clone()
}

#[test]
fn a_bad_update_is_rejected_and_the_old_policies_keep_deciding_until_a_good_one_comes() {
    let mut blueprint = Blueprint::new(&json!({})).with_listeners(&[listener(&deny(&["/old"]))]);
    blueprint.options.concurrency = 2;
    let sidecar = blueprint.start();
    let update = |config: &Value| {
        sidecar.envoy.write_file_atomically("lds.json", resources(&[listener(config)])).unwrap();
    };
    assert_eq!([status(&sidecar, "/old"), status(&sidecar, "/new")], [403, 200]);

    let mut bad = deny(&["/new"]);
    bad["policies"][0]["spec"]["rulez"] = json!([]);
    update(&bad);
    sidecar.envoy.wait_for_stat("listener_manager.lds.update_rejected", |count| count == 1, PATIENCE).unwrap();
    assert!(sidecar.filter_log().iter().any(|line| line.contains("spec.rulez: unknown field, did you mean rules?")));
    for _ in 0..3 {
        assert_eq!([status(&sidecar, "/old"), status(&sidecar, "/new")], [403, 200]);
    }

    update(&deny(&["/new"]));
    sidecar.envoy.wait_for_stat("listener_manager.lds.update_success", |count| count == 2, PATIENCE).unwrap();
    sidecar.envoy.wait_for_stat("listener_manager.total_listeners_warming", |count| count == 0, PATIENCE).unwrap();
    assert_eq!([status(&sidecar, "/old"), status(&sidecar, "/new")], [200, 403]);
}

/// A sidecar whose configuration of many policies is replaced again and again. The old one is removed immediately.
#[cfg(target_os = "linux")]
struct Replaced {
    sidecar: Sidecar,
    /// The listeners. Each update replaces `VERSION` by its number.
    listeners: String,
    updates: u64,
}

#[cfg(target_os = "linux")]
impl Replaced {
    /// Starts a sidecar without policies, whose updates have `policies` policies each.
    fn by(policies: usize) -> Self {
        let rule = |index| {
            json!({
                "from": [{ "source": { "principals": [FRONTEND] } }],
                "to": [{ "operation": { "methods": ["GET"], "paths": [format!("/VERSION/{index}")] } }],
            })
        };
        let policies: Vec<_> = (0..policies).map(|i| policy(&format!("deny-{i}"), "DENY", &[rule(i)])).collect();
        let mut blueprint = Blueprint::new(&json!({ "policies": [] }));
        let nothing = blueprint.listener().clone();
        // Istio sends the configuration as a string. For a Struct of this size, Envoy needs more time than the filter.
        blueprint.wasm_filter()["configuration"] = json!({
            "@type": "type.googleapis.com/google.protobuf.StringValue",
            "value": json!({ "policies": policies }).to_string(),
        });
        let listeners = resources(&[blueprint.listener().clone()]);
        let mut blueprint = blueprint.with_listeners(&[nothing]);
        blueprint.options.log_level = "warning".into();
        // Removes a replaced listener immediately instead of after ten minutes.
        blueprint.options.extra_args = ["--drain-time-s", "0"].map(str::to_owned).to_vec();
        Self { sidecar: blueprint.start(), listeners, updates: 0 }
    }

    fn update(&mut self) {
        self.updates += 1;
        let listeners = self.listeners.replace("VERSION", &self.updates.to_string());
        self.sidecar.envoy.write_file_atomically("lds.json", listeners).unwrap();
        let is_there = |count| count == self.updates + 1;
        self.sidecar.envoy.wait_for_stat("listener_manager.lds.update_success", is_there, PATIENCE).unwrap();
    }

    /// The memory that Envoy uses, in KiB.
    fn memory(&self) -> u32 {
        self.sidecar.envoy.memory().unwrap()
    }

    fn denies(&self, version: u64, index: usize) -> bool {
        status(&self.sidecar, &format!("/{version}/{index}")) == 403
    }
}

/// The memory of a VM never shrinks, and a VM outlives every configuration in it. So whatever configurations leave
/// behind adds up.
///
/// `UPDATES=1000` makes that many updates.
#[cfg(target_os = "linux")]
#[test]
fn a_thousand_policies_can_be_replaced_again_and_again_without_taking_more_memory() {
    const SETTLED: u64 = 20;
    // Forty configurations that stayed in memory would need four times as much.
    const MOST_GROWTH: u32 = 10 * 1024;
    let updates: u64 = env::var("UPDATES").map_or(60, |updates| updates.parse().unwrap());
    let mut replaced = Replaced::by(1_000);
    let mut settled = 0;
    for update in 1..=updates {
        replaced.update();
        if update == SETTLED {
            settled = replaced.memory();
        }
    }
    let grown = replaced.memory().saturating_sub(settled);
    println!("{settled} KiB after {SETTLED} updates, {grown} KiB more after {updates}");
    assert!(grown < MOST_GROWTH);
    assert_eq!([replaced.denies(1, 999), replaced.denies(updates, 999)], [false, true]);
}

#[cfg(target_os = "linux")]
#[test]
fn ten_thousand_policies_take_less_than_25_mebibytes_a_vm() {
    // There are two VMs, one of them in the main thread. The rest is for Envoy's own copies of the text.
    const MOST_GROWTH: u32 = (2 * 25 + 30) * 1024;
    let mut replaced = Replaced::by(10_000);
    let without = replaced.memory();
    replaced.update();
    let grown = replaced.memory().saturating_sub(without);
    println!("{without} KiB without policies, {grown} KiB more with 10,000");
    assert!(grown < MOST_GROWTH);
    assert!(replaced.denies(1, 9_999));
}

#[test]
fn a_configuration_that_fails_to_load_never_leaves_an_open_listener() {
    let sidecar = Blueprint::new(&json!({})).with_listeners(&[listener(&json!({ "policies": 5 }))]).start();
    sidecar.envoy.wait_for_stat("listener_manager.lds.update_rejected", |count| count == 1, PATIENCE).unwrap();
    let listeners = sidecar.envoy.admin_get("/listeners?format=json").unwrap();
    assert!(!listeners.contains("inbound"), "{listeners}");
}
