//! From address to address: is the role there, does the queen know the hive, does the stream flow.

use super::{
    DoctorArgs, Finding,
    ports::{self, Port},
    workers,
};
use crate::{
    client::{Api, Connection, Failure, Role, model::Hive, sse::SseParser, units::millis},
    platform::tls::Authorities,
    settings::{HiveSettings, QueenSettings, Settings},
};
use futures_util::StreamExt;
use serde::Deserialize;
use std::{net::SocketAddr, time::Duration};

/// A hive's heartbeat may be late by this many intervals.
const INTERVALS: u32 = 3;

pub(super) async fn examine(settings: &Settings, args: &DoctorArgs) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(queen) = &settings.queen {
        let own = Own::queen(queen);
        let (finding, _) = role_at(&own, Role::Queen, args).await;
        findings.push(finding);
        for (id, hive) in &queen.hives {
            findings.push(listed_hive(id, &hive.url, own.trusted, args).await);
        }
    }
    if let Some(hive) = &settings.hive {
        let (finding, api) = role_at(&Own::hive(hive), Role::Hive, args).await;
        findings.push(finding);
        let hive_runs = api.is_some();
        if let Some(api) = api {
            findings.extend(workers::examine(&api, hive).await);
        }
        for url in &hive.queen_urls {
            findings.extend(queen_of(hive, url, hive_runs, args).await);
        }
    }
    let queen_only = settings.hive.is_none().then_some(settings.queen.as_ref()).flatten();
    if let Some(queen) = queen_only
        && let own = Own::queen(queen)
        && let Ok(api) = api_at(&own.url(), own.trusted, args)
        && api.role().await.is_ok()
    {
        findings.push(stream(&api, None, args).await);
    }
    findings
}

/// Trusting the file of the command line, else as the configuration does, else as the system.
fn api_at(url: &str, trusted: Option<&Authorities>, args: &DoctorArgs) -> Result<Api, Failure> {
    let (token_file, ca_file) = (args.token_file.clone(), args.ca_file.clone());
    let connection = Connection { url: url.to_owned(), token_file, ca_file, timeout: args.timeout };
    Api::trusting(&connection, trusted)
}

/// Where a role of this configuration listens.
struct Own<'a> {
    bind: SocketAddr,
    tls: bool,
    trusted: Option<&'a Authorities>,
}

impl<'a> Own<'a> {
    fn queen(queen: &'a QueenSettings) -> Self {
        Self { bind: queen.bind, tls: queen.tls.is_some(), trusted: queen.authorities.as_ref() }
    }

    fn hive(hive: &'a HiveSettings) -> Self {
        Self { bind: hive.bind, tls: hive.tls.is_some(), trusted: hive.authorities.as_ref() }
    }

    fn url(&self) -> String {
        format!("{}://{}", if self.tls { "https" } else { "http" }, self.bind)
    }
}

/// An address to listen on: free, held by the very role that is meant to, or by somebody else.
async fn role_at(own: &Own<'_>, role: Role, args: &DoctorArgs) -> (Finding, Option<Api>) {
    let bind = own.bind;
    let about = match role {
        Role::Queen => "queen's port",
        Role::Hive => "hive's port",
    };
    let holder = match ports::look(bind) {
        Port::Free => {
            let found = format!("{bind} is free, and so nothing runs there");
            return (Finding::warn(about, found, "start it: rbee --config FILE"), None);
        }
        Port::Refused(error) => {
            let found = format!("{bind} cannot be had: {error}");
            let remedy =
                "bind to an address of this machine, and to a port above 1023 unless as root";
            return (Finding::fail(about, found, remedy), None);
        }
        Port::Held(holder) => holder,
    };
    let by = holder.map_or_else(
        || "a process that this user cannot see".into(),
        |(pid, name)| format!("{name} (pid {pid})"),
    );
    let api = match api_at(&own.url(), own.trusted, args) {
        Ok(api) => api,
        Err(failure) => {
            let found = format!("{bind} is held by {by}, which cannot be asked: {failure}");
            return (Finding::fail(about, found, "give another token, or other authorities"), None);
        }
    };
    match api.health().await {
        Ok((found, health, _)) if found == role => {
            let found = format!("{bind} is held by {by}: it runs, version {}", health.version);
            (Finding::ok(about, found), Some(api))
        }
        // Its certificate may be good for the name by which others reach it.
        Err(Failure::Unreachable(why)) if own.tls => {
            let found = format!("{bind} is held by {by}, which cannot be asked from here: {why}");
            let remedy = "see that it answers by its name: rbee status --url https://NAME:PORT";
            (Finding::warn(about, found, remedy), None)
        }
        _ => {
            let found =
                format!("{bind} is held by {by}, which is no {}", &about[..about.len() - 7]);
            (Finding::fail(about, found, "end that, or set another `bind`"), None)
        }
    }
}

