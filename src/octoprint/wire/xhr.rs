//! SockJS over XHR streaming, for when a proxy blocks WebSocket.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use reqwest::{Method, Response};
use tokio::time::timeout;

use super::received::{Received, TransportError, session_path};
use crate::octoprint::large::{self, LargeTurn, Sizes};
use crate::octoprint::rest::client::Rest;

/// Timeout of a sent message, after which the connection counts as dead.
const SEND_TIMEOUT: Duration = Duration::from_secs(15);
const REOPEN_TIMEOUT: Duration = Duration::from_secs(5);
/// Size of a line after which the buffer is shrunk, in bytes.
const LARGE: usize = 16 * 1024;

type Sending = BoxFuture<'static, Result<(), TransportError>>;
type Reopening = BoxFuture<'static, Result<Response, TransportError>>;

/// A session: receives frames on a stream, and sends messages with one call at a time.
pub(in crate::octoprint) struct Xhr {
    rest: Rest,
    session: String,
    stream: XhrStream,
    lines: Lines,
    /// Size of a large line, in bytes; larger ones are read one at a time in the process.
    large: usize,
    turn: LargeTurn,
    sending: Option<Sending>,
    queue: VecDeque<String>,
}

/// OctoPrint ends a stream after 128 KiB; the session continues in another one.
enum XhrStream {
    Open(Response),
    Reopening(Reopening),
}

enum XhrEvent {
    Chunk(Option<Bytes>),
    Reopened(Response),
    Sent,
}

impl Xhr {
    pub(in crate::octoprint) async fn open(
        rest: Rest,
        sizes: Sizes,
    ) -> Result<Self, TransportError> {
        let session = session_path();
        let stream = XhrStream::Open(stream(rest.clone(), session.clone()).await?);
        let (lines, turn) = (Lines::new(sizes.max), LargeTurn::default());
        let (sending, queue) = (None, VecDeque::new());
        Ok(Self { rest, session, stream, lines, large: sizes.large, turn, sending, queue })
    }

    pub(in crate::octoprint) fn is_receiving(&mut self) -> bool {
        std::mem::take(&mut self.lines.progressed) || self.turn.is_waiting()
    }

    /// Queues a frame; [`Xhr::receive`] sends it.
    pub(in crate::octoprint) fn send(&mut self, text: String) {
        self.queue.push_back(text);
    }

    /// Sends the queue and waits for the next frame or sign of life. Cancel-safe.
    pub(in crate::octoprint) async fn receive(&mut self) -> Result<Received, TransportError> {
        loop {
            if let Some(line) = self.lines.next() {
                return Ok(Received::Frame(self.turn.attach(line)));
            }
            if self.sending.is_none() {
                self.sending = self.queue.pop_front().map(|text| self.sending(text));
            }
            match self.event().await? {
                XhrEvent::Chunk(Some(chunk)) => self.lines.add(&chunk)?,
                XhrEvent::Chunk(None) => {
                    let next = stream(self.rest.clone(), self.session.clone());
                    self.stream = XhrStream::Reopening(Box::pin(async move {
                        let next = timeout(REOPEN_TIMEOUT, next).await;
                        next.unwrap_or(Err(TransportError::OpenTimeout))
                    }));
                }
                XhrEvent::Reopened(response) => self.stream = XhrStream::Open(response),
                XhrEvent::Sent => {
                    self.sending = None;
                    return Ok(Received::Alive);
                }
            }
        }
    }

    async fn event(&mut self) -> Result<XhrEvent, TransportError> {
        let sending = async {
            match &mut self.sending {
                Some(sending) => sending.await,
                None => std::future::pending().await,
            }
        };
        let large = self.lines.buffer.len() > self.large;
        let stream = async {
            if large {
                poll_fn(|cx| self.turn.poll(cx)).await;
            }
            match &mut self.stream {
                XhrStream::Open(response) => match response.chunk().await {
                    Ok(chunk) => Ok(XhrEvent::Chunk(chunk)),
                    Err(error) => Err(TransportError::from_request(error)),
                },
                XhrStream::Reopening(next) => next.await.map(XhrEvent::Reopened),
            }
        };
        tokio::select! {
            event = stream => event,
            sent = sending => sent.map(|()| XhrEvent::Sent),
        }
    }

