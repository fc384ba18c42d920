//! The sandbox, tried from within: each test starts this binary again as a child,
//! because a fence can never be taken down.

#![expect(clippy::unwrap_used, reason = "the helpers below are tests, too")]
#![expect(
    clippy::disallowed_methods,
    reason = "what is denied to the agent is tried here"
)]

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use agent::{
    config::SandboxDemand,
    sandbox::{self, Fence, Needs, Outside, landlock, privileges, trial},
};
use rustix::{
    io::Errno,
    net::{AddressFamily, Protocol, SocketType},
};

const CHILD: &str = "STERNLINE_TEST_SANDBOX_FOLDER";

/// Runs the test `name` again in a child, there behind the fence, and hands it
/// the folder. `None` in the child's place; the child gets its folder.
fn in_child(name: &str) -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os(CHILD) {
        return Some(folder.into());
    }
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(CHILD, folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    None
}

fn needs(folder: &Path) -> Needs {
    let state_dir = folder.join("state");
    fs::create_dir_all(&state_dir).unwrap();
    Needs {
        state_dir,
        read: Vec::new(),
        docker_socket: folder.join("docker/docker.sock"),
    }
}

fn fence(folder: &Path) -> sandbox::Sandbox {
    tunnel::look_up_without_libraries();
    sandbox::apply(&needs(folder), SandboxDemand::BestEffort).unwrap()
}

fn listen(family: AddressFamily, kind: SocketType) -> Result<(), Errno> {
    rustix::net::listen(&rustix::net::socket(family, kind, None)?, 1)
}

#[test]
fn nothing_can_listen_or_accept_in_any_thread_that_starts_later() {
    let Some(folder) = in_child("nothing_can_listen_or_accept_in_any_thread_that_starts_later")
    else {
        return;
    };
    let inherited = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();

    let sandbox = fence(&folder);

    thread::spawn(move || {
        for family in [
            AddressFamily::INET,
            AddressFamily::INET6,
            AddressFamily::UNIX,
        ] {
            assert_eq!(
                listen(family, SocketType::STREAM),
                Err(Errno::PERM),
                "{family:?}"
            );
        }
        assert!(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).is_err());
        assert!(UnixListener::bind(folder.join("state/s.sock")).is_err());
        assert_eq!(
            inherited.accept().unwrap_err().raw_os_error(),
            Some(libc::EPERM)
        );
    })
    .join()
    .unwrap();
    assert!(
        sandbox
            .to_string()
            .contains("listen and accept denied (tried)"),
        "{sandbox}"
    );
}

#[test]
fn no_socket_that_is_neither_tcp_nor_udp_can_be_made() {
    let Some(folder) = in_child("no_socket_that_is_neither_tcp_nor_udp_can_be_made") else {
        return;
    };
    fence(&folder);
    let socket = |family, kind, protocol: u32| {
        let protocol = std::num::NonZero::new(protocol).map(Protocol::from_raw);
        rustix::net::socket(family, kind, protocol).map(drop)
    };

    assert_eq!(
        socket(AddressFamily::INET, SocketType::RAW, 1),
        Err(Errno::PERM)
    );
    assert_eq!(
        socket(AddressFamily::INET6, SocketType::RAW, 58),
        Err(Errno::PERM)
    );
    assert_eq!(
        socket(AddressFamily::INET, SocketType::STREAM, 262),
        Err(Errno::PERM)
    );
    assert_eq!(
        socket(AddressFamily::PACKET, SocketType::DGRAM, 0),
        Err(Errno::PERM)
    );
    assert_eq!(
        socket(AddressFamily::VSOCK, SocketType::STREAM, 0),
        Err(Errno::PERM)
    );
    assert_eq!(socket(AddressFamily::NETLINK, SocketType::RAW, 0), Ok(()));
}

