//! From an operator's disk to the bundle of a release.

use std::{
    collections::BTreeMap,
    fs,
    io::Read as _,
    os::unix::fs::PermissionsExt as _,
    path::{Component, Path, PathBuf},
};

use compose::load::{
    self, Bundle, File, Files, Found, Level, Sources, Variables, dotenv, references,
};
use zeroize::Zeroizing;

use super::FileArgs;
use crate::{
    cli::{
        failure::{Exit, Failure},
        name::StackName,
    },
    limits::{BLOB_BYTES_MAX, VARIABLE_BYTES_MAX},
};

/// Compose files that are looked for, and what is merged over each where it is there.
const DEFAULTS: [(&str, &str); 4] = [
    ("compose.yaml", "compose.override.yaml"),
    ("compose.yml", "compose.override.yml"),
    ("docker-compose.yml", "docker-compose.override.yml"),
    ("docker-compose.yaml", "docker-compose.override.yaml"),
];

/// What a release is made of, read from the disk.
pub(super) struct Gathered {
    pub(super) compose: Vec<String>,
    pub(super) bundle: Bundle,
    pub(super) variables: BTreeMap<String, String>,
    pub(super) secrets: BTreeMap<String, Zeroizing<String>>,
}

/// The files below a folder. Links are not followed: what ships is what is there.
struct Disk {
    root: PathBuf,
}

impl Files for Disk {
    fn look(&self, path: &str) -> Found {
        let full = match path {
            "" => self.root.clone(),
            path => self.root.join(path),
        };
        let metadata = match fs::symlink_metadata(&full) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Found::Absent,
            Err(error) => return Found::Unreadable(error.to_string()),
        };
        if metadata.is_dir() {
            return folder(&full);
        }
        if metadata.is_symlink() {
            return Found::Other("a symbolic link");
        }
        if !metadata.is_file() {
            return Found::Other("neither a file nor a folder");
        }
        if metadata.len() > BLOB_BYTES_MAX as u64 {
            return Found::Unreadable(format!("it has more than {BLOB_BYTES_MAX} bytes"));
        }
        match read(&full) {
            Ok(bytes) => Found::File(File {
                bytes: bytes.into(),
                mode: metadata.permissions().mode() & 0o7777,
            }),
            Err(error) => Found::Unreadable(error.to_string()),
        }
    }
}

fn folder(path: &Path) -> Found {
    let listed = fs::read_dir(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match listed {
        Ok(entries) => {
            let names = entries.into_iter().map(|entry| entry.file_name());
            let mut names: Vec<String> = names
                .map(|name| name.to_string_lossy().into_owned())
                .collect();
            names.sort();
            Found::Folder(names)
        }
        Err(error) => Found::Unreadable(error.to_string()),
    }
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = fs::File::open(path)?;
    // It may have grown since it was looked at.
    file.take(BLOB_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads everything that the Compose files refer to. `None`: no file was named, and none of
/// the usual ones is there.
pub(super) fn gather(stack: &StackName, args: &FileArgs) -> Result<Option<Gathered>, Failure> {
    let Some(files) = compose_files(args)? else {
        return Ok(None);
    };
    let root = match (&args.project_directory, files.first()) {
        (Some(root), _) => root.clone(),
        (None, Some(first)) => first.parent().unwrap_or_else(|| Path::new("")).to_owned(),
        (None, None) => return Ok(None),
    };
    let root = absolute(&root)?;
    let inside = files.iter().map(|file| path_in(&root, file));
    let compose = inside.collect::<Result<Vec<_>, _>>()?;
    let (mut variables, written) = variables(args, &root)?;
    let secrets = secrets(args)?;
    for name in secrets.keys() {
        variables.set(Level::Given, name, load::variables::Value::Secret);
    }
    let disk = Disk { root };
    let sources = Sources {
        files: &disk,
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

fn compose_files(args: &FileArgs) -> Result<Option<Vec<PathBuf>>, Failure> {
    if !args.files.is_empty() {
        let missing = args.files.iter().find(|path| !path.is_file());
        if let Some(path) = missing {
            let message = format!("there is no Compose file `{}`", path.display());
            return Err(Failure::new(Exit::Usage, message).advise("check the path given with -f"));
        }
        return Ok(Some(args.files.clone()));
    }
    let root = args.project_directory.clone().unwrap_or_default();
    let mut there = DEFAULTS
        .iter()
        .filter(|(name, _)| root.join(name).is_file());
    let Some((name, over)) = there.next() else {
        return Ok(None);
    };
    let both = [root.join(name), root.join(over)];
    Ok(Some(
        both.into_iter().filter(|path| path.is_file()).collect(),
    ))
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    fs::canonicalize(path).map_err(|error| {
        Failure::new(
            Exit::Usage,
            format!("cannot use the folder `{}`: {error}", path.display()),
        )
    })
}

/// A file's path in the bundle.
fn path_in(root: &Path, file: &Path) -> Result<String, Failure> {
    let folder = absolute(file.parent().unwrap_or_else(|| Path::new("")))?;
    let full = folder.join(file.file_name().unwrap_or_default());
    let inside = full.strip_prefix(root).map_err(|_| {
        let message = format!(
            "`{}` is not below `{}`, the folder of the release",
            file.display(),
            root.display()
        );
        Failure::new(Exit::Usage, message)
            .advise("name a folder above both with --project-directory")
    })?;
    let parts = inside.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_string_lossy()),
        _ => None,
    });
    Ok(parts.collect::<Vec<_>>().join("/"))
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
