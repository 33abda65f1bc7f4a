//! The rate at which a real OctoPrint pushes follows the latency of a real Mosquitto.

use std::time::{Duration, Instant};

use crate::real::bridge::{Bridge, config};
use crate::real::mosquitto::Mosquitto;
use crate::real::octoprint::OctoPrint;
use crate::real::proxy::Proxy;
use crate::real::sockjs::unpack;
use crate::real::watcher::{Seen, Watcher};
use serde_json::{Value, json};

const SOCKET: &str = "octoprint2mqtt/mk3/socket";
/// Climbing and coming back takes messages, which OctoPrint sends more slowly then.
const LONG: Duration = Duration::from_secs(90);

/// A printing OctoPrint and a broker, both behind proxies, and the bridge between them.
struct World {
    broker_line: Proxy,
    octoprint_line: Proxy,
    watcher: Watcher,
    _bridge: Bridge,
    _octoprint: OctoPrint,
    broker: Mosquitto,
}

impl World {
    async fn start() -> Self {
        let (broker, octoprint) = tokio::join!(Mosquitto::start(), OctoPrint::start());
        let broker_line = Proxy::start(broker.port).await;
        let octoprint_line = Proxy::start(octoprint.port).await;
        // Past the broker's delays: what is retained arrives there after them.
        let watcher = Watcher::start(broker.port).await;
        let (to_broker, to_octoprint) = (broker_line.url("mqtt"), octoprint_line.url("http"));
        let bridge = Bridge::start(&config(&to_broker, &to_octoprint, ""));
        octoprint.upload("part.gcode", 3000).await;
        octoprint.select("part.gcode").await;
        octoprint.job(json!({"command": "start"})).await;
        watcher
            .wait_json(0, "octoprint2mqtt/mk3/printer", |printer| printer["state"] == "printing")
            .await;
        Self {
            broker_line,
            octoprint_line,
            watcher,
            _bridge: bridge,
            _octoprint: octoprint,
            broker,
        }
    }

    /// How many `current` messages OctoPrint has sent.
    fn pushed(&self) -> usize {
        let texts = self.octoprint_line.websocket_texts();
        texts.iter().flat_map(|text| unpack(text)).filter(|(kind, _)| kind == "current").count()
    }

