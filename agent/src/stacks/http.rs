//! The documents of [`compose::exchange`] over HTTP/1.1, on a stream of the session.

use std::{collections::BTreeMap, convert::Infallible, io};

use bytes::Bytes;
use compose::exchange::{
    Assignment, BLOB_PART_BYTES_MAX, DOCUMENT_BYTES_MAX, ImageLoad, LogLine, Refused, Update,
};
use futures_util::{Stream, StreamExt, stream};
use http_body_util::{BodyExt, Either, Full, Limited, StreamBody};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Frame, Incoming},
    header,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;

use super::{Caller, Stacks, fault::Fault};

type Lines = std::pin::Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, Infallible>> + Send>>;
type Body = Either<Full<Bytes>, StreamBody<Lines>>;
type Answer = Result<Response<Body>, Refused>;

/// How often a follower hears that nothing has changed.
const ALIVE_EVERY: std::time::Duration = std::time::Duration::from_secs(60);
/// How long a request's head may take.
const HEAD_WITHIN: std::time::Duration = std::time::Duration::from_secs(60);

/// Serves requests until the other side has no more.
///
/// # Errors
///
/// What is no HTTP, or a stream that broke.
pub(super) async fn serve(
    stacks: Stacks,
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + 'static,
    caller: Caller,
) -> Result<(), hyper::Error> {
    let service = service_fn(move |request| {
        let (stacks, caller) = (stacks.clone(), caller.clone());
        async move {
            let answer = answer(&stacks, request, &caller).await;
            Ok::<_, Infallible>(answer.unwrap_or_else(|why| refusal(&why)))
        }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

async fn answer(stacks: &Stacks, request: Request<Incoming>, caller: &Caller) -> Answer {
    let path = request.uri().path().to_owned();
    let query = query(request.uri().query().unwrap_or_default());
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let method = request.method().clone();
    match (&method, parts.as_slice()) {
        (&Method::PUT, ["v1", "stacks", name]) => {
            let assignment: Assignment = document(request).await?;
            if assignment.stack != *name {
                return Err(invalid("the path names another stack than the document"));
            }
            json(&stacks.assign(assignment, caller).await?)
        }
        (&Method::POST, ["v1", "plan"]) => json(&stacks.plan(document(request).await?).await?),
        (&Method::POST, ["v1", "stacks", name, "cancel"]) => {
            stacks.cancel(name, caller).await?;
            Ok(nothing())
        }
        (&Method::POST, ["v1", "stacks", name, "restart"]) => {
            stacks
                .restart(name, query.get("service").cloned(), caller)
                .await?;
            Ok(nothing())
        }
        (&Method::GET, ["v1", "stacks", name, "logs"]) => {
            let lines = stacks.logs(name, &query).await?;
            Ok(streamed(lines.map(|line: LogLine| to_line(&line))))
        }
        (&Method::GET, ["v1", "follow"]) => Ok(streamed(follow(stacks))),
        (&Method::GET, ["v1", "blobs", digest]) => {
            let state = stacks.site().disk.blob_state(digest);
            json(&state.map_err(|error| of_disk(&error))?)
        }
        (&Method::PUT, ["v1", "blobs", digest]) => {
            let number = |name: &str| query.get(name).and_then(|text| text.parse().ok());
            let (Some(offset), Some(size)) = (number("offset"), number("size")) else {
                return Err(invalid("a part of a blob needs `offset` and `size`"));
            };
            let bytes = body(request, BLOB_PART_BYTES_MAX).await?;
            json(&stacks.append_blob(digest, (offset, size), bytes).await?)
        }
        (&Method::POST, ["v1", "images", "needed"]) => {
            json(&stacks.needed(&document(request).await?).await?)
        }
        (&Method::POST, ["v1", "images", "refused"]) => {
            stacks.image_refused(document(request).await?);
            Ok(nothing())
        }
        (&Method::POST, ["v1", "images"]) => {
            let image: ImageLoad = document(request).await?;
            json(&stacks.load_image(image).await?)
        }
        _ => Err(Refused {
            code: "not_found".to_owned(),
            reason: format!(
                "this agent does not know {method} {path}; it may be older than the relay"
            ),
            details: Vec::new(),
        }),
    }
}

fn follow(stacks: &Stacks) -> impl Stream<Item = Bytes> + Send + use<> {
    let follower = stacks.site().board.follow();
    stream::unfold(follower, |mut follower| async move {
        let update = match tokio::time::timeout(ALIVE_EVERY, follower.next()).await {
            Ok(update) => update?,
            Err(_) => Update::Alive,
        };
        Some((to_line(&update), follower))
    })
}

async fn body(request: Request<Incoming>, bytes_max: usize) -> Result<Bytes, Refused> {
    let collected = Limited::new(request.into_body(), bytes_max).collect().await;
    let collected = collected.map_err(|error| Refused {
        code: "too_large".to_owned(),
        reason: format!("the request's body was not read: {error}"),
        details: Vec::new(),
    })?;
    Ok(collected.to_bytes())
}

async fn document<T: serde::de::DeserializeOwned>(
    request: Request<Incoming>,
) -> Result<T, Refused> {
    let bytes = body(request, DOCUMENT_BYTES_MAX).await?;
    // Not the reader's words: they may quote a secret.
    serde_json::from_slice(&bytes).map_err(|error| {
        invalid(&format!(
            "the document is not what it must be, at line {} column {}; agent and relay may \
             be of different releases",
            error.line(),
            error.column()
        ))
    })
}

fn json(document: &impl Serialize) -> Answer {
    let bytes = serde_json::to_vec(document).map_err(|error| invalid(&error.to_string()))?;
    Ok(of_bytes(StatusCode::OK, bytes))
}

fn of_bytes(status: StatusCode, bytes: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Either::Left(Full::new(bytes.into())));
    *response.status_mut() = status;
    let kind = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn nothing() -> Response<Body> {
    let mut response = Response::new(Either::Left(Full::default()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

fn streamed(lines: impl Stream<Item = Bytes> + Send + 'static) -> Response<Body> {
    let frames: Lines = Box::pin(lines.map(|line| Ok(Frame::data(line))));
    let mut response = Response::new(Either::Right(StreamBody::new(frames)));
    let kind = header::HeaderValue::from_static("application/x-ndjson");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn to_line(document: &impl Serialize) -> Bytes {
    let mut line = serde_json::to_vec(document).unwrap_or_default();
    line.push(b'\n');
    line.into()
}

fn refusal(why: &Refused) -> Response<Body> {
    let status = match why.code.as_str() {
        "stale" | "conflict" => StatusCode::CONFLICT,
        "policy" => StatusCode::FORBIDDEN,
        "invalid" => StatusCode::UNPROCESSABLE_ENTITY,
        "not_found" => StatusCode::NOT_FOUND,
        "too_large" => StatusCode::PAYLOAD_TOO_LARGE,
        "disk_full" => StatusCode::INSUFFICIENT_STORAGE,
        "engine" => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    of_bytes(status, serde_json::to_vec(why).unwrap_or_default())
}

/// A refusal of what the other side has sent.
pub(super) fn invalid(reason: &str) -> Refused {
    Refused {
        code: "invalid".to_owned(),
        reason: reason.to_owned(),
        details: Vec::new(),
    }
}

/// A refusal because of the disk, or of what was sent for it.
pub(super) fn of_disk(error: &io::Error) -> Refused {
    let code = match error.kind() {
        io::ErrorKind::InvalidInput => "conflict",
        io::ErrorKind::InvalidData => "invalid",
        io::ErrorKind::StorageFull => "disk_full",
        _ => "internal",
    };
    Refused {
        code: code.to_owned(),
        reason: Fault::of_disk("keep a file of the release", error).to_string(),
        details: Vec::new(),
    }
}

/// A refusal because of a fault.
pub(super) fn of_fault(fault: Fault) -> Refused {
    Refused {
        code: fault.cause.code,
        reason: fault.cause.line,
        details: fault.cause.output,
    }
}

fn query(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}
