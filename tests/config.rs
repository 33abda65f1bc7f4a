//! The configuration, as users write it and as they get it wrong.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test that cannot go on has failed, and nothing is above this crate"
)]

use std::time::Duration;

use octoprint2mqtt::config::{self, Config, ConfigErrors, Loaded};
use octoprint2mqtt::octoprint::Credentials;
use proptest::prelude::*;

const GOOD: &str = "[printers.mk3]\nurl = \"http://octopi.local\"\napi_key = \"MARKER-SECRET\"\n";

fn shipped() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config.toml");
    std::fs::read_to_string(path).unwrap()
}

/// With a file of this text and these variables.
fn load(text: &str, variables: &[(&str, &str)]) -> Result<Loaded, ConfigErrors> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    config::load(
        Some(file.path()),
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
    )
}

fn key(config: &Config) -> &str {
    match &config.printers[0].credentials {
        Credentials::ApiKey(key) => key.expose(),
        Credentials::Password { password, .. } => password.expose(),
    }
}

fn mistakes(text: &str, variables: &[(&str, &str)]) -> String {
    load(text, variables).unwrap_err().to_string()
}

#[test]
fn the_shipped_file_works_after_two_lines() {
    let error = config::from_toml(&shipped()).unwrap_err().to_string();
    assert!(error.contains("printers.mk3.api_key"), "{error}");
    let filled = shipped().replace("api_key = \"\"", "api_key = \"KEY\"");
    let config = config::from_toml(&filled).unwrap();
    assert_eq!(config.mqtt.host, "localhost");
    assert_eq!(config.printers[0].url.as_str(), "http://octopi.local/");
}

#[test]
fn every_key_that_the_shipped_file_shows_exists_and_its_defaults_are_the_defaults() {
    let filled = shipped().replace("api_key = \"\"", "api_key = \"KEY\"");
    let all: String = filled
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if rest.contains(" = ") || ["[http]", "[shard]"].contains(&rest) => {
                format!("{rest}\n")
            }
            _ => format!("{line}\n"),
        })
        // TLS goes with mqtts only; the rest of the file shows plain MQTT.
        .collect::<String>()
        .replacen("tls = { insecure = false }          # with", "# with", 1);
    let shown = config::from_toml(&all).unwrap();
    let plain = config::from_toml(&filled).unwrap();
    let (mut shown, mut plain) = (shown.without_secrets(), plain.without_secrets());
    for config in [&mut shown, &mut plain] {
        // These have no default, so the file shows an example.
        config["data_dir"].take();
        config["http"].take();
        config["shard"].take();
        config["mqtt"]["username"].take();
        config["printers"]["mk3"]["name"].take();
        config["printers"]["mk3"]["octoprint_mqtt_topic"].take();
        config["printers"]["mk3"]["filament_price"].take();
        config["printers"]["mk3"]["maintenance"].take();
        config["printers"]["mk3"]["power"].take();
        config["printers"]["mk3"]["camera"]["url"].take();
        config["printers"]["mk3"]["camera"]["every"].take();
    }
    assert_eq!(shown, plain);
}

#[test]
fn variables_win_and_are_taken_as_they_are() {
    let config = load(
        GOOD,
        &[
            ("OCTOPRINT2MQTT__PRINTERS__MK3__API_KEY", "0123456789"),
            ("OCTOPRINT2MQTT__PRINTERS__MK3__SOCKET__TIMEOUTS", "1, 2.5,3"),
            ("OCTOPRINT2MQTT__PRINTERS__MK3__PUBLISH__EVENTS", "PrintDone,Error"),
            ("OCTOPRINT2MQTT__MQTT__URL", "mqtt://[::1]:1884"),
            ("OCTOPRINT2MQTT__MQTT__USERNAME", "me"),
            ("OCTOPRINT2MQTT__MQTT__PASSWORD", "1e5"),
            ("OCTOPRINT2MQTT__LOG__LEVEL", ""),
            ("OCTOPRINT2MQTT__PRINTERS__NEW__URL", "https://b.local/sub"),
            ("OCTOPRINT2MQTT__PRINTERS__NEW__API_KEY", "x"),
            ("OCTOPRINT2MQTT__PRINTERS__MK3__SOCKET__HEADERS__X_PROXY", "v"),
        ],
    )
    .unwrap()
    .config;
    assert_eq!(key(&config), "0123456789");
    let timeouts = &config.printers[0].socket.timeouts;
    assert_eq!(timeouts[..], [1.0, 2.5, 3.0].map(Duration::from_secs_f64));
    assert!(config.printers[0].publish.events.allows("Error"));
    assert!(!config.printers[0].publish.events.allows("ZChange"));
    assert_eq!((config.mqtt.host.as_str(), config.mqtt.port), ("::1", 1884));
    assert_eq!(config.mqtt.password.unwrap().expose(), "1e5");
    assert_eq!(config.log.level, "info", "an empty variable is none");
    assert_eq!(config.printers[1].id, "new");
    assert_eq!(config.printers[1].url.as_str(), "https://b.local/sub/");
    assert!(config.printers[0].socket.headers.contains_key("x-proxy"));
}

