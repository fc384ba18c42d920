//! Small TCP services on the agent's side, for what a tunnel must keep: bytes, order,
//! and the half-close.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// A service that listens on loopback until it is dropped.
#[derive(Debug)]
pub struct Service {
    /// Where.
    pub address: SocketAddr,
    _task: JoinSet<()>,
}

impl Service {
    /// Returns every byte at once.
    pub async fn echo() -> Self {
        Self::start(async |mut stream| {
            let (mut read, mut write) = stream.split();
            drop(tokio::io::copy(&mut read, &mut write).await);
            drop(write.shutdown().await);
        })
        .await
    }

    /// Reads to the end, and only then answers: how many bytes came, and their sum.
    /// Answers nothing to a client whose half-close does not arrive.
    pub async fn adds_up() -> Self {
        Self::start(async |mut stream| {
            let (mut count, mut sum) = (0_u64, 0_u64);
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                count += length as u64;
                sum += buffer[..length]
                    .iter()
                    .map(|byte| u64::from(*byte))
                    .sum::<u64>();
            }
            drop(stream.write_all(format!("{count} {sum}").as_bytes()).await);
        })
        .await
    }

    /// Says its line and finishes at once; then reads to the end, and says how much
    /// came on `heard`.
    pub async fn greets(heard: tokio::sync::mpsc::Sender<usize>) -> Self {
        Self::start(move |mut stream| {
            let heard = heard.clone();
            async move {
                drop(stream.write_all(b"welcome").await);
                drop(stream.shutdown().await);
                let mut rest = Vec::new();
                drop(stream.read_to_end(&mut rest).await);
                heard.send(rest.len()).await.ok();
            }
        })
        .await
    }

    async fn start<F, Fut>(serve: F) -> Self
    where
        F: Fn(TcpStream) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream));
            }
        });
        Self {
            address,
            _task: task,
        }
    }
}

/// Sends `sent`, finishes, and returns all that comes back.
///
/// # Errors
/// What the connection says.
pub async fn exchange(address: SocketAddr, sent: &[u8]) -> std::io::Result<Vec<u8>> {
    let (mut read, mut write) = TcpStream::connect(address).await?.into_split();
    let sending = async {
        write.write_all(sent).await?;
        write.shutdown().await
    };
    let mut received = Vec::new();
    let (sending, receiving) = tokio::join!(sending, read.read_to_end(&mut received));
    sending?;
    receiving?;
    Ok(received)
}
