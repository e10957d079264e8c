//! Which feature writes which field towards upstreams. Two that write one name would take each other's word for their own:
//! where both can meet one request, the configuration is refused, with both places.

use std::collections::{BTreeSet, HashMap};

use super::problem::Sink;
use crate::plugin::Plugin;
use crate::proxy::owned::folded;

/// The names of one configuration and who writes them.
#[derive(Default)]
pub(super) struct Ownership {
    /// As written.
    names: BTreeSet<Box<str>>,
    /// By name, in the one spelling that stands for all.
    writers: HashMap<Box<[u8]>, Vec<Writer>>,
}

/// One configured plugin that writes a name.
struct Writer {
    plugin: &'static str,
    path: String,
    reach: Reach,
}

/// Which requests an instance can meet: those of a route, of a service, or all. Callers do not tell instances apart.
#[derive(Clone, Copy)]
pub(super) struct Reach {
    /// The route's index.
    pub(super) route: Option<usize>,
    /// The index of the service, or of the route's.
    pub(super) service: Option<usize>,
}

impl Reach {
    /// Whether one request can meet both.
    fn meets(self, other: Self) -> bool {
        let agree = |a: Option<usize>, b: Option<usize>| a.is_none() || b.is_none() || a == b;
        agree(self.route, other.route) && agree(self.service, other.service)
    }
}

impl Ownership {
    /// Notes what an instance writes; a problem where another plugin writes it as well.
    pub(super) fn claim(&mut self, plugin: &Plugin, reach: Reach, (path, line): (&str, u32), sink: &Sink) {
        // Shown by a proxy in front, and read there: owned, but written by nobody.
        let read = plugin.certificate_name();
        for name in plugin.owned_names() {
            if read.as_ref() != Some(&name) {
                let writers = self.writers.entry(folded(name.as_bytes())).or_default();
                let other = writers.iter().find(|other| other.plugin != plugin.name() && other.reach.meets(reach));
                if let Some(other) = other {
                    let found = format!("`{name}`, which {} at {} writes, too", other.plugin, other.path);
                    let expected = "a field that no other plugin writes for the same requests";
                    sink.problem(line, &format!("{path}.config"), found, expected);
                }
                writers.push(Writer { plugin: plugin.name(), path: path.to_owned(), reach });
            }
            self.names.insert(name);
        }
    }

    /// All of the names.
    pub(super) fn into_names(self) -> Vec<Box<str>> {
        self.names.into_iter().collect()
    }
}
