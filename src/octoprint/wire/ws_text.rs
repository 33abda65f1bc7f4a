//! A stream adapter below tungstenite: relabels text frames as binary, and reads large messages into
//! separate buffers.
//!
//! tungstenite closes a connection at the first text message that is not UTF-8. Printers send invalid
//! bytes, and such a message can be skipped because its bounds are known. So incoming text frames are
//! relabelled as binary ones, and the text is checked when it is decoded.
//!
//! tungstenite's buffer grows to the size of the largest message and never shrinks. So a large
//! message is read into a separate buffer, and tungstenite gets an empty message in its place. With
//! 1,000 printers and half an hour of history for each, the bridge takes 71 MB with this and 204 MB
//! without; the budget is 80 MB.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use crate::octoprint::large::{self, LargeTurn, Sizes};

const FIN: u8 = 0x80;
const OPCODE: u8 = 0x0f;
/// The first opcode of control frames, which may come between the frames of a message.
const CONTROL: u8 = 0x8;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const MASKED: u8 = 0x80;
/// Maximum size of a header, in bytes: opcode, length, extended length. A mask counts as payload;
/// servers never send one.
const MAX_HEADER: usize = 10;

/// A stream of WebSocket frames in which text frames are read as binary ones. A read never crosses
/// the end of a frame, so a reader that has parsed a frame has no bytes of the next one.
pub(in crate::octoprint) struct TextAsBinary<S> {
    stream: S,
    state: ReadState,
    header: Header,
    sizes: Sizes,
    /// Size of the current message, as far as it is known, in bytes.
    message: u64,
    turn: LargeTurn,
    /// The large message that an empty one replaces.
    detached: Option<Bytes>,
    /// Whether data of a message arrived since the last [`Self::is_receiving`].
    progressed: bool,
}

/// The position of the stream within a frame.
enum ReadState {
    Header,
    /// Passing on the header from this offset.
    ReplayingHeader(usize),
    /// Passing on the payload; the number of remaining bytes.
    Payload(u64),
    /// Reading a large message into a buffer; the number of remaining bytes.
    Detached(BytesMut, usize),
}

impl<S> TextAsBinary<S> {
    /// Wraps `stream`, which must be at the start of a frame.
    pub(in crate::octoprint) fn new(stream: S, sizes: Sizes) -> Self {
        let (header, turn) = (Header::default(), LargeTurn::default());
        let (message, detached, progressed) = (0, None, false);
        Self {
            stream,
            state: ReadState::Header,
            header,
            sizes,
            message,
            turn,
            detached,
            progressed,
        }
    }

    /// Whether data of a message arrived since the last call, or a large one waits for its turn.
    pub(in crate::octoprint) fn is_receiving(&mut self) -> bool {
        std::mem::take(&mut self.progressed) || self.turn.is_waiting()
    }

    /// Returns the message that tungstenite read as `message`; a large one holds its turn.
    pub(in crate::octoprint) fn take_message(&mut self, message: Bytes) -> Bytes {
        let message = match self.detached.take() {
            Some(detached) if message.is_empty() => detached,
            _ => message,
        };
        self.turn.attach(message)
    }

    fn after_header(&mut self) -> ReadState {
        let (length, data) = (self.header.payload(), !self.header.is_control());
        let whole = self.header.is_whole_message() && self.message == 0;
        if data {
            self.message = self.message.saturating_add(length);
        }
        match usize::try_from(length) {
            Ok(length) if whole && length > large::SMALL && length <= self.sizes.max => {
                ReadState::Detached(BytesMut::with_capacity(large::capacity(length)), length)
            }
            // tungstenite refuses a message that is too large at its header.
            _ => ReadState::ReplayingHeader(0),
        }
    }

    fn after_replay(&mut self) -> ReadState {
        match self.header.payload() {
            0 => self.frame_is_over(),
            left => ReadState::Payload(left),
        }
    }

    fn frame_is_over(&mut self) -> ReadState {
        if self.header.ends_message() {
            self.message = 0;
        }
        self.header = Header::default();
        ReadState::Header
    }

