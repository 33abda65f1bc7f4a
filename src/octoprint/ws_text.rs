//! Hands WebSocket text over as bytes.
//!
//! tungstenite ends a connection at the first text message that is not UTF-8. OctoPrint's printers
//! put odd bytes on the line, and one such message is no reason to lose the connection: its ends
//! are known, it can be skipped. So incoming text frames are relabelled as binary ones before
//! tungstenite sees them, and the text is checked where it is decoded.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const OPCODE: u8 = 0x0f;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const MASKED: u8 = 0x80;

/// A stream of WebSocket frames in which text frames are read as binary frames.
#[derive(Debug)]
pub(super) struct TextAsBinary<S> {
    stream: S,
    at: At,
    /// Whether the last read ended where a frame of an earlier read ends.
    between: bool,
}

impl<S> TextAsBinary<S> {
    /// `stream` must stand at the start of a frame.
    pub(super) fn new(stream: S) -> Self {
        Self { stream, at: At::Opcode, between: true }
    }

    /// Whether all that was read ends with a frame that took more than one read: who has parsed
    /// that frame has nothing of the next one yet.
    pub(super) fn is_between_frames(&self) -> bool {
        self.between
    }

    /// The stream itself.
    pub(super) fn into_inner(self) -> S {
        self.stream
    }
}

/// Where in a frame the next byte is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Opcode,
    Length,
    /// `left` more bytes of a long length, of which `length` has been read.
    LongLength {
        left: u8,
        length: u64,
        masked: bool,
    },
    Payload {
        left: u64,
    },
}

impl At {
    /// Relabels the frames in `bytes`, which follow what was seen before.
    fn relabel(mut self, bytes: &mut [u8]) -> Self {
        let mut index = 0;
        while let Some(byte) = bytes.get_mut(index) {
            index += 1;
            self = match self {
                Self::Opcode => {
                    if *byte & OPCODE == TEXT {
                        *byte = (*byte & !OPCODE) | BINARY;
                    }
                    Self::Length
                }
                Self::Length => Self::after_length(*byte),
                Self::LongLength { left, length, masked } => {
                    let length = (length << 8) | u64::from(*byte);
                    match left {
                        0 | 1 => Self::payload(length, masked),
                        _ => Self::LongLength { left: left - 1, length, masked },
                    }
                }
                Self::Payload { left } => {
                    // This byte, and all others of the payload that are here, at once.
                    let here =
                        (bytes.len() - index).min(usize::try_from(left - 1).unwrap_or(usize::MAX));
                    index += here;
                    match left - 1 - here as u64 {
                        0 => Self::Opcode,
                        left => Self::Payload { left },
                    }
                }
            };
        }
        self
    }

    fn after_length(byte: u8) -> Self {
        let masked = byte & MASKED != 0;
        match byte & !MASKED {
            126 => Self::LongLength { left: 2, length: 0, masked },
            127 => Self::LongLength { left: 8, length: 0, masked },
            length => Self::payload(u64::from(length), masked),
        }
    }

    /// What follows the length. A mask counts as payload; servers never send one.
    fn payload(length: u64, masked: bool) -> Self {
        match length.saturating_add(if masked { 4 } else { 0 }) {
            0 => Self::Opcode,
            left => Self::Payload { left },
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TextAsBinary<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // A frame that is under way is read to its end and no further.
        let (room, continues) = match self.at {
            At::Payload { left } => (usize::try_from(left).unwrap_or(usize::MAX), true),
            _ => (usize::MAX, false),
        };
        let room = room.min(buf.remaining());
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(room));
        let read = Pin::new(&mut self.stream).poll_read(cx, &mut part);
        let filled = part.filled().len();
        if filled > 0 {
            self.at = self.at.relabel(part.filled_mut());
            self.between = continues && self.at == At::Opcode;
            buf.advance(filled);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TextAsBinary<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0x80 | opcode];
        match payload.len() {
            short @ 0..126 => frame.push(u8::try_from(short).unwrap()),
            long @ 126..65536 => {
                frame.push(126);
                frame.extend(u16::try_from(long).unwrap().to_be_bytes());
            }
            longer => {
                frame.push(127);
                frame.extend(u64::try_from(longer).unwrap().to_be_bytes());
            }
        }
        frame.extend(payload);
        frame
    }

    /// Reads pieces of `cut` bytes at most until the end, and says for each where it ended and
    /// whether it ended between frames.
    fn read_all(stream: &[u8], cut: usize) -> (Vec<u8>, Vec<(usize, bool)>) {
        let mut stream = TextAsBinary::new(stream);
        let (mut all, mut ends) = (Vec::new(), Vec::new());
        let mut cx = Context::from_waker(std::task::Waker::noop());
        loop {
            let mut piece = vec![0; cut];
            let mut buf = ReadBuf::new(&mut piece);
            assert!(Pin::new(&mut stream).poll_read(&mut cx, &mut buf).is_ready());
            if buf.filled().is_empty() {
                return (all, ends);
            }
            all.extend(buf.filled());
            ends.push((all.len(), stream.is_between_frames()));
        }
    }

    proptest! {
        #[test]
        fn only_the_opcode_of_text_changes(
            frames in proptest::collection::vec((0u8..16, 0usize..400), 1..8),
            long in prop_oneof![Just(0usize), Just(70_000)],
            cut in 1usize..500,
        ) {
            let stream = |text: u8| -> Vec<u8> {
                let opcode = |o: u8| if o == TEXT { text } else { o };
                let all = frames.iter().flat_map(|(o, n)| frame(opcode(*o), &vec![1; *n]));
                all.chain(frame(text, &vec![1; long])).collect()
            };
            let (bytes, ends) = read_all(&stream(TEXT), cut);
            prop_assert!(bytes == stream(BINARY));
            let sizes = frames.iter().map(|(_, n)| frame(0, &vec![1; *n]).len());
            let boundaries: Vec<usize> = sizes.scan(0, |at, n| { *at += n; Some(*at) }).collect();
            for (end, between) in ends {
                prop_assert!(!between || end == bytes.len() || boundaries.contains(&end));
            }
        }
    }
}
