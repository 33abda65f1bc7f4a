//! Hands WebSocket text over as bytes.
//!
//! tungstenite ends a connection at the first text message that is not UTF-8. OctoPrint's printers
//! put odd bytes on the line, and one such message is no reason to lose the connection: its ends
//! are known, it can be skipped. So incoming text frames are relabelled as binary ones before
//! tungstenite sees them, and the text is checked where it is decoded.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::wire::large::Turn;

const FIN: u8 = 0x80;
const OPCODE: u8 = 0x0f;
/// Opcodes from here on are of frames that may come in the midst of a message.
const CONTROL: u8 = 0x8;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const MASKED: u8 = 0x80;

/// A stream of WebSocket frames in which text frames are read as binary frames, and large messages
/// one at a time in the process.
pub(super) struct TextAsBinary<S> {
    stream: S,
    frames: Frames,
    /// A larger message waits for its turn, in bytes.
    large: usize,
    turn: Turn,
    /// Whether a part of a message has come since that was asked last.
    moved: bool,
    /// Whether the last read ended where a frame of an earlier read ends.
    between: bool,
}

impl<S> TextAsBinary<S> {
    /// `stream` must stand at the start of a frame.
    pub(super) fn new(stream: S, large: usize) -> Self {
        let (frames, turn) = (Frames::default(), Turn::default());
        Self { stream, frames, large, turn, moved: false, between: true }
    }

    /// Whether a part of a message has come since this was asked last, or one waits for its turn.
    pub(super) fn is_receiving(&mut self) -> bool {
        std::mem::take(&mut self.moved) || self.turn.is_waiting()
    }

    /// Hands the turn, where this stream has it, over to the message that has just been read.
    pub(super) fn attach_turn(&mut self, message: Bytes) -> Bytes {
        self.turn.attach(message)
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

/// Where in a message the next byte is.
#[derive(Debug, Clone, Copy, Default)]
struct Frames {
    at: At,
    /// The first byte of the present frame.
    first: u8,
    /// The size of the present message as far as it is known.
    message: u64,
}

/// Where in a frame the next byte is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum At {
    #[default]
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

impl Frames {
    /// Relabels the frames in `bytes`, which follow what was seen before.
    fn relabel(&mut self, bytes: &mut [u8]) {
        let mut index = 0;
        while let Some(byte) = bytes.get_mut(index) {
            index += 1;
            match self.at {
                At::Opcode => {
                    if *byte & OPCODE == TEXT {
                        *byte = (*byte & !OPCODE) | BINARY;
                    }
                    self.first = *byte;
                    self.at = At::Length;
                }
                At::Length => self.enter(At::after_length(*byte)),
                At::LongLength { left, length, masked } => {
                    let length = (length << 8) | u64::from(*byte);
                    match left {
                        0 | 1 => self.enter(At::payload(length, masked)),
                        _ => self.at = At::LongLength { left: left - 1, length, masked },
                    }
                }
                At::Payload { left } => {
                    // This byte, and all others of the payload that are here, at once.
                    let here =
                        (bytes.len() - index).min(usize::try_from(left - 1).unwrap_or(usize::MAX));
                    index += here;
                    match left - 1 - here as u64 {
                        0 => self.end(),
                        left => self.at = At::Payload { left },
                    }
                }
            }
        }
    }

    /// Goes on after a length, or a part of one.
    fn enter(&mut self, at: At) {
        self.at = at;
        match at {
            At::Payload { left } if self.first & OPCODE < CONTROL => {
                self.message = self.message.saturating_add(left);
            }
            At::Opcode => self.end(),
            _ => {}
        }
    }

    /// A frame is over.
    fn end(&mut self) {
        self.at = At::Opcode;
        if self.first & FIN != 0 && self.first & OPCODE < CONTROL {
            self.message = 0;
        }
    }
}

impl At {
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
        if self.frames.message > self.large as u64 {
            std::task::ready!(self.turn.poll(cx));
        }
        // A frame that is under way is read to its end and no further.
        let (room, continues) = match self.frames.at {
            At::Payload { left } => (usize::try_from(left).unwrap_or(usize::MAX), true),
            _ => (usize::MAX, false),
        };
        let room = room.min(buf.remaining());
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(room));
        let read = Pin::new(&mut self.stream).poll_read(cx, &mut part);
        let filled = part.filled().len();
        if filled > 0 {
            self.frames.relabel(part.filled_mut());
            self.between = continues && self.frames.at == At::Opcode;
            self.moved |= self.frames.message > 0;
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
        let mut stream = TextAsBinary::new(stream, usize::MAX);
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
