//! Panicking tasks, with simulated OctoPrints and the embedded broker.

#[path = "../../../tests/real/watcher.rs"]
#[allow(dead_code, unreachable_pub, reason = "the tests with real programs use it as well")]
mod watcher;

use serde_json::Value;
use watcher::{Seen, Watcher};

use super::*;
use crate::cli::demo;
use crate::mqtt::Make;
use crate::octoprint::JobAction;
use crate::simulator::{Faults, Simulator, SimulatorOptions};
use crate::tls;

const PATIENCE: Duration = Duration::from_secs(30);

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A bridge with the printers `mk3` and `mini`, and its parts.
struct World {
    simulators: Vec<Simulator>,
    watcher: Watcher,
    sockets: Sockets,
    restarts: Restarts,
    store: Store,
    broker: Broker,
    http: std::net::SocketAddr,
    stop: oneshot::Sender<()>,
    run: tokio::task::JoinHandle<Result<(), RunError>>,
    _dir: tempfile::TempDir,
}

impl World {
    async fn start() -> Self {
        tls::install_provider();
        let (port, dir) = (free_port(), tempfile::tempdir().unwrap());
        tokio::task::spawn_blocking(move || demo::start_broker(port)).await.unwrap().unwrap();
        let watcher = Watcher::start(port).await;
        let http = std::net::SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut text = format!(
            "data_dir = \"{}\"\n[mqtt]\nurl = \"mqtt://127.0.0.1:{port}\"\n[outbox]\nsettle = \"0s\"\n",
            dir.path().display()
        );
        let mut simulators = Vec::new();
        for id in ["mini", "mk3"] {
            let simulator = Simulator::start(SimulatorOptions::default()).await.unwrap();
            let url = simulator.url();
            text += &format!(
                "[printers.{id}]\nurl = \"{url}\"\napi_key = \"SIMULATOR-KEY\"\n[printers.{id}.socket]\ntransport = \"websocket\"\ntimeouts = [1]\n"
            );
            simulators.push(simulator);
        }
        // A callback of the library's user may panic, too.
        let set_log_level: SetLogLevel = Arc::new(|_| panic!("a test"));
        let hub = Hub::start(crate::config::from_toml(&text).unwrap(), set_log_level).unwrap();
        let listener = crate::http::listen(http).unwrap();
        hub.spawn("HTTP server", crate::http::serve(listener, hub.vitals()));
        let (sockets, restarts) = (hub.needs.sockets.clone(), hub.needs.restarts.clone());
        let (store, broker) = (hub.needs.store.clone(), hub.broker.clone());
        let (stop, stopped) = oneshot::channel::<()>();
        let run = tokio::spawn(hub.run(async move { drop(stopped.await) }));
        let world = Self {
            simulators,
            watcher,
            sockets,
            restarts,
            store,
            broker,
            http,
            stop,
            run,
            _dir: dir,
        };
        world.is(0, "mini/availability", "online").await;
        world.is(0, "mk3/availability", "online").await;
        world.is(0, "bridge/state", "online").await;
        world
    }

    fn mk3(&self) -> &Simulator {
        &self.simulators[1]
    }

    async fn is(&self, mark: usize, topic: &str, payload: &str) {
        let full = format!("octoprint2mqtt/{topic}");
        let is = |seen: &Seen| seen.topic == full && seen.payload == payload;
        self.watcher.wait_from(mark, &format!("{topic} {payload}"), is).await;
    }

    /// Waits until mk3 went offline and came back, and checks that mini stayed online.
    async fn comes_back(&self, mark: usize, task: &str) {
        self.is(mark, "mk3/availability", "offline").await;
        let waits = |socket: &Value| socket["state"] == "waiting" && socket["error"].is_string();
        self.watcher.wait_json(mark, "octoprint2mqtt/mk3/socket", waits).await;
        let offline = self.watcher.mark();
        let health = crate::cli::health::ask(self.http).await.unwrap();
        assert!(health.starts_with("healthy, but") && health.contains("mk3"), "{health}");
        assert_eq!(self.restarts.recent()["mk3"]["failed"], task);
        self.is(offline, "mk3/availability", "online").await;
        let seen = self.watcher.seen();
        let mini = seen[mark..].iter().filter(|s| s.topic == "octoprint2mqtt/mini/availability");
        assert_eq!(mini.count(), 0, "the other printer stays online");
        assert_eq!(self.watcher.command("rate", "auto").await["ok"], true, "commands arrive again");
    }

