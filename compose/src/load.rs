//! From files and variables to a [`Stack`].
//!
//! [`assemble`] reads and merges files (`yaml`, `interpolate`, `include`, `extends`, `merge`)
//! to one tree; [`attributes`] says what in it is honoured, and refuses the rest by name;
//! `read` makes the model of it. Every mistake is collected, with its place and what to do.

mod amount;
mod assemble;
pub mod attributes;
pub mod dotenv;
mod extends;
mod include;
mod interpolate;
mod merge;
mod node;
pub mod preview;
mod problem;
mod read;
pub mod secret;
mod sources;
mod spot;
pub mod variables;
mod yaml;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

pub use preview::preview;
pub use problem::{Origin, Place, Problem};
pub use sources::{
    BUNDLE_BYTES_MAX, Bundle, FOLDER_DEPTH_MAX, FOLDER_FILES_MAX, File, Files, Found, Sources,
    TEXT_BYTES_MAX, join,
};
pub use variables::{Declaration, Level, Variables};

use self::{
    assemble::{Assembler, Project},
    interpolate::Findings,
    node::Node,
    read::Reader,
    sources::Recording,
};
use crate::model::Stack;

/// A stack that was read.
#[derive(Clone, PartialEq)]
pub struct Loaded {
    /// As it shall be.
    pub stack: Stack,
    /// What a person should know, and what does not keep it from being deployed.
    pub warnings: Vec<Problem>,
    /// Every variable that the files ask for, set or not, and where.
    pub used_variables: BTreeMap<String, Vec<Place>>,
    /// The bytes of files that ship, by their digest (`sha256:…`).
    pub blobs: BTreeMap<String, Arc<[u8]>>,
}

impl fmt::Debug for Loaded {
    /// Content is left out: it may be a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded")
            .field("stack", &self.stack.name)
            .field("warnings", &self.warnings)
            .field("used_variables", &self.used_variables)
            .field("blobs", &self.blobs.keys())
            .finish()
    }
}

/// What a set of Compose files refers to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct References {
    /// Every file that the stack consists of, the Compose files among them.
    pub bundle: Bundle,
    /// What could not be read or understood. A variable that only the relay knows may be why.
    pub problems: Vec<Problem>,
}

/// Reads a stack.
///
/// # Errors
///
/// Every mistake, in the order of the files.
pub fn load(sources: &Sources<'_>) -> Result<Loaded, Vec<Problem>> {
    let mut from = Assembler::new(sources.files, &sources.variables);
    let read = run(sources, &mut from);
    let used_variables = from.used.take();
    declarations(sources, &used_variables, &mut from.out);
    let Findings {
        mut problems,
        warnings,
    } = from.out;
    match read {
        Some((stack, blobs)) if problems.is_empty() => Ok(Loaded {
            stack,
            warnings,
            used_variables,
            blobs,
        }),
        _ => {
            problems.sort_by_key(|problem| {
                let place = &problem.place;
                let file = sources
                    .compose
                    .iter()
                    .position(|path| *path == place.origin.file);
                (file.unwrap_or(usize::MAX), place.line, place.column)
            });
            Err(problems)
        }
    }
}

/// Gathers every file that a stack refers to, with all its profiles active: the bundle that its
/// release keeps. Paths in which a variable stands need its value.
#[must_use]
pub fn references(sources: &Sources<'_>) -> References {
    let recording = Recording::new(sources.files);
    let mut everything = sources.clone();
    everything.profiles.insert("*".to_owned());
    everything.files = &recording;
    let mut from = Assembler::new(&recording, &sources.variables);
    run(&everything, &mut from);
    let problems = from.out.problems;
    References {
        bundle: recording.into_seen(),
        problems,
    }
}

type Read = (Stack, BTreeMap<String, Arc<[u8]>>);

fn run(sources: &Sources<'_>, from: &mut Assembler<'_>) -> Option<Read> {
    let Some(first) = sources.compose.first() else {
        let problem = Problem::new(&Place::file("compose.yml"), "", "no Compose file is named");
        from.out.refuse(problem.help("Name one with -f"));
        return None;
    };
    let given = sources.name.clone();
    let folder = sources.folder.as_deref().map(normalised);
    let guess = given.clone().or_else(|| folder.clone()).unwrap_or_default();
    let base = sources::folder_of(first).to_owned();
    let mut root = whole(sources, &base, &guess, from)?;
    let written = root
        .get("name")
        .and_then(Node::scalar)
        .filter(|name| !name.is_empty());
    let name = given.or(written).or(folder).unwrap_or_default();
    if name != guess && from.used.borrow().contains_key(PROJECT_NAME) {
        // The files say their name, and ask for it.
        from.out = Findings::default();
        from.read = 0;
        from.extended.clear();
        root = whole(sources, &base, &name, from)?;
    }
    check_name(&name, &root, &mut from.out);
    let active = read::active(&root, &sources.profiles);
    attributes::check(&root, &|service| active.contains(service), &mut from.out);
    let mut reader = Reader::new(from, &name);
    let stack = reader.stack(&root, &active);
    let blobs = reader.blobs;
    Some((stack, blobs))
}

const PROJECT_NAME: &str = "COMPOSE_PROJECT_NAME";

fn whole(sources: &Sources<'_>, base: &str, name: &str, from: &mut Assembler<'_>) -> Option<Node> {
    let project = Project {
        files: sources.compose.clone(),
        base: base.to_owned(),
        defaults: BTreeMap::from([(PROJECT_NAME.to_owned(), name.to_owned())]),
        within: Vec::new(),
    };
    let first = sources.compose.first().map_or("", String::as_str);
    from.project(&project, &Place::file(first))
}

/// A folder's name as a project's: lower case, without what a name may not have.
fn normalised(folder: &str) -> String {
    let lower = folder.to_lowercase();
    let kept = lower
        .chars()
        .filter(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '_' || *c == '-');
    let kept: String = kept.collect();
    kept.trim_start_matches(['_', '-']).to_owned()
}

fn check_name(name: &str, root: &Node, out: &mut Findings) {
    let is_known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c);
    let begins = name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    if begins && name.chars().all(is_known) {
        return;
    }
    let place = root.get("name").map_or(&root.place, |node| &node.place);
    let message = if name.is_empty() {
        "the stack has no name".to_owned()
    } else {
        format!("{name:?} is no name of a stack")
    };
    let help = "Use lower case letters, digits, - and _, and begin with a letter or digit";
    out.refuse(Problem::new(place, "name", message).help(help));
}

/// Holds variables against what is expected of them.
fn declarations(sources: &Sources<'_>, used: &BTreeMap<String, Vec<Place>>, out: &mut Findings) {
    let variables = &sources.variables;
    for (name, declaration) in variables.declarations() {
        let Some((message, help)) = variables.mistake(name, declaration) else {
            continue;
        };
        let places = used.get(name).map(Vec::as_slice).unwrap_or_default();
        let fallback = Place::file(sources.compose.first().map_or("", String::as_str));
        let message = match places {
            [] | [_] => message,
            [_, rest @ ..] => {
                let also: BTreeSet<String> = rest.iter().map(Place::to_string).collect();
                let also: Vec<String> = also.into_iter().collect();
                format!("{message}; it is also used at {}", also.join(", "))
            }
        };
        let place = places.first().unwrap_or(&fallback);
        out.refuse(Problem::new(place, "", message).help(help));
    }
}
