use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{ServerName, UnixTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::causes::Cause;

#[test]
fn plain_connections_need_no_certificates() {
    assert!(client_config(&Tls::default(), false).is_ok());
    assert!(client_config(&Tls { insecure: true, ..Tls::default() }, true).is_ok());
}

#[test]
fn a_file_that_holds_no_certificate_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let tls = Tls { ca_file: Some(file.path().to_owned()), ..Tls::default() };
    let error = client_config(&tls, true).unwrap_err().to_string();
    assert!(error.contains(file.path().to_str().unwrap()), "{error}");
}

/// A directory in which openssl is run.
struct OpenSsl(tempfile::TempDir);

impl OpenSsl {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, arguments: &str) {
        let output = Command::new("openssl")
            .args(arguments.split_whitespace())
            .current_dir(self.0.path())
            .output()
            .expect("openssl is installed");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {arguments}: {stderr}");
    }

    /// A self-signed certificate as `openssl req -x509` makes it, in `name.pem`, its key beside it.
    fn self_signed(&self, name: &str, key: &str, more: &str) {
        self.run(&format!(
            "req -x509 -newkey {key} -nodes -keyout {name}.key -out {name}.pem -subj /CN=localhost {more}"
        ));
    }
}

/// `openssl s_server`, which answers HTTP and accepts certificates that rustls refuses.
struct Server {
    child: std::process::Child,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    async fn start(ssl: &OpenSsl, name: &str, more: &str) -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let child = Command::new("openssl")
            .args(["s_server", "-www", "-accept", &format!("127.0.0.1:{port}")])
            .args(["-cert", &format!("{name}.pem"), "-key", &format!("{name}.key")])
            .args(more.split_whitespace())
            .current_dir(ssl.0.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { child, port };
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        server
    }

    /// Requests its page as `host`, with the trust of `tls`.
    async fn ask(&self, host: &str, tls: &Tls) -> Result<(), Cause> {
        let config = client_config(tls, true)?;
        let tcp = tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let name = ServerName::try_from(host.to_owned()).unwrap();
        let connector = tokio_rustls::TlsConnector::from(config);
        let mut stream = connector.connect(name, tcp).await?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
        let mut answer = [0; 8];
        stream.read_exact(&mut answer).await?;
        assert_eq!(&answer, b"HTTP/1.0");
        Ok(())
    }
}

fn trusting(path: &Path) -> Tls {
    Tls { ca_file: Some(path.to_owned()), ..Tls::default() }
}

const INSECURE: Tls = Tls { ca_file: None, cert_file: None, key_file: None, insecure: true };
const SAN: &str = "-addext subjectAltName=DNS:localhost,IP:127.0.0.1";

#[tokio::test]
async fn a_certificate_that_is_one_of_ca_file_is_trusted_and_its_name_still_checked() {
    let ssl = OpenSsl::new();
    ssl.self_signed("usual", "rsa:2048", SAN);
    ssl.self_signed("other", "rsa:2048", SAN);
    // Signed by a CA that is not given.
    ssl.self_signed("ca", "rsa:2048", "-addext basicConstraints=critical,CA:TRUE");
    ssl.run("req -newkey rsa:2048 -nodes -keyout leaf.key -out leaf.csr -subj /CN=leaf");
    fs::write(ssl.path("leaf.ext"), "subjectAltName=DNS:localhost\n").unwrap();
    ssl.run("x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out leaf.pem -days 30 -extfile leaf.ext");
    for name in ["usual", "leaf"] {
        let server = Server::start(&ssl, name, "").await;
        server.ask("localhost", &trusting(&ssl.path(&format!("{name}.pem")))).await.unwrap();
        let other = trusting(&ssl.path("other.pem"));
        let error = server.ask("localhost", &other).await.unwrap_err().to_string();
        assert!(error.contains("ca_file") && !error.contains("subjectAltName"), "{error}");
        let own = trusting(&ssl.path(&format!("{name}.pem")));
        let error = server.ask("octopi.local", &own).await.unwrap_err().to_string();
        assert!(error.contains("not for octopi.local but for"), "{error}");
        assert!(!error.contains("CaUsedAsEndEntity") && !error.contains("trusted"), "{error}");
    }
    let server = Server::start(&ssl, "leaf", "").await;
    server.ask("localhost", &trusting(&ssl.path("ca.pem"))).await.unwrap();
    let server = Server::start(&ssl, "usual", "").await;
    server.ask("127.0.0.1", &trusting(&ssl.path("usual.pem"))).await.unwrap();
}

