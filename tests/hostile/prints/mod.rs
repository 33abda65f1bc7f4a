//! The whole bridge against an OctoPrint whose prints are known, in simulated time: what is
//! published is held against the truth.

mod broker;
#[path = "../../real/in_process.rs"]
mod in_process;
mod server;
mod world;

use std::cell::Cell;
use std::sync::Once;
use std::time::Duration;

use in_process::InProcess;
use octoprint2mqtt::{config, tls};
use serde::de::IgnoredAny;
use serde_json::Value;
use tokio::time::{Instant, sleep, sleep_until};

use self::broker::Published;
use self::server::Shared;
use self::world::{Line, Print, Without, World};
use super::dice::Dice;
use super::frames;

/// How long a printer may be called online without a connection: `offline_after`, and a bit.
const AWAY: Duration = Duration::from_secs(13);
/// What is sent is read, and what follows from it is published, within this.
const SHORT: Duration = Duration::from_millis(20);
const FILES: [&str; 2] = ["a.gcode", "b.gcode"];

/// The statistics of a successful session.
#[derive(Debug, Default)]
pub struct Story {
    pub prints: usize,
    pub ends: usize,
    pub recovered: usize,
    pub connections: usize,
    pub pushes: u64,
    pub published: usize,
}

thread_local! {
    static PANICS: Cell<usize> = const { Cell::new(0) };
}

/// The bridge restarts a task that panics, so a panic has to be noticed where it happens.
fn count_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.with(|panics| panics.set(panics.get() + 1));
            before(panic);
        }));
    });
}

/// Runs a session that is drawn from these bytes.
///
/// # Panics
/// Where something does not hold that must.
pub fn run(bytes: &[u8]) -> Story {
    tls::install_provider();
    count_panics();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    let story = runtime.block_on(live(Dice::new(bytes)));
    runtime.shutdown_background();
    story
}

async fn live(mut dice: Dice) -> Story {
    let (port, published) = broker::start().await;
    let (url, shared) = server::start().await;
    let text = format!(
        "[outbox]\nsettle = \"0s\"\n[mqtt]\nurl = \"mqtt://127.0.0.1:{port}\"\n[printers.mk3]\n\
         url = \"{url}\"\napi_key = \"KEY\"\n[printers.mk3.socket]\ntransport = \"websocket\"\n"
    );
    let config = config::from_toml(&text).unwrap();
    let bridge = InProcess::start(config);
    let panics = PANICS.with(Cell::get);
    let mut session = Session { shared, published, panics, ..Session::default() };
    // What happens within a second of the first connection is not distinguished from the past.
    session.pass(Duration::from_secs(10)).await;
    // Two kinds of trouble together can hide the end of a print from everybody.
    let trouble = dice.below(6);
    while !dice.is_used_up() {
        session.act(&mut dice, trouble).await;
    }
    session.settle().await;
    session.check_published(trouble < 5);
    bridge.stop().await;
    session.check();
    session.story()
}

struct Session {
    shared: Shared,
    published: Published,
    /// How much of what was published is looked at.
    seen: usize,
    online: bool,
    recovered: usize,
    /// Since when there is no connection.
    down: Option<Instant>,
    panics: usize,
}

impl Default for Session {
    fn default() -> Self {
        let (shared, published) = (Shared::default(), Published::default());
        Self { shared, published, seen: 0, online: false, recovered: 0, down: None, panics: 0 }
    }
}

impl Session {
    async fn pass(&mut self, long: Duration) {
        let until = Instant::now() + long;
        while Instant::now() < until {
            let next = self.shared.world().next(until);
            sleep_until(next).await;
            self.shared.world().pass();
            self.check();
        }
        sleep(SHORT).await;
        self.check();
    }

    async fn act(&mut self, dice: &mut Dice, trouble: usize) {
        let may = |kind| trouble == 5 || trouble == kind;
        let act = dice.below(32);
        match act {
            0..6 => {
                let tenths = 1 + dice.below(256) as u64;
                return self.pass(Duration::from_millis(100 * tenths)).await;
            }
            6 => {
                let minutes = dice.pick(&[1, 3, 10, 40]);
                return self.pass(Duration::from_secs(60 * minutes)).await;
            }
            26 if may(1) => {
                let seconds = [-86_000.0, -3_000.0, -60.0, -10.0, 10.0, 60.0, 3_000.0, 86_000.0];
                self.shared.world().set_clock(*dice.pick(&seconds));
                // While the line stands, the new time is heard before anything else happens.
                while self.shared.world().waits() {
                    self.pass(Duration::from_millis(500)).await;
                }
            }
            _ => {}
        }
        happens(&mut self.shared.world(), act, dice, may);
        sleep(SHORT).await;
        self.check();
    }

    /// Lets everything be found out.
    async fn settle(&mut self) {
        {
            let mut world = self.shared.world();
            world.tell("settles");
            (world.rest, world.slow) = (true, 1);
            if world.line == Line::Frozen {
                world.cut(Line::Broken);
            }
            world.line = Line::Up;
        }
        for _ in 0..10 {
            self.pass(Duration::from_secs(60)).await;
            if self.online && self.shared.world().is_heard() {
                break;
            }
        }
        self.pass(Duration::from_secs(60)).await;
        let world = self.shared.world();
        holds(self.online && world.is_heard(), &world, || "never connected again".to_owned());
    }

