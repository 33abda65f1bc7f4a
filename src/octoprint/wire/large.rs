//! Large messages: room for one that is given back, and one at a time in the process.
//!
//! OctoPrint's `history` holds as many minutes of temperatures as its setting `temperature.cutoff`
//! says: days of them are hundreds of megabytes. A bridge has many connections and one memory, so
//! who meets such a message waits for its turn, and keeps it until the last byte is dropped.

use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Sizes of messages, in bytes.
#[derive(Debug, Clone, Copy)]
pub(in crate::octoprint) struct Sizes {
    /// A larger one waits for its turn.
    pub(in crate::octoprint) large: usize,
    /// A larger one is refused.
    pub(in crate::octoprint) max: usize,
}

/// What is smaller than this may stay with the process when it is not needed any more.
pub(in crate::octoprint) const SMALL: usize = 64 * 1024;
/// glibc keeps room of up to 32 MiB for later. What is larger is the system's, and given back to it
/// at once; as long as nothing is written there, it takes no memory.
const MMAP_SIZE: usize = 33 * 1024 * 1024;

/// How much room to ask for, so that it is given back.
pub(in crate::octoprint) fn capacity(bytes: usize) -> usize {
    if bytes > SMALL { bytes.max(MMAP_SIZE) } else { bytes }
}

static ONE: Semaphore = Semaphore::const_new(1);

type Permit = SemaphorePermit<'static>;

/// The turn of one connection.
#[derive(Default)]
pub(in crate::octoprint) enum LargeTurn {
    /// Not needed yet.
    #[default]
    Unasked,
    /// Another connection has it.
    Waiting(BoxFuture<'static, Option<Permit>>),
    /// This connection has it.
    Held(Option<Permit>),
}

impl LargeTurn {
    /// Asks for the turn; ready where it is this connection's.
    pub(in crate::octoprint) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match self {
                // An error would be a closed semaphore, and nobody closes it.
                Self::Unasked => {
                    *self = Self::Waiting(Box::pin(async { ONE.acquire().await.ok() }));
                }
                Self::Waiting(turn) => {
                    let permit = std::task::ready!(turn.as_mut().poll(cx));
                    *self = Self::Held(permit);
                }
                Self::Held(_) => return Poll::Ready(()),
            }
        }
    }

    /// Whether another connection has the turn that this one waits for.
    pub(in crate::octoprint) fn is_waiting(&self) -> bool {
        matches!(self, Self::Waiting(_))
    }

    /// Hands the turn over to a message: it ends with the last part of it.
    pub(in crate::octoprint) fn attach(&mut self, bytes: Bytes) -> Bytes {
        match std::mem::take(self) {
            Self::Held(Some(permit)) => Bytes::from_owner(Large { bytes, _permit: permit }),
            Self::Unasked | Self::Waiting(_) | Self::Held(None) => bytes,
        }
    }
}

struct Large {
    bytes: Bytes,
    _permit: Permit,
}

impl AsRef<[u8]> for Large {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    #[tokio::test]
    async fn a_turn_ends_with_the_last_part_of_the_message() {
        let (mut first, mut second) = (LargeTurn::default(), LargeTurn::default());
        poll_fn(|cx| first.poll(cx)).await;
        let mut waits = async || {
            poll_fn(|cx| Poll::Ready(second.poll(cx).is_pending() && second.is_waiting())).await
        };
        assert!(waits().await);
        let message = first.attach(Bytes::from_static(b"a[1]"));
        let part = message.slice(2..3);
        drop(message);
        assert!(waits().await);
        assert_eq!(&part[..], b"1");
        drop(part);
        poll_fn(|cx| second.poll(cx)).await;
        drop(second);
        // One that is dropped with its connection gives the turn back too.
        poll_fn(|cx| LargeTurn::default().poll(cx)).await;
    }
}
