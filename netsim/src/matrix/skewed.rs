//! A relay whose clock is wrong: the relay's own code on a host of the lab, with another time of
//! day. Between two clocks, it is the difference that the probe sees. Its program, to which the
//! lab can tell a wrong time, would make a certificate that the operator's commands beside it do
//! not take, whose clocks are right.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::Arc,
    time::{Duration, Instant},
};

use prometheus::Registry as Series;
use relay::{
    control,
    farewell::Farewells,
    gate::HandshakeRate,
    metrics::Metrics,
    node::{Doors, Node, NodeParts},
    probe::ProbeParts,
    seal::Sealer,
    store::memory::MemoryStore,
    tls::DoorTls,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::TcpListener;
use tunnel::{
    KeyPair, World,
    world::{Clock, Listen},
};
use wire::{key::Secret, token::RelayAddress};

use super::{resident::Resident, topology::RELAY};
use crate::{lab::Host, version};

const HTTPS_PORT: u16 = 443;
const TUNNEL_PORT: u16 = 8000;

/// Nobody enrols at it.
const TOKEN_VALIDITY: Duration = Duration::from_secs(3_600);

/// See the module. It ends when dropped.
#[derive(Debug)]
pub(super) struct SkewedRelay {
    /// Its identity key.
    pub(super) pin: String,
    _resident: Resident,
}

impl SkewedRelay {
    /// Starts one on a host whose ports are free, its clock wrong by so many seconds.
    pub(super) fn start(host: &Arc<Host>, seconds: i64) -> io::Result<Self> {
        let mut world = World::real();
        world.clock = Arc::new(Wrong {
            right: Arc::clone(&world.clock),
            milliseconds: seconds.saturating_mul(1000),
        });
        let identity = Secret::from_bytes(world.random());
        let pin = KeyPair::from_seed(&identity).public().to_string();
        let begin = async move || {
            tunnel::install_crypto_provider();
            serve(world, &identity).await
        };
        // It serves for as long as it is held.
        let live = async |_running| std::future::pending().await;
        Ok(Self {
            pin,
            _resident: Resident::move_in(host, "skewed relay", begin, live)?,
        })
    }
}

async fn serve(world: World, identity: &Secret) -> io::Result<relay::node::Running> {
    let store = Arc::new(MemoryStore::new());
    let generation = control::boot(&*store, &world).await;
    let metrics = Metrics::new(&Series::new(), version::VERSION, version::COMMIT);
    let parts = NodeParts {
        store,
        metrics: Arc::new(metrics.map_err(io::Error::other)?),
        identity: KeyPair::from_seed(identity),
        sealer: Sealer::new(identity).map_err(|_| io::Error::other("no sealer"))?,
        generation: generation.map_err(|_| io::Error::other("no generation"))?,
        farewells: Farewells::none(),
        name: "relay".to_owned(),
        address: RelayAddress {
            host: RELAY.to_owned(),
            tunnel_port: TUNNEL_PORT,
            https_port: HTTPS_PORT,
        },
        agent_image: "sternline-agent".to_owned(),
        token_validity: TOKEN_VALIDITY,
        probe: Some(ProbeParts::default()),
        asks_figures: false,
        resume_window: wire::limits::RESUME_WINDOW,
        handshake_rate: HandshakeRate::Fixed(2_000),
        is_severable: true,
        world: world.clone(),
    };
    let any = |port| SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port);
    let udp = UdpSocket::bind(any(TUNNEL_PORT))?;
    udp.set_nonblocking(true)?;
    let doors = Doors {
        https: Box::new(TcpListener::bind(any(HTTPS_PORT)).await?) as Box<dyn Listen>,
        tunnel_tcp: Box::new(TcpListener::bind(any(TUNNEL_PORT)).await?),
        tunnel_udp: tunnel::socket::accepting(udp, |_| {})?,
    };
    Ok(Node::build(parts).serve(doors, &tls(&world)?))
}

fn tls(world: &World) -> io::Result<DoorTls> {
    let made = rcgen::generate_simple_self_signed(vec![RELAY.to_owned()]);
    let made = made.map_err(io::Error::other)?;
    let certificate: CertificateDer<'static> = made.cert.der().clone();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    DoorTls::from_der(vec![certificate], PrivateKeyDer::Pkcs8(key), &world.clock)
        .map_err(|_| io::Error::other("the key is not the certificate's"))
}

/// The right clock, and by how much this one is wrong.
#[derive(Debug)]
struct Wrong {
    right: Arc<dyn Clock>,
    milliseconds: i64,
}

impl Clock for Wrong {
    fn now(&self) -> Instant {
        self.right.now()
    }

    fn unix_milliseconds(&self) -> i64 {
        self.right
            .unix_milliseconds()
            .saturating_add(self.milliseconds)
    }
}
