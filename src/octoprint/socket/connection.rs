//! One connection of the socket, from its first frame to its end.

use std::time::SystemTime;

use bytes::Bytes;
use tokio::time::{Instant, sleep_until};

use super::dispatcher::{Dispatcher, Order, TaskEvent};
use super::failure::{ConnectionEnd, SocketError, UnreadableFrames};
use super::options::SocketOptions;
use super::relogin::{AllStale, BackgroundCall, BackgroundResult, Relogin, knows_subscribe};
use super::status::SocketState;
use crate::octoprint::rest::answer::one_line;
use crate::octoprint::rest::client::Rest;
use crate::octoprint::rest::http::public_url;
use crate::octoprint::rest::login::Login;
use crate::octoprint::wire::frame::{self, Decoded, Frame};
use crate::octoprint::wire::message::{Message, MessageKind, ReauthReason};
use crate::octoprint::wire::received::{Received, TransportError};
use crate::octoprint::wire::transport::{Link, Transport, decode};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Waiting for `o`.
    Opening,
    /// Waiting for `connected`.
    Greeting,
    /// `auth` was sent; waiting for proof that it was accepted.
    Authenticating,
    Live,
    /// Renewing the login of a live connection. Messages received meanwhile prove nothing.
    Renewing,
    /// Renewed the login of a live connection; waiting for proof that it was accepted.
    Reproving,
}

enum ConnectionEvent {
    Received(Result<Received, TransportError>),
    CallDone(BackgroundResult),
    Tick,
}

pub(super) struct SocketConnection<'a> {
    options: &'a SocketOptions,
    rest: &'a Rest,
    dispatcher: &'a mut Dispatcher,
    is_reconnect: bool,
    link: Link,
    login: Login,
    number: u64,
    pub(super) stage: Stage,
    pub(super) proven: bool,
    /// Whether the login lasted for [`SocketOptions::stable_after`].
    pub(super) stable: bool,
    stage_ends: Option<Instant>,
    last_received: Instant,
    pinged: bool,
    stable_at: Option<Instant>,
    relogin: Relogin,
    subscribes: bool,
    unreadable: UnreadableFrames,
    background: BackgroundCall,
    /// The throttle factor that OctoPrint uses; 1 for a new connection.
    factor: u32,
}

impl<'a> SocketConnection<'a> {
    pub(super) fn new(
        link: Link,
        login: Login,
        number: u64,
        options: &'a SocketOptions,
        rest: &'a Rest,
        dispatcher: &'a mut Dispatcher,
        is_reconnect: bool,
    ) -> Self {
        let now = Instant::now();
        Self {
            options,
            rest,
            dispatcher,
            is_reconnect,
            link,
            login,
            number,
            stage: Stage::Opening,
            proven: false,
            stable: false,
            stage_ends: Some(now + options.rest.connect_timeout),
            last_received: now,
            pinged: false,
            stable_at: None,
            relogin: Relogin::default(),
            subscribes: true,
            unreadable: UnreadableFrames::default(),
            background: BackgroundCall::default(),
            factor: 1,
        }
    }

    pub(super) async fn close(self) {
        self.link.close().await;
    }

    /// Runs until the connection fails or an order ends it.
    pub(super) async fn run(&mut self) -> ConnectionEnd {
        loop {
            let deadline = self.deadline();
            let next = next(&mut self.link, &mut self.background, deadline);
            let done = match self.dispatcher.next_event(next).await {
                TaskEvent::Ready(event) => self.event(event).await,
                TaskEvent::Order(Order::Connect) => Ok(()),
                TaskEvent::Order(order) => Err(order.into()),
                TaskEvent::Send(text) => self.link.send(text).await.map_err(ConnectionEnd::from),
                TaskEvent::RateChanged => self.send_factor().await,
            };
            if let Err(end) = done {
                return end;
            }
        }
    }

    fn deadline(&self) -> Instant {
        let SocketOptions { ping_after, dead_after, .. } = self.options;
        let silence = self.last_received + if self.pinged { *dead_after } else { *ping_after };
        // One login at a time: a burst of requests waits for its end.
        let reauth = self.relogin.due().filter(|_| self.background.is_idle());
        [self.stage_ends, self.stable_at, reauth].into_iter().flatten().fold(silence, Instant::min)
    }

    fn live(&mut self) {
        self.stage = Stage::Live;
        self.stage_ends = None;
        self.stable_at = Some(Instant::now() + self.options.stable_after);
    }

    async fn event(&mut self, event: ConnectionEvent) -> Result<(), ConnectionEnd> {
        match event {
            ConnectionEvent::Received(received) => {
                let received = received?;
                // An accepted call does not prove that the stream with its answer is alive.
                if !matches!(received, Received::Alive) || !self.answers_on_the_stream() {
                    (self.last_received, self.pinged) = (Instant::now(), false);
                    // Resets the progress, which is accounted for.
                    let _ = self.link.is_receiving();
                }
                match received {
                    Received::Alive => Ok(()),
                    Received::Frame(frame) => self.frame(frame).await,
                }
            }
            ConnectionEvent::CallDone(result) => self.call_done(result).await,
            ConnectionEvent::Tick => self.tick().await,
        }
    }

