#![allow(clippy::unwrap_used, reason = "a test says what it expects")]

use super::*;
use actix_web::http::header::HeaderName;
use proptest::prelude::*;

fn own(bind: &str) -> OwnNames {
    let allowed = ["rbee.example", "other.example:8443"].map(|name| HostName::parse(name).unwrap());
    let hostname = Some("gpu-box".to_owned());
    OwnNames { bind: bind.parse().unwrap(), hostname, allowed: allowed.into(), tls: false }
}

fn map(pairs: &[(&str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&str, &str)| {
        (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap())
    };
    pairs.iter().map(pair).collect()
}

fn asked(
    pairs: &[(&str, &str)],
    own: &OwnNames,
    class: Class,
    tokens: bool,
) -> Result<(), Refusal> {
    let (headers, uri) = (map(pairs), Uri::from_static("/"));
    check(&Asked { headers: &headers, uri: &uri, class, reading: true, tokens }, own)
}

fn host(host: &str, bind: &str) -> bool {
    asked(&[("host", host)], &own(bind), Class::Read, false).is_ok()
}

#[test]
fn a_host_is_ours_by_loopback_by_address_or_by_the_list() {
    for name in [
        "localhost:7833",
        "LOCALHOST",
        "localhost.",
        "127.0.0.1:7833",
        "127.9.9.9",
        "[::1]:7833",
        "gpu-box:7833",
        "rbee.example",
        "rbee.example:99",
        "other.example:8443",
    ] {
        assert!(host(name, "127.0.0.1:7833"), "{name}");
    }
    for name in [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "10.0.0.1",
        "other.example",
        "other.example:8444",
        "evil.rbee.example",
        "",
        "a b",
        "localhost@evil.example",
        "[::1",
    ] {
        assert!(!host(name, "127.0.0.1:7833"), "{name}");
    }
    assert!(host("10.0.0.1:7833", "10.0.0.1:7833") && !host("10.0.0.2:7833", "10.0.0.1:7833"));
    assert!(host("10.0.0.2", "0.0.0.0:7833") && host("[fe80::1]:7833", "[::]:7833"));
    assert!(!host("evil.example", "0.0.0.0:7833"));
    assert!(asked(&[], &own("127.0.0.1:1"), Class::Read, false).is_ok(), "HTTP/1.0 names none");
}

#[test]
fn two_hosts_or_a_target_of_another_host_are_refused() {
    let own = own("127.0.0.1:7833");
    let mut headers = map(&[("host", "127.0.0.1")]);
    headers.append(header::HOST, HeaderValue::from_static("evil.example"));
    let uri = Uri::from_static("/");
    let asked =
        Asked { headers: &headers, uri: &uri, class: Class::Read, reading: true, tokens: true };
    assert_eq!(check(&asked, &own), Err(Refusal::Host("evil.example".into())));
    let (headers, uri) = (map(&[]), Uri::from_static("http://evil.example/"));
    let asked =
        Asked { headers: &headers, uri: &uri, class: Class::Read, reading: true, tokens: true };
    assert!(check(&asked, &own).is_err());
}

#[test]
fn a_page_is_ours_when_it_came_from_here_or_from_the_list() {
    let own = own("127.0.0.1:7833");
    let from = |origin: &str, own: &OwnNames| {
        asked(&[("host", "localhost:7833"), ("origin", origin)], own, Class::Open, true).is_ok()
    };
    for origin in ["http://localhost:7833", "https://rbee.example", "https://other.example:8443"] {
        assert!(from(origin, &own), "{origin}");
    }
    for origin in [
        "null",
        "",
        "http://127.0.0.1:7833",
        "http://localhost",
        "http://localhost:3000",
        "http://evil.example",
        "https://rbee.example:8443",
        "https://other.example",
        "file://",
        "chrome-extension://localhost:7833",
        "http://localhost:7833@evil.example",
    ] {
        assert!(!from(origin, &own), "{origin}");
    }
    let own = OwnNames { tls: true, ..own };
    assert!(from("https://localhost:7833", &own) && !from("http://localhost:7833", &own));
}

#[test]
fn what_a_browser_says_of_another_site_is_believed_but_a_link_may_be_followed() {
    let own = own("127.0.0.1:7833");
    for (site, class, may) in [
        ("same-origin", Class::Admin, true),
        ("none", Class::Read, true),
        ("cross-site", Class::Read, false),
        ("same-site", Class::Read, false),
        ("anything", Class::Infer, false),
        ("cross-site", Class::Open, true),
    ] {
        let found = asked(&[("sec-fetch-site", site)], &own, class, true);
        assert_eq!(found, if may { Ok(()) } else { Err(Refusal::CrossSite) }, "{site} {class:?}");
    }
    let headers = map(&[("sec-fetch-site", "cross-site")]);
    let uri = Uri::from_static("/login");
    let asked =
        Asked { headers: &headers, uri: &uri, class: Class::Open, reading: false, tokens: true };
    assert_eq!(check(&asked, &own), Err(Refusal::CrossSite), "a login is no link");
}

#[test]
fn without_a_token_what_a_proxy_forwarded_is_refused() {
    let own = own("127.0.0.1:7833");
    for (name, value) in [
        ("x-forwarded-for", "1.2.3.4"),
        ("x-forwarded-host", "x"),
        ("x-forwarded-anything", "x"),
        ("forwarded", "for=x"),
        ("x-real-ip", "1.2.3.4"),
        ("via", "1.1 nginx"),
        ("via", "1.1 rbee, 1.1 nginx"),
        ("via", ""),
    ] {
        let found = asked(&[(name, value)], &own, Class::Open, false);
        assert_eq!(found, Err(Refusal::Forwarded(name.into())), "{name}: {value}");
        assert_eq!(asked(&[(name, value)], &own, Class::Open, true), Ok(()), "{name}: {value}");
    }
    assert_eq!(asked(&[("via", "1.1 rbee, 1.1 rbee")], &own, Class::Infer, false), Ok(()));
}

proptest! {
    #[test]
    fn no_name_but_ours_gets_in(name in "[a-z]{1,9}(\\.[a-z]{1,9}){0,3}", port: u16) {
        let ours = ["localhost", "gpu-box", "rbee.example"].contains(&name.as_str());
        prop_assert_eq!(host(&format!("{name}:{port}"), "0.0.0.0:7833"), ours || (name == "other.example" && port == 8443));
    }

    #[test]
    fn no_header_makes_it_panic(name in "host|origin|sec-fetch-site|via|forwarded", value in "[ -~]{0,40}") {
        let _ = asked(&[(name.as_str(), value.as_str())], &own("[::1]:1"), Class::Read, false);
    }
}
