//! Offsets, feed and flow rate, which not every connector takes: OctoPrint answers with success all
//! the same.

use crate::bridge::printer::commands::answers::Failure;
use crate::octoprint::{PrinterConnection, Rest, SERIAL};

/// Refuses an offset that the connector would ignore.
pub(crate) async fn check_offset(rest: &Rest) -> Result<(), Failure> {
    refusal_of_offset(&connection(rest).await?)
}

/// Refuses a feed or flow rate that the connector would ignore; `gcode` would set it.
pub(crate) async fn check_rate(rest: &Rest, gcode: &str) -> Result<(), Failure> {
    refusal_of_rate(&connection(rest).await?, gcode)
}

/// How OctoPrint is connected. Where it does not say, nothing speaks against the command.
async fn connection(rest: &Rest) -> Result<PrinterConnection, Failure> {
    match rest.printer_connection().await {
        Ok(connection) => Ok(connection),
        Err(error) if error.status().is_some() => Ok(PrinterConnection::default()),
        Err(error) => Err(Failure::unasked(&error)),
    }
}

fn refusal_of_offset(connection: &PrinterConnection) -> Result<(), Failure> {
    match (connection.temperature_offsets, &connection.connector) {
        (Some(false), Some(connector)) => Err(Failure::with_status(
            format!("OctoPrint's connector {connector} takes no offsets"),
            409,
        )),
        _ => Ok(()),
    }
}

/// No connector says whether it takes rates; the serial one is the only one known to.
fn refusal_of_rate(connection: &PrinterConnection, gcode: &str) -> Result<(), Failure> {
    match &connection.connector {
        Some(connector) if connector != SERIAL => Err(Failure::with_status(
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
    fn only_what_a_connector_would_ignore_is_refused() {
        let connection = |connector: Option<&str>, temperature_offsets| PrinterConnection {
            connector: connector.map(str::to_owned),
            temperature_offsets,
        };
        for (connection, offset, rate) in [
            // Before 2.0, or not connected: OctoPrint itself refuses then.
            (connection(None, None), true, true),
            (connection(Some("serial"), Some(true)), true, true),
            (connection(Some("moonraker"), Some(false)), false, false),
            (connection(Some("other"), Some(true)), true, false),
        ] {
            assert_eq!(refusal_of_offset(&connection).is_ok(), offset, "{connection:?}");
            let refused = refusal_of_rate(&connection, "M220 S110");
            assert_eq!(refused.is_ok(), rate, "{connection:?}");
        }
    }
}
