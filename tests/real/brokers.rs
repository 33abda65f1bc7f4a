//! Brokers of several makes, each in a directory of its own and at a free port of 127.0.0.1.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::mosquitto::{program, program_2_1};
use super::{Process, free_port, within};

/// RabbitMQ takes half a minute on a busy machine.
const START: Duration = Duration::from_secs(180);

pub struct Broker {
    pub port: u16,
    start: Box<dyn Fn() -> Command + Send + Sync>,
    process: Option<Process>,
    /// What it needs beside it, for as long as it is there.
    _beside: Option<Process>,
    dir: tempfile::TempDir,
}

/// Where `./tests/run` installs what Debian does not have; `name` is of the variable that says so.
fn cached(name: &str, path: &str) -> Option<PathBuf> {
    let file = std::env::var_os(name).map_or_else(
        || PathBuf::from(std::env::var("HOME").unwrap()).join(".cache/octoprint2mqtt").join(path),
        PathBuf::from,
    );
    file.exists().then_some(file)
}

/// A program of this system.
fn installed(paths: &[&str]) -> Option<PathBuf> {
    paths.iter().map(PathBuf::from).find(|path| path.exists())
}

impl Broker {
    async fn start(
        dir: tempfile::TempDir,
        port: u16,
        beside: Option<Process>,
        start: impl Fn() -> Command + Send + Sync + 'static,
    ) -> Self {
        let start = Box::new(start);
        let mut broker = Self { port, start, process: None, _beside: beside, dir };
        broker.run().await;
        broker
    }

    /// Starts it, again on its port and in its directory.
    pub async fn run(&mut self) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log_path());
        let log = log.unwrap();
        let mut command = (self.start)();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.process = Some(Process(command.spawn().expect("the broker is installed")));
        let port = self.port;
        within(START, "the broker to listen", || async move {
            tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()
        })
        .await;
    }

    /// Kills it, without a chance to write anything down.
    pub fn kill(&mut self) {
        self.process = None;
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap()
    }

    /// The Mosquitto of this system.
    pub async fn mosquitto() -> Option<Self> {
        Some(Self::mosquitto_of(program()).await)
    }

    /// Mosquitto 2.1 of Debian sid.
    pub async fn mosquitto_2_1() -> Option<Self> {
        Some(Self::mosquitto_of(program_2_1()?).await)
    }

    async fn mosquitto_of(program: Vec<PathBuf>) -> Self {
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        let config = format!("listener {port} 127.0.0.1\nallow_anonymous true\nuser root\n");
        let file = written(&dir, "mosquitto.conf", &config);
        Self::start(dir, port, None, move || {
            let mut command = Command::new(&program[0]);
            command.args(&program[1..]).arg("-c").arg(&file);
            command
        })
        .await
    }

    /// NATS with JetStream, which its MQTT needs.
    pub async fn nats() -> Option<Self> {
        let program = installed(&["/usr/sbin/nats-server", "/usr/bin/nats-server"])?;
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        let config = format!(
            "listen: \"127.0.0.1:{}\"\nserver_name: test\njetstream {{ store_dir: \"{}\" }}\nmqtt {{ listen: \"127.0.0.1:{port}\" }}\n",
            free_port(),
            dir.path().join("jetstream").display()
        );
        let file = written(&dir, "nats.conf", &config);
        let start = move || {
            let mut command = Command::new(&program);
            command.arg("-c").arg(&file);
            command
        };
        Some(Self::start(dir, port, None, start).await)
    }

    /// RabbitMQ with its MQTT plugin, a node by itself with a name directory by itself.
    pub async fn rabbitmq() -> Option<Self> {
        let program = installed(&["/usr/lib/rabbitmq/bin/rabbitmq-server"])?;
        let (dir, port, names) = (tempfile::tempdir().unwrap(), free_port(), free_port());
        let config = format!(
            "listeners.tcp.local = 127.0.0.1:{}\nmqtt.listeners.tcp.local = 127.0.0.1:{port}\nmqtt.allow_anonymous = true\n",
            free_port()
        );
        let config = written(&dir, "rabbitmq.conf", &config);
        let plugins = written(&dir, "enabled_plugins", "[rabbitmq_mqtt].\n");
        let home = dir.path().to_owned();
        let mut epmd = Command::new("epmd");
        epmd.args(["-port", &names.to_string(), "-address", "127.0.0.1"]);
        let epmd = Process(epmd.stdin(Stdio::null()).spawn().expect("RabbitMQ comes with epmd"));
        let start = move || {
            let mut command = Command::new(&program);
            command
                .env("HOME", &home)
                .env("ERL_EPMD_ADDRESS", "127.0.0.1")
                .env("ERL_EPMD_PORT", names.to_string())
                .env("RABBITMQ_NODENAME", format!("test-{port}@localhost"))
                .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
                .env("RABBITMQ_CONFIG_FILE", &config)
                .env("RABBITMQ_ENABLED_PLUGINS_FILE", &plugins)
                .env("RABBITMQ_MNESIA_BASE", home.join("mnesia"))
                .env("RABBITMQ_LOG_BASE", home.join("logs"))
                .env("RABBITMQ_PID_FILE", home.join("pid"))
                .env("RABBITMQ_DIST_PORT", free_port().to_string())
                .env(
                    "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                    "-kernel inet_dist_use_interface {127,0,0,1}",
                )
                // Then the script becomes the broker, and is no parent of it.
                .env("RUNNING_UNDER_SYSTEMD", "1");
            command
        };
        Some(Self::start(dir, port, Some(epmd), start).await)
    }

    /// aedes, the broker for Node.js.
    pub async fn aedes() -> Option<Self> {
        let modules = cached("OCTOPRINT2MQTT_TEST_AEDES", "aedes-1.2.0")?.join("node_modules");
        if !modules.exists() {
            return None;
        }
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        let program = "import { createServer } from 'node:net'\n\
            import { Aedes } from 'aedes'\n\
            const aedes = await Aedes.createBroker()\n\
            createServer(aedes.handle).listen(Number(process.argv[2]), '127.0.0.1')\n";
        let file = written(&dir, "broker.mjs", program);
        std::os::unix::fs::symlink(modules, dir.path().join("node_modules")).unwrap();
        let start = move || {
            let mut command = Command::new("node");
            command.arg(&file).arg(port.to_string());
            command
        };
        Some(Self::start(dir, port, None, start).await)
    }

    /// amqtt, the broker for Python.
    pub async fn amqtt() -> Option<Self> {
        let program = cached("OCTOPRINT2MQTT_TEST_AMQTT", "amqtt-0.12.1/bin/amqtt")?;
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        let config = format!(
            "listeners:\n  default: {{type: tcp, bind: '127.0.0.1:{port}'}}\nplugins:\n  amqtt.plugins.authentication.AnonymousAuthPlugin: {{allow_anonymous: true}}\n  amqtt.plugins.sys.broker.BrokerSysPlugin: {{sys_interval: 10}}\n"
        );
        let file = written(&dir, "amqtt.yaml", &config);
        let start = move || {
            let mut command = Command::new(&program);
            command.arg("-c").arg(&file);
            command
        };
        Some(Self::start(dir, port, None, start).await)
    }
}

fn written(dir: &tempfile::TempDir, name: &str, text: &str) -> PathBuf {
    let path: &Path = dir.path();
    let path = path.join(name);
    std::fs::write(&path, text).unwrap();
    path
}
