//! Everything that the socket receives: frames, their messages, and the resulting state.

#![no_main]

use std::time::{Instant, SystemTime};

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use octoprint2mqtt::bridge::printer::snapshot::{EventFields, Now, Snapshot};
use octoprint2mqtt::octoprint::{Event, Frame, Message, Plugin, decode};

fuzz_target!(|data: &[u8]| {
    let Ok(Frame::Messages(decoded)) = decode(&Bytes::copy_from_slice(data)) else { return };
    let mut snapshot = Snapshot::new();
    for raw in decoded.messages {
        let (instant, wall) = (Instant::now(), SystemTime::now());
        let Ok(message) = Message::new(raw.kind, raw.payload, instant.into(), wall, 1) else {
            panic!("a part of a frame is UTF-8");
        };
        let _ = message.json::<Plugin<'_>>();
        if let Ok(event) = message.json::<Event<'_>>() {
            snapshot.event(&event.kind, &EventFields::read(&event.kind, event.payload));
        }
        let _ = snapshot.apply(message.payload(), Now { instant, wall });
        let _ = snapshot.apply_history(message.payload(), Now { instant, wall });
        let _ = snapshot.apply_server(message.payload());
    }
});
