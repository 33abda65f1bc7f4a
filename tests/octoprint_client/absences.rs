//! What a socket finds out while OctoPrint is away, and which transport it takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use octoprint2mqtt::octoprint::{Socket, SocketState, Transport};

use crate::script::{LOGIN, http, octoprint, options, reaches, serve, serve_at, until};

#[tokio::test]
async fn a_knock_ends_the_wait() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut options = options(&format!("http://{address}/"));
    // Whoever waits for the list of timeouts waits in vain here.
    options.timeouts = vec![Duration::from_secs(600)];
    let socket = Socket::new(options).unwrap();
    socket.connect();
    let status = reaches(&socket, SocketState::Waiting).await;
    assert_eq!(status.next_attempt_in, Some(Duration::from_secs(600)));
    assert!(socket.rest().unreached_lately().is_some());
    let mut server = serve_at(&address.to_string(), |request| {
        Some(if request.is("POST /api/login") {
            http(200, "", LOGIN)
        } else if request.is("GET /sockjs/info") {
            http(200, "", "{}")
        } else {
            return None;
        })
    })
    .await;
    let mut peer = server.socket().await;
    peer.greet().await;
    reaches(&socket, SocketState::Connected).await;
    let knock = server.request().await;
    assert!(knock.is("GET /sockjs/info") && knock.header("x-api-key").is_none(), "{knock:?}");
    assert!(server.request().await.is("POST /api/login"));
    assert_eq!(socket.rest().unreached_lately(), None);
}

#[tokio::test]
async fn a_closed_connection_and_an_address_that_refuses_are_an_octoprint_that_is_gone() {
    let mut server = octoprint().await;
    let mut options = options(&server.url);
    options.timeouts = vec![Duration::from_secs(600)];
    options.knock = false;
    let socket = Socket::new(options).unwrap();
    socket.connect();
    let mut peer = server.socket().await;
    peer.greet().await;
    assert!(!reaches(&socket, SocketState::Connected).await.gone);
    server.stop().await;
    drop(peer);
    until(&socket, |status| status.gone).await;
}

#[tokio::test]
async fn behind_a_proxy_its_503_tells_the_same_and_404_does_not() {
    for (status, gone) in [("503", true), ("404", false)] {
        let down = Arc::new(AtomicBool::new(false));
        let asked = Arc::new(AtomicUsize::new(0));
        let (is_down, count) = (Arc::clone(&down), Arc::clone(&asked));
        let mut server = serve(move |request| {
            if is_down.load(Ordering::Relaxed) {
                count.fetch_add(1, Ordering::Relaxed);
                return Some(http(status.parse().unwrap(), "", "<html>"));
            }
            if request.is("GET /sockjs/info") {
                return Some(http(200, "", "{}"));
            }
            request.is("POST /api/login").then(|| http(200, "", LOGIN))
        })
        .await;
        let socket = Socket::new(options(&server.url)).unwrap();
        socket.connect();
        let mut peer = server.socket().await;
        peer.greet().await;
        reaches(&socket, SocketState::Connected).await;
        down.store(true, Ordering::Relaxed);
        drop(peer);
        match gone {
            true => assert!(until(&socket, |status| status.gone).await.gone),
            false => {
                // It has been asked, and has been tried, and is not called gone.
                until(&socket, |status| status.attempt >= 2).await;
                assert!(asked.load(Ordering::Relaxed) >= 2);
                assert!(!socket.status().borrow().gone);
            }
        }
        down.store(false, Ordering::Relaxed);
        let mut peer = server.socket().await;
        peer.greet().await;
        assert!(!until(&socket, |s| s.state == SocketState::Connected).await.gone);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_slow_upgrade_is_no_reason_to_leave_websocket() {
    let upgrades = AtomicUsize::new(0);
    let mut server = serve(move |request| {
        Some(if request.is("POST /api/login") {
            http(200, "", LOGIN)
        } else if request.is("GET /sockjs/info") {
            http(200, "", "{}")
        } else if request.is("POST /sockjs/") {
            http(500, "", "no XHR streaming is wanted here")
        } else if upgrades.fetch_add(1, Ordering::Relaxed) == 0 {
            // Slower than the time limit.
            std::thread::sleep(Duration::from_millis(400));
            http(400, "", "too late")
        } else {
            return None;
        })
    })
    .await;
    let mut options = options(&server.url);
    options.rest.connect_timeout = Duration::from_millis(200);
    let socket = Socket::new(options).unwrap();
    socket.connect();
    let mut peer = server.socket().await;
    peer.greet().await;
    let status = reaches(&socket, SocketState::Connected).await;
    assert_eq!(status.transport, Some(Transport::WebSocket));
    while let Ok(request) = server.requests.try_recv() {
        assert!(!request.is("POST /sockjs/"), "{request:?}");
    }
}

#[tokio::test]
async fn two_that_carry_nothing_and_a_refused_one_move_to_xhr_streaming() {
    for (mute, status) in [(true, 0), (false, 400), (false, 403)] {
        let mut server = serve(move |request| {
            Some(if request.is("POST /api/login") {
                http(200, "", LOGIN)
            } else if request.is("GET /sockjs/info") {
                http(200, "", "{}")
            } else if request.is("POST /sockjs/") {
                http(500, "", "")
            } else if mute {
                return None;
            } else {
                http(status, "", "")
            })
        })
        .await;
        let mut options = options(&server.url);
        options.rest.connect_timeout = Duration::from_millis(200);
        let socket = Socket::new(options).unwrap();
        socket.connect();
        let mut upgrades = 0;
        loop {
            let request = server.request().await;
            upgrades += usize::from(request.header("upgrade").is_some());
            if request.is("POST /sockjs/") {
                break;
            }
        }
        assert_eq!(upgrades, if mute { 2 } else { 1 });
        // No way around either: WebSocket is tried again at once.
        while server.request().await.header("upgrade").is_none() {}
    }
}

#[tokio::test]
async fn a_proxy_that_has_no_octoprint_moves_nothing() {
    let mut server = serve(move |request| {
        Some(if request.is("POST /api/login") {
            http(200, "", LOGIN)
        } else if request.is("GET /sockjs/info") {
            http(200, "", "{}")
        } else {
            http(502, "", "")
        })
    })
    .await;
    let socket = Socket::new(options(&server.url)).unwrap();
    socket.connect();
    until(&socket, |status| status.attempt >= 3).await;
    while let Ok(request) = server.requests.try_recv() {
        assert!(!request.is("POST /sockjs/"), "{request:?}");
    }
}