    fn finish_detached(&mut self, message: Bytes) -> ReadState {
        self.detached = Some(message);
        self.message = 0;
        self.header = Header::of_empty_message();
        ReadState::ReplayingHeader(0)
    }
}

/// The header of a frame, possibly incomplete.
#[derive(Debug, Default)]
struct Header {
    bytes: [u8; MAX_HEADER],
    len: usize,
}

impl Header {
    fn of_empty_message() -> Self {
        let mut header = Self { len: 2, ..Self::default() };
        header.bytes[0] = FIN | BINARY;
        header
    }

    /// Returns how many bytes are missing, as far as is known.
    fn missing(&self) -> usize {
        let whole = match (self.len, self.bytes[1] & !MASKED) {
            (2.., 126) => 4,
            (2.., 127) => MAX_HEADER,
            _ => 2,
        };
        whole - self.len
    }

    fn add(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        if self.len == 0 && self.bytes[0] & OPCODE == TEXT {
            self.bytes[0] = (self.bytes[0] & !OPCODE) | BINARY;
        }
        self.len += bytes.len();
    }

    fn payload(&self) -> u64 {
        let length = match self.len {
            2 => u64::from(self.bytes[1] & !MASKED),
            _ => self.bytes[2..self.len]
                .iter()
                .fold(0, |length, byte| length << 8 | u64::from(*byte)),
        };
        length.saturating_add(if self.is_masked() { 4 } else { 0 })
    }

    fn is_masked(&self) -> bool {
        self.bytes[1] & MASKED != 0
    }

    fn is_control(&self) -> bool {
        self.bytes[0] & OPCODE >= CONTROL
    }

    fn ends_message(&self) -> bool {
        self.bytes[0] & FIN != 0 && !self.is_control()
    }

    /// Whether the frame is a whole message, as OctoPrint's are.
    fn is_whole_message(&self) -> bool {
        self.bytes[0] == FIN | BINARY && !self.is_masked()
    }
}

