//! How long streams take under a policy's rates, in paused time.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    time::{Instant as Moment, timeout},
};

use super::*;
use crate::policy::Policy;

const KIB: usize = 1024;

/// As fast as the runtime's clock, which a test pauses.
#[derive(Debug)]
struct Paused;

impl Clock for Paused {
    fn now(&self) -> Instant {
        Moment::now().into_std()
    }

    fn unix_milliseconds(&self) -> i64 {
        0
    }
}

fn in_force(limits: &str) -> PolicyInForce {
    PolicyInForce::of(Policy::parse(&format!("[limits]\n{limits}\n")).unwrap())
}

struct Bench {
    policy: watch::Sender<PolicyInForce>,
    paces: Paces,
}

impl Bench {
    fn under(limits: &str) -> Self {
        let policy = watch::Sender::new(in_force(limits));
        let paces = Paces::default();
        Self { policy, paces }
    }

    fn paced(&self, target: &str, address: Option<&str>) -> Paced {
        Paced {
            paces: self.paces.clone(),
            policy: self.policy.subscribe(),
            clock: Arc::new(Paused),
            target: target.parse().unwrap(),
            address: address.map(|address| address.parse().unwrap()),
        }
    }

    fn docker(&self) -> Paced {
        self.paced("docker", None)
    }
}

/// Writes so much, and says how long that took.
async fn writes(to: impl AsyncWrite + Unpin, bytes: usize) -> Duration {
    let (mut to, began) = (to, Moment::now());
    to.write_all(&vec![7; bytes]).await.unwrap();
    began.elapsed()
}

/// Reads so much, and says how long that took.
async fn reads(from: impl AsyncRead + Unpin, bytes: usize) -> Duration {
    let (mut from, began) = (from, Moment::now());
    let mut read = vec![0; bytes];
    from.read_exact(&mut read).await.unwrap();
    assert!(read.iter().all(|byte| *byte == 7), "other bytes were read");
    began.elapsed()
}

/// A source that has so much.
async fn full(bytes: usize) -> DuplexStream {
    let (near, mut far) = duplex(bytes);
    far.write_all(&vec![7; bytes]).await.unwrap();
    near
}

/// Within a portion, and a turn of the runtime's clock.
fn about(took: Duration, seconds: f64) {
    let took = took.as_secs_f64();
    assert!((seconds - 0.01..seconds + 0.06).contains(&took), "{took} s");
}

#[tokio::test(start_paused = true)]
async fn a_stream_takes_as_long_as_its_bytes_but_for_a_quarter_of_a_second() {
    let bench = Bench::under("bytes_per_second = '100KiB'");
    let paced = bench.docker();

    let written = writes(paced.outward(tokio::io::sink()), 1000 * KIB).await;
    let read = reads(paced.inward(full(1000 * KIB).await), 1000 * KIB).await;

    // Each direction for itself: the second one begins with all that may come at once.
    about(written, 9.75);
    about(read, 9.75);
}

#[tokio::test(start_paused = true)]
async fn nothing_waits_where_nothing_is_limited() {
    let bench = Bench::under("streams = 10");
    let paced = bench.docker();

    let written = writes(paced.outward(tokio::io::sink()), 64 << 20).await;

    assert_eq!(written, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn streams_share_a_rate_and_each_has_its_turn() {
    let bench = Bench::under("bytes_per_second = '1MiB'");
    let one = bench.docker().outward(tokio::io::sink());
    let other = bench.paced("tcp:a.example:80", Some("10.0.0.1"));
    let other = other.outward(tokio::io::sink());
    let long = tokio::spawn(writes(one, 8 << 20));

    let short = writes(other, 1 << 20).await;
    let long = long.await.unwrap();

    // Half of it is the other one's, as long as both want it.
    assert!(short < Duration::from_millis(2_100), "{short:?}");
    about(long, 8.75);
}

#[tokio::test(start_paused = true)]
async fn a_rate_of_a_target_holds_for_whatever_goes_there_and_for_nothing_else() {
    let bench = Bench::under(
        "target_bytes_per_second = { docker = '1KiB', '10.0.0.0/8:80' = '10KiB', 'b.example:80' = '20KiB' }",
    );
    let takes = async |target: &str, address| {
        let write = bench
            .paced(target, Some(address))
            .outward(tokio::io::sink());
        writes(write, 100 * KIB).await
    };

    about(takes("tcp:a.example:80", "10.1.2.3").await, 9.75);
    about(takes("tcp:b.example:80", "192.0.2.1").await, 4.75);
    // Where several hold, the slowest does.
    about(takes("tcp:b.example:80", "10.1.2.3").await, 9.75);
    for (target, address) in [
        ("tcp:a.example:81", "10.1.2.3"),
        ("tcp:a.example:80", "192.0.2.1"),
        ("stacks", "192.0.2.1"),
    ] {
        assert_eq!(takes(target, address).await, Duration::ZERO, "{target}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_ends_takes_no_rate_with_it() {
    let bench = Bench::under("bytes_per_second = '100KiB'");
    let began = Moment::now();

    // Each one alone would be through at once.
    for _ in 0..40 {
        writes(bench.docker().outward(tokio::io::sink()), 25 * KIB).await;
    }

    about(began.elapsed(), 9.75);
}

#[tokio::test(start_paused = true)]
async fn an_open_stream_follows_a_change_of_the_policy() {
    let bench = Bench::under("bytes_per_second = '1KiB'");
    let mut write = bench.docker().outward(tokio::io::sink());
    let slow = writes(&mut write, 4 * KIB).await;

    bench
        .policy
        .send_replace(in_force("bytes_per_second = '1MiB'"));
    let fast = writes(&mut write, 4 << 20).await;
    bench.policy.send_replace(in_force(""));
    let free = writes(&mut write, 4 << 20).await;

    about(slow, 3.75);
    about(fast, 4.0);
    assert!(free < Duration::from_millis(60), "{free:?}");
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_reads_nothing_more() {
    let bench = Bench::under("bytes_per_second = '20KiB'");
    let (near, mut far) = duplex(KIB);
    let mut read = bench.docker().inward(near);
    let writer = tokio::spawn(async move {
        let mut written = 0;
        while timeout(Duration::from_secs(5), far.write_all(&[7; KIB]))
            .await
            .is_ok()
        {
            written += KIB;
        }
        written
    });

    reads(&mut read, 20 * KIB).await;
    // It is not polled any more, as where the session gives no credit.
    let written = writer.await.unwrap();

    // What was asked for, one portion, and what the pipe holds.
    assert!(written <= 23 * KIB, "{written}");
}

#[tokio::test(start_paused = true)]
async fn a_hundred_streams_wake_up_once_for_each_portion() {
    /// Counts how often it is written to, or would be.
    struct Counting(usize);
    let bench = Bench::under("bytes_per_second = '1MiB'");
    let mut streams = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let mut write = bench.docker().outward(tokio::io::sink());
        streams.spawn(async move {
            let mut polled = Counting(0);
            let bytes = vec![7; 100 * KIB];
            let writing = write.write_all(&bytes);
            tokio::pin!(writing);
            std::future::poll_fn(|cx| {
                polled.0 += 1;
                writing.as_mut().poll(cx)
            })
            .await
            .unwrap();
            polled.0
        });
    }
    let began = Moment::now();

    let polls: usize = streams.join_all().await.into_iter().sum();

    about(began.elapsed(), 9.51);
    // 100 KiB are two portions of at most 52 KiB; and one look at the beginning.
    assert!(polls <= 100 * 3, "{polls}");
}
