//! The reverse proxies that people have in front of OctoPrint, each in a directory of its own and at
//! a free port of 127.0.0.1.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{Process, free_port, within};

/// A busy machine takes its time to start them.
const START: Duration = Duration::from_secs(60);

/// Which of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    HaProxy,
    Nginx,
    Caddy,
}

/// One that runs. `config.txt` in its directory is what it runs with.
pub struct ReverseProxy {
    pub port: u16,
    process: Process,
    dir: tempfile::TempDir,
}

impl Program {
    fn path(self) -> Option<PathBuf> {
        let paths = match self {
            Self::HaProxy => ["/usr/sbin/haproxy", "/usr/local/sbin/haproxy"],
            Self::Nginx => ["/usr/sbin/nginx", "/usr/local/sbin/nginx"],
            Self::Caddy => ["/usr/bin/caddy", "/usr/local/bin/caddy"],
        };
        paths.into_iter().map(PathBuf::from).find(|path| path.exists())
    }

    pub fn is_installed(self) -> bool {
        self.path().is_some()
    }

    /// The configuration that the guide has for it.
    pub fn guide(self) -> String {
        let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/src/guides/proxies.md");
        let guide = std::fs::read_to_string(guide).unwrap();
        let fence = match self {
            Self::HaProxy => "```haproxy\n",
            Self::Nginx => "```nginx\n",
            Self::Caddy => "```caddy\n",
        };
        let (_, block) = guide.split_once(fence).unwrap();
        let (block, _) = block.split_once("```").unwrap();
        block.to_owned()
    }

    fn command(self, dir: &Path, config: &str) -> Command {
        let file = dir.join("config.txt");
        let (text, arguments): (String, &[&str]) = match self {
            Self::HaProxy => (config.to_owned(), &["-db", "-f"]),
            Self::Nginx => {
                let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                    .map(|of| format!("{of}_temp_path {};\n", dir.join(of).display()));
                let text = format!(
                    "daemon off;\nmaster_process off;\nerror_log stderr;\npid {}/pid;\nevents {{}}\nhttp {{\naccess_log off;\n{}{config}}}\n",
                    dir.display(),
                    temporary.concat()
                );
                (text, &["-e", "stderr", "-c"])
            }
            Self::Caddy => (
                format!(
                    "{{\nadmin off\nauto_https disable_redirects\nskip_install_trust\n}}\n{config}"
                ),
                &["run", "--adapter", "caddyfile", "--config"],
            ),
        };
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new(self.path().expect("it is installed"));
        command.args(arguments).arg(&file).env("HOME", dir).current_dir(dir);
        command
    }

    /// Starts it with the configuration that `config` makes of its port and its directory.
    pub async fn start(self, config: impl FnOnce(u16, &Path) -> String) -> ReverseProxy {
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        let config = config(port, dir.path());
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let mut command = self.command(dir.path(), &config);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let process = Process(command.spawn().unwrap());
        let mut proxy = ReverseProxy { port, process, dir };
        within(START, "the proxy to listen", || {
            let ended = proxy.process.0.try_wait().unwrap();
            assert!(ended.is_none(), "{self:?} has ended: {}\n{config}", proxy.log());
            async move { tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok() }
        })
        .await;
        proxy
    }

    /// A password as it stands in the configuration.
    pub fn hashed(self, password: &str) -> String {
        match self {
            Self::HaProxy => password.to_owned(),
            Self::Nginx => format!("{{PLAIN}}{password}"),
            Self::Caddy => {
                let mut command = Command::new(self.path().expect("it is installed"));
                command.args(["hash-password", "--plaintext", password]);
                String::from_utf8(command.output().unwrap().stdout).unwrap().trim().to_owned()
            }
        }
    }
}

impl ReverseProxy {
    /// A file in its directory.
    pub fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap()
    }
}
