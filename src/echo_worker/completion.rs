//! Chat and plain completions: the same echo, in one piece or word by word.
//!
//! A request counts as in progress from here until its last byte was taken or its client left.

use super::{
    Engine,
    answer::{Shape, Style, Usage},
    load::InFlight,
    request::{self, ChatRequest, Prompt, TextRequest},
    words::Words,
};
use crate::http::error::HttpError;
use actix_web::{
    HttpResponse,
    http::header,
    web::{Bytes, Data},
};
use futures_util::stream::{self, Stream};
use serde_json::Value;
use std::{convert::Infallible, time::Duration};

type Body = Result<Bytes, actix_web::Error>;

/// `POST /v1/chat/completions`
pub(super) async fn chat(engine: Data<Engine>, body: Body) -> Result<HttpResponse, HttpError> {
    let prompt = request::parse::<ChatRequest>(body)?.into_prompt(&engine)?;
    Ok(answer(&engine, Style::Chat, prompt).await)
}

/// `POST /v1/completions`
pub(super) async fn text(engine: Data<Engine>, body: Body) -> Result<HttpResponse, HttpError> {
    let prompt = request::parse::<TextRequest>(body)?.into_prompt(&engine)?;
    Ok(answer(&engine, Style::Text, prompt).await)
}

async fn answer(engine: &Engine, style: Style, prompt: Prompt) -> HttpResponse {
    let mut echo = Echo {
        in_flight: engine.load.begin(),
        shape: Shape::new(style, &engine.model),
        words: Words::new(prompt.echo, prompt.max_tokens),
        prompt_tokens: prompt.prompt_tokens,
        include_usage: prompt.include_usage,
        delay: engine.delay,
        next: Next::First,
    };
    if prompt.stream {
        return HttpResponse::Ok()
            .content_type("text/event-stream")
            .insert_header((header::CACHE_CONTROL, "no-cache"))
            .streaming(echo.stream());
    }
    HttpResponse::Ok().json(echo.whole().await)
}

/// Which part of a stream comes next.
#[derive(Clone, Copy, Debug)]
enum Next {
    First,
    Word,
    Usage,
    Done,
    Nothing,
}

/// One answer being given.
#[derive(Debug)]
struct Echo {
    in_flight: InFlight,
    shape: Shape,
    words: Words,
    prompt_tokens: u64,
    include_usage: bool,
    delay: Duration,
    next: Next,
}

impl Echo {
    fn usage(&self) -> Usage {
        Usage { prompt: self.prompt_tokens, completion: self.words.taken() }
    }

    async fn whole(&mut self) -> Value {
        let text = self.words.take_rest().to_owned();
        let words = u32::try_from(self.words.taken()).unwrap_or(u32::MAX);
        pause(self.delay.saturating_mul(words)).await;
        self.in_flight.finish();
        self.shape.whole(&text, self.words.finish_reason(), self.usage())
    }

    fn stream(self) -> impl Stream<Item = Result<Bytes, Infallible>> {
        stream::unfold(self, |mut echo| async move {
            let frame = echo.next_frame().await?;
            Some((Ok(Bytes::from(frame)), echo))
        })
    }

    async fn next_frame(&mut self) -> Option<String> {
        loop {
            match self.next {
                Next::First => {
                    self.next = Next::Word;
                    if let Some(first) = self.shape.first() {
                        return Some(frame(&first));
                    }
                }
                Next::Word => return Some(frame(&self.next_word().await)),
                Next::Usage => {
                    self.next = Next::Done;
                    return Some(frame(&self.shape.usage(self.usage())));
                }
                Next::Done => {
                    self.next = Next::Nothing;
                    self.in_flight.finish();
                    return Some("data: [DONE]\n\n".into());
                }
                Next::Nothing => return None,
            }
        }
    }

    /// The next word, or the chunk that says why there is none.
    async fn next_word(&mut self) -> Value {
        let Some(word) = self.words.next_word() else {
            self.next = if self.include_usage { Next::Usage } else { Next::Done };
            return self.shape.last(self.words.finish_reason());
        };
        pause(self.delay).await;
        self.shape.word(word)
    }
}

fn frame(chunk: &Value) -> String {
    format!("data: {chunk}\n\n")
}

async fn pause(delay: Duration) {
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
}
