//! HTTP to a queen or a hive, with a deadline on everything, and what its errors mean to a person.

use super::{Failure, token, trust};
use crate::{
    contract::{ErrorBody, Health},
    limits::CLIENT_ANSWER_MAX,
    platform::tls::Authorities,
};
use awc::{
    Client, ClientRequest, ClientResponse, Connector,
    error::{ConnectError, SendRequestError},
    http::{Method, StatusCode, Uri, header},
};
use std::{path::PathBuf, time::Duration};

/// How long a connection may take to come about.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Whom to ask, and as whom.
#[derive(Clone, Debug, clap::Args)]
pub struct Connection {
    /// The queen to ask; a hive's own address does too, for its own workers
    #[arg(long, env = "RBEE_URL", value_name = "URL", default_value = "http://127.0.0.1:7833")]
    pub url: String,

    /// File with the token to show, of mode 0600; without it RBEE_TOKEN
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    /// File with the authorities to trust at an https URL, in PEM; else those that this system trusts
    #[arg(long, env = "RBEE_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,

    /// How long an answer may take
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub timeout: u64,
}

/// What answers at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It knows every hive's workers.
    Queen,
    /// It knows its own.
    Hive,
}

/// A client for one address.
#[derive(Clone)]
pub struct Api {
    base: String,
    token: Option<String>,
    ca_file: Option<PathBuf>,
    client: Client,
    /// How long an answer may take.
    pub timeout: Duration,
}

impl Api {
    /// Reads the token and whom to trust; connects to nothing yet.
    pub fn new(connection: &Connection) -> Result<Self, Failure> {
        Self::trusting(connection, None)
    }

    /// Likewise; where no file says whom to trust, these.
    pub fn trusting(connection: &Connection, known: Option<&Authorities>) -> Result<Self, Failure> {
        let base = base_of(&connection.url)?;
        let token = token::find(connection.token_file.as_deref())?;
        let ca_file = connection.ca_file.clone().filter(|path| !path.as_os_str().is_empty());
        let connector = Connector::new().timeout(CONNECT_WITHIN).handshake_timeout(CONNECT_WITHIN);
        let connector = match trust::authorities(&base, ca_file.as_deref(), known)? {
            Some(trusted) => connector.rustls_0_23(trusted.client_config()),
            None => connector,
        };
        let client = Client::builder().connector(connector).disable_timeout().finish();
        let timeout = Duration::from_secs(connection.timeout);
        Ok(Self { base, token, ca_file, client, timeout })
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.base
    }

    /// The body of `GET /health`, and the role that it tells.
    pub async fn health(&self) -> Result<(Role, Health, String), Failure> {
        let text = self.get("/health").await?;
        let health: Health = self.parse(&text)?;
        let role = match health.role.as_str() {
            "queen" => Role::Queen,
            "hive" => Role::Hive,
            other => {
                let message = format!("{} is a {other:?}, no queen and no hive", self.base);
                return Err(Failure::Refused(message));
            }
        };
        Ok((role, health, text))
    }

    /// The role alone.
    pub async fn role(&self) -> Result<Role, Failure> {
        self.health().await.map(|(role, ..)| role)
    }

    /// The body of a 2xx.
    pub async fn get(&self, path: &str) -> Result<String, Failure> {
        self.call(Method::GET, path, None, self.timeout).await
    }

