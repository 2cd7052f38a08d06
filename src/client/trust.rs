//! Whom the client believes where an address is `https`, and what it says where it does not.
//!
//! Invariant: nothing is sent to a server whose certificate is not good for its name, and there is no way
//! around that. What went wrong is told with what to do about it.

use super::Failure;
use crate::platform::{
    secret_file::SecretFileError,
    tls::{Authorities, TlsError, trust_nobody},
};
use awc::{Client, Connector, error::SendRequestError};
use rustls::{CertificateError, Error as RustlsError, InvalidMessage};
use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

/// Whom to believe at `base`: those of the file, else those that are known already, else those that the
/// system trusts; `None` where it is not `https`.
pub(super) fn authorities(
    base: &str,
    file: Option<&Path>,
    known: Option<&Authorities>,
) -> Result<Option<Authorities>, Failure> {
    if !base.starts_with("https://") {
        return Ok(None);
    }
    let found = match (file, known) {
        (Some(path), _) => Authorities::read(path).map_err(|error| of_file(&error))?,
        (None, Some(known)) => known.clone(),
        (None, None) => Authorities::of_the_system().map_err(|error| {
            Failure::NotFound(format!("{error}; give the authorities with --ca-file FILE"))
        })?,
    };
    Ok(Some(found))
}

fn of_file(error: &TlsError) -> Failure {
    let message = format!("the authorities' file cannot be used: {error}");
    match error {
        TlsError::File(SecretFileError::Read { .. }) => Failure::NotFound(message),
        _ => Failure::Usage(message),
    }
}

/// Why a connection under TLS did not come about; `None` where TLS is not the reason.
pub(super) fn refusal(base: &str, file: Option<&PathBuf>, error: &io::Error) -> Option<String> {
    let plain = base.replacen("https://", "http://", 1);
    match error.get_ref().and_then(|inner| inner.downcast_ref::<RustlsError>()) {
        Some(RustlsError::InvalidCertificate(error)) => Some(of_certificate(base, file, error)),
        Some(RustlsError::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            Some(format!("what listens at {base} does not speak TLS: try --url {plain}"))
        }
        Some(error) => Some(format!("no TLS with {base}: {error}")),
        None if error.kind() == io::ErrorKind::UnexpectedEof => Some(format!(
            "what listens at {base} ended the TLS handshake: if it speaks plain HTTP, --url {plain}"
        )),
        None => None,
    }
}

fn of_certificate(base: &str, file: Option<&PathBuf>, error: &CertificateError) -> String {
    use CertificateError as E;
    let whose = format!("the certificate of {base}");
    match error {
        // The signature is bad where another authority has the same name, such as one that was made anew.
        E::UnknownIssuer | E::BadSignature => match file {
            Some(file) => format!(
                "{whose} is not trusted: no authority in {} has signed it; ask whoever runs it for the right file",
                file.display()
            ),
            None => format!(
                "{whose} is not trusted: no authority that this system trusts has signed it; name the one that has with --ca-file FILE, or in RBEE_CA_FILE"
            ),
        },
        E::NotValidForNameContext { expected, presented } => {
            let names: Vec<_> = presented.iter().map(|name| bare(name)).collect();
            let names = if names.is_empty() { "no name".into() } else { names.join(", ") };
            format!(
                "{whose} is for {names}, not for {}: say --url with a name that it has",
                expected.to_str()
            )
        }
        E::Expired | E::ExpiredContext { .. } => {
            format!("{whose} has expired: renew it there, or set this machine's clock")
        }
        E::NotValidYet | E::NotValidYetContext { .. } => {
            format!("{whose} is not valid yet: set this machine's clock, or that of its maker")
        }
        other => format!("{whose} cannot be used: {other}"),
    }
}

/// `DnsName("queen.example")` and `IpAddress(10.0.0.1)`, as people write them.
fn bare(presented: &str) -> &str {
    let inner = presented.split_once('(').map_or(presented, |(_, inner)| inner);
    inner.trim_end_matches(')').trim_matches('"')
}

/// Whether TLS is spoken where plain HTTP was tried. Nobody is believed: nothing is sent but a greeting.
pub(super) async fn is_spoken_at(base: &str, within: Duration) -> bool {
    let Ok(nobody) = trust_nobody() else { return false };
    let connector = Connector::new().timeout(within).handshake_timeout(within).rustls_0_23(nobody);
    let client = Client::builder().connector(connector).timeout(within).finish();
    let greeted = client.get(base.replacen("http://", "https://", 1)).send().await;
    let Err(SendRequestError::Connect(awc::error::ConnectError::Io(error))) = greeted else {
        return false;
    };
    let told = error.get_ref().and_then(|inner| inner.downcast_ref::<RustlsError>());
    told.is_some_and(|error| {
        matches!(error, RustlsError::InvalidCertificate(_) | RustlsError::AlertReceived(_))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(error: RustlsError, file: Option<&PathBuf>) -> Option<String> {
        refusal("https://h:1", file, &io::Error::other(error))
    }

    #[test]
    fn each_distrust_says_what_to_do() {
        let untrusted = || RustlsError::InvalidCertificate(CertificateError::UnknownIssuer);
        let file = PathBuf::from("/ca.pem");
        for (error, file, part) in [
            (untrusted(), None, "--ca-file FILE"),
            (untrusted(), Some(&file), "/ca.pem"),
            (RustlsError::InvalidCertificate(CertificateError::Expired), None, "expired"),
            (InvalidMessage::InvalidContentType.into(), None, "--url http://h:1"),
            (RustlsError::DecryptError, None, "no TLS with https://h:1"),
        ] {
            let told = told(error, file);
            assert!(told.as_ref().is_some_and(|told| told.contains(part)), "{told:?}");
        }
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert_eq!(refusal("https://h:1", None, &refused), None);
    }

    #[test]
    fn names_are_shown_as_people_write_them() {
        assert_eq!(bare("DnsName(\"queen.example\")"), "queen.example");
        assert_eq!(bare("IpAddress(10.0.0.1)"), "10.0.0.1");
        assert_eq!(bare("else"), "else");
    }
}
