//! A JSON client for one base URL.

use super::secs;
use awc::{
    Client, Connector,
    http::{Method, StatusCode},
};
use serde_json::{Value, json};
use std::sync::Arc;

/// Bodies above this are no answer that a test asked for, bytes.
const BODY_LIMIT: usize = 64 * 1024 * 1024;

/// One role's HTTP interface.
#[derive(Clone)]
pub(crate) struct Api {
    base: String,
    client: Client,
    token: Option<String>,
}

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) text: String,
    /// The body, or null if it is not JSON.
    pub(crate) json: Value,
}

impl Api {
    /// `base` without a slash at its end.
    pub(crate) fn new(base: String) -> Self {
        Self { base, client: Client::builder().timeout(secs(20)).finish(), token: None }
    }

    /// The same, showing this token.
    pub(crate) fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    /// The same under TLS, trusting as `config` does.
    pub(crate) fn secure(&self, config: Arc<rustls::ClientConfig>) -> Self {
        let connector = Connector::new().rustls_0_23(config);
        let client = Client::builder().timeout(secs(20)).connector(connector).finish();
        Self { base: self.base.replacen("http://", "https://", 1), client, ..self.clone() }
    }

    /// Where it is.
    pub(crate) fn url(&self) -> &str {
        &self.base
    }

    /// Its address as a configuration's `bind` has it.
    pub(crate) fn address(&self) -> &str {
        self.base.trim_start_matches("http://").trim_start_matches("https://")
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(Method::POST, path, Some(body)).await
    }

    pub(crate) async fn put(&self, path: &str) -> Answer {
        self.send(Method::PUT, path, None).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, None).await
    }

    /// Posts a body that need not be JSON.
    pub(crate) async fn post_text(&self, path: &str, body: &str) -> Answer {
        let answer = self.try_text(Method::POST, path, Some(body.to_owned())).await;
        answer.unwrap_or_else(|error| panic!("POST {}{path}: {error}", self.base))
    }

    async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let sent = self.try_text(method.clone(), path, body.map(|body| body.to_string())).await;
        sent.unwrap_or_else(|error| panic!("{method} {}{path}: {error}", self.base))
    }

    /// GET where the other side may be away.
    pub(crate) async fn try_get(&self, path: &str) -> Result<Answer, String> {
        self.try_text(Method::GET, path, None).await
    }

    /// POST where the other side may be away.
    pub(crate) async fn try_post(&self, path: &str, body: Value) -> Result<Answer, String> {
        self.try_text(Method::POST, path, Some(body.to_string())).await
    }

    async fn try_text(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> Result<Answer, String> {
        // A connection for each request: none that the other side has closed meanwhile.
        let request = self.client.request(method, format!("{}{path}", self.base)).force_close();
        let request = match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        let sent = match body {
            Some(body) => request.content_type("application/json").send_body(body).await,
            None => request.send().await,
        };
        let mut response = sent.map_err(|error| error.to_string())?;
        let status = response.status();
        let body = response.body().limit(BODY_LIMIT).await.map_err(|error| error.to_string())?;
        Ok(Answer::new(status, String::from_utf8_lossy(&body).into_owned()))
    }

    /// How often that limit was reached, as `/metrics` tells.
    pub(crate) async fn reached(&self, limit: &str) -> u64 {
        let page = self.get("/metrics").await.text;
        let series = format!("rbee_limit_reached_total{{limit=\"{limit}\"}} ");
        let line = page.lines().find_map(|line| line.strip_prefix(&series));
        line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {series}: {page}"))
    }

    /// A worker as this role shows it: `group/instance` at a hive, `hive/group/instance` at a queen.
    pub(crate) async fn worker(&self, name: &str) -> Value {
        self.get(&format!("/v1/workers/{name}")).await.expect(200)
    }

    /// The worker once `wanted` holds for it, whatever becomes of it before.
    pub(crate) async fn worker_when(
        &self,
        name: &str,
        deadline: std::time::Duration,
        mut wanted: impl FnMut(&Value) -> bool,
    ) -> Value {
        super::eventually(deadline, async || {
            let answer = self.get(&format!("/v1/workers/{name}")).await;
            if answer.status == 200 && wanted(&answer.json) { Ok(answer.json) } else { Err(answer) }
        })
        .await
    }

    /// The worker once it is in `state`.
    pub(crate) async fn worker_in_state(&self, name: &str, state: &str) -> Value {
        self.worker_when(name, secs(10), |worker| worker["state"] == state).await
    }

    /// Starts a worker and returns it as the answer shows it.
    pub(crate) async fn spawn(&self, spec: Value) -> Value {
        self.post("/v1/workers", spec).await.expect(201)
    }
}

impl Answer {
    fn new(status: StatusCode, text: String) -> Self {
        let json = serde_json::from_str(&text).unwrap_or_default();
        Self { status: status.as_u16(), text, json }
    }

    /// The body, provided that the status is this one.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.json
    }
}

/// Asserts an error answer in the form of OpenAI's, whose message names `naming`.
#[track_caller]
pub(crate) fn assert_is_error(answer: &Answer, status: u16, naming: &str) {
    assert_eq!(answer.status, status, "{}", answer.text);
    let error = &answer.json["error"];
    let texts = ["message", "type", "code"].map(|key| error[key].as_str().unwrap_or_default());
    assert!(texts.iter().all(|text| !text.is_empty()), "not an error body: {}", answer.text);
    assert!(texts[0].contains(naming), "{:?} does not name {naming:?}", texts[0]);
    assert_eq!(answer.json, json!({"error": error}), "an error and nothing else");
}
