//! Logs malformed messages, once for each kind.

use super::messages::Malformed;
use crate::causes;
use crate::octoprint::MessageKind;

/// The kinds of malformed messages that were logged.
#[derive(Debug, Default)]
pub(super) struct MalformedKinds(Vec<MessageKind>);

impl MalformedKinds {
    /// Logs a malformed message of a kind that was not logged before.
    pub(super) fn report(&mut self, kind: &MessageKind, error: &Malformed) {
        if !self.0.contains(kind) {
            let error = causes::text(error);
            tracing::warn!(%kind, "skipped a malformed message: {error}");
            self.0.push(kind.clone());
        }
    }
}