#[test]
fn a_switch_of_the_power_has_two_topics_and_payloads_that_differ() {
    let with = |table: &str| format!("{GOOD}[printers.mk3.power]\n{table}\n");
    let good = with(
        "state_topic = \"zigbee/plug\"\ncommand_topic = \"zigbee/plug/set\"\nvalue = \"/state\"\nstate_on = true\nstate_off = 0",
    );
    let config = config::from_toml(&good).unwrap();
    let switch = config.printers[0].power.as_ref().unwrap();
    assert_eq!((switch.on.as_str(), switch.state_off.as_str()), ("ON", "0"));
    for (payload, state) in [
        (r#"{"state":true}"#, Some(true)),
        (r#"{"state":0}"#, Some(false)),
        (r#"{"state":"ON"}"#, None),
        ("ON", None),
    ] {
        assert_eq!(switch.state(payload.as_bytes()), state, "{payload}");
    }
    assert_eq!(config::from_toml(GOOD).unwrap().printers[0].power, None);
    for (table, wrong) in [
        ("state_topic = \"a\"", "power.command_topic"),
        ("command_topic = \"a\"", "power.state_topic"),
        ("state_topic = \"a/#\"\ncommand_topic = \"b\"", "power.state_topic"),
        ("state_topic = \"a\"\ncommand_topic = \"octoprint2mqtt/mk3/set/power\"", "command_topic"),
        ("state_topic = \"a\"\ncommand_topic = \"b\"\non = \"OFF\"", "power.off"),
        ("state_topic = \"a\"\ncommand_topic = \"b\"\nvalue = \"state\"", "power.value"),
        ("state_topic = \"a\"\ncommand_topic = \"b\"\ntopic = \"c\"", "power.topic"),
    ] {
        let error = mistakes(&with(table), &[]);
        assert!(error.contains(wrong), "{table}: {error}");
    }
}

#[test]
fn an_option_is_not_none_and_a_printer_has_200_entities_at_most() {
    let select = |options: &str| {
        format!(
            "{GOOD}[printers.mk3.entities.mode]\ntype = \"select\"\nset = {{ gcode = [\"M117 {{value}}\"] }}\noptions = [{options}]\n"
        )
    };
    assert!(config::from_toml(&select("\"nothing\", \"fast\"")).is_ok());
    for none in ["none", "None"] {
        let error = mistakes(&select(&format!("\"{none}\"")), &[]);
        assert!(error.contains("not the word none"), "{error}");
    }
    let many = |count: usize| {
        let button = |n| {
            format!(
                "[printers.mk3.entities.b{n}]\ntype = \"button\"\npress = {{ gcode = \"M300\" }}\n"
            )
        };
        format!("{GOOD}{}", (0..count).map(button).collect::<String>())
    };
    assert!(config::from_toml(&many(200)).is_ok());
    let error = mistakes(&many(201), &[]);
    assert!(error.contains("200 entities at most"), "{error}");
}

#[test]
fn knocking_is_on_unless_it_is_switched_off() {
    let config = config::from_toml(GOOD).unwrap();
    assert!(config.printers[0].socket.knock);
    let off = format!("{GOOD}[printers.mk3.socket]\nknock = false\n");
    let config = config::from_toml(&off).unwrap();
    assert!(!config.printers[0].socket.knock);
    assert_eq!(config.without_secrets()["printers"]["mk3"]["socket"]["knock"], false);
    let error = mistakes(&format!("{GOOD}[printers.mk3.socket]\nknock = \"often\"\n"), &[]);
    assert!(error.contains("printers.mk3.socket.knock"), "{error}");
}

#[test]
fn an_id_with_a_hyphen_is_reached_by_a_variable_with_an_underscore() {
    let text = GOOD.replace("mk3", "my-mk3");
    let config =
        load(&text, &[("OCTOPRINT2MQTT__PRINTERS__MY_MK3__API_KEY", "other")]).unwrap().config;
    assert_eq!((config.printers.len(), key(&config)), (1, "other"));
}

#[test]
fn secrets_come_from_files() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "from-file\n").unwrap();
    let path = secret.path().to_str().unwrap();
    let text = GOOD.replace("api_key = \"MARKER-SECRET\"", &format!("api_key_file = \"{path}\""));
    assert_eq!(key(&load(&text, &[]).unwrap().config), "from-file");
    // The environment's twin beats the file's.
    let variable = [("OCTOPRINT2MQTT__PRINTERS__MK3__API_KEY_FILE", path)];
    assert_eq!(key(&load(GOOD, &variable).unwrap().config), "from-file");
    let both = GOOD.to_owned() + &format!("api_key_file = \"{path}\"\n");
    assert!(mistakes(&both, &[]).contains("both api_key and api_key_file"));
    std::fs::write(secret.path(), "\n").unwrap();
    let empty = mistakes(&text, &[]);
    assert!(empty.contains("api_key_file") && empty.contains("is empty"), "{empty}");
    let missing = mistakes(&text.replace(path, "/nowhere/at/all"), &[]);
    assert!(missing.contains("/nowhere/at/all") && missing.contains("cannot be read"), "{missing}");
}

#[test]
fn a_secret_that_others_can_read_is_warned_of() {
    use std::os::unix::fs::PermissionsExt;
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "s").unwrap();
    let variable =
        [("OCTOPRINT2MQTT__PRINTERS__MK3__API_KEY_FILE", secret.path().to_str().unwrap())];
    let warned = |mode| {
        std::fs::set_permissions(secret.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        !load(GOOD, &variable).unwrap().warnings.is_empty()
    };
    assert!(!warned(0o600));
    assert!(warned(0o644));
}

#[test]
fn several_mistakes_are_reported_together_with_source_key_found_and_expected() {
    let text = "[mqtt]\nurl = \"http://broker\"\nkeep_alive = 20\n[printers.mk3]\nulr = \"x\"\napi_key = 5\n";
    let error = load(text, &[("OCTOPRINT2MQTT__OUTBOX__MAX_EVENTS", "many")]).unwrap_err();
    assert!(error.mistakes().len() >= 6, "{error}");
    let text = error.to_string();
    for part in [
        "mqtt.url: found \"http://broker\"; expected an address such as mqtt://",
        "mqtt.keep_alive: found the number 20; expected a duration as text, such as \"30s\"",
        "printers.mk3.ulr: found a key that does not exist",
        "is url meant?",
        "printers.mk3.url: found nothing",
        "printers.mk3.api_key: found a number; expected the secret as text",
        "OCTOPRINT2MQTT__OUTBOX__MAX_EVENTS: outbox.max_events: found \"many\"; expected a whole number",
    ] {
        assert!(text.contains(part), "{part:?} not in\n{text}");
    }
}

#[test]
fn each_mistake_is_found() {
    let printer = |more: &str| format!("{GOOD}{more}\n");
    let cases = [
        ("[printers.mk3]\nurl = \"http://a\"\n", "printers.mk3.api_key"),
        ("not toml", "TOML"),
        (&printer("username = \"me\"\npassword = \"p\""), "a login beside api_key"),
        (
            "[printers.mk3]\nurl = \"http://a\"\nusername = \"a:b\"\npassword = \"p\"",
            "without a colon",
        ),
        ("[printers.mk3]\nurl = \"http://a\"\nusername = \"ab\"", "the password that goes with"),
        (&GOOD.replace("mk3", "bridge1"), "the id \"bridge1\""),
        (&GOOD.replace("mk3", "a__b"), "the id \"a__b\""),
        (&GOOD.replace("mk3", "mk3-"), "the id \"mk3-\""),
        (&GOOD.replace("http://octopi.local", "octopi.local"), "printers.mk3.url"),
        (&GOOD.replace("http://octopi.local", "ftp://u:p@octopi.local"), "printers.mk3.url"),
        (&format!("{GOOD}{}", GOOD.replace("mk3", "two")), "the url of printers."),
        (&printer("[mqtt]\ntls = { insecure = true }"), "mqtts:// or wss://, or no mqtt.tls"),
        (&printer("[mqtt]\nurl = \"mqtt://user:pass@host\""), "mqtt.url"),
        (&printer("[mqtt]\nurl = \"ws://user:pass@host/mqtt\""), "mqtt.url"),
        (&printer("[mqtt]\nurl = \"ws://h\"\ntls = { insecure = true }"), "or wss://"),
        (&printer("[mqtt]\nbase_topic = \"a/#\""), "mqtt.base_topic"),
        (&printer("[mqtt]\nbase_topic = \"homeassistant\""), "two different topics"),
        (&printer("[mqtt]\nbase_topic = \"a\\uFFFE\""), "mqtt.base_topic"),
        (&printer(&format!("[mqtt]\nbase_topic = \"{}\"", "b".repeat(129))), "at most 128 bytes"),
        (&printer("[mqtt]\nclient_id = \"a\\uFDD0\""), "mqtt.client_id"),
        (&printer("[mqtt]\nclient_id = \"a\\u0001\""), "mqtt.client_id"),
        (&printer("[mqtt]\nusername = \"a\\uFFFF\""), "mqtt.username"),
        (&printer("[mqtt]\nmax_packet_size = \"999B\""), "mqtt.max_packet_size"),
        (&printer("[mqtt]\nmax_packet_size = \"1GB\""), "at most 268435455 bytes"),
        (&printer("octoprint_mqtt_topic = \"a\\uFFFE/\""), "octoprint_mqtt_topic"),
        (
            &printer(&format!("octoprint_mqtt_topic = \"{}\"", "o".repeat(257))),
            "octoprint_mqtt_topic",
        ),
        (&GOOD.replace("mk3", &"p".repeat(65)), "at most 64"),
        (&printer("[mqtt]\npassword = \"p\""), "mqtt.username"),
        (&printer("[mqtt]\nkeep_alive = \"0s\""), "mqtt.keep_alive"),
        (&printer("[mqtt]\nurl = \"mqtts://h\"\ntls = { cert_file = \"/dev/null\" }"), "key_file"),
        (&printer("[log]\nlevel = \"verbose\""), "log.level"),
        (&printer("[http]\nlisten = \"here\""), "http.listen"),
        (&printer("[http]\npage = \"maybe\""), "http.page"),
        (&printer("[http]\npassword = \"\""), "http.password"),
        (&printer("[http]\npassword = 1234"), "http.password"),
        (&printer("[http]\npassword = \"a\"\npassword_file = \"b\""), "both password and"),
        (&printer("[http]\nhosts = [\"http://pi.lan\"]"), "http.hosts"),
        (&printer("[http]\nhosts = [\"pi.lan:8099\"]"), "without scheme and port"),
        (&printer("[http]\nread_only = 1"), "http.read_only"),
        (&printer("[outbox]\nmax_bytes = \"lots\""), "outbox.max_bytes"),
        (&printer("[outbox]\nsettle = \"2h\""), "outbox.settle"),
        (&printer("[homeassistant]\nwait = \"soon\""), "homeassistant.wait"),
        (&printer("[homeassistant]\nstatus_topic = \"ha/#\""), "homeassistant.status_topic"),
        (&printer("[homeassistant]\nonline = \"\""), "homeassistant.online"),
        (&printer("[homeassistant]\nonline = \"x\"\noffline = \"x\""), "homeassistant.offline"),
        (&printer("[printers.mk3.camera]\nurl = \"http://u:p@cam/x.jpg\""), "mk3.camera.url"),
        (&printer("[printers.mk3.camera]\nurl = \"rtsp://cam\""), "mk3.camera.url"),
        (&printer("[printers.mk3.camera]\nusername = \"u\"\npassword = \"p\""), "camera.url"),
        (&printer("[printers.mk3.camera]\nurl = \"http://c\"\npassword = \"p\""), "username"),
        (&printer("[printers.mk3.camera]\nat = [\"dawn\"]"), "some of start, end, failure"),
        (&printer("[printers.mk3.camera]\nevery = \"10ms\""), "mk3.camera.every"),
        (&printer("[printers.mk3.camera]\nevery_layers = 0"), "mk3.camera.every_layers"),
        (&printer("[printers.mk3.camera]\nmax_size = \"2MB\""), "at most 1899000 bytes"),
        (&printer("[printers.mk3.socket]\ntimeouts = []"), "socket.timeouts"),
        (&printer("[printers.mk3.socket]\ntransport = \"pigeon\""), "one of auto, websocket"),
        (&printer("[printers.mk3.limits]\ntool = 5000"), "limits.tool"),
        (&printer("[printers.mk3.commands]\njob = \"maybe\""), "true or false"),
        (&printer("publish = 5"), "a table"),
        (&printer("data_dir = 5\n[shard]\nindex = 0"), "shard"),
    ];
    for (text, telling) in cases {
        let error = mistakes(text, &[]);
        assert!(error.contains(telling), "{telling:?} not in\n{error}\nof\n{text}");
    }
    let unknown = mistakes(GOOD, &[("OCTOPRINT2MQTT__MQTT__ULR", "x")]);
    assert!(unknown.contains("OCTOPRINT2MQTT__MQTT__ULR"), "{unknown}");
}

#[test]
fn the_page_is_on_by_default_and_its_password_is_never_shown() {
    let http = |more: &str| {
        let config = config::from_toml(&format!("{GOOD}[http]\n{more}")).unwrap();
        let shown = format!("{config:?} {}", config.without_secrets());
        assert!(!shown.contains("MARKER"), "{shown}");
        config.http.unwrap()
    };
    let plain = http("");
    assert_eq!(plain.listen.to_string(), "127.0.0.1:8099");
    assert!(plain.page && plain.password.is_none() && plain.hosts.is_empty());
    assert_eq!(plain.read_only, None);
    let full = http("password = \"MARKER-page\"\nhosts = [\"Pi.Lan\"]\nread_only = true");
    assert_eq!(full.password.unwrap().expose(), "MARKER-page");
    assert_eq!((full.hosts, full.read_only), (vec!["pi.lan".to_owned()], Some(true)));
    let variables = [
        ("OCTOPRINT2MQTT__HTTP__PAGE", "false"),
        ("OCTOPRINT2MQTT__HTTP__HOSTS", "pi.lan,printers.example.org"),
        ("OCTOPRINT2MQTT__HTTP__READ_ONLY", "false"),
    ];
    let http = load(GOOD, &variables).unwrap().config.http.unwrap();
    assert!(!http.page && http.hosts.len() == 2 && http.read_only == Some(false));
}

#[test]
fn what_mqtt_bounds_is_taken_up_to_the_bound() {
    let (base, id) = ("b".repeat(128), "p".repeat(64));
    let text = GOOD.replace("mk3", &id)
        + &format!("\n[mqtt]\nbase_topic = \"{base}\"\nmax_packet_size = \"100KB\"\n");
    let config = config::from_toml(&text).unwrap();
    assert_eq!((config.mqtt.base_topic, config.mqtt.max_packet_size), (base, 100_000));
    assert_eq!(config.printers[0].id, id);
    assert_eq!(config::from_toml(GOOD).unwrap().mqtt.max_packet_size, 1_900_000);
}

#[test]
fn secrets_never_show() {
    let text = format!(
        "{GOOD}[mqtt]\nusername = \"u\"\npassword = \"MARKER-PASSWORD\"\n[printers.mk3.socket]\nheaders = {{ Authorization = \"MARKER-HEADER\" }}\n"
    );
    let config = config::from_toml(&text).unwrap();
    let shown = format!("{config:?}{:#?}{}", config, config.without_secrets());
    assert!(!shown.contains("MARKER"), "{shown}");
    for wrong in
        ["api_key = [\"MARKER-SECRET\"]", "api_key = true # MARKER", "api_key = { MARKER = 1 }"]
    {
        let error = mistakes(&GOOD.replace("api_key = \"MARKER-SECRET\"", wrong), &[]);
        assert!(!error.contains("MARKER"), "{error}");
    }
    for torn in
        ["api_key = \"MARKER-SECRET", "api_key = MARKER|SECRET", "api_key = \"MARKER\"\"x\""]
    {
        let error = mistakes(&GOOD.replace("api_key = \"MARKER-SECRET\"", torn), &[]);
        assert!(error.contains("line 3") && !error.contains("MARKER"), "{error}");
    }
    let header = "[printers.mk3.socket]\nheaders = { a = \"MARKER\\n\" }\n";
    assert!(!mistakes(&format!("{GOOD}{header}"), &[]).contains("MARKER"));
}

#[test]
fn a_secret_in_quotes_or_white_space_is_warned_of_with_its_length_alone() {
    let warned = |value: &str| {
        let variables = [
            ("OCTOPRINT2MQTT__PRINTERS__MK3__API_KEY", value),
            ("OCTOPRINT2MQTT__PRINTERS__MK3__SOCKET__HEADERS__X_AUTH", value),
        ];
        let loaded = load(GOOD, &variables).unwrap();
        assert_eq!(key(&loaded.config), value, "it is sent as it is");
        loaded.warnings
    };
    assert_eq!(warned("MARKER").len(), 0);
    assert_eq!(warned("MAR'KER\"").len(), 0);
    for (value, telling) in [
        ("\"MARKER\"", "the quote \""),
        ("'MARKER'", "the quote '"),
        (" MARKER ", "begins and ends with white space"),
        ("MARKER ", "ends with white space"),
    ] {
        let warnings = warned(value);
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        for warning in warnings {
            let length = format!("among its {} characters", value.len());
            assert!(warning.contains(telling) && warning.contains(&length), "{warning}");
            assert!(!warning.contains("MARKER"), "{warning}");
        }
    }
    // A file's line end is cut off, and nothing else.
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "\"MARKER\"\n").unwrap();
    let path = secret.path().to_str().unwrap();
    let loaded = load(GOOD, &[("OCTOPRINT2MQTT__PRINTERS__MK3__API_KEY_FILE", path)]).unwrap();
    assert!(loaded.warnings.iter().any(|w| w.contains("among its 8 characters")));
}

