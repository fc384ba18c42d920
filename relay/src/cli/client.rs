//! The relay's HTTP API as the operator's commands use it.
//!
//! Answers stay JSON values, so that `--json` shows a script all that the relay
//! said, whatever its version; [`api`](super::api) reads from them what people see.

mod lines;

use std::{error::Error as _, fmt, time::Duration};

use reqwest::{Method, StatusCode, Url, redirect};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;
use tunnel::{
    World,
    tls::{ALPN_HTTP, certificate_client},
};
use zeroize::Zeroizing;

use super::{
    discover::Access,
    failure::{Exit, Failure},
    human, output,
};

pub use lines::Lines;

/// From the first address to the finished TLS handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// From the request to the last byte of the answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest answer: 100,000 environments of 600 bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// For how long a command waits for a relay that does not listen: one that restarts does
/// again within it, though it waits for streams to finish (`drain.timeout`, 20 s unless it is
/// set), and a person who is told so still waits.
pub const OUTAGE_WAIT: Duration = Duration::from_secs(30);
/// Between two tries of it.
const TRY_AGAIN: Duration = Duration::from_millis(250);

/// A client of one relay.
pub struct Client {
    http: reqwest::Client,
    origin: Url,
    api_token: Zeroizing<String>,
    api_token_source: String,
    pid: Option<u32>,
    /// For how long a relay is waited for that does not listen.
    patience: Duration,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("origin", &self.shown())
            .finish_non_exhaustive()
    }
}

/// An error of the relay's, as `application/problem+json`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Problem {
    title: Option<String>,
    code: Option<String>,
    detail: Option<String>,
    errors: Vec<String>,
    request_id: Option<String>,
}

