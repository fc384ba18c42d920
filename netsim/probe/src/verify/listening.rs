//! Whether an agent on this host listens on anything: it never does, and this shows it.

use std::{collections::BTreeSet, fmt, fs, path::Path};

use serde::{Deserialize, Serialize};

use super::Outcome;

/// As the kernel calls the process: at most 15 bytes.
const AGENT: &str = "sternline-agent";

/// State of a TCP socket that listens.
const LISTENS: &str = "0A";

/// Of all agents on this host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listening {
    /// Process ids of agents.
    pub agents: Vec<u32>,
    /// Agents whose files this user may not read.
    pub unread: Vec<u32>,
    /// Where one listens: `tcp HEX:PORT`, as the kernel writes it.
    pub sockets: Vec<String>,
}

impl Listening {
    pub(super) fn outcome(&self) -> Outcome {
        match (self.sockets.is_empty(), self.unread.is_empty()) {
            (false, _) => Outcome::Otherwise,
            (true, false) => Outcome::CannotTell,
            (true, true) => Outcome::AsDemanded,
        }
    }
}

impl fmt::Display for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.agents.len(), self.outcome()) {
            (0, _) => f.write_str("no agent runs on this host: none listens"),
            (_, Outcome::Otherwise) => {
                write!(f, "FAILS: an agent listens on {}", self.sockets.join(", "))
            }
            (count, Outcome::CannotTell) => write!(
                f,
                "CANNOT TELL whether {count} agents listen: run this as root, or as their user"
            ),
            (count, Outcome::AsDemanded) => {
                write!(
                    f,
                    "{count} agents run on this host, and none listens on anything"
                )
            }
        }
    }
}

/// Looks at every process of this host.
pub fn agents() -> Listening {
    of_proc(Path::new("/proc"))
}

fn of_proc(proc: &Path) -> Listening {
    let mut found = Listening::default();
    let entries = fs::read_dir(proc)
        .into_iter()
        .flatten()
        .filter_map(Result::ok);
    for entry in entries {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let folder = entry.path();
        let name = fs::read_to_string(folder.join("comm")).unwrap_or_default();
        if name.trim() != AGENT {
            continue;
        }
        found.agents.push(pid);
        match sockets_of(&folder) {
            Some(inodes) => found.sockets.extend(listening_of(&folder, &inodes)),
            None => found.unread.push(pid),
        }
    }
    found
}

/// The inodes of a process' sockets; `None`: they cannot be read.
fn sockets_of(folder: &Path) -> Option<BTreeSet<String>> {
    let entries = fs::read_dir(folder.join("fd")).ok()?.filter_map(Result::ok);
    let links = entries.filter_map(|entry| fs::read_link(entry.path()).ok());
    let inode = |link: std::path::PathBuf| {
        let text = link.to_str()?.strip_prefix("socket:[")?;
        text.strip_suffix(']').map(str::to_owned)
    };
    Some(links.filter_map(inode).collect())
}

fn listening_of(folder: &Path, inodes: &BTreeSet<String>) -> Vec<String> {
    let mut found = Vec::new();
    for table in ["tcp", "tcp6", "udp", "udp6"] {
        let text = fs::read_to_string(folder.join("net").join(table)).unwrap_or_default();
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [_, local, remote, state, ..] = fields.as_slice() else {
                continue;
            };
            let inode = fields.get(9).copied().unwrap_or_default();
            let is_open_to_all = match table {
                "tcp" | "tcp6" => *state == LISTENS,
                // A socket of UDP that is connected takes datagrams from its peer alone.
                _ => remote.ends_with(":0000"),
            };
            if is_open_to_all && inodes.contains(inode) {
                found.push(format!("{table} {local}"));
            }
        }
    }
    found
}
