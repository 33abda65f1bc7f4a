//! The features that there are.

use super::MakeFeature;
use super::camera::CameraPictures;
use super::card::BoardCard;
use super::fleet::FleetMember;
use super::gcode_file::GcodeFiles;
use super::own_entities::OwnEntities;
use super::power::Power;
use super::prompts::Prompts;
use super::statistics::PrintStatistics;
use super::timelapse::TimelapseEvents;
use super::updates::UpdateState;

/// All features, in the order in which they see a message.
pub const FEATURES: &[MakeFeature] = &[
    TimelapseEvents::make,
    GcodeFiles::make,
    CameraPictures::make,
    OwnEntities::make,
    UpdateState::make,
    Prompts::make,
    Power::make,
    FleetMember::make,
    PrintStatistics::make,
    // Last: it shows what the others have published.
    BoardCard::make,
];
