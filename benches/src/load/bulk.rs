//! Bulk: as much as goes through, down or up, counted at the end that receives it.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    time::Instant,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    task::spawn_local,
};

use super::{LoadArgs, Measured, Watched};
use crate::{
    backend::{BULK_BYTES, SINK, SOURCE, Taken, give, pattern, take},
    failure::{Context, Failure},
};

/// In which direction bulk goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Down,
    Up,
}

pub(super) async fn measure(
    args: &LoadArgs,
    way: Way,
    streams: usize,
) -> Result<Measured, Failure> {
    let mut meter = match way {
        Way::Down => Meter::Here(Rc::default(), Instant::now()),
        Way::Up => Meter::Backend(ask(args.control).await?),
    };
    match &meter {
        Meter::Here(count, _) => download(args.raw, streams, count).await?,
        Meter::Backend(_) => upload(args.raw, streams).await?,
    }
    tokio::time::sleep(args.warm_up()).await;
    let (watched, before) = (Watched::now(args)?, meter.read().await?);
    tokio::time::sleep(args.window()).await;
    let (watched_after, after) = (Watched::now(args)?, meter.read().await?);
    let bytes = (after.bytes - before.bytes) as f64;
    if bytes == 0.0 {
        return Err(Failure::new("not a byte went through in the whole window"));
    }
    let seconds = (after.nanoseconds - before.nanoseconds) as f64 / 1e9;
    let mut measured = Measured::from([("mb_per_s".to_owned(), bytes / 1e6 / seconds)]);
    watched_after.add_per_gigabyte(&watched, bytes, &mut measured);
    Ok(measured)
}

/// Starts downloads that count into `count` until the runtime ends.
pub(super) async fn download(
    raw: SocketAddr,
    streams: usize,
    count: &Rc<Cell<u64>>,
) -> Result<(), Failure> {
    let scratch = Rc::new(RefCell::new(vec![0; BULK_BYTES]));
    for _ in 0..streams {
        let tcp = connect(raw, SOURCE).await?;
        let (scratch, count) = (Rc::clone(&scratch), Rc::clone(count));
        spawn_local(async move {
            let counted = |length| count.set(count.get() + length);
            // A download that breaks shows in what was counted.
            drop(take(tcp, &scratch, counted).await);
        });
    }
    Ok(())
}

async fn upload(raw: SocketAddr, streams: usize) -> Result<(), Failure> {
    let pattern = pattern();
    for _ in 0..streams {
        let tcp = connect(raw, SINK).await?;
        let pattern = Rc::clone(&pattern);
        spawn_local(async move { drop(give(tcp, &pattern).await) });
    }
    Ok(())
}

/// A connection whose first byte has been sent.
pub(super) async fn connect(raw: SocketAddr, kind: u8) -> Result<TcpStream, Failure> {
    let mut tcp = TcpStream::connect(raw).await.context(raw)?;
    tcp.set_nodelay(true).context(raw)?;
    tcp.write_all(&[kind]).await.context(raw)?;
    Ok(tcp)
}

/// Who counts.
enum Meter {
    Here(Rc<Cell<u64>>, Instant),
    Backend(BufReader<TcpStream>),
}

impl Meter {
    async fn read(&mut self) -> Result<Taken, Failure> {
        match self {
            Self::Here(count, began) => Ok(Taken {
                bytes: count.get(),
                nanoseconds: began.elapsed().as_nanos() as u64,
            }),
            Self::Backend(control) => {
                let asked = control.get_mut().write_all(b"?").await;
                asked.context("the backend's control port")?;
                let mut line = String::new();
                let read = control.read_line(&mut line).await;
                read.context("the backend's control port")?;
                serde_json::from_str(&line).context("the backend's control port")
            }
        }
    }
}

async fn ask(control: SocketAddr) -> Result<BufReader<TcpStream>, Failure> {
    let tcp = TcpStream::connect(control).await.context(control)?;
    tcp.set_nodelay(true).context(control)?;
    Ok(BufReader::new(tcp))
}
