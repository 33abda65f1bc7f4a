//! Every way in which a login can fail, distinguished.

use std::time::Duration;

use octoprint2mqtt::causes::text;
use octoprint2mqtt::octoprint::{
    AppKeys, Credentials, LoginError, Rest, RestErrorKind, Socket, SocketState, TransportChoice,
};
use octoprint2mqtt::secret::Secret;
use tokio::time::sleep;

use crate::script::{LOGIN, Server, http, options, reaches, serve, tls};

async fn refusal(answer: String) -> (LoginError, Server) {
    let mut server = serve(move |_| Some(answer.clone())).await;
    let socket = Socket::new(options(&server.url)).unwrap();
    let error = socket.rest().login().await.unwrap_err();
    assert_eq!(server.request().await.header("x-api-key"), Some("TEST-KEY"));
    assert!(!format!("{error} {error:?}").contains("TEST-KEY"));
    (error, server)
}

#[tokio::test]
async fn each_refusal_is_an_error_of_its_own() {
    let csrf = r#"{"error":"CSRF validation failed"}"#;
    assert!(matches!(refusal(http(400, "", csrf)).await.0, LoginError::KeyRefused));
    assert!(matches!(refusal(http(429, "", "")).await.0, LoginError::RateLimited));
    let guest = r#"{"needs":{"group":["guests"]},"permissions":[]}"#;
    assert!(matches!(refusal(http(200, "", guest)).await.0, LoginError::NoActiveUser));
    for not_up in ["Not found".to_owned(), String::new(), http(502, "", ""), http(501, "", "x")] {
        let error = refusal(not_up).await.0;
        assert!(matches!(error, LoginError::NotUp { .. }) && !error.refused(), "{error:?}");
    }
    let error = refusal(http(404, "", "<html>")).await.0;
    assert!(matches!(error, LoginError::NotOctoPrint { .. }), "{error:?}");
}

