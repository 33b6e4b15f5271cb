//! Which configuration decides when a new one cannot be used.
//!
//! Several plugins can share a virtual machine. An update of a plugin creates a new root context with the new
//! configuration; the old root context stays until Envoy no longer needs it. The registry therefore remembers, for each
//! filter, the configurations of the root contexts that exist.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use super::Plugin;

/// What the configurations of one filter have in common.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilterId {
    /// The name of the plugin. Several filters may have the same name.
    pub name: String,
    /// What [`crate::config::workload_of`] finds in the configuration.
    pub workload: Option<u64>,
}

/// A configuration that a root context uses. It is in force as long as one root context holds it. Envoy keeps a root
/// context as long as one of its requests is open.
#[derive(Debug)]
pub struct InForce {
    /// The accepted configuration.
    pub plugin: Rc<Plugin>,
}

/// The configurations in force, with the filters that they belong to. They are few.
#[derive(Debug, Default)]
pub struct Registry(RefCell<Vec<(FilterId, Weak<InForce>)>>);

impl Registry {
    /// A registry that is empty.
    #[must_use]
    pub const fn new() -> Self {
        Self(RefCell::new(Vec::new()))
    }

    /// Puts a configuration of the filter in force.
    pub fn put(&self, filter: &FilterId, plugin: Plugin) -> Rc<InForce> {
        let in_force = Rc::new(InForce { plugin: Rc::new(plugin) });
        let mut all = self.0.borrow_mut();
        // Only of this filter: the last one of another filter stays even if it is gone, because an older one that is
        // still used must not take its place.
        all.retain(|(of, known)| of != filter || known.strong_count() > 0);
        // Behind those of the same filter, so that the order of the filters stays.
        let behind = all.iter().rposition(|(of, _)| of == filter).map_or(all.len(), |last| last.saturating_add(1));
        all.insert(behind, (filter.clone(), Rc::downgrade(&in_force)));
        in_force
    }

    /// Whether no other filter is ahead of this one.
    pub fn is_first(&self, filter: &FilterId) -> bool {
        let all = self.0.borrow();
        all.iter().find(|(_, known)| known.strong_count() > 0).is_none_or(|(first, _)| first == filter)
    }

    /// Whether no later configuration is in force for this filter.
    pub fn is_newest(&self, filter: &FilterId, in_force: &Rc<InForce>) -> bool {
        let all = self.0.borrow();
        let newest = all.iter().rfind(|(of, known)| of == filter && known.strong_count() > 0);
        newest.is_some_and(|(_, newest)| Weak::ptr_eq(newest, &Rc::downgrade(in_force)))
    }

    /// The configuration that stays in force when the filter gets one that cannot be used: the last one that was put in
    /// force. `None` if it is gone. An earlier one never comes back, even if requests still use it. Also `None` if the
    /// plugin has no name, or if the workload cannot be read: nobody can tell whose configuration it is.
    pub fn get(&self, filter: &FilterId) -> Option<Rc<InForce>> {
        let is_known = !filter.name.is_empty() && filter.workload.is_some();
        let all = self.0.borrow();
        let last = all.iter().rfind(|(of, _)| is_known && of == filter)?;
        last.1.upgrade()
    }
}
