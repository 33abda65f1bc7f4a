"""A connector of OctoPrint 2.0 for tests: a printer that does what its G-code says.

Lines that begin with @ make it tell OctoPrint of something that happened at the printer; all others are
written to standin.gcode in the base directory, and what it is connected with to standin.json.
"""

import json
import os

import octoprint.plugin

__plugin_name__ = "Stand-in connector"
__plugin_pythoncompat__ = ">=3.9,<4"


class StandInPlugin(octoprint.plugin.OctoPrintPlugin):
    def initialize(self):
        from octoprint.events import eventManager
        from octoprint.filemanager.storage.local import LocalFileStorage
        from octoprint.settings import settings

        base = settings().getBaseFolder("base")
        make_connector(base, eventManager())

        class UsbStorage(LocalFileStorage):
            """A storage of a plugin's, beside those of OctoPrint and of the printer."""

            storage = "usb"

        self._file_manager.add_storage("usb", UsbStorage(os.path.join(base, "usb"), create=True))


__plugin_implementation__ = StandInPlugin()


def make_connector(base, event_bus):
    from octoprint.filemanager.storage import StorageCapabilities
    from octoprint.printer import (
        ConnectedPrinterCapabilities,
        ErrorInformation,
        PrinterFile,
        PrinterFilesMixin,
    )
    from octoprint.printer.connection import ConnectedPrinter, ConnectedPrinterState
    from octoprint.printer.job import JobProgress, PrintJob
    from octoprint.schema.config.controls import (
        CustomControl,
        CustomControlContainer,
        CustomControlInput,
    )

    class StandIn(ConnectedPrinter, PrinterFilesMixin):
        connector = "standin"
        name = "Stand-in"
        printer_capabilities = ConnectedPrinterCapabilities()
        storage_capabilities = StorageCapabilities(metadata=True)

        @classmethod
        def connection_preconditions_met(cls, params):
            return bool(params.get("host"))

        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self._parameters = {k: v for k, v in kwargs.items() if k != "profile"}
            self._progress = None
            self._stage = None
            self._quiet = False

        @property
        def connection_parameters(self):
            return {**super().connection_parameters, **self._parameters}

        @property
        def job_progress(self):
            return self._progress

        def get_error(self, *args, **kwargs):
            return None

        def get_state_string(self, state=None):
            text = super().get_state_string(state=state)
            return f"{text} ({self._stage})" if self._stage else text

        def connect(self, *args, **kwargs):
            with open(os.path.join(base, "standin.json"), "w") as file:
                json.dump(self._parameters, file)
            self.state = ConnectedPrinterState.CONNECTING
            if self._parameters["host"] == "unreachable":
                self.state = ConnectedPrinterState.CLOSED_WITH_ERROR
                return
            self.state = ConnectedPrinterState.OPERATIONAL
            event_bus.fire("Connected", {"connector": "standin", "host": "h", "apikey": True})
            self._listener.on_printer_files_available(True)

        def disconnect(self, *args, **kwargs):
            self._listener.on_printer_files_available(False)
            self.state = ConnectedPrinterState.CLOSED

        def emergency_stop(self, *args, **kwargs):
            self.commands("M112")

        def is_ready(self, *args, **kwargs):
            return self.state == ConnectedPrinterState.OPERATIONAL

        def set_temperature(self, heater, value, tags=None, *args, **kwargs):
            self.commands(f"M104 {heater} S{value}")

        def feed_rate(self, factor, *args, **kwargs):
            pass

        def flow_rate(self, factor, *args, **kwargs):
            pass

        def script(self, *args, **kwargs):
            pass

        def commands(self, *commands, tags=None, force=False, **kwargs):
            for command in commands:
                if command.startswith("@"):
                    what, _, rest = command[1:].partition(" ")
                    getattr(self, f"tell_{what}")(rest)
                    continue
                with open(os.path.join(base, "standin.gcode"), "a") as file:
                    file.write(command + "\n")

        # What happens at the printer.

        def tell_state(self, rest):
            name, _, stage = rest.partition(" ")
            self._stage = stage or None
            self.state = ConnectedPrinterState[name]

        def tell_job(self, rest):
            self.set_job(PrintJob(storage="printer", path=rest, display=rest, size=1000))

        def tell_started(self, rest):
            self._listener.on_printer_job_started()

        def tell_done(self, rest):
            self._listener.on_printer_job_done()

        def tell_cancelled(self, rest):
            self._listener.on_printer_job_cancelled()

        def tell_progress(self, rest):
            progress, elapsed = map(float, rest.split())
            self._progress = JobProgress(
                job=self.current_job,
                progress=progress,
                pos=int(progress * 1000),
                elapsed=elapsed,
                cleaned_elapsed=elapsed,
            )
            self._listener.on_printer_job_progress()

        def tell_temps(self, rest):
            temps = {key: tuple(value) for key, value in json.loads(rest).items()}
            self._listener.on_printer_temperature_update(temps)

        def tell_error(self, rest):
            self.error_info = ErrorInformation(error=rest, reason="firmware")

        def tell_quiet(self, rest):
            """From now on jobs are neither started nor paused nor resumed when OctoPrint says so."""
            self._quiet = rest == "on"

        # Jobs

        def supports_job(self, job):
            return job.storage in ("printer", "usb")

        def start_print(self, pos=None, user=None, tags=None, params=None, *args, **kwargs):
            if self._quiet:
                return
            with open(os.path.join(base, "standin.params"), "w") as file:
                json.dump(params or self.current_job.params, file)
            self.state = ConnectedPrinterState.STARTING
            self.tell_progress("0 0")
            self._listener.on_printer_job_started(user=user)
            self.state = ConnectedPrinterState.PRINTING

        def pause_print(self, *args, **kwargs):
            if not self._quiet:
                self.state = ConnectedPrinterState.PAUSED

        def resume_print(self, *args, **kwargs):
            if not self._quiet:
                self.state = ConnectedPrinterState.PRINTING

        def cancel_print(self, *args, **kwargs):
            self.state = ConnectedPrinterState.CANCELLING
            self._listener.on_printer_job_cancelled()
            self.state = ConnectedPrinterState.OPERATIONAL

        def set_job(self, job, *args, print_after_select=False, **kwargs):
            super().set_job(job, *args, **kwargs)
            if job is not None and print_after_select:
                self.start_print(user=kwargs.get("user"))

        # Files and controls

        @property
        def printer_files_mounted(self):
            return True

        def get_printer_files(self, refresh=False, *args, **kwargs):
            return [PrinterFile(path="cube.gcode", display="cube.gcode", size=1000)]

        def get_additional_controls(self):
            clean = CustomControl(
                name="CLEAN_NOZZLE",
                command="CLEAN_NOZZLE TEMP={TEMP} WIPES={WIPES}",
                input=[
                    CustomControlInput(name="TEMP", parameter="TEMP", default=200),
                    CustomControlInput(name="WIPES", parameter="WIPES", default="3"),
                ],
            )
            park = CustomControl(name="PARK", command="PARK")
            return [CustomControlContainer(name="Printer Macros (2)", children=[clean, park])]
