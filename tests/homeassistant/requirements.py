"""Prints what Home Assistant needs beyond itself for the tests, as lines for pip."""

import json
import pathlib

import homeassistant.components
from homeassistant.const import MAJOR_VERSION, Platform

COMPONENTS = pathlib.Path(homeassistant.components.__path__[0])
# Assist is not tested, and these have no wheels for each Python: tests/run puts empty ones in their place.
NOT_NEEDED = ("pymicro-vad", "pyspeex-noise")


def requirements(names):
    """Requirements of these integrations and of those that they depend on."""
    seen, found = set(), set()
    while names:
        name = names.pop()
        if name in seen:
            continue
        seen.add(name)
        manifest = json.loads((COMPONENTS / name / "manifest.json").read_text())
        found.update(manifest.get("requirements", []))
        names.extend(manifest.get("dependencies", []))
    return {line for line in found if not line.startswith(NOT_NEEDED)}


wanted = requirements(["frontend", "mqtt"])
if MAJOR_VERSION >= 2026:
    # It loads all kinds of entities at its start. Some import what their manifests do not name.
    wanted |= requirements([str(kind) for kind in Platform]) | {"numpy", "aiohasupervisor"}
print("\n".join(sorted(wanted)))