#[test]
fn user_and_password_of_an_address_are_a_header_and_show_nowhere() {
    let text = GOOD.replace("http://octopi.local", "http://MARKER-user:p%40ss-MARKER@octopi.local");
    let loaded = load(&text, &[]).unwrap();
    let printer = &loaded.config.printers[0];
    assert_eq!(printer.url.as_str(), "http://octopi.local/");
    let sent = printer.socket.headers["authorization"].expose();
    assert_eq!(sent, "Basic TUFSS0VSLXVzZXI6cEBzcy1NQVJLRVI=");
    let shown = format!("{:?}{}", loaded, loaded.config.without_secrets());
    assert!(!shown.contains("MARKER") && !shown.contains("TUFSS0VS"), "{shown}");
    let both = format!("{text}[printers.mk3.socket]\nheaders = {{ Authorization = \"x\" }}\n");
    let error = mistakes(&both, &[]);
    assert!(error.contains("beside the header Authorization"), "{error}");
    for wrong in [
        "http://user:MARKER@octopi.local?x",
        "user:MARKER@octopi.local",
        "http://us@er:MAR/KER@octopi.local:x",
        "http://user:MARKER@",
    ] {
        let error = mistakes(&GOOD.replace("http://octopi.local", wrong), &[]);
        assert!(error.contains("printers.mk3.url") && !error.contains("MAR"), "{error}");
        let broker = format!("{GOOD}[mqtt]\nurl = \"{wrong}\"\n").replace("MARKER-SECRET", "k");
        let error = mistakes(&broker.replace("http:", "mqtt:"), &[]);
        assert!(error.contains("mqtt.url") && !error.contains("MAR"), "{error}");
    }
}

