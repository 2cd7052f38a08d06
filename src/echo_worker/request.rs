//! What clients ask for: the parts of OpenAI's requests that an echo needs. The rest is ignored.

use super::Engine;
use crate::http::error::HttpError;
use actix_web::{error::PayloadError, http::StatusCode, web::Bytes};
use serde::{Deserialize, de::DeserializeOwned};

/// `POST /v1/chat/completions`
#[derive(Debug, Deserialize)]
pub(super) struct ChatRequest {
    model: Option<String>,
    messages: Vec<Message>,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
}

/// `POST /v1/completions`
#[derive(Debug, Deserialize)]
pub(super) struct TextRequest {
    model: Option<String>,
    prompt: OneOrMany,
    max_tokens: Option<u64>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
}

/// `POST /v1/embeddings`
#[derive(Debug, Deserialize)]
pub(super) struct EmbeddingRequest {
    model: Option<String>,
    input: OneOrMany,
}

#[derive(Debug, Deserialize)]
struct Message {
    role: String,
    content: Option<Content>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a string or a list of parts with a `type`")]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Debug, Deserialize)]
struct Part {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
}

#[derive(Debug, Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a string or a list of strings")]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// What is to be answered, whichever way it was asked.
#[derive(Debug)]
pub(super) struct Prompt {
    /// The text that comes back.
    pub(super) echo: String,
    /// Words in all that was sent.
    pub(super) prompt_tokens: u64,
    /// The most words to answer with; `None`: all.
    pub(super) max_tokens: Option<u64>,
    /// Word by word.
    pub(super) stream: bool,
    /// End a stream with the usage.
    pub(super) include_usage: bool,
}

/// Reads a body, and names the field that is wrong.
pub(super) fn parse<T: DeserializeOwned>(
    body: Result<Bytes, actix_web::Error>,
) -> Result<T, HttpError> {
    let body = body.map_err(|error| unread(&error))?;
    let mut json = serde_json::Deserializer::from_slice(&body);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let message = match path.as_str() {
            "." => error.inner().to_string(),
            path => format!("{path}: {}", error.inner()),
        };
        HttpError::bad_request("invalid_request", message)
    })?;
    json.end().map_err(|error| HttpError::bad_request("invalid_request", error.to_string()))?;
    Ok(value)
}

fn unread(error: &actix_web::Error) -> HttpError {
    match error.as_error::<PayloadError>() {
        Some(PayloadError::Overflow) => HttpError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body_too_large",
            format!("the body must not exceed {} bytes", super::BODY_LIMIT),
        ),
        _ => HttpError::bad_request("invalid_body", format!("the body cannot be read: {error}")),
    }
}

/// Refuses a model that is not the engine's. Naming none is naming the one there is.
fn check_model(asked: Option<&str>, engine: &Engine) -> Result<(), HttpError> {
    match asked {
        Some(asked) if asked != engine.model => Err(HttpError::new(
            StatusCode::NOT_FOUND,
            "model_not_found",
            format!("model: there is no {asked:?} here, only {:?}", engine.model),
        )),
        _ => Ok(()),
    }
}

impl ChatRequest {
    /// The last message of the user; without any, the last message.
    pub(super) fn into_prompt(mut self, engine: &Engine) -> Result<Prompt, HttpError> {
        check_model(self.model.as_deref(), engine)?;
        let of_user = self.messages.iter().rposition(|message| message.role == "user");
        let Some(index) = of_user.or(self.messages.len().checked_sub(1)) else {
            return Err(HttpError::bad_request("invalid_request", "messages: must not be empty"));
        };
        let texts: Vec<_> = self.messages.drain(..).map(Message::into_text).collect();
        let prompt_tokens = texts.iter().map(|text| super::words::count(text)).sum();
        Ok(Prompt {
            echo: texts.into_iter().nth(index).unwrap_or_default(),
            prompt_tokens,
            max_tokens: self.max_completion_tokens.or(self.max_tokens),
            stream: self.stream.unwrap_or(false),
            include_usage: wants_usage(self.stream_options),
        })
    }
}

impl TextRequest {
    /// The prompt; of several, only one can be answered.
    pub(super) fn into_prompt(self, engine: &Engine) -> Result<Prompt, HttpError> {
        check_model(self.model.as_deref(), engine)?;
        let mut prompts = self.prompt.into_vec();
        let (Some(echo), true) = (prompts.pop(), prompts.is_empty()) else {
            return Err(HttpError::bad_request(
                "invalid_request",
                "prompt: must be a string or a list of exactly one",
            ));
        };
        Ok(Prompt {
            prompt_tokens: super::words::count(&echo),
            echo,
            max_tokens: self.max_tokens,
            stream: self.stream.unwrap_or(false),
            include_usage: wants_usage(self.stream_options),
        })
    }
}

impl EmbeddingRequest {
    /// The texts to embed.
    pub(super) fn into_texts(self, engine: &Engine) -> Result<Vec<String>, HttpError> {
        check_model(self.model.as_deref(), engine)?;
        let texts = self.input.into_vec();
        if texts.is_empty() {
            return Err(HttpError::bad_request("invalid_request", "input: must not be empty"));
        }
        Ok(texts)
    }
}

impl Message {
    fn into_text(self) -> String {
        match self.content {
            None => String::new(),
            Some(Content::Text(text)) => text,
            Some(Content::Parts(parts)) => {
                let texts = parts.into_iter().filter(|part| part.kind == "text");
                texts.filter_map(|part| part.text).collect()
            }
        }
    }
}

impl OneOrMany {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Many(texts) => texts,
        }
    }
}

fn wants_usage(options: Option<StreamOptions>) -> bool {
    options.and_then(|options| options.include_usage).unwrap_or(false)
}
