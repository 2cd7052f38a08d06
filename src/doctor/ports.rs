//! Who listens at an address.

use std::{
    collections::HashSet,
    fs,
    io::{self, ErrorKind},
    net::{SocketAddr, TcpListener},
    path::Path,
};

/// What stands in the way of listening.
#[derive(Debug)]
pub(super) enum Port {
    /// Nothing.
    Free,
    /// Somebody has it: PID and name, where they can be seen.
    Held(Option<(u32, String)>),
    /// It cannot be had.
    Refused(io::Error),
}

/// Tries it, for a moment.
pub(super) fn look(address: SocketAddr) -> Port {
    match TcpListener::bind(address) {
        Ok(_) => Port::Free,
        Err(error) if error.kind() == ErrorKind::AddrInUse => Port::Held(holder(address.port())),
        Err(error) => Port::Refused(error),
    }
}

/// The process that has a listening socket on this port.
fn holder(port: u16) -> Option<(u32, String)> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(fs::read_to_string);
    let inodes: HashSet<String> =
        tables.iter().flatten().flat_map(|text| listening(text, port)).collect();
    let wanted: HashSet<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        has_one_of(&entry.path(), &wanted).then(|| (pid, name_of(&entry.path())))
    })
}

/// Inodes of the sockets that listen on `port`, in the text of `/proc/net/tcp` (proc_net(5)).
fn listening(text: &str, port: u16) -> Vec<String> {
    /// `TCP_LISTEN`
    const LISTEN: &str = "0A";
    let of_line = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (_, local) = fields.get(1)?.rsplit_once(':')?;
        let same = u16::from_str_radix(local, 16) == Ok(port) && *fields.get(3)? == LISTEN;
        same.then(|| fields.get(9).map(|inode| (*inode).to_owned())).flatten()
    };
    text.lines().filter_map(of_line).collect()
}

fn has_one_of(process: &Path, wanted: &HashSet<String>) -> bool {
    let files = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    files.into_iter().any(|file| {
        let target = fs::read_link(file.path()).ok();
        target.and_then(|target| target.to_str().map(|text| wanted.contains(text))).unwrap_or(false)
    })
}

fn name_of(process: &Path) -> String {
    fs::read_to_string(process.join("comm")).unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what it expects")]
    use super::*;

    #[test]
    fn whoever_listens_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let Port::Held(Some((pid, _))) = look(address) else { panic!("{:?}", look(address)) };
        assert_eq!(pid, std::process::id());
        drop(listener);
        assert!(matches!(look(address), Port::Free));
    }

    #[test]
    fn only_listening_sockets_of_that_port_count() {
        let text = "  sl  local_address rem_address   st\n\
            0: 0100007F:1E99 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0 0 4711 1\n\
            1: 0100007F:1E99 0100007F:9999 01 00000000:00000000 00:00000000 00000000  0 0 4712 1\n\
            2: 0100007F:1E98 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0 0 4713 1\nrubbish\n";
        assert_eq!(listening(text, 7833), ["4711"]);
    }
}
