//! Numbers and durations in comments (pure).

/// Ten years in seconds: no print takes longer, and a number above it is none.
const LONGEST_DURATION: f64 = 10.0 * 365.25 * 86_400.0;

const POWERS: [f64; 16] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];

/// Parses the number at the beginning of `text`, and returns it with the length of its text. There is
/// no exponent in G-code: `E` is a word.
pub(super) fn leading_number(text: &[u8]) -> Option<(f64, usize)> {
    let is_negative = text.first() == Some(&b'-');
    let mut at = usize::from(matches!(text.first(), Some(b'-' | b'+')));
    let (mut mantissa, mut digits, mut decimals) = (0_u64, 0, 0);
    let mut has_point = false;
    while let Some(&byte) = text.get(at) {
        match byte {
            // What no longer fits in 15 digits is below a nanometre, or absurd.
            b'0'..=b'9' if mantissa < 100_000_000_000_000 && decimals < 15 => {
                mantissa = mantissa * 10 + u64::from(byte - b'0');
                digits += 1;
                decimals += usize::from(has_point);
            }
            b'0'..=b'9' if has_point => {}
            b'0'..=b'9' => return None,
            b'.' if !has_point => has_point = true,
            _ => break,
        }
        at += 1;
    }
    if digits == 0 {
        return None;
    }
    let scale = POWERS.get(decimals)?;
    let number = mantissa as f64 / scale;
    Some((if is_negative { -number } else { number }, at))
}

/// Parses `text` that begins with a number.
pub(super) fn number(text: &[u8]) -> Option<f64> {
    leading_number(text.trim_ascii_start()).map(|(number, _)| number)
}

/// Parses all numbers in a list such as `12.5, 0.0` or `1.99m, 0m`; a text between is skipped.
pub(super) fn numbers(text: &[u8]) -> impl Iterator<Item = f64> {
    text.split(|byte| matches!(byte, b',' | b';')).filter_map(number)
}

/// Parses a duration in seconds: `1d 2h 3m 4s`, `1 hours 2 minutes`, `332.83 minutes`, `1:02:03`, or
/// plain seconds. `None` if it is none, or above ten years.
pub(super) fn duration(text: &[u8]) -> Option<u64> {
    let text = text.trim_ascii();
    let seconds = if text.contains(&b':') { by_colons(text)? } else { by_units(text)? };
    (0.0..=LONGEST_DURATION).contains(&seconds).then_some(seconds.round() as u64)
}

fn by_colons(text: &[u8]) -> Option<f64> {
    let mut seconds = 0.0;
    for part in text.split(|&byte| byte == b':') {
        let (value, length) = leading_number(part.trim_ascii())?;
        if length != part.trim_ascii().len() || value < 0.0 {
            return None;
        }
        seconds = seconds * 60.0 + value;
    }
    Some(seconds)
}

fn by_units(mut text: &[u8]) -> Option<f64> {
    let mut seconds = None;
    loop {
        text = text.trim_ascii_start();
        if text.is_empty() {
            return seconds;
        }
        let Some((value, length)) = leading_number(text) else {
            // A word after the duration, such as an explanation in parentheses.
            return seconds;
        };
        text = text[length..].trim_ascii_start();
        let unit = match text.first().map(u8::to_ascii_lowercase) {
            Some(b'd') => 86_400.0,
            Some(b'h') => 3_600.0,
            Some(b'm') => 60.0,
            Some(b's') => 1.0,
            None if seconds.is_none() => 1.0,
            _ => return None,
        };
        if value < 0.0 {
            return None;
        }
        seconds = Some(seconds.unwrap_or(0.0) + value * unit);
        let letters = text.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
        text = text[letters..].trim_ascii_start();
        text = text.strip_prefix(b",").unwrap_or(text);
    }
}

/// A name from a comment, at most 64 characters: text that is no UTF-8 and control characters are
/// replaced. `None` if it is empty.
pub(super) fn name(text: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(text);
    let text = text.trim().trim_matches('"').trim();
    let shown = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let name: String = text.chars().take(64).map(shown).collect();
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_a_sign_and_a_point() {
        for (text, expected) in [
            ("1", Some(1.0)),
            ("-1.25", Some(-1.25)),
            (".8", Some(0.8)),
            ("+5.", Some(5.0)),
            ("0.2mm", Some(0.2)),
            ("0.1234567890123456789", Some(0.123_456_789_012_345)),
            ("0.0000000000000000000001", Some(0.0)),
            ("1.2.3", Some(1.2)),
            ("", None),
            ("-", None),
            (".", None),
            ("mm", None),
            ("NaN", None),
            ("inf", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(number(text.as_bytes()), expected, "{text}");
        }
        assert_eq!(numbers(b"1.99m, 0m;3").collect::<Vec<_>>(), [1.99, 0.0, 3.0]);
    }

    #[test]
    fn durations_are_in_seconds() {
        for (text, expected) in [
            ("1d 2h 3m 4s", Some(93_784)),
            ("1h5m", Some(3_900)),
            ("1 hours 2 minutes", Some(3_720)),
            ("1 hour 16 minutes 3 seconds", Some(4_563)),
            ("2 hours, 5 min", Some(7_500)),
            ("332.83 minutes", Some(19_970)),
            ("1:02:03", Some(3_723)),
            ("1234", Some(1_234)),
            ("1234.5", Some(1_235)),
            ("17m 54s (without the first layer)", Some(1_074)),
            ("", None),
            ("#P_TIME#", None),
            ("-5", None),
            ("-1h", None),
            ("1h 5", None),
            ("4000d", None),
            ("1:x", None),
            ("999999999999", None),
        ] {
            assert_eq!(duration(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn names_are_short_and_printable() {
        assert_eq!(name(b" \"PLA\" ").as_deref(), Some("PLA"));
        assert_eq!(name(b"a\x07\xffb").as_deref(), Some("a\u{fffd}\u{fffd}b"));
        assert_eq!(name(&[b'x'; 500]).map(|name| name.len()), Some(64));
        assert_eq!(name(b"  "), None);
    }
}
