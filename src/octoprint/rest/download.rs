//! Downloads of files, each on a connection of its own: chunk by chunk, as a whole or in part.

use std::ops::Range;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{CONTENT_RANGE, HeaderMap, RANGE};
use reqwest::{Method, Response, StatusCode};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::answer::one_line;
use super::client::Rest;
use super::error::{BodyError, CallError, NetError, RestError, RestErrorKind};
use super::file_path::FilePath;
use super::http::{CALL_TIMEOUT, success};
use crate::causes::HttpFault;

/// Silence after which a download counts as broken.
const STALL: Duration = Duration::from_secs(30);

/// A file on its way. Dropping it ends the connection.
///
/// There is no limit on its duration, as it may be slowed down and paused; but after 30 s without a
/// byte while one is waited for, it fails.
#[derive(Debug)]
pub struct Download {
    response: Response,
    path: String,
    is_part: bool,
    size: Option<u64>,
}

impl Rest {
    /// Begins to download a file of OctoPrint's own storage; of `range`, if the server knows ranges
    /// of bytes: OctoPrint 1.x does, 2.0 sends the whole. Needs the permission `FILES_DOWNLOAD`.
    ///
    /// # Errors
    /// [`RestError`] unless the status is a success.
    pub async fn download(
        &self,
        file: &FilePath,
        range: Option<Range<u64>>,
    ) -> Result<Download, RestError> {
        let path = file.below(self.http().base(), &["downloads", "files"])?;
        let response = self.open(&path, range).await?;
        let is_part = response.status() == StatusCode::PARTIAL_CONTENT;
        let size = if is_part { whole_size(response.headers()) } else { response.content_length() };
        Ok(Download { response, path, is_part, size })
    }

    /// Sends a `GET` for an image: a path relative to the base address, with a query if need be.
    ///
    /// # Errors
    /// [`RestError`] unless the status is a success, and there are at most `limit` bytes, which
    /// arrive in 30 s.
    pub async fn image(&self, path: &str, limit: usize) -> Result<Bytes, RestError> {
        let fetched = async {
            let response = self.open(path, None).await?;
            let mut download =
                Download { response, path: path.to_owned(), is_part: false, size: None };
            download.rest_within(limit).await
        };
        let late = || CallError::Unanswered(NetError::Timeout).at(path);
        timeout(CALL_TIMEOUT, fetched).await.unwrap_or_else(|_| Err(late()))
    }

    /// Sends a `GET` and returns its answer without the body, which is a success.
    async fn open(&self, path: &str, range: Option<Range<u64>>) -> Result<Response, RestError> {
        let opened = self.try_open(path, range).await;
        opened.map_err(|error| error.with_method(&Method::GET))
    }

    async fn try_open(&self, path: &str, range: Option<Range<u64>>) -> Result<Response, RestError> {
        self.ensure_session().await?;
        let first = self.send_open(path, range.clone()).await?;
        if first.status().is_success() {
            return Ok(first);
        }
        let read = timeout(CALL_TIMEOUT, self.http().read(path, first)).await;
        let read = read.unwrap_or(Err(CallError::Unanswered(NetError::Timeout)));
        let answer = read.map_err(|error| error.at(path))?;
        if !self.session_ended(&answer).await {
            return Err(refused(success(answer, path), path));
        }
        self.renew_session().await?;
        let second = self.send_open(path, range).await?;
        if second.status().is_success() {
            return Ok(second);
        }
        let status = second.status();
        let text = status.canonical_reason().unwrap_or("error").to_owned();
        Err(RestError::new(RestErrorKind::Status { status: status.as_u16(), text }, path))
    }

    async fn send_open(
        &self,
        path: &str,
        range: Option<Range<u64>>,
    ) -> Result<Response, RestError> {
        let http = self.http();
        let request = http.request_without_timeout(Method::GET, path)?;
        let mut request = self.caller().authorized(&Method::GET, path, request)?;
        if let Some(Range { start, end }) = range {
            request = request.header(RANGE, format!("bytes={start}-{}", end.saturating_sub(1)));
        }
        let sent = timeout(CALL_TIMEOUT, http.send(request)).await;
        sent.unwrap_or(Err(CallError::Unanswered(NetError::Timeout)))
            .map_err(|error| error.at(path))
    }
}

