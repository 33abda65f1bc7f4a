//! XHR streaming on which nothing comes: OctoPrint has no heartbeat for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use octoprint2mqtt::octoprint::{Socket, SocketState, TransportChoice};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::script::{LOGIN, http, options, reaches, read, until};

const PING_AFTER: Duration = Duration::from_millis(100);
const DEAD_AFTER: Duration = Duration::from_millis(400);

/// An OctoPrint whose printer is off: it answers subscriptions, and says nothing by itself.
#[derive(Clone, Default)]
struct Idle {
    /// Nothing passes on the streams any more, and calls still do.
    swallowed: Arc<AtomicBool>,
    /// How often the state was subscribed to that was not before.
    asked: watch::Sender<usize>,
}

impl Idle {
    async fn start(&self, version: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let this = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(this.clone().serve(stream, version));
            }
        });
        url
    }

    async fn serve(self, mut stream: TcpStream, version: &str) {
        let Some(request) = read(&mut stream).await else { return };
        let answer = if request.is("POST /api/login") {
            http(200, "", LOGIN)
        } else if request.head.contains("/xhr_send") {
            // The state comes after what is no state: then it is another subscription.
            if request.body.contains("subscribe") && request.body.contains("logs") {
                self.asked.send_modify(|asked| *asked += 1);
            }
            http(204, "", "")
        } else {
            return self.push(stream, version).await;
        };
        let _ = stream.write_all(answer.as_bytes()).await;
    }

    async fn push(self, mut stream: TcpStream, version: &str) {
        let head = format!(
            "HTTP/1.1 200 X\r\nConnection: close\r\n\r\no\na[{{\"connected\":{{\"version\":\"{version}\"}}}}]\n"
        );
        let mut asked = self.asked.subscribe();
        let _ = stream.write_all(head.as_bytes()).await;
        while asked.changed().await.is_ok() {
            if !self.swallowed.load(Ordering::Relaxed) {
                let _ = stream.write_all(b"a[{\"history\":{}}]\n").await;
            }
        }
    }
}

async fn connected(url: &str) -> Socket {
    let mut options = options(url);
    options.transport = TransportChoice::XhrStreaming;
    options.ping_after = PING_AFTER;
    options.dead_after = DEAD_AFTER;
    let socket = Socket::new(options).unwrap();
    socket.connect();
    reaches(&socket, SocketState::Connected).await;
    socket
}

#[tokio::test]
async fn an_idle_stream_stays_open_by_what_is_requested_on_it() {
    let idle = Idle::default();
    let socket = connected(&idle.start("1.11.8").await).await;
    let mut asked = idle.asked.subscribe();
    // Often enough to know that it goes on.
    timeout(Duration::from_secs(15), asked.wait_for(|asked| *asked > 10)).await.unwrap().unwrap();
    assert_eq!(socket.counters().reconnects, 0);
    assert_eq!(socket.status().borrow().state, SocketState::Connected);
}

#[tokio::test]
async fn a_stream_on_which_nothing_passes_is_noticed_though_calls_are_accepted() {
    let idle = Idle::default();
    let socket = connected(&idle.start("1.11.8").await).await;
    idle.swallowed.store(true, Ordering::Relaxed);
    let status = until(&socket, |status| status.state == SocketState::Waiting).await;
    assert!(status.error.unwrap().contains("nothing was heard"));
}

/// OctoPrint before 1.8 knows no subscriptions: that it accepts a call is all there is.
#[tokio::test]
async fn an_old_octoprint_is_taken_at_its_word() {
    let idle = Idle::default();
    let socket = connected(&idle.start("1.7.3").await).await;
    let asked = *idle.asked.borrow();
    let since = Instant::now();
    let mut status = socket.status();
    let ended = status.wait_for(|status| status.state != SocketState::Connected);
    assert!(timeout(DEAD_AFTER * 3, ended).await.is_err(), "after {:?}", since.elapsed());
    assert_eq!(*idle.asked.borrow(), asked);
}
