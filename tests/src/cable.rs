//! The line between an agent and its relay, in the test's hands: it can be cut,
//! stalled, healed, and forget its connections as a NAT does.

use std::{collections::BTreeMap, io, net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::watch,
    task::JoinSet,
};

use crate::Relay;

/// How the line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// Carries everything.
    Open,
    /// Carries nothing and says nothing.
    Stalled,
    /// Breaks every connection.
    Cut,
}

#[derive(Debug, Clone, Copy)]
struct State {
    line: Line,
    /// Whether UDP alone is lost, as behind many a firewall.
    udp_is_lost: bool,
    /// Connections born before this count are forgotten: black holes for ever.
    forgotten: u64,
    /// A connection that is broken while others go on.
    broken: Option<u64>,
    /// Connections accepted so far.
    born: u64,
}

/// A line to a relay's three doors.
#[derive(Debug)]
pub struct Cable {
    /// Its end of the tunnel's door, TCP and UDP.
    pub tunnel: SocketAddr,
    /// Its end of the HTTPS door.
    pub https: SocketAddr,
    state: Arc<watch::Sender<State>>,
    /// Ends everything with the cable.
    _tasks: JoinSet<()>,
}

impl Cable {
    /// Lays a line to a relay.
    pub async fn to(relay: &Relay) -> Self {
        Self::between(relay.tunnel, relay.https).await
    }

    async fn between(far_tunnel: SocketAddr, far_https: SocketAddr) -> Self {
        let (state, _) = watch::channel(State {
            line: Line::Open,
            udp_is_lost: false,
            forgotten: 0,
            broken: None,
            born: 0,
        });
        let state = Arc::new(state);
        let (tcp, udp) = same_port().await;
        let https = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addresses = (address(&tcp), address(&https));
        let mut tasks = JoinSet::new();
        tasks.spawn(carry_tcp(tcp, far_tunnel, Arc::clone(&state)));
        tasks.spawn(carry_tcp(https, far_https, Arc::clone(&state)));
        tasks.spawn(carry_udp(udp, far_tunnel, Arc::clone(&state)));
        Self {
            tunnel: addresses.0,
            https: addresses.1,
            state,
            _tasks: tasks,
        }
    }

    /// Breaks every connection, and every later one.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.line = Line::Cut);
    }

    /// Holds every byte, and lets both ends believe in their connections.
    pub fn stall(&self) {
        self.state.send_modify(|state| state.line = Line::Stalled);
    }

    /// Forgets every connection there is, without a word; later ones pass.
    pub fn forget(&self) {
        self.state.send_modify(|state| state.forgotten = state.born);
    }

    /// Breaks the connection that came last, and no other.
    pub fn break_newest(&self) {
        self.state
            .send_modify(|state| state.broken = Some(state.born));
    }

    /// Loses every datagram, and carries TCP.
    pub fn drop_udp(&self) {
        self.state.send_modify(|state| state.udp_is_lost = true);
    }

    /// Carries everything again.
    pub fn heal(&self) {
        self.state.send_modify(|state| state.line = Line::Open);
    }
}

fn address(listener: &TcpListener) -> SocketAddr {
    listener.local_addr().expect("it is bound")
}

/// TCP and UDP on one port number, as a relay has them.
async fn same_port() -> (TcpListener, UdpSocket) {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        if let Ok(udp) = UdpSocket::bind(address(&tcp)).await {
            return (tcp, udp);
        }
    }
}

async fn carry_tcp(listener: TcpListener, relay: SocketAddr, state: Arc<watch::Sender<State>>) {
    let mut connections = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        let mut number = 0;
        state.send_modify(|state| {
            state.born += 1;
            number = state.born;
        });
        connections.spawn(carry_connection(near, relay, state.subscribe(), number));
        while connections.try_join_next().is_some() {}
    }
}

async fn carry_connection(
    near: TcpStream,
    relay: SocketAddr,
    state: watch::Receiver<State>,
    number: u64,
) {
    let mut gate = Gate { state, number };
    if !gate.opens().await {
        return;
    }
    let Ok(far) = TcpStream::connect(relay).await else {
        return;
    };
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    let back = Gate {
        state: gate.state.clone(),
        number,
    };
    tokio::join!(
        pump(near_read, far_write, gate),
        pump(far_read, near_write, back)
    );
}

/// What one connection sees of the line.
struct Gate {
    state: watch::Receiver<State>,
    number: u64,
}

impl Gate {
    /// Waits until the line carries this connection; false once it is cut.
    async fn opens(&mut self) -> bool {
        loop {
            let state = *self.state.borrow_and_update();
            match state.line {
                Line::Cut => return false,
                Line::Open if state.broken == Some(self.number) => return false,
                Line::Open if self.number > state.forgotten => return true,
                Line::Open | Line::Stalled => {}
            }
            if self.state.changed().await.is_err() {
                return false;
            }
        }
    }
}

