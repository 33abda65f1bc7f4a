//! The selected file (pure).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::event_fields::EventFields;
use super::json::{
    LastMember, LastPayload, MAX_BYTES, MAX_SECONDS, Present, Raw, ReceivedOr, StateChange,
    StateTopic, member, members, number, object, raw_number, raw_object, raw_text,
};
use crate::octoprint::{EventKind, FilePath};

/// Largest length of filament in mm, and largest weight in grams.
const MAX_FILAMENT: f64 = 1e9;

/// A file in one of OctoPrint's storages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileId {
    /// `local`, or the name of the printer's own storage.
    pub origin: String,
    /// The path in this storage.
    pub path: String,
}

impl FileId {
    /// Returns the path for a REST call; `None` if OctoPrint cannot have such a file.
    pub fn call(&self) -> Option<FilePath> {
        FilePath::parse(&format!("{}/{}", self.origin, self.path))
    }
}

/// The selected file, as far as it tells whether two files are the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobFile {
    /// The file.
    pub file: FileId,
    /// Its size in bytes.
    pub size: Option<u64>,
    /// When it was uploaded, in Unix seconds.
    pub date: Option<u64>,
}

/// Last print times of a file in seconds, by the id of the printer profile.
pub type LastPrintTimes = BTreeMap<String, f64>;

/// The filament that a print of a file needs, as OctoPrint or a slicer computed it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Filament {
    /// Length of all tools together, in mm.
    pub length: f64,
    /// Weight in grams; `None` if only the length is known.
    pub weight: Option<f64>,
}

#[derive(Debug, Default)]
pub(super) struct SelectedFile {
    /// The last `job`, for what arrives separately.
    last: LastMember,
    file: Option<JobFile>,
    /// File and user of the last `FileSelected`.
    selected: Option<(FileId, Option<String>)>,
    /// Last print times, which OctoPrint 2.0 has in the file's statistics alone.
    times: Option<(FileId, LastPrintTimes)>,
    profile: Option<String>,
    /// The file whose statistics must be asked for.
    unasked: Option<FileId>,
    published: LastPayload,
}

#[derive(Deserialize, Default)]
struct FileMember<'a> {
    #[serde(borrow, default)]
    name: Raw<'a>,
    #[serde(borrow, default)]
    path: Raw<'a>,
    #[serde(borrow, default)]
    origin: Raw<'a>,
    #[serde(borrow, default)]
    size: Raw<'a>,
    #[serde(borrow, default)]
    date: Raw<'a>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct JobMember<'a> {
    #[serde(borrow, default)]
    file: Raw<'a>,
    #[serde(borrow, default)]
    user: Raw<'a>,
    #[serde(borrow, default)]
    estimated_print_time: Raw<'a>,
    #[serde(borrow, default)]
    last_print_time: Present<'a>,
    #[serde(borrow, default)]
    filament: Raw<'a>,
}

#[derive(Serialize)]
struct JobPayload<'a> {
    file: Raw<'a>,
    path: Raw<'a>,
    origin: Raw<'a>,
    size: Raw<'a>,
    user: ReceivedOr<'a, &'a str>,
    estimated_print_time: Raw<'a>,
    last_print_time: ReceivedOr<'a, f64>,
    filament: Raw<'a>,
}

impl SelectedFile {
    pub(super) fn apply(&mut self, raw: Raw<'_>) -> Option<StateChange> {
        if !self.last.update(raw) {
            return None;
        }
        let job: JobMember<'_> = object(raw);
        let file: FileMember<'_> = object(job.file);
        let id = id(&file);
        if id.as_ref() != self.file() {
            self.unasked = id.clone().filter(|_| !job.last_print_time.is_present());
        }
        // Within bounds, so the conversion is exact.
        let whole = |raw| number(raw, (0.0, MAX_BYTES)).map(|number| number.round() as u64);
        let (size, date) = (whole(file.size), whole(file.date));
        self.file = id.map(|file| JobFile { file, size, date });
        self.change()
    }

    fn file(&self) -> Option<&FileId> {
        self.file.as_ref().map(|job| &job.file)
    }

    pub(super) fn job_file(&self) -> Option<&JobFile> {
        self.file.as_ref()
    }

