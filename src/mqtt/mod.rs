//! Everything that speaks to the broker; knows nothing of OctoPrint.

mod brief;
mod broker;
mod outbox;
mod packet;
mod publication;
mod reading;

pub use brief::{clear, retained};
pub use broker::lost::Lost;
pub use broker::options::{MAX_INCOMING, Options, PACKET_IDS};
pub use broker::{Audiences, Broker, BrokerStatus, Held, PersistEvents, Persistence};
pub use outbox::admission::{Attendance, Subscribed, Verdict};
pub use outbox::entry::{Bounds, Counts, Outgoing, PersistedEvent, Token, Unpersisted};
pub use outbox::queue::{Outbox, WINDOW};
pub use packet::{PacketLimit, packet_bytes};
pub use publication::{Audience, Incoming, Kind, Make, OWN_LANE, Publication, Worth};