async fn pump(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, mut gate: Gate) {
    let mut buffer = vec![0; 64 * 1024];
    while gate.opens().await {
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            changed = gate.state.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
        };
        let passed: io::Result<()> = match read {
            Ok(0) | Err(_) => {
                drop(to.shutdown().await);
                return;
            }
            Ok(length) => to.write_all(&buffer[..length]).await,
        };
        if passed.is_err() {
            return;
        }
    }
}

async fn carry_udp(near: UdpSocket, relay: SocketAddr, state: Arc<watch::Sender<State>>) {
    let near = Arc::new(near);
    let mut flows: BTreeMap<SocketAddr, (u64, Arc<UdpSocket>)> = BTreeMap::new();
    let mut backs = JoinSet::new();
    let mut buffer = vec![0; 64 * 1024];
    while let Ok((length, client)) = near.recv_from(&mut buffer).await {
        let now = *state.borrow();
        if now.line != Line::Open || now.udp_is_lost {
            continue;
        }
        // A forgotten flow gets a new port towards the relay, as after a NAT's amnesia.
        if flows
            .get(&client)
            .is_none_or(|(number, _)| *number <= now.forgotten)
        {
            let Ok(far) = UdpSocket::bind("127.0.0.1:0").await else {
                continue;
            };
            if far.connect(relay).await.is_err() {
                continue;
            }
            let far = Arc::new(far);
            let mut number = 0;
            state.send_modify(|state| {
                state.born += 1;
                number = state.born;
            });
            let gate = Gate {
                state: state.subscribe(),
                number,
            };
            backs.spawn(carry_back(
                Arc::clone(&near),
                client,
                Arc::clone(&far),
                gate,
            ));
            flows.insert(client, (number, far));
        }
        if let Some((_, far)) = flows.get(&client) {
            drop(far.send(&buffer[..length]).await);
        }
    }
}

async fn carry_back(near: Arc<UdpSocket>, client: SocketAddr, far: Arc<UdpSocket>, gate: Gate) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        // An error is the relay's closed port: the next datagram may find it open.
        let Ok(length) = far.recv(&mut buffer).await else {
            continue;
        };
        let now = *gate.state.borrow();
        if now.line == Line::Open && gate.number > now.forgotten {
            drop(near.send_to(&buffer[..length], client).await);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{SOON, Service, exchange};

    #[tokio::test]
    async fn a_cable_carries_until_it_is_cut_and_again_once_it_is_healed() {
        let echo = Service::echo().await.address;
        let service = Service::echo().await;
        let cable = Cable::between(service.address, echo).await;
        assert_eq!(exchange(cable.tunnel, b"one").await.unwrap(), b"one");

        cable.cut();
        let while_cut = exchange(cable.tunnel, b"two").await.unwrap_or_default();
        cable.heal();

        assert!(while_cut.is_empty());
        assert_eq!(exchange(cable.tunnel, b"three").await.unwrap(), b"three");
    }

    #[tokio::test]
    async fn a_stalled_cable_holds_bytes_and_a_forgetful_one_loses_connections_for_ever() {
        let service = Service::echo().await;
        let cable = Cable::between(service.address, service.address).await;
        let mut stream = TcpStream::connect(cable.tunnel).await.unwrap();
        stream.write_all(b"a").await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'a');

        cable.stall();
        stream.write_all(b"b").await.unwrap();
        let stalled = tokio::time::timeout(Duration::from_millis(200), stream.read_u8()).await;
        cable.heal();
        let healed = tokio::time::timeout(SOON, stream.read_u8()).await;
        cable.forget();
        stream.write_all(b"c").await.unwrap();
        let forgotten = tokio::time::timeout(Duration::from_millis(200), stream.read_u8()).await;

        assert!(stalled.is_err(), "a stalled line carried a byte");
        assert_eq!(healed.unwrap().unwrap(), b'b');
        assert!(forgotten.is_err(), "a forgotten connection carried a byte");
        assert_eq!(exchange(cable.tunnel, b"later").await.unwrap(), b"later");
    }

    #[tokio::test]
    async fn datagrams_pass_and_are_lost_alone_when_told() {
        let far = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = far.local_addr().unwrap();
        let cable = Cable::between(address, address).await;
        let near = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        near.connect(cable.tunnel).await.unwrap();
        let mut buffer = [0; 16];

        near.send(b"ping").await.unwrap();
        let (length, from) = far.recv_from(&mut buffer).await.unwrap();
        far.send_to(b"pong", from).await.unwrap();
        let back = near.recv(&mut buffer).await.unwrap();
        cable.drop_udp();
        near.send(b"lost").await.unwrap();
        let lost = tokio::time::timeout(Duration::from_millis(200), far.recv(&mut buffer)).await;

        assert_eq!((length, back), (4, 4));
        assert!(lost.is_err(), "a lost datagram arrived");
    }
}
