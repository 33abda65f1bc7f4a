//! Pictures of a real OctoPrint's webcam.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::real;
use crate::real::bridge::{Bridge, config};
use crate::real::mosquitto::Mosquitto;
use crate::real::octoprint::{KEY, OctoPrint};
use crate::real::watcher::Watcher;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const SNAPSHOT: &str = "octoprint2mqtt/mk3/snapshot";

/// What the camera answers.
#[derive(Clone, Copy, PartialEq)]
enum Film {
    Good,
    /// The connection carries half of a picture.
    Cut,
    Huge,
    Missing,
}

/// A camera, which numbers its pictures.
struct Camera {
    port: u16,
    film: Arc<Mutex<Film>>,
    taken: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Camera {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Camera {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let film = Arc::new(Mutex::new(Film::Good));
        let (taken, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (films, counter, seen) = (film.clone(), taken.clone(), Arc::clone(&requests));
        let task = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = stream.read_u8().await else { break };
                    request.push(byte);
                }
                let request = String::from_utf8(request).unwrap();
                seen.lock().unwrap().push(request);
                let film = *films.lock().unwrap();
                let number = counter.fetch_add(1, Ordering::Relaxed);
                let mut picture = b"\xff\xd8\xff\xe0".to_vec();
                picture.extend(format!("picture {number}.").as_bytes());
                if film == Film::Huge {
                    picture.resize(1_500_000, b'.');
                }
                if film != Film::Cut {
                    picture.extend(b"\xff\xd9");
                }
                let status = if film == Film::Missing { "404 Not Found" } else { "200 OK" };
                let head =
                    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", picture.len());
                let _ = stream.write_all(head.as_bytes()).await;
                let _ = stream.write_all(&picture).await;
            }
        });
        Self { port, film, taken, requests, task }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/picture.jpg?key=CAMERA-KEY", self.port)
    }

    fn load(&self, film: Film) {
        *self.film.lock().unwrap() = film;
    }

    /// The name of the next picture.
    fn next(&self) -> String {
        format!("picture {}.", self.taken.load(Ordering::Relaxed))
    }
}

struct World {
    camera: Camera,
    octoprint: OctoPrint,
    watcher: Watcher,
    bridge: Bridge,
    broker: Mosquitto,
}

impl World {
    /// With OctoPrint's own webcam, and `more` in the printer's configuration.
    async fn start(more: impl FnOnce(&Camera) -> String) -> Self {
        let camera = Camera::start().await;
        let more = more(&camera);
        let webcam =
            format!("  classicwebcam: {{_config_version: 1, snapshot: \"{}\"}}\n", camera.url());
        let change = |config: String| config + &webcam;
        let (broker, octoprint) = tokio::join!(Mosquitto::start(), OctoPrint::start_with(change));
        let watcher = Watcher::start(broker.port).await;
        let bridge = Bridge::start(&config(&broker.url(), &octoprint.url(), &more));
        let online = "octoprint2mqtt/mk3/availability";
        watcher.wait("online", |s| s.topic == online && s.payload == "online").await;
        Self { camera, octoprint, watcher, bridge, broker }
    }

    /// Does `act`; the next picture is published.
    async fn shows(&self, what: &str, act: impl AsyncFnOnce()) {
        let (mark, next) = (self.watcher.mark(), self.camera.next());
        act().await;
        let is_next = |s: &real::watcher::Seen| s.topic == SNAPSHOT && s.payload.contains(&next);
        self.watcher.wait_from(mark, what, is_next).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint: ./tests/run real"]
async fn pictures_of_octoprints_webcam_come_on_request_and_with_the_print() {
    let world = World::start(|_| String::new()).await;
    let (watcher, octoprint) = (&world.watcher, &world.octoprint);
    world.shows("on request", async || watcher.done("snapshot", "all").await).await;
    world.shows("the default", async || watcher.done("snapshot", "default").await).await;
    world.shows("by name", async || watcher.done("snapshot", "classic").await).await;
    watcher.refused("snapshot", "attic", Value::Null, "no webcam \"attic\"").await;

    octoprint.upload("part.gcode", 100).await;
    octoprint.select("part.gcode").await;
    world.shows("the start", async || octoprint.job(json!({"command": "start"})).await).await;
    let pause = json!({"command": "pause", "action": "pause"});
    world.shows("the pause", async || octoprint.job(pause).await).await;
    octoprint.until("Paused").await;
    world.shows("the failure", async || octoprint.job(json!({"command": "cancel"})).await).await;
    octoprint.until("Operational").await;
    octoprint.upload("short.gcode", 3).await;
    octoprint.select("short.gcode").await;
    let (mark, start) = (watcher.mark(), world.camera.taken.load(Ordering::Relaxed));
    octoprint.job(json!({"command": "start"})).await;
    let second = format!("picture {}.", start + 1);
    let is_second = |s: &real::watcher::Seen| s.topic == SNAPSHOT && s.payload.contains(&second);
    watcher.wait_from(mark, "a picture of the end", is_second).await;

    // Whoever comes later has the last one, and no camera has seen OctoPrint's key.
    let late = Watcher::start(world.broker.port).await;
    late.wait("the retained picture", |s| s.topic == SNAPSHOT && s.retained).await;
    let requests = world.camera.requests.lock().unwrap().join("\n");
    assert!(!requests.contains(KEY), "{requests}");
    assert!(!world.bridge.log().contains("CAMERA-KEY"), "{}", world.bridge.log());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint: ./tests/run real"]
async fn a_broken_picture_is_not_published_and_an_own_camera_has_its_own_login() {
    let own = |camera: &Camera| {
        format!(
            "[printers.mk3.camera]\nurl = \"{}\"\nusername = \"eye\"\npassword = \"blink\"\nat = []\nevery = \"1s\"\n",
            camera.url()
        )
    };
    let world = World::start(own).await;
    let watcher = &world.watcher;
    world.shows("on request", async || watcher.done("snapshot", "default").await).await;
    let basic = "authorization: basic ZXllOmJsaW5r";
    let requests = world.camera.requests.lock().unwrap().join("\n").to_lowercase();
    assert!(requests.contains(&basic.to_lowercase()), "{requests}");
    let mark = watcher.mark();
    for (film, why) in [
        (Film::Cut, "not a whole JPEG or PNG"),
        (Film::Huge, "camera.max_size"),
        (Film::Missing, "HTTP status 404"),
    ] {
        world.camera.load(film);
        watcher.refused("snapshot", "default", Value::Null, why).await;
    }
    world.camera.load(Film::Good);
    assert!(!watcher.seen()[mark..].iter().any(|s| s.topic == SNAPSHOT), "none was published");
    assert!(!world.bridge.log().contains("blink"), "{}", world.bridge.log());

    // During a print, one a second.
    let octoprint = &world.octoprint;
    octoprint.upload("long.gcode", 600).await;
    octoprint.select("long.gcode").await;
    world.shows("the first", async || octoprint.job(json!({"command": "start"})).await).await;
    world.shows("the second", async || ()).await;
    octoprint.job(json!({"command": "cancel"})).await;
    octoprint.until("Operational").await;
}
