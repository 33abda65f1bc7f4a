//! The wire protocol: SockJS frames, the messages in them, and the transports.

pub(super) mod frame;
pub(super) mod message;
pub(super) mod received;
pub(super) mod transport;
mod websocket;
mod ws_text;
mod xhr;
