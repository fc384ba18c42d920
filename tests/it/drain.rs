//! Planned ends of a relay: by command, with streams open, and with operators who wait.

use std::time::{Duration, Instant};

use tests::{Agent, AgentSetup, Process, Relay, RelaySetup, SOON, Service, binary, exchange};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    task::JoinSet,
};

/// Over how long agents spread their return unless told otherwise.
const SPREAD: Duration = Duration::from_secs(1);

/// What a pause may be longer for where other tests have the processors.
const BUSY: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_by_command_ends_a_relay_whose_streams_have_finished_with_0() {
    let mut relay = Relay::start().await;
    let token = relay.add("acme").await;
    let _agent = Agent::start(AgentSetup::with_token(token));
    relay.shows("acme", "online", SOON).await;

    relay.operator(&["drain"]).await.success();

    assert_eq!(relay.process.ended(SOON * 2).await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_that_cuts_a_stream_at_its_deadline_says_so_with_3() {
    let echo = Service::echo().await;
    let mut relay = Relay::start_with(RelaySetup {
        config: Some("[drain]\ntimeout = \"1s\"\n".to_owned()),
        ..RelaySetup::default()
    })
    .await;
    let token = relay.add("acme").await;
    let _agent = Agent::start(AgentSetup::with_token(token).allowing(echo.address));
    relay.shows("acme", "online", SOON).await;
    let target = format!("tcp:{}", echo.address);
    let (_forward, port) = relay.forward("acme", &target).await;
    let mut stream = TcpStream::connect(port).await.expect("forward listens");
    let mut back = [0; 1];
    stream.write_all(b"x").await.expect("the stream is open");
    stream.read_exact(&mut back).await.expect("it is an echo");

    relay.operator(&["drain"]).await.success();

    assert_eq!(relay.process.ended(SOON * 2).await.code(), Some(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_while_an_environment_is_on_its_way_back_waits_and_is_served() {
    let echo = Service::echo().await;
    let mut relay = Relay::start().await;
    let token = relay.add("acme").await;
    let _agent = Agent::start(AgentSetup::with_token(token).allowing(echo.address));
    relay.shows("acme", "online", SOON).await;
    let free = Service::echo().await.address;
    let (target, listen) = (format!("tcp:{}", echo.address), free.to_string());
    let expose = ["expose", "acme", &target, "--listen", &listen];
    relay.operator(&expose).await.success();

    relay.restart().await;

    let answered = exchange(free, b"at once").await;
    assert_eq!(answered.expect("the relay has it wait"), b"at once");
}

/// What an operator does again and again: how often so far, and what took longest.
type Rounds = watch::Receiver<(u32, Duration)>;

/// Begins to do something again and again. A round that fails ends its rounds.
fn again_and_again<F>(tasks: &mut JoinSet<()>, round: impl Fn() -> F + Send + 'static) -> Rounds
where
    F: Future<Output = ()> + Send,
{
    let (tell, rounds) = watch::channel((0, Duration::ZERO));
    tasks.spawn(async move {
        loop {
            let began = Instant::now();
            round().await;
            tell.send_modify(|(count, longest)| {
                *count += 1;
                *longest = began.elapsed().max(*longest);
            });
        }
    });
    rounds
}

/// Waits for a few more rounds, of which the first may have begun before.
async fn goes_on(rounds: &mut Rounds) {
    let enough = rounds.borrow().0 + 3;
    let more = rounds.wait_for(|(count, _)| *count >= enough);
    let more = tokio::time::timeout(SOON * 2, more).await;
    drop(more.expect("rounds hang").expect("a round failed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planned_restart_is_a_pause_for_operators_and_never_an_error() {
    let echo = Service::echo().await;
    let mut relay = Relay::start().await;
    let data_dir = relay.data_dir().display().to_string();
    let mut operators = JoinSet::new();
    let (mut all_rounds, mut fleet) = (Vec::new(), Vec::new());
    for name in ["berlin", "oslo", "rome"] {
        let setup = AgentSetup::with_token(relay.add(name).await);
        let agent = Agent::start(setup.allowing(echo.address));
        relay.shows(name, "online", SOON).await;
        let target = format!("tcp:{}", echo.address);
        let (forward, port) = relay.forward(name, &target).await;
        all_rounds.push(again_and_again(&mut operators, move || async move {
            let answered = exchange(port, name.as_bytes()).await;
            assert_eq!(answered.expect("it is answered"), name.as_bytes());
        }));
        fleet.push((agent, forward));
    }
    all_rounds.push(again_and_again(&mut operators, move || {
        let data_dir = data_dir.clone();
        async move {
            let list = ["env", "list", "--json", "--data-dir", &data_dir];
            let listed = Process::run(&binary("sternline-relay"), &list, |_| ()).await;
            assert!(listed.success().contains("berlin"));
        }
    }));
    for rounds in &mut all_rounds {
        goes_on(rounds).await;
    }

    let began = Instant::now();
    relay.operator(&["drain"]).await.success();
    assert_eq!(relay.process.ended(SOON).await.code(), Some(0));
    relay.start_again().await;
    let restart = began.elapsed();
    for rounds in &mut all_rounds {
        goes_on(rounds).await;
    }

    let pauses: Vec<Duration> = all_rounds.iter().map(|rounds| rounds.borrow().1).collect();
    eprintln!("the restart took {restart:?}, and operators paused for {pauses:?}");
    let longest = pauses.into_iter().max().unwrap_or_default();
    assert!(longest <= restart + SPREAD + BUSY, "{longest:?}");
    // Before what they use goes.
    operators.shutdown().await;
}
