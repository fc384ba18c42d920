//! `include`: other projects, each with its own folder and variables, become part of this one.

use super::{
    assemble::{Assembler, NESTED_MAX, Project},
    dotenv,
    interpolate::Scope,
    merge::merge,
    node::{Node, Value},
    problem::{Place, Problem},
    sources::{Found, folder_of},
};

/// One entry of `include`.
struct Include {
    paths: Vec<String>,
    folder: Option<String>,
    env_files: Option<Vec<String>>,
    place: Place,
}

/// What an included project brings.
const SECTIONS: [&str; 5] = ["services", "networks", "volumes", "configs", "secrets"];

impl Assembler<'_> {
    /// Puts what is included under what the document itself says.
    pub(super) fn include(
        &mut self,
        document: &mut Node,
        includes: &Node,
        path: &str,
        project: &Project,
    ) -> Option<()> {
        for entry in self.entries(includes) {
            let included = self.included(&entry, path, project)?;
            for section in SECTIONS {
                let Some(theirs) = included.get(section) else {
                    continue;
                };
                self.bring(document, section, theirs.clone(), &entry.place)?;
            }
        }
        Some(())
    }

    fn entries(&mut self, includes: &Node) -> Vec<Include> {
        let Some(items) = includes.items() else {
            let problem = Problem::new(&includes.place, "include", "has to be a list");
            self.out
                .refuse(problem.help("Write - and a path for each project"));
            return Vec::new();
        };
        let mut entries = Vec::with_capacity(items.len());
        for (at, item) in items.iter().enumerate() {
            let texts = |key: &str| -> Option<Vec<String>> {
                let node = item.get(key)?;
                match &node.value {
                    Value::List(items) => items.iter().map(Node::scalar).collect(),
                    _ => node.scalar().map(|text| vec![text]),
                }
            };
            let known = ["path", "project_directory", "env_file"];
            for (key, _) in item.entries().unwrap_or_default() {
                if !known.contains(&key.text.as_str()) {
                    let message = format!("{} is no attribute of Compose", key.text);
                    let problem = Problem::new(&key.place, format!("include[{at}]"), message);
                    self.out
                        .refuse(problem.help(format!("It has {}", known.join(", "))));
                }
            }
            let paths = item
                .scalar()
                .map(|path| vec![path])
                .or_else(|| texts("path"));
            let Some(paths) = paths.filter(|paths| !paths.is_empty()) else {
                let problem = Problem::new(&item.place, format!("include[{at}]"), "has no path");
                self.out
                    .refuse(problem.help("Write path: and the Compose file's path"));
                continue;
            };
            entries.push(Include {
                paths,
                folder: item.get("project_directory").and_then(Node::scalar),
                env_files: texts("env_file"),
                place: item.place.clone(),
            });
        }
        entries
    }

    fn included(&mut self, entry: &Include, path: &str, project: &Project) -> Option<Node> {
        let mut files = Vec::with_capacity(entry.paths.len());
        for file in &entry.paths {
            files.push(self.inside(&project.base, file, &entry.place, "include")?);
        }
        let mut within = project.within.clone();
        within.push(path.to_owned());
        let circle = files.iter().find(|file| within.contains(file));
        if circle.is_some() || within.len() > NESTED_MAX {
            let message = format!("goes round in a circle: {}", within.join(" includes "));
            let problem = Problem::new(&entry.place, "include", message);
            self.out
                .refuse(problem.help("Take one of these includes out"));
            return None;
        }
        let first = files.first().map_or("", |file| folder_of(file));
        let base = match &entry.folder {
            Some(folder) => self.inside(&project.base, folder, &entry.place, "include")?,
            None => first.to_owned(),
        };
        let env_files = match &entry.env_files {
            Some(named) => {
                let mut paths = Vec::with_capacity(named.len());
                for file in named {
                    paths.push(self.inside(&project.base, file, &entry.place, "include")?);
                }
                paths
            }
            None => {
                let own = if base.is_empty() {
                    ".env".to_owned()
                } else {
                    format!("{base}/.env")
                };
                let is_there = matches!(self.files.look(&own), Found::File(_));
                if is_there { vec![own] } else { Vec::new() }
            }
        };
        let mut defaults = project.defaults.clone();
        for file in env_files {
            self.defaults(&file, &mut defaults, &entry.place)?;
        }
        let project = Project {
            files,
            base,
            defaults,
            within,
        };
        self.project(&project, &entry.place)
    }

    /// Variables of an `env_file` of an include; the stack's own win over them.
    fn defaults(
        &mut self,
        file: &str,
        defaults: &mut std::collections::BTreeMap<String, String>,
        place: &Place,
    ) -> Option<()> {
        let text = self.text(file, place)?;
        let scope = Scope {
            variables: self.variables,
            defaults: defaults.clone(),
            used: &self.used,
            missing: std::cell::RefCell::default(),
            place: std::cell::RefCell::default(),
        };
        match dotenv::parse(&text, &scope) {
            Ok(entries) => {
                let set = entries
                    .into_iter()
                    .filter_map(|(name, value)| Some((name, value?)));
                defaults.extend(set);
                Some(())
            }
            Err(mistake) => {
                let mut place = Place::file(file);
                place.line = mistake.line;
                place.column = 1;
                self.out.refuse(Problem::new(&place, "", mistake.message));
                None
            }
        }
    }

    /// Adds a section's entries; where the document has the name itself, its own is merged over.
    fn bring(
        &mut self,
        document: &mut Node,
        section: &str,
        theirs: Node,
        place: &Place,
    ) -> Option<()> {
        let Some(ours) = document.get(section) else {
            if let Value::Map(entries) = &mut document.value {
                let key = super::node::Key {
                    text: section.to_owned(),
                    place: place.clone(),
                };
                entries.retain(|(key, _)| key.text != section);
                entries.push((key, theirs));
            }
            return Some(());
        };
        for (key, value) in theirs.entries().unwrap_or_default() {
            if let Some(own) = ours.get(&key.text)
                && own.place.origin != value.place.origin
                && !own.is_null()
            {
                let message = format!(
                    "is also in {}, which is included; both are merged",
                    value.place
                );
                let at = format!("{section}.{}", key.text);
                let warning = Problem::new(&own.place, at, message);
                self.out
                    .warn(warning.help("Give one of them another name, or take it out"));
            }
        }
        match merge(theirs, ours.clone(), &[section]) {
            Ok(merged) => {
                if let Some(slot) = document.get_mut(section) {
                    *slot = merged;
                }
                Some(())
            }
            Err(problem) => {
                self.out.refuse(problem);
                None
            }
        }
    }
}
