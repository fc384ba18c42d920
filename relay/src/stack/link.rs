//! One stream to an agent's stacks: HTTP/1.1, one request after another.
//!
//! The connection is driven by whoever waits for an answer; there is no task to leak.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::Poll,
};

use bytes::{Buf, Bytes, BytesMut};
use compose::exchange::{DOCUMENT_BYTES_MAX, LINE_BYTES_MAX, Refused};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::timeout;
use tunnel::{OpenRequest, Session, Stream, StreamReset, World};
use wire::{close::ResetCode, id::RequestId, target::Target};

use crate::{
    control::AskError,
    limits::STACK_REQUEST_TIMEOUT,
    metrics::{Metrics, Origin, StreamGuard},
};

/// Who calls whom.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller<'a> {
    pub(super) world: &'a World,
    pub(super) metrics: &'a Metrics,
    pub(super) session: &'a Session,
    /// In whose name.
    pub(super) principal: &'a str,
}

type Connection = http1::Connection<TokioIo<Stream>, Full<Bytes>>;

/// The connection under a link, until it has ended.
struct Driver {
    connection: Option<Pin<Box<Connection>>>,
    end: Option<hyper::Error>,
}

/// See the module.
pub(super) struct Link {
    sender: SendRequest<Full<Bytes>>,
    driver: Driver,
    /// The answer whose lines are being read, and what has come of the next one.
    lines: Option<(Incoming, BytesMut)>,
    /// Counts the stream as open.
    _open: StreamGuard,
}

impl Driver {
    /// Awaits something that the connection brings.
    async fn until<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(done);
            }
            if let Some(connection) = &mut self.connection
                && let Poll::Ready(ended) = connection.as_mut().poll(cx)
            {
                self.connection = None;
                self.end = ended.err();
                // What it brought with its end.
                return work.as_mut().poll(cx);
            }
            Poll::Pending
        })
        .await
    }

    /// Why something failed: the stream's own reason, where there is one.
    fn failure(&self, error: &(dyn std::error::Error + 'static)) -> AskError {
        let own = self.end.as_ref().and_then(|end| reset_in(end));
        match own.or_else(|| reset_in(error)) {
            Some(reset) => by_reset(reset),
            None => AskError::Broken(format!("the agent broke off: {}", root(error))),
        }
    }
}

/// The first cause of an error.
fn root(error: &(dyn std::error::Error + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

/// The reset of a stream inside an error of HTTP.
fn reset_in<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a StreamReset> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<std::io::Error>()
            && let Some(reset) = io.get_ref().and_then(|e| e.downcast_ref::<StreamReset>())
        {
            return Some(reset);
        }
        next = error.source();
    }
    None
}

fn by_reset(reset: &StreamReset) -> AskError {
    match reset.code {
        ResetCode::SessionEnded | ResetCode::EnvironmentOffline => AskError::Offline,
        ResetCode::PolicyDenied => AskError::NotServed(format!(
            "the customer's policy does not allow stacks: {}",
            reset.reason
        )),
        ResetCode::BadRequest => {
            AskError::NotServed("the agent is of a release without stacks: update it".to_owned())
        }
        ResetCode::TargetUnreachable | ResetCode::TargetForbidden => {
            AskError::NotServed(format!("the agent cannot run stacks: {}", reset.reason))
        }
        _ => AskError::Broken(format!("the stream to the agent broke: {reset}")),
    }
}

/// A document as a body.
pub(super) fn body_of(document: &impl Serialize) -> Result<Bytes, AskError> {
    let bytes = serde_json::to_vec(document)
        .map_err(|error| AskError::Broken(format!("cannot be written: {error}")))?;
    if bytes.len() > DOCUMENT_BYTES_MAX {
        let reason = format!(
            "the stack takes {} bytes, more than the {DOCUMENT_BYTES_MAX} that an agent takes: \
             put inline configs into files",
            bytes.len()
        );
        return Err(AskError::Refused(Refused {
            code: "too_large".to_owned(),
            reason,
            details: Vec::new(),
        }));
    }
    Ok(bytes.into())
}

/// A text as part of a path or query.
pub(super) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn late() -> AskError {
    AskError::Broken("the agent did not answer in time".to_owned())
}