fn refused(outcome: Result<Bytes, RestError>, path: &str) -> RestError {
    // No success gets here.
    outcome.err().unwrap_or_else(|| RestError::new(RestErrorKind::Shape, path))
}

/// Reads the size of the file from `Content-Range: bytes 0-99/1234`.
fn whole_size(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_RANGE)?.to_str().ok()?.rsplit_once('/')?.1.trim().parse().ok()
}

impl Download {
    /// Whether only the range comes that was asked for.
    pub fn is_part(&self) -> bool {
        self.is_part
    }

    /// Returns the size of the whole file in bytes, if the server says it.
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// Waits for the next bytes; `None` at the end. Not cancel safe.
    ///
    /// # Errors
    /// [`RestErrorKind::BrokenOff`] if the connection is lost, or nothing arrives for 30 s.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, RestError> {
        let arrived = timeout(STALL, self.response.chunk()).await;
        let path = || one_line(&self.path);
        let source = match arrived {
            Ok(Ok(chunk)) => return Ok(chunk),
            Ok(Err(error)) => BodyError::BrokenOff { path: path(), source: HttpFault::from(error) },
            Err(_) => BodyError::Stalled { path: path(), limit: STALL },
        };
        let status = self.response.status().as_u16();
        Err(CallError::Body { status, source }.at(&self.path).with_method(&Method::GET))
    }

    /// Reads the rest.
    ///
    /// # Errors
    /// As [`Download::chunk`]; and if there are more than `limit` bytes.
    async fn rest_within(&mut self, limit: usize) -> Result<Bytes, RestError> {
        let mut all = BytesMut::new();
        while let Some(chunk) = self.chunk().await? {
            if all.len() + chunk.len() > limit {
                let status = self.response.status().as_u16();
                let source = BodyError::TooLarge { path: one_line(&self.path), limit };
                return Err(CallError::Body { status, source }.at(&self.path));
            }
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }

    /// Reads at most `most` bytes, at this pace.
    ///
    /// # Errors
    /// As [`Download::chunk`].
    pub async fn first(&mut self, most: usize, pace: &mut Pace) -> Result<Bytes, RestError> {
        let mut all = BytesMut::new();
        while all.len() < most {
            pace.ready().await;
            let Some(chunk) = self.chunk().await? else { break };
            pace.took(chunk.len());
            let room = most - all.len();
            all.extend_from_slice(&chunk[..chunk.len().min(room)]);
        }
        Ok(all.freeze())
    }
}

/// How fast a download is read: at most so many bytes a second, and not while it is paused. What is
/// not read fills the buffers of the connection, and then the server waits.
#[derive(Debug)]
pub struct Pace {
    /// Bytes per second.
    rate: u32,
    /// When the next bytes may be read.
    next: Instant,
    /// Until when bytes may be read; the sender moves it.
    open_until: Option<watch::Receiver<Instant>>,
}

impl Pace {
    /// At most `rate` bytes a second; 1 at least.
    pub fn new(rate: u32) -> Self {
        Self { rate: rate.max(1), next: Instant::now(), open_until: None }
    }

    /// The same, only before the time that `open_until` holds. Without a sender there is no pause.
    pub fn gated(self, open_until: watch::Receiver<Instant>) -> Self {
        Self { open_until: Some(open_until), ..self }
    }

    /// Waits until bytes may be read. Cancel safe.
    pub async fn ready(&mut self) {
        sleep_until(self.next).await;
        let Some(open_until) = &mut self.open_until else { return };
        // Fails if the sender is gone.
        let _ = open_until.wait_for(|until| Instant::now() < *until).await;
    }

