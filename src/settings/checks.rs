//! What several sections check alike.

use super::reader::{Findings, Table};
use std::net::{SocketAddr, ToSocketAddrs};

/// Reads a `bind` address. Open to others only when the operator insists: this version has no tokens.
pub(super) fn bind(
    table: &mut Table,
    default: &str,
    insecure: bool,
    findings: &mut Findings,
) -> Option<SocketAddr> {
    let text = table.string("bind", findings).unwrap_or_else(|| default.to_owned());
    let address = text.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
    let key = table.key("bind");
    match address {
        None => findings.add(key, format!("{text:?}"), "must be an address and a port, such as \"127.0.0.1:7835\""),
        Some(address) if !address.ip().is_loopback() && !insecure => findings.add(
            key,
            format!("{text:?}"),
            "must be a loopback address: whoever reaches it may do everything (--insecure binds it all the same)",
        ),
        Some(address) => return Some(address),
    }
    None
}

/// Keys whose meaning this version does not have yet may only be empty: a token that nobody checks
/// would be worse than none.
pub(super) fn refuse_unless_empty(
    table: &mut Table,
    keys: &[&'static str],
    findings: &mut Findings,
) {
    for key in keys {
        if let Some(text) = table.non_empty(key, findings) {
            findings.add(
                table.key(key),
                format!("{text:?}"),
                "must be empty: this version does not check tokens yet",
            );
        }
    }
}
