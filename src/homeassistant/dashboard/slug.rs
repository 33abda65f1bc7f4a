//! Makes slugs of names as Home Assistant does for entity ids (pure).
//!
//! Home Assistant uses python-slugify with text-unidecode. Its table of all characters would be a
//! large part of this program, so [`TABLE`] has the alphabets that are spelled in Latin letters
//! one by one: Latin, Greek and Cyrillic, with accents and punctuation.

use std::collections::BTreeMap;

use super::slug_table::TABLE;

/// A slug.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Slug {
    /// The slug: lower-case letters and digits, and `_` between words.
    pub(super) text: String,
    /// Whether it is Home Assistant's; otherwise a character is not in the table.
    pub(super) is_exact: bool,
}

/// Makes slugs.
pub(super) struct Slugs {
    ranges: BTreeMap<u32, Vec<String>>,
}

impl Slugs {
    pub(super) fn new() -> Self {
        let ranges: BTreeMap<String, Vec<String>> = serde_json::from_str(TABLE).unwrap_or_default();
        let start = |hex: &str| u32::from_str_radix(hex, 16).ok();
        let ranges = ranges.into_iter().filter_map(|(hex, texts)| Some((start(&hex)?, texts)));
        Self { ranges: ranges.collect() }
    }

    /// Returns the ASCII text that a character becomes; `None` if it is unknown.
    fn ascii(&self, c: char) -> Option<&str> {
        let code = u32::from(c);
        let (start, texts) = self.ranges.range(..=code).next_back()?;
        let known = usize::try_from(code - start).ok().and_then(|at| texts.get(at));
        match known {
            Some(text) => Some(text),
            // Beyond the basic plane, only letters in the style of mathematics become something.
            None if code > 0xffff && !(0x1d400..=0x1d7ff).contains(&code) => Some(""),
            None => None,
        }
    }

    /// Returns the slug of `name`.
    pub(super) fn slug(&self, name: &str) -> Slug {
        // What looks like HTML's name of a character, such as `&amp;`, is decoded there.
        let mut is_exact = !(name.contains('&') && name.contains(';'));
        let mut ascii = String::new();
        for c in name.chars() {
            match c {
                '\'' => ascii.push('-'),
                c if c.is_ascii() => ascii.push(c),
                c => match self.ascii(c) {
                    Some(text) => ascii += text,
                    None => is_exact = false,
                },
            }
        }
        // Quotes that are left stand for other characters, and vanish.
        ascii.retain(|c| c != '\'');
        let bytes = ascii.as_bytes();
        let is_digit =
            |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_digit);
        let mut text = String::new();
        for (at, c) in ascii.char_indices() {
            if c.is_ascii_alphanumeric() {
                text.push(c.to_ascii_lowercase());
            } else if c == ',' && is_digit(at.checked_sub(1)) && is_digit(Some(at + 1)) {
                // 1,000 is one number.
            } else if !text.ends_with('_') {
                text.push('_');
            }
        }
        let text = text.trim_matches('_');
        let text = if text.is_empty() && !name.is_empty() { "unknown" } else { text };
        Slug { text: text.to_owned(), is_exact }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_slugs_as_in_home_assistant() {
        let slugs = Slugs::new();
        for (name, slug) in [
            ("Prusa MK3S", "prusa_mk3s"),
            ("  Ender-3 (links)  ", "ender_3_links"),
            ("Käthes Drucker №2", "kathes_drucker_no2"),
            ("Straße Œuvre Łódź", "strasse_oeuvre_lodz"),
            ("Принтер Щ", "printer_shch"),
            ("Ελλάδα", "ellada"),
            ("Bob's", "bob_s"),
            ("Bob’s", "bobs"),
            ("1,000 mm, 2", "1000_mm_2"),
            ("a__b--c", "a_b_c"),
            ("3D 🖨️ Drucker", "3d_drucker"),
            ("🖨", "unknown"),
            ("", ""),
        ] {
            assert_eq!(slugs.slug(name), Slug { text: slug.to_owned(), is_exact: true }, "{name}");
        }
        assert!(!slugs.slug("A &amp; B").is_exact);
        let chinese = slugs.slug("拓竹 X1");
        assert_eq!((chinese.text.as_str(), chinese.is_exact), ("x1", false));
    }
}
