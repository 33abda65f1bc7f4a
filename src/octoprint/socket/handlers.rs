//! Message handlers: a layer over the stream of messages.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};

use super::dispatcher::Messages;
use crate::octoprint::wire::message::{Message, MessageKind};
use crate::receipt::Receipt;

/// Whether the time that a handler took counts for the throttle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handled {
    /// The time counts.
    Measured,
    /// The time does not count: the handler did nothing, or waited for something unavailable.
    Unmeasured,
}

/// Identifies a handler for [`Socket::remove_message`](super::handle::Socket::remove_message).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HandlerId(pub(super) u64);

type Handler = Box<dyn Fn(Arc<Message>) -> BoxFuture<'static, Handled> + Send>;

pub(super) struct RegisteredHandler {
    id: HandlerId,
    kind: Option<MessageKind>,
    handler: Mutex<Handler>,
}

impl RegisteredHandler {
    pub(super) fn new<F, Fut>(id: HandlerId, kind: &str, handler: F) -> Self
    where
        F: Fn(Arc<Message>) -> Fut + Send + 'static,
        Fut: Future<Output = Handled> + Send + 'static,
    {
        let handler: Handler = Box::new(move |message| handler(message).boxed());
        Self { id, kind: wanted(kind), handler: Mutex::new(handler) }
    }

    /// Calls the handler. The returned future completes when the handler is done, and acknowledges
    /// `receipt`.
    fn call(&self, message: &Arc<Message>, receipt: Receipt) -> impl Future<Output = ()> + use<> {
        let called = catch_unwind(AssertUnwindSafe(|| lock(&self.handler)(Arc::clone(message))));
        let kind = message.kind().clone();
        async move {
            let handled = match called {
                Ok(handled) => AssertUnwindSafe(handled).catch_unwind().await,
                Err(panicked) => Err(panicked),
            };
            match handled {
                Ok(Handled::Measured) => receipt.acknowledge(),
                Ok(Handled::Unmeasured) => {}
                Err(_) => tracing::error!(%kind, "a message handler panicked; continuing"),
            }
        }
    }
}

