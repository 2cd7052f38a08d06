//! One heartbeat on the wire, and what its answer means.

use super::SenderConfig;
use crate::limits::{Limit, QUEEN_ANSWER_MAX, QUEEN_RETRY_AFTER_MAX};
use crate::{contract::ErrorBody, platform::secret::Secret};
use awc::{
    Client, Connector,
    error::PayloadError,
    http::{
        StatusCode,
        header::{self, HeaderValue},
    },
};
use std::time::Duration;

/// What became of a heartbeat.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// 200
    Stored,
    /// The queen is there, and does not want it.
    Refused(String),
    /// Another hive with this id has taken over.
    Superseded(String),
    /// 503 with how long to wait.
    Overloaded(Duration),
    /// Nobody took it in time.
    Missing(String),
}

/// A client of queens. Where one leads elsewhere is not followed, and its token goes nowhere else.
pub fn client(config: &SenderConfig) -> Client {
    let client = Client::builder().timeout(config.timeout).disable_redirects().no_default_headers();
    match &config.authorities {
        None => client.finish(),
        Some(trusted) => {
            client.connector(Connector::new().rustls_0_23(trusted.client_config())).finish()
        }
    }
}

/// `Bearer TOKEN`, marked so that nobody prints it.
fn bearer(token: &Secret) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose())).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Posts `body` and reads the answer to its end, so that the connection can be used again.
pub async fn post(
    client: Client,
    url: String,
    token: Option<Secret>,
    body: Vec<u8>,
    timeout: Duration,
) -> Answer {
    let exchange = async {
        let mut request = client.post(url).content_type("application/json");
        if let Some(token) = token.as_ref().and_then(bearer) {
            request = request.insert_header((header::AUTHORIZATION, token));
        }
        let mut response = request.send_body(body).await.map_err(|error| error.to_string())?;
        let text = response.body().limit(QUEEN_ANSWER_MAX).await.map_err(|error| {
            if matches!(error, PayloadError::Overflow) {
                Limit::QueenAnswer.reached();
            }
            error.to_string()
        })?;
        let wait = response
            .headers()
            .get(header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.trim().parse().ok().map(Duration::from_secs));
        Ok::<_, String>(judge(response.status(), wait, &text))
    };
    match tokio::time::timeout(timeout, exchange).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => Answer::Missing(error),
        Err(_) => Answer::Missing(format!("no answer within {} ms", timeout.as_millis())),
    }
}

fn judge(status: StatusCode, retry_after: Option<Duration>, text: &[u8]) -> Answer {
    let shown = || message_of(text);
    match (status, retry_after) {
        (StatusCode::OK, _) => Answer::Stored,
        (StatusCode::SERVICE_UNAVAILABLE, Some(wait)) => {
            if wait > QUEEN_RETRY_AFTER_MAX {
                Limit::QueenRetryAfter.reached();
            }
            Answer::Overloaded(wait.min(QUEEN_RETRY_AFTER_MAX))
        }
        (StatusCode::CONFLICT, _) => Answer::Superseded(shown()),
        (status, _) if status.is_client_error() => {
            Answer::Refused(format!("{status}: {}", shown()))
        }
        (status, _) => Answer::Missing(format!("the queen answered {status}")),
    }
}

/// The message of an error's body, else its beginning.
fn message_of(text: &[u8]) -> String {
    let body: Result<ErrorBody, _> = serde_json::from_slice(text);
    let beginning = || String::from_utf8_lossy(&text[..text.len().min(512)]).into_owned();
    body.map_or_else(|_| beginning(), |body| body.error.message)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what it expects")]
mod tests {
    use super::*;
    use crate::limits::tests::Counting;

    #[test]
    fn each_answer_has_its_meaning() {
        let judged = |code: u16, wait: Option<u64>| {
            let status = StatusCode::from_u16(code).unwrap_or(StatusCode::IM_A_TEAPOT);
            judge(status, wait.map(Duration::from_secs), b"why")
        };
        assert_eq!(judged(200, None), Answer::Stored);
        assert_eq!(judged(503, Some(2)), Answer::Overloaded(Duration::from_secs(2)));
        assert_eq!(judged(503, Some(9_999)), Answer::Overloaded(QUEEN_RETRY_AFTER_MAX));
        assert_eq!(judged(409, None), Answer::Superseded("why".into()));
        for code in [400, 401, 413] {
            assert!(matches!(judged(code, None), Answer::Refused(_)), "{code}");
        }
        for code in [204, 301, 500, 502, 503] {
            assert!(matches!(judged(code, None), Answer::Missing(_)), "{code}");
        }
    }

    #[test]
    fn a_wait_is_obeyed_up_to_its_most() {
        let judged =
            |wait| judge(StatusCode::SERVICE_UNAVAILABLE, Some(Duration::from_secs(wait)), b"");
        assert_eq!(judged(60), Answer::Overloaded(QUEEN_RETRY_AFTER_MAX));
        let counting = Counting::of(Limit::QueenRetryAfter);
        assert_eq!(judged(61), Answer::Overloaded(QUEEN_RETRY_AFTER_MAX));
        counting.counted();
    }

    /// Answers the first request with so many bytes.
    async fn queen_that_says(bytes: usize) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        actix::spawn(async move {
            use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {bytes}\r\n\r\n");
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream.write_all(&vec![b' '; bytes]).await;
            let _ = stream.read(&mut [0; 1]).await;
        });
        url
    }

    #[actix::test]
    async fn an_answer_is_read_up_to_its_most() {
        let within = Duration::from_secs(30);
        let told = |bytes| async move {
            let url = queen_that_says(bytes).await;
            post(Client::default(), url, None, Vec::new(), within).await
        };
        assert_eq!(told(QUEEN_ANSWER_MAX).await, Answer::Stored);
        let counting = Counting::of(Limit::QueenAnswer);
        assert!(matches!(told(QUEEN_ANSWER_MAX + 1).await, Answer::Missing(_)));
        counting.counted();
    }

    #[test]
    fn fuzz_queen_answer() {
        crate::fuzz::fuzz("queen-answer", |bytes| {
            let _ = judge(StatusCode::BAD_REQUEST, None, bytes);
            assert!(message_of(bytes).len() <= bytes.len().max(512 * 3));
        });
    }
}
