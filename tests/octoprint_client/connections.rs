//! The life of a connection against a scripted peer.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use octoprint2mqtt::octoprint::{Handled, MessageKind, RateMode, Socket, SocketState};
use tokio::time::{Instant, sleep};

use crate::script::{LOGIN, http, octoprint, options, reaches, serve, until};

#[tokio::test]
async fn the_order_of_the_introduction() {
    let mut server = octoprint().await;
    let socket = Socket::new(options(&server.url)).unwrap();
    socket.set_rate(RateMode::Manual(3));
    socket.connect();
    let mut first = server.socket().await;
    let sent = first.greet().await;
    assert!(sent[0].contains("subscribe") && sent[1] == r#"["{\"throttle\":3}"]"#, "{sent:?}");
    assert_eq!(sent[2], r#"["{\"auth\":\"admin:SESSION\"}"]"#);
    reaches(&socket, SocketState::Connected).await;
    socket.send_message("throttle", &7.into());
    assert_eq!(first.receive().await.unwrap(), r#"["{\"throttle\":7}"]"#);
    socket.decrease_rate();
    assert_eq!(first.receive().await.unwrap(), r#"["{\"throttle\":4}"]"#);
    assert_eq!(socket.rate(), (RateMode::Manual(4), 4));
    // The server dies: a new connection comes by itself and hears of the factor again.
    drop(first);
    let mut second = server.socket().await;
    let sent = second.greet().await;
    assert_eq!(sent[1], r#"["{\"throttle\":4}"]"#);
    until(&socket, |status| status.state == SocketState::Connected).await;
    let mut paths = Vec::new();
    while let Ok(request) = server.requests.try_recv() {
        if request.is("GET /sockjs/") {
            assert_eq!(request.header("origin"), None);
            paths.push(request.head.split(' ').nth(1).unwrap().to_owned());
        }
    }
    assert_ne!(paths[0], paths[1]);
}

/// After a large message the client starts a new stream of frames. Whatever follows it closely, in the
/// same packet or in its own, must not be lost.
#[tokio::test]
async fn large_messages_and_what_follows_them_closely_arrive_whole() {
    use futures_util::SinkExt;
    use tokio_tungstenite::tungstenite::Message;
    use tokio_tungstenite::tungstenite::protocol::frame::Frame;
    use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
    let mut server = octoprint().await;
    let socket = Socket::new(options(&server.url)).unwrap();
    let (seen, mut arrived) = tokio::sync::mpsc::unbounded_channel();
    socket.on_message("event", move |message| {
        seen.send(message.payload().to_owned()).unwrap();
        async { Handled::Unmeasured }
    });
    socket.connect();
    let mut peer = server.socket().await;
    peer.greet().await;
    let mut sent = Vec::new();
    // Around the sizes at which something changes: one read, a large message, several reads.
    for size in [1, 2_000, 2_040, 2_048, 4_096, 16_360, 16_384, 16_400, 40_000, 300_000] {
        for _ in 0..3 {
            let payload = format!("\"{}{}\"", sent.len(), "x".repeat(size));
            let text = format!("a[{{\"event\":{payload}}}]");
            let (first, rest) = text.split_at(text.len() / 2);
            sent.push(payload);
            if sent.len() % 3 == 0 {
                let start = Frame::message(first.to_owned(), OpCode::Data(Data::Text), false);
                let end = Frame::message(rest.to_owned(), OpCode::Data(Data::Continue), true);
                peer.stream.feed(Message::Frame(start)).await.unwrap();
                peer.stream.feed(Message::Ping("p".into())).await.unwrap();
                peer.stream.feed(Message::Frame(end)).await.unwrap();
            } else {
                peer.stream.feed(Message::text(text)).await.unwrap();
            }
        }
    }
    peer.stream.flush().await.unwrap();
    for payload in sent {
        assert!(arrived.recv().await.unwrap() == payload, "{} bytes", payload.len());
    }
}

#[tokio::test]
async fn rubbish_is_skipped_and_counted() {
    use futures_util::SinkExt;
    use tokio_tungstenite::tungstenite::protocol::frame::Frame;
    use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
    let mut server = octoprint().await;
    let socket = Socket::new(options(&server.url)).unwrap();
    let kinds = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&kinds);
    socket.on_message("*", |_| -> std::future::Ready<Handled> { panic!("a broken handler") });
    socket.on_message("*", move |message| {
        log.lock().unwrap().push(format!("{}={}", message.kind(), message.payload()));
        async { Handled::Unmeasured }
    });
    socket.connect();
    let mut peer = server.socket().await;
    peer.greet().await;
    let invalid = Frame::message(b"a[{\"x\":\"\xff\"}]".to_vec(), OpCode::Data(Data::Text), true);
    peer.stream.send(tokio_tungstenite::tungstenite::Message::Frame(invalid)).await.unwrap();
    for text in ["a[null]", "a[{\"current\":", "a", "h", "a[{\"future\":[1, 2],\"event\":null}]"] {
        peer.send(text).await;
    }
    let large = format!("a[{{\"history\":\"{}\"}}]", "x".repeat(5_000_000));
    peer.send(&large).await;
    let done = async {
        while kinds.lock().unwrap().len() < 6 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), done).await.unwrap();
    let seen = kinds.lock().unwrap().clone();
    assert_eq!(seen[3..5], ["future=[1, 2]", "event=null"]);
    assert_eq!(socket.counters().decode_errors, 4);
    assert_eq!(socket.status().borrow().state, SocketState::Connected);
    // A letter that is none, a single message, and a binary one.
    peer.send("what is this").await;
    peer.send("m{\"single\":1}").await;
    let binary = tokio_tungstenite::tungstenite::Message::binary(&b"a[{\"binary\":2}]"[..]);
    peer.stream.send(binary).await.unwrap();
    peer.stream.send(tokio_tungstenite::tungstenite::Message::binary(vec![0, 159])).await.unwrap();
    peer.send("a[{\"last\":3}]").await;
    let done = async {
        while kinds.lock().unwrap().len() < 9 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), done).await.unwrap();
    assert_eq!(kinds.lock().unwrap()[6..], ["single=1", "binary=2", "last=3"]);
    assert_eq!(socket.counters().decode_errors, 6);
    assert_eq!(socket.status().borrow().state, SocketState::Connected);
}

#[tokio::test]
async fn a_burst_of_reauth_is_one_login_and_one_auth() {
    let mut server = octoprint().await;
    let socket = Socket::new(options(&server.url)).unwrap();
    socket.connect();
    let mut peer = server.socket().await;
    peer.greet().await;
    reaches(&socket, SocketState::Connected).await;
    assert_eq!(server.logins(), 1);
    for _ in 0..10 {
        peer.send(r#"a[{"reauthRequired":{"reason":"modified"}}]"#).await;
    }
    assert_eq!(peer.receive().await.unwrap(), r#"["{\"auth\":\"admin:SESSION\"}"]"#);
    sleep(Duration::from_millis(1300)).await;
    assert_eq!(server.logins(), 1);
    assert!(server.sockets.try_recv().is_err());
}

#[tokio::test]
async fn a_refused_reauth_drops_the_socket() {
    let logins = std::sync::atomic::AtomicU32::new(0);
    let mut server = serve(move |request| {
        if request.is("GET /sockjs/") {
            return None;
        }
        Some(match logins.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            0 => http(200, "", LOGIN),
            _ => http(400, "", r#"{"error":"CSRF validation failed"}"#),
        })
    })
    .await;
    let socket = Socket::new(options(&server.url)).unwrap();
    socket.connect();
    let mut peer = server.socket().await;
    peer.greet().await;
    peer.send(r#"a[{"reauthRequired":{"reason":"logout"}}]"#).await;
    let status = reaches(&socket, SocketState::Waiting).await;
    assert_eq!(status.next_attempt_in, Some(Duration::from_secs(600)));
    assert_eq!(peer.receive().await, None);
}

#[tokio::test]
async fn a_missing_permission_is_named() {
    let mut server = serve(|request| {
        if request.is("GET /sockjs/") {
            return None;
        }
        Some(match request.is("POST /api/login") {
            true => http(200, "", LOGIN),
            false => http(200, "", r#"{"name":"guest2","permissions":["FILES_LIST"]}"#),
        })
    })
    .await;
    let mut options = options(&server.url);
    options.rest.connect_timeout = Duration::from_millis(200);
    let socket = Socket::new(options).unwrap();
    socket.connect();
    let mut peer = server.socket().await;
    peer.send("o").await;
    peer.send(r#"a[{"connected":{}}]"#).await;
    let status = reaches(&socket, SocketState::Waiting).await;
    assert!(status.error.unwrap().contains("STATUS"));
    // Long enough for the one who is about to grant it, and no more.
    assert_eq!(status.next_attempt_in, Some(Duration::from_secs(60)));
}

#[tokio::test]
async fn silence_is_noticed_and_heartbeats_are_life() {
    let mut server = octoprint().await;
    let mut options = options(&server.url);
    options.ping_after = Duration::from_millis(100);
    options.dead_after = Duration::from_millis(400);
    let socket = Socket::new(options).unwrap();
    socket.connect();
    let mut peer = server.socket().await;
    peer.greet().await;
    reaches(&socket, SocketState::Connected).await;
    for _ in 0..8 {
        sleep(Duration::from_millis(100)).await;
        peer.send("h").await;
    }
    assert_eq!(socket.status().borrow().state, SocketState::Connected);
    // Half open: the peer holds the connection and reads nothing, so no ping is answered.
    let silent = Instant::now();
    let status = until(&socket, |status| status.state == SocketState::Waiting).await;
    assert!(status.error.unwrap().contains("nothing was heard"));
    assert!(silent.elapsed() > Duration::from_millis(300));
}

#[tokio::test]
async fn disconnect_reconnect_and_giving_up() {
    let mut server = octoprint().await;
    let mut options = options(&server.url);
    options.timeouts = vec![Duration::from_millis(10); 3];
    options.give_up = true;
    let socket = Socket::new(options).unwrap();
    socket.connect();
    let mut peer = server.socket().await;
    peer.greet().await;
    reaches(&socket, SocketState::Connected).await;
    socket.disconnect();
    assert_eq!(peer.receive().await, None);
    let status = reaches(&socket, SocketState::Disconnected).await;
    assert_eq!(status.error, None);
    socket.connect();
    // In the middle of connecting, `reconnect` starts over.
    let unanswered = server.socket().await;
    socket.reconnect();
    let mut third = server.socket().await;
    drop(unanswered);
    third.greet().await;
    reaches(&socket, SocketState::Connected).await;
    // Never held, so the list runs out.
    drop(third);
    for _ in 0..3 {
        drop(server.socket().await);
    }
    let status = reaches(&socket, SocketState::Failed).await;
    assert_eq!((status.attempt, status.next_attempt_in), (3, None));
    sleep(Duration::from_millis(100)).await;
    assert!(server.sockets.try_recv().is_err());
    socket.reconnect();
    let mut last = server.socket().await;
    last.greet().await;
    reaches(&socket, SocketState::Connected).await;
}

#[tokio::test]
async fn late_messages_are_one_step_and_fast_ones_bring_it_back() {
    let mut server = octoprint().await;
    let socket = Socket::new(options(&server.url)).unwrap();
    let slow = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let is_slow = Arc::clone(&slow);
    socket.on_message("current", move |_| {
        let slow = is_slow.load(std::sync::atomic::Ordering::Relaxed);
        async move {
            if slow {
                sleep(Duration::from_millis(900)).await;
            }
            Handled::Measured
        }
    });
    socket.connect();
    let mut peer = server.socket().await;
    peer.greet().await;
    for _ in 0..5 {
        peer.send(r#"a[{"current":{}}]"#).await;
    }
    let begun = Instant::now();
    assert_eq!(peer.receive().await.unwrap(), r#"["{\"throttle\":2}"]"#);
    // As soon as they are late, not when they are answered.
    assert!(begun.elapsed() < Duration::from_millis(800));
    sleep(Duration::from_millis(700)).await;
    assert_eq!(socket.rate(), (RateMode::Auto, 2));
    slow.store(false, std::sync::atomic::Ordering::Relaxed);
    for _ in 0..5 {
        peer.send(r#"a[{"current":{}}]"#).await;
    }
    assert_eq!(peer.receive().await.unwrap(), r#"["{\"throttle\":1}"]"#);
    assert_eq!(socket.rate(), (RateMode::Auto, 1));
    assert!(socket.status().borrow().publish_latency.is_some());
}

#[tokio::test]
async fn a_stream_and_handlers_have_the_same_messages_and_the_slower_one_counts() {
    let mut server = octoprint().await;
    let socket = Socket::new(options(&server.url)).unwrap();
    let mut messages = socket.messages();
    // None waits for a stream that is no more.
    drop(socket.messages());
    let handled = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&handled);
    socket.on_message("*", move |message| {
        log.lock().unwrap().push(message.kind().clone());
        async { Handled::Measured }
    });
    let (measured, mut took) = tokio::sync::mpsc::unbounded_channel();
    socket.on_measured(move |time| measured.send(time).unwrap());
    socket.connect();
    let mut peer = server.socket().await;
    peer.greet().await;
    let mut streamed = Vec::new();
    while streamed.last() != Some(&MessageKind::Timelapse) {
        streamed.push(messages.recv().await.unwrap().0.kind().clone());
    }
    peer.send(r#"a[{"current":{}}]"#).await;
    let (message, receipt) = messages.recv().await.unwrap();
    assert_eq!(peer.receive().await.unwrap(), r#"["{\"throttle\":2}"]"#, "not taken in time");
    let held = message.received().elapsed();
    receipt.acknowledge();
    while took.recv().await.unwrap() < held {}
    streamed.push(message.kind().clone());
    assert_eq!(*handled.lock().unwrap(), streamed);
    socket.close().await;
    assert!(messages.recv().await.is_none());
}

#[tokio::test]
async fn the_task_ends_with_the_last_handle() {
    let mut server = octoprint().await;
    let socket = Socket::new(options(&server.url)).unwrap();
    socket.connect();
    let mut peer = server.socket().await;
    peer.greet().await;
    let status = socket.status();
    drop(socket);
    assert_eq!(peer.receive().await, None);
    sleep(Duration::from_millis(100)).await;
    assert!(status.has_changed().is_err());
}
