//! All features of one printer, which are listed here and nowhere else.

use std::time::Instant;

use tokio::sync::mpsc;

use super::camera::CameraPictures;
use super::timelapse::TimelapseEvents;
use super::{Background, Feature, FeatureFinding, FeatureParts};
use crate::bridge::watch::Watch;
use crate::config;
use crate::store::{Known, Store};

/// Makes a feature; `None` if the printer does not need it.
type MakeFeature = fn(&FeatureParts<'_>) -> Option<Box<dyn Feature>>;

/// The features of one printer.
pub struct Features {
    features: Vec<Box<dyn Feature>>,
    findings: mpsc::Receiver<Box<FeatureFinding>>,
}

impl Features {
    /// The features of a printer; `watch` reports panics of their work in the background.
    pub fn new(printer: &config::Printer, known: &Known, store: &Store, watch: Watch) -> Self {
        let (background, findings) = Background::new(watch);
        let parts = FeatureParts { printer, known, store, background };
        let make: &[MakeFeature] = &[TimelapseEvents::make, CameraPictures::make];
        let features = make.iter().filter_map(|make| make(&parts)).collect();
        Self { features, findings }
    }

    /// The state for the next task of the printer, after a failure of this one.
    pub fn restarted(mut self, watch: Watch) -> Self {
        let (background, findings) = Background::new(watch);
        self.each(|feature| feature.restart(&background));
        Self { findings, ..self }
    }

    /// Calls `visit` with each feature.
    pub fn each(&mut self, mut visit: impl FnMut(&mut dyn Feature)) {
        self.features.iter_mut().for_each(|feature| visit(feature.as_mut()));
    }

    /// Returns when a feature has something to do.
    pub fn due(&self) -> Option<Instant> {
        self.features.iter().filter_map(|feature| feature.due()).min()
    }

    /// Waits for what work in the background finds out. Cancel safe.
    pub async fn finding(&mut self) -> Option<Box<FeatureFinding>> {
        self.findings.recv().await
    }
}
