//! Message handlers: a layer over the stream of messages.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{mpsc, oneshot};

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
    handler: Handler,
}

impl RegisteredHandler {
    pub(super) fn new<F, Fut>(id: HandlerId, kind: &str, handler: F) -> Self
    where
        F: Fn(Arc<Message>) -> Fut + Send + 'static,
        Fut: Future<Output = Handled> + Send + 'static,
    {
        let handler: Handler = Box::new(move |message| handler(message).boxed());
        Self { id, kind: wanted(kind), handler }
    }

    /// Calls the handler. The returned future completes when the handler is done, and acknowledges
    /// `receipt`.
    fn call(&self, message: &Arc<Message>, receipt: Receipt) -> impl Future<Output = ()> + use<> {
        let called = catch_unwind(AssertUnwindSafe(|| (self.handler)(Arc::clone(message))));
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

/// A change of the handlers, for the task that owns them.
pub(super) enum HandlerChange {
    Add(RegisteredHandler),
    /// Answers whether there was one of that kind and id.
    Remove {
        kind: String,
        id: HandlerId,
        answer: oneshot::Sender<bool>,
    },
}

/// All handlers, `*` first, each group in order of registration.
#[derive(Default)]
pub(super) struct Handlers(Vec<RegisteredHandler>);

impl Handlers {
    fn change(&mut self, change: HandlerChange) {
        match change {
            HandlerChange::Add(entry) => self.add(entry),
            HandlerChange::Remove { kind, id, answer } => {
                // Who asked may have given up waiting.
                let _ = answer.send(self.remove(&kind, id));
            }
        }
    }

    fn add(&mut self, entry: RegisteredHandler) {
        let every = self.0.iter().take_while(|entry| entry.kind.is_none()).count();
        let index = if entry.kind.is_none() { every } else { self.0.len() };
        self.0.insert(index, entry);
    }

    fn remove(&mut self, kind: &str, id: HandlerId) -> bool {
        let kind = wanted(kind);
        let known = self.0.iter().position(|entry| entry.id == id && entry.kind == kind);
        known.map(|index| self.0.remove(index)).is_some()
    }

    fn of(&self, kind: &MessageKind) -> impl Iterator<Item = &RegisteredHandler> {
        self.0.iter().filter(move |entry| entry.kind.as_ref().is_none_or(|wanted| wanted == kind))
    }

    /// Runs until the messages end. A handler that captures a handle of the socket is dropped then,
    /// so that it does not leak it.
    pub(super) async fn run(
        mut self,
        mut changes: mpsc::UnboundedReceiver<HandlerChange>,
        mut messages: Messages,
    ) {
        let mut running = FuturesUnordered::new();
        loop {
            tokio::select! {
                // A change comes before the messages after it. Running handlers are polled first, so
                // that they start in the order of the messages.
                biased;
                Some(change) = changes.recv() => self.change(change),
                Some(()) = running.next() => {}
                received = messages.recv() => {
                    let Some((message, receipt)) = received else { break };
                    let message = Arc::new(message);
                    let entries = self.of(message.kind());
                    running.extend(entries.map(|entry| entry.call(&message, receipt.clone())));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::SystemTime;

    use bytes::Bytes;
    use tokio::time::Instant;

    use super::*;
    use crate::octoprint::socket::dispatcher::SocketCommand;
    use crate::receipt::Settled;

    type Log = Arc<Mutex<Vec<&'static str>>>;

    /// Handlers that run, and what ends them.
    struct Running {
        changes: mpsc::UnboundedSender<HandlerChange>,
        to_handlers: mpsc::UnboundedSender<Box<(Message, Receipt)>>,
        task: tokio::task::JoinHandle<()>,
    }

    impl Running {
        fn new() -> Self {
            let (SocketCommand::Listen(to_handlers), messages) = SocketCommand::listen() else {
                panic!()
            };
            let (changes, changed) = mpsc::unbounded_channel();
            let task = tokio::spawn(Handlers::default().run(changed, messages));
            Self { changes, to_handlers, task }
        }

        fn with(log: &Log, named: &[(&str, &'static str)]) -> Self {
            let running = Self::new();
            for (id, (kind, name)) in (1..).zip(named) {
                running.add(RegisteredHandler::new(HandlerId(id), kind, noted(log, name)));
            }
            running
        }

        fn add(&self, entry: RegisteredHandler) {
            self.changes.send(HandlerChange::Add(entry)).ok().unwrap();
        }

        async fn remove(&self, kind: &str, id: u64) -> bool {
            let (answer, answered) = oneshot::channel();
            let (kind, id) = (kind.to_owned(), HandlerId(id));
            self.changes.send(HandlerChange::Remove { kind, id, answer }).ok().unwrap();
            answered.await.unwrap()
        }

        /// Hands them a message of this type. Returns whether it was measured.
        async fn hand(&self, kind: &str) -> bool {
            let (settle, mut settled) = mpsc::unbounded_channel();
            let (now, wall) = (Instant::now(), SystemTime::UNIX_EPOCH);
            let message = Message::new(kind, Bytes::from_static(b"null"), now, wall, 1).unwrap();
            let receipt = Receipt::new(1, now, settle);
            self.to_handlers.send(Box::new((message, receipt))).unwrap();
            let Settled { took, .. } = settled.recv().await.unwrap();
            took.is_some()
        }
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

    #[tokio::test]
    async fn stars_first_then_in_order_and_removable() {
        let log = Log::default();
        let named = [("event", "a"), ("event", "b"), ("*", "*1"), ("plugin", "p"), ("*", "*2")];
        let handlers = Running::with(&log, &named);
        assert!(handlers.hand("event").await);
        assert_eq!(*log.lock().unwrap(), ["*1", "*2", "a", "b"]);
        assert!(!handlers.remove("plugin", 1).await && handlers.remove("event", 1).await);
        log.lock().unwrap().clear();
        handlers.hand("event").await;
        assert_eq!(*log.lock().unwrap(), ["*1", "*2", "b"]);
    }

    #[tokio::test]
    async fn a_panic_affects_no_other_handler() {
        let log = Log::default();
        let handlers = Running::with(&log, &[("*", "survivor")]);
        let at_once = |_| -> std::future::Ready<Handled> { panic!("at the call") };
        handlers.add(RegisteredHandler::new(HandlerId(2), "*", at_once));
        let later = |_| async { panic!("later") };
        handlers.add(RegisteredHandler::new(HandlerId(3), "*", later));
        for _ in 0..2 {
            assert!(handlers.hand("event").await);
        }
        assert_eq!(*log.lock().unwrap(), ["survivor"; 2]);
    }

    #[tokio::test]
    async fn a_message_without_a_measured_handler_is_not_measured() {
        let handlers = Running::new();
        let unmeasured = |_| async { Handled::Unmeasured };
        handlers.add(RegisteredHandler::new(HandlerId(1), "event", unmeasured));
        assert!(!handlers.hand("plugin").await);
        assert!(!handlers.hand("event").await);
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
        let Running { changes, to_handlers, task } = Running::new();
        let add = |id| {
            let entry = RegisteredHandler::new(HandlerId(id), "*", capturing(&captured));
            changes.send(HandlerChange::Add(entry))
        };
        assert!(add(1).is_ok());
        assert_eq!(Arc::strong_count(&captured), 2);
        drop(to_handlers);
        task.await.unwrap();
        // One that comes later is dropped with the refusal.
        assert!(add(2).is_err());
        assert_eq!(Arc::strong_count(&captured), 1);
    }
}
