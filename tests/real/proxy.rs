//! A TCP proxy between two programs: records what the server says, cuts, freezes, delays,
//! throttles.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

#[derive(Clone)]
pub struct Proxy {
    pub port: u16,
    /// What the server said, a buffer for each connection.
    said: Arc<Mutex<Vec<Vec<u8>>>>,
    line: Arc<Line>,
    cut: Arc<Mutex<CancellationToken>>,
}

/// How the line is.
#[derive(Default)]
struct Line {
    frozen: AtomicBool,
    refusing: AtomicBool,
    /// How long everything is on its way, in milliseconds and in each direction.
    delay: AtomicU64,
    /// How many bytes pass in a second, in each direction of each connection; 0 is no limit.
    speed: AtomicU64,
}

impl Line {
    /// Carries what `from` says to `to`, each piece after its time on the way.
    async fn carry(
        &self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
        mut heard: impl FnMut(&[u8]),
    ) {
        let (depart, mut arriving) = tokio::sync::mpsc::unbounded_channel();
        let read = async {
            let mut buffer = vec![0; 65536];
            while let Ok(n @ 1..) = from.read(&mut buffer).await {
                heard(&buffer[..n]);
                let delay = Duration::from_millis(self.delay.load(Ordering::Relaxed));
                depart.send((Instant::now() + delay, buffer[..n].to_vec())).unwrap();
            }
            // What was read before the end is still carried.
            drop(depart);
            std::future::pending::<()>().await;
        };
        let write = async {
            while let Some((arrival, bytes)) = arriving.recv().await {
                sleep_until(arrival).await;
                if self.frozen.load(Ordering::Relaxed) {
                    continue;
                }
                for piece in bytes.chunks(256) {
                    if to.write_all(piece).await.is_err() {
                        return;
                    }
                    let speed = self.speed.load(Ordering::Relaxed);
                    if speed > 0 {
                        let pause = piece.len() as f64 / speed as f64;
                        tokio::time::sleep(Duration::from_secs_f64(pause)).await;
                    }
                }
            }
        };
        tokio::select! { () = read => {}, () = write => {} }
    }
}

impl Proxy {
    /// Listens on a free port and forwards to `target` on 127.0.0.1.
    pub async fn start(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Self {
            port: listener.local_addr().unwrap().port(),
            said: Arc::default(),
            line: Arc::default(),
            cut: Arc::default(),
        };
        let this = proxy.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if this.line.refusing.load(Ordering::Relaxed) {
                    continue;
                }
                if let Ok(server) = TcpStream::connect(("127.0.0.1", target)).await {
                    tokio::spawn(this.clone().forward(client, server));
                }
            }
        });
        proxy
    }

    async fn forward(self, client: TcpStream, server: TcpStream) {
        let cut = self.cut.lock().unwrap().clone();
        let slot = {
            let mut said = self.said.lock().unwrap();
            said.push(Vec::new());
            said.len() - 1
        };
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let said = self.said.clone();
        let keep = |bytes: &[u8]| said.lock().unwrap()[slot].extend_from_slice(bytes);
        tokio::select! {
            () = self.line.carry(from_client, to_server, |_| ()) => {}
            () = self.line.carry(from_server, to_client, keep) => {}
            () = cut.cancelled() => {}
        }
    }

    pub fn url(&self, scheme: &str) -> String {
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// Ends all connections.
    pub fn cut(&self) {
        let mut cut = self.cut.lock().unwrap();
        cut.cancel();
        *cut = CancellationToken::new();
    }

    /// Swallows everything from now on, without a word.
    pub fn freeze(&self, frozen: bool) {
        self.line.frozen.store(frozen, Ordering::Relaxed);
    }

    /// Ends every new connection at once from now on.
    pub fn refuse(&self, refusing: bool) {
        self.line.refusing.store(refusing, Ordering::Relaxed);
    }

    /// Makes every round trip take this long from now on.
    pub fn delay(&self, round_trip: Duration) {
        let each_way = u64::try_from(round_trip.as_millis() / 2).unwrap();
        self.line.delay.store(each_way, Ordering::Relaxed);
    }

    /// Lets only so many bytes a second pass in each direction; 0 lets all pass.
    pub fn throttle(&self, bytes_per_second: u64) {
        self.line.speed.store(bytes_per_second, Ordering::Relaxed);
    }

    /// Whether the server said this on one of the connections.
    pub fn has_said(&self, text: &str) -> bool {
        let said = self.said.lock().unwrap();
        said.iter().any(|bytes| bytes.windows(text.len()).any(|w| w == text.as_bytes()))
    }

    /// The text messages of all WebSockets that went through, in order. Messages must not be
    /// compressed.
    pub fn websocket_texts(&self) -> Vec<String> {
        let said = self.said.lock().unwrap();
        said.iter().filter_map(|bytes| upgraded(bytes)).flat_map(texts).collect()
    }
}

/// What follows the answer 101, which may come after others on the same connection.
fn upgraded(bytes: &[u8]) -> Option<&[u8]> {
    let find = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).position(|w| w == what);
    let answer = &bytes[find(bytes, b"HTTP/1.1 101")?..];
    let end = find(answer, b"\r\n\r\n")?;
    Some(&answer[end + 4..])
}

/// The unmasked text frames, fragments put together.
fn texts(bytes: &[u8]) -> Vec<String> {
    let (mut rest, mut texts, mut message) = (bytes, Vec::new(), Vec::new());
    while let [first, second, tail @ ..] = rest {
        assert_eq!(first & 0x70, 0, "compressed");
        let (length, body) = match (second & 0x7f, tail) {
            (126, [a, b, tail @ ..]) => (usize::from(u16::from_be_bytes([*a, *b])), tail),
            (127, tail) if tail.len() >= 8 => {
                let (length, tail) = tail.split_at(8);
                (u64::from_be_bytes(length.try_into().unwrap()) as usize, tail)
            }
            (126 | 127, _) => break,
            (length, tail) => (usize::from(length), tail),
        };
        if body.len() < length {
            break;
        }
        if matches!(first & 0x0f, 0 | 1) {
            message.extend_from_slice(&body[..length]);
            if first & 0x80 != 0 {
                texts.push(String::from_utf8(std::mem::take(&mut message)).unwrap());
            }
        }
        rest = &body[length..];
    }
    texts
}
