//! Everything that speaks to the broker; knows nothing of OctoPrint.

mod broker;
mod connection;
mod lane;
mod outbox;
mod publication;
mod receipt;
mod retry;

pub use broker::{Broker, BrokerStatus, Incoming, MAX_PUBLICATION};
pub use connection::{Lost, Options, probe, short_lived_client_id};
pub use outbox::{Bounds, Counts, Outbox, Outgoing, Token, WINDOW};
pub use publication::{Kind, Publication};
pub use receipt::{Receipt, Settled};

#[cfg(test)]
mod tests;
