//! Everything that speaks to the broker; knows nothing of OctoPrint.

mod admission;
mod brief;
mod broker;
mod connection;
mod dial;
mod events;
mod lane;
mod lost;
mod outbox;
mod packet;
mod publication;
mod quarantine;
mod receipt;
mod retry;
mod tunnel;

pub use admission::{Attendance, Subscribed, Verdict};
pub use brief::{clear, retained};
pub use broker::{Audiences, Broker, BrokerStatus, Held, Incoming, KeepEvents, Keeper};
pub use connection::{MAX_INCOMING, Options};
pub use lost::Lost;
pub use outbox::{Bounds, Counts, Keep, KeptEvent, Outbox, Outgoing, Token, WINDOW};
pub use packet::{PacketLimit, packet_bytes};
pub use publication::{Audience, Kind, Make, Publication, Worth};
pub use receipt::{Receipt, Settled};

#[cfg(test)]
mod tests;
