//! Where a worker serves, taken from its URL.

use actix_web::http::Uri;

/// The address and the path of a worker's URL.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// Without the brackets of an IPv6 address.
    pub(super) host: String,
    pub(super) port: u16,
    /// As the `host` header names it; connections to the same one are exchangeable.
    pub(super) authority: String,
    /// What comes before a request's own path, without a slash at its end.
    pub(super) prefix: String,
}

impl Target {
    /// `None` for what is no `http` URL with a host.
    pub(super) fn of(url: &str) -> Option<Self> {
        let url: Uri = url.parse().ok()?;
        let host = url.host().filter(|host| !host.trim_matches(['[', ']']).is_empty())?;
        if url.scheme_str() != Some("http") {
            return None;
        }
        let port = match url.authority()?.as_str().rsplit_once(host)?.1 {
            "" => 80,
            colon_port => colon_port.strip_prefix(':')?.parse().ok()?,
        };
        Some(Self {
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
            authority: format!("{host}:{port}"),
            prefix: url.path().trim_end_matches('/').to_owned(),
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what it expects")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(url: &str) -> (String, u16, String, String) {
        let Target { host, port, authority, prefix } = Target::of(url).unwrap();
        (host, port, authority, prefix)
    }

    fn parts(
        host: &str,
        port: u16,
        authority: &str,
        prefix: &str,
    ) -> (String, u16, String, String) {
        (host.into(), port, authority.into(), prefix.into())
    }

    #[test]
    fn a_url_says_where_to_connect_and_what_to_ask_for() {
        assert_eq!(of("http://127.0.0.1:8080"), parts("127.0.0.1", 8080, "127.0.0.1:8080", ""));
        assert_eq!(of("http://gpu-1/"), parts("gpu-1", 80, "gpu-1:80", ""));
        assert_eq!(of("http://[::1]:9/api/"), parts("::1", 9, "[::1]:9", "/api"));
        assert_eq!(of("http://u:p@h:7/a/b?q"), parts("h", 7, "h:7", "/a/b"), "no user goes on");
    }

    #[test]
    fn what_cannot_be_connected_to_is_none() {
        for url in [
            "",
            "/x",
            "h:80",
            "ftp://x/",
            "https://h/",
            "http://[/",
            "http://h:99999/",
            "http://:80/",
        ] {
            assert_eq!(Target::of(url), None, "{url}");
        }
    }

    proptest! {
        #[test]
        fn no_url_makes_it_panic(url in "(http://)?.{0,40}") {
            let _ = Target::of(&url);
        }
    }

    #[test]
    fn fuzz_url() {
        crate::fuzz::fuzz_text("url", |text| {
            let text = text.trim_end_matches('\n');
            let Some(target) = Target::of(text) else { return };
            assert!(!target.host.is_empty() && !target.prefix.ends_with('/'));
            assert!(!target.authority.contains(['\r', '\n', ' ']), "{target:?}");
        });
    }
}
