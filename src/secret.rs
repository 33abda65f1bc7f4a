//! Strings that are never printed: API keys, passwords, sessions.

use std::fmt;

/// A secret text. `Debug` shows `***`, and there is no `Display`, so that it cannot slip into a
/// message by accident. Only [`Secret::expose`] returns the text.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text, for sending it to its peer.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Returns its number of characters, which may be shown.
    pub fn characters(&self) -> usize {
        self.0.chars().count()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_never_prints_the_text() {
        let shown = format!("{:?} {:#?}", Secret::new("hunter2"), Secret::new("hunter2"));
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