/// One of `[[queen.hives]]`.
async fn listed_hive(
    id: &str,
    url: &str,
    trusted: Option<&Authorities>,
    args: &DoctorArgs,
) -> Finding {
    let asked = async { api_at(url, trusted, args)?.role().await };
    match asked.await {
        Ok(Role::Hive) => Finding::ok("queen.hives", format!("{id} answers at {url}")),
        Ok(Role::Queen) => {
            let found = format!("{id}: {url} is a queen");
            Finding::fail("queen.hives", found, "name the hive's own address (port 7835)")
        }
        Err(failure) => {
            let found = format!("{id}: {failure}");
            Finding::fail("queen.hives", found, "start that hive, open its port, or mend the url")
        }
    }
}

/// A hive's queen: there, ours, taking our token, knowing us, and telling others.
async fn queen_of(
    hive: &HiveSettings,
    url: &str,
    hive_runs: bool,
    args: &DoctorArgs,
) -> Vec<Finding> {
    let api = match api_at(url, hive.authorities.as_ref(), args) {
        Ok(api) => api,
        Err(failure) => {
            let remedy = "mend the token, or whom to trust";
            return vec![Finding::fail("queen", failure.to_string(), remedy)];
        }
    };
    let mut findings = match api.health().await {
        Ok((Role::Queen, health, _)) => {
            vec![Finding::ok("queen", format!("{url} answers, version {}", health.version))]
        }
        Ok((Role::Hive, ..)) => {
            let remedy = "set hive.queen_urls to a queen's address (port 7833)";
            return vec![Finding::fail("queen", format!("{url} is a hive"), remedy)];
        }
        Err(failure) => {
            let remedy = "start it, open its port, or mend hive.queen_urls";
            return vec![Finding::fail("queen", failure.to_string(), remedy)];
        }
    };
    if !hive_runs {
        return findings;
    }
    let known = known(&api, hive).await;
    let goes_on = known.mark != super::Mark::Fail;
    findings.push(known);
    if goes_on {
        findings.push(stream(&api, Some(hive), args).await);
    }
    findings
}

/// Whether the queen hears this hive.
async fn known(api: &Api, hive: &HiveSettings) -> Finding {
    let id = &hive.id;
    let told = match api.get(&format!("/v1/hives/{id}")).await {
        Ok(text) => api.parse::<Hive>(&text),
        Err(failure) => Err(failure),
    };
    match told {
        Ok(told) if told.freshness.as_deref() == Some("healthy") => {
            let age =
                told.age_ms.map_or_else(String::new, |ms| format!(", heard {} ago", millis(ms)));
            Finding::ok("heartbeats", format!("the queen has {id}{age}"))
        }
        Ok(told) => {
            let how = told.freshness.unwrap_or_default();
            let found = format!("to the queen {id} is {how}");
            Finding::fail("heartbeats", found, "look at the hive's log for what its queen answers")
        }
        Err(Failure::NotFound(_)) => {
            let found = format!("the queen does not know {id}, although it runs");
            let remedy =
                "look at the hive's log: its token, another id, another queen that took over";
            Finding::fail("heartbeats", found, remedy)
        }
        Err(failure @ Failure::Denied(_)) => {
            let remedy = "give a token that the queen knows: --token-file FILE or RBEE_TOKEN";
            Finding::fail("token", failure.to_string(), remedy)
        }
        Err(failure) => Finding::fail("heartbeats", failure.to_string(), "look at the queen's log"),
    }
}

#[derive(Deserialize)]
struct Told {
    #[serde(rename = "type")]
    kind: String,
    hive_id: Option<String>,
}

/// Waits for the hive's next heartbeat in the stream; without a hive, for the snapshot.
async fn stream(api: &Api, hive: Option<&HiveSettings>, args: &DoctorArgs) -> Finding {
    let late = hive.map_or(Duration::ZERO, |hive| hive.heartbeat_interval * INTERVALS);
    let patience = Duration::from_secs(args.timeout) + late;
    let wanted = |told: &Told| match hive {
        Some(hive) => told.kind == "hive_telemetry" && told.hive_id.as_ref() == Some(&hive.id),
        None => told.kind == "snapshot",
    };
    let listening = async {
        let mut body = api.open("/v1/heartbeats/stream", "text/event-stream").await?;
        let mut parser = SseParser::default();
        while let Some(Ok(piece)) = body.next().await {
            let mut told = parser.feed(&piece).into_iter();
            if told.any(|event| serde_json::from_str(&event.data).is_ok_and(|told| wanted(&told))) {
                return Ok(true);
            }
        }
        Ok::<_, Failure>(false)
    };
    let remedy = "look at the queen's log, and for a proxy between that buffers or cuts streams";
    match tokio::time::timeout(patience, listening).await {
        Ok(Ok(true)) => Finding::ok("stream", "flows"),
        Ok(Ok(false)) => Finding::fail("stream", "it ended before anything came", remedy),
        Ok(Err(failure)) => Finding::fail("stream", failure.to_string(), remedy),
        Err(_) => {
            let found = format!("nothing of it came within {} s", patience.as_secs());
            Finding::fail("stream", found, remedy)
        }
    }
}
