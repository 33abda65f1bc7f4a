//! The task of a socket: connects, waits, obeys, and drives the handlers' futures throughout.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::backoff::Backoff;
use super::failure::Failure;
use super::fallback::Fallback;
use super::handle::{Handle, Socket};
use super::in_flight::{InFlight, Latency};
use super::knocking::Knocking;
use super::options::SocketOptions;
use super::shared::Shared;
use super::status::{RateMode, SocketState, Status};
use super::throttle::Rate;
use super::turns::Permit;
use crate::octoprint::rest::client::Rest;
use crate::octoprint::rest::http::{Http, public_url};
use crate::octoprint::rest::login::LoginError;
use crate::octoprint::wire::message::Message;
use crate::octoprint::wire::transport::{Link, Transport};

/// A login is several calls on a host that may be slow; more than this is none.
pub(in crate::octoprint) const LOGIN_STEPS: u32 = 4;
/// How often the latency in the status is renewed at most.
const SHOW_LATENCY_EVERY: Duration = Duration::from_secs(1);

/// What a handle asks of the task.
pub(in crate::octoprint) enum Command {
    Connect,
    Reconnect,
    Disconnect,
    /// A SockJS frame to be sent.
    Send(String),
    /// The throttle factor, or what is measured, may have changed.
    RateChanged,
    Close,
    #[cfg(test)]
    Fail,
}

/// What the task does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::octoprint) enum Step {
    Idle,
    Connect,
    Wait(Duration),
    End,
}

/// What a turn of the task brought.
pub(in crate::octoprint) enum Turn<T> {
    Ready(T),
    Command(Command),
}

/// Why an attempt or a connection is over: told so, or failed.
pub(in crate::octoprint) enum Over {
    Told(Step),
    Failed(Failure),
}

impl<E: Into<Failure>> From<E> for Over {
    fn from(failure: E) -> Self {
        Self::Failed(failure.into())
    }
}

pub(in crate::octoprint) struct Actor {
    pub(in crate::octoprint) options: SocketOptions,
    pub(in crate::octoprint) rest: Rest,
    pub(in crate::octoprint) shared: Arc<Shared>,
    pub(in crate::octoprint) backoff: Backoff,
    pub(in crate::octoprint) url: String,
    handle: Weak<Handle>,
    inbox: mpsc::UnboundedReceiver<Command>,
    pub(in crate::octoprint) fallback: Fallback,
    pub(in crate::octoprint) knocking: Knocking,
    /// The client that knocks, from the first knock of an absence to its end.
    pub(in crate::octoprint) knocker: Option<Arc<Http>>,
    /// When OctoPrint closed the last connection that was logged in, until the next one is.
    pub(in crate::octoprint) closed_at: Option<Instant>,
    /// A connection that was logged in has just been lost.
    pub(in crate::octoprint) lost: bool,
    /// The transport of a connection that has just ended without so much as `connected`.
    pub(in crate::octoprint) mute: Option<Transport>,
    /// While it is this socket's turn to connect.
    pub(in crate::octoprint) permit: Option<Permit>,
    running: FuturesUnordered<BoxFuture<'static, (u64, Option<Duration>)>>,
    in_flight: InFlight,
    latency: Latency,
    latency_shown: Option<Instant>,
    messages: u64,
    connections: u64,
    connected_before: bool,
    last_failure: Option<String>,
}

impl Actor {
    pub(in crate::octoprint) fn new(
        options: SocketOptions,
        rest: Rest,
        shared: Arc<Shared>,
        handle: Weak<Handle>,
        inbox: mpsc::UnboundedReceiver<Command>,
    ) -> Self {
        let in_flight = {
            let rate = shared.rate();
            InFlight::new(rate.generation(), rate.throttle.interval())
        };
        Self {
            backoff: Backoff::new(options.timeouts.clone(), options.give_up),
            url: public_url(&options.url),
            latency: Latency::new(options.rate_sliding_window_size),
            fallback: Fallback::new(options.transport),
            knocking: Knocking::new(options.knock),
            knocker: None,
            closed_at: None,
            lost: false,
            mute: None,
            permit: None,
            options,
            rest,
            shared,
            handle,
            inbox,
            running: FuturesUnordered::new(),
            in_flight,
            latency_shown: None,
            messages: 0,
            connections: 0,
            connected_before: false,
            last_failure: None,
        }
    }

    /// Boxed: a future holds its arguments twice.
    pub(in crate::octoprint) async fn run(mut self: Box<Self>) {
        let mut step = Step::Idle;
        loop {
            step = match step {
                Step::Idle => self.idle().await,
                Step::Connect => self.attempt().await,
                Step::Wait(pause) => self.wait(pause).await,
                Step::End => break,
            };
        }
        self.show(|status| {
            status.state = SocketState::Disconnected;
            status.transport = None;
            status.next_attempt_in = None;
        });
    }

