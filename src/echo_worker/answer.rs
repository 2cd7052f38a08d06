//! The JSON that OpenAI's clients expect, for a chat and for a plain completion.

use serde_json::{Value, json};

/// Says in every answer that no model made it.
const FINGERPRINT: &str = "rbee-echo-worker";

/// Which of the two ways of asking an answer belongs to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Style {
    /// `/v1/chat/completions`
    Chat,
    /// `/v1/completions`
    Text,
}

/// What all chunks of one answer share.
#[derive(Debug)]
pub(super) struct Shape {
    style: Style,
    id: String,
    created: u64,
    model: String,
}

/// Counts for the `usage` of an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usage {
    /// Words sent.
    pub(super) prompt: u64,
    /// Words answered.
    pub(super) completion: u64,
}

impl Usage {
    fn json(self) -> Value {
        json!({
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
        })
    }
}

impl Shape {
    /// A new answer with an id of its own.
    pub(super) fn new(style: Style, model: &str) -> Self {
        let prefix = match style {
            Style::Chat => "chatcmpl",
            Style::Text => "cmpl",
        };
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self {
            style,
            id: format!("{prefix}-{}", uuid::Uuid::new_v4().simple()),
            created: now.map_or(0, |now| now.as_secs()),
            model: model.to_owned(),
        }
    }

    fn envelope(&self, object: &str, choices: Value) -> Value {
        json!({
            "id": self.id,
            "object": object,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": FINGERPRINT,
            "choices": choices,
        })
    }

    fn chunk_object(&self) -> &'static str {
        match self.style {
            Style::Chat => "chat.completion.chunk",
            Style::Text => "text_completion",
        }
    }

    /// The answer in one piece.
    pub(super) fn whole(&self, text: &str, finish_reason: &str, usage: Usage) -> Value {
        let (object, mut choice) = match self.style {
            Style::Chat => {
                ("chat.completion", json!({"message": {"role": "assistant", "content": text}}))
            }
            Style::Text => ("text_completion", json!({"text": text})),
        };
        choice["index"] = json!(0);
        choice["logprobs"] = Value::Null;
        choice["finish_reason"] = json!(finish_reason);
        let mut answer = self.envelope(object, json!([choice]));
        answer["usage"] = usage.json();
        answer
    }

    /// What a stream begins with: a chat says who speaks, a plain completion nothing.
    pub(super) fn first(&self) -> Option<Value> {
        match self.style {
            Style::Chat => Some(self.chunk(json!({"role": "assistant", "content": ""}), "", None)),
            Style::Text => None,
        }
    }

    /// One word of a stream.
    pub(super) fn word(&self, word: &str) -> Value {
        self.chunk(json!({"content": word}), word, None)
    }

    /// The end of a stream's words.
    pub(super) fn last(&self, finish_reason: &str) -> Value {
        self.chunk(json!({}), "", Some(finish_reason))
    }

    /// What a stream ends with if the client asked for it.
    pub(super) fn usage(&self, usage: Usage) -> Value {
        let mut chunk = self.envelope(self.chunk_object(), json!([]));
        chunk["usage"] = usage.json();
        chunk
    }

    fn chunk(&self, delta: Value, text: &str, finish_reason: Option<&str>) -> Value {
        let mut choice = match self.style {
            Style::Chat => json!({"delta": delta}),
            Style::Text => json!({"text": text}),
        };
        choice["index"] = json!(0);
        choice["logprobs"] = Value::Null;
        choice["finish_reason"] = json!(finish_reason);
        self.envelope(self.chunk_object(), json!([choice]))
    }
}