    async fn frame(&mut self, bytes: Bytes) -> Result<(), ConnectionEnd> {
        let frame = match decode(bytes, self.options.large_message_bytes).await {
            Ok(frame) => frame,
            Err(error) => {
                self.skip(&error);
                return Ok(self.unreadable.note(error)?);
            }
        };
        match frame {
            Frame::Messages(decoded) => self.messages(decoded).await,
            Frame::Open | Frame::Heartbeat => {
                self.unreadable.readable();
                if frame == Frame::Open && self.stage == Stage::Opening {
                    self.stage = Stage::Greeting;
                }
                Ok(())
            }
            Frame::Close { code, reason } => {
                Err(SocketError::Closed { code, reason: one_line(&reason) }.into())
            }
        }
    }

    async fn messages(&mut self, decoded: Decoded) -> Result<(), ConnectionEnd> {
        decoded.skipped.iter().for_each(|bad| self.skip(bad));
        match decoded.skipped.last() {
            Some(bad) if decoded.messages.is_empty() => self.unreadable.note(*bad)?,
            _ => self.unreadable.readable(),
        }
        let (received, received_at) = (self.last_received, SystemTime::now());
        for raw in decoded.messages {
            let message = Message::new(raw.kind, raw.payload, received, received_at, self.number);
            // A payload is a slice of text between two ASCII characters: always UTF-8.
            if let Ok(message) = message {
                self.message(message).await?;
            }
        }
        Ok(())
    }

    fn skip(&mut self, what: &dyn std::fmt::Display) {
        self.dispatcher.count_decode_error();
        self.unreadable.log_once(what, &self.options.rest.url);
    }

    async fn message(&mut self, message: Message) -> Result<(), ConnectionEnd> {
        let auth_sent = self.auth_sent();
        let greeted = !auth_sent && *message.kind() == MessageKind::Connected;
        match message.kind() {
            MessageKind::Connected if greeted => self.subscribes = knows_subscribe(&message),
            MessageKind::ReauthRequired if auth_sent => {
                self.relogin.requested(ReauthReason::of(&message), Instant::now());
                // Restarts once the next login is proven.
                self.stable_at = None;
            }
            MessageKind::History if self.options.subscription.state => self.prove(),
            MessageKind::Timelapse if !self.options.subscription.state => self.prove(),
            _ => {}
        }
        self.dispatcher.dispatch(&message);
        if greeted { self.subscribe_and_authenticate().await } else { Ok(()) }
    }

    fn auth_sent(&self) -> bool {
        !matches!(self.stage, Stage::Opening | Stage::Greeting)
    }

    /// Handles a message that OctoPrint sends only after it accepted a login.
    fn prove(&mut self) {
        match self.stage {
            Stage::Authenticating => self.proven(),
            Stage::Reproving => self.live(),
            Stage::Opening | Stage::Greeting | Stage::Live | Stage::Renewing => {}
        }
    }

    /// Sends subscription, throttle factor and login, in this order: OctoPrint starts to push right
    /// after `auth`.
    async fn subscribe_and_authenticate(&mut self) -> Result<(), ConnectionEnd> {
        self.stage = Stage::Authenticating;
        self.link.send(frame::encode("subscribe", &self.options.subscription.payload())).await?;
        self.dispatcher.update_status(|status| status.state = SocketState::Authenticating);
        self.send_factor().await?;
        self.authenticate().await
    }

    async fn authenticate(&mut self) -> Result<(), ConnectionEnd> {
        self.link.send(frame::auth(&self.login.name, &self.login.session)).await?;
        if self.stage == Stage::Authenticating {
            self.stage_ends = Some(Instant::now() + self.options.rest.connect_timeout * 2);
        }
        Ok(())
    }

    /// Requests proof of a renewed login. OctoPrint does not answer a second `auth`, but it does
    /// answer [`SocketConnection::request_history`].
    async fn request_proof(&mut self) -> Result<(), ConnectionEnd> {
        if self.stage == Stage::Authenticating {
            // OctoPrint sends a `history` after the first login by itself.
            return Ok(());
        }
        // The first login may have been proven while this one was under way.
        self.is_provable()?;
        self.stage = Stage::Reproving;
        self.request_history().await?;
        self.stage_ends = Some(Instant::now() + self.options.proof_timeout);
        Ok(())
    }

    async fn request_history(&mut self) -> Result<(), TransportError> {
        for subscription in self.options.subscription.history_request() {
            self.link.send(frame::encode("subscribe", &subscription)).await?;
        }
        Ok(())
    }

    /// Whether OctoPrint answers a request for a sign of life on the stream of messages. On XHR
    /// streaming it does once logged in, if it knows `subscribe`. A WebSocket has its own pings.
    fn answers_on_the_stream(&self) -> bool {
        self.link.transport() == Transport::XhrStreaming
            && self.stage == Stage::Live
            && self.is_provable().is_ok()
    }

