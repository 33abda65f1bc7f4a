//! Reads OctoPrint's list of files: their paths, and the free space (pure).

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::bridge::printer::snapshot::json::{MAX_BYTES, Raw, member, number, object};
use crate::bridge::printer::snapshot::{Space, Storages};
use crate::homeassistant::MOST_FILES;

/// The files of OctoPrint.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Listing {
    /// Printable files, such as `local/part.gcode`; `None` if too many or not visible to this user.
    pub paths: Option<Vec<String>>,
    /// Space of the storages.
    pub storages: Storages,
}

/// The files of one storage; before OctoPrint 2.0, of all of them.
#[derive(Deserialize, Default)]
struct StorageMember<'a> {
    #[serde(borrow, default)]
    files: Raw<'a>,
    /// Free and total space of `local` in bytes, before OctoPrint 2.0.
    #[serde(borrow, default)]
    free: Raw<'a>,
    #[serde(borrow, default)]
    total: Raw<'a>,
    #[serde(borrow, default)]
    usage: Raw<'a>,
}

/// Each member is decoded separately: a malformed one loses its file and not the list.
#[derive(Deserialize, Default)]
struct FileEntry<'a> {
    #[serde(borrow, default)]
    r#type: Raw<'a>,
    #[serde(borrow, default)]
    origin: Raw<'a>,
    #[serde(borrow, default)]
    path: Raw<'a>,
    #[serde(borrow, default)]
    children: Raw<'a>,
}

impl StorageMember<'_> {
    fn space(&self) -> Option<Space> {
        #[derive(Deserialize, Default)]
        struct Usage<'a> {
            #[serde(borrow, default)]
            free: Raw<'a>,
            #[serde(borrow, default)]
            total: Raw<'a>,
        }
        let usage: Usage<'_> = object(self.usage);
        // Within bounds, so the conversion is exact.
        let bytes = |raw| number(raw, (0.0, MAX_BYTES)).map(|number| number.round() as u64);
        let space = Space {
            free: bytes(self.free.or(usage.free)),
            total: bytes(self.total.or(usage.total)),
        };
        (space != Space::default()).then_some(space)
    }
}

impl Listing {
    /// Reads the answer to `GET /api/files`; the sorted paths only with `all`, and unless they are
    /// more than [`MOST_FILES`]. `None` if it is not readable.
    pub fn read(body: &[u8], all: bool) -> Option<Self> {
        let whole: &RawValue = serde_json::from_slice(body).ok()?;
        let old_format: StorageMember<'_> = object(Some(whole));
        let is_old = old_format.files.is_some();
        let members = match is_old {
            true => vec![("local".to_owned(), old_format)],
            false => {
                let members: BTreeMap<String, &RawValue> = member(Some(whole))?;
                members.into_iter().map(|(name, raw)| (name, object(Some(raw)))).collect()
            }
        };
        let mut entries = Vec::new();
        for (name, of) in members.iter().filter(|_| all) {
            // OctoPrint's own kind of storage gives its files the origin `local`, whatever its name is.
            let storage = (!is_old).then_some(name.as_str());
            let files = member::<Vec<&RawValue>>(of.files).into_iter().flatten();
            entries.extend(files.map(|entry| (storage, entry)));
        }
        let paths = if all { paths(entries) } else { None };
        let space = |name: &str| members.iter().find(|(of, _)| of == name)?.1.space();
        let storages = Storages { local: space("local"), printer: space("printer") };
        Some(Self { paths, storages })
    }
}

