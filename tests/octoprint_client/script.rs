//! Small scripted servers.

use std::sync::{Arc, Once};
use std::time::Duration;

use octoprint2mqtt::octoprint::{Credentials, Socket, SocketOptions, SocketState, Status};
use octoprint2mqtt::secret::Secret;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::{WebSocketStream, tungstenite};

pub const LOGIN: &str = r#"{"name":"admin","session":"SESSION","apikey":"APIKEY","needs":{}}"#;

pub fn tls() -> Arc<rustls::ClientConfig> {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    let roots = rustls::RootCertStore::empty();
    Arc::new(rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

pub fn options(url: &str) -> SocketOptions {
    let key = Credentials::ApiKey(Secret::new("TEST-KEY"));
    let mut options = SocketOptions::new(url.parse().unwrap(), key, tls());
    options.rest.connect_timeout = Duration::from_millis(800);
    options.timeouts = vec![Duration::from_millis(50)];
    options
}

pub async fn until(socket: &Socket, wanted: impl FnMut(&Status) -> bool) -> Status {
    let mut status = socket.status();
    let reached = timeout(Duration::from_secs(15), status.wait_for(wanted)).await;
    match reached {
        Ok(status) => status.unwrap().clone(),
        Err(_) => panic!("still {:?}", socket.status().borrow()),
    }
}

pub async fn reaches(socket: &Socket, state: SocketState) -> Status {
    until(socket, |status| status.state == state).await
}

/// One HTTP request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    pub head: String,
    pub body: String,
}

impl Request {
    pub fn is(&self, start: &str) -> bool {
        self.head.starts_with(start)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

pub async fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
    let mut request = Request { head: text, body: String::new() };
    let length: usize = request.header("content-length").map_or(0, |n| n.parse().unwrap());
    while bytes.len() < head + length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    request.body = String::from_utf8_lossy(&bytes[head..]).into_owned();
    Some(request)
}

/// An HTTP answer.
pub fn http(status: u16, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n{body}"
    )
}

pub struct Server {
    pub url: String,
    /// The requests, as they come.
    pub requests: mpsc::UnboundedReceiver<Request>,
    /// The WebSockets, as they are opened.
    pub sockets: mpsc::UnboundedReceiver<Peer>,
    accepting: tokio::task::JoinHandle<()>,
}

/// Answers each request with `answer`'s text; `None` for a WebSocket upgrade accepts it.
pub async fn serve(answer: impl Fn(&Request) -> Option<String> + Send + Sync + 'static) -> Server {
    serve_at("127.0.0.1:0", answer).await
}

/// The same at an address.
pub async fn serve_at(
    address: &str,
    answer: impl Fn(&Request) -> Option<String> + Send + Sync + 'static,
) -> Server {
    let listener = TcpListener::bind(address).await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (seen, requests) = mpsc::unbounded_channel();
    let (opened, sockets) = mpsc::unbounded_channel();
    let answer = Arc::new(answer);
    let accepting = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (answer, seen, opened) = (Arc::clone(&answer), seen.clone(), opened.clone());
            tokio::spawn(async move {
                let Some(request) = read(&mut stream).await else { return };
                let text = answer(&request);
                let _ = seen.send(request.clone());
                match text {
                    Some(text) => {
                        let _ = stream.write_all(text.as_bytes()).await;
                        let _ = stream.shutdown().await;
                    }
                    None => {
                        let _ = opened.send(Peer::accept(stream, &request).await);
                    }
                }
            });
        }
    });
    Server { url, requests, sockets, accepting }
}

/// A server that logs everyone in and accepts WebSockets.
pub async fn octoprint() -> Server {
    serve(|request| match request.head.split(' ').nth(1) {
        Some("/api/login") => Some(http(200, "", LOGIN)),
        Some(path) if path.starts_with("/sockjs/") => None,
        _ => Some(http(404, "", "<html>")),
    })
    .await
}

impl Server {
    /// Listens no more.
    pub async fn stop(&mut self) {
        self.accepting.abort();
        let _ = (&mut self.accepting).await;
    }

    pub async fn request(&mut self) -> Request {
        timeout(Duration::from_secs(5), self.requests.recv()).await.unwrap().unwrap()
    }

    pub async fn socket(&mut self) -> Peer {
        timeout(Duration::from_secs(5), self.sockets.recv()).await.unwrap().unwrap()
    }

    /// How many logins came so far, since the last call of this.
    pub fn logins(&mut self) -> usize {
        let mut logins = 0;
        while let Ok(request) = self.requests.try_recv() {
            logins += usize::from(request.is("POST /api/login"));
        }
        logins
    }
}

/// The server's end of a WebSocket.
pub struct Peer {
    pub stream: WebSocketStream<TcpStream>,
}

impl Peer {
    async fn accept(mut stream: TcpStream, request: &Request) -> Self {
        let accept = derive_accept_key(
            request.header("sec-websocket-key").unwrap_or_else(|| panic!("{request:?}")).as_bytes(),
        );
        let answer = format!(
            "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
        Self { stream: WebSocketStream::from_raw_socket(stream, Role::Server, None).await }
    }

    pub async fn send(&mut self, text: &str) {
        use futures_util::SinkExt;
        self.stream.send(tungstenite::Message::text(text)).await.unwrap();
    }

    /// The next text from the client; `None` at the end of the connection.
    pub async fn receive(&mut self) -> Option<String> {
        use futures_util::StreamExt;
        loop {
            match timeout(Duration::from_secs(5), self.stream.next()).await.unwrap()? {
                Ok(tungstenite::Message::Text(text)) => return Some(text.to_string()),
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }

    /// Greets, and lets the client log in.
    pub async fn greet(&mut self) -> Vec<String> {
        self.send("o").await;
        self.send(r#"a[{"connected":{"version":"1.11.8"}}]"#).await;
        let mut sent = Vec::new();
        while !sent.last().is_some_and(|text: &String| text.contains("auth")) {
            sent.push(self.receive().await.unwrap());
        }
        self.send(r#"a[{"history":{}},{"timelapse":null}]"#).await;
        sent
    }
}
