//! Finds the thumbnails of a file, and keeps the best one (pure).

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;

use super::image::{self, Image, ImageFormat};

/// Base64 with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// A thumbnail, which is whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Thumbnail {
    /// Its format.
    pub format: ImageFormat,
    /// The file of the image.
    pub data: Bytes,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
}

/// Collects the thumbnails of a file; its memory is bounded by the largest one that is wanted.
pub(super) struct Thumbnails {
    /// The most bytes of an image.
    limit: usize,
    /// The one under way.
    open: Option<Open>,
    best: Option<Image>,
}

struct Open {
    base64: Vec<u8>,
    /// Whether it is in one line, and not in the lines up to its end.
    is_line: bool,
    is_too_large: bool,
}

impl Thumbnails {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, open: None, best: None }
    }

    /// Takes the text of a comment that has a line for itself; returns whether it is of a thumbnail.
    pub(super) fn comment(&mut self, text: &[u8]) -> bool {
        let text = text.trim_ascii();
        self.end_of_line();
        if self.open.is_some() {
            if is_end(text) {
                self.close();
                return true;
            }
            if text.iter().all(|&byte| is_base64(byte)) {
                self.append(text);
                return true;
            }
            // It has no end: what follows is something else.
            self.open = None;
        }
        if is_begin(text) {
            self.open = Some(Open { base64: Vec::new(), is_line: false, is_too_large: false });
            return true;
        }
        if let Some(base64) = in_one_line(text) {
            self.open = Some(Open { base64: Vec::new(), is_line: true, is_too_large: false });
            self.append(base64);
            return true;
        }
        false
    }

    /// Takes the rest of a long line.
    pub(super) fn rest(&mut self, piece: &[u8]) {
        if self.open.as_ref().is_some_and(|open| open.is_line) {
            self.append(piece);
        } else {
            // No thumbnail has lines of this length: it is broken.
            self.open = None;
        }
    }

    /// Takes notice of a line that is no comment.
    pub(super) fn other_line(&mut self) {
        self.end_of_line();
        self.open = None;
    }

    pub(super) fn finish(mut self) -> Option<Thumbnail> {
        self.end_of_line();
        let Image { format, data, width, height } = self.best?;
        Some(Thumbnail { format, data, width, height })
    }

    fn end_of_line(&mut self) {
        if self.open.as_ref().is_some_and(|open| open.is_line) {
            self.close();
        }
    }

    fn append(&mut self, text: &[u8]) {
        let most = self.limit / 3 * 4 + 4;
        let Some(open) = &mut self.open else { return };
        if open.is_too_large || open.base64.len() + text.len() > most {
            open.is_too_large = true;
            open.base64 = Vec::new();
        } else {
            open.base64.extend_from_slice(text);
        }
    }

    /// The thumbnail under way has its end: it is the best one, or dropped.
    fn close(&mut self) {
        let Some(open) = self.open.take().filter(|open| !open.is_too_large) else { return };
        let Ok(data) = BASE64.decode(open.base64.trim_ascii()) else { return };
        let pixels = |width: u32, height: u32| u64::from(width) * u64::from(height);
        let best = self.best.as_ref().map_or(0, |best| pixels(best.width, best.height));
        let image = image::check(data, |width, height| pixels(width, height) > best);
        if let Some(image) = image.filter(|image| image.data.len() <= self.limit) {
            self.best = Some(image);
        }
    }
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=')
}

/// `thumbnail begin 16x16 588`, `thumbnail_QOI begin 16x16 556`, `png begin 64*64 3712`.
fn is_begin(text: &[u8]) -> bool {
    is_block(text, b"begin")
}

fn is_end(text: &[u8]) -> bool {
    is_block(text, b"end")
}

fn is_block(text: &[u8], which: &[u8]) -> bool {
    let mut words = text.split(|&byte| byte == b' ');
    let kind = words.next().unwrap_or_default();
    let is_thumbnail = kind == b"thumbnail" || kind.starts_with(b"thumbnail_");
    (is_thumbnail || matches!(kind, b"png" | b"jpg" | b"jpeg" | b"qoi"))
        && words.next() == Some(which)
}

/// The base64 in `thumbnail: data:image/png;base64,iVBOR…`.
fn in_one_line(text: &[u8]) -> Option<&[u8]> {
    let (begin, rest) = text.split_at_checked(b"thumbnail:".len())?;
    let data = rest.trim_ascii_start().strip_prefix(b"data:image/")?;
    let comma = data.iter().position(|&byte| byte == b',')?;
    let is_its = begin.eq_ignore_ascii_case(b"thumbnail:") && data[..comma].ends_with(b";base64");
    is_its.then(|| &data[comma + 1..])
}

