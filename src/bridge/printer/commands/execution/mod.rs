//! How commands are carried out that OctoPrint may answer with success and not obey: what is
//! answered as done has been looked at.

pub(super) mod connection;
pub(super) mod watch;
