//! What a queen tells Prometheus: hives, placement, gateway and stream. Workers are the hives' to tell,
//! so that nothing is counted twice.

use super::QueenState;
use crate::{
    contract::Freshness,
    http::{
        error::HttpError,
        metrics::{Page, RequestDurations},
    },
};
use actix_web::{HttpResponse, web};
use prometheus::Result;
use tokio::time::Instant;

#[utoipa::path(get, path = "/metrics", operation_id = "get_metrics", tag = "machine",
    summary = "For Prometheus: hives, placement, gateway, stream",
    responses(
        (status = 200, description = "Prometheus' text format", body = String,
            content_type = "text/plain; version=0.0.4"),
        (status = 500, description = "The page cannot be written"),
    ))]
pub(super) async fn get(
    state: web::Data<QueenState>,
    durations: web::Data<RequestDurations>,
) -> std::result::Result<HttpResponse, HttpError> {
    let page = Page::begin("queen", &durations)?;
    for counters in state.counters.collectors() {
        page.add_boxed(counters)?;
    }
    hives(&page, &state)?;
    placement(&page, &state)?;
    stream(&page, &state)?;
    Ok(page.finish()?)
}

fn hives(page: &Page, state: &QueenState) -> Result<()> {
    let hives = page.gauge("rbee_hives", "Hives that are known, by freshness.", &["freshness"])?;
    let records = state.reader.records(Instant::now());
    for (freshness, name) in [
        (Freshness::Healthy, "healthy"),
        (Freshness::Degraded, "degraded"),
        (Freshness::Down, "down"),
    ] {
        let count = records.iter().filter(|(_, is)| *is == freshness).count();
        hives.with_label_values(&[name]).set(count as f64);
    }
    Ok(())
}

fn placement(page: &Page, state: &QueenState) -> Result<()> {
    let figures = state.placement.figures();
    let help =
        "Workers as placement sees them: they take a request, would with a free slot, or do not.";
    let workers = page.gauge("rbee_placement_workers", help, &["standing"])?;
    for (standing, count) in
        [("open", figures.open), ("full", figures.full), ("shut", figures.shut)]
    {
        workers.with_label_values(&[standing]).set(count as f64);
    }
    let value = |name, help, value: usize| page.value(name, help, value as f64);
    value("rbee_reservations", "Reservations that are held.", figures.reservations)?;
    value("rbee_gateway_queue_length", "Requests that wait for a worker.", figures.queued)?;
    let in_flight = state.gateway_intake.waiting();
    value("rbee_gateway_requests_in_flight", "Requests until the end of their answer.", in_flight)
}

fn stream(page: &Page, state: &QueenState) -> Result<()> {
    let stats = &state.stream_stats;
    page.value("rbee_sse_clients", "Clients of the event stream.", stats.clients() as f64)?;
    let count = |name, help, count| page.count(name, help, count);
    count("rbee_sse_events_total", "Events published.", stats.events())?;
    let help = "Events that clients lost because they were too slow, summed over clients.";
    count("rbee_sse_events_dropped_total", help, stats.events_dropped())?;
    let help = "Clients closed because they made no progress.";
    count("rbee_sse_clients_dropped_total", help, stats.clients_dropped())?;
    let help = "Clients refused because there were too many.";
    count("rbee_sse_clients_refused_total", help, stats.clients_refused())
}
