//! Proxies on real sockets: each in the namespace where it stands, as the model's own code
//! in a thread of its own ([`crate::proxy`]), or as the program that the scenario asks for.
//!
//! One that is spoken to stands on a real host. A transparent one stands in a namespace
//! beside its edge: the fabric hands over what is diverted, and rules there redirect it to
//! the proxy's port, which learns from conntrack where it was meant to go.

use std::{
    fmt::Write as _,
    fs, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
};

use async_trait::async_trait;
use netsim_core::{
    model::{self, ProxyKind, Scenario},
    term::Name,
};
use socket2::{Domain, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tunnel::{
    World,
    world::{Listen, tune_tcp},
};

use super::{
    fabric::Fabric,
    host::Host,
    namespace::feed,
    programs::Program,
    tools::{self, answers},
};
use crate::proxy::{Diverted, Door, Proxy, TakeIn};

/// Where transparent proxies listen; each after the other.
const FIRST_PORT: u16 = 15_000;

/// What is diverted in the namespace beside an edge comes in by this interface.
const INTERFACE: &str = "eth0";

/// How many connections wait to be accepted.
const BACKLOG: i32 = 1024;

/// A proxy of the scenario where it stands. It is gone when dropped.
#[derive(Debug)]
pub(super) struct Standing {
    host: Arc<Host>,
    /// Its place in the scenario.
    number: usize,
    config: model::Proxy,
    port: u16,
    what: What,
}

#[derive(Debug)]
enum What {
    Model(Mutex<Option<Serving>>),
    Program(Program),
}

#[derive(Debug)]
struct Serving {
    stop: CancellationToken,
    thread: JoinHandle<()>,
}

impl Standing {
    /// Every proxy that stands on a host, or beside an edge of this name. None is started.
    pub(super) fn on(scenario: &Scenario, name: &Name, host: &Arc<Host>) -> io::Result<Vec<Self>> {
        let all = scenario.proxies.iter().enumerate();
        let here = all.filter(|(_, proxy)| *proxy.on == *name);
        here.map(|(number, config)| {
            let offset = u16::try_from(number).unwrap_or(0);
            let port = match config.speaks {
                ProxyKind::Connect | ProxyKind::Socks5 => config.port.first,
                ProxyKind::Transparent => FIRST_PORT.saturating_add(offset),
            };
            let what = match &config.real {
                None => What::Model(Mutex::default()),
                Some(real) => {
                    What::Program(tools::proxy(**real, (scenario, config), (host, port))?)
                }
            };
            Ok(Self {
                host: Arc::clone(host),
                number,
                config: config.clone(),
                port,
                what,
            })
        })
        .collect()
    }

    /// Where it stands.
    pub(super) fn host(&self) -> &Host {
        &self.host
    }

    /// The program that it is; none where it is the model.
    pub(super) const fn program(&self) -> Option<&Program> {
        match &self.what {
            What::Model(_) => None,
            What::Program(program) => Some(program),
        }
    }

    /// The CA that it signs with, in PEM, once it has been started; none of a program's.
    pub(super) fn authority(&self) -> Option<String> {
        fs::read_to_string(authority_file(&self.host, self.port)).ok()
    }

    /// Starts it, unless it runs: it is there for others once this returns. The fabric
    /// knows whether a captive portal was released.
    pub(super) fn start(&self, fabric: &Arc<Fabric>) -> io::Result<()> {
        match &self.what {
            What::Program(program) => {
                program.start()?;
                answers(program, self.port)
            }
            What::Model(serving) => {
                let mut serving = serving.lock().unwrap_or_else(PoisonError::into_inner);
                if serving.is_none() {
                    *serving = Some(self.serve(fabric)?);
                }
                Ok(())
            }
        }
    }

    /// Ends it, with all its connections.
    pub(super) fn stop(&self) {
        match &self.what {
            What::Program(program) => program.kill(),
            What::Model(serving) => {
                let serving = serving
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .take();
                if let Some(Serving { stop, thread }) = serving {
                    stop.cancel();
                    thread.join().ok();
                }
            }
        }
    }

    fn serve(&self, fabric: &Arc<Fabric>) -> io::Result<Serving> {
        let (ready, is_ready) = sync_channel(1);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let (host, config, port) = (Arc::clone(&self.host), self.config.clone(), self.port);
        let (fabric, number) = (Arc::clone(fabric), self.number);
        let is_captive = move || config_is_captive(&fabric, number);
        let thread = thread::Builder::new()
            .name("proxy".to_owned())
            .spawn(move || live(&host, (config, port, is_captive), stopped, &ready))?;
        match is_ready.recv() {
            Ok(Ok(())) => Ok(Serving { stop, thread }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::Error::other("a proxy has ended before it listened")),
        }
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        self.stop();
    }
}

fn config_is_captive(fabric: &Fabric, number: usize) -> bool {
    fabric.with(move |network, _| network.is_captive(number))
}

/// Where the CA of a proxy is kept, for those who are told to trust it.
fn authority_file(host: &Host, port: u16) -> PathBuf {
    host.folder().join(format!("proxy-{port}-ca.pem"))
}

/// The life of a proxy's thread.
fn live(
    host: &Host,
    (config, port, is_captive): (model::Proxy, u16, impl Fn() -> bool + Send + Sync + 'static),
    stopped: CancellationToken,
    ready: &SyncSender<io::Result<()>>,
) {
    tunnel::install_crypto_provider();
    let runtime = host.inhabit().and_then(|()| {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
    });
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return tell(ready, Err(error)),
    };
    runtime.block_on(async {
        let door = match door(config.speaks, port) {
            Ok(door) => door,
            Err(error) => return tell(ready, Err(error)),
        };
        let proxy = Proxy::new(&config, World::real(), is_captive);
        let kept = proxy.authority_pem().map_or(Ok(()), |authority| {
            fs::write(authority_file(host, port), authority)
        });
        if let Err(error) = kept {
            return tell(ready, Err(error));
        }
        tell(ready, Ok(()));
        tokio::select! {
            () = stopped.cancelled() => {}
            () = proxy.serve(door) => {}
        }
    });
    // A name that is still looked up is looked up for nobody.
    runtime.shutdown_background();
}

fn tell(ready: &SyncSender<io::Result<()>>, what: io::Result<()>) {
    // There is room for one, and one is told.
    ready.try_send(what).ok();
}

fn door(speaks: ProxyKind, port: u16) -> io::Result<Door> {
    let doors = Doors {
        ipv4: listener(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port))?,
        ipv6: listener(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port))?,
    };
    Ok(match speaks {
        ProxyKind::Connect | ProxyKind::Socks5 => Door::Spoken(Box::new(doors)),
        ProxyKind::Transparent => Door::Diverted(Box::new(doors)),
    })
}

