//! A mirror over HTTP: `/metrics` for Prometheus, `/status.json` for programs, and `/`, a page for
//! people that draws the latter.
//!
//! The only place beside `transport` that knows `tokio`: one thread with a runtime of its own, which
//! reads the board like anybody else. A connection carries one request and lives for seconds, so
//! that who connects and says nothing holds nothing for long.

mod access;
mod metrics;

use std::fmt::Write;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{sleep, timeout};

use super::board::Board;
use crate::error::{Error, Result};

use access::Access;
pub use access::parse_listen;

/// The page, with marks for what differs between answers.
const PAGE: &str = include_str!("page/page.html");

/// Its script and its style.
const SCRIPT: &str = include_str!("page/page.js");
const STYLE: &str = include_str!("page/page.css");

/// Connections at a time: a few people and a few collectors. Others wait to be accepted.
const MOST_CONNECTIONS: usize = 32;

/// How long a client may take to say what it wants.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection lives, with a reader that is slow.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(20);

/// The most that a request's line and headers take, in bytes; `hyper` wants no less than 8 KiB.
const HEADERS_MAX_BYTES: usize = 16 << 10;

/// How long to wait when no connection can be accepted, for lack of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The page while it is served.
#[derive(Debug)]
pub struct Page {
    address: SocketAddr,
    /// Ends the thread by being dropped.
    serving: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Page {
    /// Serves what `board` shows at `listen`. Where others than this host can reach that, they must
    /// know the token in the file `token`.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] where there is no token and must be, or where others can read it.
    pub fn open(listen: SocketAddr, token: Option<&Path>, board: Board) -> Result<Page> {
        let access = Access::open(listen, token)?;
        let failed = |err| Error::io("listen on", listen.to_string(), err);
        let listener = TcpListener::bind(listen).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(failed)?;
        let router = router(Arc::new(Site { access, board }));
        let (serving, ended) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("page".to_owned())
            .spawn(move || run(&runtime, listener, router, ended))
            .map_err(failed)?;
        Ok(Page {
            address,
            serving,
            thread,
        })
    }

    /// Where it listens: with the port that the system chose, if it was to choose one.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves no more.
    pub fn finish(self) {
        drop(self.serving);
        // It panics nowhere, and nothing would follow from it.
        let _ = self.thread.join();
    }
}

fn run(runtime: &Runtime, listener: TcpListener, router: Router, ended: oneshot::Receiver<()>) {
    runtime.block_on(async {
        // Registering a socket fails only where the runtime has ended.
        let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
            return;
        };
        tokio::select! {
            () = accept(listener, router) => {}
            _ = ended => {}
        }
    });
}

async fn accept(listener: tokio::net::TcpListener, router: Router) {
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    // The semaphore is never closed.
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let router = router.clone();
                tokio::spawn(async move {
                    serve(stream, router).await;
                    drop(place);
                });
            }
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn serve(stream: TcpStream, router: Router) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIMEOUT)
        .max_buf_size(HEADERS_MAX_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    // Who left, or said what is no HTTP, is owed nothing.
    let _ = timeout(CONNECTION_TIMEOUT, connection).await;
}

/// What the answers are made of.
struct Site {
    access: Access,
    board: Board,
}

fn router(site: Arc<Site>) -> Router {
    let told = Router::new()
        .route("/metrics", get(metrics))
        .route("/status.json", get(status))
        .route_layer(middleware::from_fn_with_state(
            Arc::clone(&site),
            ask_for_token,
        ));
    // The page itself tells nothing, and asks for the token.
    Router::new()
        .route("/", get(page))
        .merge(told)
        .layer(middleware::from_fn_with_state(Arc::clone(&site), ask_host))
        .with_state(site)
}

async fn ask_host(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response {
    let mut response = match site.access.judge_host(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(code) => (code, "this is not a name of this host's loopback\n").into_response(),
    };
    for (name, value) in ALWAYS {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}

/// What no answer is without.
const ALWAYS: [(HeaderName, &str); 4] = [
    (header::CACHE_CONTROL, "no-store"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
];

async fn ask_for_token(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response {
    match site.access.judge_token(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(code) => {
            let scheme = [(header::WWW_AUTHENTICATE, "Bearer")];
            (code, scheme, "a token is needed\n").into_response()
        }
    }
}

async fn metrics(State(site): State<Arc<Site>>) -> Response {
    let text = metrics::text(&site.board.snapshot(), SystemTime::now());
    typed(metrics::CONTENT_TYPE, text)
}

async fn status(State(site): State<Arc<Site>>) -> Response {
    match serde_json::to_string(&site.board.snapshot()) {
        Ok(text) => typed("application/json", text),
        Err(err) => (StatusCode::INTERNAL_SERVER_ERROR, err.to_string()).into_response(),
    }
}

async fn page(State(site): State<Arc<Site>>) -> Response {
    let Ok(nonce) = nonce() else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let wants_token = if site.access.wants_token() {
        "yes"
    } else {
        "no"
    };
    let text = PAGE
        .replace("@NONCE@", &nonce)
        .replace("@WANTS_TOKEN@", wants_token)
        .replace("@STYLE@", STYLE)
        .replace("@SCRIPT@", SCRIPT);
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; \
         connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let mut headers = HeaderMap::new();
    // Hexadecimal digits and words: it is a header's value.
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    (headers, typed("text/html; charset=utf-8", text)).into_response()
}

fn typed(kind: &'static str, text: String) -> Response {
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

/// A number that nobody else knows, for one answer.
fn nonce() -> io::Result<String> {
    let mut bytes = [0; 16];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    let mut digits = String::new();
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(digits, "{byte:02x}");
    }
    Ok(digits)
}