    /// Requests a sign of life. While the printer is off, OctoPrint pushes nothing and XHR streaming
    /// has no heartbeat, and proxies close a stream that is idle for half a minute. A `history`
    /// keeps it open.
    async fn request_sign_of_life(&mut self) -> Result<(), TransportError> {
        if self.answers_on_the_stream() {
            self.request_history().await
        } else {
            self.link.ping(self.factor).await
        }
    }

    async fn send_factor(&mut self) -> Result<(), ConnectionEnd> {
        let factor = self.dispatcher.factor();
        if !self.auth_sent() || factor == self.factor {
            return Ok(());
        }
        self.link.send(frame::encode("throttle", &factor.into())).await?;
        self.factor = factor;
        Ok(())
    }

    fn proven(&mut self) {
        self.live();
        self.proven = true;
        if self.is_reconnect {
            self.dispatcher.count_reconnect();
        }
        let transport = self.link.transport();
        self.dispatcher.update_status(|status| {
            (status.state, status.transport) = (SocketState::Connected, Some(transport));
            (status.error, status.gone) = (None, false);
        });
        let url = public_url(&self.options.rest.url);
        tracing::info!(url, transport = transport.as_str(), "connected to OctoPrint");
    }

    async fn tick(&mut self) -> Result<(), ConnectionEnd> {
        let now = Instant::now();
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if due(self.stable_at) {
            self.stable_at = None;
            self.relogin.stable();
            self.stable = true;
            self.dispatcher.update_status(|status| status.attempt = 0);
        }
        if self.link.is_receiving() {
            // A large message is arriving: the connection stays while there is progress.
            (self.last_received, self.pinged) = (now, false);
            if due(self.stage_ends) {
                self.stage_ends = Some(now + self.options.rest.connect_timeout);
            }
        }
        if due(self.stage_ends) {
            self.stage_timed_out()?;
        }
        if due(self.relogin.due()) && self.background.is_idle() {
            self.log_in_again()?;
        }
        let silent = now.saturating_duration_since(self.last_received);
        if silent >= self.options.dead_after {
            return Err(SocketError::Silent(self.options.dead_after).into());
        }
        if silent >= self.options.ping_after && !self.pinged {
            self.pinged = true;
            self.request_sign_of_life().await?;
        }
        Ok(())
    }

    fn stage_timed_out(&mut self) -> Result<(), ConnectionEnd> {
        match self.stage {
            Stage::Opening | Stage::Greeting => {
                return Err(SocketError::NoGreeting(self.link.transport()).into());
            }
            Stage::Reproving => {
                return Err(SocketError::NotProvenAgain(self.options.proof_timeout).into());
            }
            Stage::Authenticating | Stage::Live | Stage::Renewing => {}
        }
        // OctoPrint does not answer `auth` if the user lacks a permission. REST has the permissions.
        self.stage_ends = None;
        self.background.fetch_current_user(self.rest.clone());
        Ok(())
    }

    /// Answers a burst of `reauthRequired` with one login.
    fn log_in_again(&mut self) -> Result<(), ConnectionEnd> {
        let started = self.relogin.begin().map_err(|AllStale| SocketError::Stale)?;
        let Some(reason) = started else { return Ok(()) };
        if self.stage != Stage::Authenticating {
            self.is_provable()?;
            self.stage = Stage::Renewing;
        }
        // The login has its own timeout.
        self.stage_ends = None;
        let url = public_url(&self.options.rest.url);
        tracing::info!(url, ?reason, "OctoPrint asks for the login again");
        self.background.log_in(self.rest.clone(), reason, self.options.rest.connect_timeout);
        Ok(())
    }

    /// Fails if OctoPrint cannot prove a renewed login, which takes a `history`.
    fn is_provable(&self) -> Result<(), ConnectionEnd> {
        let provable = self.subscribes && self.options.subscription.state;
        if provable { Ok(()) } else { Err(SocketError::Unprovable.into()) }
    }

    async fn call_done(&mut self, result: BackgroundResult) -> Result<(), ConnectionEnd> {
        match result {
            BackgroundResult::LoggedIn(login) => {
                self.login = login?;
                self.authenticate().await?;
                self.request_proof().await
            }
            // The proof arrived during the call.
            BackgroundResult::CurrentUser(_) if self.stage != Stage::Authenticating => Ok(()),
            BackgroundResult::CurrentUser(user) => Err(SocketError::of_unproven(user).into()),
        }
    }
}

/// Waits for the next event. Cancel-safe.
async fn next(link: &mut Link, call: &mut BackgroundCall, deadline: Instant) -> ConnectionEvent {
    tokio::select! {
        received = link.receive() => ConnectionEvent::Received(received),
        done = call.done() => ConnectionEvent::CallDone(done),
        () = sleep_until(deadline) => ConnectionEvent::Tick,
    }
}