impl<S: AsyncRead + Unpin> TextAsBinary<S> {
    /// Reads available data into `to`. Returns its length; 0 at the end of the stream.
    fn poll_into(&mut self, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        let before = to.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, to))?;
        Poll::Ready(Ok(to.filled().len() - before))
    }

    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.message > self.sizes.large as u64 {
            true => self.turn.poll(cx),
            false => Poll::Ready(()),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TextAsBinary<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while buf.remaining() > 0 {
            match std::mem::replace(&mut this.state, ReadState::Header) {
                ReadState::Header => {
                    let mut bytes = [0; MAX_HEADER];
                    let mut part = ReadBuf::new(&mut bytes[..this.header.missing()]);
                    if ready!(this.poll_into(cx, &mut part))? == 0 {
                        return Poll::Ready(Ok(()));
                    }
                    this.header.add(part.filled());
                    if this.header.missing() == 0 {
                        this.state = this.after_header();
                    }
                }
                ReadState::ReplayingHeader(from) => {
                    let header = &this.header.bytes[from..this.header.len];
                    let part = header.len().min(buf.remaining());
                    buf.put_slice(&header[..part]);
                    this.state = match from + part == this.header.len {
                        true => this.after_replay(),
                        false => ReadState::ReplayingHeader(from + part),
                    };
                    return Poll::Ready(Ok(()));
                }
                ReadState::Payload(left) => {
                    this.state = ReadState::Payload(left);
                    ready!(this.poll_turn(cx));
                    let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buf.remaining());
                    let mut part = ReadBuf::new(buf.initialize_unfilled_to(wanted));
                    let read = ready!(this.poll_into(cx, &mut part))?;
                    buf.advance(read);
                    this.progressed |= read > 0;
                    this.state = match left - read as u64 {
                        0 => this.frame_is_over(),
                        left => ReadState::Payload(left),
                    };
                    return Poll::Ready(Ok(()));
                }
                ReadState::Detached(mut buffer, length) => {
                    let read = match this.poll_turn(cx) {
                        Poll::Ready(()) => {
                            let mut rest = (&mut buffer).limit(length);
                            pin!(this.stream.read_buf(&mut rest)).poll(cx)
                        }
                        Poll::Pending => Poll::Pending,
                    };
                    let read = match read {
                        Poll::Ready(read) => read?,
                        Poll::Pending => {
                            this.state = ReadState::Detached(buffer, length);
                            return Poll::Pending;
                        }
                    };
                    this.progressed |= read > 0;
                    this.state = match (read, length - read) {
                        // The stream ended within a message.
                        (0, _) => return Poll::Ready(Ok(())),
                        (_, 0) => this.finish_detached(buffer.freeze()),
                        (_, left) => ReadState::Detached(buffer, left),
                    };
                }
            }
        }
        Poll::Ready(Ok(()))
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
    use proptest::prelude::*;

    use super::*;

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

    fn sizes(large: usize, max: usize) -> Sizes {
        Sizes { large, max }
    }

    /// Reads pieces of `cut` bytes at most. Returns all bytes, and where each piece ended.
    fn read_all<S: AsyncRead + Unpin>(
        stream: &mut TextAsBinary<S>,
        cut: usize,
    ) -> (Vec<u8>, Vec<usize>) {
        let (mut all, mut ends) = (Vec::new(), Vec::new());
        let mut cx = Context::from_waker(std::task::Waker::noop());
        loop {
            let mut piece = vec![0; cut];
            let mut buf = ReadBuf::new(&mut piece);
            assert!(Pin::new(&mut *stream).poll_read(&mut cx, &mut buf).is_ready());
            if buf.filled().is_empty() {
                return (all, ends);
            }
            all.extend(buf.filled());
            ends.push(all.len());
        }
    }

    #[test]
    fn a_large_message_is_read_separately() {
        let large = vec![b'x'; large::SMALL + 1];
        let mut stream = frame(TEXT, b"a[1]");
        stream.extend(frame(TEXT, &large));
        stream.extend(frame(0x9, b"ping"));
        let expected: Vec<u8> =
            [frame(BINARY, b"a[1]"), frame(BINARY, b""), frame(0x9, b"ping")].concat();
        for cut in [1, 2, 7, 2048] {
            let mut filtered = TextAsBinary::new(&stream[..], sizes(usize::MAX, usize::MAX));
            assert_eq!(read_all(&mut filtered, cut).0, expected);
            assert_eq!(filtered.take_message(Bytes::from_static(b"not it")).len(), 6);
            let mut filtered = TextAsBinary::new(&stream[..], sizes(usize::MAX, usize::MAX));
            let _ = read_all(&mut filtered, cut);
            assert_eq!(filtered.take_message(Bytes::new()), large);
            assert_eq!(filtered.take_message(Bytes::new()), "", "it was one message");
            // A message that is too large is left to tungstenite.
            let mut refused = TextAsBinary::new(&stream[..], sizes(usize::MAX, large::SMALL));
            assert_eq!(read_all(&mut refused, cut).0.len(), stream.len());
        }
    }

    proptest! {
        #[test]
        fn only_the_opcode_of_text_changes(
            frames in proptest::collection::vec((0u8..16, 0usize..400), 1..8),
            // The largest message that is passed on, with an extended length.
            long in prop_oneof![Just(0usize), Just(large::SMALL)],
            cut in 1usize..500,
        ) {
            let stream = |text: u8| -> Vec<u8> {
                let opcode = |o: u8| if o == TEXT { text } else { o };
                let all = frames.iter().flat_map(|(o, n)| frame(opcode(*o), &vec![1; *n]));
                all.chain(frame(text, &vec![1; long])).collect()
            };
            let bytes = stream(TEXT);
            let mut filtered = TextAsBinary::new(&bytes[..], sizes(usize::MAX, usize::MAX));
            let (read, ends) = read_all(&mut filtered, cut);
            prop_assert!(read == stream(BINARY));
            let sizes = frames.iter().map(|(_, n)| frame(0, &vec![1; *n]).len());
            for boundary in sizes.scan(0, |at, n| { *at += n; Some(*at) }) {
                prop_assert!(ends.contains(&boundary), "a read goes past the end of a frame");
            }
        }
    }
}
