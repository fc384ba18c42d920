//! What ships: files and folders by relative path, `configs` and `secrets`.

use std::{collections::BTreeMap, sync::Arc};

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

use super::{
    super::{
        secret,
        sources::{BUNDLE_BYTES_MAX, FOLDER_DEPTH_MAX, FOLDER_FILES_MAX, File, Found},
        spot::Spot,
        variables::Value as Variable,
    },
    Reader, mounts, network,
};
use crate::model::{FileMount, Shipped};

/// Which of the two.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    Configs,
    Secrets,
}

impl Section {
    fn key(self) -> &'static str {
        match self {
            Self::Configs => "configs",
            Self::Secrets => "secrets",
        }
    }

    /// Keys of [`Stack::files`](crate::model::Stack::files) must not meet.
    fn source(self, name: &str) -> String {
        match self {
            Self::Configs => format!("config:{name}"),
            Self::Secrets => format!("secret:{name}"),
        }
    }

    /// Where a target that is not absolute begins.
    fn folder(self) -> &'static str {
        match self {
            Self::Configs => "/",
            Self::Secrets => "/run/secrets/",
        }
    }
}

/// `configs` or `secrets` of a service; of equal targets the last, in the place of the first.
pub(super) fn file_mounts(
    section: Section,
    spot: &Spot<'_>,
    top: &Spot<'_>,
    reader: &mut Reader<'_, '_>,
) -> Vec<FileMount> {
    let mut mounts: Vec<FileMount> = Vec::new();
    let Some(list) = spot.get(section.key()) else {
        return mounts;
    };
    list.need_list(reader.out());
    for item in list.items() {
        let Some((name, mount)) = file_mount(section, &item, reader) else {
            continue;
        };
        let all = top.get(section.key());
        let defined = all.as_ref().and_then(|all| all.get(&name));
        let Some(defined) = defined else {
            let key = section.key();
            let message = format!("{name} is not under {key}: at the top level");
            let help = format!("Write {key}: there, and {name}: with file: or environment:");
            reader.out().refuse(item.problem(message, help));
            continue;
        };
        if !reader.files.contains_key(&mount.source)
            && let Some(content) = content(section, &defined, reader)
        {
            reader.files.insert(mount.source.clone(), content);
        }
        match mounts.iter_mut().find(|kept| kept.target == mount.target) {
            Some(kept) => *kept = mount,
            None => mounts.push(mount),
        }
    }
    mounts
}

fn file_mount(
    section: Section,
    spot: &Spot<'_>,
    reader: &mut Reader<'_, '_>,
) -> Option<(String, FileMount)> {
    let out = reader.out();
    let mut mount = FileMount {
        source: String::new(),
        target: String::new(),
        uid: None,
        gid: None,
        mode: 0o444,
    };
    let mut target = None;
    let name = if spot.is_map() {
        let Some(source) = spot.get("source") else {
            out.refuse(spot.problem("has no source", "Write source: and its name"));
            return None;
        };
        target = spot.get("target").and_then(|spot| spot.open_text(out));
        let mut number = |key: &str| {
            let child = spot.get(key)?;
            child
                .int(0, i64::from(u32::MAX) - 1, out)
                .and_then(|id| u32::try_from(id).ok())
        };
        (mount.uid, mount.gid) = (number("uid"), number("gid"));
        if let Some(mode) = spot.get("mode").and_then(|spot| mounts::mode(&spot, out)) {
            // Who may write is not for the author to say, by the specification.
            mount.mode = mode & 0o7555;
        }
        source.open_text(out)?
    } else {
        spot.open_text(out)?
    };
    mount.source = section.source(&name);
    let target = target.unwrap_or_else(|| name.clone());
    mount.target = if target.starts_with('/') {
        target
    } else {
        format!("{}{target}", section.folder())
    };
    Some((name, mount))
}

/// What a config or a secret consists of.
fn content(section: Section, spot: &Spot<'_>, reader: &mut Reader<'_, '_>) -> Option<Shipped> {
    if !spot.need_map(reader.out()) {
        return None;
    }
    if spot.get("external").is_some()
        && network::flag(spot, "external", reader.out()) != Some(false)
    {
        // Refused by name already.
        return None;
    }
    let (file, variable) = (spot.get("file"), spot.get("environment"));
    let text = spot.get("content").filter(|_| section == Section::Configs);
    let given = [&file, &variable, &text].into_iter().flatten().count();
    if given != 1 {
        let all = match section {
            Section::Configs => "file, environment and content",
            Section::Secrets => "file and environment",
        };
        let message = format!("has {given} of {all}, and needs one");
        reader
            .out()
            .refuse(spot.problem(message, "Write one of them below it"));
        return None;
    }
    if let Some(file) = file {
        let path = file.open_text(reader.out())?;
        let shipped = reader.shipped(&path, &file)?;
        if matches!(shipped, Shipped::Folder { .. }) {
            reader
                .out()
                .refuse(file.problem(format!("{path} is a folder"), "Name a file in it"));
            return None;
        }
        return Some(shipped);
    }
    if let Some(text) = text {
        let text = text.text(reader.out())?;
        return Some(Shipped::Text { text });
    }
    let variable = variable?;
    let name = variable.open_text(reader.out())?;
    let used = reader.scope();
    *used.place.borrow_mut() = Some(variable.node.place.clone());
    let value = super::super::interpolate::Lookup::get(&used, &name);
    match (reader.from.variables.get(&name), value) {
        (Some(Variable::Secret), _) => Some(Shipped::Secret { variable: name }),
        (_, Some(text)) => {
            if section == Section::Secrets {
                let message =
                    format!("the variable {name} is for all to read, and so is this secret");
                let help = format!("Set it with --secret {name}=@FILE");
                reader.out().warn(variable.problem(message, help));
            }
            Some(Shipped::Text { text })
        }
        (_, None) => {
            let message = format!("the variable {name} has no value");
            let help = match section {
                Section::Secrets => format!("Set it with --secret {name}=@FILE"),
                Section::Configs => format!("Set it with --set {name}=VALUE"),
            };
            reader.out().refuse(variable.problem(message, help));
            None
        }
    }
}

