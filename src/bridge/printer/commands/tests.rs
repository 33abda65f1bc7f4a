//! Which values each command accepts, which groups are off, and any text at all (property tests).

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::octoprint::{ConnectWith, FilePath, JobAction, Jog, PrintParams};

fn rules() -> Rules {
    Rules {
        groups: Commands {
            bridge: true,
            job: true,
            temperature: true,
            motion: true,
            connection: true,
            power: true,
            gcode: false,
            system: false,
        },
        limits: Limits { tool: 300.0, bed: 120.0, chamber: 80.0 },
        max_rate_factor: 20,
        entities: Default::default(),
        maintenance: vec!["nozzle".to_owned(), "50".to_owned()],
    }
}

fn parsed(command: &str, payload: &str) -> Result<Command, Refusal> {
    check(&read_request(command, payload.as_bytes()), &rules())
}

#[test]
fn a_maintenance_counter_is_named_as_in_the_configuration() {
    assert_eq!(parsed("maintenance", "nozzle"), Ok(Command::Maintained("nozzle".to_owned())));
    assert_eq!(parsed("maintenance", "50"), Ok(Command::Maintained("50".to_owned())));
    let refused = parsed("maintenance", "belts").unwrap_err().to_string();
    assert!(refused.ends_with("expected one of nozzle, 50"), "{refused}");
    let none = Rules { maintenance: Vec::new(), ..rules() };
    let refused = check(&read_request("maintenance", b"nozzle"), &none).unwrap_err().to_string();
    assert!(refused.contains("the configuration has none"), "{refused}");
}

