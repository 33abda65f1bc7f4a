//! The selected file (pure).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::change::{Published, StateChange, StateTopic};
use super::json::{
    Known, Last, MOST_BYTES, MOST_SECONDS, Present, Raw, member, object, raw_number, raw_object,
    raw_text,
};
use crate::octoprint::{EventKind, FilePath};

/// A file: where it is stored, and its path there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileId {
    /// `local`, or the name of the printer's own storage.
    pub origin: String,
    /// The path there.
    pub path: String,
}

impl FileId {
    /// For a call; `None` where OctoPrint can have no such file.
    pub fn call(&self) -> Option<FilePath> {
        FilePath::parse(&format!("{}/{}", self.origin, self.path))
    }
}

/// How long a file took to print last time, in seconds, by the printer profile that it was printed
/// with.
pub type LastPrintTimes = BTreeMap<String, f64>;

#[derive(Debug, Default)]
pub(super) struct SelectedFile {
    last: Last,
    /// As it came, for when there is news of what it does not have.
    raw: Option<Box<RawValue>>,
    file: Option<FileId>,
    /// The file that an event said was selected, and by whom.
    selected: Option<(FileId, Option<String>)>,
    /// OctoPrint 2.0 has the last print time in the file's statistics alone.
    times: Option<(FileId, LastPrintTimes)>,
    /// The printer profile in force.
    profile: Option<String>,
    /// The file of which the statistics are to be asked for.
    unasked: Option<FileId>,
    published: Published,
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
    user: Known<'a, &'a str>,
    estimated_print_time: Raw<'a>,
    last_print_time: Known<'a, f64>,
    filament: Raw<'a>,
}

impl SelectedFile {
    /// Folds in a `job`.
    pub(super) fn apply(&mut self, raw: Raw<'_>) -> Option<StateChange> {
        if !self.last.differs(raw) {
            return None;
        }
        self.raw = raw.map(ToOwned::to_owned);
        let job: JobMember<'_> = object(raw);
        let file = id(&object(job.file));
        if file != self.file {
            self.unasked = file.clone().filter(|_| !job.last_print_time.is_present());
            self.file = file;
        }
        self.change()
    }

    /// Folds in an event.
    pub(super) fn event(
        &mut self,
        kind: &EventKind,
        payload: Option<&RawValue>,
    ) -> Option<StateChange> {
        match kind {
            EventKind::FileSelected => {
                self.selected = selection(payload);
                self.change()
            }
            EventKind::FileDeselected => {
                self.selected = None;
                self.change()
            }
            // The file's statistics are written just before.
            EventKind::MetadataStatisticsUpdated => {
                let job: JobMember<'_> = object(self.raw.as_deref());
                let file = self.file.clone().filter(|file| written(payload).as_ref() == Some(file));
                self.unasked = file.filter(|_| !job.last_print_time.is_present());
                None
            }
            _ => None,
        }
    }

    /// Whether an event says that the file is selected that an event said was selected already:
    /// OctoPrint 2.0 says so twice.
    pub(super) fn is_selected_again(&self, payload: Option<&RawValue>) -> bool {
        let (now, before) = (selection(payload), self.selected.as_ref());
        now.zip(before).is_some_and(|((now, _), (before, _))| now == *before)
    }

    /// The file of which the last print time is to be asked for, once.
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

    fn last_print_time(&self) -> Option<f64> {
        let (_, times) =
            self.times.as_ref().filter(|(file, _)| self.file.as_ref() == Some(file))?;
        let time = match &self.profile {
            Some(profile) => times.get(profile),
            // Without a look at the profiles there is mostly one.
            None => times.values().next().filter(|_| times.len() == 1),
        };
        time.copied().filter(|seconds| (0.0..=MOST_SECONDS).contains(seconds))
    }

    fn change(&mut self) -> Option<StateChange> {
        let job: JobMember<'_> = object(self.raw.as_deref());
        let FileMember { name, path, origin, size } = object(job.file);
        let seconds = |raw| raw_number(raw, (0.0, MOST_SECONDS));
        let selected = self.selected.as_ref().filter(|(of, _)| self.file.as_ref() == Some(of));
        let payload = JobPayload {
            file: raw_text(name),
            path: raw_text(path),
            origin: raw_text(origin),
            size: raw_number(size, (0.0, MOST_BYTES)),
            user: match raw_text(job.user) {
                None => Known::Found(selected.and_then(|(_, user)| user.as_deref())),
                user => Known::AsItCame(user),
            },
            estimated_print_time: seconds(job.estimated_print_time),
            last_print_time: match job.last_print_time.is_present() {
                true => Known::AsItCame(seconds(job.last_print_time.raw())),
                false => Known::Found(self.last_print_time()),
            },
            filament: raw_object(job.filament),
        };
        self.published.change(StateTopic::Job, &payload)
    }
}

fn id(file: &FileMember<'_>) -> Option<FileId> {
    Some(FileId { origin: member(file.origin)?, path: member(file.path)? })
}

/// The file that `FileSelected` is about, and who selected it, or whose it is.
fn selection(payload: Option<&RawValue>) -> Option<(FileId, Option<String>)> {
    #[derive(Deserialize, Default)]
    struct Selected<'a> {
        #[serde(borrow, default)]
        user: Raw<'a>,
        #[serde(borrow, default)]
        owner: Raw<'a>,
    }
    let file = id(&object(payload))?;
    let Selected { user, owner } = object(payload);
    Some((file, member(user).or(member(owner))))
}

/// The file whose statistics were written.
fn written(payload: Option<&RawValue>) -> Option<FileId> {
    #[derive(Deserialize, Default)]
    struct Written<'a> {
        #[serde(borrow, default)]
        storage: Raw<'a>,
        #[serde(borrow, default)]
        path: Raw<'a>,
    }
    let Written { storage, path } = object(payload);
    Some(FileId { origin: member(storage)?, path: member(path)? })
}