    /// The body of a 2xx, which may take as long as this.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
        timeout: Duration,
    ) -> Result<String, Failure> {
        let exchange = async {
            let request = self.request(method, path);
            let sent = match body {
                Some(body) => request.content_type("application/json").send_body(body).await,
                None => request.send().await,
            };
            self.text_of(sent).await
        };
        let late = || Failure::Unreachable(late(&self.base, timeout));
        tokio::time::timeout(timeout, exchange).await.map_err(|_| late())?
    }

    /// A 2xx whose body goes on; only its beginning has a deadline.
    pub async fn open(
        &self,
        path: &str,
        accept: &'static str,
    ) -> Result<
        ClientResponse<
            impl futures_util::Stream<Item = Result<bytes::Bytes, awc::error::PayloadError>> + use<>,
        >,
        Failure,
    > {
        let request = self.request(Method::GET, path).insert_header((header::ACCEPT, accept));
        let sent = tokio::time::timeout(self.timeout, request.send()).await;
        let answer = sent.map_err(|_| Failure::Unreachable(late(&self.base, self.timeout)))?;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return Err(self.unreachable(&error).await),
        };
        if answer.status().is_success() {
            return Ok(answer);
        }
        let refused = self.text_of(Ok(answer));
        match tokio::time::timeout(self.timeout, refused).await {
            Ok(Err(failure)) => Err(failure),
            _ => Err(Failure::Unreachable(late(&self.base, self.timeout))),
        }
    }

    /// The value in an answer.
    pub fn parse<T: serde::de::DeserializeOwned>(&self, text: &str) -> Result<T, Failure> {
        serde_json::from_str(text).map_err(|error| {
            Failure::Refused(format!("{} does not answer as rbee does: {error}", self.base))
        })
    }

    fn request(&self, method: Method, path: &str) -> ClientRequest {
        let request = self.client.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    async fn text_of<S>(
        &self,
        sent: Result<ClientResponse<S>, SendRequestError>,
    ) -> Result<String, Failure>
    where
        S: futures_util::Stream<Item = Result<bytes::Bytes, awc::error::PayloadError>>,
    {
        let mut answer = match sent {
            Ok(answer) => answer,
            Err(error) => return Err(self.unreachable(&error).await),
        };
        let body = answer.body().limit(CLIENT_ANSWER_MAX).await.map_err(|error| {
            Failure::Unreachable(format!("{} broke off its answer: {error}", self.base))
        })?;
        let text = String::from_utf8_lossy(&body).into_owned();
        let status = answer.status();
        if status.is_success() {
            Ok(text)
        } else {
            Err(refusal(status, &text, self.token.is_some()))
        }
    }

    /// Why nothing came back, and what to do.
    async fn unreachable(&self, error: &SendRequestError) -> Failure {
        let (base, https) = (&self.base, self.base.starts_with("https://"));
        let told = match error {
            SendRequestError::Connect(ConnectError::Io(error)) if https => {
                trust::refusal(base, self.ca_file.as_ref(), error)
            }
            SendRequestError::Connect(_) => None,
            _ if !https && trust::is_spoken_at(base, CONNECT_WITHIN).await => {
                let secure = base.replacen("http://", "https://", 1);
                Some(format!("what listens at {base} speaks TLS: try --url {secure}"))
            }
            _ => None,
        };
        told.map_or_else(|| unreachable(base, error), Failure::Unreachable)
    }
}

/// Without a slash at its end; a bare `host:port` is http.
fn base_of(url: &str) -> Result<String, Failure> {
    let url = url.trim();
    let full = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    let full = full.trim_end_matches('/').to_owned();
    let uri: Option<Uri> = full.parse().ok();
    if full.contains('@') {
        // Not shown: what stands before it may be a password.
        let what = "--url must hold no user and no password: give a token with --token-file FILE or in RBEE_TOKEN";
        return Err(Failure::Usage(what.into()));
    }
    let usage = |what: &str| Failure::Usage(format!("--url {url:?} {what}"));
    if full.contains(['?', '#']) {
        return Err(usage("must have no query and no fragment: what follows ? or # is not used"));
    }
    match uri.as_ref().and_then(|uri| uri.scheme_str().zip(uri.host())) {
        Some(("http" | "https", host)) if !host.is_empty() => Ok(full),
        _ => Err(usage("must be like http://127.0.0.1:7833")),
    }
}

fn late(base: &str, timeout: Duration) -> String {
    let s = timeout.as_secs();
    format!(
        "no answer from {base} within {s} s: it may still come about; --timeout gives it longer"
    )
}

