//! Notifications: a server of the test gets pings and webhooks, and a script is sendmail.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    process::{Command, Output},
    sync::{Arc, Mutex},
    thread,
    time::Instant,
};

use serde_json::Value;

use crate::{
    common::program::Person,
    expect,
    profiles::{bare, home, with_profile, write},
    text,
};

/// A request as the server got it: method and path, and the body.
type Request = (String, String);

/// A web server. It replies as the path says: 500 to `/broken`, never to `/slow`, 200 otherwise.
struct Web {
    url: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Web {
    fn start() -> Self {
        Self::serve("http", |stream| Some(Box::new(stream)))
    }

    /// Starts a server with TLS. Its certificate is written to a file.
    fn start_with_tls(certificate: &std::path::Path) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(certificate, made.cert.pem()).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config =
            rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
        let config = Arc::new(config);
        Self::serve("https", move |stream| {
            let session = rustls::ServerConnection::new(config.clone()).unwrap();
            Some(Box::new(rustls::StreamOwned::new(session, stream)))
        })
    }

    fn serve<F>(scheme: &str, wrap: F) -> Self
    where
        F: Fn(TcpStream) -> Option<Box<dyn ReadWrite>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("{scheme}://localhost:{}", listener.local_addr().unwrap().port());
        let requests: Arc<Mutex<Vec<Request>>> = Arc::default();
        let kept = requests.clone();
        thread::spawn(move || {
            let mut slow = Vec::new();
            for mut stream in listener.incoming().filter_map(|stream| wrap(stream.ok()?)) {
                let Some((line, body)) = read_request(&mut stream) else { continue };
                let status = if line.contains("/broken") { "500 Broken" } else { "200 OK" };
                let is_slow = line.contains("/slow");
                kept.lock().unwrap().push((line, body));
                match is_slow {
                    true => slow.push(stream),
                    false => {
                        drop(write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"))
                    }
                }
            }
        });
        Self { url, requests }
    }

    /// Returns what came since the last call: methods and paths.
    fn lines(&self) -> Vec<String> {
        self.take().into_iter().map(|(line, _)| line).collect()
    }

    fn take(&self) -> Vec<Request> {
        std::mem::take(&mut *self.requests.lock().unwrap())
    }
}

trait ReadWrite: Read + Write + Send {}
impl<T: Read + Write + Send> ReadWrite for T {}

fn read_request(stream: &mut dyn ReadWrite) -> Option<Request> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let read = stream.read(&mut buffer).ok().filter(|read| *read > 0)?;
        bytes.extend(&buffer[..read]);
        let whole = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = whole.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if body.len() >= length.unwrap_or(0) {
            let line = head.lines().next()?.strip_suffix(" HTTP/1.1")?;
            return Some((line.to_owned(), body.to_owned()));
        }
    }
}

fn run(mut command: Command, args: &[&str]) -> Output {
    command.args(args).output().unwrap()
}

/// Writes the profile `home` with this table `notify`.
fn notify(person: &Person, keys: &str) {
    write(person, "home.toml", &format!("{}[profile.home.notify]\n{keys}\n", home(person)));
}

/// Hides the repository, so that pushes fail, or brings it back.
fn fail(person: &Person, fails: bool) {
    let (repo, away) = (person.path("repo"), person.path("away"));
    if fails { fs::rename(repo, away).unwrap() } else { fs::rename(away, repo).unwrap() }
}

#[test]
fn a_service_that_watches_is_pinged_at_each_run() {
    let (person, web) = (with_profile(""), Web::start());
    notify(&person, &format!("ping = '{}/id?a=b'", web.url));
    expect(&run(bare(&person), &["run"]), 0, &[]);
    assert_eq!(web.lines(), ["GET /id/start?a=b", "GET /id?a=b"]);
    fail(&person, true);
    for _ in 0..2 {
        expect(&run(bare(&person), &["run"]), 1, &["there is no repository"]);
        let requests = web.take();
        assert_eq!((requests.len(), requests[1].0.as_str()), (2, "POST /id/fail?a=b"));
        assert!(requests[1].1.contains("there is no repository at"), "{requests:?}");
    }
}

#[test]
fn a_failure_is_told_once_and_its_end_always() {
    let (person, web) = (with_profile(""), Web::start());
    let log = person.path("told").display().to_string();
    let keys = |repeat: &str| {
        format!(
            "webhook = '{}/hook'\ncommand = 'echo $BKFS_EVENT $BKFS_PROFILE $BKFS_EXIT: $(head -1) >> {log}'\n\
             repeat = '{repeat}'",
            web.url
        )
    };
    notify(&person, &keys("1d"));
    let mut with_password = bare(&person);
    with_password.env("BKFS_PASSWORD", "correct horse battery staple");
    expect(&run(with_password, &["run"]), 0, &[]);
    assert_eq!(web.take(), []);
    fail(&person, true);
    expect(&run(bare(&person), &["run"]), 1, &[]);
    let told = web.take();
    assert_eq!((told.len(), told[0].0.as_str()), (1, "POST /hook"));
    let body: Value = serde_json::from_str(&told[0].1).unwrap();
    assert_eq!((body["event"].as_str(), body["exit"].as_u64()), (Some("failed"), Some(1)), "{body}");
    for key in ["version", "profile", "host", "time", "subject", "text", "error"] {
        assert!(!body[key].is_null(), "{key}: {body}");
    }
    assert!(body["error"].as_str().unwrap().contains("there is no repository at"), "{body}");
    // The same again: not within a day.
    expect(&run(bare(&person), &["run"]), 1, &[]);
    assert_eq!(web.take(), []);
    notify(&person, &keys("0s"));
    expect(&run(bare(&person), &["run"]), 1, &[]);
    assert_eq!(web.take().len(), 1);
    fail(&person, false);
    expect(&run(bare(&person), &["run"]), 0, &[]);
    expect(&run(bare(&person), &["run"]), 0, &[]);
    let told = web.take();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].1.contains("\"event\":\"recovered\""), "{told:?}");
    let log = fs::read_to_string(log).unwrap();
    let lines: Vec<&str> = log.lines().map(|line| line.split(" The ").next().unwrap()).collect();
    assert_eq!(lines, ["failed home 1:", "failed home 1:", "recovered home 0:"], "{log}");
}

