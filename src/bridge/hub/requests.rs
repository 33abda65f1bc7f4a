//! Answers requests to the bridge: those of clients of the broker, and those of the page.

use std::time::Duration;

use serde_json::{Value, json};
use url::Url;

use super::Hub;
use super::asker::Asker;
use crate::bridge::board::{AskedByPage, PageRequest};
use crate::bridge::newcomer::PairRequest;
use crate::bridge::request::{self, HistoryRequest, Request};
use crate::bridge::{check, identity};
use crate::causes::{self, Cause};
use crate::finding;
use crate::mqtt::{Incoming, Kind, OWN_LANE, Publication};
use crate::topics;

/// How long answers of OctoPrints are waited for.
const FIND_WITHIN: Duration = Duration::from_secs(3);

/// What is said to a retained request.
const RETAINED: &str = "a retained request is refused, because it may be an old one, and is cleared from the broker; publish requests without the retain flag";

/// Requests that must not be done again at the next start.
const CLEARED: &[&str] = &["pair", "remove"];

impl Hub {
    /// Takes a message of the broker.
    pub(super) fn route(&mut self, incoming: Incoming) {
        if incoming.topic == *self.topics.state {
            self.receive_own_state(&incoming);
            return;
        }
        if topics::is_info(&self.config.mqtt.base_topic, &incoming.topic) {
            // A retained one may be of a bridge that is gone: the announcer checks these.
            if !incoming.retained {
                identity::check_info(&incoming.payload, &self.config.mqtt);
            }
            return;
        }
        if let Some(name) = self.topics.request_name(&incoming.topic) {
            let name = name.to_owned();
            self.take_request(&name, &incoming);
            return;
        }
        if !self.roster.routes.send_foreign(&incoming) {
            self.roster.routes.send(&self.config.mqtt.base_topic, incoming);
        }
    }

    fn take_request(&mut self, name: &str, incoming: &Incoming) {
        let request::Parsed { request, transaction } = request::parse(name, &incoming.payload);
        let response = self.topics.response(name);
        let asker = Asker::Mqtt { broker: self.broker.clone(), response, transaction };
        // A live message does not show whether it is retained at the broker.
        let is_cleared = incoming.retained || CLEARED.contains(&name);
        if is_cleared && incoming.payload.is_empty() {
            // What clears a request comes back.
            return;
        }
        if is_cleared {
            self.clear_request(incoming);
        }
        if incoming.retained {
            asker.answer(Err(RETAINED.into()));
            return;
        }
        let outcome = match request {
            Request::History(HistoryRequest { printer, .. }) => {
                // The printer's task answers.
                if self.roster.routes.send_to(&printer, incoming.clone()) {
                    return;
                }
                Err(format!("this bridge has no printer {printer:?}").into())
            }
            Request::HealthCheck => Ok(json!({"healthy": true})),
            Request::Info => Ok(self.info()),
            Request::Republish => {
                self.broker.republish();
                Ok(json!({}))
            }
            Request::LogLevel(level) => {
                (self.set_log_level)(&level).map(|()| json!({"log_level": level}))
            }
            Request::Discover => return self.begin(&asker, Self::discover),
            Request::Pair(request) => {
                return self.begin(&asker, |hub, asker| hub.pair(&request, asker));
            }
            Request::Remove(id) => return self.begin(&asker, |hub, asker| hub.remove(id, asker)),
            Request::Refused(reason) => Err(reason.into()),
        };
        asker.answer(outcome);
    }

    fn clear_request(&self, incoming: &Incoming) {
        if let Some(topic) = incoming.own_topic() {
            let nothing = bytes::Bytes::new();
            let kind = Kind::Fleeting { retain: true };
            self.broker.publish(Publication::new(OWN_LANE, topic, nothing, kind));
        }
    }

    /// Takes a request of the page.
    pub(super) fn take_page_request(&mut self, (request, answer): AskedByPage) {
        let asker = Asker::page(answer);
        match request {
            PageRequest::Discover => self.begin(&asker, Self::discover),
            PageRequest::Pair(request) => {
                self.begin(&asker, |hub, asker| hub.pair(&request, asker));
            }
            PageRequest::CancelPairing => {
                self.desk.cancel();
                asker.answer(Ok(json!({})));
            }
            PageRequest::Remove(id) => self.begin(&asker, |hub, asker| hub.remove(id, asker)),
            PageRequest::Rename { id, name } => self.begin(&asker, |hub, asker| {
                let renaming = hub.desk.rename(id, &name, asker)?;
                hub.spawn("renaming a printer", renaming);
                Ok(())
            }),
            PageRequest::Groups { id, groups } => self.begin(&asker, |hub, asker| {
                let choosing = hub.desk.set_groups(id, groups, asker)?;
                hub.spawn("choosing groups of commands", choosing);
                Ok(())
            }),
            PageRequest::Check => self.check(asker),
            PageRequest::AllowMqttPairing => {
                asker.answer(Ok(json!({"seconds": self.desk.open()})));
            }
        }
    }

    /// Begins what takes its time, if who asks may; answers if it cannot.
    fn begin(&mut self, asker: &Asker, begin: impl FnOnce(&mut Self, &Asker) -> Result<(), Cause>) {
        let admitted = self.desk.admit(asker).map_err(Cause::from);
        if let Err(error) = admitted.and_then(|()| begin(self, asker)) {
            asker.answer(Err(error));
        }
    }

    fn discover(&mut self, asker: &Asker) -> Result<(), Cause> {
        let printers = self.config.printers.iter();
        let configured: Vec<(String, Url)> =
            printers.map(|printer| (printer.id.clone(), printer.url.clone())).collect();
        let asker = asker.clone();
        self.spawn("finding OctoPrints", async move {
            let found = finding::answer(&configured, FIND_WITHIN).await;
            asker.answer(found.map_err(Cause::from).and_then(|it| Ok(serde_json::to_value(it)?)));
        });
        Ok(())
    }

    fn pair(&mut self, request: &PairRequest, asker: &Asker) -> Result<(), Cause> {
        let pairing = self.desk.pair(request, asker)?;
        self.spawn("adding a printer", pairing);
        Ok(())
    }

    fn remove(&mut self, id: String, asker: &Asker) -> Result<(), Cause> {
        let removing = self.desk.remove(id, asker)?;
        self.spawn("removing a printer", removing);
        Ok(())
    }

    fn check(&self, asker: Asker) {
        let config = self.config.clone();
        self.spawn("checking everything", async move {
            let mut findings: Vec<Value> = Vec::new();
            check::run(&config, |check::Finding { what, outcome }| {
                let (ok, text) = match outcome {
                    Ok(found) => (true, found),
                    Err(wrong) => (false, causes::text(&wrong)),
                };
                findings.push(json!({"what": what, "ok": ok, "text": text}));
            })
            .await;
            asker.answer(Ok(findings.into()));
        });
    }
}
