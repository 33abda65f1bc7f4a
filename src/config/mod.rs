//! The configuration as the user writes it, checked into types that need no further question.

mod types;

pub use types::{
    Commands, Config, Filter, HomeAssistant, Http, Limits, Log, LogFormat, Mqtt, OutboxBounds,
    Printer, Publish, Socket, Tls,
};