/// Returns the sorted paths of entries, each with its storage if that is known; `None` for more than
/// [`MOST_FILES`].
fn paths(mut entries: Vec<(Option<&str>, &RawValue)>) -> Option<Vec<String>> {
    let mut paths = Vec::new();
    while let Some((storage, entry)) = entries.pop() {
        let FileEntry { r#type, origin, path, children } = object(Some(entry));
        let is_printable = member::<Cow<'_, str>>(r#type).is_some_and(|kind| kind == "machinecode");
        let origin = storage.map(Cow::Borrowed).or_else(|| member::<Cow<'_, str>>(origin));
        let location = origin.zip(member::<Cow<'_, str>>(path));
        if let (true, Some((origin, path))) = (is_printable, location) {
            paths.push(format!("{origin}/{path}"));
        }
        let children = member::<Vec<&RawValue>>(children).into_iter().flatten();
        entries.extend(children.map(|entry| (storage, entry)));
    }
    paths.sort();
    paths.dedup();
    (paths.len() <= MOST_FILES).then_some(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(body: &[u8]) -> Option<Vec<String>> {
        Listing::read(body, true)?.paths
    }

    fn space(free: u64, total: u64) -> Space {
        Space { free: Some(free), total: Some(total) }
    }

    #[test]
    fn files_of_all_folders_and_nothing_else() {
        let body = br#"{"files":[
            {"type":"folder","origin":"local","path":"a","children":[
                {"type":"machinecode","origin":"local","path":"a/two.gcode"},
                {"type":"folder","origin":"local","path":"a/b","children":[]}]},
            {"type":"machinecode","origin":"sdcard","path":"ONE.GCO"},
            {"type":"model","origin":"local","path":"part.stl"}],"free":1,"total":5}"#;
        assert_eq!(files(body).unwrap(), ["local/a/two.gcode", "sdcard/ONE.GCO"]);
        let listing = Listing::read(body, false).unwrap();
        assert_eq!(listing.paths, None);
        assert_eq!(listing.storages.local, Some(space(1, 5)));
        let entry = |n| format!(r#"{{"type":"machinecode","origin":"local","path":"{n}"}}"#);
        let many: Vec<String> = (0..=MOST_FILES).map(entry).collect();
        assert_eq!(files(format!("{{\"files\":[{}]}}", many.join(",")).as_bytes()), None);
        assert_eq!(files(b"<html>"), None);
    }

    #[test]
    fn each_storage_of_2_0_has_its_own_files_and_space() {
        let body = br#"{
            "local":{"key":"local","usage":{"free":7,"total":9},
                "files":[{"type":"machinecode","origin":"local","path":"a.gcode"}]},
            "printer":{"key":"printer","usage":null,
                "files":[{"type":"machinecode","origin":"printer","path":"b.gco"}]},
            "usb":{"key":"usb","files":[{"type":"folder","origin":"local","path":"d","children":
                [{"type":"machinecode","origin":"local","path":"d/c.gcode"}]}]},"odd":5}"#;
        let listing = Listing::read(body, true).unwrap();
        assert_eq!(listing.paths.unwrap(), ["local/a.gcode", "printer/b.gco", "usb/d/c.gcode"]);
        assert_eq!(listing.storages, Storages { local: Some(space(7, 9)), printer: None });
        // As it was recorded.
        let lines = include_str!("../../../../tests/captures/octoprint2_rest.jsonl").lines();
        let recorded = lines.map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let mut answers = recorded.filter(|line| line["path"] == "/api/files?recursive=true");
        let (old, new) = (answers.next().unwrap(), answers.next().unwrap());
        let read = |answer: &serde_json::Value| {
            Listing::read(answer["response"].to_string().as_bytes(), true).unwrap()
        };
        let (old, new) = (read(&old), read(&new));
        let known = |Storages { local, printer }: Storages| (local.is_some(), printer.is_some());
        assert_eq!((&old.paths, known(old.storages)), (&new.paths, known(new.storages)));
        assert!(new.paths.unwrap().contains(&"local/part.gcode".to_owned()));
    }

    #[test]
    fn a_malformed_size_does_not_affect_the_other() {
        let read = |usage: &str| {
            let body = format!(r#"{{"local":{{"usage":{usage},"files":[]}}}}"#);
            Listing::read(body.as_bytes(), false).unwrap().storages.local
        };
        let free = Some(Space { free: Some(5), total: None });
        for usage in [r#"{"free":5,"total":null}"#, r#"{"free":5}"#, r#"{"free":5,"total":-1}"#] {
            assert_eq!(read(usage), free, "{usage}");
        }
        for usage in ["[7,9]", "null", r#"{"free":1e300,"total":"9"}"#] {
            assert_eq!(read(usage), None, "{usage}");
        }
    }

    #[test]
    fn a_malformed_entry_does_not_affect_others() {
        let body = br#"{"files":[null,5,{"type":"machinecode","origin":null,"path":"x"},
            {"type":"machinecode","origin":"local","path":["a","b"]},{"type":"folder","children":7},
            {"type":"machinecode","origin":"local","path":"b\ufffd.gcode","size":null},
            {"type":"machinecode","origin":"local","path":"good.gcode"}]}"#;
        assert_eq!(files(body).unwrap(), ["local/b\u{fffd}.gcode", "local/good.gcode"]);
    }
}