#[tokio::test]
async fn the_error_names_every_fault_and_insecure_connects_all_the_same() {
    let ssl = OpenSsl::new();
    ssl.self_signed("nosan", "rsa:2048", "");
    // openssl signs a request without extensions as version 1.
    ssl.run("req -newkey rsa:2048 -nodes -keyout v1.key -out v1.csr -subj /CN=localhost");
    ssl.run("x509 -req -in v1.csr -signkey v1.key -out v1.pem -days 30");
    let version = Command::new("openssl")
        .args(["x509", "-noout", "-text", "-in", ssl.path("v1.pem").to_str().unwrap()])
        .output()
        .unwrap();
    let has_version_1 = String::from_utf8_lossy(&version.stdout).contains("Version: 1");
    assert!(has_version_1, "else the test shows nothing");
    for (name, telling) in [("nosan", "no subjectAltName"), ("v1", "version 1")] {
        let server = Server::start(&ssl, name, "").await;
        // Trusted by itself or not, the fault is named.
        for tls in [trusting(&ssl.path(&format!("{name}.pem"))), trusting(&ssl.path("nosan.pem"))] {
            let error = server.ask("localhost", &tls).await.unwrap_err().to_string();
            assert!(error.contains(telling), "{name}: {error}");
        }
        server.ask("localhost", &INSECURE).await.unwrap();
    }
}

#[test]
fn a_clock_that_is_years_off_is_named() {
    let ssl = OpenSsl::new();
    ssl.self_signed("usual", "rsa:2048", SAN);
    let own = read_certificates(&ssl.path("usual.pem")).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(own[0].clone()).unwrap();
    let provider = Arc::new(ring::default_provider());
    let by_ca = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
    let trusting = Trusting::new(by_ca.unwrap(), own.clone());
    let year = std::time::Duration::from_secs(365 * 24 * 3600);
    let verify = |host: &'static str, year_of_1970: u32| {
        let now = UnixTime::since_unix_epoch(year * year_of_1970);
        let name = ServerName::try_from(host).unwrap();
        trusting.verify_server_cert(&own[0], &[], &name, &[], now)
    };
    let early = verify("localhost", 1).unwrap_err().to_string();
    assert!(early.contains("not valid before 2"), "{early}");
    let years_ago = "clock says 1971-01-01T00:00:00Z, which is years ago: set the clock";
    assert!(early.ends_with(years_ago), "{early}");
    let late = verify("octopi.local", 200).unwrap_err().to_string();
    assert!(late.contains("it expired on 2") && late.contains("clock says 2169"), "{late}");
    assert!(late.contains("set the clock if that is wrong"), "{late}");
    assert!(late.contains("not for octopi.local"), "both are named: {late}");
}

#[tokio::test]
async fn insecure_connects_to_old_and_odd_certificates() {
    let ssl = OpenSsl::new();
    ssl.self_signed("weak", "rsa:1024", "-sha1");
    ssl.self_signed("ed448", "ed448", SAN);
    ssl.self_signed("p521", "ec -pkeyopt ec_paramgen_curve:P-521", SAN);
    ssl.self_signed("serial", "rsa:2048", "-set_serial 0");
    ssl.self_signed("odd", "rsa:2048", "-addext 1.2.3.4=critical,DER:0500");
    for (name, more) in [
        ("weak", "-cipher ALL:@SECLEVEL=0"),
        ("weak", "-tls1_2 -cipher ALL:@SECLEVEL=0"),
        ("ed448", ""),
        ("p521", ""),
        ("serial", "-tls1_2"),
        ("odd", ""),
    ] {
        let server = Server::start(&ssl, name, more).await;
        let asked = server.ask("some.name", &INSECURE).await;
        assert!(asked.is_ok(), "{name} {more}: {asked:?}");
        let refused = server.ask("localhost", &Tls::default()).await;
        assert!(refused.is_err(), "{name}");
    }
}
