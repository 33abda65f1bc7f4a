//! Chunks of bytes become lines (pure).

use memchr::memchr2;

/// The longest part of a line that is kept, in bytes. Commands and the comments that matter are shorter.
pub(super) const LONGEST: usize = 4096;

/// Takes lines.
pub(super) trait LineSink {
    /// A line without its end, cut to [`LONGEST`] bytes, and where in the file it begins.
    fn line(&mut self, offset: u64, line: &[u8]);

    /// A further piece of the line before, which is longer than [`LONGEST`] bytes.
    fn rest(&mut self, piece: &[u8]);
}

/// Splits a stream at line feeds and carriage returns. Its memory is bounded by [`LONGEST`].
#[derive(Default)]
pub(super) struct GcodeLines {
    /// Where the line under way begins.
    offset: u64,
    /// How much of it was fed.
    length: u64,
    /// Its beginning, as long as the sink has none of it.
    begun: Vec<u8>,
    /// Whether the sink has its beginning.
    is_given: bool,
}

impl GcodeLines {
    pub(super) fn feed(&mut self, mut chunk: &[u8], sink: &mut impl LineSink) {
        while let Some(end) = memchr2(b'\n', b'\r', chunk) {
            let (line, rest) = chunk.split_at(end);
            if self.length == 0 && line.len() <= LONGEST {
                sink.line(self.offset, line);
                self.length = line.len() as u64;
            } else {
                self.part(line, sink);
                self.give(sink);
            }
            self.offset += self.length + 1;
            self.length = 0;
            self.begun.clear();
            self.is_given = false;
            chunk = &rest[1..];
        }
        self.part(chunk, sink);
    }

    /// Gives the last line, if it has no end.
    pub(super) fn finish(&mut self, sink: &mut impl LineSink) {
        if self.length > 0 {
            self.give(sink);
        }
    }

    fn part(&mut self, part: &[u8], sink: &mut impl LineSink) {
        self.length += part.len() as u64;
        let (kept, over) = part.split_at(part.len().min(LONGEST - self.begun.len()));
        self.begun.extend_from_slice(kept);
        if !over.is_empty() {
            self.give(sink);
            sink.rest(over);
        }
    }

    fn give(&mut self, sink: &mut impl LineSink) {
        if !self.is_given {
            self.is_given = true;
            sink.line(self.offset, &self.begun);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default, Debug, PartialEq)]
    struct Kept(Vec<(u64, Vec<u8>, usize)>);

    impl LineSink for Kept {
        fn line(&mut self, offset: u64, line: &[u8]) {
            self.0.push((offset, line.to_vec(), 0));
        }

        fn rest(&mut self, piece: &[u8]) {
            self.0.last_mut().unwrap().2 += piece.len();
        }
    }

    fn kept(chunks: &[&[u8]]) -> Kept {
        let (mut lines, mut kept) = (GcodeLines::default(), Kept::default());
        for chunk in chunks {
            lines.feed(chunk, &mut kept);
        }
        lines.finish(&mut kept);
        kept
    }

    #[test]
    fn lines_end_at_line_feeds_and_carriage_returns() {
        let line = |offset, text: &str| (offset, text.as_bytes().to_vec(), 0);
        let lines = [line(0, "G28"), line(4, "G1 X1"), line(10, ""), line(11, ";end")];
        assert_eq!(kept(&[b"G28\nG1 X1\r\n;end"]).0, lines);
        assert_eq!(kept(&[b"G2", b"8\nG1 X1\r", b"", b"\n;end"]).0, lines);
        assert_eq!(kept(&[]).0, []);
    }

    #[test]
    fn a_line_above_the_limit_is_cut_and_its_rest_given_in_pieces() {
        let long = vec![b'A'; LONGEST + 10];
        let mut file = long.clone();
        file.extend_from_slice(b"\nG28");
        let whole = kept(&[&file]);
        let begin = vec![b'A'; LONGEST];
        assert_eq!(whole.0, [(0, begin.clone(), 10), (LONGEST as u64 + 11, b"G28".to_vec(), 0)]);
        for cut in [1, LONGEST - 1, LONGEST, LONGEST + 1, LONGEST + 10, LONGEST + 11] {
            assert_eq!(kept(&[&file[..cut], &file[cut..]]), whole);
        }
        let mut lines = GcodeLines::default();
        for _ in 0..100 {
            lines.feed(&long, &mut Kept(vec![(0, Vec::new(), 0)]));
        }
        assert!(lines.begun.capacity() <= 2 * LONGEST, "{}", lines.begun.capacity());
    }
}
