//! What a program is: its release, and what it was built from. A module of both programs,
//! because each has a build script of its own run.

/// The release.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit that it was built from, with `-dirty` where its sources differed from it.
pub const COMMIT: &str = env!("STERNLINE_COMMIT");

/// For `-V`.
pub const SHORT: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (",
    env!("STERNLINE_COMMIT"),
    ")"
);

/// For `--version`.
pub const LONG: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (",
    env!("STERNLINE_COMMIT"),
    ")\ntarget: ",
    env!("STERNLINE_TARGET"),
    "\ncompiler: ",
    env!("STERNLINE_RUSTC"),
    "\nTLS: ",
    env!("STERNLINE_TLS"),
);
