//! The push socket's handle.

use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Once, Weak};
use std::time::Duration;

use futures_util::FutureExt;
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use super::connector::Connector;
use super::dispatcher::{Dispatcher, Messages, Order, SocketCommand};
use super::handlers::{Handled, HandlerId, Handlers, RegisteredHandler};
use super::options::SocketOptions;
use super::rate::{RateChange, RateHook};
use super::status::{AtomicCounters, Counters, RateMode, SocketState, Status};
use crate::octoprint::rest::client::Rest;
use crate::octoprint::rest::error::BuildError;
use crate::octoprint::rest::http::{self, HttpClient};
use crate::octoprint::rest::login::Credentials;
use crate::octoprint::wire::frame;
use crate::octoprint::wire::message::Message;
use crate::secret::Secret;

/// OctoPrint's push socket. A cheap handle: clones stand for the same socket.
///
/// The socket lives in a task of its own, which ends with [`Socket::close`] or when the last handle
/// is gone. Its messages are there as a stream ([`Socket::messages`]) and for handlers
/// ([`Socket::on_message`]). A handler that captures a handle keeps the socket alive: close such a
/// socket.
#[derive(Clone)]
pub struct Socket {
    handle: Arc<Handle>,
}

/// What all clones of a socket hold.
struct Handle {
    rest: Rest,
    commands: mpsc::UnboundedSender<SocketCommand>,
    /// The task's; watched from here for as long as there is a handle.
    status: watch::Sender<Status>,
    counts: Arc<AtomicCounters>,
    handlers: Arc<Handlers>,
    handlers_run: Once,
    last_id: AtomicU64,
    runtime: tokio::runtime::Handle,
    tasks: TaskTracker,
}

