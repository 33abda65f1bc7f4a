//! One push connection of a hostile OctoPrint.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use octoprint2mqtt::octoprint::{Frame, MessageKind, decode};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::frames::{self, HISTORY};
use super::server::{PROOF, Shared};
use super::wire::{self, BINARY, CLOSE, Frames, FromClient, PING, PONG, TEXT};

/// For how long what is sent and what is received may cross each other.
const CROSSING: Duration = Duration::from_millis(50);

pub enum Wire {
    WebSocket(TcpStream, Frames),
    Xhr(TcpStream, mpsc::UnboundedReceiver<String>),
}

pub struct Peer {
    pub shared: Arc<Shared>,
    pub wire: Wire,
    pub number: usize,
    /// Whether the client wants the state.
    pub subscribed: bool,
}

impl Peer {
    /// Lives until one side ends it.
    pub async fn run(mut self) {
        // The error is the end.
        let _ = self.live().await;
    }

    async fn live(&mut self) -> io::Result<()> {
        if !self.chance(1) {
            self.push(b"o").await?;
        }
        if !self.chance(1) {
            let connected = match self.shared.is_honest() {
                true => frames::CONNECTED.to_owned(),
                false => frames::connected(&mut self.shared.dice()),
            };
            self.push(connected.as_bytes()).await?;
        }
        self.pump(Duration::from_millis(20)).await?;
        while !self.shared.is_honest() && !self.shared.dice().is_used_up() {
            self.act().await?;
            let pause = [0, 0, 0, 1, 10, 600, 2_000, 6_000, 20_000];
            let pause = *self.shared.dice().pick(&pause);
            self.pump(Duration::from_millis(pause)).await?;
        }
        loop {
            self.pump(Duration::from_secs(20)).await?;
            self.push(b"h").await?;
        }
    }

    async fn act(&mut self) -> io::Result<()> {
        let action = self.shared.dice().below(40);
        match action {
            0..12 => {
                let frame = frames::frame(&mut self.shared.dice());
                self.push(&frame).await
            }
            12..16 => {
                let reauth = frames::reauth(&mut self.shared.dice());
                self.push(reauth.as_bytes()).await
            }
            23..26 => {
                // The login that this asks for begins a second later; a `history` comes during it.
                let reauth = frames::reauth(&mut self.shared.dice());
                self.push(reauth.as_bytes()).await?;
                self.pump(Duration::from_millis(1_200)).await?;
                self.push(HISTORY.as_bytes()).await
            }
            16 => self.push(HISTORY.as_bytes()).await,
            17 => {
                // Often too many.
                let times = self.shared.dice().below(30);
                let frame = frames::frame(&mut self.shared.dice());
                for _ in 0..times {
                    self.push(&frame).await?;
                }
                Ok(())
            }
            18 => {
                let code = 1000 + self.shared.dice().below(3000);
                self.push(format!("c[{code},\"Go away!\"]").as_bytes()).await
            }
            19 => self.odd().await,
            20 => self.freeze().await,
            21 => Err(io::ErrorKind::ConnectionAborted.into()),
            22 => self.pump(Duration::from_secs(50)).await,
            _ => Ok(()),
        }
    }

