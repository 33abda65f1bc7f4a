//! Reads G-code files: where their layers begin, what the slicer wrote about them, their thumbnail
//! (pure).
//!
//! A file is fed as chunks of bytes of any size, and is never held as a whole: [`GcodeReader`] needs
//! the same memory for every file, whatever is in it. [`read_ends`] reads what the slicer wrote from the
//! first and the last part of a file alone.
//!
//! | file | purpose |
//! | --- | --- |
//! | `reader` | the whole: chunks in, a [`GcodeFile`] out |
//! | `lines` | chunks become lines |
//! | `words` | a line becomes a command and its words |
//! | `motion` | where the nozzle is, and whether it extrudes |
//! | `heights` | layers by moves, where no comments mark them |
//! | `marks` | layers by the comments of the slicers |
//! | `layers` | the index of layers |
//! | `comments` | comments become what the slicer wrote about the file |
//! | `slicer`, `filament`, `temperatures` | parts of it: who made the file, what each tool uses, how hot |
//! | `info` | what the slicer wrote, as it is published |
//! | `values` | numbers and durations in comments |
//! | `thumbnail`, `image` | thumbnails found, and checked |
//! | `to_send` | lines that users send, which no file has |

mod comments;
mod filament;
mod heights;
mod image;
mod info;
mod layers;
mod lines;
mod marks;
mod motion;
mod reader;
mod slicer;
mod temperatures;
#[cfg(test)]
mod tests;
mod thumbnail;
mod to_send;
mod values;
mod words;

pub use image::ImageFormat;
pub use info::SlicerInfo;
pub use layers::{Layer, LayerIndex, MOST_STARTS};
pub use reader::{FileKind, GcodeFile, GcodeReader, ReadLimits, read_ends};
pub use thumbnail::Thumbnail;
pub use to_send::{MAX_LINE, MAX_LINES, lines_to_send};