fn unreachable(base: &str, error: &SendRequestError) -> Failure {
    let why = match error {
        SendRequestError::Connect(ConnectError::Io(error)) => match error.kind() {
            std::io::ErrorKind::ConnectionRefused => "connection refused".into(),
            _ => error.to_string(),
        },
        SendRequestError::Connect(ConnectError::Timeout) => {
            format!("no connection within {} s", CONNECT_WITHIN.as_secs())
        }
        SendRequestError::Connect(ConnectError::Resolver(error)) => error.to_string(),
        other => other.to_string(),
    };
    let message = format!(
        "queen not reachable at {base}, is it running? ({why}; --url or RBEE_URL names another)"
    );
    Failure::Unreachable(message)
}

/// An error's own words, and what the caller can do.
fn refusal(status: StatusCode, text: &str, had_token: bool) -> Failure {
    let said = message_of(text);
    match status {
        StatusCode::UNAUTHORIZED if had_token => {
            Failure::Denied(format!("this token is not taken: {said}"))
        }
        StatusCode::UNAUTHORIZED => Failure::Denied(format!(
            "a token is needed: give one with --token-file FILE, or in RBEE_TOKEN ({said})"
        )),
        StatusCode::FORBIDDEN => Failure::Denied(said),
        StatusCode::NOT_FOUND => Failure::NotFound(said),
        status => Failure::Refused(format!("{said} ({})", status.as_u16())),
    }
}

/// The message of an error's body, else its beginning, on one line.
fn message_of(text: &str) -> String {
    const SHOWN: usize = 512;
    let body: Result<ErrorBody, _> = serde_json::from_str(text);
    let said = body.map_or_else(|_| text.to_owned(), |body| body.error.message);
    let said: String =
        said.chars().take(SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if said.trim().is_empty() { "it does not say why".into() } else { said }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects")]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_address_may_be_short() {
        for (given, base) in [
            ("http://127.0.0.1:7833/", "http://127.0.0.1:7833"),
            ("127.0.0.1:7833", "http://127.0.0.1:7833"),
            ("http://h/prefix/", "http://h/prefix"),
            ("https://h", "https://h"),
        ] {
            assert_eq!(base_of(given).unwrap(), base);
        }
        for bad in ["", "http://", "https://", "ftp://h", "a b"] {
            assert!(matches!(base_of(bad), Err(Failure::Usage(_))), "{bad:?}");
        }
    }

    #[test]
    fn an_address_has_no_password_and_no_query() {
        for url in ["http://me:secret@h:1", "me:secret@h", "http://me:se/cret@h"] {
            let said = base_of(url).unwrap_err().to_string();
            assert!(said.contains("--token-file") && !said.contains("cret"), "{said}");
        }
        for url in ["http://127.0.0.1:1?x=1", "http://h/#a"] {
            let said = base_of(url).unwrap_err().to_string();
            assert!(said.contains("no query"), "{said}");
        }
    }

    #[test]
    fn an_error_says_what_to_do() {
        let said = r#"{"error":{"message":"no such","type":"x","code":"y"}}"#;
        let judged = |code: u16, token| refusal(StatusCode::from_u16(code).unwrap(), said, token);
        assert!(judged(401, false).to_string().contains("--token-file"));
        assert!(judged(401, true).to_string().contains("not taken"));
        assert_eq!(judged(403, true).status(), 77);
        assert_eq!(judged(404, false), Failure::NotFound("no such".into()));
        assert_eq!(judged(503, false), Failure::Refused("no such (503)".into()));
    }

    proptest! {
        #[test]
        fn any_body_of_an_error_is_one_short_line(text in "(?s).{0,2000}") {
            let said = message_of(&text);
            prop_assert!(said.chars().count() <= 512 && !said.chars().any(char::is_control));
            prop_assert!(!said.is_empty());
        }
    }
}
