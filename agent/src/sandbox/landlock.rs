//! Landlock: TCP bind denied, files and Unix sockets limited to what is needed.
//!
//! Best effort by ABI; what the kernel's ABI lacks is named in [`Enforced`].
//! Connecting by TCP is not limited by port: targets and the relay's addresses vary,
//! and the policy decides about them.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, PathBeneath, PathFd,
    RestrictionStatus, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError,
    Scope, make_bitflags,
};

use super::Needs;

/// The newest ABI whose rights this module knows and sorts into its rules.
const KNOWN: ABI = ABI::V9;

/// Read by the C library's name resolution, by TLS and by the runtime.
///
/// `/etc` whole, because `resolv.conf` is replaced by renaming whenever the network
/// changes, and a rule for a file holds for that very file only. No folder of
/// libraries: names are looked up without them (`tunnel::names`). `/proc`: from inside
/// a Landlock domain other processes' private parts stay closed. `/dev/random` and
/// `/dev/urandom`: the crate `getrandom` looks its system call up among loaded
/// libraries, finds none in a statically linked program, and opens the devices.
const READ: &[&str] = &[
    "/etc",
    "/usr/share/ca-certificates",
    "/usr/share/zoneinfo",
    "/run/systemd/resolve",
    "/run/resolvconf",
    "/run/NetworkManager",
    "/proc",
    "/sys/fs/cgroup",
    "/sys/devices/system/cpu",
    "/dev/null",
    "/dev/random",
    "/dev/urandom",
];

/// The Unix socket of name resolution: the name service's cache, where a host has one.
const CONNECT: &[&str] = &["/run/nscd"];

/// What Landlock enforces on this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Enforced {
    /// By the kernel's ABI, from 1.
    Abi(i32),
    /// Nothing, and why.
    Nothing(String),
}

impl Enforced {
    /// Whether binding a TCP port is denied.
    pub fn tcp_bind_denied(&self) -> bool {
        matches!(self, Self::Abi(4..))
    }
}

impl fmt::Display for Enforced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let abi = match self {
            Self::Abi(abi) => *abi,
            Self::Nothing(why) => return write!(f, "landlock: not enforced ({why})"),
        };
        write!(f, "landlock ABI {abi}: files limited")?;
        f.write_str(match abi {
            4.. => ", TCP bind denied",
            _ => ", TCP bind not denied (needs ABI 4)",
        })?;
        if abi >= 6 {
            f.write_str(", signals and abstract sockets limited")?;
        }
        f.write_str(match abi {
            9.. => ", Unix-socket connect limited",
            _ => ", Unix-socket connect not limited (needs ABI 9)",
        })
    }
}

/// Restricts the calling thread and all threads that it starts.
pub fn apply(needs: &Needs) -> Enforced {
    match restrict(needs) {
        Ok(status) => match status.landlock {
            LandlockStatus::Available { effective_abi, .. } => Enforced::Abi(effective_abi as i32),
            LandlockStatus::NotEnabled => Enforced::Nothing("switched off in this kernel".into()),
            LandlockStatus::NotImplemented => {
                Enforced::Nothing("this kernel or container does not offer it".into())
            }
        },
        Err(error) => Enforced::Nothing(error.to_string()),
    }
}

fn restrict(needs: &Needs) -> Result<RestrictionStatus, RulesetError> {
    let read = make_bitflags!(AccessFs::{ReadFile | ReadDir});
    // Files of stacks are in folders of their own.
    let write = make_bitflags!(AccessFs::{WriteFile | Truncate | MakeReg | RemoveFile | Refer});
    let state = read | write | make_bitflags!(AccessFs::{MakeDir | RemoveDir});
    let connect = BitFlags::from(AccessFs::ResolveUnix);
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(KNOWN))?
        // Handled and granted nowhere: no TCP port can be bound.
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::AbstractUnixSocket)?
        .scope(Scope::Signal)?
        .create()?;
    // The program itself, so that a backtrace has names.
    let own = std::env::current_exe().ok();
    let readable = READ
        .iter()
        .map(PathBuf::from)
        .chain(resolver_folder())
        .chain(own);
    for path in readable.chain(needs.read.iter().cloned()) {
        rules = allow(rules, &path, read)?;
    }
    for path in CONNECT {
        rules = allow(rules, Path::new(path), connect)?;
    }
    // The folder: the Engine makes its socket anew whenever it starts.
    if let Some(folder) = needs.docker_socket.parent() {
        rules = allow(rules, folder, connect)?;
    }
    rules = allow(rules, &needs.state_dir, state)?;
    rules.restrict_self()
}

/// Allows what is there; what is not there needs no rule.
fn allow(
    rules: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    let Ok(opened) = PathFd::new(path) else {
        return Ok(rules);
    };
    let access = match fs::metadata(path) {
        Ok(metadata) if !metadata.is_dir() => access & AccessFs::from_file(KNOWN),
        Ok(_) | Err(_) => access,
    };
    if access.is_empty() {
        return Ok(rules);
    }
    rules.add_rule(PathBeneath::new(opened, access))
}

/// Where `/etc/resolv.conf` leads, if it leads elsewhere.
fn resolver_folder() -> Option<PathBuf> {
    let target = fs::canonicalize("/etc/resolv.conf").ok()?;
    target
        .parent()
        .filter(|folder| *folder != Path::new("/"))
        .map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_for_every_abi_what_is_enforced_and_what_is_not() {
        let text = |abi| Enforced::Abi(abi).to_string();

        assert_eq!(
            text(3),
            "landlock ABI 3: files limited, TCP bind not denied (needs ABI 4), Unix-socket connect not limited (needs ABI 9)"
        );
        assert_eq!(
            text(7),
            "landlock ABI 7: files limited, TCP bind denied, signals and abstract sockets limited, Unix-socket connect not limited (needs ABI 9)"
        );
        assert!(text(9).ends_with("Unix-socket connect limited"));
        assert!(!Enforced::Nothing("why".into()).tcp_bind_denied());
    }
}
