//! The pause before the next attempt to reach the broker (pure but for the jitter).

use std::time::Duration;

use super::lost::Lost;

/// The first pause; each next one is twice as long.
const FIRST: Duration = Duration::from_millis(500);
/// Longest pause where the broker is only away: it is back any moment.
const AWAY: Duration = Duration::from_secs(2);
/// Longest pause where quick attempts serve nobody.
const LONGEST: Duration = Duration::from_secs(30);
/// How many pauses a refusal skips: it does not go away by itself within seconds.
const REFUSED: u32 = 3;

/// Pauses of 0.5, 1, 2, 2 … seconds where the broker cannot be reached. Where it says no, or ends
/// connections soon after their start, they grow to 30 s: two bridges with one client id end each
/// other's. A connection that held starts them anew. A jitter keeps many bridges from knocking at
/// a restarted broker at once.
#[derive(Debug, Default)]
pub(in crate::mqtt) struct Retry {
    /// Attempts in a row that found no broker.
    away: u32,
    /// Refusals and connections that ended soon, since one that held.
    unwanted: u32,
}

impl Retry {
    pub(in crate::mqtt) fn new() -> Self {
        Self::default()
    }

    /// The pause after what ended with `lost`. `explained`: a message of the bridge itself is
    /// thought to have ended the connection, so that another bridge is not.
    pub(in crate::mqtt) fn after(&mut self, lost: &Lost, explained: bool) -> Duration {
        self.step(lost, explained).mul_f64(0.75 + fastrand::f64() / 4.0)
    }

    fn step(&mut self, lost: &Lost, explained: bool) -> Duration {
        if lost.is_unwanted() && !explained {
            self.away = 0;
            self.unwanted = if lost.refused() { self.unwanted.max(REFUSED) } else { self.unwanted };
            return grown(&mut self.unwanted, LONGEST);
        }
        if lost.was_connected() {
            self.away = 0;
            self.unwanted = if explained { self.unwanted } else { 0 };
        }
        grown(&mut self.away, AWAY)
    }
}

fn grown(count: &mut u32, longest: Duration) -> Duration {
    let pause = FIRST.saturating_mul(1 << (*count).min(10)).min(longest);
    *count = count.saturating_add(1);
    pause
}

#[cfg(test)]
mod tests {
    use rumqttc::ConnectReturnCode;

    use super::*;

    fn closed(soon: bool) -> Lost {
        Lost::Closed { soon, by_peer: true, source: "reset".into() }
    }

    fn steps(retry: &mut Retry, lost: &Lost, count: usize) -> Vec<u64> {
        (0..count).map(|_| u64::try_from(retry.step(lost, false).as_millis()).unwrap()).collect()
    }

    #[test]
    fn a_broker_that_is_away_is_back_within_two_seconds() {
        let away = [
            Lost::NoRoute("refused".into()),
            Lost::TimedOut,
            Lost::NotMqtt("it closed the connection without an answer".into()),
            Lost::Refused(ConnectReturnCode::ServiceUnavailable),
        ];
        for lost in away {
            let mut retry = Retry::new();
            assert_eq!(steps(&mut retry, &lost, 6), [500, 1000, 2000, 2000, 2000, 2000], "{lost}");
            // After a connection that held it begins anew, also where that ended in silence.
            for held in [closed(false), Lost::Silent] {
                assert_eq!(steps(&mut retry, &held, 1), [500], "{lost}");
                assert_eq!(steps(&mut retry, &lost, 2), [1000, 2000], "{lost}");
            }
        }
    }

    #[test]
    fn refusals_and_connections_that_end_soon_are_tried_less_and_less_often() {
        let mut retry = Retry::new();
        let grown = [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000];
        assert_eq!(steps(&mut retry, &closed(true), 8), grown);
        // The attempts between that find no broker neither grow nor start anew.
        let away = Lost::NoRoute("refused".into());
        assert_eq!(steps(&mut retry, &away, 4), [500, 1000, 2000, 2000]);
        assert_eq!(steps(&mut retry, &closed(true), 1), [30_000]);
        assert_eq!(steps(&mut retry, &closed(false), 1), [500]);
        assert_eq!(steps(&mut retry, &closed(true), 2), [500, 1000]);
        let refusals = [
            Lost::BadCredentials { characters: None },
            Lost::NotAuthorised { characters: None },
            Lost::IdentifierRejected,
            Lost::Refused(ConnectReturnCode::RefusedProtocolVersion),
        ];
        for lost in refusals {
            let mut retry = Retry::new();
            assert_eq!(steps(&mut retry, &lost, 5), [4000, 8000, 16_000, 30_000, 30_000], "{lost}");
        }
    }

    #[test]
    fn a_connection_that_a_message_ended_is_made_again_soon() {
        let mut retry = Retry::new();
        assert_eq!(steps(&mut retry, &closed(true), 4).last(), Some(&4000));
        for _ in 0..5 {
            assert_eq!(retry.step(&closed(true), true), FIRST);
        }
        assert_eq!(steps(&mut retry, &closed(true), 1), [8000]);
    }

    #[test]
    fn the_jitter_shortens_by_a_quarter_at_most() {
        for _ in 0..1000 {
            let pause = Retry::new().after(&Lost::TimedOut, false);
            assert!(pause <= FIRST && pause >= FIRST.mul_f64(0.75), "{pause:?}");
        }
    }
}
