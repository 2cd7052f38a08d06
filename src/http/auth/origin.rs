//! Where a request comes from: whether it was meant for us, and whether a page of another origin sent it.
//!
//! A name that an attacker's DNS points at loopback arrives with that name as its Host; a foreign page
//! arrives with its Origin, or with Sec-Fetch-Site. Programs send none of these but Host. Nothing here
//! ever answers with a CORS header: what another origin cannot send, it need not read.

use super::Class;
use crate::settings::HostName;
use actix_web::http::{
    Uri,
    header::{self, HeaderMap, HeaderValue},
};
use std::net::{IpAddr, SocketAddr};

/// What a server answers to.
#[derive(Clone, Debug)]
pub struct OwnNames {
    /// Where it listens.
    pub bind: SocketAddr,
    /// How others know its machine, beside that.
    pub hostname: Option<String>,
    /// `allowed_hosts`
    pub allowed: Vec<HostName>,
    /// Whether it speaks TLS itself.
    pub tls: bool,
}

/// Why a request is refused before anybody asks who sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its Host is not ours.
    Host(String),
    /// Its Origin is not ours.
    Origin(String),
    /// A browser says that another site made it.
    CrossSite,
    /// A proxy forwarded it, and there is no token to tell its clients apart: the header that says so.
    Forwarded(String),
}

/// What of a request counts here.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Its target.
    pub uri: &'a Uri,
    /// What it asks for.
    pub class: Class,
    /// Whether the method is GET or HEAD.
    pub reading: bool,
    /// Whether any token is configured.
    pub tokens: bool,
}

/// All checks, in the order in which they are reported.
pub fn check(asked: &Asked<'_>, own: &OwnNames) -> Result<(), Refusal> {
    let host = host_of(asked, own)?;
    if let Some(origin) = asked.headers.get(header::ORIGIN) {
        check_origin(origin, host.as_ref(), own)?;
    }
    // A link to the dashboard may be followed from anywhere.
    let may_be_linked = asked.class == Class::Open && asked.reading;
    if !may_be_linked && !fetch_site(asked.headers).is_none_or(is_own_site) {
        return Err(Refusal::CrossSite);
    }
    match forwarded(asked.headers).filter(|_| !asked.tokens) {
        Some(header) => Err(Refusal::Forwarded(header.to_owned())),
        None => Ok(()),
    }
}

/// Whether a browser says that our own page made the request, which it was then checked for.
pub fn from_own_page(headers: &HeaderMap) -> bool {
    headers.contains_key(header::ORIGIN)
        || fetch_site(headers).is_some_and(|site| site.as_bytes() == b"same-origin")
}

/// The one Host that is asked for, if any: HTTP/1.0 need not name one, and no browser leaves it out.
fn host_of(asked: &Asked<'_>, own: &OwnNames) -> Result<Option<HostName>, Refusal> {
    let mut found = None;
    let target = asked.uri.authority().map(|authority| authority.as_str());
    let named = asked.headers.get_all(header::HOST).map(|host| host.to_str().unwrap_or("?"));
    for text in named.chain(target) {
        let refused = || Refusal::Host(text.to_owned());
        let host = HostName::parse(text).ok_or_else(refused)?;
        let repeated = found.as_ref().is_none_or(|earlier| *earlier == host);
        if !(repeated && is_own(&host, own)) {
            return Err(refused());
        }
        found = Some(host);
    }
    Ok(found)
}

fn is_own(host: &HostName, own: &OwnNames) -> bool {
    let by_address = host.host.parse::<IpAddr>().is_ok_and(|address| {
        let (address, bound) = (address.to_canonical(), own.bind.ip().to_canonical());
        // An address in place of a name is nothing that DNS could have pointed here.
        address.is_loopback() || address == bound || bound.is_unspecified()
    });
    let by_hostname =
        own.hostname.as_ref().is_some_and(|name| name.eq_ignore_ascii_case(&host.host));
    let listed = |allowed: &HostName| {
        allowed.host == host.host && (allowed.port.is_none() || allowed.port == host.port)
    };
    by_address || by_hostname || host.host == "localhost" || own.allowed.iter().any(listed)
}

/// The same scheme, host and port as it was asked for, or one that `allowed_hosts` names.
fn check_origin(
    origin: &HeaderValue,
    host: Option<&HostName>,
    own: &OwnNames,
) -> Result<(), Refusal> {
    let refused = || Refusal::Origin(String::from_utf8_lossy(origin.as_bytes()).into_owned());
    let (scheme, rest) =
        origin.to_str().ok().and_then(|text| text.split_once("://")).ok_or_else(refused)?;
    let named = HostName::parse(rest).ok_or_else(refused)?;
    let spoken = if own.tls { scheme == "https" } else { matches!(scheme, "http" | "https") };
    if spoken && (host == Some(&named) || own.allowed.contains(&named)) {
        return Ok(());
    }
    Err(refused())
}

fn fetch_site(headers: &HeaderMap) -> Option<&HeaderValue> {
    headers.get("sec-fetch-site")
}

fn is_own_site(site: &HeaderValue) -> bool {
    // "none": typed by the user, or a program of theirs.
    matches!(site.as_bytes(), b"same-origin" | b"none")
}

/// The header by which a proxy says that it speaks for somebody else. Another queen's gateway does not.
fn forwarded(headers: &HeaderMap) -> Option<&str> {
    let named = headers.keys().map(|name| name.as_str());
    let mut said = named.filter(|name| {
        name.starts_with("x-forwarded-") || matches!(*name, "forwarded" | "x-real-ip")
    });
    let by_queens = |via: &HeaderValue| {
        let hops = via.to_str().ok().map(|via| via.split(','));
        hops.is_some_and(|mut hops| hops.all(|hop| hop.split_whitespace().nth(1) == Some("rbee")))
    };
    said.next().or_else(|| (!headers.get_all(header::VIA).all(by_queens)).then_some("via"))
}

#[cfg(test)]
#[path = "origin/tests.rs"]
mod tests;
