//! One connection of the socket, from its first frame to its end.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep_until, timeout};

use super::actor::{Actor, Command, LOGIN_STEPS, Over, Step, Turn};
use super::failure::{Failure, MAX_UNREADABLE};
use super::options::Subscription;
use super::relogin::{AllStale, Relogin, knows_subscribe};
use super::status::SocketState;
use crate::octoprint::rest::client::CurrentUser;
use crate::octoprint::rest::error::RestError;
use crate::octoprint::rest::login::{Login, LoginError};
use crate::octoprint::wire::frame::{self, Decoded, Frame, FrameError};
use crate::octoprint::wire::message::{Message, ReauthReason};
use crate::octoprint::wire::received::{Received, TransportError};
use crate::octoprint::wire::transport::Link;

/// How far a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::octoprint) enum Phase {
    /// Waiting for `o`.
    Opening,
    /// Waiting for `connected`.
    Greeting,
    /// `auth` is sent; waiting for the proof that it was accepted.
    Authenticating,
    /// Logged in.
    Live,
    /// Logging in once more on a connection that was live. What comes meanwhile proves nothing.
    Renewing,
    /// Logged in once more on a connection that was live; waiting for the proof.
    Reproving,
}

/// A REST call that goes on beside the connection, for its sake.
enum Aside {
    LoggedIn(Result<Login, LoginError>),
    Asked(Result<CurrentUser, RestError>),
}

enum Event {
    Received(Result<Received, TransportError>),
    Aside(Aside),
    Tick,
}

struct Connection {
    link: Link,
    login: Login,
    number: u64,
    phase: Phase,
    /// When the present phase must be over.
    phase_ends: Option<Instant>,
    heard: Instant,
    pinged: bool,
    /// When the connection counts as held.
    held_at: Option<Instant>,
    relogin: Relogin,
    /// Whether this OctoPrint answers a new subscription with its state.
    subscribes: bool,
    /// Unreadable frames since the last readable one.
    unreadable: u32,
    aside: Option<BoxFuture<'static, Aside>>,
    /// The throttle factor that OctoPrint knows of: a new socket starts at 1.
    factor: u32,
    /// What has been said in the log about unreadable data.
    complained: HashSet<String>,
}

impl Connection {
    async fn next(&mut self, deadline: Instant) -> Event {
        let aside = async {
            match &mut self.aside {
                Some(aside) => aside.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            received = self.link.receive() => Event::Received(received),
            done = aside => Event::Aside(done),
            () = sleep_until(deadline) => Event::Tick,
        }
    }

    /// The next moment at which something is due.
    fn deadline(&self, ping_after: Duration, dead_after: Duration) -> Instant {
        let silence = self.heard + if self.pinged { dead_after } else { ping_after };
        // One login at a time: a burst that comes meanwhile waits for its end.
        let reauth = self.relogin.due().filter(|_| self.aside.is_none());
        [self.phase_ends, self.held_at, reauth].into_iter().flatten().fold(silence, Instant::min)
    }

    /// The login that was shown last is proven.
    fn live(&mut self, held_after: Duration) {
        self.phase = Phase::Live;
        self.phase_ends = None;
        self.held_at = Some(Instant::now() + held_after);
    }

    /// A frame could not be read. Single ones are skipped; where there are only such, the connection
    /// is worth nothing.
    fn unreadable(&mut self, what: &impl std::fmt::Display) -> Result<(), Over> {
        self.unreadable += 1;
        if self.unreadable < MAX_UNREADABLE {
            return Ok(());
        }
        Err(Failure::Unreadable(what.to_string()).into())
    }

    /// The first time for each kind of complaint on this connection.
    fn complain(&mut self, url: &str, what: &str) {
        if self.complained.insert(what.to_owned()) {
            tracing::warn!(url, "skipped {what}; further ones on this connection are counted only");
        }
    }
}

impl Actor {
    /// Runs a connection to its end.
    pub(in crate::octoprint) async fn serve(&mut self, link: Link, login: Login) -> Over {
        let now = Instant::now();
        let mut connection = Connection {
            link,
            login,
            number: self.next_connection(),
            phase: Phase::Opening,
            phase_ends: Some(now + self.options.connect_timeout),
            heard: now,
            pinged: false,
            held_at: None,
            relogin: Relogin::default(),
            subscribes: true,
            unreadable: 0,
            aside: None,
            factor: 1,
            complained: HashSet::new(),
        };
        let over = loop {
            let deadline = connection.deadline(self.options.ping_after, self.options.dead_after);
            let turn = self.turn(connection.next(deadline)).await;
            let done = match turn {
                Turn::Ready(event) => self.event(&mut connection, event).await,
                Turn::Command(command) => self.command(&mut connection, command).await,
            };
            if let Err(over) = done {
                break over;
            }
        };
        match &over {
            Over::Told(_) => connection.link.close().await,
            Over::Failed(failure) => {
                self.ended(connection.link.transport(), connection.phase, failure);
            }
        }
        over
    }

