//! The simulated OctoPrint's end of HTTP and of the push socket.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::world::{Line, World};
use crate::hostile::wire::{self, Frames, FromClient, PONG, Request, TEXT, http};

const LOGIN: &str = r#"{"name":"admin","session":"SESSION","apikey":"APIKEY","needs":{}}"#;
const USER: &str = r#"{"name":"admin","permissions":["STATUS"],"groups":["admins"]}"#;
const PROFILES: &str =
    r#"{"profiles":{"a":{"current":true,"extruder":{"count":1},"heatedBed":true}}}"#;

/// The world, which the server and who drives it share.
#[derive(Clone, Default)]
pub struct Shared(Arc<Mutex<World>>);

impl Shared {
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Listens on 127.0.0.1; yields the address. It ends with the runtime.
pub async fn start() -> (String, Shared) {
    let shared = Shared::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let all = shared.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // What is sent must be there before simulated time goes on.
            stream.set_nodelay(true).unwrap();
            let shared = all.clone();
            // The error is the end.
            tokio::spawn(async move { serve(shared, stream).await.unwrap_or_default() });
        }
    });
    (url, shared)
}

async fn serve(shared: Shared, mut stream: TcpStream) -> io::Result<()> {
    let line = shared.world().line;
    match line {
        Line::Up => {}
        Line::Broken => return Ok(()),
        // Longer than anyone waits.
        Line::Frozen => {
            tokio::time::sleep(Duration::from_secs(600)).await;
            return Ok(());
        }
    }
    let Some(request) = Request::read(&mut stream).await else { return Ok(()) };
    let path = request.path().to_owned();
    if path.ends_with("/websocket") {
        wire::write(&mut stream, request.switch().as_bytes()).await?;
        return push(&shared, stream).await;
    }
    let answer = answer(&shared, &path);
    wire::write(&mut stream, answer.as_bytes()).await
}

fn answer(shared: &Shared, path: &str) -> String {
    let world = shared.world();
    let file = path.strip_prefix("/api/files/local/");
    match path {
        "/api/login" => http(200, "", LOGIN),
        "/api/currentuser" => http(200, "", USER),
        "/sockjs/info" => http(200, "", r#"{"websocket":true}"#),
        _ if !world.rest => http(500, "", "<html>"),
        "/api/printerprofiles" => http(200, "", PROFILES),
        "/api/job" => http(200, "", &world.job_answer()),
        _ => match file.and_then(|file| world.file_answer(file)) {
            Some(answer) => http(200, "", &answer),
            None => http(404, "", "<html>"),
        },
    }
}

/// A push connection; it lives until the world drops its end, or the client its own.
async fn push(shared: &Shared, mut stream: TcpStream) -> io::Result<()> {
    send(&mut stream, b"o").await?;
    send(&mut stream, br#"a[{"connected":{"version":"1.11.8"}}]"#).await?;
    let (out, mut frames) = mpsc::unbounded_channel();
    let number = shared.world().opened(out);
    let mut client = Frames::default();
    loop {
        // One that is frozen reads nothing.
        let frozen = shared.world().line == Line::Frozen;
        tokio::select! {
            biased;
            frame = frames.recv() => match frame {
                Some(frame) => send(&mut stream, &frame).await?,
                None => return Ok(()),
            },
            from = client.next(&mut stream), if !frozen => match from {
                Ok(FromClient::Text(text)) => shared.world().heard(number, &text),
                Ok(FromClient::Ping(payload)) => {
                    wire::write(&mut stream, &wire::frame(PONG, true, &payload)).await?;
                }
                Ok(FromClient::Other) => {}
                Err(error) => {
                    shared.world().closed(number);
                    return Err(error);
                }
            },
        }
    }
}

async fn send(stream: &mut TcpStream, frame: &[u8]) -> io::Result<()> {
    wire::write(stream, &wire::frame(TEXT, true, frame)).await
}
