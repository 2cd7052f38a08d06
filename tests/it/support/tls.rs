//! An authority of a test's own, certificates that it signs, and a client that shows what it was shown.

use super::{Plain, Site, secs};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use serde_json::{Value, json};
use std::{
    io::{self, Read as _, Write as _},
    net::TcpStream,
    sync::Arc,
};

/// See the module.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        Self::named("an authority of the tests")
    }

    pub(crate) fn named(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("an authority"))
    }

    /// Its own certificate as a file.
    pub(crate) fn bundle(&self, site: &Site) -> Value {
        let path = site.path("ca.pem");
        std::fs::write(&path, self.0.pem()).expect("the bundle is written");
        json!(path)
    }

    /// Writes a certificate for loopback and its key; what a configuration's `tls` has.
    pub(crate) fn issue(&self, site: &Site, name: &str) -> Value {
        self.issue_for(site, name, &["localhost", "127.0.0.1"], 4096)
    }

    /// Likewise for others, good until the beginning of this year.
    pub(crate) fn issue_for(&self, site: &Site, name: &str, hosts: &[&str], until: i32) -> Value {
        let names: Vec<_> = hosts.iter().map(|&host| host.to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let signed = params.signed_by(&key, &self.0).expect("a certificate");
        let (cert_file, key_file) = (format!("{name}.cert.pem"), format!("{name}.key.pem"));
        std::fs::write(site.path(&cert_file), signed.pem()).expect("the certificate is written");
        let key_file = site.secret(&key_file, &key.serialize_pem());
        json!({"cert_file": site.path(&cert_file), "key_file": key_file})
    }

    /// A client that trusts it alone.
    pub(crate) fn trusting(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        let own = CertificateDer::from_pem_slice(self.0.pem().as_bytes()).expect("a certificate");
        roots.add(own).expect("it is trusted");
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Arc::new(config)
    }
}

/// A connection, and the certificate that the server showed on it.
pub(crate) struct TlsConnection {
    stream: StreamOwned<ClientConnection, TcpStream>,
    address: String,
}

impl TlsConnection {
    /// Connects and shakes hands.
    pub(crate) fn open(address: &str, config: &Arc<ClientConfig>) -> io::Result<Self> {
        let name = ServerName::try_from("localhost").expect("a name");
        let connection =
            ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        let socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(secs(20)))?;
        let mut stream = StreamOwned::new(connection, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Self { stream, address: address.to_owned() })
    }

    /// What the server showed.
    pub(crate) fn certificate(&self) -> Vec<u8> {
        self.stream.conn.peer_certificates().expect("a certificate")[0].to_vec()
    }

    /// The version that was agreed on.
    pub(crate) fn version(&self) -> rustls::ProtocolVersion {
        self.stream.conn.protocol_version().expect("a version")
    }

    /// A request whose answer is small, on this connection.
    pub(crate) fn get(&mut self, path: &str, headers: &[(&str, &str)]) -> io::Result<Plain> {
        self.send("GET", path, headers, "")
    }

    /// Likewise.
    pub(crate) fn post(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> io::Result<Plain> {
        self.send("POST", path, headers, body)
    }

    fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> io::Result<Plain> {
        let text = super::plain_request(&self.address, method, path, headers, body);
        self.stream.write_all(text.as_bytes())?;
        let mut answer = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&answer).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|line| {
                    line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok()
                });
                if length.is_some_and(|length: usize| body.len() >= length) {
                    return Ok(Plain::parse(&text));
                }
            }
            let mut part = [0; 4096];
            match self.stream.read(&mut part)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => answer.extend(&part[..count]),
            }
        }
    }
}
