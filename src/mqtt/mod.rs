//! Everything that speaks to the broker; knows nothing of OctoPrint.

mod broker;
mod outbox;
mod publication;
mod retained;

pub use broker::api::{MAX_INCOMING, Options, PACKET_IDS};
pub use broker::lost::Lost;
pub use broker::{Audiences, Broker, BrokerStatus, Held, PersistEvents, Persistence};
pub use outbox::entry::{Bounds, Counts, Outgoing, PersistedEvent, Token, Unpersisted};
pub use outbox::gate::{Attendance, AttendanceStatus, Subscribed};
pub use outbox::{Outbox, WINDOW};
pub use publication::{
    Audience, Incoming, Kind, Make, OWN_LANE, PacketLimit, Publication, Worth, packet_bytes,
};
pub use retained::{clear, retained};
