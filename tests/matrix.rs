//! The versions of OctoPrint that people have, each with its virtual printer.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test that cannot go on has failed, and nothing is above this crate"
)]

mod real;

use real::bridge::{Bridge, config, run};
use real::mosquitto::Mosquitto;
use real::octoprint::{KEY, OctoPrint, PASSWORD, USER};
use real::proxy::Proxy;
use real::sockjs::unpack;
use real::verbatim::assert_verbatim;
use real::watcher::{Seen, Watcher};
use real::{another_second, eventually, left_out};
use serde_json::{Value, json};

/// How often `check` and pairs of calls are repeated: a connection that OctoPrint closes without
/// announcing it fails only now and then.
const TIMES: usize = 20;

fn topic(rest: &str) -> String {
    format!("octoprint2mqtt/mk3/{rest}")
}

struct World {
    /// What lines of the terminal begin with that were sent to the printer.
    sent: &'static str,
    octoprint: OctoPrint,
    proxy: Proxy,
    broker: Mosquitto,
    watcher: Watcher,
    /// Configuration of a bridge that has the key of an administrator.
    by_key: String,
}

impl World {
    async fn start(octoprint: OctoPrint) -> Self {
        let proxy = Proxy::start(octoprint.port).await;
        let broker = Mosquitto::start().await;
        let watcher = Watcher::start(broker.port).await;
        let more = "[printers.mk3.socket]\nterminal = true\n[printers.mk3.commands]\ngcode = true\nsystem = true";
        let by_key = config(&broker.url(), &proxy.url("http"), more);
        let sent = if octoprint.version().await.starts_with("1.") { "Send:" } else { ">>>" };
        Self { sent, octoprint, proxy, broker, watcher, by_key }
    }

    fn by_password(&self) -> String {
        let login = format!("username = \"{USER}\"\npassword = \"{PASSWORD}\"");
        self.by_key.replace(&format!("api_key = \"{KEY}\""), &login)
    }

    async fn online(&self, mark: usize) {
        let online = |seen: &Seen| {
            seen.topic == topic("availability") && seen.payload == "online" && !seen.retained
        };
        self.watcher.wait_from(mark, "online", online).await;
    }

    async fn is_idle(&self, mark: usize) {
        let idle = |printer: &Value| printer["state"] == "operational";
        self.watcher.wait_json(mark, &topic("printer"), idle).await;
    }

    async fn sends(&self, command: &str, payload: &str, sent: &[&str]) {
        self.watcher.sends(self.sent, command, payload, sent).await;
    }

    async fn until_published(&self, mark: usize, event: &str) -> Value {
        self.watcher.wait_json(mark, &topic("print"), |print| print["event_type"] == *event).await
    }

    /// `check` raises no false alarm, and names what is wrong where something is.
    async fn check(&self) {
        let by_password = self.by_password();
        for config in [&self.by_key, &by_password] {
            let mut alarms = Vec::new();
            for _ in 0..TIMES {
                let (code, text) = run(config, &["check"]).await;
                if code != Some(0) {
                    alarms.push(text);
                }
            }
            let count = alarms.len();
            assert_eq!(count, 0, "{count} of {TIMES} false alarms:\n{}", alarms.concat());
        }
        // Before 1.8 a wrong key is answered as that of a deactivated user.
        for (config, right, wrong, named) in [
            (&self.by_key, KEY, "WRONGKEY", "does not know this API key"),
            (&by_password, PASSWORD, "wrong words", "refuses user name or password"),
        ] {
            let (code, text) = run(&config.replace(right, wrong), &["check"]).await;
            assert_eq!(code, Some(1), "{text}");
            assert!(text.contains(named) && !text.contains(wrong), "{text}");
        }
    }

    /// Calls of each kind follow each other without a failure.
    async fn calls(&self) {
        for target in 0..TIMES {
            // The first asks by GET whether there is a file, the second only sends.
            let answer = self.watcher.command("job", "start").await;
            assert_eq!(answer["status"], 409, "{answer}");
            self.watcher.done("temperature/bed", &target.to_string()).await;
        }
        // OctoPrint answers before it has sent what it was told.
        let last = || async {
            let printer = self.octoprint.get("api/printer").await;
            (printer["temperature"]["bed"]["target"] == (TIMES - 1) as f64).then_some(())
        };
        eventually("the last target", last).await;
    }

