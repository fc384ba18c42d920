//! Tells cargo to look again when a migration changes, and names the commit.
//!
//! The commit comes from whoever packages the program, in STERNLINE_COMMIT: asking
//! git here would name a commit that the sources may have left behind since.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
    println!("cargo:rerun-if-env-changed=STERNLINE_COMMIT");
    let commit = std::env::var("STERNLINE_COMMIT").unwrap_or_else(|_| "unknown".to_owned());
    println!("cargo:rustc-env=STERNLINE_COMMIT={commit}");
}
