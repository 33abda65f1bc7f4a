//! A scene for the unit tests of features.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Feature, Scene, present};
use crate::bridge::printer::snapshot::{Now, Snapshot};
use crate::octoprint::{Credentials, Rest, Socket, SocketOptions};
use crate::secret::Secret;
use crate::topics::PrinterTopics;

/// A printer without OctoPrint: any REST call fails.
pub(crate) struct Stage {
    /// The time, which tests may change.
    pub(crate) now: Now,
    /// The printer's state.
    pub(crate) snapshot: Snapshot,
    topics: PrinterTopics,
    _socket: Socket,
    rest: Rest,
}

impl Stage {
    /// An idle printer. Needs a runtime of tokio.
    pub(crate) fn new() -> Self {
        let socket = unreachable_socket();
        Self {
            now: present(),
            snapshot: Snapshot::new(),
            topics: PrinterTopics::new("octoprint2mqtt", "mk3"),
            rest: socket.rest(),
            _socket: socket,
        }
    }

    /// Runs `play`. Returns topic and payload of what was published, below the printer's topic; an
    /// empty payload is null.
    pub(crate) fn run(&mut self, play: impl FnOnce(&mut Scene<'_>)) -> Vec<(String, Value)> {
        let mut scene = Scene::new(self.now, &self.snapshot, (&self.topics, 1), &self.rest);
        play(&mut scene);
        let said = |publication: crate::mqtt::Publication| {
            let topic = publication.topic.strip_prefix("octoprint2mqtt/mk3/").unwrap_or_default();
            let payload = serde_json::from_slice(&publication.payload).unwrap_or_default();
            (topic.to_owned(), payload)
        };
        scene.into_publications().into_iter().map(said).collect()
    }

    /// Passes an event to `feature`.
    pub(crate) fn event(
        &mut self,
        feature: &mut dyn Feature,
        kind: &str,
        payload: &Value,
    ) -> Vec<(String, Value)> {
        let text = json!({"type": kind, "payload": payload}).to_string();
        self.run(|scene| feature.event(&serde_json::from_str(&text).unwrap(), scene))
    }
}

/// A socket to an address where nothing listens.
pub(crate) fn unreachable_socket() -> Socket {
    crate::tls::install_provider();
    let tls = rustls::ClientConfig::builder()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let url = "http://127.0.0.1:1/".parse().unwrap();
    let key = Credentials::ApiKey(Secret::new("KEY"));
    Socket::new(SocketOptions::new(url, key, Arc::new(tls))).unwrap()
}