/// Parses the type that a handler is for; `None` for every message.
fn wanted(kind: &str) -> Option<MessageKind> {
    (kind != "*").then(|| kind.into())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All handlers, `*` first, each group in order of registration. `None` once the socket has ended,
/// so that a handler that captures a handle does not leak it.
pub(super) struct Handlers(Mutex<Option<Vec<Arc<RegisteredHandler>>>>);

impl Default for Handlers {
    fn default() -> Self {
        Self(Mutex::new(Some(Vec::new())))
    }
}

impl Handlers {
    pub(super) fn add(&self, entry: RegisteredHandler) {
        let mut entries = lock(&self.0);
        let Some(entries) = &mut *entries else { return };
        let every = entries.iter().take_while(|entry| entry.kind.is_none()).count();
        let index = if entry.kind.is_none() { every } else { entries.len() };
        entries.insert(index, Arc::new(entry));
    }

    /// Removes a handler. Returns `false` if there is none of that kind and id.
    pub(super) fn remove(&self, kind: &str, id: HandlerId) -> bool {
        let kind = wanted(kind);
        let mut entries = lock(&self.0);
        let Some(entries) = &mut *entries else { return false };
        let known = entries.iter().position(|entry| entry.id == id && entry.kind == kind);
        known.map(|index| entries.remove(index)).is_some()
    }

    fn of(&self, kind: &MessageKind) -> Vec<Arc<RegisteredHandler>> {
        let wants = |entry: &&Arc<RegisteredHandler>| {
            entry.kind.as_ref().is_none_or(|wanted| wanted == kind)
        };
        lock(&self.0).iter().flatten().filter(wants).cloned().collect()
    }

    pub(super) async fn run(self: Arc<Self>, mut messages: Messages) {
        let mut running = FuturesUnordered::new();
        loop {
            tokio::select! {
                // Polls running handlers first, so that they start in the order of the messages.
                biased;
                Some(()) = running.next() => {}
                received = messages.recv() => {
                    let Some((message, receipt)) = received else { break };
                    let message = Arc::new(message);
                    let entries = self.of(message.kind());
                    running.extend(entries.iter().map(|e| e.call(&message, receipt.clone())));
                }
            }
        }
        // Not dropped under the lock: a handler may own the last handle of the socket.
        let entries = lock(&self.0).take();
        drop(entries);
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use bytes::Bytes;
    use tokio::sync::mpsc;
    use tokio::time::Instant;

    use super::*;
    use crate::octoprint::socket::dispatcher::SocketCommand;
    use crate::receipt::Settled;

    type Log = Arc<Mutex<Vec<&'static str>>>;

    fn handlers(log: &Log, named: &[(&str, &'static str)]) -> Arc<Handlers> {
        let handlers = Handlers::default();
        for (id, (kind, name)) in (1..).zip(named) {
            handlers.add(RegisteredHandler::new(HandlerId(id), kind, noted(log, name)));
        }
        Arc::new(handlers)
    }

    fn noted(
        log: &Log,
        name: &'static str,
    ) -> impl Fn(Arc<Message>) -> std::future::Ready<Handled> + Send + 'static {
        let log = Arc::clone(log);
        move |_| {
            log.lock().unwrap().push(name);
            std::future::ready(Handled::Measured)
        }
    }

    /// Runs the handlers of a message of this type. Returns whether it was measured.
    async fn hand(handlers: &Arc<Handlers>, kind: &str) -> bool {
        let (settle, mut settled) = mpsc::unbounded_channel();
        let (SocketCommand::Listen(listener), messages) = SocketCommand::listen() else { panic!() };
        let (now, wall) = (Instant::now(), SystemTime::UNIX_EPOCH);
        let message = Message::new(kind, Bytes::from_static(b"null"), now, wall, 1).unwrap();
        listener.send(Box::new((message, Receipt::new(1, now, settle)))).unwrap();
        let running = Arc::clone(handlers).run(messages);
        tokio::select! {
            () = running => panic!("ended before the messages"),
            Some(Settled { took, .. }) = settled.recv() => took.is_some(),
        }
    }

    #[tokio::test]
    async fn stars_first_then_in_order_and_removable() {
        let log = Log::default();
        let named = [("event", "a"), ("event", "b"), ("*", "*1"), ("plugin", "p"), ("*", "*2")];
        let handlers = handlers(&log, &named);
        assert!(hand(&handlers, "event").await);
        assert_eq!(*log.lock().unwrap(), ["*1", "*2", "a", "b"]);
        assert!(!handlers.remove("plugin", HandlerId(1)) && handlers.remove("event", HandlerId(1)));
        log.lock().unwrap().clear();
        hand(&handlers, "event").await;
        assert_eq!(*log.lock().unwrap(), ["*1", "*2", "b"]);
    }

    #[tokio::test]
    async fn a_panic_affects_no_other_handler() {
        let log = Log::default();
        let handlers = handlers(&log, &[("*", "survivor")]);
        let at_once = |_| -> std::future::Ready<Handled> { panic!("at the call") };
        handlers.add(RegisteredHandler::new(HandlerId(2), "*", at_once));
        let later = |_| async { panic!("later") };
        handlers.add(RegisteredHandler::new(HandlerId(3), "*", later));
        for _ in 0..2 {
            assert!(hand(&handlers, "event").await);
        }
        assert_eq!(*log.lock().unwrap(), ["survivor"; 2]);
    }

    #[tokio::test]
    async fn a_message_without_a_measured_handler_is_not_measured() {
        let handlers = Arc::new(Handlers::default());
        let unmeasured = |_| async { Handled::Unmeasured };
        handlers.add(RegisteredHandler::new(HandlerId(1), "event", unmeasured));
        assert!(!hand(&handlers, "plugin").await);
        assert!(!hand(&handlers, "event").await);
    }

    #[tokio::test]
    async fn handlers_are_dropped_at_the_end() {
        let captured = Arc::new(());
        let capturing = |captured: &Arc<()>| {
            let captured = Arc::clone(captured);
            move |_| {
                let _captured = &captured;
                std::future::ready(Handled::Measured)
            }
        };
        let handlers = Arc::new(Handlers::default());
        handlers.add(RegisteredHandler::new(HandlerId(1), "*", capturing(&captured)));
        assert_eq!(Arc::strong_count(&captured), 2);
        let (listen, messages) = SocketCommand::listen();
        drop(listen);
        Arc::clone(&handlers).run(messages).await;
        handlers.add(RegisteredHandler::new(HandlerId(2), "*", capturing(&captured)));
        assert_eq!(Arc::strong_count(&captured), 1);
    }
}
