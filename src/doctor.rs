//! `rbee doctor`: walks the whole chain, from the configuration over the kernel, the GPUs and the
//! workers to the queen's stream, and says of each link how it is and what to do about it.
//!
//! It changes nothing: what is running goes on, what is not there is not made. Each check is apart, so
//! that one that fails hides no other.

mod chain;
mod gpus;
mod machine;
mod ports;
mod workers;

use crate::{
    client::{
        Failure, Output,
        table::{Tone, fit},
        units::plain,
    },
    settings::{self, SettingsError},
};
use serde::Serialize;
use std::{ffi::OsString, path::PathBuf};

/// `rbee doctor`
#[derive(Clone, Debug, clap::Args)]
pub struct DoctorArgs {
    /// The file that the daemon on this machine is run with
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,

    /// As for the daemon: addresses that others can reach are meant
    #[arg(long)]
    pub insecure: bool,

    /// File with a token for the queen, of mode 0600; without it RBEE_TOKEN
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    /// File with the authorities to trust at https URLs; without it `tls_ca_file` of the configuration
    #[arg(long, env = "RBEE_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,

    /// How long each answer may take
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub timeout: u64,

    /// Print JSON: {"ok": …, "findings": [{"mark", "about", "found", "remedy"}, …]}
    #[arg(long)]
    pub json: bool,
}

/// How a link of the chain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mark {
    /// As it should be.
    Ok,
    /// It works, with less than there could be.
    Warn,
    /// It does not work.
    Fail,
}

/// What was found out about one link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How it is.
    pub mark: Mark,
    /// Which link.
    pub about: &'static str,
    /// What was seen.
    pub found: String,
    /// What to do; `None` where nothing is to be done.
    pub remedy: Option<String>,
}

impl Finding {
    fn ok(about: &'static str, found: impl Into<String>) -> Self {
        Self { mark: Mark::Ok, about, found: found.into(), remedy: None }
    }

    fn warn(about: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { mark: Mark::Warn, about, found: found.into(), remedy: Some(remedy.into()) }
    }

    fn fail(about: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { mark: Mark::Fail, about, found: found.into(), remedy: Some(remedy.into()) }
    }
}

#[derive(Serialize)]
struct Report<'a> {
    ok: bool,
    findings: &'a [Finding],
}

/// Examines and tells. Anything that does not work is a failure.
pub async fn run(
    args: &DoctorArgs,
    environment: impl Iterator<Item = (OsString, OsString)>,
    output: Output,
) -> Result<(), Failure> {
    let findings = examine(args, environment).await;
    let fails = findings.iter().filter(|finding| finding.mark == Mark::Fail).count();
    if args.json {
        let report = Report { ok: fails == 0, findings: &findings };
        let text =
            serde_json::to_string(&report).map_err(|error| Failure::Refused(error.to_string()))?;
        output.json(&text)?;
    } else {
        output.lines(&render(&findings, output))?;
    }
    match fails {
        0 => Ok(()),
        1 => Err(Failure::Refused("one thing is wrong".into())),
        n => Err(Failure::Refused(format!("{n} things are wrong"))),
    }
}

async fn examine(
    args: &DoctorArgs,
    environment: impl Iterator<Item = (OsString, OsString)>,
) -> Vec<Finding> {
    let settings = match settings::load(&args.config, environment, args.insecure) {
        Ok(settings) => settings,
        Err(error) => return refused(&error),
    };
    let roles = [settings.hive.as_ref().map(|_| "hive"), settings.queen.as_ref().map(|_| "queen")];
    let roles: Vec<_> = roles.into_iter().flatten().collect();
    let good = format!("{} is good, for a {}", args.config.display(), roles.join(" and a "));
    let mut findings = vec![Finding::ok("configuration", good)];
    if let Some(hive) = &settings.hive {
        findings.extend(machine::examine(hive));
        findings.extend(gpus::examine(&hive.gpu));
    }
    findings.extend(chain::examine(&settings, args).await);
    findings
}

/// One finding for each problem of the file.
fn refused(error: &SettingsError) -> Vec<Finding> {
    let remedy = "config/hive.toml and config/queen.toml list every key with its default";
    match error {
        SettingsError::Values { problems, .. } => problems
            .iter()
            .map(|problem| Finding::fail("configuration", problem.to_string(), remedy))
            .collect(),
        other => vec![Finding::fail("configuration", crate::startup::chain(other), remedy)],
    }
}

fn render(findings: &[Finding], output: Output) -> Vec<String> {
    let most = output.width.unwrap_or(usize::MAX);
    let mut lines = Vec::new();
    for finding in findings {
        let (mark, tone) = match finding.mark {
            Mark::Ok => ("ok  ", Tone::Good),
            Mark::Warn => ("warn", Tone::Warn),
            Mark::Fail => ("FAIL", Tone::Bad),
        };
        let text = plain(&format!("{:<14} {}", finding.about, finding.found));
        // What is wrong is told whole; what is well must not fill the screen.
        let text = if finding.mark == Mark::Ok { fit(&text, most.saturating_sub(5)) } else { text };
        lines.push(format!("{} {text}", tone.paint(mark, output.colours)));
        if let Some(remedy) = &finding.remedy {
            lines.push(format!("     → {}", plain(remedy)));
        }
    }
    lines
}
