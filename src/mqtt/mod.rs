//! Everything that speaks to the broker; knows nothing of OctoPrint.
//!
//! ```no_run
//! use std::collections::BTreeSet;
//! use std::time::Duration;
//!
//! use octoprint2mqtt::bridge::setup;
//! use octoprint2mqtt::mqtt::{Audiences, Bounds, Broker, Kind, OWN_LANE, Publication};
//! use octoprint2mqtt::topic::Topic;
//!
//! # async fn example(config: octoprint2mqtt::config::Config) -> Result<(), Box<dyn std::error::Error>> {
//! let options = setup::broker_options(&config.mqtt, None)?;
//! let bounds = Bounds { max_events: 10_000, max_bytes: 16 * 1024 * 1024 };
//! let filters = BTreeSet::from(["lamp/set".to_owned()]);
//! let (incoming, mut commands) = tokio::sync::mpsc::channel(100);
//! // Connects by itself, and again after each loss; what is published meanwhile waits.
//! let broker =
//!     Broker::start(options, bounds, filters, incoming, None, Audiences::not_awaited());
//! broker.publish(Publication::new(OWN_LANE, Topic::read("lamp/state")?, "on", Kind::State));
//! while let Some(command) = commands.recv().await {
//!     broker.publish(Publication::new(
//!         OWN_LANE,
//!         Topic::read("lamp/state")?,
//!         command.payload,
//!         Kind::State,
//!     ));
//! }
//! broker.close(Duration::from_secs(5)).await;
//! # Ok(())
//! # }
//! ```

mod broker;
mod outbox;
mod publication;
mod retained;

pub use broker::api::{MAX_INCOMING, Options};
pub use broker::lost::Lost;
pub use broker::{Audiences, Broker, BrokerStatus, Held, PersistEvents, Persistence};
pub use outbox::entry::{Bounds, Counts, Outgoing, PersistedEvent, Token, Unpersisted};
pub use outbox::gate::{Attendance, AttendanceStatus, Subscribed};
pub use outbox::{Outbox, WINDOW};
pub use publication::{
    Audience, Incoming, Kind, Make, OWN_LANE, PacketLimit, Publication, Worth, packet_bytes,
};
pub use retained::{Visit, retained};
