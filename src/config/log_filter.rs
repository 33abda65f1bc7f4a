//! Log levels and filters such as `info,octoprint2mqtt::mqtt=debug`.

use tracing_subscriber::filter::Targets;

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Parses a filter, in which later parts win; `None` if it is invalid.
///
/// A filter can match modules and field names but not spans: the layer that supports those needs a
/// regular expression library, and its memory.
pub(crate) fn log_filter(text: &str) -> Option<Targets> {
    let parts: Option<Vec<String>> = text.split(',').map(|part| directive(part.trim())).collect();
    parts?.join(",").parse().ok()
}

/// Converts a level, `module=level` or `module[{field}]=level` to the form that [`Targets`] parses.
fn directive(part: &str) -> Option<String> {
    let Some((of, level)) = part.split_once('=') else {
        // The library takes any other word for a module, so `verbose` would silence everything.
        return LEVELS.contains(&part.to_ascii_lowercase().as_str()).then(|| part.to_owned());
    };
    let module = of.split_once("[{").map_or(of, |(module, _)| module);
    let in_a_path = |c: char| c.is_alphanumeric() || matches!(c, '_' | ':' | '-');
    if of.is_empty() || !module.chars().all(in_a_path) {
        return None;
    }
    Some(format!("{of}={}", if level.is_empty() { "trace" } else { level }))
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::log_filter;

    #[test]
    fn later_parts_win() {
        let filter = log_filter("rumqttc=warn, INFO,octoprint2mqtt::mqtt=debug,rumqttc=").unwrap();
        for (target, level, enabled) in [
            ("octoprint2mqtt::bridge", Level::INFO, true),
            ("octoprint2mqtt::bridge", Level::DEBUG, false),
            ("octoprint2mqtt::mqtt::outbox", Level::DEBUG, true),
            ("octoprint2mqtt::mqtt::outbox", Level::TRACE, false),
            ("rumqttc::state", Level::TRACE, true),
        ] {
            assert_eq!(filter.would_enable(target, &level), enabled, "{target} {level}");
        }
        assert!(!log_filter("debug,off").unwrap().would_enable("a", &Level::ERROR));
    }

    #[test]
    fn valid_filters() {
        for text in ["off", "Debug", "0=1", "a::b-c=3", "a[{printer}]=debug", "[{printer}]=debug"] {
            assert!(log_filter(text).is_some(), "{text}");
        }
    }

    #[test]
    fn invalid_filters() {
        for text in [
            "",
            "verbose",
            "info,",
            "info,verbose",
            "=debug",
            "a=loud",
            "a=b=info",
            "a[{b=info",
            "[span]=debug",
            "a[span]=debug",
            "[{printer=mk3}]=debug",
            "a b=info",
            "3",
        ] {
            assert!(log_filter(text).is_none(), "{text}");
        }
    }
}