#[test]
fn headers_come_from_files_too() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "from-file\n").unwrap();
    let path = secret.path().to_str().unwrap();
    let header = |config: &Config| {
        let headers = &config.printers[0].socket.headers;
        assert_eq!(headers.len(), 1, "{headers:?}");
        headers["x-auth"].expose().to_owned()
    };
    let table = |value: &str| format!("{GOOD}[printers.mk3.socket]\nheaders.X-Auth = {value}\n");
    let of_file = table(&format!("{{ file = \"{path}\" }}"));
    assert_eq!(header(&load(&of_file, &[]).unwrap().config), "from-file");
    let variable = "OCTOPRINT2MQTT__PRINTERS__MK3__SOCKET__HEADERS__X_AUTH";
    let twin = format!("{variable}__FILE");
    // A variable goes before the file, in whatever case the file has the name.
    assert_eq!(header(&load(&of_file, &[(variable, "v")]).unwrap().config), "v");
    let twins = [(twin.as_str(), path)];
    assert_eq!(header(&load(&table("\"v\""), &twins).unwrap().config), "from-file");
    for (text, variables, telling) in [
        (GOOD, &[(variable, "v"), (&twin, path)][..], "both a value and a file"),
        (&table("{ fil = \"x\" }"), &[], "headers.X-Auth.fil"),
        (&table("{ file = \"/nowhere/x\" }"), &[], "/nowhere/x"),
        (&table("{ }"), &[], "headers.X-Auth.file"),
        (&table("5"), &[], "headers.X-Auth"),
    ] {
        let error = mistakes(text, variables);
        assert!(error.contains(telling), "{telling:?} not in\n{error}");
    }
    std::fs::write(secret.path(), "MARKER\u{1}").unwrap();
    let error = mistakes(&of_file, &[]);
    assert!(error.contains("no HTTP header can have") && !error.contains("MARKER\u{1}"), "{error}");
}

