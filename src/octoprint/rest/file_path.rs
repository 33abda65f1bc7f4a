//! Files of OctoPrint's storages, and the paths of calls about them (pure).

use url::Url;

use super::error::RestError;
use super::http::invalid_argument;

/// The names of the printer's own storage: before OctoPrint 2.0, and since.
const CARD: [&str; 2] = ["sdcard", "printer"];

/// A file by its storage and its path there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePath {
    origin: String,
    path: String,
}

impl FilePath {
    /// Parses `local/folder/part.gcode`, or `sdcard/PART.GCO` or `printer/PART.GCO`, which both name
    /// the printer's own storage in any version. Since OctoPrint 2.0 plugins may add storages, so any
    /// name is accepted: OctoPrint knows which there are. `None` if the text names no storage or a
    /// path outside of it.
    pub fn parse(text: &str) -> Option<Self> {
        let (origin, path) = text.split_once('/')?;
        let bad = |part: &str| {
            part.is_empty() || part == "." || part == ".." || part.chars().any(char::is_control)
        };
        if bad(origin) || path.split('/').any(bad) {
            return None;
        }
        Some(Self { origin: origin.to_owned(), path: path.to_owned() })
    }

    /// Returns the name of its storage.
    pub fn storage(&self) -> &str {
        &self.origin
    }

    /// Returns the path in its storage.
    pub fn path(&self) -> &str {
        &self.path
    }

    pub(super) fn by_other_name(&self) -> Option<Self> {
        CARD.contains(&self.origin.as_str()).then_some(())?;
        let origin = CARD.into_iter().find(|name| *name != self.origin)?;
        Some(Self { origin: origin.to_owned(), path: self.path.clone() })
    }

    /// Whether the file is in OctoPrint's own storage.
    pub fn is_local(&self) -> bool {
        self.origin == "local"
    }

    /// Returns the path of its calls below `base`, which ends with `/`, with each segment escaped.
    pub(super) fn call(&self, base: &Url) -> Result<String, RestError> {
        self.below(base, &["api", "files"])
    }

    /// Returns the path of a call below `base` and `parts`.
    pub(in crate::octoprint) fn below(
        &self,
        base: &Url,
        parts: &[&str],
    ) -> Result<String, RestError> {
        let mut url = base.clone();
        match url.path_segments_mut() {
            Ok(mut segments) => segments
                .pop_if_empty()
                .extend(parts)
                .push(&self.origin)
                .extend(self.path.split('/')),
            Err(()) => return Err(invalid_argument("api/files", "the base address has no path")),
        };
        Ok(url.path().get(base.path().len()..).unwrap_or_default().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_segment_of_a_file_path_is_escaped() {
        for (name, path) in [
            ("local/part.gcode", "local/part.gcode"),
            ("local/a b/Würfel.gcode", "local/a%20b/W%C3%BCrfel.gcode"),
            ("local/100%.gcode", "local/100%25.gcode"),
            ("local/%2e%2e/a", "local/%252e%252e/a"),
            ("local/why?.gcode", "local/why%3F.gcode"),
            ("local/#1 \\ 2.gcode", "local/%231%20%5C%202.gcode"),
            ("local/a/...b/..c", "local/a/...b/..c"),
            ("local/ a ", "local/%20a%20"),
            ("sdcard/A+B;C=&D.GCO", "sdcard/A+B;C=&D.GCO"),
            ("usb/a.gcode", "usb/a.gcode"),
            ("my usb?/a.gcode", "my%20usb%3F/a.gcode"),
        ] {
            let file = FilePath::parse(name).unwrap();
            for base in ["http://h/", "https://user:word@h:1/mk%203/octoprint/"] {
                let base = Url::parse(base).unwrap();
                let call = file.call(&base).unwrap();
                assert_eq!(call, format!("api/files/{path}"), "{name}");
                // What is sent is this path, and OctoPrint reads the name from it.
                let sent = Url::parse(&format!("{base}{call}")).unwrap();
                assert!(sent.path().ends_with(&call) && sent.query().is_none(), "{sent}");
                let read = percent_encoding::percent_decode_str(&call).decode_utf8().unwrap();
                assert_eq!(read, format!("api/files/{name}"));
            }
        }
        for name in [
            "local",
            "local/",
            "local/../x",
            "local/a//b",
            "local/a\nb",
            "/a",
            "./a",
            "../a",
            "u\nb/a",
        ] {
            assert_eq!(FilePath::parse(name), None, "{name}");
        }
    }

    #[test]
    fn the_printers_own_storage_has_two_names() {
        let file = |text| FilePath::parse(text).unwrap();
        assert_eq!(file("sdcard/A B.GCO").by_other_name(), Some(file("printer/A B.GCO")));
        assert_eq!(file("printer/d/a.gcode").by_other_name(), Some(file("sdcard/d/a.gcode")));
        for other in ["local/a.gcode", "usb/a.gcode"] {
            assert_eq!(file(other).by_other_name(), None);
        }
        let base = Url::parse("http://h/").unwrap();
        assert_eq!(file("printer/d/A B.GCO").call(&base).unwrap(), "api/files/printer/d/A%20B.GCO");
    }
}
