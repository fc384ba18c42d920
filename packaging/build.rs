//! Build script of the programs: names the commit that they are built from.
//!
//! `STERNLINE_COMMIT` wins, for sources without their history. Otherwise git is asked,
//! and asked again only when a source of the program changes: it is built again then
//! anyway, and a commit of anything else costs no build. So the commit is the one that
//! was checked out when this program's sources took their present form, and `-dirty`
//! says that they differed from it; both stay true whatever is committed later.

use std::{env, fs, process::Command};

/// What a program is made of, from its own folder; `git` knows what of it has changed.
const SOURCES: &[&str] = &[
    "Cargo.toml",
    "src",
    "migrations",
    "core/Cargo.toml",
    "core/src",
    "probe/Cargo.toml",
    "probe/src",
    "scenarios",
    "../packaging/build.rs",
    "../packaging/manual.rs",
    "../packaging/version.rs",
    "../Cargo.toml",
    "../Cargo.lock",
    "../.cargo",
    "../wire/Cargo.toml",
    "../wire/build.rs",
    "../wire/proto",
    "../wire/src",
    "../tunnel/Cargo.toml",
    "../tunnel/src",
    "../compose/Cargo.toml",
    "../compose/src",
    "../netsim/probe/Cargo.toml",
    "../netsim/probe/src",
];

/// Enough to be unique for as long as the project lives.
const COMMIT_DIGITS: &str = "--short=12";

fn main() {
    println!("cargo:rerun-if-env-changed=STERNLINE_COMMIT");
    let there = |path: &&&str| fs::exists(path).unwrap_or_default();
    for path in SOURCES.iter().filter(there) {
        println!("cargo:rerun-if-changed={path}");
    }
    let told = env::var("STERNLINE_COMMIT")
        .ok()
        .filter(|told| !told.trim().is_empty());
    let commit = told.or_else(commit).unwrap_or_else(|| "unknown".to_owned());
    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let built_by = said(&rustc, &["--version"]).unwrap_or_else(|| "rustc".to_owned());
    let lock = fs::read_to_string("../Cargo.lock").unwrap_or_default();
    let tls = format!(
        "rustls {}, aws-lc-rs {}",
        locked(&lock, "rustls"),
        locked(&lock, "aws-lc-rs")
    );
    if can_pack_relocations() {
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
    println!("cargo:rustc-env=STERNLINE_COMMIT={}", commit.trim());
    println!("cargo:rustc-env=STERNLINE_RUSTC={built_by}");
    println!("cargo:rustc-env=STERNLINE_TLS={tls}");
    println!(
        "cargo:rustc-env=STERNLINE_TARGET={}",
        env::var("TARGET").unwrap_or_default()
    );
}

/// Whether the C library that becomes part of the program reads a packed list of
/// relocations, as glibc does from 2.36 on: an older one would leave them undone.
///
/// A static program moves itself at its start, and the list of what is to be moved then
/// stays in memory: half a megabyte of an agent's, and 6 kB packed. A linker that cannot
/// pack it warns, and goes on.
fn can_pack_relocations() -> bool {
    let is_native = env::var("HOST").ok() == env::var("TARGET").ok();
    let library = said("getconf", &["GNU_LIBC_VERSION"]).unwrap_or_default();
    let minor = library
        .strip_prefix("glibc 2.")
        .and_then(|minor| minor.parse::<u32>().ok());
    is_native && minor.is_some_and(|minor| minor >= 36)
}

/// The commit that is checked out, marked where the program's sources differ from it.
fn commit() -> Option<String> {
    let commit = said("git", &["rev-parse", COMMIT_DIGITS, "HEAD"])?;
    let mut status = vec!["--no-optional-locks", "status", "--porcelain", "--"];
    status.extend(SOURCES);
    let changed = said("git", &status)?;
    Some(match changed.is_empty() {
        true => commit,
        false => format!("{commit}-dirty"),
    })
}

/// What a program prints, where it succeeds.
fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

/// The version of a crate that `Cargo.lock` has chosen.
fn locked<'a>(lock: &'a str, name: &str) -> &'a str {
    let (_, rest) = lock
        .split_once(&format!("name = \"{name}\"\nversion = \""))
        .unwrap_or_default();
    rest.split('"').next().unwrap_or_default()
}