    async fn state(&self) {
        let printer = |printer: &Value| {
            printer["state"] == "operational" && printer["flags"]["operational"] == true
        };
        self.watcher.wait_json(0, &topic("printer"), printer).await;
        for heater in ["temperature/bed", "temperature/tool0"] {
            let warm =
                |reading: &Value| reading["actual"].is_number() && reading["target"].is_number();
            self.watcher.wait_json(0, &topic(heater), warm).await;
        }
        let version = self.octoprint.version().await;
        self.watcher.wait_json(0, &topic("server"), |server| server["version"] == *version).await;
        let free = |storage: &Value| storage["local"]["free"].as_u64() > Some(0);
        self.watcher.wait_json(0, &topic("storage"), free).await;
        // Known since 2.0.
        let connector = if version.starts_with("1.") { Value::Null } else { json!("serial") };
        let through = |connection: &Value| connection["connector"] == connector;
        self.watcher.wait_json(0, &topic("connection"), through).await;
        let websocket = |socket: &Value| socket["transport"] == "websocket";
        self.watcher.wait_json(0, &topic("socket"), websocket).await;
    }

    /// Every command but those of files and jobs.
    async fn commands(&self) {
        let (watcher, octoprint) = (&self.watcher, &self.octoprint);
        self.sends("message", "Layer 5", &["M117 Layer 5"]).await;
        self.sends("home", "x z", &["G28 X0 Z0"]).await;
        self.sends("jog", r#"{"x":10,"speed":3000}"#, &["G91", "X10"]).await;
        self.sends("extrude", "-3", &["E-3"]).await;
        self.sends("gcode", "G4 P1\nM115", &["G4 P1", "M115"]).await;
        self.sends("feedrate", "110", &["M220 S110"]).await;
        self.sends("flowrate", "95", &["M221 S95"]).await;
        self.sends("temperature/tool0", "200", &["S200"]).await;
        watcher.done("offset/bed", "5").await;
        eventually("the offset", || async move {
            let printer = octoprint.get("api/printer").await;
            (printer["temperature"]["bed"]["offset"] == 5.0).then_some(())
        })
        .await;
        watcher.done("temperature/all", "off").await;
        eventually("the heaters to be off", || async move {
            let printer = octoprint.get("api/printer").await;
            let off = |heater: &str| printer["temperature"][heater]["target"] == 0.0;
            (off("bed") && off("tool0")).then_some(())
        })
        .await;
        watcher.refused("temperature/chamber", "50", json!(409), "").await;
        watcher.refused("system", "restart", json!(404), "settings").await;
        let mark = watcher.mark();
        watcher.done("rate", "2").await;
        watcher.wait_json(mark, &topic("socket"), |socket| socket["rate_factor"] == 2).await;
        watcher.done("rate", "1").await;
        let mark = watcher.mark();
        watcher.done("reconnect", "now").await;
        watcher.reconnected(mark, "octoprint2mqtt/mk3").await;
        watcher.done("connection", "disconnect").await;
        octoprint.until("Offline").await;
        watcher.refused("home", "all", json!(409), "").await;
        watcher.done("connection", "connect").await;
        octoprint.until("Operational").await;
    }

    /// When the print began whose progress is told after `mark`, if that is not `before`.
    async fn started(&self, mark: usize, before: Option<&str>) -> String {
        let anew = |progress: &Value| {
            progress["started"].as_str().is_some_and(|started| Some(started) != before)
        };
        let progress = self.watcher.wait_json(mark, &topic("progress"), anew).await;
        let started = progress["started"].as_str().unwrap().to_owned();
        another_second(&started).await;
        started
    }

    /// A print that is paused, resumed and cancelled, and one that is done.
    async fn prints_and_files(&self) {
        let (watcher, octoprint) = (&self.watcher, &self.octoprint);
        octoprint.upload("long.gcode", 600).await;
        octoprint.upload("short.gcode", 3).await;
        watcher.refused("select", "local/missing.gcode", json!(404), "no such file").await;
        let mark = watcher.mark();
        watcher.done("select", "local/long.gcode").await;
        watcher.done("job", "start").await;
        let first = self.started(mark, None).await;
        watcher.done("job", "pause").await;
        octoprint.until("Paused").await;
        watcher.done("job", "resume").await;
        octoprint.until("Printing").await;
        watcher.refused("home", "all", json!(409), "").await;
        watcher.done("job", "cancel").await;
        octoprint.until("Operational").await;
        self.until_published(mark, "print_cancelled").await;
        watcher.done("print", "local/short.gcode").await;
        let done = self.until_published(mark, "print_done").await;
        assert_eq!(done["file"], "short.gcode", "{done}");
        octoprint.until("Operational").await;
        let expected = [
            "print_started",
            "print_paused",
            "print_resumed",
            "print_cancelled",
            "print_started",
            "print_done",
        ];
        assert_eq!(self.watcher.print_events(mark), expected);

        let second = self.started(mark, Some(&first)).await;
        let mark = watcher.mark();
        watcher.done("print", "local/long.gcode").await;
        octoprint.until("Printing").await;
        let third = self.started(mark, Some(&second)).await;
        watcher.done("job", "toggle").await;
        octoprint.until("Paused").await;
        watcher.done("job", "toggle").await;
        octoprint.until("Printing").await;
        watcher.done("job", "toggle").await;
        octoprint.until("Paused").await;
        let mark = watcher.mark();
        watcher.done("job", "restart").await;
        octoprint.until("Printing").await;
        self.started(mark, Some(&third)).await;
        let mark = watcher.mark();
        watcher.done("job", "cancel").await;
        self.is_idle(mark).await;
    }

    /// Whatever is answered ok has happened, and prints that are over at once have.
    async fn starts_are_confirmed(&self) {
        let (watcher, octoprint) = (&self.watcher, &self.octoprint);
        octoprint.upload("tiny.gcode", 0).await;
        for _ in 0..3 {
            for (command, payload) in [("print", "local/tiny.gcode"), ("job", "start")] {
                watcher.done(command, payload).await;
                octoprint.until("Operational").await;
            }
        }
        // OctoPrint does not look at the file before it has answered.
        octoprint.upload("gone.gcode", 3).await;
        watcher.done("select", "local/gone.gcode").await;
        octoprint.remove("uploads/gone.gcode");
        watcher.refused("job", "start", json!(409), "no print has begun").await;
        watcher.done("connection", "connect").await;
        octoprint.until("Operational").await;
    }

    /// Files on the card have both names in each version.
    async fn files_on_the_card(&self) {
        let (watcher, octoprint) = (&self.watcher, &self.octoprint);
        // The virtual printer of 1.11 loses files whose names are short enough for a card.
        let name = "virtualSd/part-of-the-card.gcode";
        octoprint.write(name, &"G1 X1 E0.1\nG4 P100\n".repeat(600));
        let path = eventually("the file on the card", || async {
            // Ignored until OctoPrint knows that there is a card.
            let refresh = json!({"command": "refresh"});
            assert_eq!(octoprint.post("api/printer/sd", refresh).await, 204);
            let files = octoprint.get("api/files").await;
            let mut files = files["files"].as_array()?.iter();
            let file = files.find(|file| file["origin"] != "local")?;
            Some(file["path"].as_str()?.to_owned())
        })
        .await;
        for storage in ["sdcard", "printer"] {
            watcher.done("select", "local/short.gcode").await;
            watcher.done("select", &format!("{storage}/{path}")).await;
            let file = octoprint.get("api/job").await["job"]["file"].clone();
            assert_ne!(file["origin"], "local", "{file}");
            assert_eq!(file["path"], *path);
        }
        // It is still selected, and the printer no longer opens it.
        octoprint.remove(name);
        let refused = "no print has begun, and the printer is Operational";
        watcher.refused("print", &format!("sdcard/{path}"), json!(409), refused).await;
        // The virtual printer of 1.11 answers no more after that.
        watcher.done("connection", "disconnect").await;
        watcher.done("connection", "connect").await;
        octoprint.until("Operational").await;
        watcher.done("select", "local/short.gcode").await;
    }

    /// The printer's own words are why a print failed, and why the printer is in an error.
    async fn a_fatal_error(&self) {
        let mark = self.watcher.mark();
        self.watcher.done("print", "local/long.gcode").await;
        self.octoprint.until("Printing").await;
        self.octoprint.command("!!DEBUG:trigger_fatal_error_marlin").await;
        let failed = self.until_published(mark, "print_failed").await;
        let is_told = |text: &Value| text.as_str().unwrap_or_default().contains("Thermal Runaway");
        assert!(is_told(&failed["reason"]), "{failed}");
        let in_error = |printer: &Value| printer["state"] == "error" && is_told(&printer["error"]);
        self.watcher.wait_json(mark, &topic("printer"), in_error).await;
        let mark = self.watcher.mark();
        self.watcher.done("connection", "connect").await;
        let healthy = |printer: &Value| {
            printer["state"] == "operational" && printer["error"].as_str().unwrap_or_default() == ""
        };
        self.watcher.wait_json(mark, &topic("printer"), healthy).await;
    }

    /// A print that runs when OctoPrint is killed has failed, once.
    async fn restart_in_a_print(&mut self) {
        let mark = self.watcher.mark();
        self.watcher.done("print", "local/long.gcode").await;
        self.octoprint.until("Printing").await;
        let printing = |printer: &Value| printer["state"] == "printing";
        self.watcher.wait_json(mark, &topic("printer"), printing).await;
        self.octoprint.kill();
        let offline =
            |seen: &Seen| seen.topic == topic("availability") && seen.payload == "offline";
        self.watcher.wait_from(mark, "offline", offline).await;
        self.octoprint.run().await;
        let failed = self.until_published(mark, "print_failed").await;
        assert_eq!((&failed["_recovered"], &failed["file"]), (&json!(true), &json!("long.gcode")));
        let after = self.watcher.mark();
        self.sends("message", "back", &["M117 back"]).await;
        self.is_idle(mark).await;
        assert_eq!(self.watcher.print_events(mark), ["print_started", "print_failed"]);
        assert!(self.watcher.print_events(after).is_empty());
    }

    async fn emergency_stop(&self) {
        self.sends("emergency_stop", "now", &["M112"]).await;
    }
}

/// What users do with this OctoPrint, done.
async fn works(octoprint: OctoPrint) {
    let mut world = World::start(octoprint).await;
    world.check().await;
    {
        let mut bridge = Bridge::start(&world.by_password());
        world.online(0).await;
        world.calls().await;
        bridge.process.signal("TERM");
        assert_eq!(bridge.process.ended().await, Some(0), "{}", bridge.log());
    }
    let mark = world.watcher.mark();
    let frames_before = world.proxy.websocket_texts().len();
    let _bridge = Bridge::start(&world.by_key);
    world.online(mark).await;
    world.calls().await;
    world.state().await;
    world.commands().await;
    world.prints_and_files().await;
    world.starts_are_confirmed().await;
    world.files_on_the_card().await;
    world.a_fatal_error().await;
    let frames = world.proxy.websocket_texts();
    let own: Vec<_> = frames[frames_before..].iter().flat_map(|frame| unpack(frame)).collect();
    assert_verbatim(&world.watcher.seen()[mark..], &own);
    world.restart_in_a_print().await;
    world.emergency_stop().await;
    drop(world.broker);
}

macro_rules! versions {
    ($($name:ident: $version:literal)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        #[ignore = "needs Mosquitto and this OctoPrint: ./tests/run matrix"]
        async fn $name() {
            match OctoPrint::start_version($version).await {
                Some(octoprint) => works(octoprint).await,
                None => left_out($version, "this OctoPrint is not installed"),
            }
        }
    )*};
}

// What begins with `long_` is of `./tests/run --long`.
versions! {
    long_octoprint_1_5_3: "1.5.3"
    long_octoprint_1_6_1: "1.6.1"
    long_octoprint_1_7_3: "1.7.3"
    octoprint_1_8_7: "1.8.7"
    long_octoprint_1_9_3: "1.9.3"
    long_octoprint_1_10_3: "1.10.3"
}

/// The release that the other tests run with too.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint: ./tests/run matrix"]
async fn octoprint_1() {
    works(OctoPrint::start().await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint 2.0: ./tests/run matrix"]
async fn octoprint_2() {
    works(OctoPrint::start_2_with(|config| config).await).await;
}
