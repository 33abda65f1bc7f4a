//! The templates of the page. They escape every text.

use askama::Template;

use super::assets::VERSION;
use crate::bridge::board::{Board, Card};

/// The page itself. Its script fills it; without scripts it has a list of the printers.
#[derive(Template)]
#[template(path = "page.html")]
pub(super) struct MainView {
    version: &'static str,
    assets: &'static str,
    is_read_only: bool,
    /// Whether a password can make it writable.
    has_password: bool,
    has_session: bool,
    printers: Vec<Card>,
}

/// The form for the password.
#[derive(Template)]
#[template(path = "login.html")]
pub(super) struct LoginView {
    assets: &'static str,
    /// What was wrong with the last try.
    pub(super) complaint: Option<&'static str>,
}

impl MainView {
    pub(super) fn new(
        board: &Board,
        is_read_only: bool,
        has_password: bool,
        has_session: bool,
    ) -> Self {
        let (_, updates) = board.since(0);
        let printers = updates.into_iter().map(|update| update.card);
        Self {
            version: env!("CARGO_PKG_VERSION"),
            assets: &VERSION,
            is_read_only,
            has_password,
            has_session,
            printers: printers.filter(|card| !card.id.is_empty()).collect(),
        }
    }
}

impl LoginView {
    pub(super) fn new(complaint: Option<&'static str>) -> Self {
        Self { assets: &VERSION, complaint }
    }
}
