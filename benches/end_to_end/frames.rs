//! What the simulated OctoPrints send: recorded messages in which some numbers move on.

use std::fmt::Write;

use bytes::Bytes;

/// A real print on OctoPrint 1.11.8.
const PRINT: &str = include_str!("../../tests/captures/print_done.jsonl");

/// The extruder's temperature goes through as many different values before it repeats itself. Each
/// is 0.2 °C from the last, which is what the bridge publishes at once.
pub const VALUES: u64 = 1400;

/// How much of a message moves on from frame to frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moving {
    /// Nothing: the printer is idle.
    Nothing,
    /// The extruder's temperature: the message itself and one state topic are published.
    Temperature,
    /// Extruder, bed, height and progress: the message itself and four state topics.
    Everything,
}

impl Moving {
    /// The topics below the printer's own that a frame has published.
    pub fn topics(self) -> &'static [&'static str] {
        match self {
            Self::Nothing => &["message/current"],
            Self::Temperature => &["temperature/tool0", "message/current"],
            Self::Everything => {
                &["progress", "temperature/bed", "temperature/tool0", "position", "message/current"]
            }
        }
    }
}

/// A recorded `current` or `history` message, cut open where its numbers are.
pub struct Recorded {
    pieces: [String; 6],
}

impl Recorded {
    /// The message while a print runs; with the terminal's lines where they were subscribed.
    pub fn printing(terminal: bool) -> Self {
        Self::find("\"text\":\"Printing\"", terminal)
    }

    /// The message of a printer that does nothing.
    pub fn idle() -> Self {
        Self::find("\"text\":\"Operational\"", false)
    }

    fn find(state: &str, terminal: bool) -> Self {
        // With one reading alone: the last of several is how it is now.
        let wanted = |line: &&str| {
            line.contains("\"m\":{\"current\":")
                && line.contains(state)
                && line.contains("\"logs\":[\"")
                && line.matches("\"tool0\":{\"actual\"").count() == 1
        };
        let line = PRINT.lines().rfind(wanted).expect("the recording has such a message");
        let start = line.find("{\"state\"").expect("a message starts with its state");
        // Two braces close the line around the message.
        let mut text = line[start..line.len() - 2].to_owned();
        if !terminal {
            for list in ["\"logs\":[", "\"messages\":["] {
                let start = text.find(list).expect("both lists are there") + list.len();
                let end = start + text[start..].find("\"]").map_or(0, |at| at + 1);
                text.replace_range(start..end, "");
            }
        }
        let mut rest = text.as_str();
        let mut pieces: [String; 6] = Default::default();
        let numbers = [
            "\"currentZ\":",
            "\"completion\":",
            "\"serverTime\":",
            "\"tool0\":{\"actual\":",
            "\"bed\":{\"actual\":",
        ];
        for (piece, before) in pieces.iter_mut().zip(numbers) {
            let start =
                rest.find(before).expect("each number is there, in this order") + before.len();
            let end = start + rest[start..].find([',', '}']).expect("something follows a number");
            *piece = rest[..start].to_owned();
            rest = &rest[end..];
        }
        pieces[5] = rest.to_owned();
        Self { pieces }
    }

    /// The payload of message number `sequence`.
    pub fn payload(&self, sequence: u64, moving: Moving) -> String {
        let [z, completion, time, tool0, bed, rest] = &self.pieces;
        let moves = |when: bool| if when { sequence } else { 0 };
        let all = moves(moving == Moving::Everything);
        let some = moves(moving != Moving::Nothing);
        let mut text = String::with_capacity(2048);
        let written = write!(
            text,
            "{z}{:.1}{completion}{:.1}{time}{}.5{tool0}{:.1}{bed}{:.1}{rest}",
            (all % 500 + 1) as f64 * 0.2,
            (all % 999 + 1) as f64 * 0.1,
            1_795_447_676 + sequence / 2,
            tool0_celsius(some),
            20.0 + (all % 300) as f64 * 0.2,
        );
        written.expect("a string can be written to");
        text
    }

    /// The SockJS frame of a message.
    pub fn frame(&self, kind: &str, sequence: u64, moving: Moving) -> String {
        format!("a[{{\"{kind}\":{}}}]", self.payload(sequence, moving))
    }
}

