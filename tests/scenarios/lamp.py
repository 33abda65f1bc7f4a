"""A plugin with a lamp and an output, which tells of every change, and has all forms of calls."""

import flask
import octoprint.plugin


class Lamp(octoprint.plugin.SimpleApiPlugin, octoprint.plugin.BlueprintPlugin):
    on = False
    level = 40

    def get_api_commands(self):
        return {"lights_on": [], "lights_off": [], "broken": []}

    def is_api_protected(self):
        return True

    def is_blueprint_csrf_protected(self):
        return True

    def is_template_autoescaped(self):
        return True

    def on_api_command(self, command, data):
        if command == "broken":
            flask.abort(409)
        self.on = command == "lights_on"
        self.tell()

    def on_api_get(self, request):
        self._plugin_manager.send_plugin_message(
            self._identifier, {"kind": "blink", "times": request.args.get("times")}
        )
        return flask.jsonify(on=self.on)

    @octoprint.plugin.BlueprintPlugin.route("/outputs/<int:number>", methods=["PATCH"])
    def output(self, number):
        self.level = flask.request.json["level"]
        self.tell()
        return "", 204

    def tell(self):
        self._plugin_manager.send_plugin_message(
            self._identifier, {"kind": "lamp", "lamp": {"on": self.on}, "levels": [self.level]}
        )


__plugin_name__ = "Lamp"
__plugin_pythoncompat__ = ">=3,<4"
__plugin_implementation__ = Lamp()