#[test]
fn what_a_printer_is_reached_with_can_be_read_before_it_has_a_key() {
    let text = "[mqtt]\nnonsense = 1\n[printers.mk3]\nurl = \"http://u:p@a\"\napi_key = \"\"\n[printers.mk3.socket]\nheaders = { X-A = \"v\" }\n";
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let (access, _) = config::access(Some(file.path()), [], "mk3").unwrap();
    assert_eq!(access.url.as_str(), "http://a/");
    assert_eq!(access.headers.keys().collect::<Vec<_>>(), ["authorization", "x-a"]);
    let error = config::access(Some(file.path()), [], "mini").unwrap_err().to_string();
    assert!(error.contains("no such printer") && error.contains("one of: mk3"), "{error}");
}

#[test]
fn topics_of_the_plugin_are_for_one_printer_and_outside_of_the_bridges_own() {
    let two = |one: &str, other: &str| {
        let printer = |id: &str, topic: &str| {
            format!(
                "[printers.{id}]\nurl = \"http://{id}\"\napi_key = \"k\"\noctoprint_mqtt_topic = \"{topic}\"\n"
            )
        };
        config::from_toml(&format!("{}{}", printer("event", one), printer("mk3", other)))
    };
    for (one, other) in [("a", "b/"), ("octoprint2mqtt/old", "octoPrint"), ("x/y", "x/")] {
        assert!(two(one, other).is_ok(), "{one} {other}");
    }
    for (one, other, telling) in [
        ("octoPrint", "octoPrint/", "the topic of printers.event too"),
        ("a", "octoprint2mqtt/mk3", "octoprint2mqtt/mk3/…"),
        ("octoprint2mqtt/mk3/set", "b", "octoprint2mqtt/mk3/…"),
        ("octoprint2mqtt/bridge", "b", "octoprint2mqtt/bridge/…"),
        ("a", "octoprint2mqtt", "octoprint2mqtt/event/…"),
    ] {
        let error = two(one, other).unwrap_err().to_string();
        assert!(error.contains(telling), "{telling:?} not in\n{error}");
    }
}

