//! Reaching targets: what is judged is what is connected to.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::net::TcpListener;
use tunnel::world::Resolve;

use super::*;
use crate::{audit, policy::Policy};

/// Answers each question with the next of its answers, and counts them.
#[derive(Debug, Default)]
struct Names {
    answers: BTreeMap<&'static str, Vec<Vec<IpAddr>>>,
    asked: AtomicUsize,
}

#[async_trait::async_trait]
impl Resolve for Names {
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        let answers = self.answers.get(host).ok_or(io::ErrorKind::NotFound)?;
        Ok(answers[asked.min(answers.len() - 1)].clone())
    }
}

struct Bench {
    work: Work,
    policy: watch::Sender<PolicyInForce>,
    names: Arc<Names>,
}

fn in_force(text: &str) -> PolicyInForce {
    let policy = Arc::new(Policy::parse(text).unwrap());
    PolicyInForce {
        policy,
        from_file: true,
        error: None,
    }
}

fn bench(policy: &str, answers: &[(&'static str, &[&[&str]])]) -> Bench {
    let addresses = |texts: &&[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    let answers = answers
        .iter()
        .map(|(name, texts)| (*name, texts.iter().map(addresses).collect()));
    let names = Arc::new(Names {
        answers: answers.collect(),
        asked: AtomicUsize::new(0),
    });
    let (policy, receiver) = watch::channel(in_force(policy));
    let mut world = World::real();
    world.resolver = names.clone();
    let work = Work {
        world,
        stacks: None,
        docker_socket: "/nowhere/docker.sock".into(),
        policy: receiver,
        audit: audit::keep(0).0,
        figures: Figures::new(tokio::time::Instant::now().into_std()),
        policy_path: "/policy.toml".into(),
        gateways: Gateways::Fixed(Vec::new()),
        use_made: UseMade::default(),
    };
    Bench {
        work,
        policy,
        names,
    }
}

async fn reach(bench: &Bench, target: &str) -> Result<SocketAddr, ResetCode> {
    match bench.work.reach(&target.parse().unwrap()).await {
        Ok(reached) => Ok(reached.remote.expect("no Docker here")),
        Err(refusal) => Err(refusal.code),
    }
}

#[tokio::test]
async fn a_name_that_resolves_elsewhere_the_second_time_cannot_lead_past_the_policy() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let policy = format!("[targets]\ntcp = ['127.0.0.1:{}']\n", address.port());
    let bench = bench(
        &policy,
        &[("evil.example", &[&["127.0.0.1"], &["127.0.0.2"]])],
    );
    let target = format!("tcp:evil.example:{}", address.port());

    assert_eq!(reach(&bench, &target).await, Ok(address));
    assert_eq!(bench.names.asked.load(Ordering::Relaxed), 1);
    assert_eq!(reach(&bench, &target).await, Err(ResetCode::PolicyDenied));
}

#[tokio::test]
async fn only_those_addresses_of_a_name_that_the_policy_permits_are_connected_to() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let policy = format!("[targets]\ntcp = ['127.0.0.1:{port}']\n");
    let bench = bench(
        &policy,
        &[("two.example", &[&["127.0.0.2", "::1", "::ffff:127.0.0.1"]])],
    );

    let reached = reach(&bench, &format!("tcp:two.example:{port}")).await;

    assert_eq!(reached, Ok((Ipv4Addr::LOCALHOST, port).into()));
}

#[tokio::test]
async fn a_name_that_a_rule_has_is_no_way_to_the_host_itself_unless_it_says_so() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let port = address.port();
    let policy = format!("[targets]\ntcp = ['db.internal:{port}', 'localhost:{port}']\n");
    let here: &[&[&str]] = &[&["127.0.0.1"]];
    let bench = bench(&policy, &[("db.internal", here), ("localhost", here)]);

    let by_name = reach(&bench, &format!("tcp:db.internal:{port}")).await;
    let as_itself = reach(&bench, &format!("tcp:localhost:{port}")).await;

    assert_eq!(
        (by_name, as_itself),
        (Err(ResetCode::PolicyDenied), Ok(address))
    );
}

#[tokio::test]
async fn a_name_that_no_rule_can_allow_is_not_even_resolved() {
    let bench = bench("[targets]\ntcp = ['10.0.0.0/8:80']\n", &[]);

    assert_eq!(
        reach(&bench, "tcp:db.internal:22").await,
        Err(ResetCode::PolicyDenied)
    );

    assert_eq!(bench.names.asked.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn what_cannot_be_reached_says_why() {
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let policy = format!("[targets]\ntcp = ['{closed}', 'lost.example:80']\n");
    let bench = bench(&policy, &[]);

    assert_eq!(
        reach(&bench, &format!("tcp:{closed}")).await,
        Err(ResetCode::TargetUnreachable)
    );
    assert_eq!(
        reach(&bench, "tcp:lost.example:80").await,
        Err(ResetCode::TargetUnreachable)
    );
    assert_eq!(
        reach(&bench, "docker").await,
        Err(ResetCode::TargetUnreachable)
    );
    let forbidden = io::Error::from(io::ErrorKind::PermissionDenied);
    assert_eq!(
        refusal(&forbidden, "docker").code,
        ResetCode::TargetForbidden
    );
}

#[tokio::test]
async fn a_change_of_the_policy_ends_what_it_forbids_and_nothing_else() {
    let bench = bench("[targets]\ntcp = ['10.0.0.0/8:80']\n", &[]);
    let remote = Some("10.1.2.3:80".parse().unwrap());
    let target = "tcp:web.internal:80".parse().unwrap();
    let mut policy = bench.policy.subscribe();
    let gateways = Gateways::Fixed(Vec::new());
    let mut waits = Box::pin(revoked(&mut policy, &target, remote, &gateways));
    assert!(futures_pending(&mut waits).await);

    bench
        .policy
        .send_replace(in_force("[targets]\ntcp = ['10.1.0.0/16:80']\n"));
    assert!(futures_pending(&mut waits).await);
    bench
        .policy
        .send_replace(in_force("[targets]\ntcp = ['10.2.0.0/16:80']\n"));

    waits.await;
}

/// Whether the future, polled once, is still waiting.
async fn futures_pending(future: &mut (impl Future<Output = ()> + Unpin)) -> bool {
    tokio::select! {
        biased;
        () = future => false,
        () = std::future::ready(()) => true,
    }
}
