//! Thumbnails checked: their format by what is in them, whether they are whole, their size (pure).

use bytes::Bytes;

/// The longest side of an image that is believed, in pixels.
const LONGEST_SIDE: u32 = 4_096;

/// The most pixels of an image that is decoded, which needs four bytes each.
const MOST_PIXELS: u64 = 1 << 21;

/// The format of a thumbnail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageFormat {
    /// PNG.
    Png,
    /// JPEG.
    Jpeg,
}

impl ImageFormat {
    /// Its media type, such as `image/png`.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
        }
    }
}

/// A whole image.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Image {
    pub(super) format: ImageFormat,
    pub(super) data: Bytes,
    pub(super) width: u32,
    pub(super) height: u32,
}

/// Checks an image, and makes a PNG of a QOI. `None` if it is of another format, broken, too large, or if
/// `is_wanted` refuses its width and height.
pub(super) fn check(data: Vec<u8>, is_wanted: impl Fn(u32, u32) -> bool) -> Option<Image> {
    let is_fit = |width: u32, height: u32| {
        let side = 1..=LONGEST_SIDE;
        side.contains(&width) && side.contains(&height) && is_wanted(width, height)
    };
    let (format, (width, height)) = match data.get(..4)? {
        [0x89, b'P', b'N', b'G'] => (ImageFormat::Png, png_size(&data)?),
        [0xff, 0xd8, 0xff, _] => (ImageFormat::Jpeg, jpeg_size(&data)?),
        b"qoif" => {
            let header = qoi::decode_header(&data).ok()?;
            let (width, height) = (header.width, header.height);
            let pixels = u64::from(width) * u64::from(height);
            if !is_fit(width, height) || pixels > MOST_PIXELS {
                return None;
            }
            let data = Bytes::from(png_of_qoi(&data)?);
            return Some(Image { format: ImageFormat::Png, data, width, height });
        }
        _ => return None,
    };
    is_fit(width, height).then(|| Image { format, data: Bytes::from(data), width, height })
}

/// Width and height of a PNG of which all chunks are whole.
fn png_size(data: &[u8]) -> Option<(u32, u32)> {
    let mut rest = data.strip_prefix(b"\x89PNG\r\n\x1a\n")?;
    let mut size = None;
    let mut has_pixels = false;
    loop {
        let length = usize::try_from(word(rest)?).ok()?;
        let (checked, after) = rest.get(4..)?.split_at_checked(length.checked_add(4)?)?;
        if crc32(checked) != word(after)? {
            return None;
        }
        let (kind, content) = checked.split_at(4);
        match kind {
            b"IHDR" => size = Some((word(content)?, word(content.get(4..)?)?)),
            b"IDAT" => has_pixels = true,
            b"IEND" => return size.filter(|_| has_pixels),
            _ => {}
        }
        rest = &after[4..];
    }
}

/// Width and height of a JPEG that has its end.
fn jpeg_size(data: &[u8]) -> Option<(u32, u32)> {
    let end = data.trim_ascii_end().strip_suffix(b"\xff\xd9")?;
    let mut rest = end.get(2..)?;
    loop {
        let (marker, after) = match rest {
            // Markers may be filled up.
            [0xff, 0xff, ..] => {
                rest = &rest[1..];
                continue;
            }
            [0xff, marker, after @ ..] => (*marker, after),
            _ => return None,
        };
        let length = usize::from(u16::from_be_bytes(*after.first_chunk()?));
        let segment = after.get(2..length)?;
        match marker {
            // A frame begins; the others in this range are tables.
            0xc0..=0xcf if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => {
                let height = u16::from_be_bytes(*segment.get(1..)?.first_chunk()?);
                let width = u16::from_be_bytes(*segment.get(3..)?.first_chunk()?);
                return Some((u32::from(width), u32::from(height)));
            }
            // The pixels, before any frame.
            0xda => return None,
            _ => rest = &after[length..],
        }
    }
}

