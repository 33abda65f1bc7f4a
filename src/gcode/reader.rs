//! Chunks of a file in, what it says out (pure).

use super::comments::Comments;
use super::info::SlicerInfo;
use super::layers::LayerIndex;
use super::lines::{GcodeLines, LineSink};
use super::marks::Marks;
use super::motion::Motion;
use super::thumbnail::{Thumbnail, Thumbnails};
use super::words::GcodeCommand;

/// How much is kept of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLimits {
    /// The most bytes of a thumbnail, as an image and not as base64. Larger ones are passed over; 0 takes
    /// none.
    pub thumbnail: usize,
}

impl Default for ReadLimits {
    /// 512 KiB.
    fn default() -> Self {
        Self { thumbnail: 512 * 1024 }
    }
}

/// What kind of file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// G-code as text.
    Text,
    /// Binary G-code (`.bgcode`), which is not read.
    BinaryGcode,
    /// A zip archive, such as `.3mf` or `.ufp`, which is not read.
    Archive,
}

impl FileKind {
    /// The kind of a file that begins with these bytes.
    fn of(begin: &[u8]) -> Self {
        match begin {
            b"GCDE" => Self::BinaryGcode,
            b"PK\x03\x04" => Self::Archive,
            _ => Self::Text,
        }
    }
}

/// What a file says.
#[derive(Clone, Debug, PartialEq)]
pub struct GcodeFile {
    /// What kind of file it is. One that is no text has no layers, and nothing else.
    pub kind: FileKind,
    /// Where its layers begin.
    pub layers: LayerIndex,
    /// What the slicer wrote about it.
    pub slicer: SlicerInfo,
    /// Its largest thumbnail that is whole and within the limit.
    pub thumbnail: Option<Thumbnail>,
}

/// Reads a file from its beginning to its end, in chunks of any size.
///
/// Its memory does not grow with the file: at most 1.5 MB for the layers, and three times the limit for
/// thumbnails. A QOI image is decoded and needs up to 8 MB for a moment.
pub struct GcodeReader {
    lines: GcodeLines,
    parser: Parser,
    /// The first bytes, as long as they are too few to tell the kind.
    begin: Vec<u8>,
    kind: Option<FileKind>,
}

impl GcodeReader {
    /// Begins a file.
    #[must_use]
    pub fn new(limits: &ReadLimits) -> Self {
        Self {
            lines: GcodeLines::default(),
            parser: Parser::new(limits),
            begin: Vec::new(),
            kind: None,
        }
    }

    /// Takes the next bytes of the file.
    pub fn feed(&mut self, chunk: &[u8]) {
        match self.kind {
            Some(FileKind::Text) => self.lines.feed(chunk, &mut self.parser),
            Some(_) => {}
            None => {
                let (begin, rest) = chunk.split_at(chunk.len().min(4 - self.begin.len()));
                self.begin.extend_from_slice(begin);
                if self.begin.len() == 4 {
                    self.begun();
                    self.feed(rest);
                }
            }
        }
    }

    /// What kind of file it is; `None` as long as too little was fed. The rest of a file that is no text
    /// need not be fed.
    #[must_use]
    pub fn kind(&self) -> Option<FileKind> {
        self.kind
    }

    /// The file is at its end.
    #[must_use]
    pub fn finish(mut self) -> GcodeFile {
        self.begun();
        self.lines.finish(&mut self.parser);
        let (layers, mut slicer, thumbnail) = self.parser.finish();
        if layers.total() > 0 {
            slicer.layers = Some(layers.total());
        }
        GcodeFile { kind: self.kind.unwrap_or(FileKind::Text), layers, slicer, thumbnail }
    }

    /// All is known that tells the kind.
    fn begun(&mut self) {
        if self.kind.is_none() {
            let kind = FileKind::of(&self.begin);
            self.kind = Some(kind);
            let begin = std::mem::take(&mut self.begin);
            self.feed(&begin);
        }
    }
}

/// Reads what the slicer wrote from the first and the last bytes of a file, 256 kB each or so, which do
/// not overlap. `tail` is empty if `head` is the whole file. All that is not text says nothing.
#[must_use]
pub fn read_ends(head: &[u8], tail: &[u8], limits: &ReadLimits) -> (SlicerInfo, Option<Thumbnail>) {
    let mut parser = Parser::new(limits);
    if FileKind::of(head.get(..4).unwrap_or_default()) == FileKind::Text {
        let is_end = |byte: &u8| matches!(byte, b'\n' | b'\r');
        // The lines at the cuts are not whole.
        let whole = match head.iter().rposition(is_end) {
            Some(end) if !tail.is_empty() => &head[..=end],
            _ => head,
        };
        let (mut lines, mut at) = (GcodeLines::default(), whole);
        for _ in 0..2 {
            lines.feed(at, &mut parser);
            lines.finish(&mut parser);
            parser.thumbnails.other_line();
            lines = GcodeLines::default();
            at = tail.iter().position(is_end).map_or(&[][..], |end| &tail[end..]);
        }
    }
    let (_, slicer, thumbnail) = parser.finish();
    (slicer, thumbnail)
}

/// Takes lines, and gives each part what it needs.
struct Parser {
    motion: Motion,
    marks: Marks,
    comments: Comments,
    thumbnails: Thumbnails,
}

impl Parser {
    fn new(limits: &ReadLimits) -> Self {
        Self {
            motion: Motion::default(),
            marks: Marks::default(),
            comments: Comments::default(),
            thumbnails: Thumbnails::new(limits.thumbnail),
        }
    }

    fn finish(self) -> (LayerIndex, SlicerInfo, Option<Thumbnail>) {
        (self.marks.finish(), self.comments.finish(), self.thumbnails.finish())
    }

    fn comment(&mut self, offset: u64, text: &[u8]) {
        if !self.thumbnails.comment(text) {
            self.marks.comment(offset, text);
            self.comments.comment(text);
        }
    }

    fn command(&mut self, offset: u64, line: &[u8]) {
        let Some(command) = GcodeCommand::parse(line) else { return };
        let effect = self.motion.apply(&command);
        self.marks.effect(offset, &effect);
        if command.letter == b'M' {
            self.comments.command(&command, self.marks.has_begun());
        }
    }
}

impl LineSink for Parser {
    fn line(&mut self, offset: u64, line: &[u8]) {
        let line =
            if offset == 0 { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line) } else { line };
        let line = line.trim_ascii_start();
        match line.first() {
            None => {}
            Some(b';') => self.comment(offset, &line[1..]),
            Some(b'(') => {
                self.thumbnails.other_line();
                let end = line.iter().position(|&byte| byte == b')').unwrap_or(line.len());
                self.comment(offset, &line[1..end]);
                let rest = line.get(end + 1..).unwrap_or_default().trim_ascii_start();
                self.command(offset, rest);
            }
            Some(_) => {
                self.thumbnails.other_line();
                self.command(offset, line);
            }
        }
    }

    fn rest(&mut self, piece: &[u8]) {
        self.thumbnails.rest(piece);
    }
}
