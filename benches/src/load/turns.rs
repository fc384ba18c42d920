//! Workers side by side, each taking one turn after the other: how many turns a second,
//! and how long one takes.

use std::{cell::RefCell, rc::Rc, time::Instant};

use tokio::task::JoinSet;

use super::{LoadArgs, Measured, add_latency, connect::PATIENCE};
use crate::failure::{Context, Failure};

/// Counts the turns that are complete within the window. `begin` makes what a worker
/// keeps, and `turn` is one turn with it.
pub(super) async fn measure<W: 'static>(
    args: &LoadArgs,
    workers: usize,
    begin: impl AsyncFn() -> Result<W, Failure> + Clone + 'static,
    turn: impl AsyncFn(&mut W) -> Result<(), Failure> + Clone + 'static,
) -> Result<Measured, Failure> {
    let counted_from = Instant::now() + args.warm_up();
    let end = counted_from + args.window();
    let latencies = Rc::new(RefCell::new(Vec::new()));
    let mut all = JoinSet::new();
    for _ in 0..workers {
        let (begin, turn, latencies) = (begin.clone(), turn.clone(), Rc::clone(&latencies));
        all.spawn_local(async move {
            let mut worker = begin().await?;
            loop {
                let began = Instant::now();
                let timed = tokio::time::timeout(PATIENCE, turn(&mut worker)).await;
                timed.context("a turn")??;
                let now = Instant::now();
                if now > end {
                    return Ok::<(), Failure>(());
                }
                if now >= counted_from {
                    let latency = now.duration_since(began).as_nanos() as u64;
                    latencies.borrow_mut().push(latency);
                }
            }
        });
    }
    while let Some(ended) = all.join_next().await {
        ended.context("a worker")??;
    }
    let mut latencies = latencies.take();
    let per_second = latencies.len() as f64 / args.window().as_secs_f64();
    let mut measured = Measured::from([("per_s".to_owned(), per_second)]);
    add_latency(&mut latencies, &mut measured)?;
    Ok(measured)
}
