//! How commands are carried out that OctoPrint may answer with success and not obey: what is
//! answered as done has been looked at.

pub(super) mod connection;
pub(super) mod halt;
pub(super) mod job;
pub(super) mod moves;
pub(super) mod rates;
pub(super) mod selection;
pub(super) mod watch;
