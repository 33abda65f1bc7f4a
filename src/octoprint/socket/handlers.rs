//! The handlers registered for messages, and calling them.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
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
pub struct HandlerId(u64);

type Handler = Box<dyn Fn(Arc<Message>) -> BoxFuture<'static, Handled> + Send>;

struct Entry {
    id: HandlerId,
    kind: Box<str>,
    /// Locked by the one task that calls handlers; only makes the entry shareable.
    handler: Mutex<Handler>,
}

impl Entry {
    fn wants(&self, kind: &str) -> bool {
        *self.kind == *EVERY || *self.kind == *kind
    }

    fn call(&self, message: &Arc<Message>) -> Option<BoxFuture<'static, Handled>> {
        // A panic leaves a lock poisoned, and the handler as it was.
        let handler = self.handler.lock().unwrap_or_else(PoisonError::into_inner);
        let called = catch_unwind(AssertUnwindSafe(|| (*handler)(Arc::clone(message))));
        if called.is_err() {
            tracing::error!(kind = message.kind(), "a message handler panicked; going on");
        }
        called.ok()
    }
}

/// All handlers, `*` first, each group in order of registration.
#[derive(Default)]
pub(in crate::octoprint) struct Handlers {
    entries: Mutex<Arc<Vec<Arc<Entry>>>>,
    last_id: AtomicU64,
}

impl Handlers {
    pub(in crate::octoprint) fn add<F, Fut>(&self, kind: &str, handler: F) -> HandlerId
    where
        F: Fn(Arc<Message>) -> Fut + Send + 'static,
        Fut: Future<Output = Handled> + Send + 'static,
    {
        let id = HandlerId(self.last_id.fetch_add(1, Ordering::Relaxed) + 1);
        let handler: Handler = Box::new(move |message| handler(message).boxed());
        let entry = Arc::new(Entry { id, kind: kind.into(), handler: Mutex::new(handler) });
        self.change(|entries| {
            let every = entries.iter().take_while(|entry| *entry.kind == *EVERY).count();
            entries.insert(if kind == EVERY { every } else { entries.len() }, entry);
        });
        id
    }

    pub(in crate::octoprint) fn remove(&self, kind: &str, id: HandlerId) -> bool {
        self.change(|entries| {
            let known = entries.len();
            entries.retain(|entry| !(entry.id == id && *entry.kind == *kind));
            entries.len() < known
        })
    }

    fn change<T>(&self, change: impl FnOnce(&mut Vec<Arc<Entry>>) -> T) -> T {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut entries))
    }

    /// Calls the handlers of a message. What comes back resolves when all of them are done, to the
    /// longest time that one of them wants measured. `None`: nobody wants the message.
    pub(in crate::octoprint) fn call(
        &self,
        message: &Arc<Message>,
    ) -> Option<BoxFuture<'static, Option<Duration>>> {
        // A copy of the list, so that a handler may register and remove others.
        let entries = Arc::clone(&self.entries.lock().unwrap_or_else(PoisonError::into_inner));
        let wanted = entries.iter().filter(|entry| entry.wants(message.kind()));
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
            tracing::error!(kind = message.kind(), "a message handler panicked; going on");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use bytes::Bytes;
    use tokio::time::Instant;

    use super::*;

    fn message(kind: &str) -> Arc<Message> {
        let payload = Bytes::from_static(b"null");
        let now = Instant::now();
        Arc::new(Message::new(kind, payload, now, SystemTime::UNIX_EPOCH, 1).unwrap())
    }

    fn noted(
        log: &Arc<Mutex<Vec<&'static str>>>,
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
        let (handlers, log) = (Handlers::default(), Arc::default());
        let a = handlers.add("event", noted(&log, "a"));
        handlers.add("event", noted(&log, "b"));
        handlers.add("*", noted(&log, "*1"));
        handlers.add("plugin", noted(&log, "p"));
        handlers.add("*", noted(&log, "*2"));
        assert!(handlers.call(&message("event")).unwrap().await.is_some());
        assert_eq!(*log.lock().unwrap(), ["*1", "*2", "a", "b"]);
        assert!(!handlers.remove("plugin", a));
        assert!(handlers.remove("event", a) && !handlers.remove("event", a));
        log.lock().unwrap().clear();
        handlers.call(&message("event")).unwrap().await;
        assert_eq!(*log.lock().unwrap(), ["*1", "*2", "b"]);
    }

    #[tokio::test]
    async fn a_panic_takes_nothing_else_down() {
        let (handlers, log) = (Handlers::default(), Arc::default());
        handlers.add("*", |_| -> std::future::Ready<Handled> { panic!("at the call") });
        handlers.add("*", |_| async { panic!("later") });
        handlers.add("*", noted(&log, "survivor"));
        for _ in 0..2 {
            assert!(handlers.call(&message("event")).unwrap().await.is_some());
        }
        assert_eq!(*log.lock().unwrap(), ["survivor"; 2]);
    }

    #[tokio::test]
    async fn nobody_and_unmeasured() {
        let handlers = Handlers::default();
        handlers.add("event", |_| async { Handled::Unmeasured });
        assert!(handlers.call(&message("plugin")).is_none());
        assert_eq!(handlers.call(&message("event")).unwrap().await, None);
    }
}