    async fn idle(&mut self) -> Step {
        self.show(|status| {
            if status.state != SocketState::Failed {
                status.state = SocketState::Disconnected;
                status.error = None;
            }
            status.transport = None;
            status.next_attempt_in = None;
        });
        self.until(std::future::pending::<()>()).await.err().unwrap_or(Step::Idle)
    }

    async fn attempt(&mut self) -> Step {
        self.show(|status| {
            status.state = SocketState::Connecting;
            status.transport = None;
            status.next_attempt_in = None;
        });
        let over = match self.open().await {
            Ok((link, login)) => self.serve(link, login).await,
            Err(over) => over,
        };
        self.permit = None;
        let over = match over {
            Over::Failed(failure) => match self.learn_of_mute().await {
                Ok(()) => Over::Failed(failure),
                Err(told) => told,
            },
            told => told,
        };
        match over {
            Over::Told(step) => {
                self.told(step);
                step
            }
            Over::Failed(failure) => self.failed(&failure),
        }
    }

    /// Logs in and opens a transport, when it is this socket's turn.
    async fn open(&mut self) -> Result<(Link, crate::octoprint::Login), Over> {
        if let Some(turns) = self.options.turns.clone() {
            self.permit = Some(self.obeying(turns.take()).await?);
        }
        let limit = self.options.connect_timeout;
        let rest = self.rest.clone();
        let login = timeout(limit * LOGIN_STEPS, rest.login());
        let login = self.obeying(login).await?.map_err(|_| LoginError::Timeout)??;
        Ok((self.open_transport().await?, login))
    }

    /// Runs a future while obeying commands: one that ends the attempt ends the future too.
    pub(in crate::octoprint) async fn obeying<F: Future>(
        &mut self,
        future: F,
    ) -> Result<F::Output, Over> {
        let mut future = pin!(future);
        loop {
            match self.turn(&mut future).await {
                Turn::Ready(output) => return Ok(output),
                // Connecting already is what `connect` asks for.
                Turn::Command(Command::Connect) => {}
                Turn::Command(command) => {
                    if let Some(step) = self.unconnected(&command) {
                        return Err(Over::Told(step));
                    }
                }
            }
        }
    }

    /// Runs a future until it is done or a command says what to do instead.
    pub(in crate::octoprint) async fn until<F: Future>(
        &mut self,
        future: F,
    ) -> Result<F::Output, Step> {
        let mut future = pin!(future);
        loop {
            match self.turn(&mut future).await {
                Turn::Ready(output) => return Ok(output),
                Turn::Command(Command::Disconnect) => {
                    self.show(|status| status.state = SocketState::Disconnected);
                    return Err(Step::Idle);
                }
                Turn::Command(command) => {
                    if let Some(step) = self.unconnected(&command) {
                        return Err(step);
                    }
                }
            }
        }
    }

    /// What a command means while there is no connection.
    fn unconnected(&mut self, command: &Command) -> Option<Step> {
        match command {
            Command::Connect | Command::Reconnect => {
                self.backoff.reset();
                Some(Step::Connect)
            }
            Command::Disconnect => Some(Step::Idle),
            Command::Close => Some(Step::End),
            Command::RateChanged => None,
            #[cfg(test)]
            Command::Fail => None,
            Command::Send(_) => {
                tracing::debug!(url = self.url, "not connected: a message was not sent");
                None
            }
        }
    }

    /// One turn: drives the handlers' futures until `future` is done or a command comes.
    pub(in crate::octoprint) async fn turn<F: Future>(&mut self, future: F) -> Turn<F::Output> {
        let mut future = pin!(future);
        loop {
            self.follow_rate();
            let late = self.in_flight.next_late();
            tokio::select! {
                output = &mut future => return Turn::Ready(output),
                command = self.inbox.recv() => {
                    #[cfg(test)]
                    assert!(!matches!(command, Some(Command::Fail)), "a test");
                    // No sender left: all handles are gone.
                    return Turn::Command(command.unwrap_or(Command::Close));
                }
                Some((serial, took)) = self.running.next() => self.handled(serial, took),
                () = sleep_until(late.unwrap_or_else(Instant::now)), if late.is_some() => {
                    self.report_late();
                }
            }
        }
    }

    /// Hands a message to its handlers, and keeps `permit` until they are done.
    pub(in crate::octoprint) async fn dispatch(
        &mut self,
        message: Message,
        permit: Option<Permit>,
    ) {
        self.shared.count_message();
        let message = Arc::new(message);
        let Some(mut handled) = self.shared.handlers.call(&message) else {
            return;
        };
        self.follow_rate();
        self.messages += 1;
        let serial = self.messages;
        if self.shared.rate().mode == RateMode::Auto {
            self.in_flight.received(serial, message.received());
        }
        // The first poll happens here, so that handlers get going in the order of the messages.
        let first = poll_fn(|cx| Poll::Ready(handled.as_mut().poll(cx))).await;
        match first {
            Poll::Ready(took) => self.handled(serial, took),
            Poll::Pending => self.running.push(Box::pin(async move {
                let took = handled.await;
                drop(permit);
                (serial, took)
            })),
        }
    }

