//! The push socket's handle.

use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use futures_util::FutureExt;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use super::connector::Connector;
use super::dispatcher::{Dispatcher, Messages, Order, SocketCommand};
use super::handlers::{Handled, HandlerChange, HandlerId, Handlers, RegisteredHandler};
use super::options::SocketOptions;
use super::rate::{RateChange, RateHook};
use super::status::{AtomicCounters, Counters, RateMode, SocketState, Status};
use crate::octoprint::rest::client::Rest;
use crate::octoprint::rest::error::BuildError;
use crate::octoprint::wire::frame;
use crate::octoprint::wire::message::Message;
use crate::secret::Secret;

/// OctoPrint's push socket. A cheap handle: clones refer to the same socket.
///
/// The socket runs in its own task, which ends with [`Socket::close`] or when the last handle is
/// dropped. Messages are available as a stream ([`Socket::messages`]) and to handlers
/// ([`Socket::on_message`]). A handler that captures a handle keeps the socket alive, so such a
/// socket must be closed.
#[derive(Clone)]
pub struct Socket {
    handle: Arc<Handle>,
}

struct Handle {
    rest: Rest,
    commands: mpsc::UnboundedSender<SocketCommand>,
    /// Shared with the task, so that it can be watched after the task has ended.
    status: watch::Sender<Status>,
    counts: Arc<AtomicCounters>,
    /// To the task of the handlers, which starts with the first of them.
    handlers: OnceLock<mpsc::UnboundedSender<HandlerChange>>,
    last_id: AtomicU64,
    runtime: tokio::runtime::Handle,
    tasks: TaskTracker,
}

