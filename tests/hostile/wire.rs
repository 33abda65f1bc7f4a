//! The server's end of HTTP and WebSocket, raw, so that any part of it can be wrong.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

pub const TEXT: u8 = 0x1;
pub const BINARY: u8 = 0x2;
pub const CLOSE: u8 = 0x8;
pub const PING: u8 = 0x9;
pub const PONG: u8 = 0xa;
const FIN: u8 = 0x80;

/// A request as it came.
pub struct Request {
    pub head: String,
    pub body: String,
}

impl Request {
    pub async fn read(stream: &mut TcpStream) -> Option<Self> {
        let mut bytes = Vec::new();
        let head = loop {
            if let Some(end) = bytes.windows(4).position(|part| part == b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut bytes).await.ok()? == 0 {
                return None;
            }
        };
        let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
        let mut request = Self { head: text, body: String::new() };
        let length = request.header("content-length").map_or(0, |n| n.parse().unwrap_or(0));
        while bytes.len() < head + length {
            if stream.read_buf(&mut bytes).await.ok()? == 0 {
                return None;
            }
        }
        request.body = String::from_utf8_lossy(&bytes[head..]).into_owned();
        Some(request)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    pub fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    /// The answer that switches to WebSocket.
    pub fn switch(&self) -> String {
        let key = self.header("sec-websocket-key").unwrap_or_default();
        format!(
            "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\n\r\n",
            derive_accept_key(key.as_bytes())
        )
    }
}

pub fn http(status: u16, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n{body}"
    )
}

/// The bytes of a WebSocket frame, unmasked, as servers send them.
pub fn frame(opcode: u8, fin: bool, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![opcode | if fin { FIN } else { 0 }];
    match payload.len() {
        length @ 0..126 => frame.push(length as u8),
        length @ 126..65536 => {
            frame.push(126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend(payload);
    frame
}

/// What a client sends over WebSocket.
pub enum FromClient {
    Text(String),
    Ping(Vec<u8>),
    /// A close, a pong, and what is unknown.
    Other,
}

/// Reads client's frames; a read that is dropped loses nothing.
#[derive(Default)]
pub struct Frames {
    bytes: Vec<u8>,
}

impl Frames {
    pub async fn next(&mut self, stream: &mut TcpStream) -> io::Result<FromClient> {
        loop {
            if let Some(frame) = self.take() {
                return Ok(frame);
            }
            if stream.read_buf(&mut self.bytes).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn take(&mut self) -> Option<FromClient> {
        let [first, second, rest @ ..] = &self.bytes[..] else { return None };
        let (length, rest) = match second & 0x7f {
            126 => (usize::from(u16::from_be_bytes(*rest.first_chunk()?)), rest.get(2..)?),
            127 => {
                (usize::try_from(u64::from_be_bytes(*rest.first_chunk()?)).ok()?, rest.get(8..)?)
            }
            length => (usize::from(length), rest),
        };
        let (mask, rest) = rest.split_first_chunk::<4>()?;
        let masked = rest.get(..length)?;
        let payload: Vec<u8> =
            masked.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        let frame = match first & 0x0f {
            TEXT => FromClient::Text(String::from_utf8_lossy(&payload).into_owned()),
            PING => FromClient::Ping(payload),
            _ => FromClient::Other,
        };
        let used = self.bytes.len() - rest.len() + length;
        self.bytes.drain(..used);
        Some(frame)
    }
}

pub async fn write(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await
}
