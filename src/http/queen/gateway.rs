//! The OpenAI-compatible gateway: a request is read whole, sent to the worker that placement chooses, and
//! the worker's answer is passed on byte for byte.
//!
//! What is the worker's stays the worker's: its status, its errors, its pace. What a request holds is
//! bounded: its body until the answer begins, after that a buffer of a few KiB.

mod address;
mod answer;
mod body;
mod connection;
mod errors;
mod exchange;
mod headers;
mod model;
mod pool;
mod target;

use super::QueenState;
use crate::limits::Limit;
use crate::{
    actors::{placement::InferenceAsk, registry::IntakeFull},
    http::{
        error::HttpError,
        fallback::{get, post},
        in_flight::InFlightCount,
        peer::{Peer, unless_gone},
        turn::{Turn, Work},
    },
};
use actix_web::{HttpRequest, HttpResponse, web};
use answer::Held;
use exchange::Exchange;
use pool::Pool;
use serde::Serialize;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// What a client is told to wait when there are more, seconds.
const RETRY_AFTER_S: u64 = 1;

/// How long the gateway waits for what.
#[derive(Clone, Copy, Debug)]
pub struct GatewayConfig {
    /// A request for a place on a worker.
    pub queue_timeout: Duration,
    /// For a worker to begin its answer.
    pub first_byte_timeout: Duration,
    /// For an answer that has begun to go on.
    pub idle_timeout: Duration,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            queue_timeout: Duration::from_secs(30),
            first_byte_timeout: Duration::from_secs(120),
            idle_timeout: Duration::from_secs(60),
        }
    }
}

/// Adds the gateway's routes. Called on each server thread, which has connections of its own to workers.
pub(super) fn configure(config: &mut web::ServiceConfig) {
    config
        .app_data(web::Data::new(Pool::new()))
        .service(get("/v1/models", models))
        .service(post("/v1/chat/completions", infer))
        .service(post("/v1/completions", infer))
        .service(post("/v1/embeddings", infer));
}

async fn infer(
    state: web::Data<QueenState>,
    pool: web::Data<Pool>,
    turn: web::Data<Turn>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, HttpError> {
    let begun = Instant::now();
    let answered = exchange(&state, &pool, &turn, &request, payload).await;
    state.counters.gateway(&answered, begun.elapsed());
    answered
}

async fn exchange(
    state: &QueenState,
    pool: &Pool,
    turn: &Turn,
    request: &HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, HttpError> {
    let mut load = state.gateway_intake.begin();
    headers::refuse_loop(request.headers())?;
    let session = headers::name_of(request.headers(), "x-rbee-session")?;
    let reservation = headers::name_of(request.headers(), "x-rbee-reservation")?;
    let body = body::read(request.headers(), payload, &mut load).await?;
    // Only now: clients that take their time with their bodies must not keep out those that do not.
    load.enqueue().map_err(|full| overloaded(full, Limit::GatewayRequests))?;
    let model = model::read(&body)?;
    let exchange = Exchange {
        placement: &state.placement,
        counters: &state.counters,
        config: state.gateway,
        pool,
        request,
        body: &body,
    };
    let ask = InferenceAsk { model: &model, session, reservation, refused_by: &[] };
    let peer = request.conn_data::<Peer>();
    let answered = unless_gone(peer, async {
        turn.admit(Work::Inference).await?;
        exchange.run(ask).await
    });
    let answered = answered.await;
    let (booking, answer) = answered.ok_or_else(errors::client_gone)??;
    load.release_bytes();
    let in_flight = request.app_data::<InFlightCount>().map(InFlightCount::enter);
    let upstream = Arc::clone(booking.upstream());
    let counters = state.counters.clone();
    let held = Held { slot: booking, upstream, load, in_flight, peer: peer.cloned(), counters };
    Ok(answer::pass_on(answer, held, state.gateway.idle_timeout))
}

/// There is too much in hand already.
fn overloaded(full: IntakeFull, limit: Limit) -> HttpError {
    limit.reached();
    HttpError::overloaded(full.to_string(), RETRY_AFTER_S)
}

/// In the order and with the names of OpenAI's list.
#[derive(Serialize)]
struct ModelList {
    object: &'static str,
    data: Vec<Model>,
}

#[derive(Serialize)]
struct Model {
    id: String,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
}

async fn models(state: web::Data<QueenState>) -> web::Json<ModelList> {
    let created = state.started_unix_s;
    let model = |id| Model { id, object: "model", created, owned_by: "rbee" };
    let data = state.placement.models().into_iter().map(model).collect();
    web::Json(ModelList { object: "list", data })
}

#[cfg(test)]
#[path = "gateway/tests.rs"]
mod tests;