fn png_of_qoi(data: &[u8]) -> Option<Vec<u8>> {
    let (header, pixels) = qoi::decode_to_vec(data).ok()?;
    let mut png = Vec::new();
    let mut encoder = png::Encoder::new(&mut png, header.width, header.height);
    encoder.set_color(if header.channels.is_rgba() {
        png::ColorType::Rgba
    } else {
        png::ColorType::Rgb
    });
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().ok()?;
    writer.write_image_data(&pixels).ok()?;
    writer.finish().ok()?;
    Some(png)
}

/// The number in the first four bytes.
fn word(data: &[u8]) -> Option<u32> {
    data.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

/// The checksum of PNG.
fn crc32(data: &[u8]) -> u32 {
    !data.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(crc & 1))
        })
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Pixels that do not compress well.
    fn pixels(count: u32) -> Vec<u8> {
        let mut state = 1_u32;
        let next = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..count).map(next).collect()
    }

    /// A PNG.
    pub(in crate::gcode) fn png(width: u32, height: u32) -> Vec<u8> {
        let mut data = Vec::new();
        let mut encoder = png::Encoder::new(&mut data, width, height);
        encoder.set_color(png::ColorType::Rgb);
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(&pixels(width * height * 3)).unwrap();
        writer.finish().unwrap();
        data
    }

    /// A QOI.
    pub(in crate::gcode) fn qoi(width: u32, height: u32) -> Vec<u8> {
        qoi::encode_to_vec(pixels(width * height * 4), width, height).unwrap()
    }

    /// What has the form of a JPEG.
    pub(in crate::gcode) fn jpeg(width: u16, height: u16) -> Vec<u8> {
        let mut data = vec![0xff, 0xd8, 0xff, 0xe0, 0, 4, 1, 2, 0xff, 0xff, 0xc2, 0, 11, 8];
        data.extend(height.to_be_bytes());
        data.extend(width.to_be_bytes());
        data.extend([1, 1, 0x11, 0, 0xff, 0xda, 0, 2, 7, 7, 7, 0xff, 0xd9]);
        data
    }

    fn size(data: &[u8]) -> Option<(ImageFormat, u32, u32)> {
        let image = check(data.to_vec(), |_, _| true)?;
        Some((image.format, image.width, image.height))
    }

    #[test]
    fn formats_are_recognised_by_what_is_in_them() {
        assert_eq!(size(&png(30, 20)), Some((ImageFormat::Png, 30, 20)));
        assert_eq!(size(&jpeg(30, 20)), Some((ImageFormat::Jpeg, 30, 20)));
        assert_eq!(size(&qoi(30, 20)), Some((ImageFormat::Png, 30, 20)));
        for other in [b"GIF89a".as_slice(), b"", b"qoif", b"\xff\xd8\xff", b"BM123456"] {
            assert_eq!(size(other), None);
        }
    }

    #[test]
    fn a_qoi_becomes_a_png_with_the_same_pixels() {
        let image = check(qoi(30, 20), |_, _| true).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(&image.data)).read_info().unwrap();
        let mut decoded = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut decoded).unwrap();
        assert_eq!(decoded, pixels(30 * 20 * 4));
    }

    #[test]
    fn a_broken_image_is_none() {
        for whole in [png(30, 20), jpeg(30, 20), qoi(30, 20)] {
            for length in 0..whole.len() {
                assert_eq!(size(&whole[..length]), None, "{length} of {}", whole.len());
            }
        }
        let mut damaged = png(30, 20);
        damaged[60] ^= 1;
        assert_eq!(size(&damaged), None);
    }

    #[test]
    fn absurd_sizes_are_none() {
        assert_eq!(size(&jpeg(0, 20)), None);
        assert_eq!(size(&jpeg(5_000, 20)), None);
        let mut large = qoi(2, 2);
        large[4..8].copy_from_slice(&4_000_u32.to_be_bytes());
        large[8..12].copy_from_slice(&4_000_u32.to_be_bytes());
        assert_eq!(size(&large), None);
        large[4..12].fill(0xff);
        assert_eq!(size(&large), None);
        assert_eq!(check(png(3, 3), |_, _| false), None);
    }
}
