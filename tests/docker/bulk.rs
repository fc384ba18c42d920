//! Images and build contexts: whole, and never held in memory.

use std::{
    fs::{self, File},
    io::{Read, Write},
    path::Path,
    process::Stdio,
};

use crate::site::Site;

const MEBIBYTE: u64 = 1024 * 1024;

/// What relay and agent may hold at most while a gigabyte passes: two windows of
/// 16 MiB at each end of two sessions, TLS, and the program itself.
const RESIDENT_MAX: u64 = 160 * MEBIBYTE;

/// A file whose bytes no compression and no deduplication shortens.
pub(crate) fn write_noise(path: &Path, mebibytes: u64) {
    let mut file = File::create(path).expect("a file in a temporary folder");
    let mut block = vec![0_u8; MEBIBYTE as usize];
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    for _ in 0..mebibytes {
        for word in block.chunks_exact_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes());
        }
        file.write_all(&block).expect("there is room");
    }
}

/// Whether a file has the bytes that the other end gives, to its last.
fn has_the_bytes_of(file: &Path, mut other: impl Read) -> bool {
    let mut file = File::open(file).expect("it exists");
    let (mut a, mut b) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    loop {
        let length = file.read(&mut a).expect("it can be read");
        if length == 0 {
            return other.read(&mut b).expect("it can be read") == 0;
        }
        if other.read_exact(&mut b[..length]).is_err() || a[..length] != b[..length] {
            return false;
        }
    }
}

async fn a_large_image_travels_over(transport: &'static str) {
    let Some(site) = Site::over(transport).await else {
        return;
    };
    let tag = "sternline-test-large:1";
    let context = tempfile::tempdir().expect("a temporary folder");
    write_noise(&context.path().join("noise"), 1024);
    site.engine.build(context.path(), tag);
    drop(context);
    let far = site.scratch("far.tar");

    site.docker(&["save", "-o", &far.display().to_string(), tag])
        .await
        .success();
    assert!(fs::metadata(&far).expect("it was saved").len() > 1024 * MEBIBYTE);
    // Read as it comes: a second file of a gigabyte is more than some disks have.
    let mut near = site.engine.command(&["save", tag]);
    let mut near = near.stdout(Stdio::piped()).spawn().expect("docker runs");
    let said = near.stdout.take().expect("it is piped");
    assert!(
        has_the_bytes_of(&far, said),
        "the image was changed on the way"
    );
    assert!(near.wait().expect("it ends").success());
    site.engine.says(&["image", "rm", "-f", tag]);
    site.docker(&["load", "-i", &far.display().to_string()])
        .await
        .success();

    let loaded = site
        .engine
        .says(&["run", "--rm", tag, "wc", "-c", "/context/noise"]);
    assert!(
        loaded.starts_with(&(1024 * MEBIBYTE).to_string()),
        "{loaded}"
    );
    site.engine.says(&["image", "rm", "-f", tag]);
    for (what, process) in [
        ("relay", &site.relay.process),
        ("agent", &site.agent.process),
    ] {
        let peak = process.peak_resident_bytes();
        assert!(
            peak < RESIDENT_MAX,
            "the {what} held {} MiB",
            peak / MEBIBYTE
        );
        eprintln!("{what} over {transport}: at most {} MiB", peak / MEBIBYTE);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_of_a_gigabyte_travels_in_bounded_memory_over_quic() {
    a_large_image_travels_over("quic").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_of_a_gigabyte_travels_in_bounded_memory_over_websocket() {
    a_large_image_travels_over("ws").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_sends_a_large_context() {
    let Some(site) = Site::over("quic").await else {
        return;
    };
    let tag = "sternline-test-built:1";
    let context = site.scratch("context");
    fs::create_dir(&context).expect("a folder in a temporary folder");
    write_noise(&context.join("noise"), 200);
    let dockerfile = format!(
        "FROM {}\nCOPY noise /noise\nRUN wc -c /noise\n",
        site.image()
    );
    fs::write(context.join("Dockerfile"), dockerfile).expect("a file in a temporary folder");

    let folder = context.display().to_string();
    // Without a network: not every engine has a bridge.
    let build = [
        "docker",
        "acme",
        "--",
        "build",
        "--network",
        "none",
        "--tag",
        tag,
        &folder,
    ];
    let built = site.relay.operator_with(&build, |command| {
        // The classic builder sends the context itself; BuildKit needs a plugin.
        command.env("DOCKER_BUILDKIT", "0");
    });
    let printed = built.await.success();

    assert!(printed.contains(&(200 * MEBIBYTE).to_string()), "{printed}");
    site.engine.says(&["image", "rm", "-f", tag]);
}