impl Reader<'_, '_> {
    /// A file or a folder for a mount: its key in [`Stack::files`](crate::model::Stack::files).
    pub(super) fn ship_path(&mut self, path: &str, spot: &Spot<'_>) -> Option<String> {
        let base = spot.node.place.origin.base.clone();
        let inside = self
            .from
            .inside(&base, path, &spot.node.place, &spot.path())?;
        let key = format!("file:{}", if inside.is_empty() { "." } else { &inside });
        if !self.files.contains_key(&key) {
            let shipped = self.shipped(path, spot)?;
            self.files.insert(key.clone(), shipped);
        }
        Some(key)
    }

    fn shipped(&mut self, path: &str, spot: &Spot<'_>) -> Option<Shipped> {
        let base = spot.node.place.origin.base.clone();
        let inside = self
            .from
            .inside(&base, path, &spot.node.place, &spot.path())?;
        let mut count = 0;
        match self.walk(&inside, 0, &mut count) {
            Ok(shipped) => Some(shipped),
            Err((message, help)) => {
                self.out().refuse(spot.problem(message, help));
                None
            }
        }
    }

    fn walk(
        &mut self,
        path: &str,
        depth: usize,
        count: &mut usize,
    ) -> Result<Shipped, (String, &'static str)> {
        let shown = if path.is_empty() {
            "the project's folder"
        } else {
            path
        };
        *count += 1;
        if *count > FOLDER_FILES_MAX || depth > FOLDER_DEPTH_MAX {
            let message = format!("{shown} is one of more than {FOLDER_FILES_MAX} files");
            return Err((message, "Ship fewer, or put them into an image"));
        }
        match self.from.files.look(path) {
            Found::File(file) => self.keep(&file).ok_or_else(|| {
                let message = format!("more than {BUNDLE_BYTES_MAX} bytes ship with this release");
                (message, "Ship less, or put it into an image")
            }),
            Found::Folder(names) => {
                let mut entries = BTreeMap::new();
                for name in names {
                    let inner = if path.is_empty() {
                        name.clone()
                    } else {
                        format!("{path}/{name}")
                    };
                    entries.extend(self.inside_folder(&name, &inner, depth, count)?);
                }
                Ok(Shipped::Folder { entries })
            }
            Found::Other(what) => Err((
                format!("{shown} is {what}, which does not ship"),
                "Put a copy of the file there",
            )),
            Found::Absent => Err((
                format!("{shown} is not there, and so cannot ship with the release"),
                "Write it; a path of the customer's host begins with /",
            )),
            Found::Unreadable(why) => Err((
                format!("{shown} cannot be read: {why}"),
                "Give yourself the right to read it",
            )),
        }
    }

    /// A folder's files by their path in it: folders in it are written out.
    fn inside_folder(
        &mut self,
        name: &str,
        path: &str,
        depth: usize,
        count: &mut usize,
    ) -> Result<BTreeMap<String, Shipped>, (String, &'static str)> {
        let shipped = self.walk(path, depth + 1, count)?;
        Ok(match shipped {
            Shipped::Folder { entries } if !entries.is_empty() => {
                let inner = entries.into_iter();
                inner
                    .map(|(below, file)| (format!("{name}/{below}"), file))
                    .collect()
            }
            file => BTreeMap::from([(name.to_owned(), file)]),
        })
    }

    /// Remembers a file's bytes by their digest. None: there are too many.
    fn keep(&mut self, file: &File) -> Option<Shipped> {
        let digest = format!("sha256:{}", HEXLOWER.encode(&Sha256::digest(&file.bytes)));
        let size = u64::try_from(file.bytes.len()).ok()?;
        if !self.blobs.contains_key(&digest) {
            self.bytes = self.bytes.checked_add(size)?;
            if self.bytes > BUNDLE_BYTES_MAX {
                return None;
            }
            self.blobs.insert(digest.clone(), Arc::clone(&file.bytes));
        }
        Some(Shipped::File {
            digest,
            size,
            mode: file.mode,
        })
    }

    /// `security_opt`: the file of a seccomp profile is put in its place.
    pub(super) fn security_opt(&mut self, spot: &Spot<'_>) -> Vec<String> {
        let mut options: Vec<String> = Vec::new();
        spot.need_list(self.out());
        for item in spot.items() {
            let Some(text) = item.text(self.out()) else {
                continue;
            };
            if options.contains(&text) {
                continue;
            }
            let named = text
                .strip_prefix("seccomp=")
                .or_else(|| text.strip_prefix("seccomp:"));
            let is_file = named.is_some_and(|path| {
                !matches!(path, "unconfined" | "builtin" | "default") && !path.starts_with('{')
            });
            let Some(path) = named.filter(|_| is_file) else {
                options.push(text);
                continue;
            };
            let base = item.node.place.origin.base.clone();
            let inside = self
                .from
                .inside(&base, path, &item.node.place, &item.path());
            let profile = inside.and_then(|path| self.from.text(&path, &item.node.place));
            let Some(profile) = profile else {
                continue;
            };
            match serde_json::from_str::<serde_json::Value>(&profile) {
                Ok(json) if !secret::has_mark(&profile) => options.push(format!("seccomp={json}")),
                _ => {
                    let message = format!("{path} is no JSON");
                    self.out()
                        .refuse(item.problem(message, "Name a seccomp profile"));
                }
            }
        }
        options
    }
}