impl Link {
    /// Opens a stream. The agent's answer is not waited for: the first request goes with it.
    pub(super) async fn open(caller: Caller<'_>) -> Result<Self, AskError> {
        let target = Target::Stacks;
        let open = caller.metrics.stream_opened(Origin::Relay, target.kind());
        let request = OpenRequest {
            environment: String::new(),
            target,
            principal: caller.principal.to_owned(),
            request_id: RequestId::from_bytes(caller.world.random()),
            first_bytes: Bytes::new(),
        };
        let opened = caller.session.open(request).await;
        let stream = opened.map_err(|_| AskError::Offline)?;
        let shaken = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) =
            shaken.map_err(|error| AskError::Broken(format!("no HTTP: {error}")))?;
        Ok(Self {
            sender,
            driver: Driver {
                connection: Some(Box::pin(connection)),
                end: None,
            },
            lines: None,
            _open: open,
        })
    }

    /// Sends a request, and waits for the head of its answer; one that is no success is an
    /// error already.
    async fn ask(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, AskError> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "stacks")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| AskError::Broken(format!("no request: {error}")))?;
        let Self { sender, driver, .. } = self;
        let answered = driver
            .until(async {
                sender.ready().await?;
                sender.send_request(request).await
            })
            .await;
        let response = answered.map_err(|error| driver.failure(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let bytes = self.whole(response).await?;
        Err(AskError::Refused(refused(status, &bytes)))
    }

    async fn whole(&mut self, response: Response<Incoming>) -> Result<Bytes, AskError> {
        let body = Limited::new(response.into_body(), DOCUMENT_BYTES_MAX);
        let collected = self.driver.until(body.collect()).await;
        match collected {
            Ok(collected) => Ok(collected.to_bytes()),
            Err(error) => Err(self.driver.failure(&*error)),
        }
    }

    /// Asks for a document.
    pub(super) async fn document<T: DeserializeOwned>(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, AskError> {
        self.document_within(method, path, body, STACK_REQUEST_TIMEOUT)
            .await
    }

    /// Asks for a document that takes its time.
    pub(super) async fn document_within<T: DeserializeOwned>(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
        patience: std::time::Duration,
    ) -> Result<T, AskError> {
        let asked = async {
            let response = self.ask(method, path, body).await?;
            self.whole(response).await
        };
        let bytes = timeout(patience, asked).await.map_err(|_| late())??;
        serde_json::from_slice(&bytes)
            .map_err(|_| AskError::Broken("the agent's answer cannot be read".to_owned()))
    }

    /// Asks for something to be done.
    pub(super) async fn done(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(), AskError> {
        let asked = async {
            let response = self.ask(method, path, body).await?;
            self.whole(response).await
        };
        timeout(STACK_REQUEST_TIMEOUT, asked)
            .await
            .map_err(|_| late())??;
        Ok(())
    }

    /// Sends a part of a file, for as long as `patience`.
    pub(super) async fn part<T: DeserializeOwned>(
        &mut self,
        path: &str,
        part: Bytes,
        patience: std::time::Duration,
    ) -> Result<T, AskError> {
        let asked = async {
            let response = self.ask(Method::PUT, path, part).await?;
            self.whole(response).await
        };
        let bytes = timeout(patience, asked).await.map_err(|_| late())??;
        serde_json::from_slice(&bytes)
            .map_err(|_| AskError::Broken("the agent's answer cannot be read".to_owned()))
    }

    /// Asks for lines that come until the agent ends them.
    pub(super) async fn begin_lines(&mut self, path: &str) -> Result<(), AskError> {
        let asked = self.ask(Method::GET, path, Bytes::new());
        let response = timeout(STACK_REQUEST_TIMEOUT, asked)
            .await
            .map_err(|_| late())??;
        self.lines = Some((response.into_body(), BytesMut::new()));
        Ok(())
    }

    /// The next line; `None` after the last.
    ///
    /// Cancel safe.
    pub(super) async fn next_line<T: DeserializeOwned>(&mut self) -> Result<Option<T>, AskError> {
        let Some((body, buffer)) = &mut self.lines else {
            return Ok(None);
        };
        let mut searched = 0;
        loop {
            if let Some(at) = buffer[searched..].iter().position(|byte| *byte == b'\n') {
                let line = buffer.split_to(searched + at);
                buffer.advance(1);
                return serde_json::from_slice(&line).map(Some).map_err(|_| {
                    AskError::Broken("a line of the agent's cannot be read".to_owned())
                });
            }
            searched = buffer.len();
            if searched > LINE_BYTES_MAX {
                return Err(AskError::Broken(
                    "a line of the agent's is too long".to_owned(),
                ));
            }
            match self.driver.until(body.frame()).await {
                Some(Ok(frame)) => {
                    if let Some(bytes) = frame.data_ref() {
                        buffer.extend_from_slice(bytes);
                    }
                }
                Some(Err(error)) => return Err(self.driver.failure(&error)),
                None => return Ok(None),
            }
        }
    }
}

/// What an answer says that is no success.
fn refused(status: StatusCode, bytes: &[u8]) -> Refused {
    serde_json::from_slice(bytes).unwrap_or_else(|_| Refused {
        code: "internal".to_owned(),
        reason: format!("the agent answered {status}"),
        details: Vec::new(),
    })
}
