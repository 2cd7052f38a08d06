//! A host with or without a port, as `Host`, `Origin` and `allowed_hosts` have it.

use actix_web::http::Uri;
use std::net::IpAddr;

/// A host, and a port where one is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostName {
    /// In lower case, without the brackets of an IPv6 address and the dot of a full name.
    pub host: String,
    /// `None`: not given.
    pub port: Option<u16>,
}

impl HostName {
    /// From `name`, `name:port`, `1.2.3.4:port` or `[::1]:port`.
    pub fn parse(text: &str) -> Option<Self> {
        let (host, after) = match text.strip_prefix('[') {
            Some(rest) => rest.split_once(']').filter(|(host, _)| is_ipv6(host))?,
            None => text.split_at(text.find(':').unwrap_or(text.len())),
        };
        if !text.starts_with('[') && !is_plain_name(host) {
            return None;
        }
        let port = match after {
            "" => None,
            after => Some(after.strip_prefix(':')?.parse().ok()?),
        };
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        Some(Self { host, port })
    }
}

/// Whether the port that a URL names is one; it may name none.
pub fn has_port_if_any(url: &Uri) -> bool {
    let Some(host_and_port) = url.authority().map(|authority| authority.as_str()) else {
        return true;
    };
    let port = host_and_port.rsplit(']').next().unwrap_or_default().rsplit_once(':');
    port.is_none_or(|(_, port)| port.parse::<u16>().is_ok_and(|port| port > 0))
}

fn is_ipv6(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok_and(|address| address.is_ipv6())
}

fn is_plain_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    (1..=253).contains(&text.len()) && text.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(text: &str) -> Option<(String, Option<u16>)> {
        HostName::parse(text).map(|name| (name.host, name.port))
    }

    #[test]
    fn a_name_or_an_address_with_or_without_a_port() {
        assert_eq!(parsed("LocalHost"), Some(("localhost".into(), None)));
        assert_eq!(parsed("a.b.:80"), Some(("a.b".into(), Some(80))));
        assert_eq!(parsed("127.0.0.1:7833"), Some(("127.0.0.1".into(), Some(7833))));
        assert_eq!(parsed("[::1]:1"), Some(("::1".into(), Some(1))));
        assert_eq!(parsed("[::1]"), Some(("::1".into(), None)));
        for wrong in [
            "", ":80", "a:", "a:x", "a:70000", "a b", "a/b", "u@a", "::1", "[::1", "[a]:1",
            "[::1]x", "*",
        ] {
            assert_eq!(parsed(wrong), None, "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,40}") {
            let _ = HostName::parse(&text);
        }

        #[test]
        fn what_is_read_is_what_was_written(host in "[a-z][a-z0-9-]{0,20}", port: Option<u16>) {
            let text = port.map_or(host.clone(), |port| format!("{host}:{port}"));
            prop_assert_eq!(parsed(&text), Some((host, port)));
        }
    }

    #[test]
    fn fuzz_host() {
        crate::fuzz::fuzz_text("host", |text| {
            let Some(name) = HostName::parse(text) else { return };
            assert!(!name.host.contains(char::is_whitespace) && !name.host.contains('/'));
        });
    }

    #[test]
    fn a_port_is_of_sixteen_bits_and_not_zero() {
        let good = |url: &str| url.parse::<Uri>().is_ok_and(|url| has_port_if_any(&url));
        for url in ["http://h", "http://h:1", "http://h:65535/x", "http://[::1]", "http://[::1]:80"]
        {
            assert!(good(url), "{url}");
        }
        for url in
            ["http://h:0", "http://h:65536", "http://h:99999/x", "http://h:", "http://[::1]:99999"]
        {
            assert!(!good(url), "{url}");
        }
    }
}
