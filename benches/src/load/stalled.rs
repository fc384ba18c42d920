//! Three downloads beside one whose reader has stalled, against three alone.
//!
//! Alone, stalled, stalled, alone, each for half a window: a machine that becomes faster
//! or slower meanwhile does so for both.

use std::{cell::Cell, rc::Rc, time::Instant};

use super::{LoadArgs, Measured, bulk};
use crate::{
    backend::SOURCE,
    failure::{Context, Failure},
};

const READERS: usize = 3;

pub(super) async fn measure(args: &LoadArgs) -> Result<Measured, Failure> {
    let count = Rc::new(Cell::new(0));
    bulk::download(args.raw, READERS, &count).await?;
    tokio::time::sleep(args.warm_up()).await;
    let mut alone = speed(args, &count).await;
    let stalled = bulk::connect(args.raw, SOURCE).await?;
    // Until every buffer on its path is full.
    tokio::time::sleep(args.warm_up()).await;
    let mut beside = speed(args, &count).await;
    beside += speed(args, &count).await;
    drop(stalled);
    tokio::time::sleep(args.warm_up()).await;
    alone += speed(args, &count).await;
    (alone > 0.0)
        .then(|| {
            Measured::from([
                ("kept_ratio".to_owned(), beside / alone),
                ("alone_mb_per_s".to_owned(), alone / 2.0),
            ])
        })
        .context("not a byte went through")
}

async fn speed(args: &LoadArgs, count: &Cell<u64>) -> f64 {
    let (began, before) = (Instant::now(), count.get());
    tokio::time::sleep(args.window() / 2).await;
    (count.get() - before) as f64 / 1e6 / began.elapsed().as_secs_f64()
}