    /// Notes that so many bytes were read.
    pub fn took(&mut self, bytes: usize) {
        let took = Duration::from_secs_f64(bytes as f64 / f64::from(self.rate));
        // A pause is no time to catch up on.
        self.next = self.next.max(Instant::now()) + took;
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::octoprint::rest::http::HttpClient;
    use crate::octoprint::rest::login::Credentials;
    use crate::secret::Secret;

    /// A server that answers one request with `head`, then `body` in pieces of 1000 bytes.
    async fn serve(head: &'static str, body: Vec<u8>, then_stall: bool) -> (Rest, FilePath) {
        crate::tls::install_provider();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            let asked = String::from_utf8(request).unwrap().to_ascii_lowercase();
            assert!(asked.starts_with("get /downloads/files/local/a%20b/c.gcode http"), "{asked}");
            assert!(asked.contains("x-api-key: key"), "{asked}");
            stream.write_all(head.as_bytes()).await.unwrap();
            for piece in body.chunks(1000) {
                // The client may be gone.
                let _ = stream.write_all(piece).await;
            }
            if then_stall {
                std::future::pending::<()>().await;
            }
        });
        let tls = crate::tls::client_config(&crate::config::Tls::default(), false).unwrap();
        let base = format!("http://{address}/").parse().unwrap();
        let http = HttpClient::new(base, &tls, &[], None, Duration::from_secs(5)).unwrap();
        let key = Credentials::ApiKey(Secret::new("KEY"));
        let file = FilePath::parse("local/a b/c.gcode").unwrap();
        (Rest::with_http(http, key, Duration::ZERO), file)
    }

    #[tokio::test]
    async fn a_range_is_told_from_the_whole() {
        let head = "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-2/12345\r\nContent-Length: 3\r\n\r\n";
        let (rest, file) = serve(head, b"abc".to_vec(), false).await;
        let mut download = rest.download(&file, Some(0..3)).await.unwrap();
        assert_eq!((download.is_part(), download.size()), (true, Some(12_345)));
        assert_eq!(download.first(10, &mut Pace::new(1_000_000)).await.unwrap(), "abc");

        let head = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n";
        let (rest, file) = serve(head, b"abcd".to_vec(), false).await;
        let mut download = rest.download(&file, Some(0..3)).await.unwrap();
        assert_eq!((download.is_part(), download.size()), (false, Some(4)));
        assert_eq!(download.first(3, &mut Pace::new(1_000_000)).await.unwrap(), "abc");
    }

    #[tokio::test]
    async fn what_is_not_there_or_not_allowed_is_an_error() {
        for (head, status) in [
            ("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\n", 403),
            ("HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n", 404),
        ] {
            let (rest, file) = serve(head, b"no".to_vec(), false).await;
            assert_eq!(rest.download(&file, None).await.unwrap_err().status(), Some(status));
        }
    }

    #[tokio::test]
    async fn a_lost_connection_is_no_end() {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n";
        let (rest, file) = serve(head, vec![b'x'; 2500], false).await;
        let mut download = rest.download(&file, None).await.unwrap();
        let lost = download.first(5000, &mut Pace::new(1_000_000)).await.unwrap_err();
        assert!(matches!(lost.kind(), RestErrorKind::BrokenOff { status: 200 }), "{lost}");
    }

    #[tokio::test]
    async fn silence_ends_a_download_and_slowness_does_not() {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n";
        let (rest, file) = serve(head, vec![b'x'; 2500], true).await;
        let mut download = rest.download(&file, None).await.unwrap();
        tokio::time::pause();
        let began = Instant::now();
        let mut pace = Pace::new(10);
        let slow = download.first(2500, &mut pace).await.unwrap();
        assert_eq!(slow.len(), 2500);
        pace.ready().await;
        assert!(began.elapsed() >= Duration::from_secs(250), "{:?}", began.elapsed());
        let lost = download.chunk().await.unwrap_err();
        assert!(crate::causes::text(&lost).contains("nothing arrived for 30 s"), "{lost}");
    }

    #[tokio::test]
    async fn an_image_has_a_limit() {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n";
        let path = "downloads/files/local/a%20b/c.gcode";
        let (rest, _) = serve(head, vec![b'x'; 5000], false).await;
        assert_eq!(rest.image(path, 5000).await.unwrap().len(), 5000);
        let (rest, _) = serve(head, vec![b'x'; 5000], false).await;
        let large = rest.image(path, 4999).await.unwrap_err();
        assert!(crate::causes::text(&large).contains("more than 4999 bytes"), "{large}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_gate_pauses_and_opens_again() {
        let (gate, open_until) = watch::channel(Instant::now());
        let mut pace = Pace::new(1000).gated(open_until);
        let wait = Duration::from_secs(3);
        assert!(timeout(wait, pace.ready()).await.is_err(), "it is closed");
        gate.send_replace(Instant::now() + Duration::from_secs(1));
        pace.ready().await;
        pace.took(500);
        let began = Instant::now();
        pace.ready().await;
        assert_eq!(began.elapsed(), Duration::from_millis(500));
        pace.took(600);
        assert!(timeout(wait, pace.ready()).await.is_err(), "it has closed meanwhile");
        drop(gate);
        pace.ready().await;
    }
}
