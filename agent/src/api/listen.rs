//! Connections: from TCP, with TLS or without, and from a Unix socket.

use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;

use super::Api;
use super::tls::Tls;

/// How many connections there may be on which everything is answered.
const MOST: usize = 1024;

/// How many more there may be, for one probe each; others wait to be accepted.
const SPARE: usize = 32;

/// How long a connection may take to greet, and to send a request's head.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long one may that others wait for.
const CROWDED_PATIENCE: Duration = Duration::from_secs(1);

/// How long answers under way may take once the agent ends.
const FAREWELL: Duration = Duration::from_secs(1);

/// Where the API is reached.
#[derive(Debug, Default)]
pub struct Listeners {
    tcp: Option<TcpListener>,
    tls: Option<Arc<Tls>>,
    unix: Option<UnixListener>,
}

impl Listeners {
    /// Listens at an address in Go's way of writing: a missing host means every address.
    pub async fn tcp(&mut self, address: &str, tls: Option<Tls>) -> Result<std::net::SocketAddr, String> {
        let wrong =
            |error: io::Error| format!("failed to listen at `{address}`: {error}: choose another --listen-addr");
        // IPv4 alone where the machine has no IPv6.
        let listener = match address.strip_prefix(':') {
            Some(port) => match TcpListener::bind(format!("[::]:{port}")).await {
                Ok(listener) => Ok(listener),
                Err(_) => TcpListener::bind(format!("0.0.0.0:{port}")).await,
            },
            None => TcpListener::bind(address).await,
        };
        let listener = listener.map_err(wrong)?;
        let bound = listener.local_addr().map_err(wrong)?;
        self.tcp = Some(listener);
        self.tls = tls.map(Arc::new);
        Ok(bound)
    }

    /// Listens at a socket, which only its owner may use. One that nobody listens at any more is replaced.
    pub async fn unix(&mut self, path: &Path) -> Result<(), String> {
        let wrong = |error: io::Error| {
            format!(
                "failed to listen at `{}`: {error}: choose another --unix-socket",
                path.display()
            )
        };
        if std::fs::symlink_metadata(path).is_ok_and(|there| there.file_type().is_socket()) {
            if UnixStream::connect(path).await.is_ok() {
                return Err(wrong(io::ErrorKind::AddrInUse.into()));
            }
            std::fs::remove_file(path).map_err(wrong)?;
        }
        let listener = UnixListener::bind(path).map_err(wrong)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(wrong)?;
        self.unix = Some(listener);
        Ok(())
    }

    /// Serves until `end`, then lets answers under way finish, for a moment.
    pub async fn serve(self, api: Arc<Api>, end: impl Future<Output = ()>) {
        let places = Arc::new(Semaphore::new(MOST + SPARE));
        let connections = GracefulShutdown::new();
        let mut end = std::pin::pin!(end);
        loop {
            let place = tokio::select! {
                place = Arc::clone(&places).acquire_owned() => place,
                () = &mut end => break,
            };
            let Ok(place) = place else { break };
            let accepted = tokio::select! {
                accepted = accept_tcp(self.tcp.as_ref()) => accepted.map(Connection::Tcp),
                accepted = accept_unix(self.unix.as_ref()) => accepted.map(Connection::Unix),
                () = &mut end => break,
            };
            let connection = match accepted {
                Ok(connection) => connection,
                Err(error) => {
                    // Too many open files, for example: whoever waits is accepted when some are closed.
                    log::warn!("failed to accept a connection: {error}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let tls = self.tls.clone();
            let conversation = Conversation {
                api: Arc::clone(&api),
                watcher: connections.watcher(),
                crowded: places.available_permits() < SPARE,
            };
            tokio::spawn(async move {
                match (connection, tls) {
                    (Connection::Tcp(stream), None) => conversation.hold(stream).await,
                    (Connection::Unix(stream), _) => conversation.hold(stream).await,
                    (Connection::Tcp(stream), Some(tls)) => {
                        let greeting = tls.acceptor().accept(stream);
                        if let Ok(Ok(stream)) = tokio::time::timeout(conversation.patience(), greeting).await {
                            conversation.hold(stream).await;
                        }
                    }
                }
                drop(place);
            });
        }
        let _ = tokio::time::timeout(FAREWELL, connections.shutdown()).await;
    }
}

enum Connection {
    Tcp(TcpStream),
    Unix(UnixStream),
}

async fn accept_tcp(listener: Option<&TcpListener>) -> io::Result<TcpStream> {
    let Some(listener) = listener else {
        return std::future::pending().await;
    };
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn accept_unix(listener: Option<&UnixListener>) -> io::Result<UnixStream> {
    let Some(listener) = listener else {
        return std::future::pending().await;
    };
    Ok(listener.accept().await?.0)
}

/// What is talked about on a connection.
struct Conversation {
    api: Arc<Api>,
    watcher: Watcher,
    crowded: bool,
}

impl Conversation {
    fn patience(&self) -> Duration {
        if self.crowded { CROWDED_PATIENCE } else { PATIENCE }
    }

    async fn hold(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let mut protocol = http1::Builder::new();
        protocol
            .timer(TokioTimer::new())
            .header_read_timeout(self.patience())
            .keep_alive(!self.crowded)
            .max_buf_size(64 << 10);
        let service = service_fn(move |request| {
            let api = Arc::clone(&self.api);
            async move { Ok::<_, std::convert::Infallible>(api.answer(request, self.crowded).await) }
        });
        let connection = protocol.serve_connection(TokioIo::new(stream), service);
        // A connection that breaks is the client's affair.
        let _ = self.watcher.watch(connection).await;
    }
}
