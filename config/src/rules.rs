//! What the tables say about each other: references, combinations, and what is legal but seldom meant.
//!
//! One file per subject. Each rule names the place of its fault; a rule that judges a combination first asks whether the
//! keys it reads are sound, since the shape check may have put stand-ins into them.

mod access;
mod callers;
mod certificates;
mod decryption;
mod envelopes;
mod foreign_keys;
mod key_limits;
mod keyrings;
mod kms;
mod listeners;
mod routes;
mod state;
mod streams;
mod tokens;
mod traffic;
mod upstreams;

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    fmt::Debug,
};

use crate::{
    fault::{Fault, Place, Severity},
    formats,
    model::{Config, Named},
    source::Source,
};

/// Every fault and warning of a configuration whose shape is right, or was repaired at the `doubtful` places.
pub(crate) fn check(config: &Config, source: &Source, doubtful: &[Place]) -> Vec<Fault> {
    let mut rules = Rules::new(config, source, doubtful);
    listeners::check(&mut rules);
    state::check(&mut rules, &config.state);
    upstreams::check(&mut rules);
    callers::check(&mut rules);
    certificates::check(&mut rules);
    tokens::check(&mut rules);
    traffic::check(&mut rules);
    keyrings::check(&mut rules);
    kms::check(&mut rules);
    decryption::check(&mut rules);
    envelopes::check(&mut rules);
    streams::check(&mut rules);
    access::lockout(&mut rules);
    key_limits::check(&mut rules);
    routes::check(&mut rules);
    // Beside a reference to a wrong name, that the right one is unused is no news.
    if doubtful.is_empty() && rules.faults.iter().all(|fault| fault.severity == Severity::Warning) {
        rules.unused();
    }
    rules.faults
}

struct Rules<'a> {
    config: &'a Config,
    source: &'a Source,
    faults: Vec<Fault>,
    /// Places whose value is a stand-in.
    doubtful: HashSet<Place>,
    /// Those places and all that hold them.
    unsound: HashSet<Place>,
}

impl<'a> Rules<'a> {
    fn new(config: &'a Config, source: &'a Source, doubtful: &[Place]) -> Self {
        let unsound = doubtful.iter().flat_map(upwards).collect();
        Self { config, source, faults: Vec::new(), doubtful: doubtful.iter().cloned().collect(), unsound }
    }

    /// Notes a fault, unless it is about a value that has a fault already.
    fn add(&mut self, fault: Fault) {
        if self.sound(&fault.place) {
            self.faults.push(fault);
        }
    }

    /// The place and everything in it stand as the operator wrote them.
    fn sound(&self, place: &Place) -> bool {
        !self.unsound.contains(place) && self.written(place)
    }

    /// These keys of a table stand, or are absent, as the operator meant.
    fn sound_keys(&self, table: &Place, keys: &[&str]) -> bool {
        keys.iter().all(|key| self.sound(&table.key(key)))
    }

    /// The value is no stand-in, though something in it may be.
    fn written(&self, place: &Place) -> bool {
        !upwards(place).any(|above| self.doubtful.contains(&above))
    }

    /// Names that become labels of metrics and parts of references.
    fn names<T>(&mut self, section: &str, entries: &Named<T>) {
        for name in entries.keys().filter(|name| !formats::is_name(name)) {
            let place = at(&[section, name]);
            self.add(Fault::at(place, format!("{name:?} cannot be a name: {NAME_RULE}")).on_key().help(NAME_HELP));
        }
    }

    /// Refuses an entry that a list has already.
    fn repeated<T: Debug>(&mut self, list: &Place, items: &[T]) {
        let mut seen: HashMap<String, Place> = HashMap::new();
        for (i, item) in items.iter().enumerate() {
            let place = list.index(i);
            if !self.sound(&place) {
                continue;
            }
            match seen.entry(format!("{item:?}")) {
                Entry::Vacant(new) => drop(new.insert(place)),
                Entry::Occupied(first) => {
                    let line = self.line(first.get());
                    self.add(
                        Fault::at(place, "this entry stands in the list already").help(format!("remove one{line}")),
                    );
                }
            }
        }
    }

    fn not_empty(&mut self, place: Place, text: &str) {
        if text.is_empty() {
            self.add(Fault::at(place, "this is empty").help("write a value, or leave the key out"));
        }
    }

    /// ` (the other is on line 7)`
    fn line(&self, place: &Place) -> String {
        match self.source.locate(place) {
            Some((line, _)) => format!(" (the other is on line {line})"),
            None => String::new(),
        }
    }

    fn unused(&mut self) {
        let config = self.config;
        let routes = &config.routes;
        let auth: HashSet<&str> = routes.iter().flat_map(|route| &route.auth).map(String::as_str).collect();
        let upstreams = routes.iter().map(|route| &route.upstream).collect();
        let limits = routes.iter().flat_map(|route| &route.rate_limits).collect();
        let encryption = routes.iter().filter_map(|route| route.encryption.as_ref()).collect();
        self.unused_of("upstreams", config.upstreams.keys(), &upstreams);
        self.unused_of("rate_limits", config.rate_limits.keys(), &limits);
        self.unused_of("encryption", config.encryption.keys(), &encryption);
        let decryption = config.jwt.values().filter_map(|jwt| jwt.decryption.as_ref());
        let of_tokens = decryption.map(|decryption| &decryption.keyring);
        let of_bodies = config.encryption.values().flat_map(|entry| &entry.keyrings);
        let of_masters = config.encryption.values().filter_map(|entry| entry.master_keys.as_ref());
        let rings: HashSet<&String> = of_bodies.chain(of_tokens).chain(of_masters).collect();
        for name in config.keyrings.keys().filter(|name| !rings.contains(name)) {
            let fault = Fault::warning(at(&["keyrings", name]), format!("nothing uses `[keyrings.{name}]`"));
            self.add(fault.on_key().help("name it in `keyrings` of an encryption, or remove it"));
        }
        let methods = [
            ("jwt", config.jwt.keys().collect::<Vec<_>>()),
            ("mtls", config.mtls.keys().collect()),
            ("api_keys", config.api_keys.keys().collect()),
        ];
        for (section, names) in methods {
            let used =
                names.iter().copied().filter(|name| auth.contains(format!("{section}.{name}").as_str())).collect();
            self.unused_of(section, names.iter().copied(), &used);
        }
    }

    fn unused_of<'n>(&mut self, section: &str, names: impl Iterator<Item = &'n String>, used: &HashSet<&String>) {
        for name in names.filter(|name| !used.contains(name)) {
            let fault = Fault::warning(at(&[section, name]), format!("no route uses `[{section}.{name}]`"));
            self.add(fault.on_key().help("name it in a route, or remove it"));
        }
    }
}

const NAME_RULE: &str = "names are labels of metrics and parts of references";
const NAME_HELP: &str = "write 1 to 64 letters, digits, `_`, `-` or `.`";

/// The place of a key: `at(&["jwt", "users", "secret"])`.
fn at(keys: &[&str]) -> Place {
    keys.iter().fold(Place::root(), |place, key| place.key(key))
}

/// A place and all that hold it, without the root, which holds everything.
fn upwards(place: &Place) -> impl Iterator<Item = Place> + use<> {
    std::iter::successors(Some(place.clone()), |place| Some(place.parent())).take(place.steps().len())
}
