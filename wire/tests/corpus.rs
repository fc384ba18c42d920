//! The fuzz corpus as an ordinary test, and the same bodies on random bytes.
//!
//! Seeds are written, where they are missing, by `STERNLINE_GOLDEN=write`; what the
//! fuzzer finds is added to them.

use std::{fs, path::PathBuf};

use proptest::{
    prelude::*,
    test_runner::{Config, FileFailurePersistence},
};

#[path = "../fuzz/body.rs"]
mod body;

/// What a target has at least: one seed for each frame type, or enough to begin with.
const SEEDS_MIN: usize = 20;

fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    if std::env::var("STERNLINE_GOLDEN").is_ok_and(|value| value == "write") {
        write_seeds(&directory, target);
    }
    let mut files: Vec<_> = fs::read_dir(&directory)
        .expect("a readable file")
        .map(|entry| entry.expect("a readable file").path())
        .collect();
    files.sort();
    files
        .into_iter()
        .map(|path| (path.clone(), fs::read(path).expect("a readable file")))
        .collect()
}

/// For frames, the golden bytes; for sessions, numbers that look random.
fn write_seeds(directory: &PathBuf, target: &str) {
    fs::create_dir_all(directory).expect("a readable file");
    if target == "frame" {
        let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1");
        for entry in fs::read_dir(golden).expect("a readable file") {
            let path = entry.expect("a readable file").path();
            let text: String = fs::read_to_string(&path)
                .expect("a readable file")
                .split_whitespace()
                .collect();
            let bytes: Vec<u8> = (0..text.len() / 2)
                .map(|at| {
                    u8::from_str_radix(&text[2 * at..2 * at + 2], 16).expect("a readable file")
                })
                .collect();
            fs::write(
                directory.join(path.file_stem().expect("a readable file")),
                bytes,
            )
            .expect("a readable file");
        }
        return;
    }
    let mut state = 1_u64;
    for seed in 0..24 {
        let bytes: Vec<u8> = (0..64 << (seed % 4))
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (state >> 56) as u8
            })
            .collect();
        fs::write(directory.join(format!("seed-{seed:02}")), bytes).expect("a readable file");
    }
}

fn config() -> Config {
    let file = FileFailurePersistence::Direct("proptest-regressions/corpus.txt");
    Config {
        failure_persistence: Some(Box::new(file)),
        ..Config::default()
    }
}

#[test]
fn the_corpus_of_frames_is_decoded() {
    let corpus = corpus("frame");

    assert!(corpus.len() >= SEEDS_MIN, "only {} files", corpus.len());
    for (_, data) in corpus {
        body::frame(&data);
    }
}

#[test]
fn the_corpus_of_sessions_is_survived() {
    let corpus = corpus("session");

    assert!(corpus.len() >= SEEDS_MIN, "only {} files", corpus.len());
    for (_, data) in corpus {
        body::session(&data);
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_bytes_are_survived_as_frames(data in prop::collection::vec(any::<u8>(), 0..400)) {
        body::frame(&data);
    }

    #[test]
    fn any_operations_are_survived_by_a_session(
        data in prop::collection::vec(any::<u8>(), 0..2_000),
    ) {
        body::session(&data);
    }
}