    /// Begins the measurements anew when the factor or its mode has changed.
    fn follow_rate(&mut self) {
        let rate = self.shared.rate();
        let generation = rate.generation();
        if generation != self.in_flight.generation() {
            self.in_flight = InFlight::new(generation, rate.throttle.interval());
        }
    }

    /// A message's handlers are done, having taken `took` if that is to be measured.
    fn handled(&mut self, serial: u64, took: Option<Duration>) {
        self.follow_rate();
        let counts = self.in_flight.finished(serial);
        let Some(took) = took else {
            return;
        };
        self.latency.record(took);
        self.show_latency();
        if counts {
            self.record(took);
        }
    }

    fn report_late(&mut self) {
        // Only the first: it may change the factor, and then the others do not count any more.
        if let Some(waited) = self.in_flight.take_late(Instant::now()) {
            self.record(waited);
        }
    }

    fn record(&mut self, took: Duration) {
        let rate = self.shared.rate().throttle.record(took);
        let (Some(rate), Some(socket)) = (rate, Socket::upgrade(&self.handle)) else {
            return;
        };
        match rate {
            Rate::TooHigh { measured, maximum } => {
                tracing::debug!(url = self.url, ?measured, ?maximum, "messages come too fast");
            }
            Rate::TooLow { measured, minimum } => {
                tracing::debug!(url = self.url, ?measured, ?minimum, "messages may come faster");
            }
        }
        self.shared.call_hook(&socket, rate);
    }

    fn show_latency(&mut self) {
        let now = Instant::now();
        if self.latency_shown.is_some_and(|shown| now - shown < SHOW_LATENCY_EVERY) {
            return;
        }
        self.latency_shown = Some(now);
        let median = self.latency.median();
        self.show(|status| status.publish_latency = median);
    }

    /// Changes the status; who watches it is woken only if it did change.
    pub(in crate::octoprint) fn show(&self, change: impl FnOnce(&mut Status)) {
        self.shared.status.send_if_modified(|status| {
            let before = status.clone();
            change(status);
            *status != before
        });
    }

    /// A new connection's number.
    pub(in crate::octoprint) fn next_connection(&mut self) -> u64 {
        self.connections += 1;
        self.connections
    }

    /// The login is proven.
    pub(in crate::octoprint) fn connected(&mut self, transport: Transport) {
        if self.connected_before {
            self.shared.count_reconnect();
        }
        self.connected_before = true;
        self.last_failure = None;
        self.knocking.connected();
        (self.knocker, self.closed_at, self.lost) = (None, None, false);
        self.show(|status| {
            status.state = SocketState::Connected;
            status.gone = false;
            status.transport = Some(transport);
            status.error = None;
        });
        tracing::info!(url = self.url, transport = transport.as_str(), "connected to OctoPrint");
    }

    fn told(&mut self, step: Step) {
        match step {
            Step::Connect => tracing::info!(url = self.url, "reconnecting as told"),
            _ => tracing::info!(url = self.url, "disconnected as told"),
        }
        self.last_failure = None;
    }

    /// Says once what went wrong and what comes next.
    fn failed(&mut self, failure: &Failure) -> Step {
        let text = match failure {
            Failure::Login(error) => self.options.credentials.told(error),
            other => other.to_string(),
        };
        let pause = failure.pause(self.options.refused_pause);
        let pause = pause.or_else(|| self.backoff.next_timeout());
        if failure.unreached() && !self.lost && pause.is_some() {
            self.knocking.unreached(fastrand::f64(), Instant::now());
        } else {
            self.knocking.out_of_place();
        }
        // Whoever refuses who asks is there, and is not to be asked again soon.
        self.lost &= !failure.refused();
        let next = match pause {
            Some(pause) => format!("next attempt in {}", humantime::format_duration(pause)),
            None => "giving up until told to reconnect".to_owned(),
        };
        if self.last_failure.as_ref() == Some(&text) && pause.is_some() {
            tracing::debug!(url = self.url, "{text}; {next}");
        } else {
            tracing::warn!(url = self.url, "{text}; {next}");
        }
        let attempt = self.backoff.attempts();
        self.show(|status| {
            status.state = if pause.is_some() { SocketState::Waiting } else { SocketState::Failed };
            status.transport = None;
            status.attempt = attempt;
            status.next_attempt_in = pause;
            status.error = Some(text.clone());
        });
        self.show_gone();
        self.last_failure = Some(text);
        pause.map_or(Step::Idle, Step::Wait)
    }
}