/// The frame with which OctoPrint greets who has logged in to an idle printer: how it is, and all
/// temperatures of the last half hour, one reading every two seconds.
pub fn history(idle: &Recorded) -> String {
    let frame = idle.frame("history", 0, Moving::Nothing);
    let start = frame.find("\"temps\":[").expect("a recorded message has temperatures") + 9;
    let end = start + frame[start..].find(']').expect("the list ends");
    let readings = vec![&frame[start..end]; 900].join(",");
    format!("{}{readings}{}", &frame[..start], &frame[end..])
}

/// The extruder's temperature in message number `sequence`, in °C.
fn tool0_celsius(sequence: u64) -> f64 {
    20.0 + (sequence % VALUES) as f64 * 0.2
}

/// Which of the [`VALUES`] a payload of `temperature/tool0` carries.
pub fn value_of(payload: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(payload).ok()?;
    let number = text.split_once("\"actual\":")?.1;
    let number = &number[..number.find([',', '}'])?];
    let celsius: f64 = number.parse().ok()?;
    Some(((celsius - 20.0) / 0.2).round() as u64 % VALUES)
}

/// What the bridge publishes on `topic` (below the printer's own) for message number `sequence`:
/// the bare publisher publishes the same.
pub fn published(topic: &str, recorded: &Recorded, sequence: u64, moving: Moving) -> String {
    match topic {
        "temperature/tool0" => {
            format!("{{\"actual\":{:.1},\"target\":60.0,\"offset\":0.0}}", tool0_celsius(sequence))
        }
        "temperature/bed" => {
            let celsius = 20.0 + (sequence % 300) as f64 * 0.2;
            format!("{{\"actual\":{celsius:.1},\"target\":40.0,\"offset\":0.0}}")
        }
        "position" => format!("{{\"z\":{:.1},\"tool\":null}}", (sequence % 500 + 1) as f64 * 0.2),
        "progress" => format!(
            "{{\"completion\":{:.1},\"print_time\":41,\"print_time_left\":73,\"print_time_left_origin\":\"linear\",\"started\":\"2026-11-24T10:00:00Z\",\"eta\":\"2026-11-24T10:01:54Z\",\"filepos\":8280}}",
            (sequence % 999 + 1) as f64 * 0.1
        ),
        _ => recorded.payload(sequence, moving),
    }
}

/// The `connected` message of a real OctoPrint.
pub fn greeting() -> String {
    let line = PRINT.lines().find(|line| line.contains("\"m\":{\"connected\""));
    let line = line.expect("the recording begins with the greeting");
    let start = line.find("{\"connected\"").expect("the message follows its name");
    format!("a[{}]", &line[start..line.len() - 1])
}

/// Layers of the file.
const LAYERS: usize = 100;
/// Moves of a layer.
const MOVES: usize = 400;
/// Side of the thumbnail, in pixels.
const SIDE: u32 = 220;

/// A G-code file of 1 MB, with a thumbnail and layers, in PrusaSlicer's convention.
pub fn gcode() -> Bytes {
    let picture = thumbnail();
    let mut text = format!(
        "; generated by PrusaSlicer 2.9.2 on 2026-01-01 at 00:00:00 UTC\n\n; thumbnail begin {SIDE}x{SIDE} {}\n",
        picture.len()
    );
    for line in picture.as_bytes().chunks(78) {
        let _ = writeln!(text, "; {}", String::from_utf8_lossy(line));
    }
    text += "; thumbnail end\n\nG28\nM83\n";
    for layer in 1..=LAYERS {
        let z = layer as f64 * 0.2;
        let _ = writeln!(text, ";LAYER_CHANGE\n;Z:{z:.1}\n;HEIGHT:0.2\nG1 Z{z:.1} F600");
        for n in 0..MOVES {
            let _ = writeln!(text, "G1 X{}.{} Y{}.{} E0.0312", n % 200, n % 10, layer, n % 7);
        }
    }
    text += "; filament used [mm] = 1234.56\n; estimated printing time (normal mode) = 10m 0s\n";
    text.into()
}

/// A picture that does not compress well, as photographs do not.
fn thumbnail() -> String {
    use base64::Engine;
    let mut random = fastrand::Rng::with_seed(1);
    let pixels: Vec<u8> = (0..SIDE * SIDE * 3).map(|_| random.u8(0..64)).collect();
    let mut picture = Vec::new();
    let mut encoder = png::Encoder::new(&mut picture, SIDE, SIDE);
    encoder.set_color(png::ColorType::Rgb);
    let mut writer = encoder.write_header().expect("a vector can be written to");
    writer.write_image_data(&pixels).expect("the picture has all its pixels");
    writer.finish().expect("a vector can be written to");
    base64::engine::general_purpose::STANDARD.encode(picture)
}