#[test]
fn no_program_can_be_started() {
    let Some(folder) = in_child("no_program_can_be_started") else {
        return;
    };

    fence(&folder);

    let started = Command::new("/bin/true").status();
    assert_eq!(started.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
}

#[test]
fn what_an_agent_does_still_works() {
    let Some(folder) = in_child("what_an_agent_does_still_works") else {
        return;
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let tcp = listener.local_addr().unwrap();
    fs::create_dir(folder.join("docker")).unwrap();
    let docker = UnixListener::bind(folder.join("docker/docker.sock")).unwrap();

    fence(&folder);

    TcpStream::connect(tcp).unwrap();
    UnixStream::connect(folder.join("docker/docker.sock")).unwrap();
    let udp = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    udp.connect(SocketAddr::from((Ipv4Addr::LOCALHOST, 9)))
        .unwrap();
    let resolved = std::net::ToSocketAddrs::to_socket_addrs(&("localhost", 80)).unwrap();
    assert!(resolved.count() > 0);
    agent::file::replace(
        &folder.join("state/identity.json"),
        b"content",
        0o600,
        agent::file::Durability::Durable,
    )
    .unwrap();
    fs::read("/etc/hosts").unwrap();
    // Where a statically linked program has its randomness from.
    for device in ["/dev/random", "/dev/urandom"] {
        fs::File::open(device).unwrap();
    }
    drop(docker);
}

#[test]
fn files_that_an_agent_does_not_need_stay_closed_where_landlock_is() {
    let Some(folder) = in_child("files_that_an_agent_does_not_need_stay_closed_where_landlock_is")
    else {
        return;
    };
    let secret = folder.join("secret");
    fs::write(&secret, b"secret").unwrap();

    let sandbox = fence(&folder);

    if sandbox.to_string().contains("files limited") {
        assert_eq!(
            fs::read(&secret).unwrap_err().kind(),
            io::ErrorKind::PermissionDenied
        );
        assert_eq!(
            fs::write(&secret, b"").unwrap_err().kind(),
            io::ErrorKind::PermissionDenied
        );
    }
}

/// Fences of Landlock, with the ABI from which on they hold.
const BY_ABI: [(&str, i32); 5] = [
    ("tcp-bind", 4),
    ("files", 1),
    ("signals", 6),
    ("abstract-sockets", 6),
    ("unix-socket-connect", 9),
];

#[test]
fn every_fence_but_one_was_tried_and_holds_from_its_abi_on() {
    let Some(folder) = in_child("every_fence_but_one_was_tried_and_holds_from_its_abi_on") else {
        return;
    };

    let sandbox = fence(&folder);

    let words = sandbox.to_string();
    let abi = words.strip_prefix("landlock ABI ").and_then(|rest| {
        let (abi, _) = rest.split_once(':')?;
        abi.parse().ok()
    });
    for fence in sandbox.fences() {
        let least = BY_ABI.iter().find(|(name, _)| *name == fence.name);
        let holds = least.is_none_or(|(_, least)| abi.unwrap_or(0) >= *least);
        assert_eq!(fence.in_force, holds, "{fence:?}");
        let is_tried = fence.detail.contains("tried: ");
        assert_eq!(is_tried, fence.name != "no-new-privileges", "{fence:?}");
    }
    let left: Vec<_> = fs::read_dir(folder.join("state")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn no_attempt_is_denied_where_there_is_no_fence() {
    let Some(folder) = in_child("no_attempt_is_denied_where_there_is_no_fence") else {
        return;
    };
    let nothing = landlock::Enforced::Nothing("not asked to".into());
    let privileges = privileges::Enforced {
        none_to_gain: false,
        held: Vec::new(),
        kept_for: None,
        bounded: false,
    };

    let fences = trial::all(&nothing, &privileges, Outside::of(&needs(&folder)));

    // What only root may do is denied to others without any fence.
    let only_root = ["capabilities", "raw-sockets", "packet-sockets"];
    let is_root = rustix::process::geteuid().is_root();
    let denied: Vec<&Fence> = fences
        .iter()
        .filter(|fence| fence.in_force && (is_root || !only_root.contains(&fence.name.as_str())))
        .collect();
    assert!(denied.is_empty(), "{denied:?}");
}