    pub(super) fn event(
        &mut self,
        kind: &EventKind,
        fields: &EventFields<'_>,
    ) -> Option<StateChange> {
        match kind {
            EventKind::FileSelected => {
                self.selected = selection(fields);
                self.change()
            }
            EventKind::FileDeselected => {
                self.selected = None;
                self.change()
            }
            // The file's statistics are written just before.
            EventKind::MetadataStatisticsUpdated => {
                let job: JobMember<'_> = object(self.last.raw());
                let written = written(fields);
                let file = written.filter(|file| self.file() == Some(file));
                self.unasked = file.filter(|_| !job.last_print_time.is_present());
                None
            }
            _ => None,
        }
    }

    /// Whether a `FileSelected` repeats the last one, as OctoPrint 2.0 does.
    pub(super) fn is_selected_again(&self, fields: &EventFields<'_>) -> bool {
        let (now, before) = (selection(fields), self.selected.as_ref());
        now.zip(before).is_some_and(|((now, _), (before, _))| now == *before)
    }

    /// Returns the file whose last print times must be asked for, once.
    pub(super) fn take_unasked(&mut self) -> Option<FileId> {
        self.unasked.take()
    }

    pub(super) fn set_times(&mut self, file: FileId, times: LastPrintTimes) -> Option<StateChange> {
        self.times = Some((file, times));
        self.change()
    }

    pub(super) fn set_profile(&mut self, profile: Option<String>) -> Option<StateChange> {
        self.profile = profile;
        self.change()
    }

    /// Returns the filament that the selected file needs, if its path is `path`.
    pub(super) fn filament(&self, path: &str) -> Option<Filament> {
        #[derive(Deserialize, Default)]
        struct OfTool<'a> {
            #[serde(borrow, default)]
            length: Raw<'a>,
            #[serde(borrow, default)]
            weight: Raw<'a>,
        }
        self.file().filter(|file| file.path == path)?;
        let job: JobMember<'_> = object(self.last.raw());
        let tools = members(raw_object(job.filament))?;
        let tools = tools.iter().map(|(_, raw)| object::<OfTool<'_>>(Some(raw)));
        let (mut length, mut weight) = (None, Some(0.0));
        for OfTool { length: of_tool, weight: grams } in tools {
            if let Some(millimetres) = number(of_tool, (0.0, MAX_FILAMENT)) {
                *length.get_or_insert(0.0) += millimetres;
                let grams = number(grams, (0.0, MAX_FILAMENT));
                weight = weight.zip(grams).map(|(sum, grams)| sum + grams);
            }
        }
        Some(Filament { length: length?, weight })
    }

    fn last_print_time(&self) -> Option<f64> {
        let (_, times) = self.times.as_ref().filter(|(file, _)| self.file() == Some(file))?;
        let time = match &self.profile {
            Some(profile) => times.get(profile),
            // If the profiles cannot be read, there is mostly one.
            None => times.values().next().filter(|_| times.len() == 1),
        };
        time.copied().filter(|seconds| (0.0..=MAX_SECONDS).contains(seconds))
    }

    fn change(&mut self) -> Option<StateChange> {
        let job: JobMember<'_> = object(self.last.raw());
        let FileMember { name, path, origin, size, .. } = object(job.file);
        let seconds = |raw| raw_number(raw, (0.0, MAX_SECONDS));
        let selected = self.selected.as_ref().filter(|(of, _)| self.file() == Some(of));
        let payload = JobPayload {
            file: raw_text(name),
            path: raw_text(path),
            origin: raw_text(origin),
            size: raw_number(size, (0.0, MAX_BYTES)),
            user: match raw_text(job.user) {
                None => ReceivedOr::Derived(selected.and_then(|(_, user)| user.as_deref())),
                user => ReceivedOr::Received(user),
            },
            estimated_print_time: seconds(job.estimated_print_time),
            last_print_time: match job.last_print_time.is_present() {
                true => ReceivedOr::Received(seconds(job.last_print_time.raw())),
                false => ReceivedOr::Derived(self.last_print_time()),
            },
            filament: raw_object(job.filament),
        };
        self.published.change(StateTopic::Job, &payload)
    }
}

fn id(file: &FileMember<'_>) -> Option<FileId> {
    Some(FileId { origin: member(file.origin)?, path: member(file.path)? })
}

/// Reads the file of a `FileSelected`, and the user who selected or owns it.
fn selection(fields: &EventFields<'_>) -> Option<(FileId, Option<String>)> {
    let file = FileId { origin: member(fields.origin)?, path: member(fields.path)? };
    Some((file, member(fields.user).or(member(fields.owner))))
}

/// Reads the file of a `MetadataStatisticsUpdated`.
fn written(fields: &EventFields<'_>) -> Option<FileId> {
    Some(FileId { origin: member(fields.storage)?, path: member(fields.path)? })
}
