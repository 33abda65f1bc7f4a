#!/usr/bin/env python3
"""Renders the templates of discovery messages with what their topics really say.

Home Assistant compiles templates at discovery and renders them at the first payload, when a
mistake is a line in its log and a stale entity. Reads one JSON object on stdin:

    {"discovery": [payload, …], "states": {topic: [payload, …], …}}

and renders each template with each payload of its topic. Exit status: 0 all fine, 1 something is
not what its platform takes, 2 cannot run.
"""

import asyncio
import datetime
import json
import sys
import tempfile

try:
    from homeassistant.core import HomeAssistant
    from homeassistant.helpers import frame
    from homeassistant.helpers.template import Template
except ImportError as exc:
    print(f"cannot import Home Assistant: {exc}", file=sys.stderr)
    sys.exit(2)


def is_number(text):
    try:
        return float(text) == float(text) and "inf" not in text.lower()
    except ValueError:
        return False


def is_time(text):
    return datetime.datetime.fromisoformat(text).tzinfo is not None


def fault(component, text):
    """What Home Assistant would say of a rendered state, or nothing."""
    platform, wanted = component["platform"], component.get("device_class")
    if platform == "event":
        return None if json.loads(text)["event_type"] in component["event_types"] else "no known type"
    if len(text) > 255:
        return "longer than 255"
    if platform == "text":
        return None if text != "None" else "shown as the text None"
    if text == "None":
        return None
    if platform == "sensor":
        if wanted == "enum":
            return None if text in component["options"] else "not among the options"
        if wanted == "timestamp":
            return None if is_time(text) else "no time with its zone"
        if "unit_of_measurement" in component or "state_class" in component:
            return None if is_number(text) else "no number"
        return None if text else "an empty text"
    if platform == "binary_sensor":
        on, off = component.get("payload_on", "ON"), component.get("payload_off", "OFF")
        return None if text in (on, off) else "neither on nor off"
    if platform == "switch":
        return None if text in (component["state_on"], component["state_off"]) else "neither on nor off"
    if platform == "select":
        return None if text in component["options"] else "not among the options"
    if platform == "number":
        fits = is_number(text) and component["min"] <= float(text) <= component["max"]
        return None if fits else "no number within its limits"
    if platform == "update":
        known = json.loads(text)
        fits = all(value is not None for value in known.values())
        return None if fits else "null, which no version is"
    # A picture is shown as it is.
    if platform in ("device_automation", "camera"):
        return None
    return f"no rule for {platform}"


def fault_of(component, member, text):
    if member == "value_template":
        return fault(component, text)
    if member == "json_attributes_template":
        attributes = json.loads(text)
        if not isinstance(attributes, dict):
            return "no object"
        # More is not stored by the recorder, with a line in the log.
        size = len(json.dumps(attributes, ensure_ascii=False).encode())
        return None if size < 16 * 1024 else f"{size} bytes"
    if member == "availability":
        return None if text in ("online", "offline") else "neither online nor offline"
    if text == "None":
        return None
    if member == "mode_state_template":
        return None if text in component["modes"] else "not among the modes"
    if member == "action_template":
        return None if text in ("off", "heating", "idle") else "no action"
    return None if is_number(text) else "no number"


def templates(component):
    """(member, topic, template) of everything that renders what a topic says."""
    pairs = [
        ("value_template", "state_topic"),
        ("value_template", "topic"),
        ("json_attributes_template", "json_attributes_topic"),
        ("mode_state_template", "mode_state_topic"),
        ("action_template", "action_topic"),
        ("current_temperature_template", "current_temperature_topic"),
        ("temperature_state_template", "temperature_state_topic"),
    ]
    for member, topic in pairs:
        if topic in component:
            yield member, component[topic], component.get(member)
    for entry in component.get("availability", []):
        yield "availability", entry["topic"], entry.get("value_template")


async def check(given):
    rendered, faults, without = 0, [], set()
    with tempfile.TemporaryDirectory() as config_dir:
        hass = HomeAssistant(config_dir)
        if hasattr(frame, "async_setup"):
            frame.async_setup(hass)
        for payload in given["discovery"]:
            for key, component in payload["components"].items():
                for member, topic, template in templates(component):
                    states = given["states"].get(topic, [])
                    if not states:
                        without.add(topic)
                    for state in states:
                        rendered += 1
                        try:
                            text = state if template is None else render(hass, template, state)
                            wrong = fault_of(component, member, text)
                        except Exception as exc:  # whatever it is, Home Assistant would log it
                            text, wrong = "", repr(exc)
                        if wrong:
                            faults.append(f"{key} {member} of {state}: {text!r}: {wrong}")
    for line in faults[:40]:
        print(line)
    for topic in sorted(without):
        print(f"no payload for {topic}")
    print(f"{rendered} rendered, {len(faults)} wrong, {len(without)} topics without a payload")
    return 1 if faults or without or not rendered else 0


def render(hass, template, state):
    variables = {"value": state, "value_json": json.loads(state)}
    return Template(template, hass).async_render(variables, parse_result=False, strict=True)


if __name__ == "__main__":
    sys.exit(asyncio.run(check(json.load(sys.stdin))))
