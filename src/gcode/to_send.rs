//! Lines of G-code that users send (pure).

/// Maximum number of lines that are sent at once.
pub const MAX_LINES: usize = 100;
/// Maximum length of a line, in characters.
pub const MAX_LINE: usize = 255;

/// Returns the lines of `texts`, without empty ones. `None` if there are none, or too many, or if one
/// is too long or has control characters.
pub fn lines_to_send<'a>(texts: impl IntoIterator<Item = &'a str>) -> Option<Vec<String>> {
    let lines: Vec<String> = texts
        .into_iter()
        .flat_map(|text| text.split(['\n', '\r']))
        .map(|line| line.trim().to_owned())
        .filter(|line| !line.is_empty())
        .collect();
    let fits = |line: &String| {
        line.chars().count() <= MAX_LINE && !line.chars().any(|c| c.is_control() && c != '\t')
    };
    let good = (1..=MAX_LINES).contains(&lines.len()) && lines.iter().all(fits);
    good.then_some(lines)
}
