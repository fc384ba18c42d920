//! Files to one tree: each read, interpolated, its `include` and `extends` resolved, and merged
//! over those before it.

use std::{cell::RefCell, collections::BTreeMap, sync::Arc};

use super::{
    interpolate::{Findings, Scope},
    merge::{apply_tags, merge},
    node::{Node, Value},
    problem::{Origin, Place, Problem},
    secret,
    sources::{Files, Found, TEXT_BYTES_MAX},
    variables::Variables,
    yaml,
};

/// Most Compose files of one stack, those of `include` and `extends` among them.
const FILES_MAX: usize = 64;
/// Most files, or services, that lead to one another.
pub(super) const NESTED_MAX: usize = 32;

/// What is the same for every file of a stack.
pub(super) struct Assembler<'a> {
    pub(super) files: &'a dyn Files,
    pub(super) variables: &'a Variables,
    pub(super) used: RefCell<BTreeMap<String, Vec<Place>>>,
    pub(super) out: Findings,
    pub(super) read: usize,
    /// Services of files that others extend, by file and the variables that it sees.
    pub(super) extended: BTreeMap<(String, BTreeMap<String, String>), Arc<Node>>,
}

/// Which files form one project: the stack itself, or what an `include` names.
#[derive(Debug, Clone)]
pub(super) struct Project {
    pub(super) files: Vec<String>,
    /// Where relative paths begin.
    pub(super) base: String,
    /// See [`Scope::defaults`].
    pub(super) defaults: BTreeMap<String, String>,
    /// Files that led here.
    pub(super) within: Vec<String>,
}

impl<'a> Assembler<'a> {
    pub(super) fn new(files: &'a dyn Files, variables: &'a Variables) -> Self {
        Self {
            files,
            variables,
            used: RefCell::default(),
            out: Findings::default(),
            read: 0,
            extended: BTreeMap::new(),
        }
    }

    /// A text file of the bundle; what is wrong is said at `place`.
    pub(super) fn text(&mut self, path: &str, place: &Place) -> Option<String> {
        let refuse = |message: String, help: &str| {
            let problem = Problem::new(place, "", message).help(help);
            (None, Some(problem))
        };
        let (text, problem) = match self.files.look(path) {
            Found::File(file) if file.bytes.len() > TEXT_BYTES_MAX => refuse(
                format!("{path} has more than {TEXT_BYTES_MAX} bytes"),
                "Split it",
            ),
            Found::File(file) => match std::str::from_utf8(&file.bytes) {
                Ok(text) if secret::has_mark(text) => refuse(
                    format!("{path} has characters that are kept for secrets (U+F5EC0, U+F5EC1)"),
                    "Take them out",
                ),
                Ok(text) => (Some(text.to_owned()), None),
                Err(_) => refuse(format!("{path} is not UTF-8"), "Save it as UTF-8"),
            },
            Found::Folder(_) => refuse(format!("{path} is a folder"), "Name a file in it"),
            Found::Other(what) => refuse(
                format!("{path} is {what}, which does not ship"),
                "Put a copy of the file there",
            ),
            Found::Absent => refuse(
                format!("{path} is not there"),
                "Write it, or correct the path",
            ),
            Found::Unreadable(why) => refuse(
                format!("{path} cannot be read: {why}"),
                "Give yourself the right to read it",
            ),
        };
        if let Some(problem) = problem {
            self.out.refuse(problem);
        }
        text
    }

    /// Documents of one Compose file, interpolated.
    pub(super) fn documents(
        &mut self,
        path: &str,
        project: &Project,
        base: &str,
        place: &Place,
    ) -> Option<Vec<Node>> {
        self.read += 1;
        if self.read > FILES_MAX {
            let message = format!("more than {FILES_MAX} Compose files are one stack");
            self.out.refuse(Problem::new(place, "", message));
            return None;
        }
        let text = self.text(path, place)?;
        let origin = Arc::new(Origin {
            file: path.to_owned(),
            base: base.to_owned(),
        });
        let mut documents = match yaml::parse(&text, &origin) {
            Ok(documents) => documents,
            Err(problem) => {
                self.out.refuse(problem);
                return None;
            }
        };
        let scope = Scope {
            variables: self.variables,
            defaults: project.defaults.clone(),
            used: &self.used,
            missing: RefCell::default(),
            place: RefCell::default(),
        };
        for document in &mut documents {
            scope.tree(document, &mut self.out);
        }
        Some(documents)
    }

    /// Every file of a project as one tree.
    pub(super) fn project(&mut self, project: &Project, place: &Place) -> Option<Node> {
        let mut whole: Option<Node> = None;
        for path in &project.files {
            let documents = self.documents(path, project, &project.base, place)?;
            for document in documents {
                if document.is_null() {
                    continue;
                }
                if document.entries().is_none() {
                    let message = format!("a Compose file is a map, and not {}", document.what());
                    self.out.refuse(Problem::new(&document.place, "", message));
                    return None;
                }
                let base = whole.take();
                whole = Some(self.over(base, document, path, project)?);
            }
        }
        if whole.is_none() {
            let at = project
                .files
                .first()
                .map_or_else(|| place.clone(), |f| Place::file(f));
            self.out.refuse(
                Problem::new(&at, "", "there is nothing in it")
                    .help("Write at least one service under services:"),
            );
        }
        whole
    }

    /// One document over those before it.
    fn over(
        &mut self,
        base: Option<Node>,
        mut document: Node,
        path: &str,
        project: &Project,
    ) -> Option<Node> {
        let place = document.place.clone();
        let mut base = base.unwrap_or_else(|| Node::new(&place, Value::Map(Vec::new())));
        // What is reset here is reset in earlier files, before `extends` uses the tags up.
        apply_tags(&mut base, &document);
        if let Some(includes) = document.take("include") {
            self.include(&mut document, &includes, path, project)?;
        }
        self.extends(&mut document, path, project)?;
        match merge(base, document, &[]) {
            Ok(merged) => Some(merged),
            Err(problem) => {
                self.out.refuse(problem);
                None
            }
        }
    }
}
