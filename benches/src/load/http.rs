//! HTTP requests over connections that are kept: each sends its next request once the
//! answer to the last is complete.

use std::{cell::RefCell, rc::Rc, time::Instant};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use super::{LoadArgs, Measured, add_latency, connect::PATIENCE};
use crate::{
    backend::ANSWER,
    failure::{Context, Failure},
};

const REQUEST: &[u8] =
    b"GET /index.html HTTP/1.1\r\nHost: localhost\r\nUser-Agent: sternline-bench\r\n\r\n";

pub(super) async fn measure(args: &LoadArgs, connections: usize) -> Result<Measured, Failure> {
    let begin = Instant::now() + args.warm_up();
    let end = begin + args.window();
    let latencies = Rc::new(RefCell::new(Vec::new()));
    let mut all = JoinSet::new();
    for _ in 0..connections {
        let (http, latencies) = (args.http, Rc::clone(&latencies));
        all.spawn_local(async move {
            let mut tcp = TcpStream::connect(http).await.context(http)?;
            tcp.set_nodelay(true).context(http)?;
            loop {
                let began = Instant::now();
                let timed = tokio::time::timeout(PATIENCE, request(&mut tcp)).await;
                timed.context("an HTTP request")??;
                let now = Instant::now();
                if now > end {
                    return Ok::<(), Failure>(());
                }
                if now >= begin {
                    let latency = now.duration_since(began).as_nanos() as u64;
                    latencies.borrow_mut().push(latency);
                }
            }
        });
    }
    while let Some(ended) = all.join_next().await {
        ended.context("a connection")??;
    }
    let mut latencies = latencies.take();
    let per_second = latencies.len() as f64 / args.window().as_secs_f64();
    let mut measured = Measured::from([("per_s".to_owned(), per_second)]);
    add_latency(&mut latencies, &mut measured)?;
    Ok(measured)
}

/// The backend's answer is known to the byte, so nothing has to be parsed.
async fn request(tcp: &mut TcpStream) -> Result<(), Failure> {
    let mut answer = [0; ANSWER.len()];
    tcp.write_all(REQUEST).await.context("an HTTP request")?;
    let read = tcp.read_exact(&mut answer).await;
    read.context("an HTTP answer")?;
    if answer == ANSWER {
        return Ok(());
    }
    Err(Failure::new("another HTTP answer came than was sent"))
}
