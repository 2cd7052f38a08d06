//! Where a worker's host leads. A heartbeat names it, and must not lead the queen to what trusts this very
//! machine: the metadata services of clouds, which answer at addresses of the link. A worker has none.

use std::{
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};
use tokio::net::{TcpStream, lookup_host};

/// Where Amazon's answers beside its address of the link.
const METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// A connection to the first address that takes one.
pub(super) async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let found = lookup_host((host, port)).await?;
    let allowed: Vec<SocketAddr> = found.filter(|address| !is_of_the_link(address.ip())).collect();
    if allowed.is_empty() {
        let why = "its address is of the link, where no worker is";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    TcpStream::connect(&allowed[..]).await
}

fn is_of_the_link(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6 == METADATA,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what it expects")]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_link_are_known_in_each_form() {
        let of_link = |text: &str| is_of_the_link(text.parse().unwrap());
        for text in
            ["169.254.169.254", "169.254.0.1", "::ffff:169.254.169.254", "fe80::1", "fd00:ec2::254"]
        {
            assert!(of_link(text), "{text}");
        }
        for text in
            ["127.0.0.1", "10.0.0.1", "192.168.1.1", "::1", "fd00::1", "2001:db8::1", "8.8.8.8"]
        {
            assert!(!of_link(text), "{text}");
        }
    }

    #[tokio::test]
    async fn nothing_is_tried_there() {
        let refused = connect("169.254.169.254", 80).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
    }
}