    fn sending(&self, text: String) -> Sending {
        let (rest, path) = (self.rest.clone(), format!("{}/xhr_send", self.session));
        Box::pin(async move {
            let sent = timeout(SEND_TIMEOUT, post(&rest, &path, text)).await;
            let response = sent.map_err(|_| TransportError::SendTimeout)??;
            match response.status().as_u16() {
                200 | 204 => Ok(()),
                404 => Err(TransportError::Ended),
                status => Err(TransportError::XhrRefused { status }),
            }
        })
    }
}

/// Opens a stream of the session. Takes owned arguments, because the future is stored.
async fn stream(rest: Rest, session: String) -> Result<Response, TransportError> {
    let response = post(&rest, &format!("{session}/xhr_streaming"), String::new()).await?;
    match response.status().as_u16() {
        200 => Ok(response),
        status => Err(TransportError::XhrRefused { status }),
    }
}

async fn post(rest: &Rest, path: &str, body: String) -> Result<Response, TransportError> {
    let request = rest.http().request_without_timeout(Method::POST, path);
    let request = request.map_err(TransportError::Argument)?;
    let request = request.header(reqwest::header::CONTENT_TYPE, "text/plain;charset=UTF-8");
    Ok(rest.http().send(request.body(body)).await?)
}

struct Lines {
    buffer: BytesMut,
    /// Number of bytes at the start of the buffer that contain no line end.
    searched: usize,
    max: usize,
    /// Whether data arrived since the last [`Xhr::is_receiving`].
    progressed: bool,
}

impl Lines {
    fn new(max: usize) -> Self {
        Self { buffer: BytesMut::new(), searched: 0, max, progressed: false }
    }

    fn add(&mut self, chunk: &[u8]) -> Result<(), TransportError> {
        let (used, needed) = (self.buffer.len(), self.buffer.len() + chunk.len());
        if needed > self.buffer.capacity() {
            self.buffer.reserve(large::capacity(needed.max(2 * used)) - used);
        }
        self.buffer.extend_from_slice(chunk);
        self.progressed = true;
        let partial = self.buffer.len() - self.searched;
        if self.searched > self.max && partial > 0 {
            return Err(TransportError::TooLarge(format!("over {} bytes", self.max).into()));
        }
        Ok(())
    }

    fn next(&mut self) -> Option<Bytes> {
        let unsearched = self.buffer.get(self.searched..)?;
        match unsearched.iter().position(|byte| *byte == b'\n') {
            Some(end) => {
                let line = self.buffer.split_to(self.searched + end + 1).freeze();
                self.searched = 0;
                if line.len() >= LARGE {
                    self.buffer = BytesMut::from(&self.buffer[..]);
                }
                Some(line)
            }
            None => {
                self.searched = self.buffer.len();
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_joined_to_lines() {
        let mut lines = Lines::new(100);
        let mut seen = Vec::new();
        for chunk in ["hh", "h\no", "\n", "a[1]\nh\na[", "2]\n"] {
            lines.add(chunk.as_bytes()).unwrap();
            seen.extend(std::iter::from_fn(|| lines.next()));
        }
        assert_eq!(seen, ["hhh\n", "o\n", "a[1]\n", "h\n", "a[2]\n"]);
    }

    #[test]
    fn the_buffer_of_a_large_line_is_freed() {
        let mut lines = Lines::new(usize::MAX);
        lines.add(&[b'x'; large::SMALL]).unwrap();
        assert!(lines.next().is_none() && lines.buffer.capacity() == large::SMALL);
        lines.add(b"x").unwrap();
        assert_eq!(lines.buffer.capacity(), large::capacity(large::SMALL + 1));
        lines.add(b"\nh\n").unwrap();
        assert_eq!(lines.next().map(|line| line.len()), Some(large::SMALL + 2));
        assert!(lines.buffer.capacity() < 100, "{}", lines.buffer.capacity());
        assert_eq!(lines.next().as_deref(), Some(&b"h\n"[..]));
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut lines = Lines::new(10);
        let refused = (0..20).any(|_| {
            let added = lines.add(b"abc");
            assert!(lines.next().is_none());
            added.is_err()
        });
        assert!(refused && lines.buffer.len() < 20);
    }
}
