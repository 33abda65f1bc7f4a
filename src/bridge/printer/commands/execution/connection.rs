//! Connects OctoPrint to its printer, and checks what the connector in use supports.

use std::time::Duration;

use super::{JobSnapshot, ignored, job_before, wait_until};
use crate::bridge::printer::commands::answers::CommandError;
use crate::bridge::printer::snapshot::PrinterState;
use crate::clock;
use crate::octoprint::{ConnectWith, PrinterConnection, Rest, RestError, SERIAL};

/// Time after which a connection that is being set up counts as success.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Time for which a connection that has failed may be tried again, as at another serial port.
const CLOSED: Duration = Duration::from_secs(2);

/// Connects. Succeeds once the printer is connected, or the attempt has lasted a while, as it does if
/// OctoPrint searches for the serial port.
pub(crate) async fn connect(rest: &Rest, with: &ConnectWith) -> Result<(), CommandError> {
    let before = job_before(rest).await?;
    // While it is connected, OctoPrint ignores what it is asked to connect with.
    if *with != ConnectWith::default() && is_open(before.state) {
        let error = "the printer is connected already: disconnect it first";
        return Err(CommandError::with_status(error, 409));
    }
    rest.connect(with).await.map_err(|error| connect_error(error, with))?;
    let mut under_way_at = clock::now();
    // A slow OctoPrint stays for a while as it was.
    let mut is_tried = false;
    let (job, _) = wait_until(rest, TIMEOUT, |job| match job.state {
        PrinterState::Connecting => {
            under_way_at = clock::now();
            is_tried = true;
            false
        }
        state if state.is_closed() => {
            is_tried |= job.text() != before.text();
            is_tried && clock::now() >= under_way_at + CLOSED
        }
        _ => true,
    })
    .await?;
    if !job.state.is_closed() {
        return Ok(());
    }
    let why = job.status.error.map(|error| format!(": {error}")).unwrap_or_default();
    Err(CommandError::new(format!("OctoPrint could not connect to the printer{why}")))
}

/// Time that OctoPrint may take to close the connection.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Disconnects, and waits until the connection is closed.
pub(crate) async fn disconnect(rest: &Rest) -> Result<(), CommandError> {
    let before = job_before(rest).await?.state;
    rest.disconnect().await?;
    let closed = |job: &JobSnapshot| has_closed(before, job.state);
    match wait_until(rest, DISCONNECT_TIMEOUT, closed).await? {
        (_, true) => Ok(()),
        (job, false) => Err(ignored(job.text())),
    }
}

/// Whether the connection was closed since `before`. A plugin may be connecting again already.
fn has_closed(before: PrinterState, now: PrinterState) -> bool {
    match now {
        PrinterState::Connecting => before != PrinterState::Connecting,
        // Nothing speaks against it.
        PrinterState::Unknown => true,
        now => now.is_closed(),
    }
}

fn is_open(state: PrinterState) -> bool {
    !state.is_closed() && state != PrinterState::Unknown
}

/// OctoPrint's own text names the connector, but not where its settings are.
fn connect_error(error: RestError, with: &ConnectWith) -> CommandError {
    match error.status() {
        Some(412) => CommandError::with_status(
            match with.asked_connector() {
                Some(connector) => format!(
                    "OctoPrint lacks settings of the connector {connector}: enter them in OctoPrint's connection panel and save it as the preferred connection"
                ),
                None => "OctoPrint cannot connect with its preferred connection: check its settings (does the serial port, or the host, exist?)".to_owned(),
            },
            412,
        ),
        _ => error.into(),
    }
}

/// Refuses an offset that the connector would ignore.
pub(crate) async fn check_offset(rest: &Rest) -> Result<(), CommandError> {
    refusal_of_offset(&connection(rest).await?)
}

/// Refuses a feed or flow rate that the connector would ignore; `gcode` would set it.
pub(crate) async fn check_feed_or_flow(rest: &Rest, gcode: &str) -> Result<(), CommandError> {
    refusal_of_feed_or_flow(&connection(rest).await?, gcode)
}

/// How OctoPrint is connected. If it does not say, the command is not refused.
async fn connection(rest: &Rest) -> Result<PrinterConnection, CommandError> {
    match rest.printer_connection().await {
        Ok(connection) => Ok(connection),
        Err(error) if error.status().is_some() => Ok(PrinterConnection::default()),
        Err(error) => Err(CommandError::not_sent(&error)),
    }
}

fn refusal_of_offset(connection: &PrinterConnection) -> Result<(), CommandError> {
    match (connection.temperature_offsets, &connection.connector) {
        (Some(false), Some(connector)) => Err(CommandError::with_status(
            format!("OctoPrint's connector {connector} takes no offsets"),
            409,
        )),
        _ => Ok(()),
    }
}

/// No connector reports whether it supports rates; only the serial one is known to.
fn refusal_of_feed_or_flow(
    connection: &PrinterConnection,
    gcode: &str,
) -> Result<(), CommandError> {
    match &connection.connector {
        Some(connector) if connector != SERIAL => Err(CommandError::with_status(
            format!(
                "OctoPrint's connector {connector} ignores feed and flow rates; the printer may take {gcode} as G-code"
            ),
            409,
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_has_closed_even_if_a_new_one_is_begun() {
        use PrinterState::{Connecting, Error, Offline, Operational, Printing, Unknown};
        for (before, now, closed) in [
            (Operational, Offline, true),
            (Operational, Error, true),
            (Offline, Offline, true),
            (Operational, Connecting, true),
            (Operational, Unknown, true),
            (Connecting, Connecting, false),
            (Operational, Operational, false),
            (Printing, Printing, false),
        ] {
            assert_eq!(has_closed(before, now), closed, "{before:?} {now:?}");
        }
    }

    #[test]
    fn only_values_that_the_connector_ignores_are_refused() {
        let connection = |connector: Option<&str>, temperature_offsets| PrinterConnection {
            connector: connector.map(str::to_owned),
            temperature_offsets,
            job_on_hold: None,
        };
        for (connection, offset, feed_or_flow) in [
            // Before 2.0, or not connected: OctoPrint itself refuses then.
            (connection(None, None), true, true),
            (connection(Some("serial"), Some(true)), true, true),
            (connection(Some("moonraker"), Some(false)), false, false),
            (connection(Some("other"), Some(true)), true, false),
        ] {
            assert_eq!(refusal_of_offset(&connection).is_ok(), offset, "{connection:?}");
            let refused = refusal_of_feed_or_flow(&connection, "M220 S110");
            assert_eq!(refused.is_ok(), feed_or_flow, "{connection:?}");
        }
    }
}
