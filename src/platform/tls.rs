//! TLS: certificates from files, a server's configuration whose certificate can be changed while it
//! runs, and a client's that trusts one bundle of authorities, or those of the system.
//!
//! Invariant: an [`Identity`] is a chain and the key that fits it; nothing else is ever served. Versions
//! below 1.2 are not spoken.

use super::secret_file::{self, Access, SecretFileError};
use crate::limits::PEM_MAX;
use arc_swap::ArcSwap;
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};
use thiserror::Error;

/// Why there is no TLS.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file is not taken.
    #[error(transparent)]
    File(#[from] SecretFileError),
    /// It holds no certificate.
    #[error("{path} holds no certificate in PEM", path = .0.display())]
    NoCertificate(PathBuf),
    /// It holds no private key.
    #[error("{path} holds no private key in PEM", path = .0.display())]
    NoKey(PathBuf),
    /// Certificate and key are not a pair, or of a kind that is not supported.
    #[error("{cert} and {key} cannot be used: {reason}", cert = .cert.display(), key = .key.display())]
    Unusable {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What the library says; nothing of a key.
        reason: rustls::Error,
    },
    /// A certificate of a bundle is not one.
    #[error("{path} holds a certificate that cannot be used: {reason}", path = .path.display())]
    BadAuthority {
        /// The bundle.
        path: PathBuf,
        /// Why.
        reason: rustls::Error,
    },
    /// The system has no bundle of its own, or none that can be used.
    #[error(
        "this system has no certificates of authorities that it trusts (often the package ca-certificates): {0}"
    )]
    NoSystemAuthorities(String),
}

/// A server's certificate chain and its key.
#[derive(Clone)]
pub struct Identity(Arc<CertifiedKey>);

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity")
    }
}

impl Identity {
    /// Reads both files, and sees whether they fit.
    pub fn read(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        let chain = certificates(cert)?;
        let pem = secret_file::read(key, Access::OwnerAndGroup, PEM_MAX)?;
        let der =
            PrivateKeyDer::from_pem_slice(&pem).map_err(|_| TlsError::NoKey(key.to_path_buf()))?;
        let certified = CertifiedKey::from_der(chain, der, &provider()).map_err(|reason| {
            TlsError::Unusable { cert: cert.to_path_buf(), key: key.to_path_buf(), reason }
        })?;
        Ok(Self(Arc::new(certified)))
    }
}

/// What a server shows. A change counts for connections from then on; those that are there go on.
#[derive(Debug)]
pub struct CurrentIdentity(ArcSwap<CertifiedKey>);

impl CurrentIdentity {
    /// To begin with.
    pub fn new(identity: Identity) -> Arc<Self> {
        Arc::new(Self(ArcSwap::new(identity.0)))
    }

    /// From now on.
    pub fn change(&self, identity: Identity) {
        self.0.store(identity.0);
    }

    /// For a server.
    pub fn server_config(self: &Arc<Self>) -> Result<ServerConfig, rustls::Error> {
        let resolver: Arc<dyn ResolvesServerCert> = Arc::clone(self) as _;
        Ok(ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(resolver))
    }
}

impl ResolvesServerCert for CurrentIdentity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

/// Whom a client trusts: some authorities, and nobody else. A copy is changed with it.
#[derive(Clone)]
pub struct Authorities {
    config: Arc<ClientConfig>,
    judge: Arc<Judge>,
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authorities")
    }
}

impl Authorities {
    /// Those of one file.
    pub fn read(path: &Path) -> Result<Self, TlsError> {
        let bad = |reason| TlsError::BadAuthority { path: path.to_path_buf(), reason };
        let mut roots = RootCertStore::empty();
        for certificate in certificates(path)? {
            roots.add(certificate).map_err(bad)?;
        }
        Self::of(roots).map_err(bad)
    }

