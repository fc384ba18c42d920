//! Agents behind somebody who ends their TLS: refused, or inside a TLS of their own.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer};
use rustls::ServerConfig;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tunnel::{
    DialError,
    tls::{ALPN_HTTP, RootCertStore, SeenCertificate, identity_client, provider},
};

use super::*;

/// Ends every TLS with a certificate of its own CA, and begins another one.
#[derive(Debug)]
struct Between {
    net: Arc<dyn Net>,
    server: Arc<ServerConfig>,
    clock: Arc<dyn Clock>,
}

/// A CA, and TLS as the relay with a certificate of it.
fn authority() -> (RootCertStore, Arc<ServerConfig>) {
    let (key, leaf_key) = (
        rcgen::KeyPair::generate().unwrap(),
        rcgen::KeyPair::generate().unwrap(),
    );
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "Gateway");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let own = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let leaf = CertificateParams::new(["relay.example".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&leaf_key, &issuer).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(own.der().clone()).unwrap();
    let leaf_key = PrivateKeyDer::try_from(leaf_key.serialize_der()).unwrap();
    let mut server = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], leaf_key)
        .unwrap();
    server.alpn_protocols = vec![ALPN_HTTP.to_vec()];
    (roots, Arc::new(server))
}

#[async_trait]
impl Net for Between {
    async fn connect_tcp(&self, address: SocketAddr) -> io::Result<BoxIo> {
        let far = self.net.connect_tcp(address).await?;
        let (near, mine) = tokio::io::duplex(64 * 1024);
        let acceptor = TlsAcceptor::from(self.server.clone());
        let client = identity_client(ALPN_HTTP, &SeenCertificate::default(), &self.clock);
        tokio::spawn(async move {
            let mut agent = acceptor.accept(mine).await?;
            let name = "relay.example".try_into().map_err(io::Error::other)?;
            let connector = TlsConnector::from(Arc::new(client));
            let mut relay = connector.connect(name, far).await?;
            tokio::io::copy_bidirectional(&mut agent, &mut relay).await
        });
        Ok(Box::new(near))
    }

    async fn connect_target(&self, _target: TargetEnd<'_>) -> io::Result<TargetSocket> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn connect_udp(&self, peer: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        self.net.connect_udp(peer)
    }
}

/// An agent of a new environment dials from behind the interceptor, and allows these.
async fn dialled(
    site: &Site,
    server: &Arc<ServerConfig>,
    (allowed, transport): (Option<RootCertStore>, Transport),
) -> Result<Dialled, DialError> {
    let world = World {
        net: Arc::new(Between {
            net: site.world.net.clone(),
            server: server.clone(),
            clock: site.world.clock.clone(),
        }),
        ..site.world.clone()
    };
    let name = format!("behind-{transport}");
    let added = site
        .node
        .control()
        .add_environment(&site.principal, &name, BTreeMap::new());
    let (_, token) = added.await.unwrap();
    let token: EnrolToken = token.text.parse().unwrap();
    let who = ("test/0".to_owned(), InstanceId::from_bytes([3; 16]));
    let options = DialOptions {
        transports: TransportChoice::Only(transport),
        interceptors: allowed.map(Arc::new),
        ..DialOptions::new(token.addresses, Trust::Identity(token.relay_identity), who)
    };
    let credential = Credential::Enrol {
        secret: token.secret,
        key: KeyPair::from_seed(&Secret::from_bytes([2; 32])),
        start_counter: 1,
    };
    tunnel::dial(&world, &options, &credential).await
}

#[test]
fn a_session_through_an_interceptor_that_is_allowed_is_inside_a_tls_of_its_own_and_says_so() {
    run(async {
        let site = Site::new().await;
        let (roots, server) = authority();
        for transport in [Transport::Ws, Transport::Ws443] {
            let dialled = dialled(&site, &server, (Some(roots.clone()), transport)).await;

            let dialled = dialled.unwrap();

            let issuer = dialled.intercepted_by.as_deref();
            assert_eq!(issuer, Some("CN=Gateway"), "{transport}");
            let mut changes = site.node.registry().changes();
            while site.node.registry().live_agents().is_empty() {
                changes.changed().await.unwrap();
            }
            let live = site.node.registry().live_agents()[0].environment;
            let view = control::Presence::view(&**site.node.registry(), live).unwrap();
            assert!(view.is_intercepted, "{transport}");
            dialled.session.close(CloseCode::Shutdown, "done");
            dialled.session.closed().await;
            while !site.node.registry().live_agents().is_empty() {
                changes.changed().await.unwrap();
            }
        }
    });
}

#[test]
fn an_interceptor_that_is_not_allowed_is_refused_whatever_else_is() {
    run(async {
        let site = Site::new().await;
        let ((_, server), (others, _)) = (authority(), authority());
        for allowed in [None, Some(others)] {
            let is_other = allowed.is_some();
            let dialled = dialled(&site, &server, (allowed, Transport::Ws)).await;

            let refused = dialled.unwrap_err();
            assert_eq!(refused.kind(), "intercepted", "{refused}");
            let advice = refused.advice();
            assert!(advice.contains("CN=Gateway"), "{advice}");
            assert_eq!(advice.contains("interception_ca"), is_other, "{advice}");
            site.node
                .control()
                .remove_environment(&site.principal, "behind-ws")
                .await
                .unwrap();
        }
    });
}
