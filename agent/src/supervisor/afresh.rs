//! An attempt, and a fresh one beside it once the network is another one.
//!
//! A dial that began on the old network may keep its time to the end: its packets go where
//! nobody is any more. It is not ended, since what changed may have been another interface.

use std::pin::Pin;

use crate::nudge::Nudges;

/// Runs an attempt to its end. With each call another one begins; of those under way the
/// two latest go on. The first that succeeds is the one; what is left of the others is
/// dropped. The failure is that of the last.
pub(super) async fn or_afresh<T, E, F>(nudges: &Nudges, attempt: impl Fn() -> F) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
{
    let mut latest: Pin<Box<F>> = Box::pin(attempt());
    let mut former: Option<Pin<Box<F>>> = None;
    loop {
        tokio::select! {
            biased;
            done = &mut latest => match (done, former.take()) {
                (Err(_), Some(earlier)) => latest = earlier,
                (done, _) => return done,
            },
            done = earlier(&mut former) => {
                if done.is_ok() {
                    return done;
                }
                former = None;
            }
            _ = nudges.next() => {
                let before = std::mem::replace(&mut latest, Box::pin(attempt()));
                former = Some(before);
            }
        }
    }
}

async fn earlier<F: Future>(former: &mut Option<Pin<Box<F>>>) -> F::Output {
    match former {
        Some(attempt) => attempt.await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU32, Ordering},
        time::Duration,
    };

    use super::*;
    use crate::nudge::Nudge;

    /// The first attempt is stuck for a minute and then fails; later ones take a second.
    async fn run(nudged_after: &[u64]) -> (Result<u32, u32>, Duration, u32) {
        let (nudges, begun) = (Nudges::default(), AtomicU32::new(0));
        let started = tokio::time::Instant::now();
        let attempt = || {
            let number = begun.fetch_add(1, Ordering::Relaxed);
            async move {
                if number == 0 {
                    tokio::time::sleep(Duration::from_secs(60)).await;
                    return Err(0);
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
                Ok(number)
            }
        };
        let call = async {
            for seconds in nudged_after {
                tokio::time::sleep(Duration::from_secs(*seconds)).await;
                nudges.call(Nudge::Network);
            }
            std::future::pending::<()>().await;
        };
        let result = tokio::select! {
            result = or_afresh(&nudges, attempt) => result,
            () = call => unreachable!("it pends"),
        };
        (result, started.elapsed(), begun.load(Ordering::Relaxed))
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_that_is_stuck_does_not_hold_up_the_one_on_the_new_network() {
        let (result, took, begun) = run(&[3]).await;

        assert_eq!((result, begun), (Ok(1), 2));
        assert_eq!(took, Duration::from_secs(4));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_call_there_is_one_attempt() {
        let (result, took, begun) = run(&[]).await;

        assert_eq!((result, begun), (Err(0), 1));
        assert_eq!(took, Duration::from_secs(60));
    }

    #[tokio::test(start_paused = true)]
    async fn many_calls_leave_two_attempts_and_the_earlier_of_them_may_win() {
        let (nudges, begun) = (Nudges::default(), AtomicU32::new(0));
        let attempt = || {
            let number = begun.fetch_add(1, Ordering::Relaxed);
            async move {
                // The one before the last succeeds first.
                let takes = if number == 2 { 1 } else { 100 };
                tokio::time::sleep(Duration::from_secs(takes)).await;
                Ok::<_, ()>(number)
            }
        };
        let call = async {
            for _ in 0..3 {
                nudges.call(Nudge::Network);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            std::future::pending::<()>().await;
        };

        let result = tokio::select! {
            result = or_afresh(&nudges, attempt) => result,
            () = call => unreachable!("it pends"),
        };

        assert_eq!((result, begun.load(Ordering::Relaxed)), (Ok(2), 4));
    }
}
