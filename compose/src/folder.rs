//! Files of a stack on a disk. The one module here that is not pure: it reads, for who stands
//! above, and decides nothing.

use std::{
    fs,
    io::{self, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::{Component, Path, PathBuf},
};

use thiserror::Error;

use crate::load::{BUNDLE_BYTES_MAX, File, Files, Found};

/// Compose files that are looked for, and what is merged over each where it is there.
const USUAL: [(&str, &str); 4] = [
    ("compose.yaml", "compose.override.yaml"),
    ("compose.yml", "compose.override.yml"),
    ("docker-compose.yml", "docker-compose.override.yml"),
    ("docker-compose.yaml", "docker-compose.override.yaml"),
];

/// The files below a folder. Links are not followed: what ships is what is there.
#[derive(Debug, Clone)]
pub struct Folder {
    root: PathBuf,
}

/// Why Compose files cannot be used.
#[derive(Debug, Error)]
pub enum FolderError {
    /// None was named, and none of the usual ones is there.
    #[error("there is no compose.yaml in {0}: name a file with -f")]
    NoFile(String),
    /// One that was named is not there.
    #[error("there is no Compose file `{0}`: check the path given with -f")]
    Missing(String),
    /// It lies elsewhere.
    #[error(
        "`{file}` is not below `{root}`, the folder of the stack: name a folder above both with \
         --project-directory"
    )]
    Outside {
        /// The file.
        file: String,
        /// The folder.
        root: String,
    },
    /// The folder is of no use.
    #[error("cannot use the folder `{path}`: {source}")]
    Unusable {
        /// The folder.
        path: String,
        /// What the system said.
        source: io::Error,
    },
}

impl Folder {
    /// The folder of a stack, and its Compose files by their paths in it: those that were
    /// named, or else the usual one with its override. The folder is `root`, or else that of
    /// the first file.
    ///
    /// # Errors
    ///
    /// See [`FolderError`].
    pub fn of(files: &[PathBuf], root: Option<&Path>) -> Result<(Self, Vec<String>), FolderError> {
        let files = match files {
            [] => usual(root.unwrap_or_else(|| Path::new(".")))?,
            files => files.to_vec(),
        };
        if let Some(missing) = files.iter().find(|path| !path.is_file()) {
            return Err(FolderError::Missing(missing.display().to_string()));
        }
        let first = files.first().and_then(|first| first.parent());
        let root = absolute(root.or(first).unwrap_or_else(|| Path::new("")))?;
        let paths = files.iter().map(|file| path_in(&root, file));
        let paths = paths.collect::<Result<_, _>>()?;
        Ok((Self { root }, paths))
    }

    /// The folder, absolute.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.root
    }
}

impl Files for Folder {
    fn look(&self, path: &str) -> Found {
        let full = match path {
            "" => self.root.clone(),
            path => self.root.join(path),
        };
        let metadata = match fs::symlink_metadata(&full) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Found::Absent,
            Err(error) => return Found::Unreadable(error.to_string()),
        };
        if metadata.is_dir() {
            return listed(&full);
        }
        if metadata.is_symlink() {
            return Found::Other("a symbolic link");
        }
        if !metadata.is_file() {
            return Found::Other("neither a file nor a folder");
        }
        if metadata.len() > BUNDLE_BYTES_MAX {
            return Found::Unreadable(format!("it has more than {BUNDLE_BYTES_MAX} bytes"));
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

fn listed(path: &Path) -> Found {
    let listed = fs::read_dir(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match listed {
        Ok(entries) => {
            let names = entries.into_iter().map(|entry| entry.file_name());
            let names = names.map(|name| name.to_string_lossy().into_owned());
            let mut names: Vec<String> = names.collect();
            names.sort();
            Found::Folder(names)
        }
        Err(error) => Found::Unreadable(error.to_string()),
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // It may have grown since it was looked at.
    let mut most = fs::File::open(path)?.take(BUNDLE_BYTES_MAX + 1);
    most.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn usual(root: &Path) -> Result<Vec<PathBuf>, FolderError> {
    let mut there = USUAL.iter().filter(|(name, _)| root.join(name).is_file());
    let Some((name, over)) = there.next() else {
        return Err(FolderError::NoFile(root.display().to_string()));
    };
    let both = [root.join(name), root.join(over)];
    Ok(both.into_iter().filter(|path| path.is_file()).collect())
}

fn absolute(path: &Path) -> Result<PathBuf, FolderError> {
    let path = match path.as_os_str().is_empty() {
        true => Path::new("."),
        false => path,
    };
    fs::canonicalize(path).map_err(|source| FolderError::Unusable {
        path: path.display().to_string(),
        source,
    })
}

fn path_in(root: &Path, file: &Path) -> Result<String, FolderError> {
    let folder = absolute(file.parent().unwrap_or_else(|| Path::new("")))?;
    let full = folder.join(file.file_name().unwrap_or_default());
    let inside = full.strip_prefix(root).map_err(|_| FolderError::Outside {
        file: file.display().to_string(),
        root: root.display().to_string(),
    })?;
    let parts = inside.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_string_lossy()),
        _ => None,
    });
    Ok(parts.collect::<Vec<_>>().join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_file_is_found_with_its_override_and_links_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["compose.yaml", "compose.override.yaml"] {
            fs::write(folder.path().join(name), "services: {}").unwrap();
        }
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("link")).unwrap();

        let (files, paths) = Folder::of(&[], Some(folder.path())).unwrap();

        assert_eq!(paths, ["compose.yaml", "compose.override.yaml"]);
        assert!(matches!(files.look("compose.yaml"), Found::File(_)));
        assert!(matches!(
            files.look("link"),
            Found::Other("a symbolic link")
        ));
        assert!(matches!(files.look("nothing"), Found::Absent));
    }

    #[test]
    fn a_file_outside_of_the_folder_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("compose.yml");
        fs::write(&file, "services: {}").unwrap();
        fs::create_dir(folder.path().join("inner")).unwrap();

        let refused = Folder::of(&[file], Some(&folder.path().join("inner"))).unwrap_err();

        assert!(
            refused.to_string().contains("--project-directory"),
            "{refused}"
        );
    }
}
