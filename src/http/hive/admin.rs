//! What the API may run. No shell is ever involved, and what is allowed is a list.

use crate::{contract::WorkerSpec, http::error::HttpError};
use actix_web::http::StatusCode;
use glob::{MatchOptions, Pattern};
use std::{
    collections::HashSet,
    path::{Component, Path, PathBuf},
};

/// `*` stays within a directory, and says nothing about upper and lower case.
const MATCHING: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: false,
};

/// `[hive.admin]`
#[derive(Debug, Default)]
pub struct AdminPolicy {
    /// Absolute paths, globs of them, or `rbee`.
    pub allow_commands: Vec<Pattern>,
    /// Names of variables.
    pub allow_env: HashSet<String>,
}

impl AdminPolicy {
    /// 403 unless the spec's command and all of its variables are allowed.
    pub fn check(&self, spec: &WorkerSpec) -> Result<(), HttpError> {
        let command = resolve(&spec.command);
        if !self.allows(&command) {
            let message = format!(
                "command {:?} is not allowed: the hive's allow_commands must have it or a glob that matches it",
                spec.command
            );
            return Err(HttpError::new(StatusCode::FORBIDDEN, "command_not_allowed", message));
        }
        let refused = |name: &&String| {
            // A name without a directory was found in our PATH, and must not be looked up in another.
            let elsewhere = name.as_str() == "PATH" && !spec.command.contains('/');
            elsewhere || !self.allow_env.contains(*name)
        };
        match spec.env.keys().find(refused) {
            None => Ok(()),
            Some(name) => {
                let message = format!(
                    "env {name:?} is not allowed: the hive's allow_env must have it (and PATH goes with an absolute command only)"
                );
                Err(HttpError::new(StatusCode::FORBIDDEN, "env_not_allowed", message))
            }
        }
    }

    fn allows(&self, command: &str) -> bool {
        let path = Path::new(command);
        let plain =
            path.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
        // `a//b` and `a/./b` name the same file and match other patterns.
        let canonical = path.components().collect::<PathBuf>().as_os_str() == path.as_os_str();
        plain
            && canonical
            && self.allow_commands.iter().any(|pattern| pattern.matches_with(command, MATCHING))
    }
}

/// A bare name is what PATH makes of it; `rbee` and what PATH does not have stay as they are.
fn resolve(command: &str) -> String {
    if command.contains('/') || command == "rbee" {
        return command.to_owned();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(command))
        .find(|file| file.is_file())
        .and_then(|file| file.into_os_string().into_string().ok())
        .unwrap_or_else(|| command.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects")]
    use super::*;
    use crate::settings::worker::from_json;
    use proptest::prelude::*;
    use serde_json::json;

    fn policy() -> AdminPolicy {
        AdminPolicy {
            allow_commands: ["/usr/bin/*", "/opt/llama/server", "rbee"]
                .map(|text| Pattern::new(text).unwrap())
                .into(),
            allow_env: HashSet::from(["HF_HOME".into()]),
        }
    }

    fn allowed(command: &str, env: serde_json::Value) -> bool {
        let spec = json!({"group": "a", "instance": "b", "command": command, "env": env});
        policy().check(&from_json(spec, "h").unwrap()).is_ok()
    }

    #[test]
    fn only_what_is_listed_runs() {
        for command in ["/usr/bin/env", "/opt/llama/server", "rbee"] {
            assert!(allowed(command, json!({})), "{command}");
        }
        for command in [
            "/usr/bin/a/b",
            "/usr/bin/../../tmp/x",
            "/usr/bin//x",
            "/usr/bin/./x",
            "/opt/llama/server2",
            "/tmp/usr/bin/x",
            "no-such-program",
            "/",
            "/usr/bin/../bin/env",
        ] {
            assert!(!allowed(command, json!({})), "{command}");
        }
    }

    #[test]
    fn only_listed_variables_are_set() {
        assert!(allowed("rbee", json!({"HF_HOME": "/x"})));
        assert!(!allowed("rbee", json!({"LD_PRELOAD": "/x"})));
    }

    #[test]
    fn a_bare_name_is_not_looked_up_in_a_path_that_the_caller_sets() {
        let policy = AdminPolicy { allow_env: HashSet::from(["PATH".into()]), ..policy() };
        let check = |command: &str| {
            let env = json!({"PATH": "/tmp"});
            let spec = json!({"group": "a", "instance": "b", "command": command, "env": env});
            policy.check(&from_json(spec, "h").unwrap()).is_ok()
        };
        assert!(check("/usr/bin/env") && !check("env"));
    }

    #[test]
    fn nothing_is_allowed_by_default() {
        let spec = json!({"group": "a", "instance": "b", "command": "/bin/true"});
        assert!(AdminPolicy::default().check(&from_json(spec, "h").unwrap()).is_err());
    }

    proptest! {
        #[test]
        fn what_is_allowed_is_directly_in_an_allowed_directory(tail in "[a-z./]{1,20}") {
            let command = format!("/usr/bin/{tail}");
            if policy().allows(&command) {
                prop_assert_eq!(Path::new(&command).parent(), Some(Path::new("/usr/bin")));
                prop_assert!(!command.split('/').any(|part| part == ".."), "{}", command);
            }
        }
    }
}
