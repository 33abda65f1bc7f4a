//! Answers to requests for a printer's history, as JSON or CSV (pure).

use serde_json::{Value, json};

use super::print_log::{PrintEntry, PrintLog};
use crate::bridge::request::{HistoryFormat, HistoryRequest};

/// Returns the data of the answer.
pub(super) fn answer(asked: &HistoryRequest, log: &PrintLog) -> Value {
    match asked.format {
        HistoryFormat::Json => {
            json!({"printer": asked.printer, "prints": log.newest(usize::MAX)})
        }
        HistoryFormat::Csv => json!({"printer": asked.printer, "csv": csv(&log.prints)}),
    }
}

/// Returns the prints as CSV, newest first, in the form of RFC 4180.
fn csv(prints: &[PrintEntry]) -> String {
    let names = PrintEntry::default().fields().map(|(name, _)| name.to_owned());
    let lines = prints.iter().rev().map(|print| print.fields().map(|(_, value)| cell(&value)));
    let lines = std::iter::once(names).chain(lines);
    lines.map(|cells| cells.join(",") + "\r\n").collect()
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) if text.contains([',', '"', '\r', '\n']) => {
            format!("\"{}\"", text.replace('"', "\"\""))
        }
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_where_they_must_be() {
        let print = PrintEntry {
            file: Some("a \"b\", c.gcode".to_owned()),
            path: Some("x/a.gcode".to_owned()),
            ended: 1_700_000_000,
            result: "failed".to_owned(),
            duration: Some(12.5),
            filament: Some(1234.5),
            reason: Some("two\nlines".to_owned()),
            ..PrintEntry::default()
        };
        let csv = csv(&[print]);
        let (names, line) = csv.split_once("\r\n").unwrap();
        assert_eq!(
            names,
            "file,path,started,ended,result,duration,filament_m,filament_g,cost,reason,recovered"
        );
        assert_eq!(
            line,
            "\"a \"\"b\"\", c.gcode\",x/a.gcode,,2023-11-14T22:13:20Z,failed,12.5,1.23,,,\"two\nlines\",false\r\n"
        );
    }
}
