//! The part of a socket's task that runs with and without a connection: it executes commands,
//! dispatches messages, measures processing times, and publishes the status.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::options::SocketOptions;
use super::rate::{RateChange, RateControl};
use super::status::{AtomicCounters, RateMode, Status};
use crate::octoprint::wire::message::Message;
use crate::receipt::{Receipt, Settled};

/// Minimum interval between updates of the latency in the status.
const SHOW_LATENCY_EVERY: Duration = Duration::from_secs(1);

/// The messages of a socket in order, from [`Socket::messages`](super::handle::Socket::messages).
///
/// Each comes with a receipt. [`Receipt::acknowledge`] marks a message as processed, and the time
/// from its arrival until then controls the throttle. A receipt may be cloned for parts of the work:
/// the last acknowledgement counts. A receipt that is dropped is not measured.
///
/// The queue is unbounded, so no message is lost. A message that waits for too long counts as late
/// and makes OctoPrint push less often.
#[derive(Debug)]
pub struct Messages(mpsc::UnboundedReceiver<MessageDelivery>);

/// Boxed, because a channel allocates 32 slots at once and is mostly empty.
type MessageDelivery = Box<(Message, Receipt)>;

impl Messages {
    /// Waits for the next message; `None` when the socket's task has ended and no message is left.
    /// Cancel-safe.
    pub async fn recv(&mut self) -> Option<(Message, Receipt)> {
        self.0.recv().await.map(|received| *received)
    }

    /// Returns the next message if one is queued.
    pub fn try_recv(&mut self) -> Option<(Message, Receipt)> {
        self.0.try_recv().ok().map(|received| *received)
    }
}

pub(super) enum SocketCommand {
    Order(Order),
    Send(String),
    /// Adds a receiver of all messages from now on.
    Listen(mpsc::UnboundedSender<MessageDelivery>),
    Rate(RateChange),
    #[cfg(test)]
    Fail,
}

impl SocketCommand {
    pub(super) fn listen() -> (Self, Messages) {
        let (sender, messages) = mpsc::unbounded_channel();
        (Self::Listen(sender), Messages(messages))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Connect,
    Reconnect,
    Disconnect,
    Close,
}

/// The next thing that the connecting part of the task has to handle.
pub(super) enum TaskEvent<T> {
    Ready(T),
    Order(Order),
    Send(String),
    RateChanged,
}

pub(super) struct Dispatcher {
    inbox: mpsc::UnboundedReceiver<SocketCommand>,
    /// Orders and frames that are left for [`Dispatcher::next_event`].
    deferred: VecDeque<SocketCommand>,
    status: watch::Sender<Status>,
    counts: Arc<AtomicCounters>,
    listeners: Vec<mpsc::UnboundedSender<MessageDelivery>>,
    /// The channel on which receipts report; the sender is cloned for each of them.
    settled: (mpsc::UnboundedSender<Settled>, mpsc::UnboundedReceiver<Settled>),
    rate: RateControl,
    rate_shown: (RateMode, u32),
    rate_changed: bool,
    latency_shown: Option<Instant>,
    messages: u64,
}

impl Dispatcher {
    pub(super) fn new(
        options: &SocketOptions,
        inbox: mpsc::UnboundedReceiver<SocketCommand>,
        status: watch::Sender<Status>,
        counts: Arc<AtomicCounters>,
    ) -> Self {
        let rate = RateControl::new(options.rate_sliding_window_size, options.max_rate_factor);
        Self {
            inbox,
            deferred: VecDeque::new(),
            status,
            counts,
            listeners: Vec::new(),
            settled: mpsc::unbounded_channel(),
            rate_shown: rate.in_force(),
            rate,
            rate_changed: false,
            latency_shown: None,
            messages: 0,
        }
    }

