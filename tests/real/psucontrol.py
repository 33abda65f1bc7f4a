"""Answers as the plugin PSU Control does, for a power supply that is a file: on.txt is there while it is on."""
import os

import octoprint.plugin
from flask import jsonify
from octoprint.access.permissions import Permissions


class PsuControl(octoprint.plugin.SimpleApiPlugin):
    def _file(self):
        return os.path.join(self.get_plugin_data_folder(), "off.txt")

    def _is_on(self):
        return not os.path.exists(self._file())

    def _tell(self):
        self._plugin_manager.send_plugin_message("psucontrol", {"isPSUOn": self._is_on()})

    def get_api_commands(self):
        return {"turnPSUOn": [], "turnPSUOff": [], "togglePSU": [], "getPSUState": []}

    def is_api_protected(self):
        return True

    def on_api_command(self, command, data):
        if command == "getPSUState":
            return jsonify(isPSUOn=self._is_on())
        if not Permissions.CONTROL.can():
            return "Insufficient rights", 403
        if command == "turnPSUOn" or (command == "togglePSU" and not self._is_on()):
            if not self._is_on():
                os.remove(self._file())
        else:
            open(self._file(), "w").close()
            # As with its setting "Disconnect on power off", which is on by default.
            self._printer.disconnect()
        self._tell()


__plugin_name__ = "PSU Control"
__plugin_pythoncompat__ = ">=3,<4"


def __plugin_load__():
    global __plugin_implementation__
    __plugin_implementation__ = PsuControl()
