//! What work in the background found out about the selected file (pure).

use std::sync::Arc;

use bytes::Bytes;

use super::reading::{Ends, Failure, picture_of};
use crate::gcode::{FileKind, GcodeFile, LayerIndex, SlicerInfo};

/// What was found out about the selected file.
#[derive(Debug)]
pub struct GcodeFinding {
    /// Of which selection.
    pub(super) generation: u64,
    pub(super) found: Found,
}

#[derive(Debug)]
pub(super) enum Found {
    Ends(Ends),
    Whole(Result<WholeFile, Failure>),
}

/// What is kept of a file that was read as a whole.
#[derive(Debug)]
pub(super) struct WholeFile {
    pub(super) layers: Arc<LayerIndex>,
    pub(super) slicer: SlicerInfo,
    pub(super) picture: Option<Bytes>,
}

impl WholeFile {
    pub(super) fn of(file: GcodeFile) -> Result<Self, Failure> {
        if file.kind != FileKind::Text {
            return Err(Failure::Missing);
        }
        let picture = file.thumbnail.as_ref().map(picture_of);
        Ok(Self { layers: Arc::new(file.layers), slicer: file.slicer, picture })
    }
}
