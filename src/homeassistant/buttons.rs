//! What can be pressed. A button is available only when it can act.

use serde_json::{Value, json};

use super::component::{Component, Place};

/// In these states the printer is there.
const CONNECTED: &str = "state not in ['offline', 'connecting', 'error', 'unknown']";

pub(super) fn components(place: &Place<'_>) -> Vec<Component> {
    let groups = &place.printer.groups;
    let mut components = Vec::new();
    if groups.job {
        components.extend(job(place));
    }
    if groups.temperature {
        // A number in °F begins at 32, so nobody reaches 0 °C there.
        components.push(
            button(place, "heaters_off", "Heaters off", "radiator-off", "temperature/all", "off")
                .available(place.while_state(CONNECTED)),
        );
    }
    if groups.motion {
        components.push(
            button(place, "home", "Home", "home", "home", "all")
                .available(place.while_state("state == 'operational'")),
        );
    }
    if groups.connection {
        components.extend(connection(place));
    }
    if groups.bridge {
        components.push(
            button(place, "reconnect", "Reconnect socket", "connection", "reconnect", "reconnect")
                .available(place.with_bridge_alone())
                .config(),
        );
    }
    if groups.system {
        components.extend(system(place));
    }
    components
}

fn button(
    place: &Place<'_>,
    key: &str,
    name: &str,
    icon: &str,
    command: &str,
    payload: &str,
) -> Component {
    Component::new("button", key, name)
        .icon(icon)
        .command(&*place.topics.command(command))
        .with("payload_press", payload)
}

fn job(place: &Place<'_>) -> Vec<Component> {
    let of_job = |key: &str, name: &str, icon: &str, when: &str| {
        button(place, key, name, icon, "job", key).available(place.while_state(when))
    };
    let mut start = place.while_state("state == 'operational'");
    if let Value::Array(conditions) = &mut start {
        conditions.push(json!({
            "topic": place.topics.job,
            "value_template": "{{ 'online' if value_json.path else 'offline' }}",
        }));
    }
    vec![
        button(place, "start", "Start print", "play", "job", "start").available(start),
        of_job("pause", "Pause", "pause", "state in ['starting', 'printing', 'resuming']"),
        of_job("resume", "Resume", "play-pause", "state == 'paused'"),
        of_job(
            "cancel",
            "Cancel print",
            "stop",
            "state in ['starting', 'printing', 'pausing', 'paused', 'resuming']",
        ),
        of_job("restart", "Restart print", "restart", "state == 'paused'"),
        button(
            place,
            "emergency_stop",
            "Emergency stop",
            "alert-octagon",
            "emergency_stop",
            "stop",
        )
        .available(place.while_state(CONNECTED)),
    ]
}

fn connection(place: &Place<'_>) -> Vec<Component> {
    let of = |key: &str, name: &str, icon: &str, when: &str| {
        button(place, key, name, icon, "connection", key)
            .available(place.while_state(when))
            .config()
    };
    vec![
        of("connect", "Connect", "lan-connect", "state in ['offline', 'error']"),
        of("disconnect", "Disconnect", "lan-disconnect", CONNECTED),
    ]
}

fn system(place: &Place<'_>) -> Vec<Component> {
    let listed = |command: &str| place.printer.profile.system_commands.iter().any(|c| c == command);
    [
        ("restart", "Restart OctoPrint", "restart"),
        ("reboot", "Reboot host", "restart-alert"),
        ("shutdown", "Shut down host", "power"),
    ]
    .into_iter()
    .filter(|(command, ..)| listed(command))
    .map(|(command, name, icon)| {
        button(place, &format!("system_{command}"), name, icon, "system", command).config()
    })
    .collect()
}
