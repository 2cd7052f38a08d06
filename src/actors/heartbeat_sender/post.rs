//! One heartbeat on the wire, and what its answer means.

use super::SenderConfig;
use crate::{
    contract::ErrorBody,
    limits::{Limit, QUEEN_ANSWER_MAX, QUEEN_RETRY_AFTER_MAX},
    platform::secret::Secret,
};
use awc::{
    Client, Connector,
    error::PayloadError,
    http::{
        StatusCode,
        header::{self, HeaderValue},
    },
};
use serde_json::Value;
use std::time::Duration;

/// How long a queen is left alone that asks for more than [`QUEEN_RETRY_AFTER_MAX`].
const UNBELIEVABLE_WAIT: Duration = Duration::from_secs(10);

/// What became of a heartbeat.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// 200
    Stored,
    /// The queen is there, and does not want it: the status, and why.
    Refused(StatusCode, String),
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
        (StatusCode::OK, _) if is_ack(text) => Answer::Stored,
        (StatusCode::OK, _) => Answer::Missing("what answers there is no queen".to_owned()),
        (StatusCode::SERVICE_UNAVAILABLE, Some(wait)) => {
            if wait > QUEEN_RETRY_AFTER_MAX {
                Limit::QueenRetryAfter.reached();
                return Answer::Overloaded(UNBELIEVABLE_WAIT);
            }
            Answer::Overloaded(wait)
        }
        (StatusCode::CONFLICT, _) => Answer::Superseded(shown()),
        (status, _) if status.is_client_error() && !is_of_no_queen(status) => {
            Answer::Refused(status, format!("{status}: {}", shown()))
        }
        (status, _) => Answer::Missing(format!("the queen answered {status}")),
    }
}

/// Whether a queen said that it has the heartbeat, and said so to the end: a portal that has a page for
/// everything, and an answer that breaks off, acknowledge nothing. The message is for people.
fn is_ack(text: &[u8]) -> bool {
    serde_json::from_slice::<Value>(text).is_ok_and(|ack| ack["status"] == "ok")
}

/// Who does not know the path is something else.
fn is_of_no_queen(status: StatusCode) -> bool {
    matches!(status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED)
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
        let status = |code| StatusCode::from_u16(code).unwrap_or(StatusCode::IM_A_TEAPOT);
        let judged = |code: u16, wait: Option<u64>| {
            judge(status(code), wait.map(Duration::from_secs), b"why")
        };
        assert_eq!(judged(503, Some(2)), Answer::Overloaded(Duration::from_secs(2)));
        assert_eq!(judged(503, Some(9_999)), Answer::Overloaded(UNBELIEVABLE_WAIT));
        assert_eq!(judged(409, None), Answer::Superseded("why".into()));
        for code in [400, 401, 413] {
            assert!(matches!(judged(code, None), Answer::Refused(of, _) if of == code), "{code}");
        }
        for code in [200, 204, 301, 404, 405, 500, 502, 503] {
            assert!(matches!(judged(code, None), Answer::Missing(_)), "{code}");
        }
    }

    #[test]
    fn a_wait_is_obeyed_up_to_its_most_and_not_believed_beyond() {
        let judged =
            |wait| judge(StatusCode::SERVICE_UNAVAILABLE, Some(Duration::from_secs(wait)), b"");
        assert_eq!(judged(60), Answer::Overloaded(QUEEN_RETRY_AFTER_MAX));
        let counting = Counting::of(Limit::QueenRetryAfter);
        assert_eq!(judged(61), Answer::Overloaded(UNBELIEVABLE_WAIT));
        counting.counted();
    }

    const ACK: &str = r#"{"status":"ok","message":"stored"}"#;

    /// Answers the first request with an acknowledgement of so many bytes.
    async fn queen_that_says(bytes: usize) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        actix::spawn(async move {
            use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {bytes}\r\n\r\n");
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream
                .write_all((ACK.to_owned() + &" ".repeat(bytes - ACK.len())).as_bytes())
                .await;
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
    fn only_a_whole_ok_of_a_queen_acknowledges() {
        let judged = |text: &str| judge(StatusCode::OK, None, text.as_bytes());
        assert_eq!(judged(ACK), Answer::Stored);
        for text in ["", "<html>", "[]", r#"{"status":"no","message":""}"#, &ACK[..ACK.len() - 1]] {
            assert!(matches!(judged(text), Answer::Missing(_)), "{text}");
        }
    }

    #[test]
    fn fuzz_queen_answer() {
        crate::fuzz::fuzz("queen-answer", |bytes| {
            let _ = judge(StatusCode::OK, None, bytes);
            let _ = judge(StatusCode::BAD_REQUEST, None, bytes);
            assert!(message_of(bytes).len() <= bytes.len().max(512 * 3));
        });
    }
}
