//! The page over connections: where it is served at all, and readers that are slow.

use std::sync::Arc;
use std::time::Duration;

use octoprint2mqtt::bridge::board::Card;
use octoprint2mqtt::recent_log::RecentLog;
use octoprint2mqtt::{cli, http, tls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tracing_subscriber::layer::SubscriberExt;

use crate::world::{self, World};

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Gets a path, again and again until somebody listens.
async fn get(address: &str) -> reqwest::Response {
    loop {
        match reqwest::get(address).await {
            Ok(answer) => return answer,
            Err(error) if error.is_connect() => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn open_to_others_without_a_password_the_page_is_off_with_one_warning() {
    tls::install_provider();
    for (more, is_served, warnings) in [
        ("", false, 1),
        ("page = false", false, 0),
        ("password = \"p\"", true, 0),
        ("read_only = false", false, 1),
    ] {
        let log = RecentLog::default();
        let subscriber = tracing_subscriber::registry().with(log.clone());
        let _guard = tracing::subscriber::set_default(subscriber);
        let port = free_port();
        let config = world::config(&format!("listen = \"0.0.0.0:{port}\"\n{more}"));
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async move {
            let _ = stopped.await;
        };
        let bridge = cli::run::bridge(config, Arc::new(|_| Ok(())), stopped);
        let asks = async move {
            for (path, status) in
                [("health", 200), ("metrics", 200), ("", if is_served { 200 } else { 404 })]
            {
                let answer = get(&format!("http://127.0.0.1:{port}/{path}")).await;
                assert_eq!(answer.status(), status, "{path} {more}");
            }
            drop(stop);
        };
        let (ended, ()) = tokio::join!(bridge, asks);
        ended.unwrap();
        let lines = log.after(0);
        let of_page: Vec<_> = lines.iter().filter(|line| line.text.contains("the page")).collect();
        assert_eq!(of_page.len(), warnings, "{more}: {lines:?}");
        assert!(of_page.iter().all(|line| line.text.contains("http.password")));
    }
}

/// Serves a page; returns its address.
fn serve(world: World) -> String {
    let listener = http::listen(([127, 0, 0, 1], 0).into()).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(http::serve(listener, world.site));
    // The rest of the world lives as long as the test.
    drop(tokio::spawn(async move {
        let _rest = (world.board, world.asked, world.log);
        std::future::pending::<()>().await;
    }));
    address
}

async fn open_stream(address: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET /events HTTP/1.1\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

async fn read_until(stream: &mut TcpStream, wanted: &str) -> String {
    let mut seen = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = stream.read(&mut buffer).await.unwrap();
        assert!(length > 0, "the stream ended: {}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&buffer[..length]);
        let text = String::from_utf8_lossy(&seen);
        if text.contains(wanted) {
            return text.into_owned();
        }
    }
}

#[tokio::test]
async fn a_reader_that_does_not_read_holds_up_nobody() {
    let world = World::new("");
    let board = world.board.clone();
    let card = |n: usize| Card {
        id: format!("p{}", n % 50),
        file: Some(format!("{n} {}", "x".repeat(20_000))),
        ..Card::default()
    };
    (0..50).for_each(|n| board.show(card(n)));
    let address = serve(world);
    let _slow = open_stream(&address).await;
    let mut reader = open_stream(&address).await;
    read_until(&mut reader, "event: broker").await;
    // More than what fits into any buffer on the way; the one who reads gets the last of it.
    for n in 50..2000 {
        board.show(card(n));
    }
    let last = format!("\"{} xx", 1999);
    read_until(&mut reader, &last).await;
}

#[tokio::test]
async fn streams_are_bounded_and_free_their_places() {
    let address = serve(World::new(""));
    let mut streams = Vec::new();
    for _ in 0..32 {
        let mut stream = open_stream(&address).await;
        read_until(&mut stream, "event: broker").await;
        streams.push(stream);
    }
    let mut refused = open_stream(&address).await;
    let answer = read_until(&mut refused, "close one").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after: 10"), "{answer}");
    // The page itself is still there.
    let page = reqwest::get(format!("http://{address}/")).await.unwrap();
    assert_eq!(page.status(), 200);
    streams.clear();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        let mut again = open_stream(&address).await;
        let answer = read_until(&mut again, "\r\n\r\n").await;
        if answer.starts_with("HTTP/1.1 200") {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{answer}");
    }
}
