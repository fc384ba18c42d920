//! One merged tree to the model.

mod checks;
mod deploy;
mod environment;
mod files;
mod health;
mod mounts;
mod network;
mod ports;
mod resources;
mod service;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    assemble::Assembler,
    interpolate::{Findings, Scope},
    node::Node,
    problem::Problem,
    spot::Spot,
};
use crate::model::{Service, Shipped, Stack};

/// What the readers of all attributes share.
pub(super) struct Reader<'a, 'b> {
    /// Files, variables, and what was found so far.
    pub(super) from: &'b mut Assembler<'a>,
    /// The stack's name.
    pub(super) name: String,
    /// Variables that are always there.
    pub(super) defaults: BTreeMap<String, String>,
    pub(super) files: BTreeMap<String, Shipped>,
    pub(super) blobs: BTreeMap<String, Arc<[u8]>>,
    /// Of all files that ship.
    pub(super) bytes: u64,
}

impl<'a, 'b> Reader<'a, 'b> {
    pub(super) fn new(from: &'b mut Assembler<'a>, name: &str) -> Self {
        Self {
            from,
            name: name.to_owned(),
            defaults: BTreeMap::from([("COMPOSE_PROJECT_NAME".to_owned(), name.to_owned())]),
            files: BTreeMap::new(),
            blobs: BTreeMap::new(),
            bytes: 0,
        }
    }

    fn out(&mut self) -> &mut Findings {
        &mut self.from.out
    }

    fn scope(&self) -> Scope<'_> {
        Scope {
            variables: self.from.variables,
            defaults: self.defaults.clone(),
            used: &self.from.used,
            missing: std::cell::RefCell::default(),
            place: std::cell::RefCell::default(),
        }
    }

    /// The whole stack; what could not be read is left out, and noted.
    pub(super) fn stack(&mut self, root: &Node, active: &BTreeSet<String>) -> Stack {
        let top = Spot::top(root);
        let mut services: BTreeMap<String, Service> = BTreeMap::new();
        if let Some(all) = top.get("services") {
            all.need_map(self.out());
            for (name, spot) in all.entries() {
                check_name(name, &spot, self.out());
                if active.contains(name) {
                    let service = service::service(name, &spot, &top, self);
                    services.insert(name.to_owned(), service);
                }
            }
        }
        if services.is_empty() && self.from.out.problems.is_empty() {
            let message = "no service is active";
            let help = "Write one under services:, or activate a profile";
            self.out()
                .refuse(Problem::new(&root.place, "", message).help(help));
        }
        let networks = network::networks(&top, &services, &self.name, &mut self.from.out);
        let volumes = mounts::volumes(&top, &services, &self.name, &mut self.from.out);
        checks::check(&top, &mut services, active, &mut self.from.out);
        self.keep_what_is_used(&services);
        Stack {
            name: self.name.clone(),
            services,
            networks,
            volumes,
            files: std::mem::take(&mut self.files),
        }
    }
}

impl Reader<'_, '_> {
    /// Files that a later mount of the same target has taken the place of do not ship.
    fn keep_what_is_used(&mut self, services: &BTreeMap<String, Service>) {
        let mut used: BTreeSet<&String> = BTreeSet::new();
        for service in services.values() {
            used.extend(service.configs.iter().map(|mount| &mount.source));
            used.extend(service.secrets.iter().map(|mount| &mount.source));
            used.extend(
                service
                    .mounts
                    .iter()
                    .filter_map(|mount| mount.source.as_ref()),
            );
        }
        self.files.retain(|key, _| used.contains(key));
        let mut digests = BTreeSet::new();
        self.files
            .values()
            .for_each(|file| digests_of(file, &mut digests));
        self.blobs.retain(|digest, _| digests.contains(digest));
    }
}

fn digests_of(file: &Shipped, digests: &mut BTreeSet<String>) {
    match file {
        Shipped::File { digest, .. } => {
            digests.insert(digest.clone());
        }
        Shipped::Folder { entries } => {
            entries
                .values()
                .for_each(|entry| digests_of(entry, digests));
        }
        Shipped::Text { .. } | Shipped::Secret { .. } => {}
    }
}

fn check_name(name: &str, spot: &Spot<'_>, out: &mut Findings) {
    let is_known = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || !name.chars().all(is_known) {
        let message = "a service's name has letters, digits, ., _ and - alone";
        out.refuse(spot.problem(message, "Give it another name"));
    }
    if spot.node.is_null() {
        out.refuse(spot.problem("has nothing in it", "Write at least image: below it"));
    } else {
        spot.need_map(out);
    }
}

/// Which services are active with these profiles.
pub(super) fn active(root: &Node, profiles: &BTreeSet<String>) -> BTreeSet<String> {
    let services = root
        .get("services")
        .and_then(Node::entries)
        .unwrap_or_default();
    let chosen = services.iter().filter(|(_, service)| {
        let own = service
            .get("profiles")
            .and_then(Node::items)
            .unwrap_or_default();
        own.is_empty()
            || profiles.contains("*")
            || own.iter().any(|profile| {
                profile
                    .scalar()
                    .is_some_and(|profile| profiles.contains(&profile))
            })
    });
    chosen.map(|(key, _)| key.text.clone()).collect()
}
