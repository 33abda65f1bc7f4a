//! The G-code of the simulated part: as many layers as the model prints, each as long.

use std::fmt::Write;
use std::sync::{Arc, OnceLock};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::{CONTENT_RANGE, RANGE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};

use super::model::{LAYERS, PART_BYTES, PART_SECONDS};
use super::shared::{ServerState, locked};

/// A square, as slicers write a picture into a file.
const THUMBNAIL: &str = "\
; thumbnail begin 32x32 140
; iVBORw0KGgoAAAANSUhEUgAAACAAAAAgCAIAAAD8GO2jAAAAL0lEQVR42mP4T2PAMGrBqAVD2IJfGY
; YkoVELRi0YtWDUglELhqcFo1XmqAUjyAIAM8eKlxfh5ZQAAAAASUVORK5CYII=
; thumbnail end
";

/// Returns the file; all simulated printers have the same.
pub(super) fn part() -> Bytes {
    static PART: OnceLock<Bytes> = OnceLock::new();
    PART.get_or_init(|| write_part().into()).clone()
}

/// Answers as OctoPrint 1.x, which knows ranges of bytes.
pub(super) async fn download(
    State(shared): State<Arc<ServerState>>,
    headers: HeaderMap,
) -> Response {
    locked(&shared.observed).downloads += 1;
    let part = part();
    let size = part.len();
    let range = headers.get(RANGE).and_then(|range| range.to_str().ok()).and_then(|range| {
        let (start, last) = range.strip_prefix("bytes=")?.split_once('-')?;
        Some((start.parse::<usize>().ok()?, last.parse::<usize>().ok()?))
    });
    match range.map(|(start, last)| (start, size.min(last.saturating_add(1)))) {
        None => part.into_response(),
        Some((start, end)) if start >= end => StatusCode::RANGE_NOT_SATISFIABLE.into_response(),
        Some((start, end)) => {
            let shown = format!("bytes {start}-{}/{size}", end - 1);
            (StatusCode::PARTIAL_CONTENT, [(CONTENT_RANGE, shown)], part.slice(start..end))
                .into_response()
        }
    }
}

fn write_part() -> String {
    let mut text =
        format!("{THUMBNAIL};FLAVOR:Marlin\n;TIME:{PART_SECONDS}\n;Filament used: 1.2345m\n");
    text += ";Layer height: 0.2\n;Generated with Cura_SteamEngine 5.7.0\n";
    let _ = writeln!(text, ";LAYER_COUNT:{LAYERS}\nM82\nG28\nG92 E0");
    let mut extruded = 0.0;
    for layer in 0..LAYERS as u64 {
        let z = (layer + 1) as f64 / 5.0;
        let _ = writeln!(text, ";LAYER:{layer}\nG0 F6000 X60 Y60 Z{z:.1}");
        let end = PART_BYTES * (layer + 1) / LAYERS as u64;
        let room = |text: &String| end.saturating_sub(text.len() as u64);
        while room(&text) > 200 {
            for (x, y) in [(140, 60), (140, 140), (60, 140), (60, 60)] {
                extruded += 2.66;
                let _ = writeln!(text, "G1 X{x} Y{y} E{extruded:.5}");
            }
        }
        // To the byte, as the model knows no lines.
        let fill = room(&text).saturating_sub(2) as usize;
        let _ = writeln!(text, ";{:fill$}", "");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gcode::{GcodeReader, ReadLimits};

    #[test]
    fn the_layers_are_where_the_model_has_them() {
        let part = part();
        assert_eq!(part.len() as u64, PART_BYTES);
        let mut reader = GcodeReader::new(&ReadLimits::default());
        reader.feed(&part);
        let file = reader.finish();
        assert_eq!(f64::from(file.layers.total()), LAYERS);
        for layer in 1..LAYERS as u64 {
            let begin = PART_BYTES * layer / LAYERS as u64;
            let at = |position| file.layers.at(position).map(|layer| u64::from(layer.number));
            assert_eq!(at(begin - 100), Some(layer));
            assert_eq!(at(begin + 100), Some(layer + 1));
        }
        assert_eq!(file.slicer.print_time, Some(PART_SECONDS as u64));
        assert_eq!(file.thumbnail.map(|image| image.width), Some(32));
    }
}
