//! The printers that were added on the page or over MQTT: `printers.toml` in `data_dir`, in the form of
//! the configuration file. Only its owner can read it, because it holds their keys.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use toml::{Table, Value};
use url::Url;

use crate::secret::Secret;
use crate::secret_file::SecretFile;

const HEADER: &str = "# Written by octoprint2mqtt: the printers that were added on its page or over MQTT.\n# The configuration file and variables win over this file. Comments do not stay.\n\n";

/// Why the added printers were not changed.
#[derive(Debug, thiserror::Error)]
pub enum AddedError {
    /// The file cannot be read or written.
    #[error("{path}")]
    Io {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The file is no TOML. The error is not shown, since the file holds keys.
    #[error("{0}: the file is not as the bridge writes it; mend or remove it")]
    Shape(String),
    /// There is no such printer in it.
    #[error("no printer {0:?} was added on the page or over MQTT")]
    Unknown(String),
    /// There is one with this id.
    #[error("a printer {0:?} was added already")]
    Exists(String),
}

/// A printer to add.
#[derive(Debug, Clone)]
pub struct NewPrinter {
    /// Its id.
    pub id: String,
    /// Its name for people.
    pub name: String,
    /// Address of OctoPrint, without user and password.
    pub url: Url,
    /// User and password for a proxy, as `Authorization` has it.
    pub authorization: Option<Secret>,
    /// The application key.
    pub api_key: Secret,
}

/// The file with the printers that were added.
#[derive(Debug, Clone)]
pub struct AddedPrinters(PathBuf);

impl AddedPrinters {
    /// The file in `data_dir`.
    pub fn in_dir(data_dir: &Path) -> Self {
        Self(Self::path_in(data_dir))
    }

    pub(super) fn path_in(data_dir: &Path) -> PathBuf {
        data_dir.join("printers.toml")
    }

    /// Checks that the file can be written, before somebody is asked to click.
    ///
    /// # Errors
    /// If it cannot.
    pub fn check(&self) -> Result<(), AddedError> {
        self.draft().map(drop)
    }

    /// Adds a printer.
    ///
    /// # Errors
    /// If there is one with its id, or the file cannot be changed.
    pub fn add(&self, new: &NewPrinter) -> Result<(), AddedError> {
        self.change(|printers| {
            if printers.contains_key(&new.id) {
                return Err(AddedError::Exists(new.id.clone()));
            }
            let mut printer = Table::new();
            let mut set = |key: &str, value: &str| printer.insert(key.to_owned(), value.into());
            set("name", &new.name);
            set("url", new.url.as_str());
            set("api_key", new.api_key.expose());
            if let Some(authorization) = &new.authorization {
                let mut headers = Table::new();
                headers.insert("authorization".to_owned(), authorization.expose().into());
                let mut socket = Table::new();
                socket.insert("headers".to_owned(), headers.into());
                printer.insert("socket".to_owned(), socket.into());
            }
            printers.insert(new.id.clone(), printer.into());
            Ok(())
        })
    }

    /// Removes a printer.
    ///
    /// # Errors
    /// If it is not one of those, or the file cannot be changed.
    pub fn remove(&self, id: &str) -> Result<(), AddedError> {
        self.change(|printers| {
            printers.remove(id).map(drop).ok_or_else(|| AddedError::Unknown(id.to_owned()))
        })
    }

    /// Renames a printer.
    ///
    /// # Errors
    /// If it is not one of those, or the file cannot be changed.
    pub fn rename(&self, id: &str, name: &str) -> Result<(), AddedError> {
        self.change_one(id, |printer| drop(printer.insert("name".to_owned(), name.into())))
    }

    /// Enables or disables groups of commands.
    ///
    /// # Errors
    /// If the printer is not one of those, or the file cannot be changed.
    pub fn set_groups(&self, id: &str, groups: &BTreeMap<String, bool>) -> Result<(), AddedError> {
        self.change_one(id, |printer| {
            let commands = printer.entry("commands").or_insert_with(|| Table::new().into());
            if let Value::Table(commands) = commands {
                commands.extend(groups.iter().map(|(group, on)| (group.clone(), (*on).into())));
            }
        })
    }

    fn change_one(&self, id: &str, change: impl FnOnce(&mut Table)) -> Result<(), AddedError> {
        self.change(|printers| match printers.get_mut(id) {
            Some(Value::Table(printer)) => {
                change(printer);
                Ok(())
            }
            _ => Err(AddedError::Unknown(id.to_owned())),
        })
    }

    fn change(
        &self,
        change: impl FnOnce(&mut Table) -> Result<(), AddedError>,
    ) -> Result<(), AddedError> {
        let draft = self.draft()?;
        let mut file = self.read()?;
        let printers = file.entry("printers").or_insert_with(|| Table::new().into());
        let Value::Table(printers) = printers else { return Err(self.shape()) };
        change(printers)?;
        let text = toml::to_string(&file).map_err(|_| self.shape())?;
        draft.save(&format!("{HEADER}{text}")).map_err(|source| self.io(source))
    }

