//! Large messages: buffers that are returned to the system, and one at a time in the process.
//!
//! OctoPrint's `history` holds temperatures for the time in its setting `temperature.cutoff`; for
//! days of them it takes hundreds of megabytes. A bridge has many connections, so a large message
//! waits for its turn, and holds it until its last byte is dropped.

use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Sizes of messages, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    /// Larger messages wait for their turn.
    pub(super) large: usize,
    /// Larger messages are refused.
    pub(super) max: usize,
}

/// Maximum size of a buffer that the allocator may retain after use, in bytes.
pub(super) const SMALL: usize = 64 * 1024;
/// glibc may retain freed buffers of up to 32 MiB. Larger ones are always mapped, and unmapped when
/// freed; pages that are never written take no memory.
const MMAP_SIZE: usize = 33 * 1024 * 1024;

/// Returns the capacity to allocate for `bytes`, so that the buffer is returned to the system.
pub(super) fn capacity(bytes: usize) -> usize {
    if bytes > SMALL { bytes.max(MMAP_SIZE) } else { bytes }
}

static ONE: Semaphore = Semaphore::const_new(1);

type Permit = SemaphorePermit<'static>;

/// A connection's turn to read a large message.
#[derive(Default)]
pub(super) enum LargeTurn {
    #[default]
    Idle,
    Waiting(BoxFuture<'static, Option<Permit>>),
    Held(Option<Permit>),
}

impl LargeTurn {
    /// Requests the turn; ready once this connection holds it.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match self {
                // Fails only for a closed semaphore, and this one is never closed.
                Self::Idle => {
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

    pub(super) fn is_waiting(&self) -> bool {
        matches!(self, Self::Waiting(_))
    }

    /// Moves the turn to a message, so that it ends when the last part of the message is dropped.
    pub(super) fn attach(&mut self, bytes: Bytes) -> Bytes {
        match std::mem::take(self) {
            Self::Held(Some(permit)) => Bytes::from_owner(Large { bytes, _permit: permit }),
            Self::Idle | Self::Waiting(_) | Self::Held(None) => bytes,
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
        // A connection that is dropped returns its turn too.
        poll_fn(|cx| LargeTurn::default().poll(cx)).await;
    }
}