/// The answer of a proxy in OctoPrint's place, and that of a failing OctoPrint, are recognised in
/// every call.
#[tokio::test]
async fn proxies_and_faults_are_recognised_in_every_call() {
    let challenge = "WWW-Authenticate: Basic realm=\"the house\"\r\n";
    let page = |title: &str| format!("<html><title>{title}</title></html>");
    let wants_login = r#"wants a login of its own (401, Basic realm="the house")"#;
    let elsewhere = "use https://octopi.local/printer/ in the configuration";
    for (answer, told) in [
        (http(401, challenge, &page("401")), wants_login),
        (http(401, challenge, r#"{"error":"no"}"#), wants_login),
        (http(403, "", &page("403 Forbidden")), "refuses access (403: 403 Forbidden)"),
        (http(500, "", &page("500 Oh no")), "OctoPrint answered 500: 500 Oh no"),
        (http(503, "", ""), "OctoPrint is not up (HTTP status 503)"),
        (http(404, "", &page("Not here")), "404: Not here"),
        (http(200, "", &page("Please log in")), "Please log in"),
        (http(302, "Location: https://octopi.local/printer{path}\r\n", ""), elsewhere),
    ] {
        let server = serve(move |request| {
            let path = request.head.split(' ').nth(1).unwrap();
            Some(answer.replace("{path}", path))
        })
        .await;
        let error = Rest::new(options(&server.url).rest).unwrap().login().await.unwrap_err();
        assert!(error.to_string().contains(told), "{told}: {error}");
        let (url, tls) = (server.url.parse().unwrap(), tls());
        let plugin = AppKeys::new(url, &tls, &[], Duration::from_secs(5)).unwrap();
        let error = text(&plugin.request("test", None).await.unwrap_err());
        assert!(error.contains(told), "{told}: {error}");
        let plugin_is_missing = told.contains("Not here") || told.contains("Please");
        assert_eq!(error.contains("no application keys here"), plugin_is_missing, "{error}");
    }
}

#[tokio::test]
async fn a_call_tells_of_a_proxy_that_wants_a_login() {
    let server = serve(|request| {
        Some(if request.is("POST /api/login") {
            http(200, "", LOGIN)
        } else if request.is("GET /api/job") {
            http(401, "WWW-Authenticate: Basic realm=\"pi\"\r\n", "")
        } else if request.is("GET /api/files") {
            http(500, "", "<title>500 Oh no</title>")
        } else {
            http(401, "", "<html>")
        })
    })
    .await;
    let mut options = options(&server.url);
    options.transport = TransportChoice::WebSocket;
    let socket = Socket::new(options).unwrap();
    let error = socket.rest().get("api/job").await.unwrap_err();
    assert!(error.to_string().contains("a proxy in front of OctoPrint"), "{error}");
    assert_eq!(error.status(), Some(401));
    let error = socket.rest().get("api/files").await.unwrap_err();
    assert_eq!(error.to_string(), "api/files: 500 Oh no (500)");
    socket.connect();
    let status = reaches(&socket, SocketState::Waiting).await;
    let error = status.error.unwrap();
    assert!(error.contains("with 401: a proxy in front of OctoPrint may want"), "{error}");
}

/// hyper shuts down its side of a connection that will be closed before the answer arrives. Proxies
/// take that for a client that has disconnected.
#[tokio::test]
async fn questions_leave_their_connection_open_until_they_are_answered() {
    let mut server = serve(|_| Some(http(200, "", LOGIN))).await;
    let rest = Rest::new(options(&server.url).rest).unwrap();
    rest.login().await.unwrap();
    rest.current_user().await.unwrap();
    for start in ["POST ", "GET "] {
        let request = server.request().await;
        assert!(request.is(start) && request.header("connection").is_none(), "{request:?}");
    }
}

#[tokio::test]
async fn nothing_listens_there() {
    let refused = Rest::new(options("http://127.0.0.1:1/").rest).unwrap();
    let error = refused.login().await.unwrap_err();
    assert_eq!(text(&error), "OctoPrint is not up (connection refused)");
    let error = refused.set_target("bed", 60.0).await.unwrap_err();
    assert_eq!(*error.kind(), RestErrorKind::NotSent);
    assert!(!error.outcome_unknown(), "{error:?}");
    assert_eq!(text(&error), "api/printer/bed: not sent: connection refused");
    let unknown = Rest::new(options("http://nowhere.invalid/").rest).unwrap();
    let error = unknown.login().await.unwrap_err();
    assert!(matches!(error, LoginError::Dns { .. }), "{error:?}");
}

#[tokio::test]
async fn tls_failures_are_named() {
    let server = serve(|_| Some(http(200, "", LOGIN))).await;
    let url = server.url.replace("http:", "https:");
    // The server waits for a request that never is one; it must not wait for ever.
    let answering = serve(|_| Some(String::new())).await;
    drop(answering);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plain = format!("https://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            sleep(Duration::from_secs(1)).await;
        }
    });
    let error = Rest::new(options(&plain).rest).unwrap().login().await.unwrap_err();
    assert!(matches!(error, LoginError::Tls { .. }), "{error:?}");
    let error = Rest::new(options(&url).rest).unwrap().login().await.unwrap_err();
    assert!(!error.refused(), "{error:?}");
}

#[tokio::test]
async fn the_key_follows_no_redirect() {
    let mut elsewhere = serve(|_| Some(http(200, "", LOGIN))).await;
    let location = format!("Location: {}octoprint/?secret=1\r\n", elsewhere.url);
    let (error, _server) = refusal(http(301, &location, "")).await;
    let LoginError::Redirected { location } = error else { panic!("{error:?}") };
    assert_eq!(location, format!("{}octoprint/", elsewhere.url));
    assert!(elsewhere.requests.try_recv().is_err());
}

#[tokio::test]
async fn a_refused_login_waits_and_reconnect_jumps_the_wait() {
    let csrf = r#"{"error":"CSRF validation failed"}"#;
    let mut server = serve(move |_| Some(http(400, "", csrf))).await;
    let socket = Socket::new(options(&server.url)).unwrap();
    socket.connect();
    let status = reaches(&socket, SocketState::Waiting).await;
    assert_eq!(status.next_attempt_in, Some(Duration::from_secs(600)));
    assert!(status.error.unwrap().contains("API key"));
    sleep(Duration::from_millis(300)).await;
    assert_eq!(server.logins(), 1);
    socket.reconnect();
    reaches(&socket, SocketState::Connecting).await;
    reaches(&socket, SocketState::Waiting).await;
    assert_eq!(server.logins(), 1);
}