    async fn command(&mut self, connection: &mut Connection, command: Command) -> Result<(), Over> {
        match command {
            Command::Connect => Ok(()),
            Command::Reconnect => {
                self.backoff.reset();
                Err(Over::Told(Step::Connect))
            }
            Command::Disconnect => Err(Over::Told(Step::Idle)),
            Command::Close => Err(Over::Told(Step::End)),
            Command::Send(text) => Ok(connection.link.send(text).await?),
            Command::RateChanged => self.send_factor(connection).await,
            #[cfg(test)]
            Command::Fail => Ok(()),
        }
    }

    async fn event(&mut self, connection: &mut Connection, event: Event) -> Result<(), Over> {
        match event {
            Event::Received(received) => {
                let received = received?;
                connection.heard = Instant::now();
                connection.pinged = false;
                // What moved until now is heard: the next question is for what comes from here on.
                let _ = connection.link.is_receiving();
                match received {
                    Received::Alive => Ok(()),
                    Received::Frame(frame) => self.frame(connection, frame).await,
                }
            }
            Event::Aside(done) => {
                connection.aside = None;
                self.aside(connection, done).await
            }
            Event::Tick => self.tick(connection).await,
        }
    }

    async fn frame(&mut self, connection: &mut Connection, bytes: Bytes) -> Result<(), Over> {
        let frame = match decode(bytes, self.options.large_message_bytes).await {
            Ok(frame) => frame,
            Err(error) => {
                self.shared.count_decode_error();
                connection.complain(&self.url, &error.to_string());
                return connection.unreadable(&error);
            }
        };
        match frame {
            Frame::Messages(decoded) => self.messages(connection, decoded).await,
            Frame::Open | Frame::Heartbeat => {
                connection.unreadable = 0;
                if frame == Frame::Open && connection.phase == Phase::Opening {
                    connection.phase = Phase::Greeting;
                }
                Ok(())
            }
            Frame::Close { code, reason } => {
                let reason = crate::octoprint::rest::answer::shown(&reason);
                Err(Failure::Closed { code, reason }.into())
            }
        }
    }

    async fn messages(
        &mut self,
        connection: &mut Connection,
        decoded: Decoded,
    ) -> Result<(), Over> {
        for bad in &decoded.skipped {
            self.shared.count_decode_error();
            connection.complain(&self.url, &bad.to_string());
        }
        match decoded.skipped.last() {
            Some(bad) if decoded.messages.is_empty() => connection.unreadable(bad)?,
            _ => connection.unreadable = 0,
        }
        let (received, received_at) = (connection.heard, SystemTime::now());
        for raw in decoded.messages {
            let number = connection.number;
            // A payload is a slice of text between two ASCII characters: always UTF-8.
            if let Ok(message) = Message::new(&raw.kind, raw.payload, received, received_at, number)
            {
                self.message(connection, message).await?;
            }
        }
        Ok(())
    }

