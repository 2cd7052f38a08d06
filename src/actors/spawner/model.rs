//! Which model a worker serves, as its arguments say.

use crate::limits::{Limit, MODEL_ALIASES_MAX, MODEL_NAME_MAX};

/// A model and the other names that it answers to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelNames {
    /// `--model X`, `--model=X`, else `-m X`.
    pub model: Option<String>,
    /// `--alias`, `--served-model-name`, and the file's name without directory and extension.
    pub aliases: Vec<String>,
}

/// Extensions that are a file's and no part of a model's name: `llama-3.2-1b` has none of them.
const EXTENSIONS: [&str; 7] = [".gguf", ".ggml", ".safetensors", ".bin", ".pt", ".pth", ".onnx"];

/// Programs whose `-m` means a module of theirs.
const INTERPRETERS: [&str; 8] = ["python", "pypy", "node", "deno", "bun", "ruby", "perl", "java"];

/// Reads the names from a command line: `program` and its arguments. `given` is the spec's own word
/// and wins.
pub fn detect(program: &str, args: &[String], given: Option<&str>) -> ModelNames {
    let model = given
        .map(str::to_owned)
        .or_else(|| long_option(args, "--model").into_iter().next())
        .or_else(|| if is_interpreter(program) { None } else { short_option(args, "-m") })
        .filter(|model| is_name(model));
    let mut aliases = long_option(args, "--alias");
    aliases.extend(long_option(args, "--served-model-name"));
    aliases.extend(model.as_deref().and_then(stem));
    let mut unique: Vec<String> = Vec::with_capacity(aliases.len());
    for alias in aliases {
        if Some(&alias) == model.as_ref() || unique.contains(&alias) {
            continue;
        }
        if unique.len() == MODEL_ALIASES_MAX {
            Limit::ModelAliases.reached();
            break;
        }
        unique.push(alias);
    }
    ModelNames { model, aliases: unique }
}

/// All values of an option. `--served-model-name` takes several words; llama.cpp's `--alias` takes
/// several between commas.
fn long_option(args: &[String], name: &str) -> Vec<String> {
    let mut values = Vec::new();
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        if let Some(value) = arg.strip_prefix(name).and_then(|tail| tail.strip_prefix('=')) {
            values.extend(words(value, name));
        } else if arg == name {
            let several = name == "--served-model-name";
            let until = if several { usize::MAX } else { 1 };
            let given = rest.clone().take(until).take_while(|next| !next.starts_with("--"));
            for value in given {
                values.extend(words(value, name));
                rest.next();
            }
        }
    }
    values
}

fn words(value: &str, name: &str) -> Vec<String> {
    let split = name == "--alias";
    let parts = value.split(|c| split && c == ',').map(str::trim);
    parts.filter(|part| is_name(part)).map(str::to_owned).collect()
}

fn short_option(args: &[String], name: &str) -> Option<String> {
    let at = args.iter().position(|arg| arg == name)?;
    args.get(at + 1).cloned()
}

/// An argument can hold anything; what is shown as a name cannot.
fn is_name(text: &str) -> bool {
    if text.len() > MODEL_NAME_MAX {
        Limit::ModelName.reached();
    }
    (1..=MODEL_NAME_MAX).contains(&text.len()) && !text.chars().any(char::is_control)
}

fn is_interpreter(program: &str) -> bool {
    let name = program.rsplit('/').next().unwrap_or(program);
    INTERPRETERS.iter().any(|interpreter| {
        name.strip_prefix(interpreter)
            .is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit() || c == '.'))
    })
}

fn stem(model: &str) -> Option<String> {
    let name = model.trim_end_matches('/').rsplit('/').next()?;
    let cut = EXTENSIONS.iter().find_map(|extension| name.strip_suffix(extension));
    Some(cut.unwrap_or(name).to_owned()).filter(|stem| !stem.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::tests::Counting;
    use proptest::prelude::*;

    fn names(line: &str) -> (Option<String>, Vec<String>) {
        let mut words = line.split(' ').map(str::to_owned);
        let program = words.next().unwrap_or_default();
        let args: Vec<_> = words.collect();
        let found = detect(&program, &args, None);
        (found.model, found.aliases)
    }

    #[test]
    fn the_ways_in_which_engines_are_started_are_understood() {
        let some = |s: &str| Some(s.to_owned());
        assert_eq!(
            names("llama-server --model /models/llama-3.2-1b.gguf --alias tiny,small --port 1"),
            (
                some("/models/llama-3.2-1b.gguf"),
                vec!["tiny".into(), "small".into(), "llama-3.2-1b".into()]
            )
        );
        assert_eq!(names("x --model=qwen2.5"), (some("qwen2.5"), vec![]));
        assert_eq!(names("/opt/llama-server -m a.gguf"), (some("a.gguf"), vec!["a".into()]));
        assert_eq!(names("python3.11 -m vllm.entrypoints"), (None, vec![]));
        assert_eq!(
            names("python3 -m vllm --model meta/L3 --served-model-name big bigger --port 1"),
            (some("meta/L3"), vec!["big".into(), "bigger".into(), "L3".into()])
        );
        assert_eq!(names("sleep 5"), (None, vec![]));
        assert_eq!(names("x --model"), (None, vec![]));
        assert_eq!(names("x --model-path y"), (None, vec![]));
    }

    #[test]
    fn the_specs_own_word_wins() {
        let args = ["--model".to_owned(), "a".to_owned()];
        assert_eq!(detect("x", &args, Some("b")).model.as_deref(), Some("b"));
    }

    proptest! {
        #[test]
        fn no_arguments_panic(args in prop::collection::vec("(--model|-m|--alias|=|,|\\PC){0,6}", 0..8)) {
            let _ = detect("x", &args, None);
        }
    }

    #[test]
    fn names_and_their_number_are_bounded() {
        let detected = |args: Vec<String>| detect("x", &args, None);
        let named = |n: usize| detected(vec!["--model".into(), "m".repeat(n)]).model;
        assert_eq!(named(MODEL_NAME_MAX).map(|name| name.len()), Some(MODEL_NAME_MAX));
        let counting = Counting::of(Limit::ModelName);
        assert_eq!(named(MODEL_NAME_MAX + 1), None);
        counting.counted();
        let aliases = |n: usize| {
            let names: Vec<_> = (0..n).map(|i| i.to_string()).collect();
            detected(vec![format!("--alias={}", names.join(","))]).aliases.len()
        };
        assert_eq!(aliases(MODEL_ALIASES_MAX), MODEL_ALIASES_MAX);
        let counting = Counting::of(Limit::ModelAliases);
        assert_eq!(aliases(MODEL_ALIASES_MAX + 1), MODEL_ALIASES_MAX);
        counting.counted();
    }

    #[test]
    fn fuzz_argv() {
        crate::fuzz::fuzz_text("argv", |text| {
            let mut words = text.split(['\0', '\n']).map(str::to_owned);
            let program = words.next().unwrap_or_default();
            let args: Vec<_> = words.collect();
            let found = detect(&program, &args, None);
            assert!(found.aliases.len() <= MODEL_ALIASES_MAX);
            for name in found.model.iter().chain(&found.aliases) {
                assert!(is_name(name) && name.len() <= MODEL_NAME_MAX, "{name:?}");
            }
        });
    }
}
