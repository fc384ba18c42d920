//! From an operator's disk to the bundle of a release.

use std::{
    collections::BTreeMap,
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use compose::{
    folder::{Folder, FolderError},
    load::{self, Bundle, Level, Sources, Variables, dotenv, references},
};
use zeroize::Zeroizing;

use super::FileArgs;
use crate::{
    cli::{
        failure::{Exit, Failure},
        name::StackName,
    },
    limits::VARIABLE_BYTES_MAX,
};

/// What a release is made of, read from the disk.
pub(super) struct Gathered {
    pub(super) compose: Vec<String>,
    pub(super) bundle: Bundle,
    pub(super) variables: BTreeMap<String, String>,
    pub(super) secrets: BTreeMap<String, Zeroizing<String>>,
}

/// Reads everything that the Compose files refer to. `None`: no file was named, and none of
/// the usual ones is there.
pub(super) fn gather(stack: &StackName, args: &FileArgs) -> Result<Option<Gathered>, Failure> {
    let (folder, compose) = match Folder::of(&args.files, args.project_directory.as_deref()) {
        Ok(found) => found,
        Err(FolderError::NoFile(_)) => return Ok(None),
        Err(error) => return Err(Failure::new(Exit::Usage, error.to_string())),
    };
    let (mut variables, written) = variables(args, folder.path())?;
    let secrets = secrets(args)?;
    for name in secrets.keys() {
        variables.set(Level::Given, name, load::variables::Value::Secret);
    }
    let sources = Sources {
        files: &folder,
        compose: compose.clone(),
        name: Some(stack.as_str().to_owned()),
        folder: None,
        profiles: args.profiles.iter().cloned().collect(),
        variables,
    };
    let found = references(&sources);
    let is_there = |path: &&String| found.bundle.contains_key(*path);
    if let Some(path) = compose.iter().find(|path| !is_there(path)) {
        let problem = found.problems.first().map(ToString::to_string);
        let message = problem.unwrap_or_else(|| format!("there is no file {path}"));
        return Err(Failure::new(Exit::Usage, message));
    }
    Ok(Some(Gathered {
        variables: of_interest(written, &found.bundle),
        compose,
        bundle: found.bundle,
        secrets,
    }))
}

/// Variables of files and of `--set`: as the loader takes them, and in a table. Of `.env`, which
/// nobody has named, it is noted.
type Written = BTreeMap<String, (String, bool)>;

fn variables(args: &FileArgs, root: &Path) -> Result<(Variables, Written), Failure> {
    let mut variables = Variables::default();
    let mut written = Written::new();
    let usual = root.join(".env");
    let named = args.env_files.iter().map(|path| (path.clone(), true));
    let mut files: Vec<(PathBuf, bool)> = named.collect();
    if files.is_empty() && usual.is_file() {
        files.push((usual, false));
    }
    for (path, is_named) in files {
        let wrong =
            |message: String| Failure::new(Exit::Usage, format!("`{}`: {message}", path.display()));
        let text = fs::read_to_string(&path).map_err(|error| wrong(error.to_string()))?;
        dotenv::set(&mut variables, Level::File, &text)
            .map_err(|mistake| wrong(format!("line {}: {}", mistake.line, mistake.message)))?;
        for name in names_in(&text) {
            if let Some(load::variables::Value::Plain(value)) = variables.get(name) {
                written.insert(name.to_owned(), (value.clone(), is_named));
            }
        }
    }
    for set in &args.set {
        variables.plain(Level::Given, &set.key, &set.value);
        written.insert(set.key.clone(), (set.value.clone(), true));
    }
    Ok((variables, written))
}

/// What may be a name at the beginning of a line; those that were not set are none.
fn names_in(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let line = line.trim().trim_start_matches('\u{FEFF}');
        let line = line.strip_prefix("export ").unwrap_or(line);
        Some(line.split_once('=')?.0.trim())
    })
}

/// Of a `.env` that nobody has named, only what the files may ask for is part of the release:
/// what else lies in it is nobody's business.
fn of_interest(written: Written, bundle: &Bundle) -> BTreeMap<String, String> {
    let texts: Vec<&str> = bundle
        .values()
        .filter(|file| file.bytes.len() <= load::TEXT_BYTES_MAX)
        .filter_map(|file| std::str::from_utf8(&file.bytes).ok())
        .collect();
    let is_asked_for = |name: &str| texts.iter().any(|text| text.contains(name));
    let kept = written
        .into_iter()
        .filter(|(name, (_, is_named))| *is_named || is_asked_for(name));
    kept.map(|(name, (value, _))| (name, value)).collect()
}

fn secrets(args: &FileArgs) -> Result<BTreeMap<String, Zeroizing<String>>, Failure> {
    let mut secrets = BTreeMap::new();
    for secret in &args.secrets {
        secrets.insert(
            secret.key.clone(),
            secret_value(&secret.key, &secret.value)?,
        );
    }
    Ok(secrets)
}

/// A secret's value: what is in the file after `@`; `@-` is standard input.
pub(in crate::cli) fn secret_value(name: &str, from: &str) -> Result<Zeroizing<String>, Failure> {
    let wrong = |message: String| Failure::new(Exit::Usage, format!("secret `{name}`: {message}"));
    let Some(path) = from.strip_prefix('@') else {
        return Err(
            wrong("every user of this machine sees arguments".to_owned()).advise(format!(
                "put the value into a file, and give {name}=@FILE, or {name}=@-"
            )),
        );
    };
    let mut text = Zeroizing::new(String::new());
    let most = VARIABLE_BYTES_MAX as u64 + 1;
    let read = match path {
        "-" => std::io::stdin().lock().take(most).read_to_string(&mut text),
        path => {
            let file = fs::File::open(path).map_err(|error| wrong(format!("`{path}`: {error}")))?;
            file.take(most).read_to_string(&mut text)
        }
    };
    read.map_err(|error| wrong(format!("`{path}`: {error}")))?;
    if text.len() > VARIABLE_BYTES_MAX {
        return Err(wrong(format!("more than {VARIABLE_BYTES_MAX} bytes")));
    }
    // An editor ends the last line; a password seldom ends with one.
    let value = text.strip_suffix('\n').unwrap_or(&text);
    let value = value.strip_suffix('\r').unwrap_or(value);
    Ok(Zeroizing::new(value.to_owned()))
}
