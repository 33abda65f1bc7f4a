//! Reads the configuration again when its files change, or on request.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::causes::{self, Cause};
use crate::config::Loaded;

/// Interval for looking at the files. They are looked at, and not watched, because that works on
/// every file system, and where a file is replaced, or mounted.
const INTERVAL: Duration = Duration::from_secs(2);
/// Interval for reading again what could not be read.
const RETRY: Duration = Duration::from_secs(30);

/// Reads the configuration. Runs where it may block.
pub type ReadConfig = Arc<dyn Fn() -> Result<Loaded, Cause> + Send + Sync>;

/// Where the configuration comes from.
pub struct ConfigFollower {
    read: ReadConfig,
    files: Vec<PathBuf>,
    known: Vec<Fingerprint>,
    /// As they were when they were read last without a mistake.
    good: Vec<Fingerprint>,
    requests: mpsc::Receiver<()>,
}

/// What tells a changed file; `None`: it is not there.
type Fingerprint = Option<(u64, u64, Option<SystemTime>)>;

fn fingerprint(metadata: std::io::Result<Metadata>) -> Fingerprint {
    metadata.ok().map(|data| (data.ino(), data.len(), data.modified().ok()))
}

async fn fingerprints(files: &[PathBuf]) -> Vec<Fingerprint> {
    let mut found = Vec::with_capacity(files.len());
    for file in files {
        found.push(fingerprint(tokio::fs::metadata(file).await));
    }
    found
}

impl ConfigFollower {
    /// Follows a configuration that was read from `files` a moment ago. `read` reads it; it is read
    /// at once on each of `requests`.
    pub fn new(read: ReadConfig, files: Vec<PathBuf>, requests: mpsc::Receiver<()>) -> Self {
        let known: Vec<Fingerprint> =
            files.iter().map(|file| fingerprint(std::fs::metadata(file))).collect();
        Self { read, files, good: known.clone(), known, requests }
    }

    /// Passes what is read to `tell`, until the other side is gone. It is read at once on each of
    /// `asked`, too.
    pub(super) async fn run(
        mut self,
        mut asked: mpsc::Receiver<()>,
        tell: mpsc::Sender<Result<Loaded, Cause>>,
    ) {
        let mut changing: Option<Vec<Fingerprint>> = None;
        let (mut failed, mut retry): (Option<String>, Option<Instant>) = (None, None);
        let mut tick = interval(INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_asked = tokio::select! {
                () = tell.closed() => return,
                Some(()) = self.requests.recv() => true,
                Some(()) = asked.recv() => true,
                _ = tick.tick() => false,
            };
            let now = fingerprints(&self.files).await;
            // A file that it names may not have been known when it was read.
            let is_due = retry.is_some_and(|at| at <= Instant::now());
            if !is_asked && !is_due {
                // An editor may be writing it: it counts once it is the same twice.
                let is_settled = changing.as_ref() == Some(&now);
                if now == self.known || !is_settled {
                    changing = (now != self.known).then_some(now);
                    continue;
                }
            }
            (self.known, changing) = (now, None);
            let loaded = match self.lost() {
                Some(file) => Err(LostFile(file.to_owned()).into()),
                None => self.read().await,
            };
            retry = loaded.is_err().then(|| Instant::now() + RETRY);
            // What is tried again may be as wrong as before.
            let error = loaded.as_ref().err().map(|error| causes::text(&**error));
            if error.is_some() && error == failed && !is_asked {
                continue;
            }
            failed = error;
            if tell.send(loaded).await.is_err() {
                return;
            }
        }
    }
}

/// A file is gone that the configuration in force was read from. It may be on its way back, and what
/// is removed with it, such as statistics, would not come back.
#[derive(Debug, thiserror::Error)]
#[error("{} is gone or empty; write an empty comment into it to remove what was in it", .0.display())]
struct LostFile(PathBuf);

