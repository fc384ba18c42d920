//! A service that returns every byte, and whether it can be reached.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// How long one exchange may take.
const EXCHANGE_FOR: Duration = Duration::from_secs(2);

/// A TCP service that returns every byte.
#[derive(Debug)]
pub struct Backend {
    /// Where it listens.
    pub address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Backend {
    /// Listens on a free port of loopback, until it is dropped.
    ///
    /// # Errors
    /// There is none.
    pub async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                connections.spawn(async move {
                    let (mut read, mut write) = stream.split();
                    // Whoever breaks off has what it wanted.
                    drop(tokio::io::copy(&mut read, &mut write).await);
                });
            }
        });
        Ok(Self {
            address,
            _tasks: tasks,
        })
    }
}

/// Whether eight bytes come back.
pub async fn exchange(exposed: SocketAddr) -> bool {
    let exchange = async {
        let mut stream = TcpStream::connect(exposed).await?;
        stream.write_all(b"are you?").await?;
        let mut answer = [0; 8];
        stream.read_exact(&mut answer).await?;
        std::io::Result::Ok(answer == *b"are you?")
    };
    matches!(
        tokio::time::timeout(EXCHANGE_FOR, exchange).await,
        Ok(Ok(true))
    )
}
