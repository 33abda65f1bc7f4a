//! Clocks of the server that are set, or ahead of ours.

use super::*;

#[test]
fn set_clocks_neither_invent_nor_hide_an_end() {
    for jump in [-86_400.0, -3_600.0, 3_600.0, 1.7e9] {
        // While disconnected.
        let mut world = World::new();
        world.start();
        world.current(PrinterState::Printing);
        world.current(PrinterState::Printing);
        world.clock += jump;
        assert_eq!(world.reconnect(PrinterState::Printing), None, "{jump}");
        world.clock += jump;
        world.mark("cancel");
        let missed = world.reconnect(PrinterState::Operational).unwrap();
        assert_eq!(missed.ends.len(), 1, "{jump}");
        world.tracker.resolved(missed.id, missed.ends);
        world.clock -= jump;
        assert_eq!(world.reconnect(PrinterState::Operational), None, "{jump}");
        // Between an event and the next message; the last end is missed.
        world.start();
        world.clock += jump;
        world.mark("done");
        assert!(world.end());
        assert_eq!(world.reconnect(PrinterState::Operational), None, "{jump}");
        world.start();
        world.current(PrinterState::Printing);
        world.clock -= jump;
        world.mark("done");
        assert_eq!(world.reconnect(PrinterState::Operational).unwrap().ends.len(), 1, "{jump}");
    }
}

#[test]
fn a_server_that_was_set_back_hides_no_end_in_the_files_history() {
    let resolve = |world: &World, missed: MissedEnds| {
        let last = Some((world.server_time() - 3.0, true, Some(60.0)));
        let history = FileHistory { success: 2, failure: 0, last };
        missed.unclear.unwrap().resolve(Some(&history)).unwrap().outcome
    };
    // While connected: the end of the previous print is in the future now.
    let mut world = World::new();
    world.start();
    world.current(PrinterState::Printing);
    world.mark("done");
    assert!(world.end());
    world.start();
    world.current(PrinterState::Starting);
    world.clock -= 3_600.0;
    world.pass(1.0);
    world.current(PrinterState::Printing);
    world.pass(10.0);
    (0..2).for_each(|_| world.current(PrinterState::Operational));
    world.pass(5.0);
    let missed = world.tracker.overdue(world.now).unwrap();
    assert_eq!(resolve(&world, missed), Outcome::Done);
    // While disconnected.
    let mut world = World::new();
    world.start();
    world.current(PrinterState::Printing);
    world.clock -= 3_600.0;
    world.pass(600.0);
    let whole = history(&[], PrinterState::Operational, world.server_time());
    let without_log = History { markings: None, ..whole };
    let missed = world.tracker.reconnected(&without_log, world.now, WALL).unwrap();
    assert_eq!(resolve(&world, missed), Outcome::Done);
}

#[test]
fn ends_are_published_by_our_clock() {
    let world = World::new();
    assert_eq!(world.tracker.by_our_clock(10_000.0), 0.0, "the server is 10,000 s ahead");
    let tracker = Tracker::new(None);
    assert_eq!(tracker.by_our_clock(5.5), 5.5);
}
