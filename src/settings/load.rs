//! From a file and the environment to [`Settings`].

use super::{
    hive::{self, HiveSettings},
    queen::{self, QueenSettings},
    reader::{Findings, Problem, Table},
};
use crate::limits::CONFIG_FILE_MAX;
use config::{Config, Environment, File, FileFormat};
use serde_json::{Map, Value};
use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
};
use thiserror::Error;

/// The roles to run. At least one is there.
#[derive(Debug)]
pub struct Settings {
    /// From `[hive]`.
    pub hive: Option<HiveSettings>,
    /// From `[queen]`.
    pub queen: Option<QueenSettings>,
}

/// Why there are no settings.
#[derive(Debug, Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read {path}", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("{path} is not valid TOML: {detail}", path = .path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and what.
        detail: String,
    },
    /// Values are wrong.
    #[error("{path} has {count} problem(s):{list}", path = .path.display(), count = .problems.len(), list = listed(.problems))]
    Values {
        /// The file.
        path: PathBuf,
        /// All of them.
        problems: Vec<Problem>,
    },
}

fn listed(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("\n  {problem}")).collect()
}

/// Reads `path`, applies `RBEE__SECTION__KEY` from `environment`, and validates all of it.
pub fn load(
    path: &Path,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    insecure: bool,
) -> Result<Settings, SettingsError> {
    let text = read_file(path)?;
    let mut findings = Findings { text_values: true, ..Findings::default() };
    let document = merge(path, &text, environment, &mut findings)?;
    let settings = read(document, insecure, &mut findings);
    match settings {
        Some(settings) if findings.problems.is_empty() => Ok(settings),
        _ => Err(SettingsError::Values { path: path.to_path_buf(), problems: findings.problems }),
    }
}

fn read_file(path: &Path) -> Result<String, SettingsError> {
    let failed = |source| SettingsError::Read { path: path.to_path_buf(), source };
    let meta = std::fs::metadata(path).map_err(failed)?;
    if !meta.is_file() || meta.len() > CONFIG_FILE_MAX {
        let why = format!("must be a regular file of at most {} MiB", CONFIG_FILE_MAX >> 20);
        return Err(failed(io::Error::other(why)));
    }
    std::fs::read_to_string(path).map_err(failed)
}

/// The file's tree with the environment's values over it. Only the sections that the file has
/// can be overridden: which roles run is the file's to say.
fn merge(
    path: &Path,
    text: &str,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    findings: &mut Findings,
) -> Result<Value, SettingsError> {
    let syntax = |error: config::ConfigError| SettingsError::Syntax {
        path: path.to_path_buf(),
        detail: without_excerpt(&error.to_string()),
    };
    let file = Config::builder()
        .add_source(File::from_str(text, FileFormat::Toml))
        .build()
        .and_then(Config::try_deserialize::<Map<String, Value>>)
        .map_err(syntax)?;
    refuse_tokens(&file, findings);
    let overrides = overrides(&file, environment, findings);
    Config::builder()
        .add_source(File::from_str(text, FileFormat::Toml))
        .add_source(Environment::with_prefix("RBEE").separator("__").source(Some(overrides)))
        .build()
        .and_then(Config::try_deserialize::<Value>)
        .map_err(syntax)
}

/// What `RBEE__` may be followed by, in lower case.
const SECTIONS: [&str; 2] = ["hive", "queen"];

/// The variables for the sections that the file has. One of a section that there is not is a mistake.
fn overrides(
    file: &Map<String, Value>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    findings: &mut Findings,
) -> config::Map<String, String> {
    let mut overrides = config::Map::new();
    for (name, value) in environment {
        let shown = name.to_string_lossy().into_owned();
        let Some(rest) = shown.strip_prefix("RBEE__") else { continue };
        let section = rest.split("__").next().unwrap_or_default().to_lowercase();
        if !SECTIONS.contains(&section.as_str()) {
            let allowed = "names no section: RBEE__HIVE__… and RBEE__QUEEN__… are what there is";
            findings.add(shown, "", allowed);
        } else if file.contains_key(&section) {
            match (name.into_string(), value.into_string()) {
                (Ok(name), Ok(value)) => drop(overrides.insert(name, value)),
                _ => findings.add(shown, "", "must be UTF-8"),
            }
        }
    }
    overrides
}

/// Tokens that the environment may have in place of a file's name. A configuration file is for others
/// to read.
const TOKENS: [&str; 5] = [
    "/hive/queen_token",
    "/hive/admin/token",
    "/queen/auth/token",
    "/queen/auth/hive_token",
    "/queen/auth/inference_token",
];

fn refuse_tokens(file: &Map<String, Value>, findings: &mut Findings) {
    let file = Value::Object(file.clone());
    for pointer in TOKENS.iter().filter(|pointer| file.pointer(pointer).is_some()) {
        let key = pointer[1..].replace('/', ".");
        let allowed = format!("may come from the environment only, here name a file: {key}_file");
        findings.add(key, "", &allowed);
    }
}

