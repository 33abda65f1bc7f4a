//! Topics that two things would publish on.

use super::source::Section;
use super::types::Printer;

/// What OctoPrint-MQTT's topics begin with below their prefix.
const BELOW_PREFIX: &[&str] = &["event", "progress", "temperature", "mqtt"];

/// Complains of every `octoprint_mqtt_topic` that another printer has, or that lies where the
/// bridge has topics of its own: what is published there may be taken for state, or for a command.
pub(super) fn octoprint_mqtt_topics(root: &Section<'_>, printers: &[Printer], base: &str) {
    for (index, printer) in printers.iter().enumerate() {
        let Some(prefix) = &printer.octoprint_mqtt_topic else { continue };
        let twin = printers[..index]
            .iter()
            .find(|other| other.octoprint_mqtt_topic.as_ref() == Some(prefix))
            .map(|twin| format!("{prefix:?}, the topic of printers.{} too", twin.id));
        let own = own_topic(prefix, printers, base)
            .map(|whose| format!("{prefix:?}, where the bridge has topics of its own ({whose})"));
        for found in twin.into_iter().chain(own) {
            let section = root.section("printers").section(&printer.id);
            let key = "octoprint_mqtt_topic";
            let source = section.get(key).map_or_else(String::new, |found| found.source);
            let expected = "a topic for this printer alone, outside of those of mqtt.base_topic";
            section.complain(source, key, &found, expected);
        }
    }
}

/// The bridge's topics among which `prefix` lies.
fn own_topic(prefix: &str, printers: &[Printer], base: &str) -> Option<String> {
    let below = prefix.strip_prefix(base)?.strip_prefix('/')?;
    let first = below.split('/').next().unwrap_or_default();
    let is_printer = |name: &str| printers.iter().any(|printer| printer.id == name);
    if first.is_empty() {
        let clash = BELOW_PREFIX.iter().find(|name| is_printer(name))?;
        return Some(format!("{base}/{clash}/…"));
    }
    (first.starts_with("bridge") || is_printer(first)).then(|| format!("{base}/{first}/…"))
}
