//! Which configuration decides when a new one cannot be used.
//!
//! Several plugins can share a virtual machine. An update of a plugin creates a new root context with the new
//! configuration; the old root context stays until Envoy no longer needs it. The registry therefore remembers, by the name
//! of the plugin, the configurations of the root contexts that exist.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use super::Plugin;

/// A configuration that a root context uses. It is in force as long as one root context holds it. Envoy keeps a root context as
/// long as one of its requests is open.
#[derive(Debug)]
pub struct InForce {
    /// The accepted configuration.
    pub plugin: Rc<Plugin>,
}

/// The configurations in force, with the names of their plugins. They are few.
#[derive(Debug, Default)]
pub struct Registry(RefCell<Vec<(String, Weak<InForce>)>>);

impl Registry {
    /// A registry that is empty.
    #[must_use]
    pub const fn new() -> Self {
        Self(RefCell::new(Vec::new()))
    }

    /// Puts a configuration of the plugin with this name in force.
    pub fn put(&self, name: &str, plugin: Plugin) -> Rc<InForce> {
        let in_force = Rc::new(InForce { plugin: Rc::new(plugin) });
        let mut all = self.0.borrow_mut();
        // Only of this name: the last one of another name stays even if it is gone, because an older one that is still used
        // must not take its place.
        all.retain(|(of, known)| of != name || known.strong_count() > 0);
        // Behind those of the same name, so that the order of the names stays.
        let behind = all.iter().rposition(|(of, _)| of == name).map_or(all.len(), |last| last.saturating_add(1));
        all.insert(behind, (name.to_owned(), Rc::downgrade(&in_force)));
        in_force
    }

    /// Whether no plugin with another name is ahead of the plugin with this name.
    pub fn is_first(&self, name: &str) -> bool {
        let all = self.0.borrow();
        all.iter().find(|(_, known)| known.strong_count() > 0).is_none_or(|(first, _)| first == name)
    }

    /// Whether no later configuration is in force for the plugin with this name.
    pub fn is_newest(&self, name: &str, in_force: &Rc<InForce>) -> bool {
        let all = self.0.borrow();
        let newest = all.iter().rfind(|(of, known)| of == name && known.strong_count() > 0);
        newest.is_some_and(|(_, newest)| Weak::ptr_eq(newest, &Rc::downgrade(in_force)))
    }

    /// The configuration that stays in force when the plugin with this name gets one that cannot be used: the last one that was
    /// put in force. `None` if it is gone. An earlier one never comes back, even if requests still use it. Also `None` if the
    /// plugin has no name: plugins without a name have nothing in common.
    pub fn get(&self, name: &str) -> Option<Rc<InForce>> {
        let all = self.0.borrow();
        let last = all.iter().rfind(|(of, _)| of == name && !name.is_empty())?;
        last.1.upgrade()
    }
}
