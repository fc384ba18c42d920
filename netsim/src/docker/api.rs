//! What the model answers: paths, versions and words as the Engine has them.

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    ext::ReasonPhrase,
    header::{CONNECTION, CONTENT_TYPE, HeaderMap, HeaderValue, SERVER, UPGRADE},
    upgrade::{self, OnUpgrade},
};
use serde_json::{Value, json};

use super::ledger::Created;

/// An old one that is still installed: a client that knows newer ones must agree on less.
pub const ENGINE_VERSION: &str = "20.10.24";
/// The newest version of the API that this Engine speaks.
pub const API_VERSION: &str = "1.41";
/// Numbers a request that creates something, so that one that arrives twice is known.
pub(super) const REQUEST_NUMBER: &str = "x-request-id";
/// The oldest one.
const API_VERSION_MIN: &str = "1.12";

/// The answer to a request, and the connection where it is to be hijacked.
pub(super) fn answer(
    request: &mut Request<Incoming>,
) -> (Response<Full<Bytes>>, Option<OnUpgrade>) {
    let path = request.uri().path().to_owned();
    let path = match unversioned(&path) {
        Ok(path) => path,
        Err(problem) => return (failure(StatusCode::BAD_REQUEST, &problem), None),
    };
    let is_get = request.method() == Method::GET;
    let answer = match path {
        "/_ping" if is_get || request.method() == Method::HEAD => ping(),
        "/version" if is_get => success(&version()),
        "/info" if is_get => success(&info()),
        "/containers/json" if is_get => success(&containers()),
        "/echo" if request.method() == Method::POST && wants_tcp(request.headers()) => {
            return (hijacked(), Some(upgrade::on(request)));
        }
        "/echo" if request.method() == Method::POST => {
            let problem = "an echo needs the headers Connection: Upgrade and Upgrade: tcp";
            failure(StatusCode::BAD_REQUEST, problem)
        }
        _ => failure(StatusCode::NOT_FOUND, "page not found"),
    };
    (answer, None)
}

/// The name of the container that a request creates, and the number that who asks has given
/// to the request; none of any other request.
pub(super) fn creates<B>(request: &Request<B>) -> Option<(String, String)> {
    let is_meant = request.method() == Method::POST
        && unversioned(request.uri().path()) == Ok("/containers/create");
    let name = request.uri().query().filter(|_| is_meant)?;
    let number = request.headers().get(REQUEST_NUMBER)?.to_str().ok()?;
    Some((name.strip_prefix("name=")?.to_owned(), number.to_owned()))
}

/// The answer to who creates a container.
pub(super) fn created(name: &str, created: Created) -> Response<Full<Bytes>> {
    match created {
        Created::New => {
            let mut answer = success(&json!({ "Id": name, "Warnings": [] }));
            *answer.status_mut() = StatusCode::CREATED;
            answer
        }
        Created::Known => {
            let problem = format!("Conflict. The container name \"/{name}\" is already in use");
            failure(StatusCode::CONFLICT, &problem)
        }
    }
}

/// The path without the version before it, if it names one that is spoken here.
fn unversioned(path: &str) -> Result<&str, String> {
    let Some((named, rest)) = path
        .strip_prefix("/v")
        .and_then(|rest| rest.split_once('/'))
    else {
        return Ok(path);
    };
    let Some(asked) = numbers(named) else {
        return Ok(path);
    };
    if Some(asked) > numbers(API_VERSION) {
        return Err(format!(
            "client version {named} is too new. Maximum supported API version is {API_VERSION}"
        ));
    }
    if Some(asked) < numbers(API_VERSION_MIN) {
        return Err(format!(
            "client version {named} is too old. Minimum supported API version is {API_VERSION_MIN}, please upgrade your client to a newer version"
        ));
    }
    Ok(&path[path.len() - rest.len() - 1..])
}

fn numbers(version: &str) -> Option<(u32, u32)> {
    let (major, minor) = version.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn wants_tcp(headers: &HeaderMap) -> bool {
    let says = |name, word: &str| {
        let value = headers.get(name).map(HeaderValue::as_bytes);
        value.is_some_and(|value| value.eq_ignore_ascii_case(word.as_bytes()))
    };
    says(CONNECTION, "upgrade") && says(UPGRADE, "tcp")
}

fn hijacked() -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    let raw = HeaderValue::from_static("application/vnd.docker.raw-stream");
    headers.insert(CONTENT_TYPE, raw);
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("tcp"));
    let reason = ReasonPhrase::from_static(b"UPGRADED");
    answer.extensions_mut().insert(reason);
    answer
}

fn ping() -> Response<Full<Bytes>> {
    let mut answer = with_headers(Response::new(Full::from("OK")));
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(CONTENT_TYPE, text);
    answer
}

fn success(value: &Value) -> Response<Full<Bytes>> {
    with_headers(Response::new(Full::from(format!("{value}\n"))))
}

fn failure(status: StatusCode, message: &str) -> Response<Full<Bytes>> {
    let mut answer = success(&json!({ "message": message }));
    *answer.status_mut() = status;
    answer
}

fn with_headers(mut answer: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    let headers = answer.headers_mut();
    let server = HeaderValue::from_static("Docker/20.10.24 (linux)");
    headers.insert(SERVER, server);
    headers.insert("Api-Version", HeaderValue::from_static(API_VERSION));
    headers.insert("Ostype", HeaderValue::from_static("linux"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

fn version() -> Value {
    json!({
        "Platform": { "Name": "Docker Engine - Community" },
        "Version": ENGINE_VERSION,
        "ApiVersion": API_VERSION,
        "MinAPIVersion": API_VERSION_MIN,
        "Os": "linux",
        "Arch": "amd64",
        "KernelVersion": "6.1.0-18-amd64",
    })
}

fn info() -> Value {
    json!({
        "ID": "SIMU:LATE:DENG:INE0",
        "Name": "simulated",
        "ServerVersion": ENGINE_VERSION,
        "Containers": 1,
        "ContainersRunning": 1,
        "OSType": "linux",
        "Architecture": "x86_64",
        "NCPU": 2,
    })
}

fn containers() -> Value {
    json!([{
        "Id": "4c01db0b339c8c4bd1ba5c5fb3e3bf1c0ab1a9b2d3d4a5e6f708192a3b4c5d6e",
        "Names": ["/web"],
        "Image": "example/web:1",
        "State": "running",
        "Status": "Up 2 hours",
    }])
}