impl Client {
    /// A client for the relay at `access`. Connects to nothing yet.
    ///
    /// # Errors
    ///
    /// The TLS library cannot be set up.
    pub fn new(access: &Access) -> Result<Self, Failure> {
        tunnel::install_crypto_provider();
        let broken = |error: &dyn std::error::Error| {
            Failure::new(
                Exit::Internal,
                format!("cannot set up an HTTPS client: {error}"),
            )
        };
        let tls = certificate_client(ALPN_HTTP, &access.roots, &World::real().clock);
        // What the environment has to say about proxies is in `access` already.
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .user_agent(concat!("sternline-relay/", env!("CARGO_PKG_VERSION")))
            .https_only(true)
            .no_proxy()
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT);
        if let Some(address) = access.connect {
            builder = builder.resolve(&access.host, (address, access.port).into());
        }
        let proxy = access.proxy.as_ref();
        if let Some(proxy) = proxy.and_then(|proxy| proxy.towards(&access.host, access.port)) {
            let proxy = reqwest::Proxy::all(proxy.url_with_login().as_str());
            builder = builder.proxy(proxy.map_err(|error| broken(&error.without_url()))?);
        }
        let origin = Url::parse(&access.origin()).map_err(|error| broken(&error))?;
        Ok(Self {
            http: builder.build().map_err(|error| broken(&error))?,
            origin,
            api_token: access.api_token.clone(),
            api_token_source: access.api_token_source.clone(),
            pid: access.pid,
            patience: OUTAGE_WAIT,
        })
    }

    /// Asks for what `path` names below `/api/v1`.
    ///
    /// # Errors
    ///
    /// The relay cannot be reached, or answers with an error.
    pub async fn get(&self, path: &[&str], query: &[(&str, String)]) -> Result<Value, Failure> {
        self.request(Method::GET, self.url(path, query), None).await
    }

    /// Makes something below `path`.
    ///
    /// # Errors
    ///
    /// As [`Self::get`].
    pub async fn post(&self, path: &[&str], body: Value) -> Result<Value, Failure> {
        self.request(Method::POST, self.url(path, &[]), Some(body))
            .await
    }

    /// Removes what `path` names.
    ///
    /// # Errors
    ///
    /// As [`Self::get`].
    pub async fn delete(&self, path: &[&str]) -> Result<Value, Failure> {
        self.request(Method::DELETE, self.url(path, &[]), None)
            .await
    }

    fn url(&self, path: &[&str], query: &[(&str, String)]) -> Url {
        let mut url = self.origin.clone();
        url.path_segments_mut()
            .expect("an https URL has a path")
            .clear()
            .extend(["api", "v1"])
            .extend(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    async fn request(
        &self,
        method: Method,
        url: Url,
        body: Option<Value>,
    ) -> Result<Value, Failure> {
        let response = self.send(method, url, body).await?;
        let status = response.status();
        let bytes = self.read(response).await?;
        if status.is_success() {
            if bytes.is_empty() {
                return Ok(Value::Null);
            }
            return serde_json::from_slice(&bytes).map_err(|_| self.not_a_relay(status));
        }
        match serde_json::from_slice::<Problem>(&bytes) {
            Ok(problem) if problem.code.is_some() => Err(self.refused(status, problem)),
            Ok(_) | Err(_) => Err(self.not_a_relay(status)),
        }
    }

    /// Sends a request; where nobody listens, again for as long as a relay takes to restart.
    /// What was never connected was never sent, so that nothing is done twice.
    async fn send(
        &self,
        method: Method,
        url: Url,
        body: Option<Value>,
    ) -> Result<reqwest::Response, Failure> {
        let started = Instant::now();
        let mut is_told = false;
        loop {
            let mut request = self
                .http
                .request(method.clone(), url.clone())
                .bearer_auth(self.api_token.as_str());
            if let Some(body) = &body {
                request = request.json(body);
            }
            let error = match request.send().await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            if !is_refused(&error) || started.elapsed() >= self.patience {
                return Err(self.unreachable(&error));
            }
            if !is_told {
                is_told = true;
                let seconds = self.patience.as_secs();
                output::note(&format!(
                    "nobody listens at {}; a relay that restarts is back soon: tried for {seconds} s",
                    self.shown()
                ));
            }
            tokio::time::sleep(TRY_AGAIN).await;
        }
    }

    async fn read(&self, mut response: reqwest::Response) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|error| self.unreachable(&error))?
        {
            if bytes.len() + chunk.len() > ANSWER_BYTES_MAX {
                let message = format!("the answer of {} is longer than", self.shown());
                let most = human::bytes(ANSWER_BYTES_MAX as u64);
                return Err(Failure::new(Exit::Protocol, format!("{message} {most}")));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    /// The relay's URL without the slash that a URL's path begins with.
    fn shown(&self) -> &str {
        self.origin.as_str().trim_end_matches('/')
    }

    fn refused(&self, status: StatusCode, problem: Problem) -> Failure {
        let message = problem.detail.or(problem.title).map_or_else(
            || format!("the relay answered {status}"),
            |text| human::printable(&text),
        );
        let errors = problem.errors.iter();
        let details = errors.map(|text| human::printable(text)).collect();
        let printable = |text: Option<String>| text.map(|text| human::printable(&text));
        Failure::new(exit_of(status), message)
            .detailed(details)
            .answered(printable(problem.code), printable(problem.request_id))
            // What else there is to do, the relay says itself.
            .advise(match status {
                StatusCode::UNAUTHORIZED => {
                    format!("the API token came from {}", self.api_token_source)
                }
                _ => String::new(),
            })
    }

    fn not_a_relay(&self, status: StatusCode) -> Failure {
        let message = format!(
            "{} answered {status}, but not as a relay does",
            self.shown()
        );
        Failure::new(Exit::Protocol, message).advise(
            "check that the URL is the relay's HTTPS address, and that no proxy stands between",
        )
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let relay = self.shown();
        if let Some(tls) = find_source::<rustls::Error>(error) {
            let message = format!("the TLS certificate of {relay} was not accepted: {tls}");
            return Failure::new(Exit::Unavailable, message)
                .advise("give the CA that vouches for the relay with --ca FILE (or STERNLINE_CA)");
        }
        if error.is_timeout() {
            return Failure::new(Exit::Unavailable, format!("{relay} did not answer in time"))
                .advise("check the address, and that no firewall stands between");
        }
        let failure = Failure::new(
            Exit::Unavailable,
            format!("cannot reach {relay}: {}", root_cause(error)),
        );
        match self.pid {
            Some(pid) => failure.advise(format!(
                "the relay was started as process {pid}: is it still running?"
            )),
            None => failure.advise("check the address, and that the relay is running"),
        }
    }
}

const fn exit_of(status: StatusCode) -> Exit {
    match status.as_u16() {
        400 | 413 | 422 => Exit::Usage,
        401 | 403 => Exit::Refused,
        404 => Exit::NotFound,
        429 | 503 => Exit::Unavailable,
        500..=599 => Exit::Internal,
        _ => Exit::Declined,
    }
}

/// Whether nobody listens, or who does closed before TLS, as a relay that restarts or has no
/// time: nothing was asked of it.
fn is_refused(error: &reqwest::Error) -> bool {
    let passes = |io: &std::io::Error| {
        matches!(
            io.kind(),
            std::io::ErrorKind::ConnectionRefused
                | std::io::ErrorKind::ConnectionReset
                | std::io::ErrorKind::UnexpectedEof
        )
    };
    error.is_connect() && find_source(error).is_some_and(passes)
}

/// The first error of type `T` in the chain; `io::Error` hides what it wraps from `source`.
fn find_source<'a, T: std::error::Error + 'static>(
    error: &'a (dyn std::error::Error + 'static),
) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        let wrapped = error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref);
        next = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    None
}