    fn check(&mut self) {
        let mut world = self.shared.world();
        let all = self.published.lock().unwrap();
        for (topic, payload) in &all[self.seen..] {
            let is_text = topic.ends_with("/availability") || topic.ends_with("/state");
            let sound = serde_json::from_slice::<IgnoredAny>(payload).is_ok();
            let shown = || format!("no JSON: {topic} {}", String::from_utf8_lossy(payload));
            holds(is_text || payload.is_empty() || sound, &world, shown);
            let read: Value = serde_json::from_slice(payload).unwrap_or_default();
            let proven = world.proven == world.opened && world.opened > 0;
            match topic.as_str() {
                "octoprint2mqtt/mk3/availability" => {
                    let online = payload == b"online";
                    world.tell(&format!("<- online: {online}"));
                    let anew = online && !self.online;
                    holds(!anew || proven, &world, || "online, and nothing was pushed".to_owned());
                    self.online = online;
                }
                "octoprint2mqtt/mk3/socket" => {
                    let connected = read["state"] == "connected";
                    holds(!connected || proven, &world, || {
                        "connected, and nothing was pushed".to_owned()
                    });
                }
                "octoprint2mqtt/mk3/print" => {
                    world.tell(&format!("<- {read}"));
                    self.recovered += usize::from(read["_recovered"] == true);
                    take_print(&mut world, &read);
                }
                _ => {}
            }
        }
        self.seen = all.len();
        if world.is_open() {
            self.down = None;
        }
        let down = !world.is_open() && self.down.get_or_insert_with(Instant::now).elapsed() > AWAY;
        holds(!(down && self.online), &world, || "online, and there is no connection".to_owned());
        holds(PANICS.with(Cell::get) == self.panics, &world, || "a task panicked".to_owned());
    }

    /// A print whose end an event reported has one end. So has one that was seen running, if only one
    /// kind of trouble hides its end.
    fn check_published(&self, all: bool) {
        let world = self.shared.world();
        let over = world.prints.iter().enumerate().filter(|(_, print)| print.end.is_some());
        for (index, print) in over {
            // After a long absence it looks like the next print of its file.
            let next_one = |next: &Print| next.path == print.path && !next.published.is_empty();
            let mistaken =
                world.prints[index + 1..].iter().any(|next| !next.seen && next_one(next));
            let must = print.heard || (print.seen && all && !mistaken);
            holds(!must || print.published.len() == 1, &world, || {
                format!("never published: {print:?}")
            });
        }
    }

    fn story(&self) -> Story {
        let world = self.shared.world();
        Story {
            prints: world.prints.len(),
            ends: world.prints.iter().filter(|print| !print.published.is_empty()).count(),
            recovered: self.recovered,
            connections: world.opened,
            pushes: world.pushes,
            published: self.seen,
        }
    }
}

/// What happens in no time.
fn happens(world: &mut World, act: usize, dice: &mut Dice, may: impl Fn(usize) -> bool) {
    match act {
        7..11 => world.start(FILES[dice.below(2)]),
        11 => world.pause(true),
        12 => world.pause(false),
        13 => world.restart(),
        14 | 15 => world.done(),
        16 => world.cancel(),
        17 => world.fail(1 + dice.below(30)),
        18 => world.off(),
        19 | 20 => world.on(),
        21 => world.cut(Line::Broken),
        22 => world.cut(Line::Frozen),
        23 | 24 => {
            if world.line == Line::Frozen {
                world.cut(Line::Broken);
            }
            world.line = Line::Up;
        }
        25 if may(2) => world.reboot(),
        27 if may(3) => {
            let [log, time, state] = std::array::from_fn(|_| dice.below(2) == 1);
            world.without = Without { log, time, state };
        }
        28 if may(4) => world.rest = dice.below(2) == 1,
        29 => world.slow = 1 + dice.below(20) as u32,
        30 => world.again(),
        31 => {
            let frame = frames::noise(dice);
            world.raw(frame);
        }
        _ => {}
    }
}

fn holds(holds: bool, world: &World, what: impl FnOnce() -> String) {
    assert!(holds, "{}\n{}\n{:#?}", what(), world.story(), world.prints);
}

/// Records a published end: it must be that of a print that is over, and has none yet.
fn take_print(world: &mut World, payload: &Value) {
    let kind = payload["event_type"].as_str().unwrap_or_default();
    if !matches!(kind, "print_done" | "print_failed" | "print_cancelled") {
        return;
    }
    let path = payload["path"].as_str();
    let fits = |print: &Print| {
        print.end.is_some()
            && print.published.is_empty()
            && path.is_none_or(|path| path == print.path)
    };
    let index = if payload["_recovered"] == true {
        let mismatch = |print: &Print| {
            let wrong = print.end.is_none_or(|(end, _)| !is_true(kind, end, payload));
            (wrong, !print.seen)
        };
        // The oldest of those that fit best: ends are found out in order.
        let all = world.prints.iter().enumerate().filter(|(_, print)| fits(print));
        all.min_by_key(|(_, print)| mismatch(print)).map(|(index, _)| index)
    } else {
        // An event, and it is of the last print.
        world.prints.len().checked_sub(1).filter(|last| fits(&world.prints[*last]))
    };
    holds(index.is_some(), world, || format!("no print ended like this: {payload}"));
    let print = &world.prints[index.unwrap()];
    let end = print.end;
    let is_true = end.is_some_and(|(end, _)| is_true(kind, end, payload));
    holds(is_true, world, || format!("it ended as {end:?}: {payload}"));
    world.prints[index.unwrap()].published.push(kind.to_owned());
}

/// Whether a print that ended as `end` may be published as `kind`.
fn is_true(kind: &str, end: &str, payload: &Value) -> bool {
    kind == end || (kind == "print_failed" && payload["reason"] == "unknown")
}