    /// Those that this system trusts: of `SSL_CERT_FILE` or `SSL_CERT_DIR`, else where distributions keep them.
    pub fn of_the_system() -> Result<Self, TlsError> {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        // Among hundreds there may be one that is too old to be understood.
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            let errors: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
            return Err(TlsError::NoSystemAuthorities(errors.join(", ")));
        }
        Self::of(roots).map_err(|error| TlsError::NoSystemAuthorities(error.to_string()))
    }

    fn of(roots: RootCertStore) -> Result<Self, rustls::Error> {
        let judge = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        let judge = Arc::new(Judge(ArcSwap::new(judge)));
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&judge) as _)
            .with_no_client_auth();
        // A session that is taken up again is not judged again.
        config.resumption = Resumption::disabled();
        Ok(Self { config: Arc::new(config), judge })
    }

    /// Trusts whom `others` trust, for connections from now on.
    pub fn change(&self, others: &Self) {
        self.judge.0.store(others.judge.0.load_full());
    }

    /// For a client.
    pub fn client_config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }
}

/// For a client that trusts nobody: no handshake succeeds, but it shows whether the other side speaks TLS.
pub fn trust_nobody() -> Result<Arc<ClientConfig>, rustls::Error> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// The library's own judgement, by the authorities of the moment.
#[derive(Debug)]
struct Judge(ArcSwap<WebPkiServerVerifier>);

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let judge = self.0.load();
        judge.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.load().verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.load().verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.load().supported_verify_schemes()
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let none = || TlsError::NoCertificate(path.to_path_buf());
    let pem = secret_file::read(path, Access::Anyone, PEM_MAX)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    found.ok().filter(|found| !found.is_empty()).ok_or_else(none)
}

/// ring: it builds in seconds with a C compiler alone.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects")]
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt as _};

    struct Pair {
        dir: tempfile::TempDir,
    }

    impl Pair {
        fn new() -> Self {
            let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
            let pair = Self { dir: tempfile::tempdir().unwrap() };
            fs::write(pair.cert(), made.cert.pem()).unwrap();
            fs::write(pair.key(), made.signing_key.serialize_pem()).unwrap();
            fs::set_permissions(pair.key(), fs::Permissions::from_mode(0o600)).unwrap();
            pair
        }

        fn cert(&self) -> PathBuf {
            self.dir.path().join("cert.pem")
        }

        fn key(&self) -> PathBuf {
            self.dir.path().join("key.pem")
        }
    }

    #[test]
    fn a_pair_is_taken_and_two_halves_of_two_pairs_are_not() {
        let (one, other) = (Pair::new(), Pair::new());
        let identity = Identity::read(&one.cert(), &one.key()).unwrap();
        assert!(CurrentIdentity::new(identity).server_config().is_ok());
        let mixed = Identity::read(&one.cert(), &other.key());
        assert!(matches!(mixed, Err(TlsError::Unusable { .. })), "{mixed:?}");
        let swapped = Identity::read(&one.key(), &one.cert());
        assert!(swapped.is_err());
        assert!(Authorities::read(&one.cert()).is_ok());
        assert!(matches!(Authorities::read(&one.key()), Err(TlsError::NoCertificate(_))));
    }

    #[test]
    fn a_key_that_everybody_can_read_is_refused() {
        let pair = Pair::new();
        fs::set_permissions(pair.key(), fs::Permissions::from_mode(0o644)).unwrap();
        let refused = Identity::read(&pair.cert(), &pair.key());
        assert!(matches!(refused, Err(TlsError::File(SecretFileError::Exposed { .. }))));
    }

    #[test]
    fn rubbish_between_the_lines_is_refused() {
        let pair = Pair::new();
        for content in
            ["", "nonsense", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"]
        {
            fs::write(pair.cert(), content).unwrap();
            assert!(Identity::read(&pair.cert(), &pair.key()).is_err(), "{content}");
            assert!(Authorities::read(&pair.cert()).is_err(), "{content}");
        }
    }
}
