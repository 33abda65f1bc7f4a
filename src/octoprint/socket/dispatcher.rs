//! What a socket's task does whether connected or not: it obeys, drives the handlers' futures,
//! measures how long they take, and shows how things are.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::handlers::{Entry, HandlerId, Handlers};
use super::in_flight::Latency;
use super::options::SocketOptions;
use super::rate::{RateChange, RateControl};
use super::status::{Counts, RateMode, Status};
use crate::octoprint::wire::message::Message;

/// How often the latency in the status is renewed at most.
const SHOW_LATENCY_EVERY: Duration = Duration::from_secs(1);

/// What a handle asks of the task.
pub(super) enum Command {
    Order(Order),
    /// A SockJS frame to be sent.
    Send(String),
    Add(Box<Entry>),
    Remove(HandlerId),
    Rate(RateChange),
    #[cfg(test)]
    Fail,
}

/// What becomes of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Connect,
    Reconnect,
    Disconnect,
    Close,
}

/// What a turn of the task brought.
pub(super) enum Turn<T> {
    Ready(T),
    Order(Order),
    Send(String),
    /// Another throttle factor is in force.
    RateChanged,
}

pub(super) struct Dispatcher {
    inbox: mpsc::UnboundedReceiver<Command>,
    /// Orders and frames that came while messages were handed out.
    later: VecDeque<Command>,
    status: watch::Sender<Status>,
    counts: Arc<Counts>,
    handlers: Handlers,
    running: FuturesUnordered<BoxFuture<'static, (u64, Option<Duration>)>>,
    rate: RateControl,
    rate_shown: (RateMode, u32),
    rate_changed: bool,
    latency: Latency,
    latency_shown: Option<Instant>,
    messages: u64,
}

impl Dispatcher {
    pub(super) fn new(
        options: &SocketOptions,
        inbox: mpsc::UnboundedReceiver<Command>,
        status: watch::Sender<Status>,
        counts: Arc<Counts>,
    ) -> Self {
        let window = options.rate_sliding_window_size;
        let rate = RateControl::new(window, options.max_rate_factor);
        Self {
            inbox,
            later: VecDeque::new(),
            status,
            counts,
            handlers: Handlers::default(),
            running: FuturesUnordered::new(),
            rate_shown: rate.in_force(),
            rate,
            rate_changed: false,
            latency: Latency::new(window),
            latency_shown: None,
            messages: 0,
        }
    }

    /// Runs a future to its end, unless an order comes first. While connecting already, `connect`
    /// is none.
    pub(super) async fn until<F: Future>(
        &mut self,
        connecting: bool,
        future: F,
    ) -> Result<F::Output, Order> {
        let mut future = pin!(future);
        loop {
            match self.turn(&mut future).await {
                Turn::Ready(output) => return Ok(output),
                Turn::Order(Order::Connect) if connecting => {}
                Turn::Order(order) => return Err(order),
                Turn::Send(_) => tracing::debug!("not connected; dropped a message to OctoPrint"),
                Turn::RateChanged => {}
            }
        }
    }

    /// One turn: drives the handlers' futures until `future` is done or something is asked for.
    pub(super) async fn turn<F: Future>(&mut self, future: F) -> Turn<F::Output> {
        let mut future = pin!(future);
        loop {
            self.obey();
            if std::mem::take(&mut self.rate_changed) {
                return Turn::RateChanged;
            }
            match self.later.pop_front() {
                Some(Command::Order(order)) => return Turn::Order(order),
                Some(Command::Send(text)) => return Turn::Send(text),
                _ => {}
            }
            let late = self.rate.next_late();
            tokio::select! {
                output = &mut future => return Turn::Ready(output),
                command = self.inbox.recv() => match command {
                    Some(command) => self.take(command),
                    // No sender left: all handles are gone.
                    None => return Turn::Order(Order::Close),
                },
                Some((serial, took)) = self.running.next() => self.handled(serial, took),
                () = sleep_until(late.unwrap_or_else(Instant::now)), if late.is_some() => {
                    self.obey();
                    self.rate.record_late();
                    self.show_rate();
                }
            }
        }
    }

    /// Takes what has been asked for until now. What changes handlers and rate is done at once, in
    /// order; the rest is for the next turn.
    fn obey(&mut self) {
        while let Ok(command) = self.inbox.try_recv() {
            self.take(command);
        }
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Add(entry) => self.handlers.add(*entry),
            Command::Remove(id) => self.handlers.remove(id),
            Command::Rate(change) => {
                self.rate.change(change);
                self.show_rate();
            }
            Command::Order(_) | Command::Send(_) => self.later.push_back(command),
            #[cfg(test)]
            Command::Fail => panic!("a test"),
        }
    }

    /// Hands a message to its handlers.
    pub(super) async fn dispatch(&mut self, message: Message) {
        self.counts.messages.fetch_add(1, Ordering::Relaxed);
        self.obey();
        let message = Arc::new(message);
        let Some(mut handled) = self.handlers.call(&message) else {
            return;
        };
        self.messages += 1;
        let serial = self.messages;
        self.rate.received(serial, message.received());
        // The first poll happens here, so that handlers get going in the order of the messages.
        let first = poll_fn(|cx| Poll::Ready(handled.as_mut().poll(cx))).await;
        match first {
            Poll::Ready(took) => self.handled(serial, took),
            Poll::Pending => self.running.push(handled.map(move |took| (serial, took)).boxed()),
        }
    }

    /// A message's handlers are done, having taken `took` if that is to be measured.
    fn handled(&mut self, serial: u64, took: Option<Duration>) {
        self.obey();
        if let Some(took) = took {
            self.latency.record(took);
            self.show_latency();
        }
        self.rate.finished(serial, took);
        self.show_rate();
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

    fn show_rate(&mut self) {
        let in_force = self.rate.in_force();
        if std::mem::replace(&mut self.rate_shown, in_force) != in_force {
            self.rate_changed = true;
            self.show(|status| (status.rate_mode, status.rate_factor) = in_force);
        }
    }

    /// The throttle factor in force.
    pub(super) fn factor(&self) -> u32 {
        self.rate.in_force().1
    }

    pub(super) fn count_decode_error(&self) {
        self.counts.decode_errors.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_reconnect(&self) {
        self.counts.reconnects.fetch_add(1, Ordering::Relaxed);
    }

    /// Changes the status; who watches it is woken only if it did change.
    pub(super) fn show(&self, change: impl FnOnce(&mut Status)) {
        self.status.send_if_modified(|status| {
            let before = status.clone();
            change(status);
            *status != before
        });
    }
}