    async fn ends_with(mut self, task: &str) {
        let ended = tokio::time::timeout(PATIENCE, &mut self.run).await.expect("the bridge ends");
        let ended = ended.unwrap().unwrap_err();
        assert!(matches!(ended, RunError::Failed { task: failed } if failed == task), "{ended}");
        self.is(0, "bridge/state", "offline").await;
    }

    async fn end(self) {
        self.stop.send(()).unwrap();
        self.run.await.unwrap().unwrap();
    }

    fn count(&self, mark: usize, topic: &str) -> usize {
        self.watcher.seen()[mark..].iter().filter(|seen| seen.topic == topic).count()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_printer_whose_task_panics_is_restarted_with_its_queued_messages() {
    let world = World::start().await;
    let mark = world.watcher.mark();
    world.mk3().raw("a[{\"panic\":1},{\"event\":{\"type\":\"Behind\",\"payload\":{}}}]");
    world.comes_back(mark, "printer").await;
    world.publishes_behind(mark).await;
    let health = health::health(
        Start { instant: Instant::now(), wall: SystemTime::now() },
        &world.broker,
        &world.sockets.all(),
        &world.restarts,
    );
    let health: Value = serde_json::from_slice(&health).unwrap();
    let restarts = |id: &str| health["printers"][id]["restarts"].clone();
    assert_eq!((restarts("mk3"), restarts("mini")), (1.into(), 0.into()));
    world.end().await;
}

impl World {
    /// Waits for the event behind the message that made the task panic, which is published once.
    async fn publishes_behind(&self, mark: usize) {
        let topic = "octoprint2mqtt/mk3/event/Behind";
        self.watcher.wait_from(mark, topic, |seen| seen.topic == topic).await;
        assert_eq!(self.count(mark, topic), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_are_answered_while_a_printer_is_away_and_an_emergency_stop_gets_through() {
    let world = World::start().await;
    let mark = world.watcher.mark();
    // In order, so that the others find the task gone.
    for (command, payload) in [("panic", "x"), ("job", "pause"), ("emergency_stop", "now")] {
        let topic = format!("octoprint2mqtt/mk3/set/{command}");
        world.watcher.publish(&topic, payload, false).await;
    }
    let result = "octoprint2mqtt/mk3/result";
    let answer = |command: &'static str| {
        world.watcher.wait_json(mark, result, move |answer| answer["command"] == command)
    };
    let panicked = answer("panic").await;
    assert!(panicked["error"].as_str().unwrap().contains("unknown whether"), "{panicked}");
    let refused = answer("job").await;
    assert!(refused["error"].as_str().unwrap().contains("not queued meanwhile"), "{refused}");
    assert_eq!(answer("emergency_stop").await["ok"], true);
    let sent = world.mk3().observed().commands;
    assert!(sent.iter().any(|(_, body)| body.to_string().contains("M112")), "{sent:?}");
    world.comes_back(mark, "printer").await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panicking_socket_or_worker_takes_only_its_own_printer_offline() {
    let world = World::start().await;
    let mark = world.watcher.mark();
    world.sockets.get("mk3").unwrap().fail();
    world.comes_back(mark, "push socket").await;
    let mark = world.watcher.mark();
    let answer = world.watcher.command("message", "panic").await;
    assert_eq!((&answer["ok"], &answer["status"]), (&Value::Bool(false), &Value::Null));
    assert!(answer["error"].as_str().unwrap().contains("unknown whether"), "{answer}");
    world.comes_back(mark, "commands").await;
    assert_eq!(world.watcher.command("message", "hello").await["ok"], true);
    assert_eq!(world.restarts.of("mk3"), 2);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_print_during_a_restart_of_its_printer_is_not_missed() {
    let world = World::start().await;
    world.watcher.command("print", "local/part.gcode").await;
    let is = |kind: &'static str| move |print: &Value| print["event_type"] == kind;
    let print = "octoprint2mqtt/mk3/print";
    world.watcher.wait_json(0, print, is("print_started")).await;
    // Ends within a second of the first `history` count as known.
    let current = "octoprint2mqtt/mk3/message/current";
    let time = |current: &Value| current["serverTime"].as_f64().unwrap_or_default();
    let first = time(&world.watcher.wait_json(0, current, |_| true).await);
    world.watcher.wait_json(0, current, |current| time(current) > first + 2.0).await;
    let mark = world.watcher.mark();
    // The socket cannot reconnect before the end.
    let refuse_upgrade = Faults { refuse_upgrade: true, ..Faults::default() };
    world.mk3().set_faults(refuse_upgrade);
    let socket = world.sockets.get("mk3").unwrap();
    world.mk3().raw("a[{\"panic\":1}]");
    world.is(mark, "mk3/availability", "offline").await;
    let deadline = Instant::now() + PATIENCE;
    while !socket.has_ended() {
        assert!(Instant::now() < deadline, "the socket stays");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    socket.rest().job(JobAction::Cancel).await.unwrap();
    world.mk3().set_faults(Faults::default());
    let end = world.watcher.wait_json(mark, print, is("print_cancelled")).await;
    assert_eq!(end["_recovered"], true, "{end}");
    assert_eq!(world.count(mark, print), 1, "once");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fleet_is_counted_over_a_restart_of_a_printer_and_to_the_end() {
    const FLEET: &str = "octoprint2mqtt/bridge/fleet";
    let world = World::start().await;
    let are = |idle: u64, offline: u64| {
        move |fleet: &Value| fleet["idle"] == idle && fleet["offline"] == offline
    };
    world.watcher.wait_json(0, FLEET, are(2, 0)).await;
    let mark = world.watcher.mark();
    world.mk3().raw("a[{\"panic\":1}]");
    world.watcher.wait_json(mark, FLEET, are(1, 1)).await;
    let mark = world.watcher.mark();
    world.watcher.wait_json(mark, FLEET, are(2, 0)).await;
    world.watcher.command("print", "local/part.gcode").await;
    let is_next = |fleet: &Value| fleet["printing"] == 1 && fleet["next"]["eta"].is_string();
    let fleet = world.watcher.wait_json(mark, FLEET, is_next).await;
    assert_eq!((&fleet["next"]["printer"], &fleet["total"]), (&"mk3".into(), &2.into()), "{fleet}");
    let mark = world.watcher.mark();
    world.stop.send(()).unwrap();
    world.run.await.unwrap().unwrap();
    let fleet = world.watcher.wait_json(mark, FLEET, are(0, 2)).await;
    assert_eq!((&fleet["printing"], &fleet["next"]), (&0.into(), &Value::Null), "{fleet}");
}

#[tokio::test(flavor = "multi_thread")]
async fn when_its_hub_panics_the_bridge_publishes_offline_and_ends() {
    let world = World::start().await;
    world.watcher.publish("octoprint2mqtt/bridge/request/log_level", "debug", false).await;
    world.ends_with("hub").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_its_brokers_task_panics_the_bridge_ends_and_its_last_will_is_published() {
    let world = World::start().await;
    let make = Make::new(|| panic!("a test"));
    world.broker.publish(Publication::made(OWN_LANE, "octoprint2mqtt/x".into(), make));
    world.ends_with("broker's task").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_its_journal_fails_the_bridge_publishes_offline_and_ends() {
    let world = World::start().await;
    world.store.fail();
    world.ends_with("journal in data_dir").await;
}
