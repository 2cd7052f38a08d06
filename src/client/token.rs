//! The caller's token: from a file that only its owner can read, or from the environment. It is never
//! printed.

use super::Failure;
use crate::platform::secret_file::{self, SecretFileError};
use std::path::Path;

/// The variable that holds a token, for where there is no file.
const VARIABLE: &str = "RBEE_TOKEN";

/// The file's token, else the environment's, else none.
pub(super) fn find(file: Option<&Path>) -> Result<Option<String>, Failure> {
    match file {
        Some(path) => read(path).map(Some),
        None => match std::env::var(VARIABLE) {
            Ok(text) if !text.trim().is_empty() => checked(text.trim(), VARIABLE).map(Some),
            _ => Ok(None),
        },
    }
}

/// As the daemon reads its own: whatever stands in the file's place neither hangs nor fills the memory.
fn read(path: &Path) -> Result<String, Failure> {
    let shown = path.display();
    let token = secret_file::read_token(path).map_err(|error| match &error {
        SecretFileError::Read { source, .. } => {
            Failure::NotFound(format!("cannot read the token file {shown}: {source}"))
        }
        SecretFileError::Exposed { mode, .. } => Failure::Denied(format!(
            "others can read the token file {shown} (mode {mode:04o}): chmod 600 {shown}"
        )),
        SecretFileError::NotAFile(_) => {
            Failure::Usage(format!("the token file {shown} is no regular file"))
        }
        SecretFileError::TooLarge { .. } | SecretFileError::NoToken { .. } => {
            Failure::Usage(format!("the token file {error}"))
        }
    })?;
    Ok(token.expose().to_owned())
}

/// What can stand in a header.
fn checked(text: &str, origin: &str) -> Result<String, Failure> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        let message = format!("{origin} must hold one token: printable ASCII without blanks");
        return Err(Failure::Usage(message));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects")]
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt};

    #[test]
    fn only_a_file_that_others_cannot_read_is_taken() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "secret-1\n").unwrap();
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644)).unwrap();
        let refused = read(file.path()).unwrap_err();
        assert!(matches!(&refused, Failure::Denied(why) if why.contains("chmod 600")));
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(read(file.path()).unwrap(), "secret-1");
        for text in ["", " \n", "two words", "b\u{e9}e"] {
            fs::write(file.path(), text).unwrap();
            let error = read(file.path()).unwrap_err();
            assert!(matches!(error, Failure::Usage(_)), "{text:?}");
        }
    }
}
