//! A reverse proxy as people have it in front of OctoPrint: under a sub-path, and not always
//! letting WebSockets through, or anybody in. Records what OctoPrint streams.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

#[derive(Clone)]
pub struct HttpProxy {
    pub port: u16,
    sub_path: &'static str,
    lets_upgrade: bool,
    /// Lines in lower case that the head of every request must have.
    wanted: Arc<Mutex<Vec<String>>>,
    /// What OctoPrint said, a buffer for each connection.
    said: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl HttpProxy {
    /// Serves the OctoPrint at `target` under `sub_path`, such as `/octoprint` or nothing.
    pub async fn start(target: u16, sub_path: &'static str, lets_upgrade: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (wanted, said) = Default::default();
        let proxy = Self { port, sub_path, lets_upgrade, wanted, said };
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

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}{}", self.port, self.sub_path)
    }

    /// From now on requests without this header are answered with 401.
    pub fn want(&self, header: &str) {
        self.wanted.lock().unwrap().push(header.to_ascii_lowercase());
    }

    async fn forward(self, client: TcpStream, server: TcpStream) {
        let slot = {
            let mut said = self.said.lock().unwrap();
            said.push(Vec::new());
            said.len() - 1
        };
        let (from_client, mut to_client) = client.into_split();
        let (mut from_server, to_server) = server.into_split();
        let down = async {
            let mut buffer = vec![0; 65536];
            while let Ok(n @ 1..) = from_server.read(&mut buffer).await {
                self.said.lock().unwrap()[slot].extend_from_slice(&buffer[..n]);
                if to_client.write_all(&buffer[..n]).await.is_err() {
                    break;
                }
            }
        };
        let refused = tokio::select! {
            passed = self.requests(from_client, to_server) => {
                passed.is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
            }
            () = down => false,
        };
        if refused {
            let answer = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            let _ = to_client.write_all(answer.as_bytes()).await;
        }
    }

    /// Passes requests on, their heads rewritten; after an upgrade everything as it is.
    async fn requests(
        &self,
        mut client: OwnedReadHalf,
        mut server: OwnedWriteHalf,
    ) -> std::io::Result<()> {
        let mut buffer = Vec::new();
        loop {
            let head = loop {
                if let Some(end) = find(&buffer, b"\r\n\r\n") {
                    break buffer.drain(..end + 4).collect::<Vec<u8>>();
                }
                if client.read_buf(&mut buffer).await? == 0 {
                    return Ok(());
                }
            };
            let head = String::from_utf8(head).unwrap();
            if !self.wanted.lock().unwrap().iter().all(|header| is(&head, header)) {
                return Err(std::io::ErrorKind::PermissionDenied.into());
            }
            let upgraded = self.lets_upgrade && is(&head, "upgrade: websocket");
            server.write_all(self.rewritten(&head).as_bytes()).await?;
            let mut body: usize =
                header(&head, "content-length: ").map_or(0, |n| n.parse().unwrap());
            while upgraded || body > 0 {
                if buffer.is_empty() && client.read_buf(&mut buffer).await? == 0 {
                    return Ok(());
                }
                let now = if upgraded { buffer.len() } else { body.min(buffer.len()) };
                server.write_all(&buffer[..now]).await?;
                buffer.drain(..now);
                body = body.saturating_sub(now);
            }
        }
    }

    fn rewritten(&self, head: &str) -> String {
        let (method, rest) = head.split_once(' ').unwrap();
        let rest = rest.strip_prefix(self.sub_path).expect("a path under the sub-path");
        let lines = rest.split_inclusive("\r\n");
        let passed = |line: &&str| self.lets_upgrade || !is(line, "upgrade: ");
        format!("{method} {}", lines.filter(passed).collect::<String>())
    }

    /// What the XHR streams held, a frame a line, in order.
    pub fn streamed(&self) -> Vec<String> {
        let said = self.said.lock().unwrap();
        let bodies = said.iter().flat_map(|bytes| bodies(bytes));
        let streams = bodies.filter(|body| body.starts_with(&[b'h'; 2048]));
        streams
            .flat_map(|body| {
                // The last line may still be on its way.
                let end = body.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
                let text = String::from_utf8(body[..end].to_vec()).unwrap();
                text.lines().map(str::to_owned).collect::<Vec<_>>()
            })
            .collect()
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn is(head: &str, what: &str) -> bool {
    head.to_ascii_lowercase().contains(what)
}

fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.split("\r\n")
        .find(|line| line.to_ascii_lowercase().starts_with(name))
        .map(|l| &l[name.len()..])
}

/// The bodies of the answers of one connection, chunks put together; the last one may be a part.
fn bodies(mut rest: &[u8]) -> Vec<Vec<u8>> {
    let mut bodies = Vec::new();
    while let Some(end) = find(rest, b"\r\n\r\n") {
        let head = String::from_utf8_lossy(&rest[..end]).into_owned();
        rest = &rest[end + 4..];
        if is(&head, "transfer-encoding: chunked") {
            let mut body = Vec::new();
            while let Some(end) = find(rest, b"\r\n") {
                let length = std::str::from_utf8(&rest[..end]).unwrap();
                let length = usize::from_str_radix(length, 16).unwrap();
                let from = end + 2;
                let to = (from + length).min(rest.len());
                body.extend_from_slice(&rest[from..to]);
                rest = rest.get(to + 2..).unwrap_or_default();
                if length == 0 {
                    break;
                }
            }
            bodies.push(body);
        } else {
            let length = header(&head, "content-length: ").map_or(0, |n| n.parse().unwrap());
            let length = rest.len().min(length);
            bodies.push(rest[..length].to_vec());
            rest = &rest[length..];
        }
    }
    bodies
}