#[test]
fn a_file_that_was_named_must_be_there() {
    let error = config::load(Some("/nowhere/c.toml".as_ref()), []).unwrap_err().to_string();
    assert!(error.contains("/nowhere/c.toml"), "{error}");
    // But for the one that an image names: variables, or printers that are added, may be enough.
    let variable = [("OCTOPRINT2MQTT_CONFIG".to_owned(), "/nowhere/d.toml".to_owned())];
    let loaded = config::load(None, variable).unwrap();
    assert!(loaded.config.printers.is_empty());
    assert!(loaded.warnings[0].contains("/nowhere/d.toml, which does not exist"));
    let all = [
        ("OCTOPRINT2MQTT_CONFIG", "/nowhere/d.toml"),
        ("OCTOPRINT2MQTT__PRINTERS__MK3__URL", "http://octopi.local"),
        ("OCTOPRINT2MQTT__PRINTERS__MK3__API_KEY", "k"),
    ];
    let loaded = config::load(None, all.map(|(n, v)| (n.to_owned(), v.to_owned()))).unwrap();
    assert_eq!(loaded.config.printers[0].id, "mk3");
    assert!(loaded.warnings.is_empty());
}

proptest! {
    #[test]
    fn nothing_that_users_write_panics(text in "[\\[\\]a-z_.=\"0-9\n -]{0,200}", value in ".{0,40}") {
        let _ = config::from_toml(&text);
        for name in ["MQTT__URL", "MQTT__KEEP_ALIVE", "PRINTERS__MK3__URL", "PRINTERS__A__B__C", "OUTBOX__MAX_BYTES"] {
            let variable = (format!("OCTOPRINT2MQTT__{name}"), value.clone());
            let file: &std::path::Path = concat!(env!("CARGO_MANIFEST_DIR"), "/config.toml").as_ref();
            let _ = config::load(Some(file), [variable]);
        }
    }
}

