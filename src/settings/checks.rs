//! What several sections check alike.

use super::{
    host_name::HostName,
    reader::{Findings, Table},
};
use crate::limits::ALLOWED_HOSTS_MAX;
use crate::platform::{
    secret::Secret,
    secret_file,
    tls::{Authorities, Identity},
};
use std::{
    net::{SocketAddr, ToSocketAddrs},
    path::Path,
};

/// Whom a role lets in from where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Openness {
    /// A token is configured.
    pub(super) has_token: bool,
    /// `--insecure`
    pub(super) insecure: bool,
}

/// Reads a `bind` address. Without a token it is open to others only when the operator insists.
pub(super) fn bind(
    table: &mut Table,
    default: &str,
    openness: Openness,
    findings: &mut Findings,
) -> Option<SocketAddr> {
    let text = table.string("bind", findings).unwrap_or_else(|| default.to_owned());
    let address = text.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
    let key = table.key("bind");
    let closed = !openness.has_token && !openness.insecure;
    match address {
        None => findings.add(key, format!("{text:?}"), "must be an address and a port, such as \"127.0.0.1:7835\""),
        Some(address) if closed && !address.ip().is_loopback() => findings.add(
            key,
            format!("{text:?}"),
            "must be a loopback address unless there is a token_file: whoever reaches it may do everything (--insecure binds it all the same)",
        ),
        Some(address) => return Some(address),
    }
    None
}

/// Reads a token: from the file that `file_key` names, or itself from the environment, as `key`.
pub(super) fn token(
    table: &mut Table,
    file_key: &'static str,
    key: Option<&'static str>,
    findings: &mut Findings,
) -> Option<Secret> {
    let direct = key.and_then(|key| {
        let text = table.non_empty(key, findings)?;
        let token = secret_file::token(&text);
        token.map_err(|allowed| findings.add(table.key(key), "", allowed)).ok()
    });
    let path = table.non_empty(file_key, findings).filter(|_| direct.is_none());
    direct.or_else(|| {
        let path = path?;
        let token = secret_file::read_token(Path::new(&path));
        let note = |error: secret_file::SecretFileError| {
            findings.add(table.key(file_key), format!("{path:?}"), &error.to_string());
        };
        token.map_err(note).ok()
    })
}

/// Whether a token is meant to be there, good or not.
pub(super) fn names_token(table: &Table, keys: &[&str]) -> bool {
    keys.iter().any(|key| table.has_text(key))
}

/// Reads `tls = {cert_file, key_file}`.
pub(super) fn tls(table: &mut Table, findings: &mut Findings) -> Option<Identity> {
    let mut tls = table.optional_table("tls", findings)?;
    let path =
        |text: &str| if text.is_empty() { Err("is required".into()) } else { Ok(text.into()) };
    let cert: Option<String> = tls.require("cert_file", findings, path);
    let key: Option<String> = tls.require("key_file", findings, path);
    let shown = tls.key("cert_file");
    tls.finish(findings);
    let (cert, key) = cert.zip(key)?;
    let identity = Identity::read(Path::new(&cert), Path::new(&key));
    identity.map_err(|error| findings.add(shown, format!("{cert:?}"), &error.to_string())).ok()
}

/// Reads `tls_ca_file`.
pub(super) fn authorities(table: &mut Table, findings: &mut Findings) -> Option<Authorities> {
    let path = table.non_empty("tls_ca_file", findings)?;
    let read = Authorities::read(Path::new(&path));
    let key = table.key("tls_ca_file");
    read.map_err(|error| findings.add(key, format!("{path:?}"), &error.to_string())).ok()
}

/// Whom to trust where a URL is `https`: those of `tls_ca_file`, else those that the system trusts.
pub(super) fn trust(
    key: &str,
    url: &str,
    authorities: &mut Option<Authorities>,
    findings: &mut Findings,
) {
    if !url.starts_with("https:") || authorities.is_some() {
        return;
    }
    match Authorities::of_the_system() {
        Ok(found) => *authorities = Some(found),
        Err(error) => {
            let allowed = format!("needs tls_ca_file, the authorities to trust: {error}");
            findings.add(key, format!("{url:?}"), &allowed);
        }
    }
}

/// Reads `allowed_hosts`.
pub(super) fn allowed_hosts(table: &mut Table, findings: &mut Findings) -> Vec<HostName> {
    let texts = table.strings("allowed_hosts", findings).unwrap_or_default();
    let key = table.key("allowed_hosts");
    if texts.len() > ALLOWED_HOSTS_MAX {
        findings.add(key.as_str(), texts.len(), "must be at most 256 hosts");
    }
    let mut hosts = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        match HostName::parse(text) {
            Some(host) => hosts.push(host),
            None => findings.add(
                format!("{key}[{index}]"),
                format!("{text:?}"),
                "must be a host's name or address, with a port or without, such as \"rbee.example\"",
            ),
        }
    }
    hosts
}
