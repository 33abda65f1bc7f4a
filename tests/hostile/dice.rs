//! Chance, drawn from bytes.

/// Draws from bytes, one after another; once they are used up, always the first of the choices.
pub struct Dice {
    bytes: Vec<u8>,
    at: usize,
}

impl Dice {
    pub fn new(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec(), at: 0 }
    }

    /// Whether all is drawn.
    pub fn is_used_up(&self) -> bool {
        self.at >= self.bytes.len()
    }

    fn byte(&mut self) -> u8 {
        let byte = self.bytes.get(self.at).copied().unwrap_or_default();
        self.at += 1;
        byte
    }

    /// A number under `end`.
    pub fn below(&mut self, end: usize) -> usize {
        let number = match end {
            0..=256 => usize::from(self.byte()),
            _ => {
                usize::from(self.byte()) << 16
                    | usize::from(self.byte()) << 8
                    | usize::from(self.byte())
            }
        };
        number % end.max(1)
    }

    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }

    /// True `times` times in 16; never once all is drawn.
    pub fn chance(&mut self, times: usize) -> bool {
        !self.is_used_up() && self.below(16) < times
    }
}
