//! Limits as operators write them, in the units that cgroup v2 takes.

/// The scheduling period that `cpu.max` is written with, microseconds.
pub const CPU_PERIOD_USEC: u64 = 100_000;

/// The kernel takes no quota below this, microseconds.
const CPU_QUOTA_MIN_USEC: f64 = 1_000.0;

/// More cores than any machine has; keeps the quota within what the kernel takes.
const CPU_PERCENT_MAX: f64 = 1_000_000.0;

/// `"200%"`, two cores, is `200000`: the quota in microseconds per [`CPU_PERIOD_USEC`].
pub fn cpu_quota_usec(text: &str) -> Result<u64, String> {
    let allowed = || "must be a percentage of one core, such as \"50%\" or \"200%\"".to_owned();
    let digits = text.strip_suffix('%').ok_or_else(allowed)?;
    let plain = digits.bytes().all(|b| b.is_ascii_digit() || b == b'.') && !digits.is_empty();
    let percent: f64 = digits.parse().ok().filter(|_| plain).ok_or_else(allowed)?;
    let quota = (percent * 1_000.0).round();
    if percent > CPU_PERCENT_MAX || quota < CPU_QUOTA_MIN_USEC {
        return Err("must be from \"1%\" to \"1000000%\"".to_owned());
    }
    Ok(quota as u64)
}

/// `"4G"` is `4294967296`: K, M, G and T are powers of 1024, no suffix means bytes.
pub fn memory_bytes(text: &str) -> Result<u64, String> {
    let allowed = || {
        "must be a whole number of bytes above 0, or with K, M, G or T, such as \"4G\"".to_owned()
    };
    let (digits, shift) = match text.char_indices().next_back() {
        Some((at, 'K')) => (&text[..at], 10),
        Some((at, 'M')) => (&text[..at], 20),
        Some((at, 'G')) => (&text[..at], 30),
        Some((at, 'T')) => (&text[..at], 40),
        _ => (text, 0),
    };
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let number: u64 = digits.parse().ok().filter(|_| plain).ok_or_else(allowed)?;
    number
        .checked_mul(1 << shift)
        .filter(|bytes| (1..=i64::MAX as u64).contains(bytes))
        .ok_or_else(allowed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects")]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn two_cores_and_four_gibibytes() {
        assert_eq!(cpu_quota_usec("200%").unwrap(), 200_000);
        assert_eq!(cpu_quota_usec("12.5%").unwrap(), 12_500);
        assert_eq!(memory_bytes("4G").unwrap(), 4_294_967_296);
        assert_eq!(memory_bytes("1048576").unwrap(), 1_048_576);
    }

    #[test]
    fn what_is_no_limit_is_refused() {
        for text in
            ["", "%", "lots", "200", "-5%", "0%", "0.5%", "1e3%", "NaN%", "inf%", "2 %", "1.2.3%"]
        {
            assert!(cpu_quota_usec(text).is_err(), "{text:?}");
        }
        for text in
            ["", "G", "4X", "-1", "0", "0G", "1.5G", "4GB", "99999999999T", "+4", "٤G", "4é"]
        {
            assert!(memory_bytes(text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn whole_percentages_are_a_thousand_microseconds_each(percent in 1_u64..=1_000_000) {
            prop_assert_eq!(cpu_quota_usec(&format!("{percent}%")).unwrap(), percent * 1_000);
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,24}") {
            let _ = cpu_quota_usec(&text);
            let _ = memory_bytes(&text);
        }
    }

    #[test]
    fn fuzz_cpu_and_memory_limits() {
        crate::fuzz::fuzz_text("limits", |text| {
            let text = text.trim_end_matches('\n');
            assert!(
                cpu_quota_usec(text).is_ok_and(|quota| quota >= 1_000)
                    || cpu_quota_usec(text).is_err()
            );
            assert!(memory_bytes(text).is_ok_and(|bytes| bytes > 0) || memory_bytes(text).is_err());
        });
    }
}
