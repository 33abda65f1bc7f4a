//! A server with keep-alive that closes its connections like OctoPrint before 1.10: after every GET,
//! without announcing it.

use std::sync::{Arc, Mutex};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::script::{Request, read};

/// What becomes of a request.
pub enum Reply {
    Text(u16, &'static str, String),
    /// No answer ever comes.
    Never,
}

/// A request, and how many came before it on its connection.
pub type Seen = Arc<Mutex<Vec<(Request, usize)>>>;

pub struct Kept {
    pub url: String,
    pub seen: Seen,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Kept {
    pub async fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let seen = Seen::default();
        let (log, answer) = (Arc::clone(&seen), Arc::new(answer));
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
                tokio::spawn(async move {
                    for before in 0.. {
                        let Some(request) = read(&mut stream).await else { return };
                        log.lock().unwrap().push((request.clone(), before));
                        let Reply::Text(status, headers, body) = answer(&request) else {
                            return std::future::pending().await;
                        };
                        let length = body.len();
                        let text = format!(
                            "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
                        );
                        let _ = stream.write_all(text.as_bytes()).await;
                        if request.is("GET") {
                            return;
                        }
                    }
                });
            }
        });
        Self { url, seen, task }
    }

    pub fn count(&self, start: &str) -> usize {
        self.seen.lock().unwrap().iter().filter(|(request, _)| request.is(start)).count()
    }

    pub fn last(&self, start: &str) -> Request {
        let seen = self.seen.lock().unwrap();
        seen.iter().rev().find(|(request, _)| request.is(start)).unwrap().0.clone()
    }
}
