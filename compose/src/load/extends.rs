//! `extends`: a service begins with what another one says, here or in another file.

use std::sync::Arc;

use super::{
    assemble::{Assembler, NESTED_MAX, Project},
    merge::{merge, strip},
    node::{Node, Value},
    problem::{Place, Problem},
    sources::{folder_of, join},
};

/// Where `extends` points.
struct Target {
    service: String,
    file: Option<String>,
}

/// Services that see each other, the file that they are in, and whose variables it sees.
struct Within<'a> {
    services: &'a Node,
    path: &'a str,
    project: &'a Project,
}

impl Assembler<'_> {
    /// Resolves `extends` of every service of a document.
    pub(super) fn extends(
        &mut self,
        document: &mut Node,
        path: &str,
        project: &Project,
    ) -> Option<()> {
        let Some(services) = document.get("services").and_then(Node::entries) else {
            return Some(());
        };
        let names: Vec<String> = services
            .iter()
            .filter(|(_, service)| service.get("extends").is_some())
            .map(|(key, _)| key.text.clone())
            .collect();
        if names.is_empty() {
            return Some(());
        }
        // Services see each other as they were written, whatever their order.
        let written = document.get("services")?.clone();
        let mut all_are_resolved = true;
        for name in names {
            let mut chain = Vec::new();
            let from = Within {
                services: &written,
                path,
                project,
            };
            let resolved = self.service(&from, &name, &mut chain);
            let slot = document
                .get_mut("services")
                .and_then(|services| services.get_mut(&name));
            match (resolved, slot) {
                (Some(resolved), Some(slot)) => *slot = resolved,
                _ => all_are_resolved = false,
            }
        }
        all_are_resolved.then_some(())
    }

    /// A service with everything that it extends; `chain` is what led to it.
    fn service(
        &mut self,
        from: &Within<'_>,
        name: &str,
        chain: &mut Vec<(String, String)>,
    ) -> Option<Node> {
        let mut service = from.services.get(name)?.clone();
        let Some(extends) = service.take("extends") else {
            return Some(service);
        };
        let at = format!("services.{name}.extends");
        let link = (from.path.to_owned(), name.to_owned());
        let is_circle = chain.contains(&link);
        chain.push(link);
        if is_circle || chain.len() > NESTED_MAX {
            let way: Vec<String> = chain
                .iter()
                .map(|(file, name)| format!("{name} in {file}"))
                .collect();
            let message = format!("goes round in a circle: {}", way.join(" extends "));
            let problem = Problem::new(&extends.place, at, message);
            self.out
                .refuse(problem.help("Take one of these extends out"));
            return None;
        }
        let target = self.target(&extends, &at)?;
        let base = match &target.file {
            None => {
                if from.services.get(&target.service).is_none() {
                    self.unknown(&extends.place, at, &target.service, from.path);
                    return None;
                }
                self.service(from, &target.service, chain)?
            }
            Some(file) => {
                let base = &extends.place.origin.base;
                let file = self.inside(base, file, &extends.place, &at)?;
                let others = self.services_of(&file, from.project, &extends.place)?;
                if others.get(&target.service).is_none() {
                    self.unknown(&extends.place, at, &target.service, &file);
                    return None;
                }
                let there = Within {
                    services: &others,
                    path: &file,
                    project: from.project,
                };
                self.service(&there, &target.service, chain)?
            }
        };
        match merge(base, service, &["services", name]) {
            Ok(merged) => Some(merged),
            Err(problem) => {
                self.out.refuse(problem);
                None
            }
        }
    }

    fn unknown(&mut self, place: &Place, at: String, service: &str, file: &str) {
        let message = format!("{file} has no service {service}");
        let problem = Problem::new(place, at, message);
        self.out
            .refuse(problem.help("Write its name as it stands under services: there"));
    }

    fn target(&mut self, extends: &Node, at: &str) -> Option<Target> {
        let text = |key: &str| extends.get(key).and_then(Node::scalar);
        let target = match &extends.value {
            Value::Scalar(..) => extends.scalar().map(|service| Target {
                service,
                file: None,
            }),
            Value::Map(_) => text("service").map(|service| Target {
                service,
                file: text("file"),
            }),
            _ => None,
        };
        if target.is_none() {
            let message = "has to name a service";
            let help = "Write extends: {service: NAME}, and file: PATH where it is in another file";
            self.out
                .refuse(Problem::new(&extends.place, at, message).help(help));
        }
        target
    }

    /// A path in the bundle, or the reason why it is none.
    pub(super) fn inside(
        &mut self,
        base: &str,
        path: &str,
        place: &Place,
        at: &str,
    ) -> Option<String> {
        match join(base, path) {
            Ok(path) => Some(path),
            Err(why) => {
                let message = format!("{path} {why}, and so does not ship with the release");
                let help = "Put the file into the project's folder, and write ./ and its path";
                self.out.refuse(Problem::new(place, at, message).help(help));
                None
            }
        }
    }

    /// The services of another file, which is read for `extends` alone.
    fn services_of(&mut self, file: &str, project: &Project, place: &Place) -> Option<Arc<Node>> {
        // Many services extend one file, which sees other variables in another project.
        let key = (file.to_owned(), project.defaults.clone());
        if let Some(services) = self.extended.get(&key) {
            return Some(Arc::clone(services));
        }
        let documents = self.documents(file, project, folder_of(file), place)?;
        let mut whole: Option<Node> = None;
        for document in documents {
            let base = whole
                .take()
                .unwrap_or_else(|| Node::new(place, Value::Map(Vec::new())));
            match merge(base, document, &[]) {
                Ok(merged) => whole = Some(merged),
                Err(problem) => self.out.refuse(problem),
            }
        }
        let services = whole.and_then(|mut whole| whole.take("services"));
        if services.is_none() {
            let message = format!("{file} has no services");
            self.out
                .refuse(Problem::new(place, "", message).help("Name another file"));
        }
        services.map(|mut services| {
            strip(&mut services);
            let services = Arc::new(services);
            self.extended.insert(key, Arc::clone(&services));
            services
        })
    }
}