    /// How long OctoPrint takes for so many `current` messages, one by the other.
    async fn interval(&self, messages: usize) -> Duration {
        let pushed = |count: usize| async move {
            let deadline = Instant::now() + LONG;
            while self.pushed() < count {
                assert!(Instant::now() < deadline, "OctoPrint pushes no more");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Instant::now()
        };
        let first = self.pushed() + 1;
        let begin = pushed(first).await;
        let end = pushed(first + messages).await;
        (end - begin) / u32::try_from(messages).unwrap()
    }

    /// What the socket says, newest last.
    fn told(&self, mark: usize) -> Vec<Value> {
        let seen = self.watcher.seen();
        seen[mark..].iter().filter(|seen| seen.topic == SOCKET).map(Seen::json).collect()
    }

    async fn until(&self, mark: usize, what: &str, matches: impl Fn(&Value) -> bool) {
        let deadline = Instant::now() + LONG;
        while !self.told(mark).iter().any(&matches) {
            assert!(Instant::now() < deadline, "waited for {what}: {:?}", self.told(mark));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn factors(told: &[Value]) -> Vec<u64> {
    let mut factors: Vec<u64> = told.iter().map(|s| s["rate_factor"].as_u64().unwrap()).collect();
    factors.dedup();
    factors
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint: ./tests/run real"]
async fn octoprint_pushes_more_slowly_to_a_slow_broker_and_recovers() {
    let world = World::start().await;
    let mark = world.watcher.mark();
    let quick = world.interval(8).await;
    assert!(quick < Duration::from_millis(700), "{quick:?} at factor 1");
    assert!(factors(&world.told(mark)).iter().all(|factor| *factor == 1));

    let mark = world.watcher.mark();
    world.broker_line.delay(Duration::from_millis(1200));
    // 1.2 s fits into 1.5 s: factor 3, and there it stays.
    world.until(mark, "factor 3", |socket| socket["rate_factor"] == 3).await;
    let slow = world.interval(8).await;
    assert!(slow > Duration::from_millis(1350), "{slow:?} at factor 3");
    let told = world.told(mark);
    assert!(factors(&told).ends_with(&[2, 3]), "step by step, and no further: {told:?}");
    world
        .until(mark, "the latency", |socket| socket["publish_latency_ms"].as_f64() >= Some(1100.0))
        .await;

    let mark = world.watcher.mark();
    world.broker_line.delay(Duration::ZERO);
    world.until(mark, "factor 1", |socket| socket["rate_factor"] == 1).await;
    let told = factors(&world.told(mark));
    assert!(told.ends_with(&[2, 1]), "step by step: {told:?}");
    let quick = world.interval(8).await;
    assert!(quick < Duration::from_millis(700), "{quick:?} at factor 1 again");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint: ./tests/run real"]
async fn a_small_delay_and_a_factor_by_hand_change_nothing() {
    let world = World::start().await;
    let mark = world.watcher.mark();
    world.broker_line.delay(Duration::from_millis(100));
    world.interval(20).await;
    assert!(factors(&world.told(mark)).iter().all(|factor| *factor == 1), "{:?}", world.told(mark));

    let answer = world.watcher.command("rate", "2").await;
    assert_eq!(answer["ok"], true, "{answer}");
    world.until(mark, "factor 2", |socket| socket["rate_factor"] == 2).await;
    world.broker_line.delay(Duration::from_millis(1800));
    let interval = world.interval(12).await;
    assert!(interval < Duration::from_millis(1250), "{interval:?} at factor 2");
    let told = world.told(mark);
    let last = told.last().unwrap();
    assert_eq!((&last["rate_factor"], &last["rate_mode"]), (&json!(2), &json!("manual")));
    assert_eq!(factors(&told).iter().max(), Some(&2), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint: ./tests/run real"]
async fn the_absence_of_the_broker_is_not_measured() {
    let mut world = World::start().await;
    let mark = world.watcher.mark();
    world.broker.kill();
    world.interval(8).await;
    world.broker.run().await;
    world.until(mark, "the socket's state again", |socket| socket["state"] == "connected").await;
    world.interval(4).await;
    let told = world.told(mark);
    assert!(factors(&told).iter().all(|factor| *factor == 1), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint: ./tests/run real"]
async fn a_factor_by_hand_survives_restarts_of_either_side() {
    let (mut broker, mut octoprint) = tokio::join!(Mosquitto::start(), OctoPrint::start());
    let line = Proxy::start(octoprint.port).await;
    let data = tempfile::tempdir().unwrap();
    let data_dir = format!("data_dir = \"{}\"\n", data.path().display());
    let config = data_dir + &config(&broker.url(), &line.url("http"), "");
    let watcher = Watcher::start(broker.port).await;
    let mut bridge = Bridge::start(&config);
    let holds = |socket: &Value| {
        socket["state"] == "connected"
            && socket["rate_mode"] == "manual"
            && socket["rate_factor"] == 3
    };
    watcher.wait_json(0, SOCKET, |socket| socket["state"] == "connected").await;
    watcher.command("rate", "3").await;
    watcher.wait_json(0, SOCKET, holds).await;

    let mark = watcher.mark();
    broker.kill();
    broker.run().await;
    watcher.wait_json(mark, SOCKET, holds).await;

    octoprint.kill();
    watcher.wait_json(mark, SOCKET, |socket| socket["state"] == "waiting").await;
    let mark = watcher.mark();
    octoprint.run().await;
    watcher.wait_json(mark, SOCKET, holds).await;

    bridge.process.signal("TERM");
    assert_eq!(bridge.process.ended().await, Some(0), "{}", bridge.log());
    let mark = watcher.mark();
    let bridge = Bridge::start(&config);
    watcher.wait_json(mark, SOCKET, holds).await;

    // `auto` is remembered as well.
    watcher.command("rate", "auto").await;
    let mut bridge = bridge;
    bridge.process.signal("TERM");
    assert_eq!(bridge.process.ended().await, Some(0), "{}", bridge.log());
    let mark = watcher.mark();
    let _bridge = Bridge::start(&config);
    watcher
        .wait_json(mark, SOCKET, |s| s["state"] == "connected" && s["rate_mode"] == "auto")
        .await;
}
