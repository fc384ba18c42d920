//! What this machine offers to a test, and what is seen of a process from outside.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Whether everything must run: in CI a skipped test is a failure.
pub fn is_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true")
}

/// The repository's root.
pub fn root() -> PathBuf {
    let parent = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    parent.expect("tests/ is in the root").to_owned()
}

/// Reads a file of the repository.
///
/// # Panics
/// Where there is none.
pub fn document(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Says that a test is skipped, and why.
///
/// # Panics
/// In CI.
pub fn skip(why: &str) {
    assert!(
        !is_ci(),
        "CI=true, and this machine cannot run the test: {why}"
    );
    eprintln!("skipped: {why}");
}

/// A small file system of its own; unmounted when dropped.
#[derive(Debug)]
pub struct Tmpfs {
    folder: tempfile::TempDir,
}

impl Tmpfs {
    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Fills all that is left of it.
    pub fn fill(&self) -> PathBuf {
        let path = self.path().join("filling");
        let mut size = 64 * 1024;
        let mut file = fs::File::create(&path).expect("an empty file always fits");
        while size > 0 {
            if std::io::Write::write(&mut file, &vec![0; size]).is_err() {
                size /= 2;
            }
        }
        path
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(self.path()).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("left behind: {}", self.path().display());
        }
    }
}

/// Mounts a file system of `kibibytes`, or skips the test where that is not allowed.
pub fn tmpfs(kibibytes: u32) -> Option<Tmpfs> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mounted = Command::new("mount")
        .args([
            "-t",
            "tmpfs",
            "-o",
            &format!("size={kibibytes}k,mode=0700"),
            "tmpfs",
        ])
        .arg(folder.path())
        .output();
    match mounted {
        Ok(output) if output.status.success() => Some(Tmpfs { folder }),
        Ok(output) => {
            skip(&format!(
                "no tmpfs: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            ));
            None
        }
        Err(error) => {
            skip(&format!("no tmpfs: mount: {error}"));
            None
        }
    }
}

/// The IP sockets that a process holds, in the kernel's own words: one line each,
/// `tcp LISTEN 127.0.0.1:80 …` reduced to `(table, state)`.
pub fn sockets_of(pid: u32) -> Vec<(&'static str, u8)> {
    let inodes = socket_inodes(pid);
    let mut found = Vec::new();
    for table in ["tcp", "tcp6", "udp", "udp6"] {
        let Ok(text) = fs::read_to_string(format!("/proc/{pid}/net/{table}")) else {
            continue;
        };
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (Some(state), Some(inode)) = (fields.get(3), fields.get(9)) else {
                continue;
            };
            if inodes.contains(*inode) {
                found.push((
                    table,
                    u8::from_str_radix(state, 16).expect("a state in hex"),
                ));
            }
        }
    }
    found
}

/// The TCP port over IPv4 that a process listens on, once it does.
pub fn listening_port(pid: u32) -> Option<u16> {
    let inodes = socket_inodes(pid);
    let text = fs::read_to_string(format!("/proc/{pid}/net/tcp")).ok()?;
    text.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        let is_its = *state == "0A" && inodes.contains(*inode);
        let port = local.split(':').nth(1).filter(|_| is_its)?;
        u16::from_str_radix(port, 16).ok()
    })
}

fn socket_inodes(pid: u32) -> BTreeSet<String> {
    fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("the process runs")
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|link| {
            let inside = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
            Some(inside.to_owned())
        })
        .collect()
}
