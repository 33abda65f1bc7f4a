//! What a connection must prove to go on, and what it survives.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use octoprint2mqtt::octoprint::{
    Handled, Socket, SocketOptions, SocketState, Transport, TransportChoice,
};
use tokio::io::AsyncWriteExt;

use crate::script::{LOGIN, Peer, Server, http, octoprint, options, reaches, serve, until};

const STALE: &str = r#"a[{"reauthRequired":{"reason":"stale"}}]"#;
const MODIFIED: &str = r#"a[{"reauthRequired":{"reason":"modified"}}]"#;
const HISTORY: &str = r#"a[{"history":{}}]"#;
/// Waits that are only waited for where something goes wrong.
const LONG: Duration = Duration::from_secs(600);

async fn connected(options: SocketOptions, server: &mut Server) -> (Socket, Peer) {
    let socket = Socket::new(options).unwrap();
    socket.connect();
    let mut peer = server.socket().await;
    peer.greet().await;
    reaches(&socket, SocketState::Connected).await;
    (socket, peer)
}

/// The login, and the question for its proof: OctoPrint answers a subscription only where the state
/// was not subscribed to before.
async fn logged_in_again(peer: &mut Peer) {
    assert!(peer.receive().await.unwrap().contains("auth"));
    let without = peer.receive().await.unwrap();
    assert!(without.contains(r#"\"state\":false"#), "{without}");
    let with = peer.receive().await.unwrap();
    assert!(with.contains("subscribe") && with.contains(r#"\"logs\":true"#), "{with}");
}

#[tokio::test]
async fn a_login_on_a_live_connection_is_proven_or_the_connection_is_none() {
    let mut server = octoprint().await;
    let mut options = options(&server.url);
    options.proof_timeout = Duration::from_millis(300);
    options.timeouts = vec![LONG];
    options.knock = false;
    let (socket, mut peer) = connected(options, &mut server).await;
    peer.send(MODIFIED).await;
    logged_in_again(&mut peer).await;
    peer.send(HISTORY).await;
    // Silence after the proof is that of a printer that is off.
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(socket.status().borrow().state, SocketState::Connected);
    // What else is pushed proves nothing.
    peer.send(STALE).await;
    logged_in_again(&mut peer).await;
    peer.send(r#"a[{"plugin":{"plugin":"x","data":null}}]"#).await;
    let status = reaches(&socket, SocketState::Waiting).await;
    assert!(status.error.unwrap().contains("sent no state within 300ms"));
    assert_eq!(status.next_attempt_in, Some(LONG));
}

#[tokio::test]
async fn octoprint_before_1_8_reconnects() {
    let mut server = octoprint().await;
    let socket = Socket::new(options(&server.url)).unwrap();
    socket.connect();
    for _ in 0..2 {
        let mut peer = server.socket().await;
        peer.send("o").await;
        peer.send(r#"a[{"connected":{"version":"1.7.3"}}]"#).await;
        while !peer.receive().await.unwrap().contains("auth") {}
        peer.send(HISTORY).await;
        reaches(&socket, SocketState::Connected).await;
        peer.send(STALE).await;
        assert_eq!(peer.receive().await, None);
    }
}

#[tokio::test]
async fn sessions_that_are_all_stale_are_a_refusal() {
    tokio::join!(all_stale(true), all_stale(false));
}

/// Where `proven`, each session is good for a `history` before it is called stale.
async fn all_stale(proven: bool) {
    let mut server = octoprint().await;
    let options = options(&server.url);
    let pause = options.rest.refused_pause;
    let (socket, mut peer) = connected(options, &mut server).await;
    peer.send(STALE).await;
    while let Some(text) = peer.receive().await {
        if text.contains("logs") && proven {
            peer.send(HISTORY).await;
        }
        if text.contains("logs") {
            peer.send(STALE).await;
        }
    }
    let status = reaches(&socket, SocketState::Waiting).await;
    assert!(status.error.unwrap().contains("every new session as stale"));
    assert_eq!(status.next_attempt_in, Some(pause));
    assert!(server.logins() <= 4);
}

#[tokio::test]
async fn twenty_unreadable_frames_in_a_row_are_a_new_connection() {
    let mut server = octoprint().await;
    let mut options = options(&server.url);
    options.timeouts = vec![LONG];
    options.knock = false;
    let (socket, mut peer) = connected(options, &mut server).await;
    let unreadable = ["what", "", "a[{", "a[null]", "m{"];
    for readable in ["h", "a[]", r#"a[{"event":null}]"#, r#"a[null,{"event":null}]"#] {
        for index in 0..19 {
            peer.send(unreadable[index % unreadable.len()]).await;
        }
        peer.send(readable).await;
    }
    peer.send(r#"a[{"plugin":null}]"#).await;
    until_counted(&socket, 4 * 19 + 1).await;
    assert_eq!(socket.status().borrow().state, SocketState::Connected);
    for index in 0..20 {
        peer.send(unreadable[index % unreadable.len()]).await;
    }
    let status = reaches(&socket, SocketState::Waiting).await;
    assert!(status.error.unwrap().contains("20 frames in a row could not be read"));
    assert_eq!(socket.counters().decode_errors, 4 * 19 + 1 + 20);
}

async fn until_counted(socket: &Socket, wanted: u64) {
    let counted = async {
        while socket.counters().decode_errors < wanted {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), counted).await.unwrap();
}

fn history(bytes: usize) -> String {
    format!("a[{{\"history\":\"{}\"}}]", "x".repeat(bytes))
}

/// Small sizes, for the rule is the same.
fn sized(url: &str) -> SocketOptions {
    let mut options = options(url);
    options.large_message_bytes = 100_000;
    options.max_message_bytes = 1_000_000;
    options
}

/// One after another, and in the end all of them: none blocks the others.
#[tokio::test]
async fn one_large_message_is_read_at_a_time() {
    let mut servers = Vec::new();
    let held = Arc::new(std::sync::Mutex::new(None));
    let (seen, mut arrived) = tokio::sync::mpsc::unbounded_channel();
    for name in 0..2 {
        let mut server = octoprint().await;
        let mut options = sized(&server.url);
        if name == 1 {
            // The one that will have to wait.
            options.ping_after = Duration::from_millis(200);
            options.dead_after = Duration::from_millis(500);
        }
        let socket = Socket::new(options).unwrap();
        let (seen, held) = (seen.clone(), Arc::clone(&held));
        socket.on_message("history", move |message| {
            if message.payload().len() > 100_000 {
                // As a part of it that somebody still needs.
                *held.lock().unwrap() = Some(message.payload_bytes().slice(..3));
                seen.send((name, message.payload().len())).unwrap();
            }
            async { Handled::Unmeasured }
        });
        socket.connect();
        let mut peer = server.socket().await;
        peer.greet().await;
        reaches(&socket, SocketState::Connected).await;
        servers.push((server, socket, peer));
    }
    let large = history(900_000);
    servers[0].2.send(&large).await;
    assert_eq!(arrived.recv().await, Some((0, 900_002)));
    // More than the line takes unread: it is sent while the other side waits.
    let (_server, socket, mut peer) = servers.pop().unwrap();
    let sending = tokio::spawn(async move {
        peer.send(&history(900_000)).await;
        peer
    });
    // For longer than a silent connection lives.
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert!(arrived.try_recv().is_err());
    assert_eq!(socket.status().borrow().state, SocketState::Connected);
    held.lock().unwrap().take();
    assert_eq!(arrived.recv().await, Some((1, 900_002)));
    let _peer = sending.await.unwrap();
    held.lock().unwrap().take();
    servers[0].2.send(&large).await;
    assert_eq!(arrived.recv().await, Some((0, 900_002)));
}

#[tokio::test]
async fn a_message_beyond_all_bounds_is_a_refusal_that_names_the_setting() {
    let mut server = octoprint().await;
    let options = sized(&server.url);
    let pause = options.rest.refused_pause;
    let socket = Socket::new(options).unwrap();
    socket.connect();
    let mut peer = server.socket().await;
    peer.send("o").await;
    peer.send(r#"a[{"connected":{"version":"1.11.8"}}]"#).await;
    while !peer.receive().await.unwrap().contains("auth") {}
    // Its size is announced in advance, so it is not even read.
    use futures_util::SinkExt;
    let message = tokio_tungstenite::tungstenite::Message::text(history(2_000_000));
    let _ = peer.stream.send(message).await;
    let status = reaches(&socket, SocketState::Waiting).await;
    assert!(status.error.unwrap().contains("temperature.cutoff"));
    assert_eq!(status.next_attempt_in, Some(pause));
    assert!(server.sockets.try_recv().is_err());
}

/// The proof of the login is a message that takes its time; whoever is sending is not silent.
#[tokio::test]
async fn a_message_that_comes_slowly_is_waited_for() {
    let mut server = octoprint().await;
    let mut options = options(&server.url);
    options.rest.connect_timeout = Duration::from_secs(1);
    options.ping_after = Duration::from_millis(500);
    options.dead_after = Duration::from_millis(1500);
    options.timeouts = vec![LONG];
    let socket = Socket::new(options).unwrap();
    socket.connect();
    let mut peer = server.socket().await;
    peer.send("o").await;
    peer.send(r#"a[{"connected":{"version":"1.11.8"}}]"#).await;
    while !peer.receive().await.unwrap().contains("auth") {}
    let text = history(20_000);
    let stream = peer.stream.get_mut();
    stream.write_all(&[0x81, 126]).await.unwrap();
    stream.write_all(&u16::try_from(text.len()).unwrap().to_be_bytes()).await.unwrap();
    for part in text.as_bytes().chunks(1_000) {
        tokio::time::sleep(Duration::from_millis(150)).await;
        stream.write_all(part).await.unwrap();
    }
    reaches(&socket, SocketState::Connected).await;
}

/// Over XHR streaming the same sizes hold.
#[tokio::test]
async fn large_lines_of_xhr_streaming() {
    for (bytes, taken) in [(900_000, true), (2_000_000, false)] {
        let streams = AtomicUsize::new(0);
        let server = serve(move |request| {
            Some(if request.is("POST /api/login") {
                http(200, "", LOGIN)
            } else if request.head.contains("/xhr_send") {
                http(204, "", "")
            } else if streams.fetch_add(1, Ordering::Relaxed) == 0 {
                let connected = r#"a[{"connected":{"version":"1.11.8"}}]"#;
                http(200, "", &format!("o\n{connected}\n{}\n", history(bytes)))
            } else {
                // A stream that stays.
                "HTTP/1.1 200 X\r\nContent-Length: 5\r\n\r\nh\n".to_owned()
            })
        })
        .await;
        let mut options = sized(&server.url);
        options.transport = TransportChoice::XhrStreaming;
        let pause = options.rest.refused_pause;
        let socket = Socket::new(options).unwrap();
        let (seen, mut arrived) = tokio::sync::mpsc::unbounded_channel();
        socket.on_message("history", move |message| {
            seen.send(message.payload().len()).unwrap();
            async { Handled::Unmeasured }
        });
        socket.connect();
        if taken {
            assert_eq!(arrived.recv().await, Some(bytes + 2));
            until(&socket, |status| status.transport == Some(Transport::XhrStreaming)).await;
        } else {
            let status = reaches(&socket, SocketState::Waiting).await;
            assert!(status.error.unwrap().contains("temperature.cutoff"));
            assert_eq!(status.next_attempt_in, Some(pause));
        }
    }
}
