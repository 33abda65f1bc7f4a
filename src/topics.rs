//! Every topic, in one place (pure).

use crate::heater::Heater;
pub use crate::topic::{Topic, segment};

/// Whether `topic` is the `info` topic of a bridge below `base`.
pub fn is_info(base: &str, topic: &str) -> bool {
    let rest = topic.strip_prefix(base).and_then(|rest| rest.strip_prefix('/'));
    let place = rest.and_then(|rest| rest.strip_suffix("/info"));
    place.is_some_and(|place| place.starts_with("bridge") && !place.contains('/'))
}

/// The topics of the bridge itself: `B/bridge/…`.
#[derive(Debug, Clone)]
pub struct BridgeTopics {
    prefix: String,
    /// `online` or `offline`, the last will.
    pub state: Topic,
    /// Version, start, printers, effective configuration.
    pub info: Topic,
    /// Uptime, memory, broker, each printer.
    pub health: Topic,
    /// What the printers of this bridge do, counted.
    pub fleet: Topic,
}

impl BridgeTopics {
    /// Topics of the only bridge below `base`.
    pub fn new(base: &str) -> Self {
        Self::named(base, "bridge")
    }

    /// Topics of one of several bridges below `base`, named `bridge` or `bridge-<index>`.
    pub fn named(base: &str, bridge: &str) -> Self {
        let prefix = format!("{base}/{bridge}");
        let topic = |name: &str| Topic::from(format!("{prefix}/{name}"));
        Self {
            state: topic("state"),
            info: topic("info"),
            health: topic("health"),
            fleet: topic("fleet"),
            prefix,
        }
    }

    /// Filter of the `info` topics of all bridges below `base`.
    pub fn info_filter(base: &str) -> String {
        format!("{base}/+/info")
    }

    /// Filter of the `state` topics of all bridges below `base`.
    pub fn state_filter(base: &str) -> String {
        format!("{base}/+/state")
    }

    /// Topic on which a bridge below `base` publishes markers to itself, to learn when the broker
    /// has sent all earlier messages.
    pub fn marker(base: &str) -> Topic {
        Topic::from(format!("{base}/bridge/marker"))
    }

    /// Filter of all requests to the bridge.
    pub fn request_filter(&self) -> String {
        format!("{}/request/+", self.prefix)
    }

    /// Returns the name of the request that `topic` carries.
    pub fn request_name<'t>(&self, topic: &'t str) -> Option<&'t str> {
        topic.strip_prefix(&self.prefix)?.strip_prefix("/request/")
    }

    /// Topic of the response to the request `name`.
    pub fn response(&self, name: &str) -> Topic {
        Topic::from(format!("{}/response/{}", self.prefix, segment(name)))
    }
}

/// The topics of one printer: `B/P/…`.
#[derive(Debug, Clone)]
pub struct PrinterTopics {
    prefix: String,
    /// Whether OctoPrint is reachable.
    pub availability: Topic,
    /// The printer's state.
    pub printer: Topic,
    /// The selected job.
    pub job: Topic,
    /// Progress of the print.
    pub progress: Topic,
    /// Height and tool.
    pub position: Topic,
    /// Feed and flow rate as last commanded.
    pub factors: Topic,
    /// Resent lines.
    pub resends: Topic,
    /// OctoPrint itself.
    pub server: Topic,
    /// OctoPrint's connector to the printer.
    pub connection: Topic,
    /// Free and total space of OctoPrint's storages.
    pub storage: Topic,
    /// The push socket.
    pub socket: Topic,
    /// Print events in one place.
    pub print: Topic,
    /// The last event that is not chatty.
    pub last_event: Topic,
    /// The last picture of the camera.
    pub snapshot: Topic,
    /// Rendered timelapses.
    pub timelapse: Topic,
    /// The layer that is printed.
    pub layer: Topic,
    /// Changes of the layer.
    pub layer_change: Topic,
    /// What the slicer wrote about the selected file.
    pub gcode: Topic,
    /// The picture of the selected file.
    pub thumbnail: Topic,
    /// What the printer asks.
    pub prompt: Topic,
    /// Events of what the printer asks.
    pub prompt_event: Topic,
    /// OctoPrint's own update.
    pub update: Topic,
    /// The printer's power.
    pub power: Topic,
    /// Totals over all prints.
    pub statistics: Topic,
    /// The last prints.
    pub print_history: Topic,
    /// Maintenance that becomes due.
    pub maintenance_due: Topic,
    /// Answers to commands.
    pub result: Topic,
    /// The last answer to a command, retained.
    pub last_command: Topic,
    /// OctoPrint's `current` messages.
    pub current: Topic,
    /// OctoPrint's `history` messages.
    pub history: Topic,
    /// The retained `connected` message.
    pub connected: Topic,
}

