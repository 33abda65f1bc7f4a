//! Reads the configuration again when its files change, or on request.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use crate::causes::Cause;
use crate::config::Loaded;

/// Interval for looking at the files. They are looked at, and not watched, because that works on
/// every file system, and where a file is replaced, or mounted.
const INTERVAL: Duration = Duration::from_secs(2);

/// Reads the configuration. Runs where it may block.
pub type ReadConfig = Arc<dyn Fn() -> Result<Loaded, Cause> + Send + Sync>;

/// Where the configuration comes from.
pub struct ConfigFollower {
    read: ReadConfig,
    files: Vec<PathBuf>,
    known: Vec<Fingerprint>,
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
        let known = files.iter().map(|file| fingerprint(std::fs::metadata(file))).collect();
        Self { read, files, known, requests }
    }

    /// Passes what is read to `tell`, until the other side is gone. It is read at once on each of
    /// `asked`, too.
    pub(super) async fn run(
        mut self,
        mut asked: mpsc::Receiver<()>,
        tell: mpsc::Sender<Result<Loaded, Cause>>,
    ) {
        let mut changing: Option<Vec<Fingerprint>> = None;
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
            if !is_asked {
                // An editor may be writing it: it counts once it is the same twice.
                let is_settled = changing.as_ref() == Some(&now);
                if now == self.known || !is_settled {
                    changing = (now != self.known).then_some(now);
                    continue;
                }
            }
            (self.known, changing) = (now, None);
            let read = self.read.clone();
            let loaded = tokio::task::spawn_blocking(move || read()).await;
            let loaded = loaded.unwrap_or_else(|error| Err(error.into()));
            if let Ok(loaded) = &loaded
                && loaded.files != self.files
            {
                self.files.clone_from(&loaded.files);
                self.known = fingerprints(&self.files).await;
            }
            if tell.send(loaded).await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::config;

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
                Ok(config::load(Some(&path), [])?)
            });
            let files = config::load(Some(&file), []).unwrap().files;
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
        assert!(world.next().await.unwrap_err().contains("cannot be read"));
        // Replaced, as editors do it.
        let other = world.file.with_extension("new");
        std::fs::write(&other, A.replace("/a", "/b").replace("rs.a", "rs.b")).unwrap();
        std::fs::rename(&other, &world.file).unwrap();
        assert_eq!(world.next().await, Ok(vec!["b".to_owned()]));
        assert_eq!(world.reads.load(Ordering::Relaxed), 4);
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
