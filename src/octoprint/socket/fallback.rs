//! WebSocket, or XHR streaming where WebSocket is blocked: which of them is tried (pure).

use std::time::Duration;

use tokio::time::Instant;

use super::options::TransportChoice;
use crate::octoprint::wire::received::Miss;
use crate::octoprint::wire::transport::Transport;

/// How long XHR streaming is used before WebSocket is tried again.
const REMEMBER: Duration = Duration::from_secs(600);
/// A slow moment of OctoPrint's host makes one WebSocket mute; whatever makes two is in the way.
const MUTE_IN_A_ROW: u32 = 2;

/// Which transport to try, and what is known of WebSocket.
#[derive(Debug)]
pub(super) struct Fallback {
    choice: TransportChoice,
    /// When WebSocket turned out to be blocked.
    blocked: Option<Instant>,
    mute: u32,
}

impl Fallback {
    pub(super) fn new(choice: TransportChoice) -> Self {
        Self { choice, blocked: None, mute: 0 }
    }

    /// What to try now.
    pub(super) fn transport(&self, now: Instant) -> Transport {
        let blocked = |since: Instant| now.saturating_duration_since(since) < REMEMBER;
        match self.choice {
            TransportChoice::WebSocket => Transport::WebSocket,
            TransportChoice::XhrStreaming => Transport::XhrStreaming,
            TransportChoice::Auto if self.blocked.is_some_and(blocked) => Transport::XhrStreaming,
            TransportChoice::Auto => Transport::WebSocket,
        }
    }

    /// Whether it matters, for a WebSocket that failed like this, that SockJS answers otherwise.
    pub(super) fn asks(&self, miss: Miss) -> bool {
        self.choice == TransportChoice::Auto && miss != Miss::Down
    }

    /// A WebSocket failed; `sockjs_answers` says whether `sockjs/info` was answered with 200 in
    /// the same attempt. Yields whether to move to XHR streaming.
    pub(super) fn missed(&mut self, miss: Miss, sockjs_answers: bool, now: Instant) -> bool {
        if !self.asks(miss) || !sockjs_answers {
            self.mute = 0;
            return false;
        }
        self.mute = if miss == Miss::Mute { self.mute + 1 } else { 0 };
        let moves = miss == Miss::Blocked || self.mute >= MUTE_IN_A_ROW;
        if moves {
            self.mute = 0;
            self.blocked = Some(now);
        }
        moves
    }

    /// XHR streaming failed, having been tried: it is no way around either.
    pub(super) fn no_better(&mut self) {
        self.blocked = None;
    }

    /// OctoPrint's `connected` came over `transport`.
    pub(super) fn greeted(&mut self, transport: Transport) {
        self.mute = 0;
        if transport == Transport::WebSocket {
            self.blocked = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use Miss::{Blocked, Down, Mute};
    use Transport::{WebSocket, XhrStreaming};

    use super::*;

    fn auto() -> (Fallback, Instant) {
        (Fallback::new(TransportChoice::Auto), Instant::now())
    }

    #[test]
    fn a_blocked_upgrade_moves_at_once_and_only_where_sockjs_answers() {
        let (mut auto, now) = auto();
        assert!(!auto.missed(Blocked, false, now));
        assert_eq!(auto.transport(now), WebSocket);
        assert!(auto.missed(Blocked, true, now));
        assert_eq!(auto.transport(now), XhrStreaming);
    }

    #[test]
    fn it_takes_two_mute_ones_in_a_row() {
        let (mut auto, now) = auto();
        assert!(!auto.missed(Mute, true, now));
        assert_eq!(auto.transport(now), WebSocket, "one slow upgrade is no reason");
        auto.greeted(WebSocket);
        assert!(!auto.missed(Mute, true, now), "not in a row");
        assert!(!auto.missed(Mute, false, now), "OctoPrint itself was away");
        assert!(!auto.missed(Mute, true, now));
        assert!(auto.missed(Mute, true, now));
        assert_eq!(auto.transport(now), XhrStreaming);
    }

    #[test]
    fn an_octoprint_that_is_down_moves_nothing() {
        let (mut auto, now) = auto();
        for _ in 0..10 {
            assert!(!auto.asks(Down) && !auto.missed(Down, true, now));
        }
        assert_eq!(auto.transport(now), WebSocket);
    }

    #[test]
    fn websocket_is_tried_again_after_ten_minutes() {
        let (mut auto, now) = auto();
        auto.missed(Blocked, true, now);
        auto.greeted(XhrStreaming);
        assert_eq!(auto.transport(now + REMEMBER / 2), XhrStreaming);
        assert_eq!(auto.transport(now + REMEMBER), WebSocket);
        auto.missed(Blocked, true, now + REMEMBER);
        assert_eq!(auto.transport(now + REMEMBER), XhrStreaming);
        auto.greeted(WebSocket);
        assert_eq!(auto.transport(now + REMEMBER), WebSocket);
        auto.missed(Blocked, true, now + REMEMBER);
        auto.no_better();
        assert_eq!(auto.transport(now + REMEMBER), WebSocket);
    }

    #[test]
    fn a_choice_of_the_user_holds() {
        let now = Instant::now();
        for (choice, transport) in
            [(TransportChoice::WebSocket, WebSocket), (TransportChoice::XhrStreaming, XhrStreaming)]
        {
            let mut fixed = Fallback::new(choice);
            for miss in [Blocked, Mute, Mute, Down] {
                assert!(!fixed.missed(miss, true, now));
            }
            assert_eq!(fixed.transport(now), transport);
        }
    }
}