#[test]
fn mail_goes_through_sendmail() {
    let person = with_profile("");
    let (script, mail) = (person.path("sendmail"), person.path("mail"));
    fs::write(&script, format!("#!/bin/sh\necho \"$@\" > {0}\ncat >> {0}\n", mail.display())).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    notify(&person, &format!("mail = ['me@example.org', 'you@example.org']\nsendmail = '{}'", script.display()));
    fail(&person, true);
    expect(&run(bare(&person), &["run"]), 1, &[]);
    let sent = fs::read_to_string(&mail).unwrap();
    let (head, body) = sent.split_once("\n\n").unwrap();
    for line in ["-t -i", "To: me@example.org, you@example.org", "Content-Transfer-Encoding: 7bit"] {
        assert!(head.lines().any(|found| found == line), "{line}: {head}");
    }
    assert!(head.contains("Subject: bkfs: backup home on ") && head.contains(" failed\n"), "{head}");
    assert!(body.contains("there is no repository at"), "{body}");
    fs::write(&script, "#!/bin/sh\nexit 75\n").unwrap();
    expect(&run(bare(&person), &["notify", "test"]), 1, &["home: notify.mail: ", "failed with code 75"]);
    notify(&person, "mail = 'me@example.org'\nsendmail = '/no/sendmail'");
    expect(&run(bare(&person), &["notify", "test"]), 1, &["/no/sendmail: it cannot be run"]);
}

#[test]
fn a_notification_that_fails_is_a_warning() {
    let (person, web) = (with_profile(""), Web::start());
    notify(&person, &format!("ping = '{}/slow/secret'\ntimeout = '1s'", web.url));
    let begun = Instant::now();
    expect(&run(bare(&person), &["run"]), 0, &["warning: home: notify.ping: the server did not reply in time"]);
    assert!(begun.elapsed().as_secs() < 30);
    for (url, words) in [
        (format!("{}/broken/secret", web.url), "the server replied with status 500"),
        ("http://127.0.0.1:1/secret".to_owned(), "the server cannot be reached"),
    ] {
        notify(&person, &format!("ping = '{url}'"));
        let done = run(bare(&person), &["run"]);
        expect(&done, 0, &["warning: home: notify.ping: ", words]);
        assert!(!text(&done.stderr).contains("secret"), "{}", text(&done.stderr));
    }
    notify(&person, "command = 'sleep 60'\ntimeout = '1s'");
    fail(&person, true);
    let begun = Instant::now();
    expect(&run(bare(&person), &["run"]), 1, &["notify.command: it did not end within 1 s"]);
    assert!(begun.elapsed().as_secs() < 30, "what the command started ends with it");
}

#[test]
fn a_test_goes_by_each_way() {
    let (person, web) = (with_profile(""), Web::start());
    expect(&run(bare(&person), &["notify", "test"]), 1, &["no profile says whom to tell", "config sample"]);
    notify(&person, &format!("ping = '{0}/id'\nwebhook = '{0}/hook'\ncommand = 'cat > /dev/null'", web.url));
    let sent = person.output(["notify", "test", "--json"]);
    let report: Value = serde_json::from_slice(&sent.stdout).unwrap();
    let by: Vec<&str> =
        report["profiles"][0]["told"].as_array().unwrap().iter().filter_map(|to| to["by"].as_str()).collect();
    assert_eq!(by, ["ping", "command", "webhook"]);
    assert_eq!(web.lines(), ["GET /id", "POST /hook"]);
    expect(&run(bare(&person), &["notify", "test", "hmoe"]), 1, &["is home meant?"]);
    notify(&person, "command = 'exit 4'");
    expect(&run(bare(&person), &["notify", "test", "home"]), 1, &["home: notify.command: it failed with code 4"]);
}

#[test]
fn a_server_needs_a_certificate_that_the_system_trusts() {
    let person = with_profile("");
    let certificate = person.path("certificate.pem");
    let web = Web::start_with_tls(&certificate);
    notify(&person, &format!("webhook = '{}/secret'", web.url));
    let refused = run(bare(&person), &["notify", "test"]);
    expect(&refused, 1, &["notify.webhook: the server cannot be reached: "]);
    assert!(!text(&refused.stderr).contains("/secret"), "{}", text(&refused.stderr));
    assert_eq!(web.take(), []);
    let mut trusting = bare(&person);
    trusting.env("SSL_CERT_FILE", &certificate);
    expect(&run(trusting, &["notify", "test"]), 0, &[]);
    assert_eq!(web.lines(), ["POST /secret"]);
}