#[cfg(test)]
mod tests {
    use super::super::image::tests::{jpeg, png, qoi};
    use super::*;

    const LIMIT: usize = 64 * 1024;

    fn block(kind: &str, data: &[u8]) -> Vec<String> {
        let text = BASE64.encode(data);
        let mut lines = vec![format!(" {kind} begin 16x16 {}", text.len())];
        lines.extend(
            text.as_bytes()
                .chunks(78)
                .map(|line| format!(" {}", String::from_utf8(line.to_vec()).unwrap())),
        );
        lines.push(format!(" {kind} end"));
        lines
    }

    fn best(blocks: &[Vec<String>]) -> Option<(ImageFormat, u32, u32)> {
        let mut thumbnails = Thumbnails::new(LIMIT);
        for line in blocks.iter().flatten() {
            thumbnails.comment(line.as_bytes());
        }
        let thumbnail = thumbnails.finish()?;
        Some((thumbnail.format, thumbnail.width, thumbnail.height))
    }

    #[test]
    fn the_largest_is_taken() {
        let blocks = [
            block("thumbnail", &png(16, 16)),
            block("thumbnail_JPG", &jpeg(220, 124)),
            block("thumbnail_QOI", &qoi(32, 32)),
        ];
        assert_eq!(best(&blocks), Some((ImageFormat::Jpeg, 220, 124)));
        assert_eq!(best(&blocks[2..]), Some((ImageFormat::Png, 32, 32)));
        assert_eq!(best(&[block("png", &png(16, 16))]), Some((ImageFormat::Png, 16, 16)));
        assert_eq!(best(&[]), None);
    }

    #[test]
    fn a_broken_one_is_skipped() {
        let whole = block("thumbnail", &png(16, 16));
        let is_skipped = |broken: Vec<String>| {
            assert_eq!(best(&[whole.clone(), broken.clone()]), Some((ImageFormat::Png, 16, 16)));
            assert_eq!(best(&[broken, whole.clone()]), Some((ImageFormat::Png, 16, 16)));
        };
        let large = block("thumbnail", &png(40, 40));
        is_skipped(large[..large.len() - 2].to_vec());
        is_skipped(large[..large.len() / 2].to_vec());
        let mut damaged = large.clone();
        damaged[3] = " TYPE:Perimeter".to_owned();
        is_skipped(damaged);
        let mut damaged = large.clone();
        damaged[1].insert(5, 'A');
        is_skipped(damaged);
        is_skipped(block("thumbnail", &png(200, 200)));
        is_skipped(block("thumbnail", b"GIF89a and so on"));
        is_skipped(block("thumbnail", b""));
    }

    #[test]
    fn what_grows_too_large_as_a_png_is_skipped() {
        let data = qoi(90, 90);
        assert!(data.len() <= LIMIT);
        let mut thumbnails = Thumbnails::new(data.len());
        for line in
            block("thumbnail_QOI", &qoi::encode_to_vec(vec![7; 90 * 90 * 4], 90, 90).unwrap())
        {
            thumbnails.comment(line.as_bytes());
        }
        assert!(thumbnails.finish().is_some());
        let mut thumbnails = Thumbnails::new(200);
        for line in
            block("thumbnail_QOI", &qoi::encode_to_vec(vec![7; 90 * 90 * 4], 90, 90).unwrap())
        {
            thumbnails.comment(line.as_bytes());
        }
        assert_eq!(thumbnails.finish(), None);
    }

    #[test]
    fn one_may_be_in_a_single_line() {
        let base64 = BASE64.encode(png(40, 40));
        let (begin, rest) = base64.split_at(1_000);
        for name in ["thumbnail: ", "Thumbnail: ", "thumbnail:"] {
            let mut thumbnails = Thumbnails::new(LIMIT);
            assert!(thumbnails.comment(format!("{name}data:image/png;base64,{begin}").as_bytes()));
            thumbnails.rest(rest.as_bytes());
            assert!(!thumbnails.comment(b"TYPE:Perimeter"));
            assert_eq!(thumbnails.finish().map(|found| found.width), Some(40));
        }
        let mut thumbnails = Thumbnails::new(LIMIT);
        assert!(!thumbnails.comment(b"thumbnail: data:image/png,abc"));
        assert!(thumbnails.comment(b"thumbnail: data:image/png;base64,abc"));
        for _ in 0..1_000 {
            thumbnails.rest(base64.as_bytes());
        }
        assert!(thumbnails.open.as_ref().unwrap().base64.capacity() <= 2 * LIMIT);
        thumbnails.other_line();
        assert_eq!(thumbnails.finish(), None);
    }
}
