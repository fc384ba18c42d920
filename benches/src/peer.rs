//! The tunnels that are measured: each is started with its own programs, leads two
//! ports to the backend, and is gone when it is dropped.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    backend::{ANSWER, Addresses, ECHO},
    failure::{Context, Failure},
    process::{Cores, Process},
    wait,
};

mod bore;
mod certificates;
mod chisel;
mod direct;
mod rathole;
mod sternline;
mod wstunnel;

pub use sternline::Transport;

/// From the start of its programs until a tunnel leads to the backend.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// How long one attempt to get through may take.
const ATTEMPT: Duration = Duration::from_secs(1);

/// What is measured, by whichever programs.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its name in results.
    pub name: String,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Direct,
    Rathole(PathBuf),
    Wstunnel(PathBuf),
    Chisel(PathBuf),
    Bore(PathBuf),
    Sternline(PathBuf, Transport),
}

/// A folder of a tunnel's own, where it runs, and what it leads to.
struct Site<'a> {
    folder: &'a Path,
    cores: Cores,
    backend: Addresses,
}

/// A tunnel that runs.
#[derive(Debug)]
pub struct Tunnel {
    /// Leads to the backend's raw port.
    pub raw: SocketAddr,
    /// Leads to the backend's HTTP port.
    pub http: SocketAddr,
    /// The vendor's side.
    pub server: Vec<Process>,
    /// The customer's side.
    pub client: Vec<Process>,
    /// Deleted after the programs have ended.
    _folder: Option<tempfile::TempDir>,
}

impl Peer {
    /// No tunnel at all: the backend itself.
    pub fn direct() -> Self {
        Self::new("direct", Kind::Direct)
    }

    /// rathole over TLS; installed where it is lacking.
    ///
    /// # Errors
    /// It cannot be installed.
    pub fn rathole(folders: &[PathBuf]) -> Result<Self, Failure> {
        let program = rathole::find_or_install(folders)?;
        Ok(Self::new("rathole-tls", Kind::Rathole(program)))
    }

    /// Every peer that a person has put on the PATH or into a folder, and the names of
    /// those that nobody has.
    pub fn others(folders: &[PathBuf]) -> (Vec<Self>, Vec<&'static str>) {
        type Make = fn(PathBuf) -> Kind;
        let known: [(&str, &str, Make); 3] = [
            ("wstunnel", "wstunnel-wss", Kind::Wstunnel),
            ("chisel", "chisel-tls", Kind::Chisel),
            ("bore", "bore", Kind::Bore),
        ];
        let (mut found, mut lacking) = (Vec::new(), Vec::new());
        for (program, name, kind) in known {
            match find(program, folders) {
                Some(path) => found.push(Self::new(name, kind(path))),
                None => lacking.push(program),
            }
        }
        (found, lacking)
    }

    /// Ours, from a folder with both programs.
    ///
    /// # Errors
    /// A program is not there.
    pub fn sternline(label: &str, folder: &Path, transport: Transport) -> Result<Self, Failure> {
        for program in ["sternline-relay", "sternline-agent"] {
            let path = folder.join(program);
            if !path.is_file() {
                return Err(Failure::new(format!(
                    "{} is missing: run `cargo build --release`, or name a folder that has it \
                     with --ours LABEL=DIR",
                    path.display()
                )));
            }
        }
        let folder = std::path::absolute(folder).context(folder.display())?;
        Ok(Self::new(
            &format!("{label}-{}", transport.name()),
            Kind::Sternline(folder, transport),
        ))
    }

    fn new(name: &str, kind: Kind) -> Self {
        Self {
            name: name.to_owned(),
            kind,
        }
    }

    /// Whether it is one of ours, and over which transport.
    pub const fn transport(&self) -> Option<Transport> {
        match self.kind {
            Kind::Sternline(_, transport) => Some(transport),
            _ => None,
        }
    }

    /// Starts it, and waits until both of its ports lead to the backend.
    ///
    /// # Errors
    /// A program ends, or does not lead there in time; with the end of its log.
    pub fn start(&self, backend: Addresses, cores: Cores) -> Result<Tunnel, Failure> {
        let folder = tempfile::tempdir().context("a temporary folder")?;
        let site = Site {
            folder: folder.path(),
            cores,
            backend,
        };
        let started = match &self.kind {
            Kind::Direct => Ok(direct::start(&site)),
            Kind::Rathole(program) => rathole::start(program, &site),
            Kind::Wstunnel(program) => wstunnel::start(program, &site),
            Kind::Chisel(program) => chisel::start(program, &site),
            Kind::Bore(program) => bore::start(program, &site),
            Kind::Sternline(binaries, transport) => sternline::start(binaries, *transport, &site),
        };
        let mut tunnel = started.context(&self.name)?;
        tunnel.leads_to_the_backend().context(&self.name)?;
        tunnel._folder = Some(folder);
        Ok(tunnel)
    }
}

impl Tunnel {
    fn new(entrances: [SocketAddr; 2], server: Vec<Process>, client: Vec<Process>) -> Self {
        let [raw, http] = entrances;
        Self {
            raw,
            http,
            server,
            client,
            _folder: None,
        }
    }

    fn leads_to_the_backend(&mut self) -> Result<(), Failure> {
        let (raw, http) = (self.raw, self.http);
        let mut ended = Ok(());
        let waited = wait::until("a tunnel leads to the backend", READY_WITHIN, || {
            ended = self
                .server
                .iter_mut()
                .chain(&mut self.client)
                .try_for_each(Process::still_runs);
            if ended.is_err() {
                return Some(());
            }
            let echo = [[ECHO; 1].as_slice(), b"through?"].concat();
            (answers(raw, &echo, b"through?") && answers(http, b"GET / HTTP/1.1\r\n\r\n", ANSWER))
                .then_some(())
        });
        ended?;
        waited.map_err(|late| {
            let logs = self.server.iter().chain(&self.client);
            let logs: Vec<String> = logs.map(Process::log).collect();
            Failure::new(format!("{late}\n{}", logs.join("\n--\n")))
        })
    }
}

fn answers(address: SocketAddr, question: &[u8], expected: &[u8]) -> bool {
    let attempt = || -> std::io::Result<bool> {
        let mut tcp = TcpStream::connect_timeout(&address, ATTEMPT)?;
        tcp.set_read_timeout(Some(ATTEMPT))?;
        tcp.write_all(question)?;
        let mut answer = vec![0; expected.len()];
        tcp.read_exact(&mut answer)?;
        Ok(answer == expected)
    };
    attempt().unwrap_or(false)
}

/// A program in one of the folders, in their `bin`, or on the PATH.
fn find(program: &str, folders: &[PathBuf]) -> Option<PathBuf> {
    folders
        .iter()
        .flat_map(|folder| [folder.join(program), folder.join("bin").join(program)])
        .find(|path| path.is_file())
        .or_else(|| crate::process::on_path(program))
}

/// Ports that were free a moment ago, for programs that must be told theirs.
fn free_addresses<const N: usize>() -> Result<[SocketAddr; N], Failure> {
    // All at once: one that is let go could be given again at once.
    let mut held = Vec::new();
    for _ in 0..N {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("a free port")?;
        held.push((listener.local_addr().context("a free port")?, listener));
    }
    let mut addresses = held.into_iter().map(|(address, _)| address);
    Ok(std::array::from_fn(|_| {
        addresses.next().expect("as many as were bound")
    }))
}
