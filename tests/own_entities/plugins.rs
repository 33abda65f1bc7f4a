//! What the plugins of the guide's examples send, as their sources have it, what the entities say
//! then, and what the controls send.

use serde_json::{Value, json};

/// One thing that happens.
pub enum Step {
    /// A plugin's message, and the states that change with it.
    Plugin(&'static str, Value, Vec<(&'static str, Value)>),
    /// An event.
    Event(&'static str, Value, Vec<(&'static str, Value)>),
    /// Any other message.
    Message(&'static str, Value, Vec<(&'static str, Value)>),
    /// A command to an entity, and what OctoPrint is sent.
    Command(&'static str, &'static str, &'static str),
    /// A command that is refused, and a part of the reason.
    Refused(&'static str, &'static str, &'static str),
}

use Step::{Command, Event, Message, Plugin, Refused};

/// What happens in each section of the guide, by its heading.
pub fn plays() -> Vec<(&'static str, Vec<Step>)> {
    vec![
        (
            "Your own entities",
            vec![Plugin("resource_monitor", resources(), vec![("cpu", json!(12.4))])],
        ),
        ("Spools: SpoolManager", spool_manager()),
        ("Spools: FilamentManager", filament_manager()),
        ("Enclosure", enclosure()),
        ("Lights", lights()),
        ("Fan speed", fan()),
        (
            "The computer of OctoPrint",
            vec![Plugin(
                "resource_monitor",
                resources(),
                vec![
                    ("pi_disk", json!(21.474836)),
                    ("pi_memory", json!(23.9)),
                    ("pi_temperature", json!(51.54)),
                ],
            )],
        ),
        ("Klipper", klipper()),
        ("Filament sensors", filament_sensors()),
        ("Cancelling an object", cancel_object()),
        ("Bed level", bed_level()),
        ("OctoPrint's own messages", octoprint()),
    ]
}

fn spool_manager() -> Vec<Step> {
    let spool = |tool: u8, name: &str, left: Value| {
        json!({"toolId": tool, "databaseId": 12, "spoolName": name, "material": "PLA",
               "colorName": "Black", "remainingWeight": left})
    };
    let selected = "plugin_spoolmanager_spool_selected";
    let printed = "plugin_spoolmanager_spool_weight_updated_after_print";
    vec![
        Event(
            selected,
            spool(0, "Galaxy Black", json!(812.5)),
            vec![("grams_left", json!(812.5)), ("spool", json!("Galaxy Black"))],
        ),
        Event(selected, spool(1, "Another tool's", json!(5)), vec![]),
        Event(
            printed,
            spool(0, "Galaxy Black", json!(790.123_456_7)),
            vec![("grams_left", json!(790.123_457))],
        ),
        // A spool of unknown weight.
        Event(printed, spool(0, "Galaxy Black", json!(null)), vec![("grams_left", json!(null))]),
        Command(
            "choose_spool",
            "Signal White",
            r#"PUT plugin/SpoolManager/selectSpool {"databaseId":7,"toolIndex":0}"#,
        ),
        Refused("choose_spool", "Red", "Galaxy Black, Signal White"),
    ]
}

fn filament_manager() -> Vec<Step> {
    let changed = json!({"type": "data_changed", "data": {"table": "spools", "action": "update"}});
    vec![
        Plugin("filamentmanager", changed, vec![]),
        Command(
            "filament",
            "2",
            r#"PATCH plugin/filamentmanager/selections/0 {"selection":{"spool":{"id":"2"},"tool":0}}"#,
        ),
    ]
}

fn enclosure() -> Vec<Step> {
    let sensors = json!({"sensor_data": [
        {"index_id": 1, "temperature": 31.2, "humidity": 40.0, "airquality": 0},
        {"index_id": 2, "temperature": 22.0, "humidity": 50.0, "airquality": 0},
    ]});
    let outputs = |light: Value, fan: u8| {
        json!({
            "rpi_output_regular": [{"index_id": 1, "status": light, "auto_startup": false, "auto_shutdown": false}],
            "rpi_output_pwm": [{"index_id": 3, "pwm_value": fan, "auto_startup": false, "auto_shutdown": false}],
            "rpi_output_neopixel": [],
            "rpi_output_temp_hum_ctrl": [],
        })
    };
    vec![
        Plugin(
            "enclosure",
            sensors,
            vec![("enclosure_humidity", json!(40)), ("enclosure_temperature", json!(31.2))],
        ),
        // A pin that is read is 0 or 1; one that is active at a low level is true or false.
        Plugin(
            "enclosure",
            outputs(json!(1), 40),
            vec![("enclosure_fan", json!(40)), ("enclosure_light", json!(true))],
        ),
        Plugin("enclosure", outputs(json!(false), 40), vec![("enclosure_light", json!(false))]),
        Plugin("enclosure", json!({"set_temperature": []}), vec![]),
        Plugin("enclosure", json!({"filament_sensor_status": []}), vec![]),
        Command("enclosure_light", "ON", r#"PATCH plugin/enclosure/outputs/1 {"status":true}"#),
        Command("enclosure_light", "OFF", r#"PATCH plugin/enclosure/outputs/1 {"status":false}"#),
        Command("enclosure_fan", "75", r#"PATCH plugin/enclosure/pwm/3 {"duty_cycle":75}"#),
        Refused("enclosure_fan", "101", "a number 0…100"),
    ]
}

fn lights() -> Vec<Step> {
    let leds = |on: bool| json!({"type": "lights", "payload": {"on": on}});
    vec![
        Plugin("octolight", json!({"isLightOn": true}), vec![("light", json!(true))]),
        Plugin("octolight", json!({"isLightOn": false}), vec![("light", json!(false))]),
        Command("light", "ON", "GET api/plugin/octolight?action=turnOn"),
        Command("light", "OFF", "GET api/plugin/octolight?action=turnOff"),
        Plugin("ws281x_led_status", leds(true), vec![("leds", json!(true))]),
        Plugin("ws281x_led_status", json!({"type": "torch", "payload": {"on": false}}), vec![]),
        Plugin("ws281x_led_status", leds(false), vec![("leds", json!(false))]),
        Command("leds", "ON", r#"POST api/plugin/ws281x_led_status {"command":"lights_on"}"#),
        Command("leds", "OFF", r#"POST api/plugin/ws281x_led_status {"command":"lights_off"}"#),
        Command("case_light", "ON", "M355 S1"),
        Command("case_light", "OFF", "M355 S0"),
    ]
}

fn fan() -> Vec<Step> {
    let layer = |fan: &str| {
        json!({"updateReason": "fanspeedChanged", "totalLayer": "50", "currentLayer": "3",
               "feedrate": "3000", "fanspeed": fan, "progress": "6", "printerState": "printing"})
    };
    let plugin = "DisplayLayerProgress-websocket-payload";
    vec![
        Plugin(plugin, layer("50%"), vec![("fan_speed", json!(50))]),
        Plugin(plugin, layer("Off"), vec![("fan_speed", json!(0))]),
        Plugin(plugin, layer("-"), vec![]),
        Command("fan", "100", "M106 S255"),
        Command("fan", "0", "M106 S0"),
        Command("fan", "40", "M106 S102"),
    ]
}

fn resources() -> Value {
    json!({
        "cpu": {"cores": [10.1, 14.7], "average": 12.4, "frequency": {"current": 1500.0},
                "core_count": 2, "thread_count": 2, "pids": 150, "uptime": 5000, "octoprint": 3.1},
        "temp": {"celsius": {"label": "", "current": 51.54, "high": null, "critical": null},
                 "fahrenheit": {"label": "", "current": 124.772, "high": null, "critical": null}},
        "memory": {"total": 3_978_457_088u64, "available": 3_028_541_440u64, "percent": 23.9},
        "partitions": [{"device": "/dev/root", "mountpoint": "/", "fstype": "ext4",
                        "total": 31_268_536_320u64, "used": 8_513_384_448u64,
                        "free": 21_474_836_480u64, "percent": 28.4}],
        "network": [{"name": "eth0", "bytes_sent": 1, "bytes_recv": 2}],
        "diskio": [],
        "battery": {},
    })
}

fn klipper() -> Vec<Step> {
    let said = |kind: &str, subtype: &str, text: &str| json!({"time": "12:00:00", "type": kind, "subtype": subtype, "title": text, "payload": text});
    vec![
        Plugin(
            "klipper",
            said("status", "info", "Klipper: Connected to host"),
            vec![("klipper", json!("Klipper: Connected to host"))],
        ),
        Plugin("klipper", said("log", "info", "probe at 1,2 is z=0.1"), vec![]),
        Command("load_filament", "press", "LOAD_FILAMENT"),
        Command("nozzle_clean", "press", "G28\nCLEAN_NOZZLE"),
        Command("heat_soak", "ABS", "HEAT_SOAK MATERIAL=ABS"),
        Refused("heat_soak", "ABS\nM112", "one of PLA, PETG, ABS"),
    ]
}

fn filament_sensors() -> Vec<Step> {
    let moving = |moving: bool| {
        let state = json!({"_absolut_extrusion": true, "_currentE": -1, "_filament_moving": moving,
                           "_lastE": -1, "_last_motion_detected": "", "_print_started": false,
                           "_remaining_distance": 7, "START_DISTANCE_OFFSET": 7, "callbackUpdateUI": {}});
        json!(serde_json::to_string_pretty(&state).unwrap())
    };
    vec![
        Event(
            "plugin_simplyfilamentsensor_filament_runout",
            json!(null),
            vec![("runout", json!("runout")), ("filament_runout", json!(true))],
        ),
        Event(
            "plugin_simplyfilamentsensor_filament_loaded",
            json!(null),
            vec![("filament_runout", json!(false))],
        ),
        Plugin("smartfilamentsensor", moving(true), vec![("filament_moving", json!(true))]),
        Plugin("smartfilamentsensor", moving(false), vec![("filament_moving", json!(false))]),
    ]
}

fn cancel_object() -> Vec<Step> {
    let object = |id: u8, name: &str| {
        json!({"object": name, "id": id, "active": true, "cancelled": false, "ignore": false,
               "max_x": 50.0, "min_x": 10.0, "max_y": 50.0, "min_y": 10.0})
    };
    let objects =
        json!({"objects": [object(0, "cube.stl id:0 copy 0"), object(1, "vase.stl id:1 copy 0")]});
    vec![
        Plugin("cancelobject", objects, vec![("objects", json!(2))]),
        Plugin("cancelobject", json!({"ActiveID": 1}), vec![]),
        Event(
            "plugin_cancelobject_current_object",
            json!({"current_object": object(1, "vase.stl id:1 copy 0")}),
            vec![("object", json!("vase.stl id:1 copy 0"))],
        ),
        Plugin("cancelobject", json!({"navBarActive": "vase.stl id:1 copy 0"}), vec![]),
        Plugin("cancelobject", json!({"objects": []}), vec![("objects", json!(0))]),
        Command(
            "cancel_object",
            "1",
            r#"POST api/plugin/cancelobject {"cancelled":1,"command":"cancel"}"#,
        ),
    ]
}

fn bed_level() -> Vec<Step> {
    let mesh = json!({
        "mesh": [["0.075", "0.020", "-0.015"], ["0.110", 0.0, -0.04], [null, 0.01, 0.02]],
        "bed": {"type": "rectangular", "x_min": 0, "x_max": 250, "y_min": 0, "y_max": 210, "z_min": 0, "z_max": 210},
    });
    vec![
        Plugin("bedlevelvisualizer", json!({"processing": true}), vec![]),
        Plugin("bedlevelvisualizer", json!({"BLV": "BLV start"}), vec![]),
        Plugin("bedlevelvisualizer", mesh.clone(), vec![("bed_deviation", json!(0.15))]),
        Event(
            "plugin_bedlevelvisualizer_mesh_data_collected",
            mesh,
            vec![("bed_leveled", json!("bed_leveled"))],
        ),
        Command("level_bed", "press", "G28\n@BEDLEVELVISUALIZER\nG29 T1"),
    ]
}

fn octoprint() -> Vec<Step> {
    let recorded = include_str!("../captures/print_done.jsonl");
    let line = recorded.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let history = line.map(|line| line["m"]["history"].clone()).find(|history| !history.is_null());
    let user = json!({"username": "admin"});
    vec![
        Message("history", history.unwrap(), vec![("sd_ready", json!(true))]),
        Message(
            "current",
            json!({"state": {"flags": {"sdReady": false}}}),
            vec![("sd_ready", json!(false))],
        ),
        Event("UserLoggedIn", user.clone(), vec![("logins", json!("UserLoggedIn"))]),
        Event("UserLoggedOut", user, vec![("logins", json!("UserLoggedOut"))]),
    ]
}
