//! Persists the events that wait for the broker in the store.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::oneshot;

use crate::lanes::Lanes;
use crate::mqtt::{PersistedEvent, Persistence, Unpersisted};
use crate::store::{BRIDGE, Change, Known, Store, StoredEvent};

/// Entry of the store that is persisted along with the end of a print.
pub const RECORD: &str = "record";

/// Entry of the store for the time of the last orderly stop, in Unix milliseconds.
const STOPPED: &str = "stopped";

/// Records that the bridge is being stopped.
pub fn note_stop(store: &Store, wall: SystemTime) {
    let at = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
    store.persist(&Arc::from(BRIDGE), STOPPED, &u64::try_from(at).unwrap_or_default());
}

/// Connects the outbox to `store`: returns the events from before the restart, and a way to persist
/// new ones; `None` if nothing is persisted. The printers have `lanes`. Restored events go through
/// `fit`, since the broker may have a smaller packet limit now.
pub fn persistence(
    store: &Store,
    known: &mut Known,
    lanes: &Lanes,
    fit: impl Fn(PersistedEvent) -> PersistedEvent,
) -> Option<Persistence> {
    if !store.is_persistent() {
        return None;
    }
    let wall = SystemTime::now();
    let mut last = known
        .get(BRIDGE, STOPPED)
        .and_then(|at: u64| SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(at)));
    let mut note = |event: &StoredEvent| last = last.max(Some(event.received));
    let restored: Vec<_> = lanes
        .printers()
        .into_iter()
        .flat_map(|(printer, lane)| {
            let events = known.take_events(&printer);
            events.iter().for_each(|(_, event)| note(event));
            let fit = &fit;
            events.into_iter().map(move |(sequence, event)| {
                let event = fit(restored(event, wall));
                (lane, sequence, event)
            })
        })
        .collect();
    if !restored.is_empty() {
        tracing::info!(
            events = restored.len(),
            "restored the events that were waiting for the broker"
        );
    }
    let (store, lanes) = (store.clone(), lanes.clone());
    let persist =
        move |unpersisted: Vec<Unpersisted>| write(&store, &lanes, unpersisted, SystemTime::now());
    // After a crash the last event is the last sign of life; the absence may be overestimated.
    let away = last.and_then(|last| wall.duration_since(last).ok());
    Some(Persistence { restored, away, persist: Box::new(persist) })
}

/// Writes all in one transaction: both events of a print's end, and the record of the print.
fn write(
    store: &Store,
    lanes: &Lanes,
    unpersisted: Vec<Unpersisted>,
    wall: SystemTime,
) -> Option<oneshot::Receiver<()>> {
    let at_once = unpersisted.iter().any(|one| one.along.is_some());
    let of_printer = |one: Unpersisted| Some(changes(&lanes.printer(one.lane)?, one, wall));
    let changes = unpersisted.into_iter().filter_map(of_printer).flatten().collect();
    if at_once {
        return store.write_now(changes);
    }
    store.write(changes);
    None
}

fn changes(
    printer: &Arc<str>,
    unpersisted: Unpersisted,
    wall: SystemTime,
) -> impl Iterator<Item = Change> + use<> {
    let event = unpersisted.event.map(|event| StoredEvent {
        topic: event.topic,
        payload: event.payload,
        received: wall.checked_sub(event.age).unwrap_or(SystemTime::UNIX_EPOCH),
        stamped: event.stamped,
        worth: event.worth,
        audience: event.audience,
    });
    let event = Change::Event { printer: printer.clone(), sequence: unpersisted.sequence, event };
    let record =
        |record| Change::Value { printer: printer.clone(), what: RECORD, value: Some(record) };
    let record = unpersisted.along.map(record);
    std::iter::once(event).chain(record)
}

fn restored(event: StoredEvent, wall: SystemTime) -> PersistedEvent {
    PersistedEvent {
        topic: event.topic,
        payload: event.payload,
        age: wall.duration_since(event.received).unwrap_or_default(),
        stamped: event.stamped,
        worth: event.worth,
        audience: event.audience,
    }
}
