//! One connection to the broker: its subscriptions, and what is in flight.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rumqttc::{
    Event, Outgoing as Sent, Packet, Publish, QoS, Request, Subscribe, SubscribeFilter,
    SubscribeReasonCode, Unsubscribe,
};

use super::api::Options;
use super::dial::{self, CONNECT_TIMEOUT};
use super::log;
use super::lost::Lost;
use super::session::{Session, SessionError};
use crate::clock;
use crate::mqtt::outbox::WINDOW;
use crate::mqtt::outbox::entry::Outgoing;
use crate::mqtt::outbox::quarantine::InFlightMessage;
use crate::mqtt::publication::Incoming;
use crate::mqtt::publication::packet_bytes;

/// Time without a PUBACK after which the connection is considered dead.
const ACK_TIMEOUT: Duration = Duration::from_secs(30);
/// Most filters in one SUBSCRIBE packet: some brokers (AWS IoT) end the connection at more.
const FILTERS_A_PACKET: usize = 8;
/// Topic of the broker's uptime; Mosquitto publishes `123 seconds`.
const UPTIME_TOPIC: &str = "$SYS/broker/uptime";
const UPTIME_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::mqtt) enum Uptime {
    /// Not requested, or not published by the broker.
    Unknown,
    /// Requested, and not received yet.
    Awaited {
        /// Deadline, by which [`Connection::next`] returns.
        until: tokio::time::Instant,
    },
    /// As published by the broker.
    Known(Duration),
}

impl Uptime {
    pub(in crate::mqtt) fn known(self) -> Option<Duration> {
        if let Self::Known(uptime) = self { Some(uptime) } else { None }
    }

    fn read(payload: &[u8]) -> Self {
        let text = std::str::from_utf8(payload).unwrap_or_default().trim();
        let number = text.strip_suffix("seconds").or_else(|| text.strip_suffix("second"));
        let seconds = number.and_then(|number| number.trim().parse().ok());
        seconds.map_or(Self::Unknown, |seconds| Self::Known(Duration::from_secs(seconds)))
    }
}

#[derive(Debug, Default)]
pub(in crate::mqtt) struct Arrived {
    pub(in crate::mqtt) acknowledged: Option<InFlightMessage>,
    pub(in crate::mqtt) incoming: Option<Incoming>,
}

pub(in crate::mqtt) struct Connection {
    session: Session,
    started: Instant,
    /// Handed to the client but without a packet id yet; `None` for QoS 0.
    unsent: VecDeque<Option<InFlightMessage>>,
    unacked: HashMap<u16, InFlightMessage>,
    /// Filters by SUBSCRIBE packet, which have no packet id yet.
    subscribing: VecDeque<Vec<String>>,
    /// The same by packet id, until SUBACK.
    owed: HashMap<u16, Vec<String>>,
    early: Vec<Incoming>,
    uptime: Uptime,
    last_heard: Instant,
}

impl Connection {
    /// Connects and subscribes within ten seconds. With `ask_uptime`, also requests the broker's
    /// uptime: see [`Connection::uptime`].
    pub(in crate::mqtt) async fn open(
        options: &Options,
        filters: &BTreeSet<String>,
        ask_uptime: bool,
    ) -> Result<Self, Lost> {
        let until = tokio::time::Instant::now() + CONNECT_TIMEOUT;
        let opening = async {
            let mut connection = Self::connect(options, until).await?;
            connection.subscribe(filters, QoS::AtLeastOnce).await?;
            if ask_uptime {
                connection.ask_uptime().await?;
            }
            Ok(connection)
        };
        match tokio::time::timeout_at(until, opening).await {
            Ok(opened) => opened,
            Err(_) => Err(Lost::TimedOut),
        }
    }

    async fn connect(options: &Options, until: tokio::time::Instant) -> Result<Self, Lost> {
        Self::connect_to(options, &dial::addresses(options).await?, until).await
    }

