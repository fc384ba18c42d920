//! Carries local connections to a target: one local connection is one stream.
//!
//! To a Docker client that was not served, the bridge answers in the engine's form
//! ([`docker_answer`](super::docker_answer)); a TCP client sees its connection end,
//! and the operator reads why.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tunnel::{OpenRequest, SpliceError, SpliceIo, Spliced, splice};
use wire::{close::ResetCode, id::RequestId, limits::OPEN_BYTES_MAX, target::Target};

use super::{
    docker_answer,
    local_listener::{LocalListener, LocalStream},
    name::EnvironmentName,
    operator::{Notes, Operator},
    output,
};

/// Local connections at a time. Each holds one file descriptor, and the usual soft
/// limit is 1024. A further one waits in the kernel's queue.
const CONNECTIONS_MAX: usize = 512;
/// Pause after a failed accept: mostly no file descriptor is free, and one comes
/// free when a connection ends.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// How long an unserved client may take to read its answer, and how much of its
/// request is read and dropped meanwhile: closing on unread bytes would make the
/// kernel throw the answer away.
const LINGER: Duration = Duration::from_secs(2);
/// How long the connections have to end when the command stops.
const STOP_WAIT: Duration = Duration::from_secs(2);

/// What local connections are carried to, and over what.
#[derive(Debug)]
pub struct Bridge {
    /// The session they share.
    pub operator: Operator,
    /// The environment whose agent opens the target.
    pub environment: EnvironmentName,
    /// What its agent opens.
    pub target: Target,
    /// Who hears of connections that fail.
    pub notes: Notes,
}

impl Bridge {
    /// Takes connections until `stop`, then ends them.
    pub async fn run(self: Arc<Self>, listener: LocalListener, stop: CancellationToken) {
        let (tasks, permits) = (
            TaskTracker::new(),
            Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        );
        while let Some(accepted) = stop.run_until_cancelled(next(&listener, &permits)).await {
            match accepted {
                Ok((stream, permit)) => {
                    let (bridge, stop) = (self.clone(), stop.clone());
                    tasks.spawn(async move {
                        stop.run_until_cancelled(bridge.carry(stream)).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    self.note(&format!("cannot take a local connection: {error}"));
                    stop.run_until_cancelled(tokio::time::sleep(ACCEPT_PAUSE))
                        .await;
                }
            }
        }
        drop(listener);
        tasks.close();
        // A task that is still there only waits for a local program to read.
        tokio::time::timeout(STOP_WAIT, tasks.wait()).await.ok();
    }

    async fn carry(&self, stream: LocalStream) {
        let carried = match stream {
            LocalStream::Unix(stream) => self.carry_io(stream).await,
            LocalStream::Tcp(stream) => self.carry_io(stream).await,
        };
        if let Err(why) = carried {
            self.note(&why);
        }
    }

    async fn carry_io<IO>(&self, io: IO) -> Result<(), String>
    where
        IO: SpliceIo + AsyncRead + AsyncWrite + Unpin + Send,
    {
        match self.target {
            Target::Docker => self.carry_docker(io).await,
            Target::Stacks | Target::Tcp { .. } => self.carry_tcp(io).await,
        }
    }

    /// A service on TCP may speak first: the stream is opened at once.
    async fn carry_tcp<IO: SpliceIo>(&self, io: IO) -> Result<(), String> {
        let opened = self.operator.open(self.request(Bytes::new())).await;
        let stream = opened.map_err(|failure| failure.in_a_line())?;
        self.ended(splice(stream, io).await)
    }

    /// A Docker client speaks first: its request travels in the open, so that it
    /// costs one round trip.
    async fn carry_docker<IO>(&self, mut io: IO) -> Result<(), String>
    where
        IO: SpliceIo + AsyncRead + AsyncWrite + Unpin + Send,
    {
        let mut first = vec![0; OPEN_BYTES_MAX];
        let count = match io.read(&mut first).await {
            Ok(count) if count > 0 => count,
            // A client that goes without a word has lost nothing.
            Ok(_) | Err(_) => return Ok(()),
        };
        first.truncate(count);
        let request = Bytes::from(first);
        let opened = self.operator.open(self.request(request.clone())).await;
        let mut stream = match opened {
            Ok(stream) => stream,
            Err(failure) => return decline(io, &request, 503, failure.in_a_line()).await,
        };
        // The client's further bytes wait in the kernel until the engine is reached.
        if let Err(reset) = stream.accepted().await {
            let why = docker_answer::message(self.environment.as_str(), reset.code, &reset.reason);
            return decline(io, &request, docker_answer::status_of(reset.code), why).await;
        }
        drop(request);
        self.ended(splice(stream, io).await)
    }

    /// What there is to tell of a connection that was carried. How the local program
    /// ends it is its own affair, and so is a service that hangs up on it.
    fn ended(&self, spliced: Spliced) -> Result<(), String> {
        match spliced.end {
            Err(SpliceError::Stream(reset)) => match reset.code {
                ResetCode::Cancelled | ResetCode::TargetReset => Ok(()),
                code => {
                    let name = self.environment.as_str();
                    let why = docker_answer::message(name, code, &reset.reason);
                    Err(format!("{}: {why}", self.target))
                }
            },
            Err(SpliceError::Socket(_) | SpliceError::Gone) | Ok(()) => Ok(()),
        }
    }

    fn request(&self, first_bytes: Bytes) -> OpenRequest {
        OpenRequest {
            environment: self.environment.as_str().to_owned(),
            target: self.target.clone(),
            // The relay fills in whose credential the session has.
            principal: String::new(),
            request_id: RequestId::from_bytes(tunnel::random_bytes()),
            first_bytes,
        }
    }

    fn note(&self, text: &str) {
        match self.notes {
            Notes::Shown => output::note(text),
            Notes::Kept => {}
        }
    }
}

/// The next connection and its permit. Cancel safe: a connection is never taken
/// before there is room for it.
async fn next(
    listener: &LocalListener,
    permits: &Arc<Semaphore>,
) -> io::Result<(LocalStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = permits
        .clone()
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    Ok((listener.accept().await?, permit))
}

/// Answers a Docker client that could not be served, then says why it was not.
async fn decline<IO>(mut io: IO, request: &[u8], status: u16, why: String) -> Result<(), String>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let answer = docker_answer::answer(request, status, &format!("sternline: {why}"));
    let farewell = async {
        io.write_all(&answer).await?;
        io.shutdown().await?;
        let mut dropped = [0; 4096];
        while io.read(&mut dropped).await? > 0 {}
        io::Result::Ok(())
    };
    // A client that does not wait for its answer wants none.
    tokio::time::timeout(LINGER, farewell).await.ok();
    Err(why)
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixStream;

    use super::*;

    #[tokio::test]
    async fn an_unserved_docker_client_reads_why_though_its_request_goes_on() {
        let (mut client, bridge) = UnixStream::pair().unwrap();
        let head = b"POST /build HTTP/1.1\r\n\r\n";
        client.write_all(&[b'x'; 20_000]).await.unwrap();

        let declined = tokio::spawn(decline(bridge, head, 503, "offline".into()));
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        drop(client);

        assert!(
            answer.ends_with(r#"{"message":"sternline: offline"}"#),
            "{answer}"
        );
        assert_eq!(declined.await.unwrap(), Err("offline".into()));
    }
}
