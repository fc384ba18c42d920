//! The house style as tests: what CONTRIBUTING.md says and a machine can check.

mod documents;
mod files;
mod floors;
mod sources;
