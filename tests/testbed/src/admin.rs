//! Envoy's administration interface.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{Client, Request, envoy::wait_until};

/// How long to wait for a listener to appear. A listener from a file appears a moment after Envoy is live.
const LISTENER_DEADLINE: Duration = Duration::from_secs(5);

/// The administration interface of a running Envoy: what Envoy reports about itself.
#[derive(Clone, Debug)]
pub struct Admin {
    client: Client,
}

impl Admin {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { client: Client::plain(address) }
    }

    pub(crate) fn is_live(&self) -> bool {
        self.admin_get("/ready").is_ok_and(|body| body.trim() == "LIVE")
    }

    /// The address of the administration interface.
    pub fn admin_address(&self) -> SocketAddr {
        self.client.address
    }

    /// Sends a GET request for a path of the administration interface. A status other than 200 is an error.
    pub fn admin_get(&self, path: &str) -> Result<String> {
        self.ask(&Request::get(path))
    }

    /// Sends a POST request for a path of the administration interface, such as `/logging?wasm=debug`. A status other
    /// than 200 is an error.
    pub fn admin_post(&self, path: &str) -> Result<String> {
        self.ask(&Request::new("POST", path).body(""))
    }

    /// The address of the listener with this name.
    pub fn address(&self, listener: &str) -> Result<SocketAddr> {
        let mut address = None;
        wait_until(LISTENER_DEADLINE, || {
            let listeners = self.json("/listeners?format=json")?;
            address = listeners["listener_statuses"]
                .as_array()
                .into_iter()
                .flatten()
                .find(|status| status["name"] == listener)
                .and_then(|status| socket_address(&status["local_address"]["socket_address"]));
            Ok(address.is_some())
        })?;
        address.with_context(|| format!("Envoy has no listener named {listener}"))
    }

    /// All counters and gauges, by name.
    pub fn stats(&self) -> Result<BTreeMap<String, u64>> {
        let text = self.admin_get("/stats")?;
        Ok(text
            .lines()
            .filter_map(|line| {
                // Histograms and texts have lines of their own, and their values are not numbers.
                let (name, value) = line.rsplit_once(": ")?;
                Some((name.to_owned(), value.parse().ok()?))
            })
            .collect())
    }

    /// The statistics in the format that Prometheus reads.
    pub fn prometheus(&self) -> Result<String> {
        self.admin_get("/stats/prometheus")
    }

    /// The configuration that Envoy currently uses.
    pub fn config_dump(&self) -> Result<Value> {
        self.json("/config_dump")
    }

    fn json(&self, path: &str) -> Result<Value> {
        serde_json::from_str(&self.admin_get(path)?).with_context(|| format!("Envoy's {path} is not JSON"))
    }

    fn ask(&self, request: &Request) -> Result<String> {
        let response = self.client.send(request)?;
        ensure!(
            response.status == 200,
            "Envoy's administration interface answers {}: {}",
            response.status,
            response.text()
        );
        Ok(response.text())
    }
}

fn socket_address(json: &Value) -> Option<SocketAddr> {
    let port = u16::try_from(json["port_value"].as_u64()?).ok()?;
    Some(SocketAddr::new(json["address"].as_str()?.parse().ok()?, port))
}