impl Socket {
    /// Creates a disconnected socket whose task runs on the current tokio runtime.
    ///
    /// # Errors
    /// [`BuildError`] if an option is invalid or there is no runtime.
    pub fn new(options: SocketOptions) -> Result<Self, BuildError> {
        let rest = Rest::new(options.rest.clone())?;
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| BuildError::NoRuntime)?;
        let (commands, inbox) = mpsc::unbounded_channel();
        let (status, counts) =
            (watch::Sender::new(Status::default()), Arc::<AtomicCounters>::default());
        let dispatcher = Dispatcher::new(&options, inbox, status.clone(), Arc::clone(&counts));
        let connector = Box::new(Connector::new(options, rest.clone(), dispatcher));
        let tasks = TaskTracker::new();
        let task = watched(status.clone(), connector.run()).in_current_span();
        tasks.spawn_on(task, &runtime);
        let (handlers, last_id) = Default::default();
        let handle = Handle { rest, commands, status, counts, handlers, last_id, runtime, tasks };
        Ok(Self { handle: Arc::new(handle) })
    }

    /// Connects, unless connected or connecting already. From then on the socket reconnects by
    /// itself: see [`SocketOptions::timeouts`].
    ///
    /// OctoPrint's JavaScript client accepts options of SockJS here. Their counterparts,
    /// [`SocketOptions::transport`] and [`SocketOptions::rest`], apply to REST calls too, so they
    /// belong to the socket and not to one attempt.
    pub fn connect(&self) {
        self.command(SocketCommand::Order(Order::Connect));
    }

    /// Drops the connection, if any, and connects immediately in any state. Restarts the list of
    /// timeouts.
    pub fn reconnect(&self) {
        self.command(SocketCommand::Order(Order::Reconnect));
    }

    /// Closes the connection with code 1000 and stays disconnected.
    pub fn disconnect(&self) {
        self.command(SocketCommand::Order(Order::Disconnect));
    }

    /// Returns a stream of all messages from now on, in order, each with a receipt. Each call returns
    /// an independent stream.
    pub fn messages(&self) -> Messages {
        let (listen, messages) = SocketCommand::listen();
        self.command(listen);
        messages
    }

    /// Registers a handler for messages of type `kind`, or for every message with `"*"`.
    ///
    /// For each message the `*` handlers are called first, then those of its type, each in order
    /// of registration. Handlers are called in the order of the messages and must not block; slow
    /// work belongs in the returned future. Futures run concurrently within one task and do not delay
    /// later messages. A panic in one of them does not affect the others.
    pub fn on_message<F, Fut>(&self, kind: &str, handler: F) -> HandlerId
    where
        F: Fn(Arc<Message>) -> Fut + Send + 'static,
        Fut: Future<Output = Handled> + Send + 'static,
    {
        let Handle { handlers, last_id, runtime, tasks, .. } = &*self.handle;
        let id = HandlerId(last_id.fetch_add(1, Ordering::Relaxed) + 1);
        let handlers = handlers.get_or_init(|| {
            let (changes, changed) = mpsc::unbounded_channel();
            let run = Handlers::default().run(changed, self.messages());
            tasks.spawn_on(run.in_current_span(), runtime);
            changes
        });
        // Fails only after the end of the socket.
        let _ = handlers.send(HandlerChange::Add(RegisteredHandler::new(id, kind, handler)));
        id
    }

    /// Removes a handler. Returns `false` if there is none of that kind and id. The handler is not
    /// called any more once this has returned.
    pub async fn remove_message(&self, kind: &str, id: HandlerId) -> bool {
        let Some(handlers) = self.handle.handlers.get() else { return false };
        let (answer, answered) = oneshot::channel();
        let change = HandlerChange::Remove { kind: kind.to_owned(), id, answer };
        handlers.send(change).is_ok() && answered.await.unwrap_or(false)
    }

    /// Sends `{kind: payload}` to OctoPrint. Dropped if there is no connection.
    ///
    /// OctoPrint closes the connection if the payload has an unexpected type.
    pub fn send_message(&self, kind: &str, payload: &Value) {
        self.command(SocketCommand::Send(frame::encode(kind, payload)));
    }

    /// Sends `{"auth": "user:session"}`. The socket does this by itself when it connects.
    pub fn send_auth(&self, user: &str, session: &Secret) {
        self.command(SocketCommand::Send(frame::auth(user, session)));
    }

    /// Replaces the reaction to a rate that could be higher. The hook gets the largest processing time
    /// in the window and the limit that it is under. The default calls [`Socket::increase_rate`].
    pub fn on_rate_too_low(
        &self,
        hook: impl Fn(&Self, Duration, Duration) + Send + Sync + 'static,
    ) {
        self.change_rate(RateChange::OnTooLow(self.hook(hook)));
    }

    /// Replaces the reaction to messages that come faster than they are processed. The hook gets the
    /// processing time and the limit that it is over. The default calls [`Socket::decrease_rate`].
    pub fn on_rate_too_high(
        &self,
        hook: impl Fn(&Self, Duration, Duration) + Send + Sync + 'static,
    ) {
        self.change_rate(RateChange::OnTooHigh(self.hook(hook)));
    }

    /// Sets a hook that is called with each measured processing time.
    pub fn on_measured(&self, hook: impl Fn(Duration) + Send + 'static) {
        self.change_rate(RateChange::OnMeasured(Box::new(hook)));
    }

    /// Decreases the throttle factor by one, to 1 at least: pushes come 500 ms closer together.
    pub fn increase_rate(&self) {
        self.change_rate(RateChange::Increase);
    }

    /// Increases the throttle factor by one, to the maximum at most: pushes come 500 ms further apart.
    pub fn decrease_rate(&self) {
        self.change_rate(RateChange::Decrease);
    }

    /// Sets the mode of the throttle. [`RateMode::Manual`] fixes the factor, clamped between 1 and
    /// the maximum; [`RateMode::Auto`] continues from the factor in force. Survives reconnects.
    pub fn set_rate(&self, mode: RateMode) {
        self.change_rate(RateChange::Mode(mode));
    }

    /// Switches to [`RateMode::Manual`] with the factor in force.
    pub fn hold_rate(&self) {
        self.change_rate(RateChange::Hold);
    }

    /// Returns the mode and the factor in force, as in the status: a recent change may not be in
    /// force yet.
    pub fn rate(&self) -> (RateMode, u32) {
        let status = self.handle.status.borrow();
        (status.rate_mode, status.rate_factor)
    }

    /// Discards the measurements of all messages received so far. For use after the handlers waited
    /// for something that was unavailable.
    pub fn restart_measurements(&self) {
        self.change_rate(RateChange::Restart);
    }

    /// Returns a receiver of the socket's status.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.handle.status.subscribe()
    }

    /// Counts a decode error, for a message that a handler could not read.
    pub fn count_decode_error(&self) {
        self.handle.counts.decode_errors.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the current counters.
    pub fn counters(&self) -> Counters {
        self.handle.counts.read()
    }

    /// Returns a REST client that shares this socket's login.
    pub fn rest(&self) -> Rest {
        self.handle.rest.clone()
    }

    /// Closes the connection and waits for the socket's task to end. Unfinished handlers are dropped.
    /// Later calls have no effect.
    pub async fn close(&self) {
        self.command(SocketCommand::Order(Order::Close));
        self.handle.tasks.close();
        self.handle.tasks.wait().await;
    }

    /// Whether the socket's task has ended: it was closed, or it panicked, which the status shows as
    /// [`SocketState::Failed`]. Only a new socket can connect again.
    pub fn has_ended(&self) -> bool {
        self.handle.commands.is_closed()
    }

    #[cfg(test)]
    pub(crate) fn fail(&self) {
        self.command(SocketCommand::Fail);
    }

    /// Wraps a hook for the task, so that it does not keep the socket alive.
    fn hook(&self, hook: impl Fn(&Self, Duration, Duration) + Send + 'static) -> RateHook {
        let handle = Arc::downgrade(&self.handle);
        Box::new(move |measured, limit| {
            if let Some(handle) = Weak::upgrade(&handle) {
                hook(&Self { handle }, measured, limit);
            }
        })
    }

    fn change_rate(&self, change: RateChange) {
        self.command(SocketCommand::Rate(change));
    }

    fn command(&self, command: SocketCommand) {
        // Fails only after the end of the task.
        let _ = self.handle.commands.send(command);
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.handle.status.borrow();
        f.debug_struct("Socket").field("state", &status.state).finish_non_exhaustive()
    }
}

/// Runs the task of a socket, and updates the status if it panics.
async fn watched(status: watch::Sender<Status>, task: impl Future<Output = ()>) {
    if AssertUnwindSafe(task).catch_unwind().await.is_err() {
        status.send_modify(|status| {
            status.state = SocketState::Failed;
            status.transport = None;
            status.next_attempt_in = None;
            status.error = Some("the socket's task panicked, which is a bug".to_owned());
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::octoprint::rest::login::Credentials;

    #[tokio::test]
    async fn a_panicked_task_has_failed() {
        crate::tls::install_provider();
        let tls = rustls::ClientConfig::builder()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let key = Credentials::ApiKey(Secret::new("k"));
        let url = "http://127.0.0.1:9/".parse().unwrap();
        let socket = Socket::new(SocketOptions::new(url, key, Arc::new(tls))).unwrap();
        assert!(!socket.has_ended());
        let mut status = socket.status();
        socket.fail();
        let failed = status.wait_for(|status| status.state == SocketState::Failed).await.unwrap();
        assert!(failed.error.as_ref().unwrap().contains("panicked"), "{failed:?}");
        drop(failed);
        assert!(socket.has_ended());
        // Returns although the task has ended.
        socket.close().await;
    }
}
