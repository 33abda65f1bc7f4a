//! What can happen to an OctoPrint, its line and its bridge.

use proptest::prelude::*;

/// What happens next.
#[derive(Debug, Clone)]
pub(super) enum Act {
    /// Time goes on, in tenths of a second.
    Pass(u16),
    /// A print starts, of one of two files.
    Start(bool),
    Pause,
    Resume,
    /// Begun anew from a pause.
    Restart,
    /// To its end.
    Done,
    Cancel,
    /// With an event, and that so often.
    Fail(u8),
    /// The printer is switched off: no event tells of the end of a print that pauses.
    Off,
    On,
    /// OctoPrint is restarted.
    Reboot,
    /// The line to OctoPrint breaks, and comes back.
    Break,
    Back,
    /// The server's clock is set by so many seconds, and the bridge's.
    Set(i32, i32),
    /// So many half seconds between two `current`.
    Rate(u8),
    /// One message comes without these fields: log, time, state.
    Without(bool, bool, bool),
    /// REST answers, or does not.
    Rest(bool),
    /// The bridge is killed, and goes on from what it kept.
    Killed,
    /// OctoPrint repeats the end of the last print.
    Again,
}

pub(super) fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => (1u16..300).prop_map(Act::Pass),
        3 => (1u16..30).prop_map(Act::Pass),
        4 => any::<bool>().prop_map(Act::Start),
        1 => Just(Act::Pause),
        1 => Just(Act::Resume),
        1 => Just(Act::Restart),
        2 => Just(Act::Done),
        1 => Just(Act::Cancel),
        1 => (1u8..31).prop_map(Act::Fail),
        1 => Just(Act::Off),
        2 => Just(Act::On),
        1 => Just(Act::Reboot),
        2 => Just(Act::Break),
        3 => Just(Act::Back),
        1 => (-9_000i32..9_000, -9_000i32..9_000).prop_map(|(a, b)| Act::Set(10 * a, 10 * b)),
        2 => (1u8..21).prop_map(Act::Rate),
        1 => any::<(bool, bool, bool)>().prop_map(|(a, b, c)| Act::Without(a, b, c)),
        1 => any::<bool>().prop_map(Act::Rest),
        1 => Just(Act::Killed),
        1 => Just(Act::Again),
    ]
}