    /// Something that only WebSocket has.
    async fn odd(&mut self) -> io::Result<()> {
        let (choice, text) = {
            let mut dice = self.shared.dice();
            (dice.below(7), frames::frame(&mut dice))
        };
        let bytes = match choice {
            0 => wire::frame(PING, true, b"ping"),
            1 => wire::frame(CLOSE, true, &1001_u16.to_be_bytes()),
            2 => wire::frame(0x3, true, &text),
            3 => vec![0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            4 => wire::frame(0x0, true, &text),
            5 => [wire::frame(PONG, true, b""), wire::frame(TEXT, true, b"")].concat(),
            // In two parts, and a ping between them: one message.
            _ => {
                let (one, other) = text.split_at(text.len() / 2);
                let parts = [
                    wire::frame(TEXT, false, one),
                    wire::frame(PING, true, b""),
                    wire::frame(0x0, true, other),
                ];
                self.count(&text);
                parts.concat()
            }
        };
        let Wire::WebSocket(stream, _) = &mut self.wire else { return Ok(()) };
        wire::write(stream, &bytes).await
    }

    /// Holds the connection, and neither reads nor writes.
    async fn freeze(&mut self) -> io::Result<()> {
        self.shared.note(self.number, |connection| connection.frozen = Some(Instant::now()));
        tokio::time::sleep(Duration::from_secs(120)).await;
        Err(io::ErrorKind::TimedOut.into())
    }

    /// Sends a SockJS frame.
    async fn push(&mut self, frame: &[u8]) -> io::Result<()> {
        self.count(frame);
        match &mut self.wire {
            Wire::WebSocket(stream, _) => {
                let opcode = if self.shared.dice().chance(1) { BINARY } else { TEXT };
                wire::write(stream, &wire::frame(opcode, true, frame)).await
            }
            Wire::Xhr(stream, _) => {
                let mut line = frame.to_vec();
                line.push(b'\n');
                wire::write(stream, &line).await
            }
        }
    }

    /// Enters into the ledger what is about to be sent.
    fn count(&self, frame: &[u8]) {
        self.shared.ledger().tell("push", frame);
        // A line break ends a frame of XHR streaming.
        for part in [frame].into_iter().chain(frame.split(|byte| *byte == b'\n')) {
            let Ok(Frame::Messages(decoded)) = decode(&Bytes::copy_from_slice(part)) else {
                continue;
            };
            if decoded.messages.iter().any(|message| message.kind == MessageKind::History) {
                self.shared.note(self.number, |connection| {
                    connection.proof_sent = Some(Instant::now());
                    connection.proof_due = None;
                });
            }
        }
    }

    /// Reads what the client sends during this time.
    async fn pump(&mut self, long: Duration) -> io::Result<()> {
        let until = Instant::now() + long;
        loop {
            let text = tokio::select! {
                biased;
                text = receive(&mut self.wire) => text?,
                () = sleep_until(until) => return Ok(()),
            };
            if let Some(text) = text {
                self.take(&text).await?;
            }
        }
    }

    async fn take(&mut self, text: &str) -> io::Result<()> {
        self.shared.ledger().tell("received", text.as_bytes());
        if text.contains("\\\"auth\\\"") {
            self.shared.note(self.number, |connection| {
                connection.auths += 1;
                // One that crossed the login on the way may be taken for its proof.
                let crossed = connection.proof_sent.is_some_and(|at| at.elapsed() < CROSSING);
                if connection.auths > 1 && !crossed {
                    connection.proof_due = Some(Instant::now() + PROOF);
                }
            });
            if self.is_first() { self.answer_auth().await } else { Ok(()) }
        } else if text.contains("\\\"subscribe\\\"") {
            let wants = !text.contains("\\\"state\\\":false");
            let changed = std::mem::replace(&mut self.subscribed, wants) != wants;
            if changed && wants && !self.is_first() { self.answer_auth().await } else { Ok(()) }
        } else {
            Ok(())
        }
    }

    fn is_first(&self) -> bool {
        self.shared.ledger().connections[self.number].auths <= 1
    }

    /// What follows a login.
    async fn answer_auth(&mut self) -> io::Result<()> {
        if !self.chance(5) {
            self.push(HISTORY.as_bytes()).await?;
            return self.push(br#"a[{"timelapse":null}]"#).await;
        }
        let choice = self.shared.dice().below(5);
        match choice {
            0 => self.push(br#"a[{"reauthRequired":{"reason":"stale"}}]"#).await,
            1 => self.push(br#"a[{"event":{"type":"ClientAuthed","payload":{}}}]"#).await,
            2 => Err(io::ErrorKind::ConnectionAborted.into()),
            3 => self.freeze().await,
            _ => Ok(()),
        }
    }

    /// Chance, which an honest OctoPrint has none of.
    fn chance(&self, times: usize) -> bool {
        !self.shared.is_honest() && self.shared.dice().chance(times)
    }
}

/// The next text of the client; `None` for what is none.
async fn receive(wire: &mut Wire) -> io::Result<Option<String>> {
    match wire {
        Wire::WebSocket(stream, frames) => match frames.next(stream).await? {
            FromClient::Text(text) => Ok(Some(text)),
            FromClient::Ping(payload) => {
                wire::write(stream, &wire::frame(PONG, true, &payload)).await.map(|()| None)
            }
            FromClient::Other => Ok(None),
        },
        Wire::Xhr(_, texts) => {
            texts.recv().await.map(Some).ok_or(io::ErrorKind::UnexpectedEof.into())
        }
    }
}
