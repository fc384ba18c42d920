//! What a machine must offer, asked before anything starts.

use std::{
    fmt, fs, io,
    os::unix::process::ExitStatusExt,
    process::{Command, Stdio},
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::{sandbox, syscall, tool};

/// Something that the lab needs and this machine does not offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// What.
    pub what: String,
    /// What to do about it.
    pub advice: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.advice)
    }
}

/// Everything that is missing here.
///
/// # Errors
///
/// Something is.
pub fn preflight() -> Result<(), Vec<Missing>> {
    let mut missing = Vec::new();
    for (program, package) in [("ip", "iproute2"), ("nft", "nftables")] {
        if tool(program).is_none() {
            missing.push(Missing {
                what: format!("the program `{program}` is missing"),
                advice: format!("install the package {package}"),
            });
        }
    }
    for path in ["/etc/resolv.conf", "/etc/hosts"] {
        // Each host has its own mounted over it.
        if fs::metadata(path).is_err() {
            missing.push(Missing {
                what: format!("there is no {path}"),
                advice: format!("make an empty one: touch {path}"),
            });
        }
    }
    if fs::metadata("/proc/sys/net/ipv6").is_err() {
        missing.push(Missing {
            what: "this kernel has no IPv6".to_owned(),
            advice: "start it without ipv6.disable=1".to_owned(),
        });
    }
    if let Err(error) = in_sandbox(Command::new("/proc/self/exe"), Probe::Namespaces) {
        missing.push(namespaces(&error));
    } else {
        missing.extend(inside());
    }
    if missing.is_empty() {
        Ok(())
    } else {
        Err(missing)
    }
}

/// What can be asked only once there are namespaces.
fn inside() -> Vec<Missing> {
    let mut missing = Vec::new();
    if let Err(error) = in_sandbox(Command::new("/proc/self/exe"), Probe::Packets) {
        missing.push(Missing {
            what: format!("packet sockets (AF_PACKET) are not offered: {error}"),
            advice: "load the kernel's module af_packet, and allow it in containers".to_owned(),
        });
    }
    for (program, input, what, advice) in [
        (
            "ip",
            "link add probe0 type veth peer name probe1\nlink set probe1 arp off\n",
            "pairs of interfaces (veth)",
            "load the kernel's module veth: modprobe veth",
        ),
        (
            "nft",
            "table inet probe {\n chain forward {\n type filter hook forward priority 0\n \
             ct state new tcp flags & (syn | ack) == syn reject with tcp reset\n }\n \
             chain nat {\n type nat hook postrouting priority 100\n \
             meta l4proto udp masquerade to :40000-40010\n }\n \
             chain divert {\n type nat hook prerouting priority -100\n \
             tcp dport 80-443 redirect to :15000\n }\n}\n",
            "stateful rules (nftables, conntrack)",
            "load the kernel's modules nf_tables, nft_ct, nft_reject, nft_masq and nft_redir",
        ),
    ] {
        let Some(path) = tool(program) else {
            continue;
        };
        let arguments: &[&str] = match program {
            "ip" => &["-batch", "-"],
            _ => &["-f", "-"],
        };
        let mut command = Command::new(path);
        command.args(arguments);
        if let Err(error) = in_sandbox(command, Probe::Program(input)) {
            missing.push(Missing {
                what: format!("{what} are not offered: {error}"),
                advice: advice.to_owned(),
            });
        }
    }
    missing
}

/// What is tried in a sandbox.
#[derive(Debug, Clone, Copy)]
enum Probe<'a> {
    /// Whether one can be made.
    Namespaces,
    /// Whether packets can be read in it.
    Packets,
    /// Whether a program succeeds in it on this input.
    Program(&'a str),
}

fn in_sandbox(mut command: Command, probe: Probe<'_>) -> io::Result<()> {
    sandbox::enclose(&mut command)?;
    let input = match probe {
        Probe::Namespaces => {
            // Nothing is run: what comes before has told.
            syscall::before_exec(&mut command, || syscall::exit_now(0));
            ""
        }
        Probe::Packets => {
            syscall::before_exec(&mut command, || {
                let flags = SocketFlags::CLOEXEC;
                socket_with(AddressFamily::PACKET, SocketType::DGRAM, flags, None)?;
                syscall::exit_now(0)
            });
            ""
        }
        Probe::Program(input) => input,
    };
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that ended before it read anything says why.
        drop(io::Write::write_all(&mut stdin, input.as_bytes()));
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let line = said.lines().next().unwrap_or_default().trim().to_owned();
    let signal = output.status.signal();
    Err(io::Error::other(match signal {
        Some(signal) => format!("ended by signal {signal}"),
        None => line,
    }))
}

fn namespaces(error: &io::Error) -> Missing {
    let is_off = |path: &str, off: &str| {
        let value = fs::read_to_string(path).unwrap_or_default();
        value.trim() == off
    };
    let advice = if is_off("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        "allow them: sysctl kernel.unprivileged_userns_clone=1, or be root"
    } else if is_off("/proc/sys/user/max_user_namespaces", "0") {
        "allow them: sysctl user.max_user_namespaces=10000, or be root"
    } else if is_off(
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
    ) {
        "allow them: sysctl kernel.apparmor_restrict_unprivileged_userns=0, or be root"
    } else {
        "in a container: docker run --privileged, or --cap-add SYS_ADMIN with \
         --security-opt seccomp=unconfined --security-opt systempaths=unconfined"
    };
    Missing {
        what: format!("namespaces are not permitted: {error}"),
        advice: advice.to_owned(),
    }
}
