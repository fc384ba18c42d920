//! A VPN that is wireguard-go: a real tunnel between the agent's host and a gateway, with its
//! handshakes, its TUN device and what it adds to each packet.
//!
//! The host's interface of the VPN is wireguard-go's, and its other end is in a namespace of its
//! own, the gateway, which forwards between the tunnel and the scenario's cable: what goes into
//! the cable is as it is without, and everything that the scenario says of it holds. What the
//! two ends say to each other passes a wire of its own, and not the customer's: how a network
//! treats WireGuard itself is not asked here.

use std::{
    io::{self, Read, Write},
    net::IpAddr,
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use netsim_core::model::RealVpn;

use super::{
    host::Host,
    namespace::Namespace,
    programs::{LOOK, Program},
    tools::path_of,
    watch::last_lines,
};

/// What the gateway's end of the tunnel is called, that of the scenario's cable, and both of
/// the wire between host and gateway.
const GATEWAY: &str = "wg0";
pub(super) const LINE: &str = "line0";
const WIRE: &str = "wire0";

/// Both ends of that wire, with the port of WireGuard.
const ENDS: [&str; 2] = ["169.254.77.1", "169.254.77.2"];
const PORT: u16 = 51_820;

/// Room for what WireGuard adds to the longest packet of a host.
const WIRE_MTU: u32 = 1_600;

/// Private and public keys of both ends. Nobody is kept out by them: they are for a tunnel
/// within one process's sandbox, and the same for everybody.
const KEYS: [(&str, &str); 2] = [
    (
        "e0009e5acd6ff8d87e5f3d88a5ad46b59fb93c2f26d719784b237ef620b8b963",
        "b524508170588d660cb613cf481f33990fb6c3f4a1f81baa749f8d8463a58a46",
    ),
    (
        "20a84633d275b34e09228a37d74cc3f2b0de3ebc69f6b2fabdb470959f9be170",
        "701acc07308a1f87a7d343085dd85cec6d23d0f17c047e451dc345f27afd4513",
    ),
];

/// How long a program has to be there.
const PATIENCE: Duration = Duration::from_secs(10);

/// A tunnel and its gateway. It is gone when dropped.
#[derive(Debug)]
pub(super) struct Tunnel {
    host: Arc<Host>,
    gateway: Arc<Host>,
    address: IpAddr,
    mtu: u32,
    /// Of the host, then of the gateway.
    ends: [Program; 2],
}

impl Tunnel {
    /// A tunnel of a host, by its interface there, with the host's address in it. `gateway` is a
    /// namespace for its other end. Nothing is started.
    pub(super) fn new(
        real: RealVpn,
        (host, interface): (&Arc<Host>, &str),
        gateway: Host,
        (address, mtu): (IpAddr, u32),
    ) -> io::Result<Self> {
        let RealVpn::WireguardGo = real;
        let path = path_of("wireguard-go")?;
        let gateway = Arc::new(gateway);
        let end = |on: &Arc<Host>, interface: &str| {
            let arguments = vec!["-f".into(), interface.into()];
            Program::new(Arc::clone(on), path.clone(), arguments).with_own_run()
        };
        Ok(Self {
            ends: [end(host, interface), end(&gateway, GATEWAY)],
            host: Arc::clone(host),
            gateway,
            address,
            mtu,
        })
    }

    /// The host whose it is.
    pub(super) fn host(&self) -> &Host {
        &self.host
    }

    /// Where the scenario's cable ends.
    pub(super) fn gateway(&self) -> &Namespace {
        self.gateway.namespace()
    }

    /// Both programs.
    pub(super) const fn programs(&self) -> &[Program; 2] {
        &self.ends
    }

    /// The cable ends at the gateway: both ends of the tunnel come up, and know each other. The
    /// host's interface stays down until the VPN is up.
    pub(super) fn start(&self) -> io::Result<()> {
        let (host, gateway) = (self.host.namespace(), self.gateway.namespace());
        let wire = |own: &str| {
            format!("address add {own}/30 dev {WIRE}\nlink set dev {WIRE} mtu {WIRE_MTU} up\n")
        };
        host.ip(&format!(
            "link add {WIRE} type veth peer name {WIRE} netns {}\n{}",
            gateway.path(),
            wire(ENDS[0])
        ))?;
        gateway.ip(&wire(ENDS[1]))?;
        for program in &self.ends {
            program.start()?;
        }
        for (own, program) in self.ends.iter().enumerate() {
            configure(program, own)?;
        }
        let (family, all) = match self.address {
            IpAddr::V4(_) => ("ipv4/ip_forward", "0.0.0.0/0"),
            IpAddr::V6(_) => ("ipv6/conf/all/forwarding", "::/0"),
        };
        gateway.set(&[(family, "1".to_owned())])?;
        gateway.ip(&format!(
            "link set dev {LINE} arp off up\nlink set dev {GATEWAY} mtu {} up\n\
             route add {} dev {GATEWAY}\nroute add {all} dev {LINE}\n",
            self.mtu, self.address,
        ))
    }

    /// Ends both programs.
    pub(super) fn stop(&self) {
        for program in &self.ends {
            program.kill();
        }
    }
}

/// Tells a program which end it is, once it can be told. Each has a folder of its own for its
/// socket, which is seen by way of its process.
fn configure(program: &Program, own: usize) -> io::Result<()> {
    let ((private, _), (_, public)) = (KEYS[own], KEYS[1 - own]);
    let peer = ENDS[1 - own];
    let words = format!(
        "set=1\nprivate_key={private}\nlisten_port={PORT}\nreplace_peers=true\n\
         public_key={public}\nendpoint={peer}:{PORT}\nreplace_allowed_ips=true\n\
         allowed_ip=0.0.0.0/0\nallowed_ip=::/0\n\n"
    );
    let mut socket = reached(program)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.write_all(words.as_bytes())?;
    let mut said = String::new();
    let mut room = [0; 256];
    while !said.ends_with("\n\n") {
        let length = socket.read(&mut room)?;
        if length == 0 {
            break;
        }
        said.push_str(&String::from_utf8_lossy(&room[..length]));
    }
    if said.trim() == "errno=0" {
        Ok(())
    } else {
        let said = said.trim();
        Err(io::Error::other(format!(
            "wireguard-go takes no peer: {said}"
        )))
    }
}

/// A program's socket for whoever configures it, once it is there.
fn reached(program: &Program) -> io::Result<UnixStream> {
    let begun = Instant::now();
    let interface = program.last_argument();
    loop {
        let pid = program.pid().filter(|_| program.is_running());
        if let Some(pid) = pid {
            let run = PathBuf::from(format!("/proc/{pid}/root")).join("run/wireguard");
            if let Ok(socket) = UnixStream::connect(run.join(format!("{interface}.sock"))) {
                return Ok(socket);
            }
        }
        if pid.is_none() || begun.elapsed() > PATIENCE {
            let said = last_lines(program.log(), 10);
            return Err(io::Error::other(format!(
                "wireguard-go is not there:\n{said}"
            )));
        }
        std::thread::park_timeout(LOOK);
    }
}
