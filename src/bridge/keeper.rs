//! Keeps the events that wait for the broker in the store.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::oneshot;

use crate::mqtt::{Keep, Keeper, KeptEvent};
use crate::store::{Change, Known, Store, StoredEvent};

/// What is kept along with the end of a print.
pub const RECORD: &str = "record";

/// Gives the outbox the events of before the start, and `store` those that are to be kept. The
/// printers' lanes follow each other from `first_lane` on; `None` where nothing is kept.
pub fn keeper(
    store: &Store,
    known: &mut Known,
    printers: &[String],
    first_lane: usize,
) -> Option<Keeper> {
    if !store.keeps() {
        return None;
    }
    let wall = SystemTime::now();
    let restored: Vec<_> = printers
        .iter()
        .enumerate()
        .flat_map(|(index, printer)| {
            let events = known.take_events(printer);
            events
                .into_iter()
                .map(move |(sequence, event)| (first_lane + index, sequence, restored(event, wall)))
        })
        .collect();
    if !restored.is_empty() {
        tracing::info!(events = restored.len(), "events that waited for the broker are kept");
    }
    let printers: Vec<Arc<str>> = printers.iter().map(|id| id.as_str().into()).collect();
    let store = store.clone();
    let keep = move |keep: Keep| {
        let index = keep.lane.checked_sub(first_lane)?;
        write(&store, printers.get(index)?, keep, SystemTime::now())
    };
    Some(Keeper { restored, keep: Box::new(keep) })
}

fn write(
    store: &Store,
    printer: &Arc<str>,
    keep: Keep,
    wall: SystemTime,
) -> Option<oneshot::Receiver<()>> {
    let event = keep.event.map(|event| StoredEvent {
        topic: event.topic,
        payload: event.payload,
        received: wall.checked_sub(event.age).unwrap_or(SystemTime::UNIX_EPOCH),
        stamped: event.stamped,
        worth: event.worth,
        audience: event.audience,
    });
    let event = Change::Event { printer: printer.clone(), sequence: keep.sequence, event };
    match keep.along {
        None => {
            store.write(vec![event]);
            None
        }
        Some(record) => {
            let record =
                Change::Keep { printer: printer.clone(), what: RECORD, value: Some(record) };
            store.write_now(vec![event, record])
        }
    }
}

fn restored(event: StoredEvent, wall: SystemTime) -> KeptEvent {
    KeptEvent {
        topic: event.topic,
        payload: event.payload,
        age: wall.duration_since(event.received).unwrap_or_default(),
        stamped: event.stamped,
        worth: event.worth,
        audience: event.audience,
    }
}
