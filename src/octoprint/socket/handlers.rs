//! The handlers registered for messages, and calling them.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};

use crate::octoprint::wire::message::Message;

/// The kind that stands for every message.
const EVERY: &str = "*";

/// Whether the time that a handler took says anything about the rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handled {
    /// It does.
    Measured,
    /// It does not: nothing was done, or what it waited for was not there.
    Unmeasured,
}

/// A registered handler, for [`Socket::remove_message`](super::Socket::remove_message).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HandlerId(pub(super) u64);

type Handler = Box<dyn Fn(Arc<Message>) -> BoxFuture<'static, Handled> + Send>;

/// One handler and what it is for.
pub(super) struct Entry {
    id: HandlerId,
    kind: Box<str>,
    handler: Handler,
}

impl Entry {
    pub(super) fn new<F, Fut>(id: HandlerId, kind: &str, handler: F) -> Self
    where
        F: Fn(Arc<Message>) -> Fut + Send + 'static,
        Fut: Future<Output = Handled> + Send + 'static,
    {
        Self { id, kind: kind.into(), handler: Box::new(move |message| handler(message).boxed()) }
    }

    fn wants(&self, kind: &str) -> bool {
        *self.kind == *EVERY || *self.kind == *kind
    }

    fn call(&self, message: &Arc<Message>) -> Option<BoxFuture<'static, Handled>> {
        let called = catch_unwind(AssertUnwindSafe(|| (self.handler)(Arc::clone(message))));
        if called.is_err() {
            tracing::error!(kind = message.kind(), "a message handler panicked; continuing");
        }
        called.ok()
    }
}

/// All handlers, `*` first, each group in order of registration.
#[derive(Default)]
pub(super) struct Handlers(Vec<Entry>);

impl Handlers {
    pub(super) fn add(&mut self, entry: Entry) {
        let every = self.0.iter().take_while(|entry| *entry.kind == *EVERY).count();
        self.0.insert(if *entry.kind == *EVERY { every } else { self.0.len() }, entry);
    }

    pub(super) fn remove(&mut self, id: HandlerId) {
        self.0.retain(|entry| entry.id != id);
    }

    /// Calls the handlers of a message. What comes back resolves when all of them are done, to the
    /// longest time that one of them wants measured. `None`: nobody wants the message.
    pub(super) fn call(
        &self,
        message: &Arc<Message>,
    ) -> Option<BoxFuture<'static, Option<Duration>>> {
        let wanted = self.0.iter().filter(|entry| entry.wants(message.kind()));
        let mut running: Vec<_> = wanted
            .filter_map(|entry| entry.call(message))
            .map(|handled| measured(handled, Arc::clone(message)))
            .collect();
        match running.len() {
            0 => None,
            1 => running.pop().map(FutureExt::boxed),
            _ => Some(join_all(running).map(|times| times.into_iter().flatten().max()).boxed()),
        }
    }
}

/// How long after the receipt a handler was done, if it wants that measured.
async fn measured(handled: BoxFuture<'static, Handled>, message: Arc<Message>) -> Option<Duration> {
    match AssertUnwindSafe(handled).catch_unwind().await {
        Ok(Handled::Measured) => Some(message.received().elapsed()),
        Ok(Handled::Unmeasured) => None,
        Err(_) => {
            tracing::error!(kind = message.kind(), "a message handler panicked; continuing");
            None
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

    type Log = Arc<Mutex<Vec<&'static str>>>;

    fn message(kind: &str) -> Arc<Message> {
        let payload = Bytes::from_static(b"null");
        let now = Instant::now();
        Arc::new(Message::new(kind, payload, now, SystemTime::UNIX_EPOCH, 1).unwrap())
    }

    /// Handlers of these kinds that write down their names.
    fn handlers(log: &Log, named: &[(&str, &'static str)]) -> Handlers {
        let mut handlers = Handlers::default();
        for (id, (kind, name)) in (1..).zip(named) {
            handlers.add(Entry::new(HandlerId(id), kind, noted(log, name)));
        }
        handlers
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
        let mut handlers = handlers(&log, &named);
        assert!(handlers.call(&message("event")).unwrap().await.is_some());
        assert_eq!(*log.lock().unwrap(), ["*1", "*2", "a", "b"]);
        handlers.remove(HandlerId(1));
        log.lock().unwrap().clear();
        handlers.call(&message("event")).unwrap().await;
        assert_eq!(*log.lock().unwrap(), ["*1", "*2", "b"]);
    }

    #[tokio::test]
    async fn a_panic_takes_nothing_else_down() {
        let log = Log::default();
        let mut handlers = handlers(&log, &[("*", "survivor")]);
        let at_once = |_| -> std::future::Ready<Handled> { panic!("at the call") };
        handlers.add(Entry::new(HandlerId(2), "*", at_once));
        let later = |_| async { panic!("later") };
        handlers.add(Entry::new(HandlerId(3), "*", later));
        for _ in 0..2 {
            assert!(handlers.call(&message("event")).unwrap().await.is_some());
        }
        assert_eq!(*log.lock().unwrap(), ["survivor"; 2]);
    }

    #[tokio::test]
    async fn nobody_and_unmeasured() {
        let mut handlers = Handlers::default();
        let unmeasured = |_| async { Handled::Unmeasured };
        handlers.add(Entry::new(HandlerId(1), "event", unmeasured));
        assert!(handlers.call(&message("plugin")).is_none());
        assert_eq!(handlers.call(&message("event")).unwrap().await, None);
    }
}
