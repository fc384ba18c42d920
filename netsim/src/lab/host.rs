//! A host of the scenario as a real one: a network namespace of its own, whose cables end
//! in the fabric, with its own name, resolver and hosts file.

use std::{
    ffi::{CStr, CString},
    fs::{self, File},
    io,
    os::{fd::AsFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
};

use netsim_core::{term::Name, topology::NodeId};
use rustix::{mount::MountPropagationFlags, thread::UnshareFlags};

use super::{
    namespace::Namespace,
    settings::{Interface, Settings},
    socket_list::{Open, open_sockets},
    syscall,
    wrong_clock::WrongClock,
};

/// `linux/ethtool.h`: checksums, segmentation and merging that an interface promises, and
/// that nobody behind a packet socket does.
const OFFLOADS: [u32; 6] = [
    0x15, // ETHTOOL_SRXCSUM
    0x17, // ETHTOOL_STXCSUM
    0x1f, // ETHTOOL_STSO
    0x22, // ETHTOOL_SUFO
    0x24, // ETHTOOL_SGSO
    0x2c, // ETHTOOL_SGRO
];

/// See the module.
#[derive(Debug)]
pub struct Host {
    /// Its copy's name.
    pub name: Name,
    /// Its place in the topology.
    pub node: NodeId,
    namespace: Namespace,
    interfaces: Vec<Interface>,
    folder: PathBuf,
    settings: Mutex<Settings>,
    /// What its programs read; none where that is right for the whole run.
    clock: Option<WrongClock>,
}

impl Host {
    /// A host without cables; its files go to `folder`.
    pub(super) fn new(
        (node, name): (NodeId, Name),
        interfaces: Vec<Interface>,
        hosts_file: &str,
        folder: PathBuf,
    ) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("hosts"), hosts_file)?;
        fs::write(folder.join("resolv.conf"), "")?;
        let namespace = Namespace::new()?;
        namespace.set(&quiet())?;
        Ok(Self {
            name,
            node,
            namespace,
            interfaces,
            folder,
            settings: Mutex::new(Settings::default()),
            clock: None,
        })
    }

    /// The same, with a clock that is wrong, or becomes so.
    #[must_use]
    pub(super) fn with_clock(mut self, clock: Option<WrongClock>) -> Self {
        self.clock = clock;
        self
    }

    /// What its programs read the time from, where that is wrong at some time.
    pub(super) const fn clock(&self) -> Option<&WrongClock> {
        self.clock.as_ref()
    }

    /// Where it keeps its files.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its network.
    pub const fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    pub(super) fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }

    /// Its cables are there: what they promise is switched off.
    pub(super) fn plugged(&self) -> io::Result<()> {
        let names = self.interfaces.iter().map(|one| one.name.as_str());
        promise_nothing(&self.namespace, names.collect())?;
        self.namespace.ip("link set lo up\n")
    }

    /// Becomes configured like this.
    pub(super) fn configure(&self, settings: Settings) -> io::Result<()> {
        let mut current = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        // In place: the file is mounted over another one.
        fs::write(self.folder.join("resolv.conf"), settings.resolv_conf())?;
        self.namespace.ip(&settings.commands_from(&current))?;
        *current = settings;
        Ok(())
    }

    /// Starts a program on it; what it prints is appended to the file `log`.
    ///
    /// It ends with the sandbox, as everything in it does. Not with the thread that
    /// starts it: that may end before.
    ///
    /// # Errors
    ///
    /// There is no such program, or it may not be started.
    pub fn spawn(&self, command: &mut Command, log: &Path) -> io::Result<Child> {
        self.settle(command)?;
        spawn_logged(command, log)
    }

    /// Has a command run on it.
    ///
    /// # Errors
    ///
    /// There are too many descriptors.
    pub fn settle(&self, command: &mut Command) -> io::Result<()> {
        let residence = self.residence()?;
        syscall::before_exec(command, move || residence.move_in());
        Ok(())
    }

    /// Has the calling thread live on it from now on: its sockets, its names, and those of
    /// the threads that it starts.
    pub(crate) fn inhabit(&self) -> io::Result<()> {
        self.residence()?.move_in()
    }

    fn residence(&self) -> io::Result<Residence> {
        let path = |name: &str| CString::new(self.folder.join(name).as_os_str().as_bytes());
        Ok(Residence {
            namespace: self.namespace.handle()?,
            name: self.name.as_str().as_bytes().to_vec(),
            files: [
                (path("resolv.conf")?, c"/etc/resolv.conf"),
                (path("hosts")?, c"/etc/hosts"),
            ],
        })
    }

    /// Sockets on it that wait for somebody else to begin, but for loopback's.
    ///
    /// # Errors
    ///
    /// There is no procfs.
    pub fn open_sockets(&self) -> io::Result<Vec<Open>> {
        let mut found = self
            .namespace
            .within(|| open_sockets(Path::new("/proc/thread-self/net")))?;
        found.retain(|open| !open.local.ip().is_loopback());
        Ok(found)
    }
}

/// What makes a process or a thread one of a host; prepared beforehand, because a child may
/// not allocate.
struct Residence {
    namespace: Namespace,
    name: Vec<u8>,
    files: [(CString, &'static CStr); 2],
}

impl Residence {
    fn move_in(&self) -> io::Result<()> {
        self.namespace.enter()?;
        syscall::unshare(UnshareFlags::NEWNS | UnshareFlags::NEWUTS)?;
        let apart = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        rustix::mount::mount_change(c"/", apart)?;
        for (file, over) in &self.files {
            rustix::mount::mount_bind(file.as_c_str(), *over)?;
        }
        Ok(rustix::system::sethostname(&self.name)?)
    }
}

/// Starts a command whose output is appended to a file.
pub(super) fn spawn_logged(command: &mut Command, log: &Path) -> io::Result<Child> {
    let log = File::options().create(true).append(true).open(log)?;
    command.stdout(log.try_clone()?).stderr(log);
    command.stdin(Stdio::null());
    command.spawn()
}

/// Switches off what interfaces promise and nobody behind a packet socket does.
pub(super) fn promise_nothing(namespace: &Namespace, names: Vec<&str>) -> io::Result<()> {
    namespace.within(|| {
        let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::DGRAM, None)?;
        for name in names {
            let name = CString::new(name)?;
            for offload in OFFLOADS {
                syscall::switch_off(socket.as_fd(), &name, offload)?;
            }
        }
        Ok(())
    })
}

/// Kernel parameters of a host that says nothing by itself, and believes everybody.
pub(super) fn quiet() -> Vec<(String, String)> {
    let mut parameters = Vec::new();
    let mut set = |path: String, value: &str| {
        if Path::new("/proc/sys/net").join(&path).exists() {
            parameters.push((path, value.to_owned()));
        }
    };
    for which in ["all", "default"] {
        set(format!("ipv4/conf/{which}/rp_filter"), "0");
        for (name, value) in [
            ("accept_ra", "0"),
            ("autoconf", "0"),
            ("accept_dad", "0"),
            ("dad_transmits", "0"),
            // No address of the link's own, and so no talk among neighbours.
            ("addr_gen_mode", "1"),
        ] {
            set(format!("ipv6/conf/{which}/{name}"), value);
        }
    }
    // What one run has learned of a path is not the next one's.
    set("ipv4/tcp_no_metrics_save".to_owned(), "1");
    parameters
}