impl ConfigFollower {
    /// Returns a file that had something in it, and is gone or empty.
    fn lost(&self) -> Option<&Path> {
        let has = |one: &Fingerprint| one.is_some_and(|(_, length, _)| length > 0);
        let lost = self.good.iter().zip(&self.known).position(|(good, now)| has(good) && !has(now));
        lost.and_then(|index| self.files.get(index)).map(PathBuf::as_path)
    }

    async fn read(&mut self) -> Result<Loaded, Cause> {
        let read = self.read.clone();
        let loaded = tokio::task::spawn_blocking(move || read()).await??;
        if loaded.files != self.files {
            self.files.clone_from(&loaded.files);
            self.known = fingerprints(&self.files).await;
        }
        self.good.clone_from(&self.known);
        Ok(loaded)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::config;

    /// The environment names the file, so that it may be missing.
    fn load(file: &Path) -> Result<Loaded, config::ConfigErrors> {
        let variable = "OCTOPRINT2MQTT_CONFIG".to_owned();
        config::load(None, [(variable, file.display().to_string())])
    }

    struct World {
        _dir: tempfile::TempDir,
        file: PathBuf,
        reads: Arc<AtomicUsize>,
        ask: mpsc::Sender<()>,
        told: mpsc::Receiver<Result<Loaded, Cause>>,
    }

    impl World {
        fn start() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("config.toml");
            std::fs::write(&file, "").unwrap();
            let reads = Arc::new(AtomicUsize::new(0));
            let (path, count) = (file.clone(), reads.clone());
            let read: ReadConfig = Arc::new(move || {
                count.fetch_add(1, Ordering::Relaxed);
                Ok(load(&path)?)
            });
            let files = load(&file).unwrap().files;
            let (ask, requests) = mpsc::channel(1);
            let (tell, told) = mpsc::channel(1);
            tokio::spawn(ConfigFollower::new(read, files, requests).run(mpsc::channel(1).1, tell));
            Self { _dir: dir, file, reads, ask, told }
        }

        async fn next(&mut self) -> Result<Vec<String>, String> {
            let told = self.told.recv().await.unwrap();
            told.map(|loaded| loaded.config.all_printers).map_err(|error| error.to_string())
        }
    }

    const A: &str = "[printers.a]\nurl = \"http://a\"\napi_key = \"K\"\n";

    #[tokio::test]
    async fn a_changed_file_is_read_once_also_one_that_becomes_invalid_or_goes() {
        let mut world = World::start();
        std::fs::write(&world.file, A).unwrap();
        assert_eq!(world.next().await, Ok(vec!["a".to_owned()]));
        std::fs::write(&world.file, "[printers").unwrap();
        assert!(world.next().await.unwrap_err().contains("config.toml"));
        std::fs::remove_file(&world.file).unwrap();
        assert!(world.next().await.unwrap_err().contains("is gone or empty"));
        // Replaced, as editors do it.
        let other = world.file.with_extension("new");
        std::fs::write(&other, A.replace("/a", "/b").replace("rs.a", "rs.b")).unwrap();
        std::fs::rename(&other, &world.file).unwrap();
        assert_eq!(world.next().await, Ok(vec!["b".to_owned()]));
        assert_eq!(world.reads.load(Ordering::Relaxed), 3, "not while it was gone");
    }

    #[tokio::test]
    async fn it_is_read_on_request_and_its_secrets_are_followed() {
        let mut world = World::start();
        let secret = world.file.with_file_name("key");
        std::fs::write(&secret, "one").unwrap();
        let text = format!("[printers.a]\nurl = \"http://a\"\napi_key_file = {secret:?}\n");
        std::fs::write(&world.file, text).unwrap();
        world.ask.send(()).await.unwrap();
        assert_eq!(world.next().await, Ok(vec!["a".to_owned()]));
        std::fs::write(&secret, "other").unwrap();
        assert_eq!(world.next().await, Ok(vec!["a".to_owned()]));
        assert_eq!(world.reads.load(Ordering::Relaxed), 2);
    }
}
