//! A line becomes a command and its words (pure).

/// A command such as `G1`, with the text after it.
#[derive(Debug, PartialEq)]
pub(super) struct GcodeCommand<'a> {
    /// `G` or `M`.
    pub(super) letter: u8,
    pub(super) code: u16,
    pub(super) arguments: &'a [u8],
}

impl<'a> GcodeCommand<'a> {
    /// Parses a line that begins with a command. Line numbers before it are skipped; a command with a
    /// fraction, such as `G29.1`, is another one, and `None`.
    pub(super) fn parse(line: &'a [u8]) -> Option<Self> {
        let mut line = line;
        if matches!(line.first()?, b'N' | b'n') {
            let digits = line[1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            line = line[1 + digits..].trim_ascii_start();
        }
        let letter = line.first()?.to_ascii_uppercase();
        if !matches!(letter, b'G' | b'M') {
            return None;
        }
        let mut code: u16 = 0;
        let mut at = 1;
        while let Some(digit) = line.get(at).filter(|byte| byte.is_ascii_digit()) {
            code = code.checked_mul(10)?.checked_add(u16::from(digit - b'0'))?;
            at += 1;
        }
        if at == 1 || line.get(at) == Some(&b'.') {
            return None;
        }
        Some(Self { letter, code, arguments: &line[at..] })
    }

    /// Its words: a letter in upper case, and the text of the number after it.
    pub(super) fn words(&self) -> Words<'a> {
        Words { text: self.arguments }
    }
}

/// Iterates over words up to the comment or the checksum.
pub(super) struct Words<'a> {
    text: &'a [u8],
}

impl<'a> Iterator for Words<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (&first, rest) = self.text.split_first()?;
            match first {
                b';' | b'*' => return None,
                b'(' => {
                    let end = rest.iter().position(|&byte| byte == b')')?;
                    self.text = &rest[end + 1..];
                }
                letter if letter.is_ascii_alphabetic() => {
                    let spaces = rest.iter().take_while(|&&byte| byte == b' ').count();
                    let number = &rest[spaces..];
                    let length = number.iter().take_while(|&&byte| is_of_number(byte)).count();
                    self.text = &number[length..];
                    return Some((letter.to_ascii_uppercase(), &number[..length]));
                }
                _ => self.text = rest,
            }
        }
    }
}

fn is_of_number(byte: u8) -> bool {
    byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'+')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<(char, String)> {
        let text = |(letter, number): (u8, &[u8])| {
            (char::from(letter), String::from_utf8(number.to_vec()).unwrap())
        };
        GcodeCommand::parse(line.as_bytes()).unwrap().words().map(text).collect()
    }

    fn word(letter: char, number: &str) -> (char, String) {
        (letter, number.to_owned())
    }

    #[test]
    fn commands_have_a_letter_and_a_code() {
        let parsed = |line: &'static str| {
            GcodeCommand::parse(line.as_bytes()).map(|command| (command.letter, command.code))
        };
        assert_eq!(parsed("G1 X1"), Some((b'G', 1)));
        assert_eq!(parsed("g01x1"), Some((b'G', 1)));
        assert_eq!(parsed("N12 M109 S200*45"), Some((b'M', 109)));
        assert_eq!(parsed("N12M82"), Some((b'M', 82)));
        for other in ["", "N", "T0", "G", "GX", "START_PRINT", "G29.1 Z0", "G99999999", "M117x"] {
            let is_text = other == "M117x";
            assert_eq!(parsed(other).is_some(), is_text, "{other}");
        }
    }

    #[test]
    fn words_are_told_apart_with_and_without_spaces() {
        let expected = [word('X', "10.5"), word('Y', "-.2"), word('E', "+1.")];
        assert_eq!(words("G1 X10.5 Y-.2 E+1."), expected);
        assert_eq!(words("G1X10.5Y-.2E+1."), expected);
        assert_eq!(words("g1 x 10.5\ty-.2 (E9) e+1. ; E7"), expected);
        assert_eq!(words("N3 G1 X10.5 Y-.2 E+1.*99"), expected);
        assert_eq!(words("G28 X Y"), [word('X', ""), word('Y', "")]);
        assert_eq!(words("G1 (open X1"), []);
    }
}