#[test]
fn power_is_switched_off_during_a_print_only_if_that_is_said() {
    let power = |on, force| Ok(Command::Power { on, force });
    assert_eq!(parsed("power", "on"), power(true, false));
    assert_eq!(parsed("power", "off"), power(false, false));
    assert_eq!(parsed("power", r#"{"action":"off","force":true}"#), power(false, true));
    assert_eq!(parsed("power", r#"{"action":"on"}"#), power(true, false));
    assert_eq!(parsed("power", "keep_on"), Ok(Command::KeepPower));
    for wrong in [
        "ON",
        "toggle",
        "1",
        r#"{"action":"off","force":1}"#,
        r#"{"action":"on","force":true}"#,
        r#"{"action":"off","forced":true}"#,
        r#"{"force":true}"#,
    ] {
        let refused = parsed("power", wrong).unwrap_err().to_string();
        assert!(refused.contains("expected on, off, keep_on"), "{wrong}: {refused}");
    }
}

#[test]
fn values_may_be_bare_quoted_or_wrapped() {
    let bed = |target| Ok(Command::Temperature { heater: Heater::bed(), target });
    assert_eq!(parsed("temperature/bed", "60"), bed(60.0));
    assert_eq!(parsed("temperature/bed", " 60.5 "), bed(60.5));
    assert_eq!(parsed("temperature/bed", "\"60\""), bed(60.0));
    assert_eq!(parsed("temperature/bed", "off"), bed(0.0));
    assert_eq!(parsed("temperature/bed", "0.00005"), bed(0.0));
    assert_eq!(parsed("temperature/bed", "60.128"), bed(60.13));
    assert_eq!(parsed("temperature/bed", r#"{"value":"off","id":7}"#), bed(0.0));
    assert_eq!(read_request("job", br#"{"value":"pause","id":"x"}"#).id, Value::from("x"));
    assert_eq!(parsed("rate", "4"), Ok(Command::Rate(RateSetting::Factor(4))));
    assert_eq!(parsed("rate", "\"faster\""), Ok(Command::Rate(RateSetting::Faster)));
    assert_eq!(parsed("job", "pause"), Ok(Command::Job(JobAction::Pause)));
    assert_eq!(parsed("reconnect", ""), Ok(Command::Reconnect));
    assert_eq!(parsed("emergency_stop", "now"), Ok(Command::EmergencyStop));
}

#[test]
fn all_heaters_can_be_switched_off_and_nothing_else() {
    for off in ["off", "\"off\"", "0", r#"{"value":"off","id":1}"#] {
        assert_eq!(parsed("temperature/all", off), Ok(Command::HeatersOff(Vec::new())));
    }
    for other in ["60", "true", "on", "NaN"] {
        let refused = parsed("temperature/all", other).unwrap_err();
        assert!(refused.to_string().contains("expected off"), "{refused}");
    }
    assert!(matches!(parsed("offset/all", "0"), Err(Refusal::Unknown { .. })));
}

#[test]
fn values_out_of_range_and_unknown_commands_are_refused() {
    for (command, payload) in [
        ("temperature/bed", "120.1"),
        ("temperature/bed", "-1"),
        ("temperature/bed", "NaN"),
        ("temperature/bed", "inf"),
        ("temperature/bed", "true"),
        ("temperature/bed", "[60]"),
        ("temperature/tool", "60"),
        ("temperature/toolx", "60"),
        ("temperature/tool00", "60"),
        ("offset/tool01", "5"),
        ("offset/all", "5"),
        ("temperature/tool0/x", "60"),
        ("temperature", "60"),
        ("temperature/A", "60"),
        ("rate", "0"),
        ("rate", "21"),
        ("rate", "1.5"),
        ("rate", ""),
        ("job", "Pause"),
        ("job", "1"),
        ("job/x", "pause"),
        ("format_disk", "1"),
    ] {
        assert!(parsed(command, payload).is_err(), "{command} {payload}");
    }
}

#[test]
fn the_refusal_names_the_group_that_is_off() {
    let mut rules = rules();
    rules.groups.job = false;
    for command in ["job", "emergency_stop"] {
        let refused = check(&read_request(command, b"pause"), &rules);
        assert_eq!(refused, Err(Refusal::NotAllowed("job")));
    }
}

#[test]
fn texts_stay_texts() {
    let message = |payload: &str| parsed("message", payload);
    let shown = |text: &str| Ok(Command::Message(text.to_owned()));
    assert_eq!(message("Hello"), shown("Hello"));
    assert_eq!(message("5"), shown("5"));
    assert_eq!(message("1e3"), shown("1e3"));
    assert_eq!(message("\"quoted\""), shown("quoted"));
    assert_eq!(message(r#"{"value":"a;b\nM112\u0000c"}"#), shown("a,b M112 c"));
    let long = "ü".repeat(300);
    assert_eq!(message(&long), shown(&"ü".repeat(255)));
    assert_eq!(message(r#"{"value":1.5,"id":1}"#), shown("1.5"));
    assert!(message(r#"{"text":"x"}"#).is_err(), "an object is no text");
}

#[test]
fn paths_of_files_stay_within_their_storage() {
    let file = |text: &str| FilePath::parse(text).unwrap();
    let select = |text: &str| {
        Ok(Command::Select { file: file(text), print: false, params: PrintParams::new() })
    };
    assert_eq!(parsed("select", "local/a b/Teil ü.gcode"), select("local/a b/Teil ü.gcode"));
    let params = PrintParams::new();
    let print = Command::Select { file: file("sdcard/A.GCO"), print: true, params };
    assert_eq!(parsed("print", r#"{"value":"sdcard/A.GCO"}"#), Ok(print));
    assert_eq!(parsed("select", "printer/A.GCO"), select("printer/A.GCO"));
    assert_eq!(parsed("select", "usb/a.gcode"), select("usb/a.gcode"), "OctoPrint may have it");
    for bad in ["a.gcode", "../a.gcode", "local/", "local/../x", "local//x", "local/./x", "/x"] {
        assert!(parsed("select", bad).is_err(), "{bad}");
    }
}

#[test]
fn moves_and_factors_have_bounds() {
    assert_eq!(parsed("offset/bed", "-50"), offset("bed", -50.0));
    assert_eq!(parsed("offset/tool0", "2.5"), offset("tool0", 2.5));
    assert_eq!(parsed("feedrate", "110"), Ok(Command::Feedrate(110)));
    assert_eq!(parsed("flowrate", "95.0"), Ok(Command::Flowrate(95)));
    assert_eq!(parsed("home", "all"), Ok(Command::Home(vec!["x", "y", "z"])));
    assert_eq!(parsed("home", "Z x"), Ok(Command::Home(vec!["x", "z"])));
    assert_eq!(parsed("home", r#"["y"]"#), Ok(Command::Home(vec!["y"])));
    let jog = Jog { x: Some(10.0), z: Some(-0.2), speed: Some(3000.0), y: None };
    assert_eq!(parsed("jog", r#"{"x":10,"z":"-0.2","speed":3000}"#), Ok(Command::Jog(jog)));
    let wrapped = parsed("jog", r#"{"value":{"x":10,"z":-0.2,"speed":3000},"id":1}"#);
    assert_eq!(wrapped, Ok(Command::Jog(jog)));
    assert_eq!(parsed("extrude", "-5"), Ok(Command::Extrude(-5.0)));
    // Firmware would read 5e-05 as 5.
    assert_eq!(parsed("extrude", "0.12345678"), Ok(Command::Extrude(0.123)));
    assert!(parsed("extrude", "0.00005").is_err() && parsed("extrude", "-1e-9").is_err());
    let small = Jog { x: Some(0.0), y: Some(1.0), ..Jog::default() };
    assert_eq!(parsed("jog", r#"{"x":-0.00005,"y":1.00004}"#), Ok(Command::Jog(small)));
    assert!(parsed("jog", r#"{"x":1,"speed":0.0001}"#).is_err());
    assert_eq!(parsed("connection", "connect"), Ok(Command::Connect(ConnectWith::default())));
    assert_eq!(parsed("connection", "disconnect"), Ok(Command::Disconnect));
    let with = |connector: Option<&str>, port: Option<&str>, baudrate| {
        let text = |text: Option<&str>| text.map(str::to_owned);
        Ok(Command::Connect(ConnectWith { connector: text(connector), port: text(port), baudrate }))
    };
    let named = r#"{"connector":"moonraker"}"#;
    assert_eq!(parsed("connection", named), with(Some("moonraker"), None, None));
    let serial = r#"{"value":{"port":"/dev/ttyACM0","baudrate":"115200"},"id":1}"#;
    assert_eq!(parsed("connection", serial), with(None, Some("/dev/ttyACM0"), Some(115_200)));
    for (command, payload) in [
        ("offset/bed", "51"),
        ("offset/A", "1"),
        ("offset", "1"),
        ("feedrate", "9"),
        ("feedrate", "501"),
        ("flowrate", "99.5"),
        ("home", " "),
        ("home", "x e"),
        ("home", "[1]"),
        ("jog", "{}"),
        ("jog", r#"{"speed":100}"#),
        ("jog", r#"{"x":1,"e":5}"#),
        ("jog", r#"{"x":2000}"#),
        ("jog", r#"{"x":1,"speed":0}"#),
        ("jog", "10"),
        ("extrude", "0"),
        ("extrude", "1001"),
        ("connection", "reset"),
        ("connection", "{}"),
        ("connection", r#"{"connector":"moonraker","apikey":"x"}"#),
        ("connection", r#"{"connector":5}"#),
        ("connection", r#"{"port":"a\nb"}"#),
        ("connection", r#"{"baudrate":-1}"#),
        ("home/x", "all"),
    ] {
        assert!(parsed(command, payload).is_err(), "{command} {payload}");
    }
}

fn offset(heater: &str, offset: f64) -> Result<Command, Refusal> {
    Ok(Command::Offset { heater: Heater::read(heater).unwrap(), offset })
}

#[test]
fn gcode_is_split_at_line_ends_and_counted() {
    let mut rules = rules();
    assert_eq!(check(&read_request("gcode", b"G28"), &rules), Err(Refusal::NotAllowed("gcode")));
    rules.groups.gcode = true;
    let lines = |payload: &str| match check(&read_request("gcode", payload.as_bytes()), &rules) {
        Ok(Command::Gcode(lines)) => Some(lines),
        _ => None,
    };
    assert_eq!(lines("G28 X\r\n\n M117 5 \n").unwrap(), ["G28 X", "M117 5"]);
    assert_eq!(lines(r#"{"value":["G1 X1","G1 X2\nG1 X3"]}"#).unwrap().len(), 3);
    assert_eq!(lines(&"G1\n".repeat(100)).unwrap().len(), 100);
    assert_eq!(lines(&"G1\n".repeat(101)), None);
    assert_eq!(lines(&"x".repeat(256)), None);
    assert_eq!(lines("G1\u{7}"), None);
    assert_eq!(lines(" \n "), None);
}

#[test]
fn a_control_is_named_alone_or_with_parameters() {
    let mut rules = rules();
    rules.groups.gcode = true;
    let control = |payload: &str| check(&read_request("control", payload.as_bytes()), &rules);
    let named = |name: &str, params: Value| {
        let params = params.as_object().unwrap().clone();
        Ok(Command::Control { name: name.to_owned(), params })
    };
    let speed = json!({"speed": 50});
    assert_eq!(control("Fans/Off"), named("Fans/Off", json!({})));
    assert_eq!(control("5"), named("5", json!({})));
    assert_eq!(control(r#"{"value":"5 %","id":1}"#), named("5 %", json!({})));
    assert_eq!(control(r#"{"control":"Fan","params":{"speed":50}}"#), named("Fan", speed.clone()));
    let wrapped = r#"{"value":{"control":"Fan","params":{"speed":50}},"id":1}"#;
    assert_eq!(control(wrapped), named("Fan", speed));
    for bad in [
        " ",
        r#"{"value":[1]}"#,
        r#"{"control":"Fan","speed":50}"#,
        r#"{"control":5}"#,
        r#"{"params":{}}"#,
        r#"{"control":"Fan","params":[50]}"#,
        // The parameters must not get lost.
        r#"{"value":"Fan","params":{"speed":50}}"#,
    ] {
        let refused = control(bad).unwrap_err().to_string();
        assert!(refused.contains("expected the name of a custom control"), "{bad}: {refused}");
    }
    let off = check(&read_request("control", b"Fan"), &self::rules());
    assert_eq!(off, Err(Refusal::NotAllowed("gcode")));
}

#[test]
fn a_print_takes_parameters() {
    let params = || json!({"plate": 2}).as_object().unwrap().clone();
    let file = || FilePath::parse("printer/a.3mf").unwrap();
    let payload = r#"{"file":"printer/a.3mf","params":{"plate":2}}"#;
    for (command, print) in [("select", false), ("print", true)] {
        let chosen = Command::Select { file: file(), print, params: params() };
        assert_eq!(parsed(command, payload), Ok(chosen));
    }
    let plain = Command::Select { file: file(), print: true, params: PrintParams::new() };
    assert_eq!(parsed("print", r#"{"file":"printer/a.3mf"}"#), Ok(plain));
    let start = parsed("job", r#"{"action":"start","params":{"plate":2}}"#);
    assert_eq!(start, Ok(Command::StartWith(params())));
    assert_eq!(parsed("job", r#"{"action":"start"}"#), Ok(Command::Job(JobAction::Start)));
    for (command, bad) in [
        ("job", r#"{"action":"pause","params":{"plate":2}}"#),
        ("job", r#"{"params":{}}"#),
        ("print", r#"{"file":"a.gcode"}"#),
        ("print", r#"{"file":"local/a.gcode","plate":2}"#),
        ("print", r#"{"value":"local/a.gcode","params":{"plate":2}}"#),
    ] {
        assert!(parsed(command, bad).is_err(), "{command} {bad}");
    }
}

#[test]
fn a_preset_is_a_name_with_the_limits_of_the_printer() {
    let preset = |name: &str| Ok(Command::Preset { name: name.to_owned(), limits: rules().limits });
    assert_eq!(parsed("preset", "PLA"), preset("PLA"));
    assert_eq!(parsed("preset", " 5 "), preset("5"));
    assert_eq!(parsed("preset", r#"{"value":"PLA {+}","id":1}"#), preset("PLA {+}"));
    assert_eq!(parsed("preset", "off"), Ok(Command::HeatersOff(Vec::new())));
    for bad in [" ", r#"{"value":[1]}"#, r#"{"name":"PLA"}"#] {
        assert!(parsed("preset", bad).is_err(), "{bad}");
    }
    assert_eq!(parsed("job", "again"), Ok(Command::PrintAgain(None)));
    assert_eq!(parsed("refresh_sd", "1"), Ok(Command::RefreshCard));
}

#[test]
fn a_prompt_is_answered_with_a_text_or_an_index() {
    let answer = |choice: &str| Ok(Command::AnswerPrompt { choice: choice.to_owned(), text: None });
    let meant = Command::AnswerPrompt { choice: "1".to_owned(), text: Some("Which?".to_owned()) };
    assert_eq!(parsed("prompt", r#"{"choice":1,"text":"Which?"}"#), Ok(meant));
    for wrong in [r#"{"choice":1}"#, r#"{"text":"a"}"#, r#"{"choice":"a","text":"b","x":1}"#] {
        assert!(parsed("prompt", wrong).is_err(), "{wrong}");
    }
    assert_eq!(parsed("prompt", "Purge more"), answer("Purge more"));
    assert_eq!(parsed("prompt", "1"), answer("1"));
    assert_eq!(parsed("prompt", r#"{"value":1,"id":2}"#), answer("1"));
    assert_eq!(parsed("prompt", r#"{"value":"{1}"}"#), answer("{1}"));
    for bad in [" ", r#"{"value":[0]}"#, r#"{"choice":0}"#] {
        assert!(parsed("prompt", bad).is_err(), "{bad}");
    }
}

#[test]
fn only_octoprint_itself_is_updated() {
    let mut rules = rules();
    rules.groups.system = true;
    let update = |payload: &[u8]| check(&read_request("update", payload), &rules);
    assert_eq!(update(b"octoprint"), Ok(Command::Update));
    assert!(update(b"install").unwrap_err().to_string().contains("expected octoprint"));
}

#[test]
fn every_group_can_be_switched_off() {
    let none = Commands {
        bridge: false,
        job: false,
        temperature: false,
        motion: false,
        connection: false,
        power: false,
        gcode: false,
        system: false,
    };
    let rules = Rules { groups: none, ..rules() };
    for (command, group) in [
        ("reconnect", "bridge"),
        ("rate", "bridge"),
        ("select", "job"),
        ("print", "job"),
        ("message", "job"),
        ("refresh_sd", "job"),
        ("prompt", "job"),
        ("temperature/bed", "temperature"),
        ("temperature/all", "temperature"),
        ("preset", "temperature"),
        ("offset/tool0", "temperature"),
        ("feedrate", "motion"),
        ("flowrate", "motion"),
        ("home", "motion"),
        ("jog", "motion"),
        ("extrude", "motion"),
        ("connection", "connection"),
        ("gcode", "gcode"),
        ("control", "gcode"),
        ("system", "system"),
        ("update", "system"),
    ] {
        assert_eq!(check(&read_request(command, b"1"), &rules), Err(Refusal::NotAllowed(group)));
    }
}

proptest! {
    #[test]
    fn no_payload_panics_or_passes_its_bounds(
        command in "(job|rate|maintenance|message|gcode|control|jog|home|extrude|feedrate|flowrate|select|print|system|connection|(temperature|offset)/(bed|tool[0-9]|chamber|.{0,6})|.{0,12})",
        payload in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..40),
            "[-0-9.e]{0,12}".prop_map(String::into_bytes),
            r#"\{"(x|y|z|speed|value)":[-0-9.e"]{1,8}\}"#.prop_map(String::into_bytes),
        ],
    ) {
        let all = Commands { gcode: true, system: true, ..rules().groups };
        match check(&read_request(&command, &payload), &Rules { groups: all, ..rules() }) {
            Ok(Command::Temperature { target, .. }) => {
                prop_assert!((0.0..=300.0).contains(&target));
            }
            Ok(Command::Offset { offset, .. }) => prop_assert!(offset.abs() <= 50.0),
            Ok(Command::Feedrate(factor) | Command::Flowrate(factor)) => {
                prop_assert!((10..=500).contains(&factor));
            }
            Ok(Command::Jog(Jog { x, y, z, speed })) => {
                for axis in [x, y, z].into_iter().flatten() {
                    prop_assert!(axis.abs() <= 1000.0);
                }
                prop_assert!(speed.is_none_or(|speed| speed > 0.0));
            }
            Ok(Command::Extrude(amount)) => {
                prop_assert!((0.001..=1000.0).contains(&amount.abs()));
            }
            Ok(Command::Gcode(lines)) => {
                let good = |line: &String| !line.is_empty() && !line.contains(['\n', '\r']);
                prop_assert!(lines.iter().all(good));
            }
            Ok(Command::Message(text)) => {
                prop_assert!(!text.contains([';', '\n', '\r']) && text.chars().count() <= 255);
            }
            _ => {}
        }
    }
}