    async fn message(&mut self, connection: &mut Connection, message: Message) -> Result<(), Over> {
        let greeted = matches!(connection.phase, Phase::Opening | Phase::Greeting)
            && message.kind() == "connected";
        if greeted {
            connection.subscribes = knows_subscribe(&message);
        }
        let proof = if self.options.subscription.state { "history" } else { "timelapse" };
        let proven = connection.phase == Phase::Authenticating && message.kind() == proof;
        // Before a login is shown there is none to be renewed.
        let introduced = !matches!(connection.phase, Phase::Opening | Phase::Greeting);
        let reauth =
            (introduced && message.kind() == "reauthRequired").then(|| ReauthReason::of(&message));
        if proven {
            self.proven(connection);
        } else if connection.phase == Phase::Reproving && message.kind() == proof {
            connection.live(self.options.held_after);
        }
        let permit = if proven { self.permit.take() } else { None };
        self.dispatch(message, permit).await;
        if let Some(reason) = reauth {
            connection.relogin.asked(reason, Instant::now());
            // Whether it holds is decided by the proof of the next login.
            connection.held_at = None;
        }
        if greeted { self.introduce(connection).await } else { Ok(()) }
    }

    /// Says what is wanted, how often, and who asks: in this order, for what is pushed follows
    /// `auth` at once.
    async fn introduce(&mut self, connection: &mut Connection) -> Result<(), Over> {
        let subscription = self.options.subscription.payload();
        self.fallback.greeted(connection.link.transport());
        connection.link.send(frame::encode("subscribe", &subscription)).await?;
        connection.phase = Phase::Authenticating;
        self.show(|status| status.state = SocketState::Authenticating);
        self.send_factor(connection).await?;
        self.authenticate(connection).await
    }

    async fn authenticate(&mut self, connection: &mut Connection) -> Result<(), Over> {
        let text = frame::auth(&connection.login.name, &connection.login.session);
        connection.link.send(text).await?;
        if connection.phase == Phase::Authenticating {
            connection.phase_ends = Some(Instant::now() + self.options.connect_timeout * 2);
        }
        Ok(())
    }

    /// Has OctoPrint prove a login on a connection that was live before. It is silent to a second
    /// `auth`, but sends a `history` when the state is subscribed to that was not before. A
    /// subscription that changes nothing has no answer.
    async fn ask_for_proof(&mut self, connection: &mut Connection) -> Result<(), Over> {
        if connection.phase == Phase::Authenticating {
            // A first login that is accepted has a `history` of its own.
            return Ok(());
        }
        // The proof of an earlier login may have come during this one.
        self.is_provable(connection)?;
        connection.phase = Phase::Reproving;
        let subscription = &self.options.subscription;
        let without_state = Subscription { state: false, ..subscription.clone() };
        for subscription in [without_state.payload(), subscription.payload()] {
            connection.link.send(frame::encode("subscribe", &subscription)).await?;
        }
        connection.phase_ends = Some(Instant::now() + self.options.proof_timeout);
        Ok(())
    }

    /// Sends the throttle factor if OctoPrint has another one.
    async fn send_factor(&mut self, connection: &mut Connection) -> Result<(), Over> {
        let factor = self.shared.rate().throttle.factor();
        let introduced = !matches!(connection.phase, Phase::Opening | Phase::Greeting);
        if !introduced || factor == connection.factor {
            return Ok(());
        }
        connection.link.send(frame::encode("throttle", &factor.into())).await?;
        connection.factor = factor;
        Ok(())
    }

    /// The login was accepted.
    fn proven(&mut self, connection: &mut Connection) {
        connection.live(self.options.held_after);
        self.connected(connection.link.transport());
    }

