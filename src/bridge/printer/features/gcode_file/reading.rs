//! Reads the selected file in the background.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout};

use super::picture::sources;
use crate::causes;
use crate::gcode::{GcodeFile, GcodeReader, ReadLimits, SlicerInfo, Thumbnail, read_ends};
use crate::octoprint::{Download, FilePath, Pace, PictureFormat, Rest, RestError};

/// Most bytes that are read of a file in a second: OctoPrint serves it from the loop that also
/// pushes.
const RATE: u32 = 500_000;
/// How much is read of the beginning and of the end of a file for what the slicer wrote, in bytes.
const END: usize = 256 * 1024;
/// Largest picture, in bytes: the broker and Home Assistant keep it.
const MAX_PICTURE: usize = 512 * 1024;

/// Whole files that are read at a time in this process, for all printers: each needs 1.5 MB.
static WHOLE_TURNS: Semaphore = Semaphore::const_new(16);
/// The same for beginnings and ends, which never wait for whole files.
static END_TURNS: Semaphore = Semaphore::const_new(8);

/// The longest pause in the reading of a file, after which there is another attempt: OctoPrint has not
/// pushed anything for so long.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// What to read of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct WantedFile {
    /// What the slicer wrote.
    pub(super) slicer: bool,
    /// The picture.
    pub(super) picture: bool,
    /// Largest file that is read as a whole, in bytes.
    pub(super) max_size: u64,
}

impl WantedFile {
    fn limits(self) -> ReadLimits {
        ReadLimits { thumbnail: if self.picture { MAX_PICTURE } else { 0 } }
    }
}

/// Why a file was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// The user lacks the permission.
    Refused,
    /// OctoPrint does not have it, or not as text.
    Missing,
    /// It is larger than the limit.
    TooLarge,
    /// There was no answer, or it broke off: another attempt may be better.
    Lost,
}

impl Failure {
    /// What an error of a download means.
    fn of(error: &RestError) -> Self {
        tracing::debug!("the G-code file was not read: {}", causes::text(error));
        match error.status() {
            Some(401 | 403) => Self::Refused,
            Some(404 | 416) => Self::Missing,
            _ => Self::Lost,
        }
    }
}

/// What the beginning and the end of a file say.
#[derive(Debug, Default)]
pub(super) struct Ends {
    pub(super) slicer: Option<SlicerInfo>,
    pub(super) picture: Option<Bytes>,
    pub(super) failure: Option<Failure>,
}

/// Reads what the slicer wrote, and the picture: one that OctoPrint or a plugin has, else that in the
/// file, which is read only if `may_read`.
pub(super) async fn ends(rest: &Rest, file: &FilePath, wanted: WantedFile, may_read: bool) -> Ends {
    // Never closed.
    let _turn = END_TURNS.acquire().await;
    let mut ends = Ends::default();
    if wanted.picture {
        ends.picture = known_picture(rest, file).await;
    }
    let wanted = WantedFile { picture: wanted.picture && ends.picture.is_none(), ..wanted };
    if !may_read || !file.is_local() || !(wanted.slicer || wanted.picture) {
        return ends;
    }
    match both_ends(rest, file, wanted).await {
        Ok((head, tail)) => {
            let limits = wanted.limits();
            let (slicer, thumbnail) = beside(move || read_ends(&head, &tail, &limits)).await;
            ends.slicer = Some(slicer);
            ends.picture = ends.picture.or(thumbnail.as_ref().map(picture_of));
        }
        Err(failure) => ends.failure = Some(failure),
    }
    ends
}

/// Runs `work` on another thread: images take their time, and this thread serves all printers.
async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The program ends.
            Err(_) => std::future::pending().await,
        },
    }
}

/// Returns a copy of exactly its size: it is kept for long.
pub(super) fn picture_of(thumbnail: &Thumbnail) -> Bytes {
    Bytes::copy_from_slice(&thumbnail.data)
}

async fn known_picture(rest: &Rest, file: &FilePath) -> Option<Bytes> {
    let info = rest.file_info(file).await.ok()?;
    for path in sources(&info) {
        match rest.image(&path, MAX_PICTURE).await {
            Ok(bytes) if PictureFormat::of(&bytes).is_some() => {
                return Some(Bytes::copy_from_slice(&bytes));
            }
            Ok(_) => tracing::debug!(path, "OctoPrint's picture of the file is broken"),
            Err(error) => tracing::debug!("no picture of the file: {}", causes::text(&error)),
        }
    }
    None
}

async fn both_ends(
    rest: &Rest,
    file: &FilePath,
    wanted: WantedFile,
) -> Result<(Bytes, Bytes), Failure> {
    let mut pace = Pace::new(RATE);
    let end = END as u64;
    let mut head = begin(rest, file, Some(0..end)).await?;
    let (is_part, size) = (head.is_part(), head.size().unwrap_or_default());
    let first = head.first(END, &mut pace).await.map_err(|error| Failure::of(&error))?;
    if !is_part || size <= end || !wanted.slicer {
        return Ok((first, Bytes::new()));
    }
    drop(head);
    pace.ready().await;
    let mut tail = begin(rest, file, Some(size.saturating_sub(end).max(end)..size)).await?;
    if !tail.is_part() {
        return Ok((first, Bytes::new()));
    }
    let last = tail.first(END, &mut pace).await.map_err(|error| Failure::of(&error))?;
    Ok((first, last))
}

async fn begin(
    rest: &Rest,
    file: &FilePath,
    range: Option<Range<u64>>,
) -> Result<Download, Failure> {
    rest.download(file, range).await.map_err(|error| Failure::of(&error))
}

/// Reads the whole file, chunk by chunk, as long as `open_until` is in the future.
pub(super) async fn whole(
    rest: &Rest,
    file: &FilePath,
    wanted: WantedFile,
    open_until: watch::Receiver<Instant>,
) -> Result<GcodeFile, Failure> {
    let mut pace = Pace::new(RATE).gated(open_until);
    // Without a push there may be no OctoPrint: no turn is taken meanwhile.
    pace.ready().await;
    // Never closed.
    let _turn = WHOLE_TURNS.acquire().await;
    let began = Instant::now();
    let mut download = begin(rest, file, None).await?;
    if download.size().is_some_and(|size| size > wanted.max_size) {
        return Err(Failure::TooLarge);
    }
    let mut reader = GcodeReader::new(&wanted.limits());
    let mut read = 0_u64;
    while let Some(chunk) = download.chunk().await.map_err(|error| Failure::of(&error))? {
        read += chunk.len() as u64;
        if read > wanted.max_size {
            return Err(Failure::TooLarge);
        }
        reader.feed(&chunk);
        pace.took(chunk.len());
        drop(chunk);
        timeout(MAX_PAUSE, pace.ready()).await.map_err(|_| Failure::Lost)?;
    }
    let file = beside(|| reader.finish()).await;
    let (layers, seconds) = (file.layers.total(), began.elapsed().as_secs());
    tracing::debug!(bytes = read, layers, seconds, "the G-code file was read");
    Ok(file)
}
