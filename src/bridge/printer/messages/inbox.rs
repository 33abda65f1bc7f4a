//! The messages of a socket on their way to the printer's task.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::metrics::Latency;
use crate::mqtt::{Receipt, Settled};
use crate::octoprint::{Handled, Message, Socket};

/// A message and who waits for its publications.
pub type Received = (Arc<Message>, Receipt);

/// Registers the bridge for all messages of `socket`; publish latencies go to `latency`.
pub fn listen(socket: &Socket, latency: Latency) -> mpsc::UnboundedReceiver<Received> {
    let (hand_on, messages) = mpsc::unbounded_channel();
    socket.on_message("*", move |message| {
        let (receipt, told) = Receipt::new();
        let (received, latency) = (message.received(), latency.clone());
        // Fails only when the printer's task has ended: then the receipt settles as unmeasured.
        let _ = hand_on.send((message, receipt));
        async move {
            match told.await {
                Ok(Settled::Acknowledged) => {
                    latency.observe(received.elapsed());
                    Handled::Measured
                }
                Ok(Settled::Unmeasured) | Err(_) => Handled::Unmeasured,
            }
        }
    });
    messages
}
