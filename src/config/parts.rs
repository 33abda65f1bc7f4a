//! What several sections have: trust settings, topics.

use std::time::Duration;

use super::source::Section;
use super::types::Tls;
use super::values::strict_text;
use crate::topic::Topic;

pub(super) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A trust setting; `None` where nothing is said.
pub(super) fn tls(section: &Section<'_>, client: bool, warnings: &mut Vec<String>) -> Option<Tls> {
    let known: &[&str] = if client {
        &["ca_file", "cert_file", "key_file", "insecure"]
    } else {
        &["ca_file", "insecure"]
    };
    section.only(known);
    if !section.in_file() && !section.in_environment() {
        return None;
    }
    let mut tls = Tls {
        ca_file: section.file("ca_file"),
        insecure: section.flag("insecure", false),
        ..Tls::default()
    };
    if client {
        tls.cert_file = section.file("cert_file");
        tls.key_file = section.file("key_file");
        let given = |key: &str| section.get(key).is_some();
        match (given("cert_file"), given("key_file")) {
            (true, false) => section.missing("key_file", "the key that goes with cert_file"),
            (false, true) => {
                section.missing("cert_file", "the certificate that goes with key_file");
            }
            _ => {}
        }
    }
    if tls.insecure {
        let key = section.key("insecure");
        warnings.push(format!(
            "{key} = true: any certificate is accepted, so anyone on the way can listen and command; prefer ca_file"
        ));
    }
    Some(tls)
}

/// Longest topic or prefix of any other key, in bytes.
pub(super) const MAX_PREFIX: usize = 256;

/// A topic without wildcards, empty levels, or slashes at its ends.
pub(super) fn topic(section: &Section<'_>, key: &str, default: &str) -> String {
    topic_within(section, key, MAX_PREFIX, default)
}

pub(super) fn topic_within(section: &Section<'_>, key: &str, most: usize, default: &str) -> String {
    let expected = format!(
        "a topic of at most {most} bytes, without +, #, control characters, Unicode noncharacters, empty levels, slashes at its ends and $ at its start"
    );
    section
        .optional(key, &expected, |value| strict_text(value).filter(|topic| is_topic(topic, most)))
        .unwrap_or_else(|| default.to_owned())
}

pub(super) fn is_topic(topic: &str, most: usize) -> bool {
    topic.len() <= most
        && !topic.starts_with('$')
        && topic.split('/').all(|level| !level.is_empty())
        && Topic::read(topic).is_ok()
}