impl Socket {
    /// Makes a socket, not connected yet, whose task runs on the current tokio runtime.
    ///
    /// # Errors
    /// [`BuildError`] when an option is unusable or there is no runtime.
    pub fn new(options: SocketOptions) -> Result<Self, BuildError> {
        check(&options)?;
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| BuildError::NoRuntime)?;
        let http = HttpClient::new(
            options.url.clone(),
            &options.tls,
            &options.headers,
            options.proxy.as_ref(),
            options.connect_timeout,
        )?;
        let rest = Rest::new(http, options.credentials.clone(), options.refused_pause);
        let (commands, inbox) = mpsc::unbounded_channel();
        let (status, counts) =
            (watch::Sender::new(Status::default()), Arc::<AtomicCounters>::default());
        let dispatcher = Dispatcher::new(&options, inbox, status.clone(), Arc::clone(&counts));
        let connector = Box::new(Connector::new(options, rest.clone(), dispatcher));
        let tasks = TaskTracker::new();
        let task = watched(status.clone(), connector.run()).in_current_span();
        tasks.spawn_on(task, &runtime);
        let (handlers, last_id) = Default::default();
        let handlers_run = Once::new();
        let handle = Handle {
            rest,
            commands,
            status,
            counts,
            handlers,
            handlers_run,
            last_id,
            runtime,
            tasks,
        };
        Ok(Self { handle: Arc::new(handle) })
    }

    /// Connects, unless connected or connecting already. From then on the connection is kept up:
    /// see [`SocketOptions::timeouts`].
    ///
    /// What OctoPrint's JavaScript client takes as options of SockJS here are
    /// [`SocketOptions::transport`], [`SocketOptions::connect_timeout`],
    /// [`SocketOptions::headers`], [`SocketOptions::proxy`] and [`SocketOptions::tls`]: they hold
    /// for the REST calls too, so they belong to the socket and not to one attempt.
    pub fn connect(&self) {
        self.command(SocketCommand::Order(Order::Connect));
    }

    /// Drops the connection, if there is one, and connects at once, in whatever state; the list of
    /// timeouts starts anew.
    pub fn reconnect(&self) {
        self.command(SocketCommand::Order(Order::Reconnect));
    }

    /// Closes the connection with code 1000 and stays disconnected.
    pub fn disconnect(&self) {
        self.command(SocketCommand::Order(Order::Disconnect));
    }

    /// All messages from now on, in their order, each with the receipt that tells the socket when
    /// it was dealt with. Who asks twice has them twice.
    pub fn messages(&self) -> Messages {
        let (listen, messages) = SocketCommand::listen();
        self.command(listen);
        messages
    }

    /// Registers a handler for messages of type `kind`, or for every message with `"*"`.
    ///
    /// For each message the `*` handlers are called first, then those of its type, each in order
    /// of registration. A handler is called in the order of the messages and must not block; what
    /// takes time belongs into its future. Futures run side by side within one task, and do not
    /// hold up later messages. A panic in one of them harms nothing else.
    pub fn on_message<F, Fut>(&self, kind: &str, handler: F) -> HandlerId
    where
        F: Fn(Arc<Message>) -> Fut + Send + 'static,
        Fut: Future<Output = Handled> + Send + 'static,
    {
        let Handle { handlers, handlers_run, last_id, runtime, tasks, .. } = &*self.handle;
        let id = HandlerId(last_id.fetch_add(1, Ordering::Relaxed) + 1);
        handlers.add(RegisteredHandler::new(id, kind, handler));
        handlers_run.call_once(|| {
            let run = Arc::clone(handlers).run(self.messages());
            tasks.spawn_on(run.in_current_span(), runtime);
        });
        id
    }

    /// Removes a handler. `false`: there is none of that kind and id.
    pub fn remove_message(&self, kind: &str, id: HandlerId) -> bool {
        self.handle.handlers.remove(kind, id)
    }

    /// Sends `{kind: payload}` to OctoPrint. Dropped when there is no connection.
    ///
    /// OctoPrint ends the connection at a payload of a type it does not expect.
    pub fn send_message(&self, kind: &str, payload: &Value) {
        self.command(SocketCommand::Send(frame::encode(kind, payload)));
    }

    /// Sends `{"auth": "user:session"}`. The socket does that by itself when it connects.
    pub fn send_auth(&self, user: &str, session: &Secret) {
        self.command(SocketCommand::Send(frame::auth(user, session)));
    }

    /// Replaces what happens when messages could come faster: called with the largest processing
    /// time in the window, and the limit that it is under. The default calls
    /// [`Socket::increase_rate`].
    pub fn on_rate_too_low(
        &self,
        hook: impl Fn(&Self, Duration, Duration) + Send + Sync + 'static,
    ) {
        self.change_rate(RateChange::OnTooLow(self.hook(hook)));
    }

    /// Replaces what happens when messages come faster than they are dealt with: called with the
    /// processing time, and the limit that it is over. The default calls
    /// [`Socket::decrease_rate`].
    pub fn on_rate_too_high(
        &self,
        hook: impl Fn(&Self, Duration, Duration) + Send + Sync + 'static,
    ) {
        self.change_rate(RateChange::OnTooHigh(self.hook(hook)));
    }

    /// Has `hook` called with each processing time that is measured.
    pub fn on_measured(&self, hook: impl Fn(Duration) + Send + 'static) {
        self.change_rate(RateChange::OnMeasured(Box::new(hook)));
    }

    /// One step of 500 ms faster: the throttle factor less one, never under 1.
    pub fn increase_rate(&self) {
        self.change_rate(RateChange::Increase);
    }

    /// One step of 500 ms slower: the throttle factor and one, never over the maximum.
    pub fn decrease_rate(&self) {
        self.change_rate(RateChange::Decrease);
    }

    /// Says who sets the throttle factor. [`RateMode::Manual`] sets it (kept between 1 and the
    /// maximum) and nothing changes it by itself; [`RateMode::Auto`] goes on from the factor in
    /// force. Either survives a reconnect.
    pub fn set_rate(&self, mode: RateMode) {
        self.change_rate(RateChange::Mode(mode));
    }

    /// From now on nothing but [`Socket::set_rate`], [`Socket::increase_rate`] and
    /// [`Socket::decrease_rate`] changes the throttle factor that is in force.
    pub fn hold_rate(&self) {
        self.change_rate(RateChange::Hold);
    }

    /// Who sets the throttle factor, and the factor in force, as in the status: what has just been
    /// asked for may not be in force yet.
    pub fn rate(&self) -> (RateMode, u32) {
        let status = self.handle.status.borrow();
        (status.rate_mode, status.rate_factor)
    }

    /// Forgets the measurements: what was received until now is not measured any more. For when
    /// what the handlers wait for was away and has come back.
    pub fn restart_measurements(&self) {
        self.change_rate(RateChange::Restart);
    }

    /// The socket's status, as it changes.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.handle.status.subscribe()
    }

    /// AtomicCounters a message that a handler could not read among the decode errors.
    pub fn count_decode_error(&self) {
        self.handle.counts.decode_errors.fetch_add(1, Ordering::Relaxed);
    }

    /// What has been counted so far.
    pub fn counters(&self) -> Counters {
        self.handle.counts.read()
    }

    /// REST calls that share this socket's login.
    pub fn rest(&self) -> Rest {
        self.handle.rest.clone()
    }

    /// Closes the connection, ends the socket's task and waits for that. Handlers that are not
    /// done by then are dropped. Afterwards every call is without effect.
    pub async fn close(&self) {
        self.command(SocketCommand::Order(Order::Close));
        self.handle.tasks.close();
        self.handle.tasks.wait().await;
    }

    /// Whether the socket's task has ended: it was closed, or has panicked, which its status shows
    /// as [`SocketState::Failed`]. Nothing but a new socket connects again then.
    pub fn has_ended(&self) -> bool {
        self.handle.commands.is_closed()
    }

    /// Makes the socket's task panic.
    #[cfg(test)]
    pub(crate) fn fail(&self) {
        self.command(SocketCommand::Fail);
    }

    /// A hook as the task calls it: it must not keep the socket alive.
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
        // Fails only after the end of the task, when there is nothing left to command.
        let _ = self.handle.commands.send(command);
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.handle.status.borrow();
        f.debug_struct("Socket").field("state", &status.state).finish_non_exhaustive()
    }
}

/// Runs the task of a socket; its status must not stay what it was where it panics.
async fn watched(status: watch::Sender<Status>, task: impl Future<Output = ()>) {
    if AssertUnwindSafe(task).catch_unwind().await.is_err() {
        status.send_modify(|status| {
            status.state = SocketState::Failed;
            status.transport = None;
            status.next_attempt_in = None;
            status.error = Some("the socket's task panicked, a fault of this program".to_owned());
        });
    }
}

fn check(options: &SocketOptions) -> Result<(), BuildError> {
    let url = &options.url;
    let web = matches!(url.scheme(), "http" | "https");
    let plain = url.query().is_none() && url.fragment().is_none();
    if !(web && plain && url.path().ends_with('/')) {
        return Err(BuildError::Url { url: http::public_url(url) });
    }
    let not_sendable = |name: &str| Err(BuildError::NotSendable { name: name.to_owned() });
    match &options.credentials {
        Credentials::ApiKey(key) if http::sensitive_value(key).is_none() => not_sendable("API key"),
        // OctoPrint's `auth` message has its one colon between user and session.
        Credentials::Password { username, .. } if username.contains(':') => {
            not_sendable("user name")
        }
        Credentials::ApiKey(_) | Credentials::Password { .. } => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_does_not_leave_its_status_as_it_was() {
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
        // Nobody is there to be waited for.
        socket.close().await;
    }
}
