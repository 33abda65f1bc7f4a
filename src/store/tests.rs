//! What is stored is there after a restart, whatever the files hold (property tests).

use std::fs;
use std::time::SystemTime;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::mqtt::{Audience, Worth};

const SOON: Duration = Duration::from_secs(10);

fn event(text: &str) -> StoredEvent {
    StoredEvent {
        topic: "octoprint2mqtt/mk3/event/X".into(),
        payload: Bytes::from(text.to_owned()),
        received: SystemTime::UNIX_EPOCH + Duration::from_millis(1_764_000_000_123),
        stamped: true,
        worth: Worth::Event,
        audience: Audience::HomeAssistant,
    }
}

fn put(printer: &str, sequence: u64, event: Option<StoredEvent>) -> Change {
    Change::Event { printer: printer.into(), sequence, event }
}

#[tokio::test]
async fn what_is_written_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let below = dir.path().join("not/yet/there");
    let (store, known) = Store::open(Some(&below));
    assert!(known.printers().is_empty());
    store.persist(&"mk3".into(), "rate", &4);
    store.persist(&"mk3".into(), "rate", &5);
    store.write(vec![put("mk3", 2, Some(event("two\nlines"))), put("mk3", 1, Some(event("one")))]);
    store.write(vec![put("mini", 1, Some(event("other")))]);
    store.write(vec![put("mini", 1, None)]);
    store.close(SOON).await;
    let (store, mut known) = Store::open(Some(&below));
    assert_eq!(known.get::<u32>("mk3", "rate"), Some(5));
    assert_eq!(known.get::<String>("mk3", "rate"), None, "another type is ignored");
    assert_eq!(known.get::<u32>("mini", "rate"), None);
    assert_eq!(known.take_events("mk3"), [(1, event("one")), (2, event("two\nlines"))], "in order");
    assert!(known.take_events("mini").is_empty() && known.take_events("mk3").is_empty());
    drop(store);
}

#[tokio::test]
async fn a_removed_printer_is_forgotten_and_starts_afresh() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(Some(dir.path()));
    for printer in ["", "mk3", "mk", "moved"] {
        store.persist(&printer.into(), "rate", &4);
        store.write(vec![put(printer, 1, Some(event("old")))]);
    }
    store.close(SOON).await;
    let (store, mut known) = Store::open(Some(dir.path()));
    // `moved` is served by another bridge of the same configuration.
    store.forget_others(&mut known, &["mk3".to_owned(), "moved".to_owned()]);
    assert_eq!(known.printers(), ["", "mk3", "moved"].into());
    assert!(known.take_events("mk").is_empty() && known.get::<u32>("mk", "rate").is_none());
    // What is written afterwards stays.
    store.persist(&"mk".into(), "rate", &7);
    store.close(SOON).await;
    let (_store, mut known) = Store::open(Some(dir.path()));
    assert_eq!(known.printers(), ["", "mk", "mk3", "moved"].into());
    assert!(known.take_events("mk").is_empty());
    assert_eq!(known.get::<u32>("mk", "rate"), Some(7));
    assert_eq!(known.take_events("moved").len(), 1);
}

#[test]
fn two_at_once_are_refused_and_nothing_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let (first, _) = Store::open(Some(dir.path()));
    let (second, _) = Store::open(Some(dir.path()));
    assert!(first.is_persistent() && !second.is_persistent());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_place_that_cannot_be_written_is_no_reason_not_to_start() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "in the way").unwrap();
    let (store, _) = Store::open(Some(&file.join("below")));
    assert!(!store.is_persistent());
}

#[tokio::test]
async fn without_a_directory_nothing_is_stored_and_nothing_waits() {
    let (store, known) = Store::open(None);
    store.persist(&"mk3".into(), "rate", &4);
    store.close(SOON).await;
    assert!(!store.is_persistent() && known.printers().is_empty());
}

/// A database with something in it, as bytes.
fn good() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let (database, ..) = Database::open(dir.path()).unwrap();
    let mut pending = PendingChanges::new();
    for sequence in 0..50 {
        add(&mut pending, put("mk3", sequence, Some(event(&"x".repeat(200)))));
    }
    database.write(&pending).unwrap();
    drop(database);
    fs::read(dir.path().join("octoprint2mqtt.redb")).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_damaged_file_never_stops_the_bridge(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..200),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = good();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        fs::write(dir.path().join("octoprint2mqtt.redb"), bytes).unwrap();
        // Read or set aside; either way it can be written afterwards.
        let (database, mut known, _) = Database::open(dir.path()).unwrap();
        let events = known.take_events("mk3");
        prop_assert!(events.len() <= 50);
        let mut pending = PendingChanges::new();
        add(&mut pending, put("mk3", 99, Some(event("new"))));
        // Damage in pages that were not read may show now: an error, never a panic.
        let _ = database.write(&pending);
    }
}
