//! A TCP proxy between two programs: records what the server says, cuts, refuses.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

#[derive(Clone)]
pub struct Proxy {
    pub port: u16,
    /// What the server said, a buffer for each connection.
    said: Arc<Mutex<Vec<Vec<u8>>>>,
    frozen: Arc<AtomicBool>,
    cut: Arc<Mutex<CancellationToken>>,
}

impl Proxy {
    /// Listens on a free port and forwards to `target` on 127.0.0.1.
    pub async fn start(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Self {
            port: listener.local_addr().unwrap().port(),
            said: Arc::default(),
            frozen: Arc::default(),
            cut: Arc::default(),
        };
        let this = proxy.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
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
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        let said = self.said.clone();
        let frozen = self.frozen.clone();
        let up = async {
            let mut buffer = vec![0; 65536];
            while let Ok(n @ 1..) = from_client.read(&mut buffer).await {
                if !frozen.load(Ordering::Relaxed)
                    && to_server.write_all(&buffer[..n]).await.is_err()
                {
                    break;
                }
            }
        };
        let down = async {
            let mut buffer = vec![0; 65536];
            while let Ok(n @ 1..) = from_server.read(&mut buffer).await {
                said.lock().unwrap()[slot].extend_from_slice(&buffer[..n]);
                if !frozen.load(Ordering::Relaxed)
                    && to_client.write_all(&buffer[..n]).await.is_err()
                {
                    break;
                }
            }
        };
        tokio::select! {
            () = up => {}
            () = down => {}
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
        self.frozen.store(frozen, Ordering::Relaxed);
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