#[test]
fn a_shard_serves_its_printers_under_names_of_its_own() {
    let printers: String = (0..20)
        .map(|n| format!("[printers.p{n}]\nurl = \"http://h{n}\"\napi_key = \"k\"\n"))
        .collect();
    let base = format!("[mqtt]\nurl = \"mqtt://h\"\n{printers}");
    let whole = config::from_toml(&base).unwrap();
    assert_eq!((whole.printers.len(), whole.bridge_name().as_str()), (20, "bridge"));
    let mut served = 0;
    for index in 0..3 {
        let shard =
            config::from_toml(&format!("{base}[shard]\nindex = {index}\ncount = 3\n")).unwrap();
        served += shard.printers.len();
        assert_eq!(shard.all_printers.len(), 20);
        let (id, name) = match index {
            0 => ("octoprint2mqtt".to_owned(), "bridge".to_owned()),
            n => (format!("octoprint2mqtt-{n}"), format!("bridge-{n}")),
        };
        assert_eq!((shard.mqtt.client_id.clone(), shard.bridge_name()), (id, name));
        assert_eq!(shard.mqtt.identity, "octoprint2mqtt", "shards are one bridge");
    }
    assert_eq!(served, 20, "each printer once");
    for (wrong, telling) in [
        ("index = 1", "shard.count"),
        ("count = 2", "shard.index"),
        ("index = 2\ncount = 2", "0…1"),
        ("index = 0\ncount = 2\nnumber = 1", "shard.number"),
    ] {
        let mistakes = config::from_toml(&format!("{base}[shard]\n{wrong}\n")).unwrap_err();
        assert!(mistakes.to_string().contains(telling), "{mistakes}");
    }
}

/// What only shows when the printer is set up: `discovery` reports it, and goes on without asking.
#[test]
fn discovery_reports_a_printer_that_cannot_be_set_up() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let authority = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(authority.path(), "no certificate\n").unwrap();
    let authority = authority.path().display().to_string();
    let good = GOOD.replace("http://", "https://");
    std::fs::write(file.path(), format!("{good}tls.ca_file = {authority:?}\n")).unwrap();
    let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_octoprint2mqtt"));
    let output = program.arg("discovery").arg("--config").arg(file.path()).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("printers.mk3.tls: ") && stderr.contains(&authority), "{stderr}");
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(stdout.lines().count(), 2, "the bridge and the printer: {stdout}");
}
