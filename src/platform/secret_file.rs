//! Files whose content is nobody else's business: tokens and private keys.
//!
//! Invariant: a file that others can read is refused, and whatever stands in its place (a FIFO, a
//! device, something endless) neither hangs nor fills the memory. No error shows anything of a content.

use super::secret::Secret;
use crate::limits::TOKEN_MAX;
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};
use thiserror::Error;

/// Why a file is not taken.
#[derive(Debug, Error)]
pub enum SecretFileError {
    /// It cannot be read.
    #[error("cannot read {path}: {source}", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is something else than a file.
    #[error("{path} is not a regular file", path = .0.display())]
    NotAFile(PathBuf),
    /// Others have access to it.
    #[error("{path} has mode {mode:04o}, must be {allowed}", path = .path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// What would be taken.
        allowed: &'static str,
    },
    /// It is too large.
    #[error("{path} is larger than {most} bytes", path = .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// What is read at most, bytes.
        most: u64,
    },
    /// Its content is no token.
    #[error("{path} does not hold a token: {allowed}", path = .path.display())]
    NoToken {
        /// The file.
        path: PathBuf,
        /// What would be taken.
        allowed: &'static str,
    },
}

/// Who may have access to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Its owner.
    Owner,
    /// Its owner and its group, as certificates' keys are often kept.
    OwnerAndGroup,
    /// Everybody.
    Anyone,
}

impl Access {
    /// Permission bits that must not be set.
    fn refused(self) -> u32 {
        match self {
            Self::Owner => 0o077,
            Self::OwnerAndGroup => 0o027,
            Self::Anyone => 0,
        }
    }

    fn allowed(self) -> &'static str {
        match self {
            Self::Owner => "0600 or 0400: a secret is its owner's alone",
            Self::OwnerAndGroup => "0640, 0600 or stricter: a key is not for others",
            Self::Anyone => "anything",
        }
    }
}

/// Reads a token: one line of visible ASCII; a line's end after it does not count.
pub fn read_token(path: &Path) -> Result<Secret, SecretFileError> {
    let bytes = read(path, Access::Owner, 4 * TOKEN_MAX as u64)?;
    let no_token = |allowed| SecretFileError::NoToken { path: path.to_path_buf(), allowed };
    let text = String::from_utf8(bytes).map_err(|_| no_token(TOKEN_FORM))?;
    token(&text).map_err(no_token)
}

/// What a token looks like.
const TOKEN_FORM: &str = "must be 1 to 256 visible ASCII characters on one line";

/// A token from text.
pub fn token(text: &str) -> Result<Secret, &'static str> {
    let text = text.trim_end_matches(['\r', '\n']);
    let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
    if visible && (1..=TOKEN_MAX).contains(&text.len()) {
        Ok(Secret::new(text))
    } else {
        Err(TOKEN_FORM)
    }
}

/// Reads a file of at most `most` bytes that nobody but those of `access` can reach.
pub fn read(path: &Path, access: Access, most: u64) -> Result<Vec<u8>, SecretFileError> {
    let failed = |source| SecretFileError::Read { path: path.to_path_buf(), source };
    // A FIFO does not block such an open, and then is none of what is read.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let fd = open(path, flags, Mode::empty()).map_err(|errno| failed(errno.into()))?;
    let stat = fstat(&fd).map_err(|errno| failed(errno.into()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(SecretFileError::NotAFile(path.to_path_buf()));
    }
    let mode = stat.st_mode & 0o7777;
    if mode & access.refused() != 0 {
        let (path, allowed) = (path.to_path_buf(), access.allowed());
        return Err(SecretFileError::Exposed { path, mode, allowed });
    }
    let mut bytes = Vec::new();
    File::from(fd).take(most + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > most {
        return Err(SecretFileError::TooLarge { path: path.to_path_buf(), most });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects")]
    use super::*;
    use nix::{sys::stat, unistd::mkfifo};
    use std::{fs, os::unix::fs::PermissionsExt as _};

    fn file(content: &[u8], mode: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), content).unwrap();
        fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
        file
    }

    #[test]
    fn a_token_is_one_line_and_its_end_does_not_count() {
        for content in ["secret", "secret\n", "secret\r\n"] {
            let file = file(content.as_bytes(), 0o600);
            assert_eq!(read_token(file.path()).unwrap().expose(), "secret");
        }
        let long = [b'x'; TOKEN_MAX + 1];
        for content in
            [&b""[..], b"\n", b"a b", b"a\nb", b"\xff\xfe", b"t\0", "é".as_bytes(), &long]
        {
            let error = read_token(file(content, 0o600).path()).unwrap_err();
            assert!(matches!(error, SecretFileError::NoToken { .. }), "{content:?}: {error}");
        }
    }

    #[test]
    fn what_others_can_read_is_refused_and_told_with_its_mode() {
        for mode in [0o644, 0o640, 0o604, 0o660, 0o601] {
            let file = file(b"secret", mode);
            let error = read_token(file.path()).unwrap_err().to_string();
            assert!(error.contains(&format!("{mode:04o}")) && error.contains("0600"), "{error}");
            assert!(error.contains(file.path().to_str().unwrap()), "{error}");
        }
        assert!(read_token(file(b"secret", 0o400).path()).is_ok());
        assert!(read(file(b"key", 0o640).path(), Access::OwnerAndGroup, 9).is_ok());
        assert!(read(file(b"key", 0o644).path(), Access::OwnerAndGroup, 9).is_err());
        assert!(read(file(b"key", 0o644).path(), Access::Anyone, 9).is_ok());
    }

    #[test]
    fn what_is_no_file_or_has_no_end_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        mkfifo(&fifo, stat::Mode::S_IRUSR | stat::Mode::S_IWUSR).unwrap();
        for path in [fifo.as_path(), dir.path(), "/dev/zero".as_ref()] {
            assert!(matches!(read_token(path), Err(SecretFileError::NotAFile(_))), "{path:?}");
        }
        let huge = file(b"", 0o600);
        huge.as_file().set_len(1 << 40).unwrap();
        let refused = read_token(huge.path());
        assert!(matches!(refused, Err(SecretFileError::TooLarge { .. })));
        assert!(matches!(read_token(&dir.path().join("x")), Err(SecretFileError::Read { .. })));
    }
}