/// What began it: the layers above only say that a request failed.
fn root_cause(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text = error.to_string();
        next = error.source();
    }
    human::printable(&text)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    fn client() -> Client {
        let access = Access {
            host: "::1".into(),
            port: 8443,
            connect: None,
            roots: std::sync::Arc::new(rustls::RootCertStore::empty()),
            proxy: None,
            proxy_roots: std::sync::Arc::new(rustls::RootCertStore::empty()),
            api_token: Zeroizing::new("sta_x".into()),
            api_token_source: "STERNLINE_API_TOKEN".into(),
            pid: None,
        };
        Client::new(&access).unwrap()
    }

    #[test]
    fn a_path_and_a_query_are_escaped() {
        let url = client().url(&["environments", "a/b"], &[("tag", "k=v&w".into())]);

        assert_eq!(
            url.as_str(),
            "https://[::1]:8443/api/v1/environments/a%2Fb?tag=k%3Dv%26w"
        );
    }

    #[test]
    fn a_refused_token_says_where_it_came_from() {
        let problem = Problem {
            detail: Some("no such token".into()),
            ..Problem::default()
        };

        let failure = client().refused(StatusCode::UNAUTHORIZED, problem);

        assert_eq!(failure.exit(), Exit::Refused);
        assert!(
            failure.to_string().contains("STERNLINE_API_TOKEN"),
            "{failure}"
        );
    }

    #[test]
    fn statuses_have_their_exit_codes() {
        let cases = [
            (400, Exit::Usage),
            (401, Exit::Refused),
            (403, Exit::Refused),
            (404, Exit::NotFound),
            (409, Exit::Declined),
            (429, Exit::Unavailable),
            (500, Exit::Internal),
            (503, Exit::Unavailable),
        ];

        for (status, want) in cases {
            assert_eq!(
                exit_of(StatusCode::from_u16(status).unwrap()),
                want,
                "{status}"
            );
        }
    }

    #[test]
    fn an_error_inside_an_io_error_is_found() {
        let tls = rustls::Error::HandshakeNotComplete;
        let io = std::io::Error::new(std::io::ErrorKind::InvalidData, tls.clone());

        assert_eq!(find_source::<rustls::Error>(&io), Some(&tls));
    }

    #[tokio::test]
    async fn a_relay_that_does_not_listen_yet_is_waited_for() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let mut client = client();
        client.origin = Url::parse(&format!("https://{address}")).unwrap();

        let restart = async {
            tokio::time::sleep(2 * TRY_AGAIN).await;
            let listener = tokio::net::TcpListener::bind(address).await.unwrap();
            let (mut guest, _) = listener.accept().await.unwrap();
            guest.write_all(b"this is no TLS\n").await.unwrap();
        };
        let (failed, ()) = tokio::join!(client.get(&["relay"], &[]), restart);

        let failure = failed.unwrap_err().to_string();
        assert!(failure.contains("TLS"), "it was reached: {failure}");
    }

    #[tokio::test]
    async fn a_relay_that_does_not_run_is_unavailable() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let mut client = client();
        client.origin = Url::parse(&format!("https://{address}")).unwrap();
        client.pid = Some(7);
        client.patience = Duration::ZERO;

        let failure = client.get(&["relay"], &[]).await.unwrap_err();

        assert_eq!(failure.exit(), Exit::Unavailable);
        assert!(failure.to_string().contains("process 7"), "{failure}");
    }
}
