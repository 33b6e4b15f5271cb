//! One Envoy for many tests. Each test adds a listener with its policies, which saves the second that Envoy needs to
//! start.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use serde_json::{Value, json};
use testbed::{App, Envoy};

use crate::sidecar::{Blueprint, PATIENCE, Sidecar};

/// An Envoy to which tests add listeners. It stops when the last test drops it.
pub struct Shared {
    pub envoy: Arc<Envoy>,
    pub app: Arc<App>,
    listeners: Arc<Mutex<Vec<Value>>>,
}

/// A weak reference to the shared Envoy. It is valid while a test holds the Envoy.
struct Held {
    envoy: Weak<Envoy>,
    app: Weak<App>,
    listeners: Arc<Mutex<Vec<Value>>>,
}

impl Shared {
    /// The Envoy that the running tests share. Starts it if there is none.
    pub fn get() -> Self {
        static HELD: Mutex<Option<Held>> = Mutex::new(None);
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Held { envoy, app, listeners }) = &*held
            && let (Some(envoy), Some(app)) = (envoy.upgrade(), app.upgrade())
        {
            return Self { envoy, app, listeners: Arc::clone(listeners) };
        }
        let mut blueprint = Blueprint::new(&json!({ "policies": [] })).same_protocol_upstream().with_listeners(&[]);
        blueprint.add_services();
        let Sidecar { envoy, app, .. } = &blueprint.start();
        let shared = Self { envoy: Arc::clone(envoy), app: Arc::clone(app), listeners: Arc::default() };
        *held = Some(Held {
            envoy: Arc::downgrade(&shared.envoy),
            app: Arc::downgrade(&shared.app),
            listeners: Arc::clone(&shared.listeners),
        });
        shared
    }

    /// Adds a listener with this name, which Envoy must refuse, and returns what Envoy logs.
    pub fn refuse(&self, name: &str, listener: &Value) -> String {
        // The lock is held until the end, so that no other test adds a listener in between.
        let listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        let mark = self.envoy.log_mark();
        let mut listener = listener.clone();
        listener["name"] = json!(name);
        let offered = [listeners.as_slice(), &[listener]].concat();
        self.envoy.write_file_atomically("lds.json", resources(&offered)).unwrap();
        self.envoy.wait_for_log_since(mark, &format!("Error adding/updating listener(s) {name}"), PATIENCE).unwrap();
        self.envoy.log_since(mark)
    }

    /// Adds a listener and returns its name.
    pub fn add(&self, listener: &Value) -> String {
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        let name = format!("inbound-{}", listeners.len());
        let mut listener = listener.clone();
        listener["name"] = json!(name);
        listeners.push(listener);
        self.envoy.write_file_atomically("lds.json", resources(&listeners)).unwrap();
        self.envoy.address(&name).unwrap_or_else(|error| panic!("{error}:\n{}", self.envoy.log()));
        name
    }
}

/// Listeners in the format of `lds.json`.
pub fn resources(listeners: &[Value]) -> String {
    let typed = listeners.iter().map(|listener| {
        let mut listener = listener.clone();
        listener["@type"] = json!("type.googleapis.com/envoy.config.listener.v3.Listener");
        listener
    });
    json!({ "resources": typed.collect::<Vec<_>>() }).to_string()
}
