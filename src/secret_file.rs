//! Files with secrets, which only their owner can read.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A draft of a file that only its owner can read. It replaces the file when it is saved: an older
/// one stays until then, whole.
#[derive(Debug)]
pub struct SecretFile {
    path: PathBuf,
    draft: PathBuf,
    file: File,
}

impl SecretFile {
    /// Opens a draft beside `path`.
    ///
    /// # Errors
    /// If the directory cannot be written.
    pub fn create(path: &Path) -> io::Result<Self> {
        let mut name = path.file_name().map(ToOwned::to_owned).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "this is no name of a file")
        })?;
        name.push(format!(".{}", std::process::id()));
        let draft = path.with_file_name(name);
        let file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        // A draft left behind by a process with the same id would keep its mode.
        file.set_permissions(Permissions::from_mode(0o600))?;
        Ok(Self { path: path.to_owned(), draft, file })
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes `text` and moves the draft into place.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save(mut self, text: &str) -> io::Result<()> {
        self.file.write_all(text.as_bytes())?;
        self.file.sync_all()?;
        std::fs::rename(&self.draft, &self.path)
    }
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        // Fails if it was saved.
        let _ = std::fs::remove_file(&self.draft);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_owner_can_read_it_and_an_older_one_stays_until_it_is_saved() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, "old").unwrap();
        drop(SecretFile::create(&path).unwrap());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
        SecretFile::create(&path).unwrap().save("NEW\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "NEW\n");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(SecretFile::create(&dir.path().join("none/key")).is_err());
    }
}