    fn read(&self) -> Result<Table, AddedError> {
        match std::fs::read_to_string(&self.0) {
            Ok(text) => text.parse().map_err(|_| self.shape()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Table::new()),
            Err(error) => Err(self.io(error)),
        }
    }

    fn draft(&self) -> Result<SecretFile, AddedError> {
        SecretFile::create(&self.0).map_err(|source| self.io(source))
    }

    fn io(&self, source: io::Error) -> AddedError {
        AddedError::Io { path: self.0.display().to_string(), source }
    }

    fn shape(&self) -> AddedError {
        AddedError::Shape(self.0.display().to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config;

    fn new(id: &str) -> NewPrinter {
        NewPrinter {
            id: id.to_owned(),
            name: "A \"printer\"".to_owned(),
            url: format!("http://{id}.local/").parse().unwrap(),
            authorization: None,
            api_key: Secret::new("KEY"),
        }
    }

    #[test]
    fn what_was_added_is_read_and_stays_secret() {
        let dir = tempfile::tempdir().unwrap();
        let added = AddedPrinters::in_dir(dir.path());
        added.check().unwrap();
        added
            .add(&NewPrinter { authorization: Some(Secret::new("Basic eA==")), ..new("mk3") })
            .unwrap();
        added.add(&new("mini")).unwrap();
        assert!(matches!(added.add(&new("mini")), Err(AddedError::Exists(_))));
        added.rename("mk3", "Other").unwrap();
        added.set_groups("mk3", &BTreeMap::from([("gcode".to_owned(), true)])).unwrap();
        let path = dir.path().join("printers.toml");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let text = format!("data_dir = {:?}\n", dir.path());
        let config = config::from_toml(&text).unwrap();
        let [mini, mk3] = &config.printers[..] else { panic!("two printers") };
        assert_eq!((mk3.name.as_str(), mk3.added, mk3.commands.gcode), ("Other", true, true));
        assert!(mk3.socket.headers.contains_key("authorization"));
        assert_eq!(mini.name, "A \"printer\"");
        added.remove("mk3").unwrap();
        assert!(matches!(added.remove("mk3"), Err(AddedError::Unknown(_))));
        assert!(matches!(added.rename("mk3", "x"), Err(AddedError::Unknown(_))));
        assert_eq!(config::from_toml(&text).unwrap().all_printers, ["mini"]);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no drafts");
    }

    #[test]
    fn the_file_and_variables_win_which_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let added = AddedPrinters::in_dir(dir.path());
        for id in ["my_mk3", "b", "c", "d"] {
            added.add(&new(id)).unwrap();
        }
        let text = format!(
            "data_dir = {:?}\n[printers.my-mk3]\nurl = \"http://x/\"\napi_key = \"K\"\n[printers.z]\nurl = \"http://c.local\"\napi_key = \"K\"\n",
            dir.path()
        );
        let of_environment = [("URL", "http://y/"), ("API_KEY", "K")]
            .map(|(key, value)| (format!("OCTOPRINT2MQTT__PRINTERS__B__{key}"), value.to_owned()));
        let loaded = config::load_text("config.toml", &text, of_environment).unwrap();
        assert_eq!(loaded.config.all_printers, ["b", "d", "my-mk3", "z"]);
        let is_added = |printer: &std::sync::Arc<config::Printer>| printer.added;
        assert_eq!(
            loaded.config.printers.iter().map(is_added).collect::<Vec<_>>(),
            [false, true, false, false]
        );
        let said = loaded.warnings.join("\n");
        for part in [
            "printers.my_mk3 is not used, because config.toml has",
            "printers.b is not used, because the environment has",
            "printers.c is not used, because printers.z has its url",
        ] {
            assert!(said.contains(part), "{said}");
        }
        assert!(loaded.files.contains(&dir.path().join("printers.toml")));
    }

    #[test]
    fn a_file_that_somebody_broke_is_reported_by_its_name_and_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("printers.toml");
        let added = AddedPrinters::in_dir(dir.path());
        let text = format!("data_dir = {:?}\n", dir.path());
        for (broken, part) in [
            ("[printers.a\napi_key = \"MARKER\"", "no TOML"),
            ("[mqtt]\nurl = \"mqtt://x\"", "mqtt: found a key that does not exist"),
            ("printers = 1", "printers: found no table"),
            ("[printers.a]\nurl = \"http://a\"", "printers.a.api_key"),
        ] {
            std::fs::write(&path, broken).unwrap();
            let error = config::from_toml(&text).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("printers.toml: "), "{error}");
            assert!(!error.contains("MARKER"), "{error}");
        }
        std::fs::write(&path, "printers = 1").unwrap();
        assert!(matches!(added.add(&new("a")), Err(AddedError::Shape(_))));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "printers = 1");
    }
}
