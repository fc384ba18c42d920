//! `extends`: a service begins with what another one says, here or in another file.

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
            let resolved = self.service(&written, &name, path, project, &mut chain);
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
        services: &Node,
        name: &str,
        path: &str,
        project: &Project,
        chain: &mut Vec<(String, String)>,
    ) -> Option<Node> {
        let mut service = services.get(name)?.clone();
        let Some(extends) = service.take("extends") else {
            return Some(service);
        };
        let at = format!("services.{name}.extends");
        let link = (path.to_owned(), name.to_owned());
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
                if services.get(&target.service).is_none() {
                    self.unknown(&extends.place, at, &target.service, path);
                    return None;
                }
                self.service(services, &target.service, path, project, chain)?
            }
            Some(file) => {
                let from = &extends.place.origin.base;
                let file = self.inside(from, file, &extends.place, &at)?;
                let others = self.services_of(&file, project, &extends.place)?;
                if others.get(&target.service).is_none() {
                    self.unknown(&extends.place, at, &target.service, &file);
                    return None;
                }
                self.service(&others, &target.service, &file, project, chain)?
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
    fn services_of(&mut self, file: &str, project: &Project, place: &Place) -> Option<Node> {
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
            services
        })
    }
}
