//! A real Mosquitto without persistence.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::{Process, eventually, free_port};

pub struct Mosquitto {
    pub port: u16,
    dir: tempfile::TempDir,
    program: Vec<PathBuf>,
    process: Option<Process>,
}

/// The Mosquitto of this system.
pub(super) fn program() -> Vec<PathBuf> {
    let program = ["/usr/sbin/mosquitto", "mosquitto"];
    let program = program.iter().find(|p| Command::new(p).arg("-h").output().is_ok());
    vec![PathBuf::from(program.expect("Mosquitto is installed"))]
}

/// Mosquitto 2.1 in a Debian that is newer than the system: its own loader finds its libraries.
/// `None` where it is not installed.
pub(super) fn program_2_1() -> Option<Vec<PathBuf>> {
    let root = std::env::var_os("OCTOPRINT2MQTT_TEST_DEBIAN_SID").map_or_else(
        || PathBuf::from(std::env::var("HOME").unwrap()).join(".cache/octoprint2mqtt/debian-sid"),
        PathBuf::from,
    );
    let machine = std::env::consts::ARCH;
    let libraries = root.join(format!("usr/lib/{machine}-linux-gnu"));
    let loader = std::fs::read_dir(&libraries)
        .ok()?
        .filter_map(Result::ok)
        .find(|file| file.file_name().to_str().is_some_and(|name| name.starts_with("ld-linux")))?;
    let program = root.join("usr/sbin/mosquitto");
    program.exists().then(|| vec![loader.path(), "--library-path".into(), libraries, program])
}

impl Mosquitto {
    /// One that lets anybody in.
    pub async fn start() -> Self {
        Self::with("allow_anonymous true\n", None).await
    }

    /// One with these options of its listener.
    pub async fn with_options(options: &str) -> Self {
        Self::with(options, None).await
    }

    /// Mosquitto 2.1 that lets anybody in, as it is shipped for the rest; `None` where it is not
    /// installed.
    pub async fn start_2_1() -> Option<Self> {
        Some(Self::of(program_2_1()?, "allow_anonymous true\n", None).await)
    }

    /// One that lets only this user in.
    pub async fn with_password(user: &str, password: &str) -> Self {
        Self::with("allow_anonymous false\n", Some((user, password))).await
    }

    /// One with these access rules; its user is `bridge` with the password `s3cret`.
    pub async fn with_access(rules: &str) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), rules).unwrap();
        let options = format!("allow_anonymous false\nacl_file {}\n", file.path().display());
        let broker = Self::with(&options, Some(("bridge", "s3cret"))).await;
        // Read at the start.
        drop(file);
        broker
    }

    async fn with(options: &str, login: Option<(&str, &str)>) -> Self {
        Self::of(program(), options, login).await
    }

    async fn of(program: Vec<PathBuf>, options: &str, login: Option<(&str, &str)>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        // Debian's Mosquitto leaves root for its own user, who must be able to read its files.
        let mut config = format!(
            "listener {port} 127.0.0.1\npersistence false\nset_tcp_nodelay true\nuser root\n{options}"
        );
        if let Some((user, password)) = login {
            let file = dir.path().join("passwords");
            let status = Command::new("mosquitto_passwd")
                .args(["-b", "-c", file.to_str().unwrap(), user, password])
                .status()
                .expect("mosquitto_passwd is installed");
            assert!(status.success());
            config += &format!("password_file {}\n", file.display());
        }
        std::fs::write(dir.path().join("mosquitto.conf"), config).unwrap();
        let mut broker = Self { port, dir, program, process: None };
        broker.run().await;
        broker
    }

    /// Starts it, again on its port.
    pub async fn run(&mut self) {
        let child = Command::new(&self.program[0])
            .args(&self.program[1..])
            .arg("-c")
            .arg(self.dir.path().join("mosquitto.conf"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.process = Some(Process(child));
        let port = self.port;
        eventually("Mosquitto to listen", || async move {
            tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()
        })
        .await;
    }

    /// Kills it; retained messages are gone with it.
    pub fn kill(&mut self) {
        self.process = None;
    }

    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }
}