    /// Runs a future to completion, unless an order comes first. `connecting` ignores the order to
    /// connect.
    pub(super) async fn run_unless_ordered<F: Future>(
        &mut self,
        connecting: bool,
        future: F,
    ) -> Result<F::Output, Order> {
        let mut future = pin!(future);
        loop {
            match self.next_event(&mut future).await {
                TaskEvent::Ready(output) => return Ok(output),
                TaskEvent::Order(Order::Connect) if connecting => {}
                TaskEvent::Order(order) => return Err(order),
                TaskEvent::Send(_) => {
                    tracing::debug!("not connected; dropped a message to OctoPrint");
                }
                TaskEvent::RateChanged => {}
            }
        }
    }

    /// Measures processing times until `future` is done or a command comes.
    pub(super) async fn next_event<F: Future>(&mut self, future: F) -> TaskEvent<F::Output> {
        let mut future = pin!(future);
        loop {
            self.apply_commands();
            if std::mem::take(&mut self.rate_changed) {
                return TaskEvent::RateChanged;
            }
            match self.deferred.pop_front() {
                Some(SocketCommand::Order(order)) => return TaskEvent::Order(order),
                Some(SocketCommand::Send(text)) => return TaskEvent::Send(text),
                _ => {}
            }
            let late = self.rate.next_late();
            tokio::select! {
                output = &mut future => return TaskEvent::Ready(output),
                command = self.inbox.recv() => match command {
                    Some(command) => self.accept(command),
                    // All handles were dropped.
                    None => return TaskEvent::Order(Order::Close),
                },
                Some(settled) = self.settled.1.recv() => self.settle(settled),
                () = sleep_until(late.unwrap_or_else(Instant::now)), if late.is_some() => {
                    self.apply_commands();
                    self.rate.record_late();
                    self.show_rate();
                }
            }
        }
    }

    /// Executes all queued commands in order, except orders and frames, which are deferred.
    fn apply_commands(&mut self) {
        while let Ok(command) = self.inbox.try_recv() {
            self.accept(command);
        }
    }

    fn accept(&mut self, command: SocketCommand) {
        match command {
            SocketCommand::Listen(listener) => self.listeners.push(listener),
            SocketCommand::Rate(change) => {
                self.rate.change(change);
                self.show_rate();
            }
            SocketCommand::Order(_) | SocketCommand::Send(_) => self.deferred.push_back(command),
            #[cfg(test)]
            SocketCommand::Fail => panic!("a test"),
        }
    }

    pub(super) fn dispatch(&mut self, message: &Message) {
        self.counts.messages.fetch_add(1, Ordering::Relaxed);
        self.apply_commands();
        self.messages += 1;
        let (serial, received) = (self.messages, message.received());
        self.rate.received(serial, received);
        let receipt = Receipt::new(serial, received, self.settled.0.clone());
        self.listeners
            .retain(|listener| listener.send((message.clone(), receipt.clone()).into()).is_ok());
    }

    fn settle(&mut self, settled: Settled) {
        self.apply_commands();
        self.rate.settled(settled);
        if settled.took.is_some() {
            self.show_latency();
        }
        self.show_rate();
    }

    fn show_latency(&mut self) {
        let now = Instant::now();
        if self.latency_shown.is_some_and(|shown| now - shown < SHOW_LATENCY_EVERY) {
            return;
        }
        self.latency_shown = Some(now);
        let median = self.rate.latency();
        self.update_status(|status| status.publish_latency = median);
    }

    fn show_rate(&mut self) {
        let in_force = self.rate.in_force();
        if std::mem::replace(&mut self.rate_shown, in_force) != in_force {
            self.rate_changed = true;
            self.update_status(|status| (status.rate_mode, status.rate_factor) = in_force);
        }
    }

    pub(super) fn factor(&self) -> u32 {
        self.rate.in_force().1
    }

    pub(super) fn count_decode_error(&self) {
        self.counts.decode_errors.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_reconnect(&self) {
        self.counts.reconnects.fetch_add(1, Ordering::Relaxed);
    }

    /// Changes the status. Watchers are notified only if it differs.
    pub(super) fn update_status(&self, change: impl FnOnce(&mut Status)) {
        self.status.send_if_modified(|status| {
            let before = status.clone();
            change(status);
            *status != before
        });
    }
}
