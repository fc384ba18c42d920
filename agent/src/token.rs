//! The enrolment token on its way in: from the command line, a file or the environment.
//!
//! A command line is visible to every user of the host for as long as the process
//! lives, so a token given there is moved into an anonymous file, and the program
//! started once more in place, without it.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs::{self, File},
    io::{self, Write},
    os::{
        fd::AsRawFd,
        unix::{ffi::OsStrExt, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::Command,
};

use rustix::fs::MemfdFlags;
use thiserror::Error;
use wire::token::{EnrolToken, ParseTokenError, TOKEN_CHARS_MAX};
use zeroize::Zeroizing;

/// Names the token in the environment.
pub const TOKEN_VARIABLE: &str = "STERNLINE_TOKEN";

/// Where the anonymous file of a token appears after the second start.
const HANDED_OVER: &str = "/proc/self/fd/";

/// Why a token cannot be had. Never holds any part of it.
#[derive(Debug, Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error("cannot read the token file {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What was given is no token.
    #[error("{0}")]
    Parse(#[from] ParseTokenError),
}

/// Where a token may come from, in this order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenSources {
    /// `--token`, where it could not be moved away.
    pub argument: Option<String>,
    /// `--token-file`.
    pub file_argument: Option<PathBuf>,
    /// `STERNLINE_TOKEN`.
    pub variable: Option<OsString>,
    /// `token_file` of the configuration.
    pub file: Option<PathBuf>,
}

impl TokenSources {
    /// Reads the first that is given; `None` where none is.
    ///
    /// # Errors
    ///
    /// See [`TokenError`].
    pub fn read(&self) -> Result<Option<EnrolToken>, TokenError> {
        if let Some(text) = &self.argument {
            return Ok(Some(text.parse()?));
        }
        if let Some(path) = &self.file_argument {
            return read_file(path);
        }
        if let Some(text) = self.variable.as_ref().filter(|text| !text.is_empty()) {
            let text = text.to_str().ok_or(ParseTokenError::NotAToken)?;
            return Ok(Some(text.parse()?));
        }
        self.file.as_deref().map_or(Ok(None), read_file)
    }
}

/// A file without a word holds none: a unit of systemd has such a one where its
/// credential is not there.
fn read_file(path: &Path) -> Result<Option<EnrolToken>, TokenError> {
    let unreadable = |source| TokenError::Read {
        path: path.into(),
        source,
    };
    let metadata = fs::metadata(path).map_err(unreadable)?;
    if metadata.len() > 2 * TOKEN_CHARS_MAX as u64 {
        return Err(ParseTokenError::NotAToken.into());
    }
    let text = Zeroizing::new(fs::read_to_string(path).map_err(unreadable)?);
    if path.starts_with(HANDED_OVER) {
        // The anonymous file lives as long as the process: emptied, it tells nothing.
        drop(File::options().write(true).truncate(true).open(path));
    }
    if text.trim().is_empty() {
        return Ok(None);
    }
    Ok(Some(text.parse()?))
}

/// Starts this program again in place (same process id) with the token moved from
/// its arguments into an anonymous file. To be called before any thread starts.
///
/// # Errors
///
/// Returns only if it failed, with the reason; the token then stays visible.
pub fn move_out_of_arguments(token: &str) -> io::Error {
    let attempt = || -> io::Result<io::Error> {
        // Without close-on-exec: the next program shall find it.
        let mut file = File::from(rustix::fs::memfd_create("token", MemfdFlags::empty())?);
        file.write_all(token.as_bytes())?;
        let place = format!("{HANDED_OVER}{}", file.as_raw_fd());
        let mut arguments = env::args_os();
        let mut again = Command::new(env::current_exe()?);
        if let Some(name) = arguments.next() {
            again.arg0(name);
        }
        Ok(again
            .args(replace_token(arguments, OsStr::new(&place)))
            .exec())
    };
    attempt().unwrap_or_else(|error| error)
}

/// Puts `--token-file PLACE` where `--token …` stands.
fn replace_token(arguments: impl Iterator<Item = OsString>, place: &OsStr) -> Vec<OsString> {
    let mut replaced = Vec::new();
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let alone = argument == "--token";
        if alone {
            // Its value goes with it.
            drop(arguments.next());
        }
        if alone || argument.as_bytes().starts_with(b"--token=") {
            replaced.extend([OsString::from("--token-file"), place.to_owned()]);
        } else {
            replaced.push(argument);
        }
    }
    replaced
}

#[cfg(test)]
mod tests {
    use wire::{
        key::{PublicKey, Secret},
        token::RelayAddress,
    };

    use super::*;

    fn token(environment: &str) -> EnrolToken {
        EnrolToken {
            addresses: vec![RelayAddress {
                host: "relay.example".into(),
                tunnel_port: 8000,
                https_port: 443,
            }],
            relay_identity: PublicKey([3; 32]),
            secret: Secret::from_bytes([5; 32]),
            expires_unix_seconds: 1_800_000_000,
            environment: environment.into(),
        }
    }

    #[test]
    fn the_first_source_given_wins() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, format!("{}\n", token("file").to_text())).unwrap();
        let mut sources = TokenSources {
            argument: Some(token("argument").to_text()),
            file_argument: Some(path),
            variable: Some(token("variable").to_text().into()),
            file: Some("/nowhere".into()),
        };
        let mut read = |change: fn(&mut TokenSources)| {
            let environment = sources.read().unwrap().map(|token| token.environment);
            change(&mut sources);
            environment.unwrap()
        };

        assert_eq!(read(|sources| sources.argument = None), "argument");
        assert_eq!(read(|sources| sources.file_argument = None), "file");
        assert_eq!(
            read(|sources| sources.variable = Some("".into())),
            "variable"
        );
        assert!(matches!(sources.read(), Err(TokenError::Read { .. })));
    }

    #[test]
    fn a_file_that_holds_no_token_is_refused_without_repeating_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, "stl1_secretsecret").unwrap();

        let error = read_file(&path).unwrap_err();

        assert!(!format!("{error} {error:?}").contains("secretsecret"));
    }

    #[test]
    fn a_file_without_a_word_holds_no_token() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, "\n").unwrap();

        assert_eq!(read_file(&path).unwrap(), None);
    }

    #[test]
    fn the_arguments_of_the_second_start_do_not_hold_the_token() {
        for arguments in [
            ["run", "--token", "stl1_x", "--state-dir"].as_slice(),
            &["run", "--token=stl1_x", "--state-dir"],
        ] {
            let arguments = arguments.iter().map(OsString::from);

            let replaced = replace_token(arguments, OsStr::new("/proc/self/fd/3"));

            assert_eq!(
                replaced,
                ["run", "--token-file", "/proc/self/fd/3", "--state-dir"]
            );
        }
    }
}
