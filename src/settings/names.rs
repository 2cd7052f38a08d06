//! What a group, an instance or a hive may be called. Names become directories and unit-like
//! cgroups, so that what a filesystem, cgroupfs or systemd gives a meaning of its own is refused.

use crate::limits::NAME_MAX;

/// cgroupfs puts files of these names beside a worker's directory.
const RESERVED_PREFIXES: [&str; 11] = [
    "cgroup.", "cpu.", "cpuset.", "dmem.", "hugetlb.", "io.", "irq.", "memory.", "misc.", "pids.",
    "rdma.",
];

/// systemd takes cgroups of these names for its units.
const RESERVED_SUFFIXES: [&str; 11] = [
    ".automount",
    ".device",
    ".mount",
    ".path",
    ".scope",
    ".service",
    ".slice",
    ".socket",
    ".swap",
    ".target",
    ".timer",
];

/// `[A-Za-z0-9][A-Za-z0-9._-]{0,63}`
pub fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    text.len() <= NAME_MAX
        && bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && bytes.all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

/// A hive's id: any name.
pub fn hive_id(text: &str) -> Result<String, String> {
    if is_name(text) {
        return Ok(text.to_owned());
    }
    Err("must be 1 to 64 letters, digits, '.', '_' or '-', starting with a letter or digit".into())
}

/// A worker's group or instance: as [`hive_id`], less what is reserved.
pub fn worker_name(text: &str) -> Result<String, String> {
    let name = hive_id(text)?;
    if RESERVED_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
        return Err("must not begin as a file of cgroupfs does, such as \"cgroup.\"".into());
    }
    if RESERVED_SUFFIXES.iter().any(|suffix| name.ends_with(suffix)) {
        return Err("must not end as a systemd unit does, such as \".service\"".into());
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects")]
    use super::*;
    use proptest::prelude::*;
    use std::path::{Component, Path};

    #[test]
    fn reserved_names_are_refused() {
        for name in
            ["cgroup.procs", "memory.max", "a.service", "x.slice", "", ".", "..", "a/b", "-a"]
        {
            assert!(worker_name(name).is_err(), "{name:?}");
        }
        for name in ["llm", "8080", "a.b-c_d", "cgroup", "service"] {
            assert!(worker_name(name).is_ok(), "{name:?}");
        }
        assert!(hive_id(&"a".repeat(64)).is_ok());
        assert!(hive_id(&"a".repeat(65)).is_err());
    }

    proptest! {
        #[test]
        fn a_name_is_always_one_plain_path_component(text in "\\PC{0,70}") {
            if let Ok(name) = worker_name(&text) {
                let parts: Vec<_> = Path::new(&name).components().collect();
                prop_assert!(matches!(parts.as_slice(), [Component::Normal(part)] if part.to_str() == Some(&name)));
            }
        }
    }
}
