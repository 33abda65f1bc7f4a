//! Connects OctoPrint to its printer.

use std::time::Duration;

use super::watch;
use crate::bridge::printer::commands::answers::Failure;
use crate::bridge::printer::snapshot::PrinterState;
use crate::clock;
use crate::octoprint::{ConnectWith, Rest, RestError};

/// How long a connection may take to come about before it counts as under way.
const PATIENCE: Duration = Duration::from_secs(5);
/// One that has failed is closed; so is one that has not begun yet, for a moment.
const CLOSED: Duration = Duration::from_secs(2);

/// Connects; done is when the printer is connected, or the connection has been under way for a
/// while, as one does that looks for its serial port.
pub(crate) async fn connect(rest: &Rest, with: &ConnectWith) -> Result<(), Failure> {
    // OctoPrint pays no heed to what it is to connect with while it is connected.
    if *with != ConnectWith::default() && is_open(watch::before(rest).await?.state) {
        let error = "the printer is connected already: disconnect it first";
        return Err(Failure::with_status(error, 409));
    }
    rest.connect(with).await.map_err(|error| refused(error, with))?;
    let mut under_way_at = clock::now();
    let (sight, _) = watch::until(rest, PATIENCE, |sight| match sight.state {
        PrinterState::Connecting => {
            under_way_at = clock::now();
            false
        }
        state if state.is_closed() => clock::now() >= under_way_at + CLOSED,
        _ => true,
    })
    .await?;
    if !sight.state.is_closed() {
        return Ok(());
    }
    let why = sight.status.error.map(|error| format!(": {error}")).unwrap_or_default();
    Err(Failure::new(format!("OctoPrint could not connect to the printer{why}")))
}

fn is_open(state: PrinterState) -> bool {
    !state.is_closed() && state != PrinterState::Unknown
}

/// OctoPrint's own text says of a connector what it is called, and not where its settings are.
fn refused(error: RestError, with: &ConnectWith) -> Failure {
    match error.status() {
        Some(412) => Failure::with_status(
            match &with.connector {
                Some(connector) => format!(
                    "OctoPrint does not know enough of the connector {connector} to connect: save it as the preferred one in OctoPrint, with what it needs"
                ),
                None => "OctoPrint cannot connect with what it prefers: look at its connection settings (is the serial port there, and the host?)".to_owned(),
            },
            412,
        ),
        _ => error.into(),
    }
}
