//! Chooses the transport: WebSocket, or XHR streaming if WebSocket is blocked (pure).

use std::time::Duration;

use tokio::time::Instant;

use super::options::TransportChoice;
use crate::octoprint::wire::received::WebSocketFailure;
use crate::octoprint::wire::transport::Transport;

/// Time for which XHR streaming is used before WebSocket is tried again.
const REMEMBER: Duration = Duration::from_secs(600);
/// Silent WebSockets in a row that count as blocked. A single one may be due to a slow host.
const SILENT_IN_A_ROW: u32 = 2;

/// The choice of transport, and the recent failures of WebSocket.
#[derive(Debug)]
pub(super) struct Fallback {
    choice: TransportChoice,
    blocked: Option<Instant>,
    silent: u32,
}

impl Fallback {
    pub(super) fn new(choice: TransportChoice) -> Self {
        Self { choice, blocked: None, silent: 0 }
    }

    pub(super) fn transport(&self, now: Instant) -> Transport {
        let blocked = |since: Instant| now.saturating_duration_since(since) < REMEMBER;
        match self.choice {
            TransportChoice::WebSocket => Transport::WebSocket,
            TransportChoice::XhrStreaming => Transport::XhrStreaming,
            TransportChoice::Auto if self.blocked.is_some_and(blocked) => Transport::XhrStreaming,
            TransportChoice::Auto => Transport::WebSocket,
        }
    }

    /// Whether the reaction to this failure depends on whether SockJS answers over plain HTTP.
    pub(super) fn needs_sockjs_check(&self, failure: WebSocketFailure) -> bool {
        self.choice == TransportChoice::Auto && failure != WebSocketFailure::Down
    }

    /// Records a failed WebSocket. `sockjs_answers`: `sockjs/info` was answered with 200 in the same
    /// attempt. Returns whether to fall back to XHR streaming.
    pub(super) fn websocket_failed(
        &mut self,
        failure: WebSocketFailure,
        sockjs_answers: bool,
        now: Instant,
    ) -> bool {
        if !self.needs_sockjs_check(failure) || !sockjs_answers {
            self.silent = 0;
            return false;
        }
        self.silent = if failure == WebSocketFailure::Silent { self.silent + 1 } else { 0 };
        let falls_back = failure == WebSocketFailure::Blocked || self.silent >= SILENT_IN_A_ROW;
        if falls_back {
            self.silent = 0;
            self.blocked = Some(now);
        }
        falls_back
    }

    /// Records a failure of XHR streaming: it does not help, so WebSocket is tried next.
    pub(super) fn xhr_failed(&mut self) {
        self.blocked = None;
    }

    /// Records that OctoPrint's `connected` was received over `transport`.
    pub(super) fn greeted(&mut self, transport: Transport) {
        self.silent = 0;
        if transport == Transport::WebSocket {
            self.blocked = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use Transport::{WebSocket, XhrStreaming};
    use WebSocketFailure::{Blocked, Down, Silent};

    use super::*;

    fn auto() -> (Fallback, Instant) {
        (Fallback::new(TransportChoice::Auto), Instant::now())
    }

    #[test]
    fn a_blocked_upgrade_falls_back_only_if_sockjs_answers() {
        let (mut auto, now) = auto();
        assert!(!auto.websocket_failed(Blocked, false, now));
        assert_eq!(auto.transport(now), WebSocket);
        assert!(auto.websocket_failed(Blocked, true, now));
        assert_eq!(auto.transport(now), XhrStreaming);
    }

    #[test]
    fn two_silent_websockets_in_a_row_fall_back() {
        let (mut auto, now) = auto();
        assert!(!auto.websocket_failed(Silent, true, now));
        assert_eq!(auto.transport(now), WebSocket, "one slow upgrade is no reason");
        auto.greeted(WebSocket);
        assert!(!auto.websocket_failed(Silent, true, now), "not in a row");
        assert!(!auto.websocket_failed(Silent, false, now), "OctoPrint itself was away");
        assert!(!auto.websocket_failed(Silent, true, now));
        assert!(auto.websocket_failed(Silent, true, now));
        assert_eq!(auto.transport(now), XhrStreaming);
    }

    #[test]
    fn an_octoprint_that_is_down_causes_no_fallback() {
        let (mut auto, now) = auto();
        for _ in 0..10 {
            assert!(!auto.needs_sockjs_check(Down) && !auto.websocket_failed(Down, true, now));
        }
        assert_eq!(auto.transport(now), WebSocket);
    }

    #[test]
    fn websocket_is_tried_again_after_ten_minutes() {
        let (mut auto, now) = auto();
        auto.websocket_failed(Blocked, true, now);
        auto.greeted(XhrStreaming);
        assert_eq!(auto.transport(now + REMEMBER / 2), XhrStreaming);
        assert_eq!(auto.transport(now + REMEMBER), WebSocket);
        auto.websocket_failed(Blocked, true, now + REMEMBER);
        assert_eq!(auto.transport(now + REMEMBER), XhrStreaming);
        auto.greeted(WebSocket);
        assert_eq!(auto.transport(now + REMEMBER), WebSocket);
        auto.websocket_failed(Blocked, true, now + REMEMBER);
        auto.xhr_failed();
        assert_eq!(auto.transport(now + REMEMBER), WebSocket);
    }

    #[test]
    fn a_configured_transport_is_never_changed() {
        let now = Instant::now();
        for (choice, transport) in
            [(TransportChoice::WebSocket, WebSocket), (TransportChoice::XhrStreaming, XhrStreaming)]
        {
            let mut fixed = Fallback::new(choice);
            for failure in [Blocked, Silent, Silent, Down] {
                assert!(!fixed.websocket_failed(failure, true, now));
            }
            assert_eq!(fixed.transport(now), transport);
        }
    }
}