/// A listener for one family: where a connection was meant to go, each family is asked in
/// its own way.
fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket.into())
}

/// Where a proxy listens.
#[derive(Debug)]
struct Doors {
    ipv4: TcpListener,
    ipv6: TcpListener,
}

impl Doors {
    async fn next(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, from) = tokio::select! {
            accepted = self.ipv4.accept() => accepted?,
            accepted = self.ipv6.accept() => accepted?,
        };
        // A socket that is dead already fails at its first byte.
        tune_tcp(&stream).ok();
        Ok((stream, from))
    }
}

#[async_trait]
impl Listen for Doors {
    async fn accept(&self) -> io::Result<(tunnel::world::BoxIo, SocketAddr)> {
        let (stream, from) = self.next().await?;
        Ok((Box::new(stream), from))
    }
}

#[async_trait]
impl TakeIn for Doors {
    async fn accept(&self) -> io::Result<Diverted> {
        loop {
            let (stream, from) = self.next().await?;
            let socket = SockRef::from(&stream);
            let meant = if from.is_ipv4() {
                socket.original_dst_v4()
            } else {
                socket.original_dst_v6()
            };
            // What was not redirected is nobody's.
            if let Some(to) = meant.ok().and_then(|to| to.as_socket()) {
                let io = Box::new(stream);
                return Ok(Diverted { io, to });
            }
        }
    }
}

/// Has what is diverted to a namespace beside an edge go to the proxies there.
pub(super) fn redirect(host: &Host, standing: &[Standing]) -> io::Result<()> {
    let rules = redirections(standing.iter().map(|one| (&one.config, one.port)));
    let namespace = host.namespace();
    namespace
        .within(|| feed("nft", &["-f", "-"], &rules))
        .map(drop)
}

fn redirections<'a>(proxies: impl Iterator<Item = (&'a model::Proxy, u16)>) -> String {
    let mut rules = String::from(
        "table inet divert {\n chain divert {\n type nat hook prerouting priority dstnat\n",
    );
    for (proxy, port) in proxies {
        let (first, last) = (proxy.port.first, proxy.port.last);
        writeln!(
            rules,
            " iifname {INTERFACE} tcp dport {first}-{last} redirect to :{port}"
        )
        .expect("memory");
    }
    rules.push_str(" }\n}\n");
    rules
}
