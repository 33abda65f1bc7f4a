//! The maintenance counters of a printer.

use std::collections::BTreeSet;

use super::counter::{Counter, CounterUnit};
use super::source::Section;
use super::values::strict_text;

/// Longest name, in bytes: it is part of a topic and of the id of an entity.
const MAX_NAME: usize = 32;
/// Largest limit, in any unit.
const MAX_LIMIT: f64 = 1e6;

/// Reads all counters, sorted by name.
pub(super) fn counters(section: &Section<'_>) -> Vec<Counter> {
    let mut names: BTreeSet<String> = section.file_keys().into_iter().collect();
    // A variable's name has no hyphen: `HOT_END` in a variable is `hot-end` if the file has that.
    let of_file: Vec<String> = names.iter().map(|name| name.replace('-', "_")).collect();
    names.extend(section.environment_keys().into_iter().filter(|name| !of_file.contains(name)));
    names.iter().filter_map(|name| counter(section, name)).collect()
}

fn counter(section: &Section<'_>, name: &str) -> Option<Counter> {
    let found =
        section.of_environment(&name.replace('-', "_")).or_else(|| section.of_file(name))?;
    if !is_name(name) {
        let expected = format!("a name of at most {MAX_NAME} letters, of a-z, 0-9, _ and -");
        section.complain(found.source, name, &format!("the name {name:?}"), &expected);
        return None;
    }
    let limit = strict_text(&found.value).and_then(|text| limit(&text));
    match limit {
        Some((due_after, unit)) => Some(Counter { name: name.to_owned(), due_after, unit }),
        None => {
            let expected = "hours of printing such as \"300h\", metres of filament such as \"500m\", or a number of prints such as \"50 prints\"";
            section.refuse(name, &found, expected);
            None
        }
    }
}

fn is_name(name: &str) -> bool {
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
    (1..=MAX_NAME).contains(&name.len()) && name.chars().all(is_part)
}

fn limit(text: &str) -> Option<(f64, CounterUnit)> {
    let unit = CounterUnit::ALL.into_iter().find(|unit| text.ends_with(unit.as_str()))?;
    let number: f64 = text.strip_suffix(unit.as_str())?.trim().parse().ok()?;
    (number > 0.0 && number <= MAX_LIMIT).then_some((number, unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_has_a_number_and_a_unit() {
        assert_eq!(limit("300h"), Some((300.0, CounterUnit::Hours)));
        assert_eq!(limit("0.5 h"), Some((0.5, CounterUnit::Hours)));
        assert_eq!(limit("500m"), Some((500.0, CounterUnit::Metres)));
        assert_eq!(limit("50 prints"), Some((50.0, CounterUnit::Prints)));
        for bad in ["300", "h", "0h", "-1h", "NaNh", "infm", "300s", "2000000h", "3 0h"] {
            assert_eq!(limit(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_counter_is_shown_as_it_is_written() {
        for text in ["300h", "0.5h", "500m", "50 prints"] {
            let (due_after, unit) = limit(text).unwrap();
            assert_eq!(Counter { name: "x".to_owned(), due_after, unit }.to_string(), text);
        }
    }

    #[test]
    fn names_fit_into_topics_and_ids() {
        assert!(is_name("nozzle") && is_name("hot-end_2"));
        for bad in ["", "Nozzle", "a b", "a/b", "ö", &"x".repeat(33)] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
