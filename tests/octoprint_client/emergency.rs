//! Commands on connections of their own, and the emergency stop, which waits for nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use octoprint2mqtt::octoprint::{Credentials, LoginError, Rest};
use octoprint2mqtt::secret::Secret;
use tokio::time::{sleep, timeout};

use crate::kept::{Kept, Reply};
use crate::script::{LOGIN, Request, options};

const LOGIN_PAGE: &str = "Set-Cookie: csrf_token_P80=TOKEN; Path=/\r\n";

fn password(url: &str) -> Rest {
    let mut options = options(url);
    let password = Secret::new("hunter2");
    options.rest.credentials = Credentials::Password { username: "admin".to_owned(), password };
    Rest::new(options.rest).unwrap()
}

/// An OctoPrint with user and password: `login` says what becomes of each login, by its number
/// from 0, and `stop` of each command.
async fn octoprint(
    login: impl Fn(usize) -> Reply + Send + Sync + 'static,
    stop: impl Fn(&Request) -> Reply + Send + Sync + 'static,
) -> Kept {
    let logins = AtomicUsize::new(0);
    Kept::start(move |request| {
        if request.is("GET /login/") {
            Reply::Text(200, LOGIN_PAGE, String::new())
        } else if request.is("POST /api/login") {
            login(logins.fetch_add(1, Ordering::Relaxed))
        } else if request.is("GET ") {
            Reply::Text(200, "", r#"{"name":"admin","permissions":["STATUS"]}"#.to_owned())
        } else {
            stop(request)
        }
    })
    .await
}

fn done(_: &Request) -> Reply {
    Reply::Text(204, "", String::new())
}

fn logged_in(session: &'static str) -> Reply {
    Reply::Text(200, session, LOGIN.to_owned())
}

const ONE: &str = "Set-Cookie: session_P80=ONE; HttpOnly\r\n";
const TWO: &str = "Set-Cookie: session_P80=TWO; HttpOnly\r\n";

#[tokio::test]
async fn a_connection_that_is_closed_unannounced_loses_nothing() {
    let server = octoprint(|_| logged_in(ONE), done).await;
    let rest = password(&server.url);
    for _ in 0..20 {
        rest.login().await.unwrap();
        rest.current_user().await.unwrap();
        rest.printer_command(&["G28"]).await.unwrap();
        rest.printer_command(&["M105"]).await.unwrap();
    }
    assert_eq!(server.count("POST /api/login"), 20);
    let seen = server.seen.lock().unwrap();
    let reused = seen.iter().filter(|(_, before)| *before > 0).count();
    assert_eq!(reused, 0, "nothing goes out on a connection that was used before");
}

async fn stops(rest: &Rest) {
    // Whoever waits for the login waits for ever here.
    timeout(Duration::from_secs(20), rest.emergency_stop()).await.expect("it waited").unwrap();
}

#[tokio::test]
async fn it_takes_the_session_that_worked_while_a_login_hangs() {
    let login = |number| if number == 0 { logged_in(ONE) } else { Reply::Never };
    let server = octoprint(login, done).await;
    let rest = password(&server.url);
    rest.login().await.unwrap();
    let hanging = tokio::spawn({
        let rest = rest.clone();
        async move { rest.login().await }
    });
    while server.count("POST /api/login") < 2 {
        sleep(Duration::from_millis(5)).await;
    }
    stops(&rest).await;
    assert_eq!(server.count("POST /api/login"), 2);
    let stop = server.last("POST /api/printer/command");
    assert!(stop.body.contains("M112"), "{stop:?}");
    assert!(stop.header("cookie").unwrap().contains("session_P80=ONE"), "{stop:?}");
    assert_eq!(stop.header("x-csrf-token"), Some("TOKEN"));
    assert!(!hanging.is_finished());
    hanging.abort();
}

#[tokio::test]
async fn it_logs_in_beside_the_first_login() {
    let login = |number| if number == 0 { Reply::Never } else { logged_in(TWO) };
    let server = octoprint(login, done).await;
    let rest = password(&server.url);
    let hanging = tokio::spawn({
        let rest = rest.clone();
        async move { rest.login().await }
    });
    while server.count("POST /api/login") < 1 {
        sleep(Duration::from_millis(5)).await;
    }
    stops(&rest).await;
    assert_eq!(server.count("POST /api/login"), 2);
    // What worked is taken again.
    stops(&rest).await;
    assert_eq!(server.count("POST /api/login"), 2);
    hanging.abort();
}

#[tokio::test]
async fn it_logs_in_once_where_the_session_is_refused() {
    for (status, body) in
        [(403, r#"{"error":"x"}"#), (401, ""), (400, r#"{"error":"CSRF validation failed"}"#)]
    {
        let login = |number| logged_in(if number == 0 { ONE } else { TWO });
        let server = octoprint(login, move |request| {
            match request.header("cookie").unwrap().contains("TWO") {
                true => done(request),
                false => Reply::Text(status, "", body.to_owned()),
            }
        })
        .await;
        let rest = password(&server.url);
        rest.login().await.unwrap();
        stops(&rest).await;
        assert_eq!(server.count("POST /api/login"), 2, "{status}");
    }
    // Without the permission it is refused again: once, and that is reported.
    let refuse = |_: &Request| Reply::Text(403, "", r#"{"error":"no permission"}"#.to_owned());
    let server = octoprint(|_| logged_in(ONE), refuse).await;
    let rest = password(&server.url);
    rest.login().await.unwrap();
    assert_eq!(rest.emergency_stop().await.unwrap_err().status(), Some(403));
    assert_eq!(server.count("POST /api/login"), 2);
}

#[tokio::test]
async fn it_does_not_wait_for_the_pause_after_a_refused_login() {
    let wrong = r#"{"error":"User unknown or password invalid"}"#;
    let login = move |number| match number {
        0 => Reply::Text(403, "", wrong.to_owned()),
        _ => logged_in(ONE),
    };
    let server = octoprint(login, done).await;
    let rest = password(&server.url);
    for _ in 0..3 {
        let error = rest.get("api/job").await.unwrap_err();
        assert!(matches!(error.login(), Some(LoginError::WrongPassword)), "{error:?}");
    }
    assert_eq!(server.count("POST /api/login"), 1);
    stops(&rest).await;
}

#[tokio::test]
async fn calls_that_waited_for_a_login_that_failed_do_not_try_their_own() {
    let broken = |_| Reply::Text(500, "", String::new());
    let server = octoprint(broken, done).await;
    let rest = password(&server.url);
    let calls = tokio::join!(rest.get("api/job"), rest.get("api/job"), rest.get("api/version"));
    for error in [calls.0.unwrap_err(), calls.1.unwrap_err(), calls.2.unwrap_err()] {
        let login = error.login();
        assert!(matches!(login, Some(LoginError::Unexpected { status: 500, .. })), "{error:?}");
    }
    assert_eq!(server.count("POST /api/login"), 1);
    // A later call tries again.
    rest.get("api/job").await.unwrap_err();
    assert_eq!(server.count("POST /api/login"), 2);
}

#[tokio::test]
async fn with_a_key_it_is_one_call() {
    let server = Kept::start(|request| match request.header("x-api-key") {
        Some("TEST-KEY") => done(request),
        _ => Reply::Text(403, "", String::new()),
    })
    .await;
    let rest = Rest::new(options(&server.url).rest).unwrap();
    stops(&rest).await;
    assert_eq!(server.count(""), 1);
    // What is lost on the way is unknown, what is not sent is refused.
    let error = Rest::new(options("http://127.0.0.1:1/").rest).unwrap().emergency_stop().await;
    assert!(!error.unwrap_err().outcome_unknown());
    let hung_up = crate::script::serve(|_| Some(String::new())).await;
    let rest = Arc::new(Rest::new(options(&hung_up.url).rest).unwrap());
    assert!(rest.emergency_stop().await.unwrap_err().outcome_unknown());
}
