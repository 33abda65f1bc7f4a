//! Frames, messages, transports.

pub(super) mod large;
