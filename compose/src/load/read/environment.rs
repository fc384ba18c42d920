//! `environment`, `env_file`, `labels` and `label_file`.

use std::collections::BTreeMap;

use super::{
    super::{
        dotenv,
        interpolate::{Lookup, Scope},
        node::Value,
        problem::{Place, Problem},
        sources::Found,
        spot::Spot,
    },
    Reader,
};

/// Variables of the stack, then those of the service.
struct ServiceScope<'a> {
    scope: Scope<'a>,
    own: &'a BTreeMap<String, Option<String>>,
}

impl Lookup for ServiceScope<'_> {
    fn get(&self, name: &str) -> Option<String> {
        self.scope
            .get(name)
            .or_else(|| self.own.get(name).cloned().flatten())
    }

    fn missing(&self, name: &str) {
        self.scope.missing(name);
    }
}

/// One entry of `env_file`.
struct EnvFile {
    path: String,
    required: bool,
    is_raw: bool,
    place: Place,
    at: String,
    base: String,
}

/// `environment` over `env_file`.
pub(super) fn environment(
    spot: &Spot<'_>,
    reader: &mut Reader<'_, '_>,
) -> BTreeMap<String, Option<String>> {
    let mut own = match spot.get("environment") {
        Some(spot) => spot.pairs(reader.out()),
        None => BTreeMap::new(),
    };
    for (name, value) in &mut own {
        if value.is_none() {
            *value = reader.scope().get(name);
        }
    }
    let files = match spot.get("env_file") {
        Some(spot) => env_files(&spot, reader),
        None => Vec::new(),
    };
    let mut all: BTreeMap<String, Option<String>> = BTreeMap::new();
    for file in files {
        for (name, value) in entries(&file, &own, reader) {
            // A name alone takes the variable away, by the specification and by 1.29 of Docker's
            // tool; later ones pass over it.
            all.insert(name, value);
        }
    }
    all.extend(own);
    all
}

fn env_files(spot: &Spot<'_>, reader: &mut Reader<'_, '_>) -> Vec<EnvFile> {
    if matches!(spot.node.value, Value::Scalar(..)) {
        return env_file(spot, reader).into_iter().collect();
    }
    spot.need_list(reader.out());
    let mut files = Vec::new();
    for item in spot.items() {
        files.extend(env_file(&item, reader));
    }
    files
}

fn env_file(spot: &Spot<'_>, reader: &mut Reader<'_, '_>) -> Option<EnvFile> {
    let (path, required, is_raw) = if spot.is_map() {
        let Some(path) = spot.get("path") else {
            reader
                .out()
                .refuse(spot.problem("has no path", "Write path: and the file's path"));
            return None;
        };
        let path = path.open_text(reader.out())?;
        let required = spot
            .get("required")
            .and_then(|spot| spot.bool(reader.out()));
        let format = spot.get("format");
        let format = format.and_then(|spot| spot.choice(&["raw"], reader.out()));
        (path, required.unwrap_or(true), format.is_some())
    } else {
        (spot.open_text(reader.out())?, true, false)
    };
    Some(EnvFile {
        path,
        required,
        is_raw,
        place: spot.node.place.clone(),
        at: spot.path(),
        base: spot.node.place.origin.base.clone(),
    })
}

fn entries(
    file: &EnvFile,
    own: &BTreeMap<String, Option<String>>,
    reader: &mut Reader<'_, '_>,
) -> Vec<dotenv::Entry> {
    let path = reader
        .from
        .inside(&file.base, &file.path, &file.place, &file.at);
    let Some(path) = path else {
        return Vec::new();
    };
    if !file.required && matches!(reader.from.files.look(&path), Found::Absent) {
        return Vec::new();
    }
    let Some(text) = reader.from.text(&path, &file.place) else {
        return Vec::new();
    };
    if file.is_raw {
        return dotenv::parse_raw(&text);
    }
    let scope = ServiceScope {
        scope: reader.scope(),
        own,
    };
    *scope.scope.place.borrow_mut() = Some(Place::file(&path));
    let read = dotenv::parse(&text, &scope);
    let missing = scope.scope.missing.take();
    for name in missing {
        let message = format!("the variable {name} is not set; nothing stands in its place");
        let help = format!("Set it with --set {name}=VALUE, or write ${{{name}:-}}");
        reader
            .out()
            .warn(Problem::new(&Place::file(&path), "", message).help(help));
    }
    match read {
        Ok(entries) => entries,
        Err(mistake) => {
            let mut place = Place::file(&path);
            place.line = mistake.line;
            place.column = 1;
            let help = "Write NAME=VALUE, and quotes around a value that needs them";
            reader
                .out()
                .refuse(Problem::new(&place, "", mistake.message).help(help));
            Vec::new()
        }
    }
}

/// `labels` over `label_file`.
pub(super) fn labels(spot: &Spot<'_>, reader: &mut Reader<'_, '_>) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    if let Some(files) = spot.get("label_file") {
        // Each has the folder of the file that names it.
        let named: Vec<Spot<'_>> = if files.is_list() {
            files.items().collect()
        } else {
            vec![files]
        };
        for item in named {
            let Some(path) = item.open_text(reader.out()) else {
                continue;
            };
            let file = EnvFile {
                path,
                required: true,
                is_raw: false,
                place: item.node.place.clone(),
                at: item.path(),
                base: item.node.place.origin.base.clone(),
            };
            let read = entries(&file, &BTreeMap::new(), reader);
            all.extend(
                read.into_iter()
                    .map(|(name, value)| (name, value.unwrap_or_default())),
            );
        }
    }
    if let Some(labels) = spot.get("labels") {
        all.extend(labels.filled_pairs(reader.out()));
    }
    let ours = all
        .keys()
        .find(|name| name.starts_with("com.docker.compose"));
    if let Some(name) = ours {
        let message = format!("{name} is a label of Compose itself");
        let help = "Give it a name of your own";
        let at = spot.get("labels").or_else(|| spot.get("label_file"));
        reader
            .out()
            .refuse(at.unwrap_or(*spot).problem(message, help));
    }
    all
}
