//! HTTP requests over connections that are kept: each sends its next request once the
//! answer to the last is complete.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{LoadArgs, Measured, turns};
use crate::{
    backend::ANSWER,
    failure::{Context, Failure},
};

const REQUEST: &[u8] =
    b"GET /index.html HTTP/1.1\r\nHost: localhost\r\nUser-Agent: sternline-bench\r\n\r\n";

pub(super) async fn measure(args: &LoadArgs, connections: usize) -> Result<Measured, Failure> {
    let http = args.http;
    let connect = async move || {
        let tcp = TcpStream::connect(http).await.context(http)?;
        tcp.set_nodelay(true).context(http)?;
        Ok(tcp)
    };
    turns::measure(args, connections, connect, request).await
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
