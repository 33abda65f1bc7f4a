//! Entities of the user's own (pure).

use serde_json::json;

use super::component::{Component, EntityContext, number};
use super::controls::{AS_TEXT, CONNECTED};
use crate::own_entity::{Look, OwnEntity, Role};

pub(super) fn components(context: &EntityContext<'_>) -> Vec<Component> {
    let entities = context.printer.entities.iter();
    let allowed = entities.filter(|entity| !entity.role.is_control() || entity.group.1);
    allowed.map(|entity| component(context, entity)).collect()
}

/// The type is part of the key, so that an entity whose type is changed becomes another one.
fn component(context: &EntityContext<'_>, entity: &OwnEntity) -> Component {
    let platform = entity.role.platform();
    let key = format!("own_{platform}_{}", entity.key);
    let mut component = Component::new(platform, key, &entity.name);
    let topic = context.topics.entity(&entity.key);
    if entity.role.is_control() {
        component = component.command(&*context.topics.command(&format!("entity/{}", entity.key)));
    }
    if entity.role.needs_printer() {
        component = component.available(context.while_state(CONNECTED));
    }
    if entity.role.is_control() && entity.role.has_state() && entity.reading.is_none() {
        component = component.with("optimistic", true);
    }
    looks(of_role(component, &topic, &entity.role), &entity.look)
}

fn of_role(component: Component, topic: &str, role: &Role) -> Component {
    let on_or_off = "none if value_json.value is none else 'ON' if value_json.value else 'OFF'";
    match role {
        Role::Sensor => component.state(
            topic,
            "value_json.value | tojson if value_json.value is boolean else value_json.value",
        ),
        Role::BinarySensor => component.state(topic, on_or_off),
        Role::Event(types) => {
            component.with("state_topic", topic).with("event_types", json!(types))
        }
        Role::Button(_) => component.with("payload_press", "press"),
        Role::Switch { .. } => {
            component.state(topic, on_or_off).with("state_on", "ON").with("state_off", "OFF")
        }
        Role::Number { min, max, step, .. } => {
            // Home Assistant refuses a number that is out of range with a line in its log.
            let (min, max) = (number(*min), number(*max));
            let template = format!(
                "value_json.value if value_json.value is number and {min} <= value_json.value <= {max} else none"
            );
            let component = component.state(topic, &template);
            component.with("min", min).with("max", max).with("step", number(*step))
        }
        Role::Select(options) => {
            let options = json!(options.iter().map(|(name, _)| name).collect::<Vec<_>>());
            let known = format!("value_json.value in {options}");
            component
                .state(topic, &format!("value_json.value if {known} else none"))
                .with("options", options)
                .with("command_template", AS_TEXT)
        }
    }
}

fn looks(component: Component, look: &Look) -> Component {
    let members = [
        ("unit_of_measurement", &look.unit),
        ("device_class", &look.device_class),
        ("state_class", &look.state_class),
        ("icon", &look.icon),
        ("entity_category", &look.category),
    ];
    let given = members.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
    given.fold(component, |component, (name, value)| component.with(name, value.as_str()))
}