    async fn connect_to(
        options: &Options,
        addresses: &[SocketAddr],
        until: tokio::time::Instant,
    ) -> Result<Self, Lost> {
        let mut failed = Lost::TimedOut;
        for (index, address) in addresses.iter().enumerate() {
            let left = addresses.len() - index;
            let share = dial::share(tokio::time::Instant::now(), until, left);
            match tokio::time::timeout_at(share, Self::connect_at(options, *address)).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(lost @ Lost::NoRoute(_))) => failed = lost,
                Ok(Err(lost)) => return Err(lost),
                Err(_) => failed = Lost::TimedOut,
            }
        }
        Err(failed)
    }

    async fn connect_at(options: &Options, address: SocketAddr) -> Result<Self, Lost> {
        let link = dial::dial(options, address).await?;
        let password = options.login.as_ref().map(|(_, password)| password.characters());
        let session = Session::open(link, options).await;
        let session = session.map_err(|error| Lost::while_connecting(error, password))?;
        Ok(Self {
            session,
            started: clock::now(),
            unsent: VecDeque::new(),
            unacked: HashMap::new(),
            subscribing: VecDeque::new(),
            owed: HashMap::new(),
            early: Vec::new(),
            uptime: Uptime::Unknown,
            last_heard: clock::now(),
        })
    }

    /// Subscribes to all `filters`: sends all packets, then waits for the answers.
    pub(in crate::mqtt) async fn subscribe(
        &mut self,
        filters: &BTreeSet<String>,
        qos: QoS,
    ) -> Result<(), Lost> {
        let filters: Vec<String> = filters.iter().cloned().collect();
        self.send_subscription(&filters, qos)?;
        while !self.subscribing.is_empty() || !self.owed.is_empty() {
            let event = self.receive().await?;
            // Retained commands may arrive before the SUBACK.
            let arrived = self.arrived(event)?;
            self.early.extend(arrived.incoming);
        }
        Ok(())
    }

    /// Subscribes to more `filters`, without waiting.
    pub(in crate::mqtt) fn request_subscription(&mut self, filters: &[String]) -> Result<(), Lost> {
        self.send_subscription(filters, QoS::AtLeastOnce)
    }

    fn send_subscription(&mut self, filters: &[String], qos: QoS) -> Result<(), Lost> {
        for group in filters.chunks(FILTERS_A_PACKET) {
            let wanted = group.iter().map(|filter| SubscribeFilter::new(filter.clone(), qos));
            self.request(Request::Subscribe(Subscribe::new_many(wanted)))?;
            self.subscribing.push_back(group.to_vec());
        }
        Ok(())
    }

    /// Unsubscribes from `filters`, without waiting.
    pub(in crate::mqtt) fn unsubscribe(&mut self, filters: Vec<String>) -> Result<(), Lost> {
        filters
            .into_iter()
            .try_for_each(|filter| self.request(Request::Unsubscribe(Unsubscribe::new(filter))))
    }

    /// Subscribes to the broker's uptime in a packet of its own, and waits for the SUBACK. The
    /// retained message may arrive later.
    async fn ask_uptime(&mut self) -> Result<(), Lost> {
        let until = tokio::time::Instant::now() + UPTIME_TIMEOUT;
        self.uptime = Uptime::Awaited { until };
        self.request(Request::Subscribe(Subscribe::new(UPTIME_TOPIC, QoS::AtMostOnce)))?;
        let answered = tokio::time::timeout_at(until, async {
            while matches!(self.uptime, Uptime::Awaited { .. }) {
                match self.session.next().await {
                    Ok(Event::Incoming(Packet::SubAck(ack))) => {
                        return Ok(!ack.return_codes.contains(&SubscribeReasonCode::Failure));
                    }
                    Ok(event) => {
                        let arrived = self.arrived(event)?;
                        self.early.extend(arrived.incoming);
                    }
                    Err(error) if error.is_by_peer() => {
                        return Err(Lost::NoUptime(error.into()));
                    }
                    Err(error) => return Err(self.lost(error)),
                }
            }
            Ok(true)
        });
        // Refusal and silence are both common.
        if !answered.await.unwrap_or(Ok(false))? {
            self.uptime = Uptime::Unknown;
        }
        Ok(())
    }

    pub(in crate::mqtt) fn uptime(&self) -> Uptime {
        self.uptime
    }

    /// Stores the uptime and unsubscribes from it: brokers publish it again and again.
    fn settle_uptime(&mut self, uptime: Uptime) -> Result<(), Lost> {
        self.uptime = uptime;
        self.request(Request::Unsubscribe(Unsubscribe::new(UPTIME_TOPIC)))
    }

    /// Takes the messages that arrived before the subscription was complete.
    pub(in crate::mqtt) fn take_early(&mut self) -> Vec<Incoming> {
        std::mem::take(&mut self.early)
    }

    pub(in crate::mqtt) fn has_room(&self) -> bool {
        self.unsent.len() < WINDOW && !self.session.is_full()
    }

    pub(in crate::mqtt) fn publish(
        &mut self,
        outgoing: Outgoing,
        now: Instant,
    ) -> Result<(), Lost> {
        let Outgoing { token, topic, payload, retain } = outgoing;
        let qos = if token.is_some() { QoS::AtLeastOnce } else { QoS::AtMostOnce };
        let mut publish = Publish::from_bytes(&*topic, qos, payload);
        publish.retain = retain;
        self.unsent.push_back(token.map(|token| {
            let bytes = packet_bytes(&topic, publish.payload.len());
            InFlightMessage { token, topic, bytes, at: now }
        }));
        self.request(Request::Publish(publish))
    }

    pub(in crate::mqtt) async fn next(&mut self) -> Result<Arrived, Lost> {
        let event = match self.uptime {
            Uptime::Awaited { until } => {
                match tokio::time::timeout_at(until, self.receive()).await {
                    Ok(received) => received?,
                    Err(_) => {
                        self.settle_uptime(Uptime::Unknown)?;
                        return Ok(Arrived::default());
                    }
                }
            }
            Uptime::Unknown | Uptime::Known(_) => self.receive().await?,
        };
        self.arrived(event)
    }

    /// Like [`Connection::next`], but without waiting.
    pub(in crate::mqtt) fn ready(&mut self) -> Result<Option<Arrived>, Lost> {
        match self.session.ready() {
            Ok(Some(event)) => self.arrived(event).map(Some),
            Ok(None) => Ok(None),
            Err(error) => Err(self.lost(error)),
        }
    }

    fn request(&mut self, request: Request) -> Result<(), Lost> {
        self.session.request(request).map_err(|error| self.lost(error))
    }

    async fn receive(&mut self) -> Result<Event, Lost> {
        self.session.next().await.map_err(|error| self.lost(error))
    }

    pub(in crate::mqtt) fn last_heard(&self) -> Instant {
        self.last_heard
    }

    fn arrived(&mut self, event: Event) -> Result<Arrived, Lost> {
        let mut arrived = Arrived::default();
        if matches!(event, Event::Incoming(_)) {
            self.last_heard = clock::now();
        }
        match event {
            Event::Outgoing(Sent::Publish(id)) => {
                if let Some(Some(owed)) = self.unsent.pop_front() {
                    self.unacked.insert(id, owed);
                }
            }
            Event::Outgoing(Sent::Subscribe(id)) => {
                let group = self.subscribing.pop_front();
                self.owed.extend(group.map(|group| (id, group)));
            }
            Event::Incoming(Packet::SubAck(ack)) => {
                if let Some(group) = self.owed.remove(&ack.pkid) {
                    log::refused_filters(&group, &ack.return_codes);
                }
            }
            Event::Incoming(Packet::PubAck(ack)) => {
                arrived.acknowledged = self.unacked.remove(&ack.pkid);
            }
            Event::Incoming(Packet::Publish(publish)) if publish.topic == UPTIME_TOPIC => {
                if matches!(self.uptime, Uptime::Awaited { .. }) {
                    self.settle_uptime(Uptime::read(&publish.payload))?;
                }
            }
            Event::Incoming(Packet::Publish(publish)) => {
                arrived.incoming = Some(Incoming {
                    topic: publish.topic,
                    payload: publish.payload,
                    retained: publish.retain,
                });
            }
            _ => {}
        }
        Ok(arrived)
    }

    fn waiting(&self) -> impl Iterator<Item = &InFlightMessage> {
        self.unacked.values().chain(self.unsent.iter().flatten())
    }

    pub(in crate::mqtt) fn in_flight(&self) -> Vec<InFlightMessage> {
        self.waiting().cloned().collect()
    }

    /// Returns how many publications are unsent or unacknowledged.
    pub(in crate::mqtt) fn in_flight_count(&self) -> usize {
        self.unacked.len() + self.unsent.len()
    }

    /// Returns an error if the connection is dead without having been closed.
    pub(in crate::mqtt) fn stalled(&self, now: Instant) -> Option<Lost> {
        let oldest = self.waiting().map(|waiting| waiting.at).min()?;
        (now.saturating_duration_since(oldest) > ACK_TIMEOUT).then_some(Lost::Silent)
    }

    /// Sends DISCONNECT, so that the broker does not publish the last will, and waits until the
    /// connection is closed, a second at most.
    pub(in crate::mqtt) async fn disconnect(&mut self) {
        let _ = tokio::time::timeout(Duration::from_secs(1), self.session.disconnect()).await;
    }

    fn lost(&self, error: SessionError) -> Lost {
        Lost::closed(clock::now() - self.started, error.is_by_peer(), error)
    }
}

#[cfg(test)]
pub(in crate::mqtt) mod tests;