#[tokio::test]
async fn user_and_password_with_csrf_and_a_session_that_ends() {
    let calls = std::sync::atomic::AtomicU32::new(0);
    let mut server = serve(move |request| {
        let csrf = request.header("x-csrf-token") == Some("TOKEN");
        Some(if request.is("GET /login/") {
            http(200, "Set-Cookie: csrf_token_P80=TOKEN; Path=/\r\n", "")
        } else if request.is("POST /api/login") {
            assert!(csrf && request.header("cookie").unwrap().contains("csrf_token_P80=TOKEN"));
            http(200, "Set-Cookie: session_P80=S; HttpOnly\r\n", LOGIN)
        } else if request.is("GET /api/currentuser") {
            http(200, "", r#"{"name":null,"groups":["guests"],"permissions":[]}"#)
        } else if calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 1 {
            http(403, "", r#"{"error":"You don't have the permission"}"#)
        } else {
            assert!(csrf && request.header("cookie").unwrap().contains("session_P80=S"));
            http(204, "", "")
        })
    })
    .await;
    let mut options = options(&server.url);
    let password = Secret::new("hunter2");
    options.rest.credentials = Credentials::Password { username: "admin".to_owned(), password };
    let rest = Rest::new(options.rest).unwrap();
    rest.set_target("bed", 60.0).await.unwrap();
    assert_eq!(server.logins(), 1);
    rest.set_target("tool0", 0.0).await.unwrap();
    assert_eq!(server.logins(), 1);
}

/// OctoPrint has it since 1.8.
#[tokio::test]
async fn user_and_password_without_csrf() {
    let mut server = serve(|request| {
        Some(match request.is("GET /login/") {
            true => http(200, "", "<html>"),
            false => http(200, "Set-Cookie: session_P80=S; HttpOnly\r\n", LOGIN),
        })
    })
    .await;
    let mut options = options(&server.url);
    let password = Secret::new("hunter2");
    options.rest.credentials = Credentials::Password { username: "admin".to_owned(), password };
    Rest::new(options.rest).unwrap().login().await.unwrap();
    assert!(server.request().await.is("GET /login/"));
    let login = server.request().await;
    assert!(login.is("POST /api/login") && login.header("x-csrf-token").is_none(), "{login:?}");
}

#[tokio::test]
async fn a_wrong_password_is_tried_once() {
    let mut server = serve(|request| {
        Some(match request.is("GET /login/") {
            true => http(200, "Set-Cookie: csrf_token=T\r\n", ""),
            false => http(403, "", r#"{"error":"User unknown or password invalid"}"#),
        })
    })
    .await;
    let mut options = options(&server.url);
    let password = Secret::new("wrong");
    options.rest.credentials = Credentials::Password { username: "admin".to_owned(), password };
    let rest = Rest::new(options.rest).unwrap();
    for _ in 0..5 {
        let error = rest.get("api/job").await.unwrap_err();
        assert!(matches!(error.login(), Some(LoginError::WrongPassword)), "{error:?}");
        assert!(text(&error).starts_with("login failed: OctoPrint refuses user name"), "{error:?}");
    }
    assert_eq!(server.logins(), 1);
}

#[tokio::test]
async fn errors_of_calls() {
    let server = serve(|request| {
        Some(if request.is("POST /api/job") {
            http(409, "", r#"{"error":"Printer is not operational"}"#)
        } else {
            "HTTP/1.1 2".to_owned()
        })
    })
    .await;
    let rest = Rest::new(options(&server.url).rest).unwrap();
    let error = rest.job(octoprint2mqtt::octoprint::JobAction::Cancel).await.unwrap_err();
    assert_eq!(error.to_string(), "api/job: Printer is not operational (409)");
    assert_eq!((error.status(), error.outcome_unknown()), (Some(409), false));
    assert_eq!((error.method(), error.path()), (Some("POST"), Some("api/job")));
    let error = rest.printer_command(&["M112"]).await.unwrap_err();
    assert_eq!((error.status(), error.outcome_unknown()), (None, true), "{error:?}");
    for outside in ["../../x", "//other.example/x", "@other.example"] {
        let asked = rest.get(outside).await;
        assert!(asked.is_err(), "{outside}");
    }
    for (heater, target) in [("fan", 1.0), ("tool01", 1.0), ("bed", f64::NAN)] {
        let error = rest.set_target(heater, target).await.unwrap_err();
        assert!(matches!(error.kind(), RestErrorKind::Argument(_)), "{error:?}");
    }
}