/// Where and what, without the file's own text, which may have a secret in it.
fn without_excerpt(message: &str) -> String {
    let excerpt = |line: &str| {
        line.split_once('|').is_some_and(|(number, _)| {
            number.trim().is_empty() || number.trim().bytes().all(|byte| byte.is_ascii_digit())
        })
    };
    message.lines().filter(|line| !excerpt(line)).collect::<Vec<_>>().join(" ").trim().to_owned()
}

fn read(document: Value, insecure: bool, findings: &mut Findings) -> Option<Settings> {
    let mut root = Table::new("", document, findings);
    let hive = root.optional_table("hive", findings);
    let queen = root.optional_table("queen", findings);
    if hive.is_none() && queen.is_none() && findings.problems.is_empty() {
        findings.add(
            "hive, queen",
            "",
            "at least one of the sections [hive] and [queen] is required",
        );
    }
    root.finish(findings);
    let hive = hive.map(|table| hive::read(table, insecure, findings));
    let queen = queen.map(|table| queen::read(table, insecure, findings));
    if let (Some(Some(hive)), Some(Some(queen))) = (&hive, &queen)
        && hive.bind == queen.bind
        && hive.bind.port() != 0
    {
        findings.add(
            "hive.bind",
            hive.bind,
            "must not be queen.bind too: one of both can listen there",
        );
    }
    match (hive, queen) {
        (Some(None), _) | (_, Some(None)) => None,
        (hive, queen) => Some(Settings { hive: hive.flatten(), queen: queen.flatten() }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects")]
    use super::*;
    use crate::fuzz::fuzz_text;
    use crate::limits::{HIVE_WORKERS_MAX, Limit, tests::Counting};
    use std::io::Write;

    fn load_text(text: &str, environment: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let environment = environment.iter().map(|(k, v)| ((*k).into(), (*v).into()));
        load(file.path(), environment, false)
    }

    fn keys(result: Result<Settings, SettingsError>) -> Vec<String> {
        match result {
            Err(SettingsError::Values { problems, .. }) => {
                problems.into_iter().map(|problem| problem.key).collect()
            }
            other => unreachable!("expected problems with values, got {other:?}"),
        }
    }

    #[test]
    fn the_configurations_that_come_with_rbee_are_valid() {
        for name in ["local", "hive", "queen"] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("config/{name}.toml"));
            let settings = load(&path, [], false).unwrap();
            assert_eq!(settings.hive.is_some(), name != "queen");
            assert_eq!(settings.queen.is_some(), name != "hive");
        }
    }

    #[test]
    fn the_environment_overrides_the_file_in_any_type() {
        let settings = load_text(
            "[hive]\nid = \"a\"\n[queen]\n",
            &[
                ("RBEE__HIVE__ID", "123"),
                ("RBEE__HIVE__QUEEN_URL", "http://10.0.0.1:7833"),
                ("RBEE__HIVE__CGROUP__MODE", "off"),
                ("RBEE__HIVE__HEARTBEAT_INTERVAL_MS", "250"),
                ("RBEE__HIVE__ADMIN__ALLOW_COMMANDS", "/bin/*,/usr/bin/*"),
            ],
        );
        let hive = settings.unwrap().hive.unwrap();
        assert_eq!(hive.id, "123");
        assert_eq!(hive.queen_urls, ["http://10.0.0.1:7833"]);
        assert_eq!(hive.cgroup.mode, super::super::CgroupMode::Off);
        assert_eq!(hive.heartbeat_interval.as_millis(), 250);
        assert_eq!(hive.admin.allow_commands.len(), 2);
    }

    #[test]
    fn the_environment_starts_no_role_that_the_file_does_not_name() {
        let settings = load_text("[queen]\n", &[("RBEE__HIVE__ID", "x")]).unwrap();
        assert!(settings.hive.is_none() && settings.queen.is_some());
    }

    #[test]
    fn a_variable_of_no_section_or_that_is_no_text_is_named() {
        for name in ["RBEE__HIV__QUEEN_URL", "RBEE__NOPE", "RBEE__"] {
            let error = load_text("[hive]\n", &[(name, "x")]).unwrap_err().to_string();
            let told = [name, "RBEE__HIVE__", "RBEE__QUEEN__"];
            assert!(told.iter().all(|part| error.contains(part)), "{error}");
        }
        let with_bytes = |name: &str| {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(b"[hive]\n").unwrap();
            let value = std::os::unix::ffi::OsStringExt::from_vec(vec![b'a', 0xff]);
            load(file.path(), [(name.into(), value)], false)
        };
        assert_eq!(keys(with_bytes("RBEE__HIVE__ID")), ["RBEE__HIVE__ID"]);
        assert!(with_bytes("RBEE__QUEEN__BIND").is_ok() && with_bytes("OTHER").is_ok());
    }

    #[test]
    fn names_of_variables_keep_their_case() {
        let text = "[hive]\n[[hive.workers]]\ngroup=\"a\"\ninstance=\"b\"\ncommand=\"c\"\nenv={Cuda_X=\"Y\"}";
        let hive = load_text(text, &[]).unwrap().hive.unwrap();
        assert_eq!(hive.workers[0].env["Cuda_X"], "Y");
    }

    #[test]
    fn all_problems_come_at_once_each_with_its_key() {
        let text = r#"
            wings = 4
            [hive]
            id = "no spaces"
            bind = "0.0.0.0:7835"
            queen_urls = ["gopher://x"]
            heartbeat_interval_ms = 0
            on_exit = "run"
            typo = 1
            [hive.cgroup]
            mode = "maybe"
            [[hive.workers]]
            group = "a"
            [queen]
            bind = "nowhere"
            down_after_ms = 1
            [queen.auth]
            token_file = "/etc/token"
        "#;
        assert_eq!(
            keys(load_text(text, &[])),
            [
                "wings",
                "hive.id",
                "hive.bind",
                "hive.queen_urls[0]",
                "hive.heartbeat_interval_ms",
                "hive.on_exit",
                "hive.cgroup.mode",
                "hive.workers[0].instance",
                "hive.workers[0].command",
                "hive.typo",
                "queen.bind",
                "queen.down_after_ms",
                "queen.auth.token_file",
            ]
        );
    }

    #[test]
    fn both_roles_cannot_listen_at_one_address() {
        let both = |hive: &str, queen: &str| {
            load_text(&format!("[hive]\nbind={hive:?}\n[queen]\nbind={queen:?}\n"), &[])
        };
        assert_eq!(keys(both("127.0.0.1:7833", "127.0.0.1:7833")), ["hive.bind"]);
        assert!(both("127.0.0.1:7833", "127.0.0.2:7833").is_ok());
        assert!(both("127.0.0.1:0", "127.0.0.1:0").is_ok());
    }

    #[test]
    fn a_host_name_has_no_port_and_may_be_an_ipv6_address() {
        let hostname = |name: &str| load_text(&format!("[hive]\nhostname={name:?}\n"), &[]);
        for good in ["a", "10.0.0.7", "::1", "fe80::1:80"] {
            assert!(hostname(good).is_ok(), "{good}");
        }
        for wrong in ["a:80", "10.0.0.7:80", "[::1]"] {
            assert_eq!(keys(hostname(wrong)), ["hive.hostname"], "{wrong}");
        }
    }

    #[test]
    fn what_is_wrong_is_shown_and_shows_no_control_character() {
        let said = |text: &str| load_text(text, &[]).unwrap_err().to_string();
        let root = said("[hive.cgroup]\nroot=\"sys/fs\"\n");
        assert!(root.contains("hive.cgroup.root = \"sys/fs\": must be an absolute path"), "{root}");
        let key = said("[queen]\n\"a\\u001bb\" = 1\n");
        assert!(key.contains("\\u{1b}") && !key.contains('\u{1b}'), "{key}");
    }

    #[test]
    fn two_workers_of_one_name_are_refused() {
        let worker = "[[hive.workers]]\ngroup=\"a\"\ninstance=\"b\"\ncommand=\"c\"\n";
        let found = keys(load_text(&format!("[hive]\n{worker}{worker}"), &[]));
        assert_eq!(found, ["hive.workers[1]"]);
    }

    #[test]
    fn a_file_that_is_not_there_or_no_toml_says_so() {
        let missing = load(Path::new("/nonexistent.toml"), [], false);
        assert!(matches!(missing, Err(SettingsError::Read { .. })));
        assert!(matches!(load_text("[hive", &[]), Err(SettingsError::Syntax { .. })));
        assert!(matches!(load(Path::new("/"), [], false), Err(SettingsError::Read { .. })));
        assert_eq!(keys(load_text("", &[])), ["hive, queen"]);
    }

    #[test]
    fn so_many_workers_may_be_configured() {
        let with = |n: usize| {
            let one =
                |i| format!("[[hive.workers]]\ngroup=\"a\"\ninstance=\"{i}\"\ncommand=\"c\"\n");
            load_text(&format!("[hive]\n{}", (0..n).map(one).collect::<String>()), &[])
        };
        assert!(with(HIVE_WORKERS_MAX).is_ok());
        let counting = Counting::of(Limit::HiveWorkers);
        assert_eq!(keys(with(HIVE_WORKERS_MAX + 1)), ["hive.workers"]);
        counting.counted();
    }

    #[test]
    fn a_file_is_of_at_most_so_many_bytes() {
        let mut text = "[queen]\n#".to_owned();
        text.push_str(&"x".repeat(CONFIG_FILE_MAX as usize - text.len()));
        assert!(load_text(&text, &[]).is_ok());
        text.push('x');
        assert!(matches!(load_text(&text, &[]), Err(SettingsError::Read { .. })));
    }

    #[test]
    fn fuzz_config() {
        fuzz_text("config", |text| {
            let mut findings = Findings { text_values: true, ..Findings::default() };
            let path = Path::new("rbee.toml");
            let Ok(document) = merge(path, text, [], &mut findings) else { return };
            let settings = read(document, false, &mut findings);
            assert!(settings.is_some() || !findings.problems.is_empty(), "nothing says why");
            for problem in &findings.problems {
                assert!(!problem.allowed.is_empty() && problem.value.chars().count() <= 121);
            }
        });
    }
}