impl PrinterTopics {
    /// Topics of printer `id` below `base`.
    pub fn new(base: &str, id: &str) -> Self {
        let prefix = format!("{base}/{id}");
        let topic = |name: &str| Topic::from(format!("{prefix}/{name}"));
        Self {
            availability: topic("availability"),
            printer: topic("printer"),
            job: topic("job"),
            progress: topic("progress"),
            position: topic("position"),
            factors: topic("factors"),
            resends: topic("resends"),
            server: topic("server"),
            connection: topic("connection"),
            storage: topic("storage"),
            socket: topic("socket"),
            print: topic("print"),
            last_event: topic("last_event"),
            snapshot: topic("snapshot"),
            timelapse: topic("timelapse"),
            layer: topic("layer"),
            layer_change: topic("layer_change"),
            gcode: topic("gcode"),
            thumbnail: topic("thumbnail"),
            prompt: topic("prompt"),
            prompt_event: topic("prompt_event"),
            update: topic("update"),
            power: topic("power"),
            statistics: topic("statistics"),
            print_history: topic("history"),
            maintenance_due: topic("maintenance_due"),
            result: topic("result"),
            last_command: topic("last_command"),
            current: topic("message/current"),
            history: topic("message/history"),
            connected: topic("message/connected"),
            prefix,
        }
    }

    /// Topic of the last picture of the further webcam `name`.
    pub fn snapshot_of(&self, name: &str) -> Topic {
        Topic::from(format!("{}/snapshot/{}", self.prefix, segment(name)))
    }

    /// Topic of events of type `kind`.
    pub fn event(&self, kind: &str) -> Topic {
        Topic::from(format!("{}/event/{}", self.prefix, segment(kind)))
    }

    /// Topic of the messages of plugin `id`.
    pub fn plugin(&self, id: &str) -> Topic {
        Topic::from(format!("{}/plugin/{}", self.prefix, segment(id)))
    }

    /// Topic of other messages of type `kind`.
    pub fn message(&self, kind: &str) -> Topic {
        Topic::from(format!("{}/message/{}", self.prefix, segment(kind)))
    }

    /// Topic of one heater.
    pub fn temperature(&self, heater: &Heater) -> Topic {
        Topic::from(format!("{}/temperature/{}", self.prefix, segment(heater.as_str())))
    }

    /// Topic of the user's own entity `key`.
    pub fn entity(&self, key: &str) -> Topic {
        Topic::from(format!("{}/entity/{}", self.prefix, segment(key)))
    }

    /// Topic of one maintenance counter.
    pub fn maintenance(&self, name: &str) -> Topic {
        Topic::from(format!("{}/maintenance/{}", self.prefix, segment(name)))
    }

    /// Returns the name of the request to a bridge with the same base topic that `topic` carries,
    /// and the topic of the response.
    pub fn bridge_request<'t>(&self, topic: &'t str) -> Option<(&'t str, Topic)> {
        let (base, _) = self.prefix.rsplit_once('/')?;
        let (bridge, name) = topic.split_once("/request/")?;
        let is_bridge = bridge.strip_prefix(base)?.strip_prefix("/bridge").is_some();
        let response = || Topic::from(format!("{bridge}/response/{}", segment(name)));
        is_bridge.then(|| (name, response()))
    }

    /// Filter of all commands to this printer.
    pub fn command_filter(&self) -> String {
        format!("{}/set/#", self.prefix)
    }

    /// Topic of one command.
    pub fn command(&self, command: &str) -> Topic {
        Topic::from(format!("{}/set/{command}", self.prefix))
    }

    /// Returns the command that `topic` carries: the part after `set/`.
    pub fn command_name<'t>(&self, topic: &'t str) -> Option<&'t str> {
        topic.strip_prefix(&self.prefix)?.strip_prefix("/set/")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_cannot_leave_its_segment() {
        let topics = PrinterTopics::new("octoprint2mqtt", "mk3");
        assert_eq!(&*topics.event("x/#"), "octoprint2mqtt/mk3/event/x__");
    }

    #[test]
    fn the_longest_names_fit_into_a_topic() {
        let long = "x".repeat(70_000);
        let topics = PrinterTopics::new(&"b".repeat(128), &"p".repeat(64));
        let made = [topics.event(&long), topics.plugin(&long), topics.message(&long)];
        let heater = Heater::read(&long).map(|heater| topics.temperature(&heater));
        for topic in made.into_iter().chain(heater) {
            let last = topic.rsplit('/').next().unwrap_or_default();
            assert_eq!(last, segment(&long));
            assert_eq!(topic.split('/').count(), 4, "{topic}");
        }
    }

    #[test]
    fn commands_and_requests_are_recognised_by_their_topic() {
        let topics = PrinterTopics::new("o", "mk3");
        assert_eq!(topics.command_name("o/mk3/set/temperature/bed"), Some("temperature/bed"));
        assert_eq!(topics.command_name("o/mk3s/set/job"), None);
        let bridge = BridgeTopics::new("o");
        assert_eq!(bridge.request_name("o/bridge/request/info"), Some("info"));
        let (name, response) = topics.bridge_request("o/bridge-1/request/history").unwrap();
        assert_eq!((name, &*response), ("history", "o/bridge-1/response/history"));
        assert_eq!(topics.bridge_request("p/bridge/request/history"), None);
        assert!(is_info("o", "o/bridge/info") && is_info("o", "o/bridge-1/info"));
        assert!(!is_info("o", "o/bridge/request/info") && !is_info("o", "o/mk3/info"));
    }
}