    async fn tick(&mut self, connection: &mut Connection) -> Result<(), Over> {
        let now = Instant::now();
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if due(connection.held_at) {
            connection.held_at = None;
            connection.relogin.held();
            self.backoff.reset();
            self.show(|status| status.attempt = 0);
        }
        if connection.link.is_receiving() {
            // A large message is on its way: it is waited for as long as it moves.
            connection.heard = now;
            connection.pinged = false;
            if due(connection.phase_ends) {
                connection.phase_ends = Some(now + self.options.connect_timeout);
            }
        }
        if due(connection.phase_ends) {
            self.phase_is_over(connection)?;
        }
        if due(connection.relogin.due()) && connection.aside.is_none() {
            self.log_in_again(connection)?;
        }
        let silent = now.saturating_duration_since(connection.heard);
        if silent >= self.options.dead_after {
            return Err(Failure::Silent(self.options.dead_after).into());
        }
        if silent >= self.options.ping_after && !connection.pinged {
            connection.pinged = true;
            connection.link.ping(connection.factor).await?;
        }
        Ok(())
    }

    /// A phase has lasted too long.
    fn phase_is_over(&mut self, connection: &mut Connection) -> Result<(), Over> {
        match connection.phase {
            Phase::Opening | Phase::Greeting => return Err(Failure::NoGreeting.into()),
            Phase::Reproving => {
                return Err(Failure::NotProvenAgain(self.options.proof_timeout).into());
            }
            Phase::Authenticating | Phase::Live | Phase::Renewing => {}
        }
        // OctoPrint answers `auth` with silence where the user may not see its state. REST tells.
        connection.phase_ends = None;
        let rest = self.rest.clone();
        connection.aside = Some(Box::pin(async move { Aside::Asked(rest.current_user().await) }));
        Ok(())
    }

    /// Answers a burst of `reauthRequired` with one login.
    fn log_in_again(&mut self, connection: &mut Connection) -> Result<(), Over> {
        let begun = connection.relogin.begin().map_err(|AllStale| Failure::Stale)?;
        let Some(reason) = begun else { return Ok(()) };
        if connection.phase != Phase::Authenticating {
            self.is_provable(connection)?;
            connection.phase = Phase::Renewing;
        }
        // The login decides now, not the timer.
        connection.phase_ends = None;
        tracing::info!(url = self.url, ?reason, "OctoPrint asks for the login again");
        let (rest, limit) = (self.rest.clone(), self.options.connect_timeout * LOGIN_STEPS);
        connection.aside = Some(Box::pin(async move {
            let login = async {
                match reason {
                    ReauthReason::Modified => rest.passive_login().await,
                    ReauthReason::LoginNeeded => rest.login().await,
                }
            };
            let login = timeout(limit, login).await;
            Aside::LoggedIn(login.unwrap_or(Err(LoginError::Timeout)))
        }));
        Ok(())
    }

    /// Only a `history` proves a new login on a live connection, and not on every one would it come.
    fn is_provable(&self, connection: &Connection) -> Result<(), Over> {
        let provable = connection.subscribes && self.options.subscription.state;
        if provable { Ok(()) } else { Err(Failure::Unprovable.into()) }
    }

    async fn aside(&mut self, connection: &mut Connection, done: Aside) -> Result<(), Over> {
        match done {
            Aside::LoggedIn(login) => {
                connection.login = login?;
                self.authenticate(connection).await?;
                self.ask_for_proof(connection).await
            }
            // The proof came while the question was on its way.
            Aside::Asked(_) if connection.phase != Phase::Authenticating => Ok(()),
            Aside::Asked(Ok(CurrentUser { name: Some(name), permissions, .. }))
                if !permissions.iter().any(|permission| permission == "STATUS") =>
            {
                Err(Failure::NoPermission(name).into())
            }
            Aside::Asked(_) => Err(Failure::NotProven.into()),
        }
    }
}

/// Reads a frame; a large one on a thread of its own, lest all other printers wait for it.
async fn decode(bytes: Bytes, large: usize) -> Result<Frame, FrameError> {
    if bytes.len() <= large {
        return frame::decode(&bytes);
    }
    let decoded = tokio::task::spawn_blocking(move || frame::decode(&bytes)).await;
    // Fails only at the end of the runtime, when nobody reads on.
    decoded.unwrap_or(Err(FrameError::Empty))
}
