//! bollard over sockets of the world's seam: the kernel's, or those of a simulator.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bollard::{BollardRequest, ClientVersion, Docker, errors::Error};
use hyper::{Response, body::Incoming, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;
use tunnel::world::{Net, TargetEnd, TargetSocket};

/// Stands where a URI wants a host; a socket has none.
const HOST: &str = "docker";

/// A connection for each request: they are few, and a connection that is kept could have
/// ended in between. The connections end with this value.
#[derive(Debug)]
pub struct Transport {
    net: Arc<dyn Net>,
    socket: PathBuf,
    /// For the first request.
    connected: Mutex<Option<TargetSocket>>,
    connections: Mutex<JoinSet<()>>,
}

impl Transport {
    /// `connected` serves the first request.
    pub fn new(net: Arc<dyn Net>, socket: PathBuf, connected: TargetSocket) -> Arc<Self> {
        Arc::new(Self {
            net,
            socket,
            connected: Mutex::new(Some(connected)),
            connections: Mutex::default(),
        })
    }

    /// The Engine at the other end.
    pub fn engine(
        self: Arc<Self>,
        answer_within: Duration,
        version: &ClientVersion,
    ) -> Result<Docker, Error> {
        let request = move |request| Arc::clone(&self).request(request);
        let address = format!("http://{HOST}");
        let seconds = answer_within.as_secs();
        Docker::connect_with_custom_transport(request, Some(address), seconds, version)
    }

    async fn request(
        self: Arc<Self>,
        mut request: BollardRequest,
    ) -> Result<Response<Incoming>, Error> {
        let connected = self
            .connected
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let socket = match connected {
            Some(socket) => socket,
            None => {
                let end = TargetEnd::Unix(&self.socket);
                self.net.connect_target(end).await?
            }
        };
        let io = TokioIo::new(socket.into_io());
        let (mut sender, connection) = http1::handshake(io).await?;
        {
            let mut connections = self
                .connections
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            // Nothing is kept of those that have ended.
            while connections.try_join_next().is_some() {}
            // Whoever waits for the answer hears of what goes wrong. An answer may be an
            // upgrade, such as the output of a command.
            connections.spawn(async { drop(connection.with_upgrades().await) });
        }
        // A server is asked for a path; a URI with a host is for proxies.
        let path = request.uri().path_and_query().map(ToString::to_string);
        let path = path.unwrap_or_default().parse();
        *request.uri_mut() = path.map_err(|error| Error::from(hyper::http::Error::from(error)))?;
        let host = header::HeaderValue::from_static(HOST);
        request.headers_mut().insert(header::HOST, host);
        Ok(sender.send_request(request).await?)
    }
}
