//! A proxy in front of the API server that can be stopped at one request, before or after the server gets it, and that
//! can do harm to answers.
//!
//! It ends TLS on both sides, so it sees requests and not bytes. Its own certificate is made for it, and the caller's
//! credential passes through: a token in the request, a certificate by being shown again.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::Place;

/// How the status of an exec begins that the server sends as the connection's last message. Nothing else has it here: the
/// commands that are stopped at their end write nothing.
const STATUS: &[u8] = br#"{"metadata":{},"status":"#;

/// A longer head is not one of Kubernetes' requests.
const HEAD: usize = 256 * 1024;

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Creating a pod.
    Create,
    /// Deleting a pod.
    Delete,
    /// A command in the container of this name.
    Exec(&'static str),
    /// The log of a container.
    Log,
}

/// When in the course of a request the proxy stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The server has not seen the request, and will not.
    Before,
    /// The server has answered, and the caller will not see it.
    After,
    /// The server says that an exec's command has ended, or ends the connection over it, and the caller will not see it.
    /// When the server has only answered, the command may not have begun, and need not begin without the caller.
    Done,
    /// The server gets the request, and nothing is stopped.
    Passed,
    /// So many bytes of an upgraded connection went to the server.
    Sent(usize),
    /// So many bytes of an upgraded connection came from the server.
    Received(usize),
}

/// Where the proxy stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trap {
    /// At which requests.
    pub target: Target,
    /// At which of them, counted from one.
    pub number: usize,
    /// When.
    pub moment: Moment,
}

/// What may befall an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// It is empty, and the server never sees the request. So the API server answers when asked for the log of a pod that
    /// has no node yet.
    Empty,
    /// The request is held back until `release` is called, which `caught` tells.
    Held,
    /// One bit of it is wrong, so many bytes after its begin.
    Damaged(usize),
    /// It breaks off after so many bytes.
    Cut(usize),
    /// Nothing more of it comes after so many bytes, and its connection stays.
    Stalled(usize),
    /// It is well, and one bit of what is sent over the upgraded connection is wrong, so many bytes after its begin.
    Spoiled(usize),
    /// It is well, and the upgraded connection breaks after so many bytes were sent over it.
    Severed(usize),
}

/// A running proxy. It ends with this value.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    authority: String,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    trap: Mutex<Option<Trap>>,
    /// What befalls the next answers to such requests, and how many of them.
    harm: Mutex<Option<(Target, usize, Harm)>>,
    caught: watch::Sender<bool>,
    /// Nothing is held back any more.
    released: watch::Sender<bool>,
    /// Bytes that went to the server over each upgraded connection, in the order of their requests.
    sent: Mutex<Vec<(Option<Target>, usize)>>,
}

/// What the answers to one request are to be stopped at or suffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    Stop(Moment),
    Suffer(Harm),
}

impl Proxy {
    /// Starts a proxy for the API server of `place`.
    pub async fn start(place: &Place) -> Result<Self> {
        let own = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()])?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(own.signing_key.serialize_der()));
        let server = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key)?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&place.authority()?) {
            roots.add(certificate?)?;
        }
        let client = ClientConfig::builder().with_root_certificates(roots);
        let client = match place.certificate()? {
            Some((chain, key)) => client.with_client_auth_cert(
                CertificateDer::pem_slice_iter(&chain).collect::<Result<_, _>>()?,
                PrivateKeyDer::from_pem_slice(&key)?,
            )?,
            None => client.with_no_client_auth(),
        };
        let upstream = Upstream::new(place.server()?, client)?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let shared = Arc::new(Shared {
            trap: Mutex::new(None),
            harm: Mutex::new(None),
            caught: watch::Sender::new(false),
            released: watch::Sender::new(false),
            sent: Mutex::default(),
        });
        let address = listener.local_addr()?;
        let accepting = tokio::spawn(accept(
            listener,
            TlsAcceptor::from(Arc::new(server)),
            upstream,
            shared.clone(),
        ));
        Ok(Self {
            address,
            authority: own.cert.pem(),
            shared,
            accepting,
        })
    }

    /// Where it listens, as a URL.
    pub fn address(&self) -> String {
        format!("https://{}", self.address)
    }

    /// PEM of the authority that its certificate is from.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Stop at this request. One at a time; the connection that is caught never goes on.
    pub fn set(&self, trap: Trap) {
        self.shared.caught.send_replace(false);
        *self.shared.trap.lock().unwrap_or_else(PoisonError::into_inner) = Some(trap);
    }

    /// Do harm to the next `times` answers to such requests.
    pub fn harm(&self, target: Target, times: usize, harm: Harm) {
        *self.shared.harm.lock().unwrap_or_else(PoisonError::into_inner) = Some((target, times, harm));
    }

    /// How many bytes each upgraded connection for such requests carried to the server, in their order.
    pub fn sent(&self, target: Target) -> Vec<usize> {
        let sent = self.shared.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let ours = sent.iter().filter(|(of, _)| *of == Some(target));
        ours.map(|(_, bytes)| *bytes).collect()
    }

    /// Passes on what is held back.
    pub fn release(&self) {
        self.shared.released.send_replace(true);
    }

    /// Returns when a request was caught.
    pub async fn caught(&self) {
        // The sender lives as long as this proxy.
        let _ = self.shared.caught.subscribe().wait_for(|caught| *caught).await;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Shared {
    /// The moment to stop at, if this request is the one. The trap is spent then.
    fn spring(&self, target: Option<Target>) -> Option<Moment> {
        let mut trap = self.trap.lock().unwrap_or_else(PoisonError::into_inner);
        let set = trap.as_mut().filter(|set| Some(set.target) == target)?;
        set.number = set.number.saturating_sub(1);
        if set.number > 0 {
            return None;
        }
        trap.take().map(|trap| trap.moment)
    }

    /// What the answer to this request suffers.
    fn strike(&self, target: Option<Target>) -> Option<Harm> {
        let mut harm = self.harm.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, times, kind) = harm
            .as_mut()
            .filter(|(struck, left, _)| Some(*struck) == target && *left > 0)?;
        *times -= 1;
        Some(*kind)
    }

    /// Begins to count what an upgraded connection carries; the place of the count.
    fn upgraded(&self, target: Option<Target>) -> usize {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.push((target, 0));
        sent.len() - 1
    }

    /// So many bytes more went over it.
    fn count(&self, place: usize, bytes: usize) {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.get_mut(place).into_iter().for_each(|(_, sum)| *sum += bytes);
    }

    /// Tell that the moment has come.
    fn tell(&self) {
        self.caught.send_replace(true);
    }

    /// Tell that the moment has come, and let nothing more happen.
    async fn catch(&self) -> Result<()> {
        self.tell();
        std::future::pending().await
    }
}

/// The API server.
#[derive(Clone)]
struct Upstream {
    address: String,
    name: ServerName<'static>,
    connector: TlsConnector,
}

impl Upstream {
    fn new(server: &str, client: ClientConfig) -> Result<Self> {
        let rest = server
            .strip_prefix("https://")
            .context("the API server's address is no https URL")?;
        let authority = rest.split('/').next().unwrap_or(rest);
        let (host, address) = match authority.rsplit_once(':') {
            Some((host, port)) if port.chars().all(|c| c.is_ascii_digit()) => (host, authority.to_owned()),
            _ => (authority, format!("{authority}:443")),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Ok(Self {
            address,
            name: ServerName::try_from(host.to_owned())?,
            connector: TlsConnector::from(Arc::new(client)),
        })
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, upstream: Upstream, shared: Arc<Shared>) {
    // Connections end with this task.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, upstream, shared) = (acceptor.clone(), upstream.clone(), shared.clone());
        connections.spawn(async move {
            // What goes wrong here is the caller's to notice: its connection closes.
            let _ = connection(stream, acceptor, upstream, shared).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

type Down = tokio_rustls::server::TlsStream<TcpStream>;
type Up = tokio_rustls::client::TlsStream<TcpStream>;
type Caller = tokio::sync::Mutex<WriteHalf<Down>>;

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, upstream: Upstream, shared: Arc<Shared>) -> Result<()> {
    stream.set_nodelay(true)?;
    let down = acceptor.accept(stream).await?;
    let up = TcpStream::connect(&upstream.address).await?;
    up.set_nodelay(true)?;
    let up = upstream.connector.connect(upstream.name, up).await?;
    let (from_caller, to_caller) = split(down);
    let (from_server, to_server) = split(up);
    let to_caller = tokio::sync::Mutex::new(to_caller);
    // Set before the request is passed on.
    let (course, followed) = watch::channel(None);
    tokio::select! {
        done = requests(from_caller, to_server, &to_caller, &shared, course) => done,
        done = answers(from_server, &to_caller, &shared, followed) => done,
    }
}

/// Passes requests on, one by one; after an upgrade whatever comes.
async fn requests(
    mut from: ReadHalf<Down>,
    mut to: WriteHalf<Up>,
    back: &Caller,
    shared: &Shared,
    course: watch::Sender<Option<Course>>,
) -> Result<()> {
    let mut buffer = Vec::new();
    loop {
        let Some(head) = head(&mut from, &mut buffer).await? else {
            // The caller has nothing more to say; answers may still be on their way.
            return std::future::pending().await;
        };
        let request = Request::parse(&head)?;
        let moment = shared.spring(request.target);
        if moment == Some(Moment::Before) {
            return shared.catch().await;
        }
        let harm = shared.strike(request.target);
        if harm == Some(Harm::Empty) {
            let mut back = back.lock().await;
            back.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await?;
            back.flush().await?;
            continue;
        }
        if harm == Some(Harm::Held) {
            shared.tell();
            // The sender lives as long as this task.
            let _ = shared.released.subscribe().wait_for(|released| *released).await;
        }
        course.send_replace(moment.map(Course::Stop).or(harm.map(Course::Suffer)));
        to.write_all(&head).await?;
        if moment == Some(Moment::Passed) {
            shared.tell();
        }
        if request.upgrade {
            to.write_all(&buffer).await?;
            to.flush().await?;
            let place = shared.upgraded(request.target);
            shared.count(place, buffer.len());
            let upgraded = Upgraded {
                place,
                sent: buffer.len(),
                moment,
                harm,
            };
            return upgraded.pass(&mut from, &mut to, shared).await;
        }
        let mut left = request.length;
        while left > 0 {
            if buffer.is_empty() && from.read_buf(&mut buffer).await? == 0 {
                bail!("a request is cut short");
            }
            let part: Vec<u8> = buffer.drain(..left.min(buffer.len())).collect();
            left -= part.len();
            to.write_all(&part).await?;
        }
        to.flush().await?;
    }
}

/// Passes answers on.
async fn answers(
    mut from: ReadHalf<Up>,
    back: &Caller,
    shared: &Shared,
    course: watch::Receiver<Option<Course>>,
) -> Result<()> {
    let mut buffer = Vec::with_capacity(64 * 1024);
    // Counted from the answer that something befalls: a connection serves several requests.
    let mut before = 0;
    loop {
        buffer.clear();
        let ended = from.read_buf(&mut buffer).await? == 0;
        let done = ended || buffer.windows(STATUS.len()).any(|window| window == STATUS);
        if done && *course.borrow() == Some(Course::Stop(Moment::Done)) {
            return shared.catch().await;
        }
        if ended {
            back.lock().await.shutdown().await?;
            return Ok(());
        }
        let course = *course.borrow();
        let received = before + buffer.len();
        match course {
            Some(Course::Stop(Moment::After)) => return shared.catch().await,
            Some(Course::Stop(Moment::Received(limit))) if received > limit => return shared.catch().await,
            Some(Course::Suffer(Harm::Cut(limit))) if received > limit => bail!("cut as asked"),
            Some(Course::Suffer(Harm::Stalled(limit))) if received > limit => {
                let mut to = back.lock().await;
                to.write_all(&buffer[..limit.saturating_sub(before)]).await?;
                to.flush().await?;
                drop(to);
                return std::future::pending().await;
            }
            Some(Course::Suffer(Harm::Damaged(place))) => {
                let byte = place.checked_sub(before).and_then(|place| buffer.get_mut(place));
                byte.into_iter().for_each(|byte| *byte ^= 1);
            }
            _ => {}
        }
        if course.is_some() {
            before = received;
        }
        let mut to = back.lock().await;
        to.write_all(&buffer).await?;
        to.flush().await?;
    }
}

/// A connection that carries no requests any more.
struct Upgraded {
    /// Of its count.
    place: usize,
    sent: usize,
    moment: Option<Moment>,
    harm: Option<Harm>,
}

impl Upgraded {
    /// Passes whatever comes on to the server.
    async fn pass(mut self, from: &mut ReadHalf<Down>, to: &mut WriteHalf<Up>, shared: &Shared) -> Result<()> {
        let mut buffer = Vec::with_capacity(64 * 1024);
        loop {
            match (self.moment, self.harm) {
                (Some(Moment::Sent(limit)), _) if self.sent > limit => return shared.catch().await,
                (_, Some(Harm::Severed(limit))) if self.sent > limit => bail!("severed as asked"),
                _ => {}
            }
            buffer.clear();
            if from.read_buf(&mut buffer).await? == 0 {
                to.shutdown().await?;
                return std::future::pending().await;
            }
            if let Some(Harm::Spoiled(place)) = self.harm {
                let byte = place.checked_sub(self.sent).and_then(|place| buffer.get_mut(place));
                byte.into_iter().for_each(|byte| *byte ^= 1);
            }
            to.write_all(&buffer).await?;
            to.flush().await?;
            self.sent += buffer.len();
            shared.count(self.place, buffer.len());
        }
    }
}

/// The next request's head with its empty line; none at the end. What follows it stays in `buffer`.
async fn head(from: &mut ReadHalf<Down>, buffer: &mut Vec<u8>) -> Result<Option<Vec<u8>>> {
    loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            return Ok(Some(buffer.drain(..end + 4).collect()));
        }
        if buffer.len() > HEAD {
            bail!("the head of a request is too long");
        }
        if from.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

/// What the head of a request says.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    target: Option<Target>,
    length: usize,
    upgrade: bool,
}

impl Request {
    fn parse(head: &[u8]) -> Result<Self> {
        let head = std::str::from_utf8(head).context("the head of a request is no text")?;
        let mut lines = head.lines();
        let mut words = lines.next().unwrap_or_default().split(' ');
        let (method, uri) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let mut request = Self {
            target: target(method, uri),
            length: 0,
            upgrade: false,
        };
        for line in lines {
            let Some((name, value)) = line.split_once(':') else {
                continue;
            };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => request.length = value.trim().parse().context("a length is no number")?,
                "transfer-encoding" => bail!("requests in chunks are not understood"),
                "upgrade" => request.upgrade = true,
                _ => {}
            }
        }
        Ok(request)
    }
}

fn target(method: &str, uri: &str) -> Option<Target> {
    let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
    let rest = path.strip_prefix("/api/v1/namespaces/")?;
    let parts: Vec<&str> = rest.split('/').collect();
    match (method, parts.as_slice()) {
        ("POST", [_, "pods"]) => Some(Target::Create),
        ("DELETE", [_, "pods", _]) => Some(Target::Delete),
        (_, [_, "pods", _, "exec"]) => {
            let containers = ["init-files", "out-files", "main"];
            let asked = |name: &&&str| query.split('&').any(|pair| pair == format!("container={name}"));
            containers.iter().find(asked).map(|name| Target::Exec(name))
        }
        ("GET", [_, "pods", _, "log"]) => Some(Target::Log),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_known_by_their_line() {
        let pods = "/api/v1/namespaces/n/pods";
        assert_eq!(target("POST", &format!("{pods}?")), Some(Target::Create));
        assert_eq!(target("DELETE", &format!("{pods}/p")), Some(Target::Delete));
        assert_eq!(
            target(
                "GET",
                &format!("{pods}/p/exec?stdin=true&container=init-files&command=sh")
            ),
            Some(Target::Exec("init-files"))
        );
        assert_eq!(target("GET", &format!("{pods}/p/log?follow=true")), Some(Target::Log));
        assert_eq!(target("GET", &format!("{pods}/p")), None);
        assert_eq!(target("GET", &format!("{pods}?watch=true")), None);
    }

    #[test]
    fn heads_tell_what_follows_them() {
        let head = b"POST /api/v1/namespaces/n/pods? HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n\r\n";
        let request = Request::parse(head).unwrap();
        assert_eq!((request.length, request.upgrade), (12, false));
        let head = b"GET /api/v1/namespaces/n/pods/p/exec?container=main HTTP/1.1\r\nUpgrade: websocket\r\n\r\n";
        let request = Request::parse(head).unwrap();
        assert_eq!((request.target, request.upgrade), (Some(Target::Exec("main")), true));
        Request::parse(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap_err();
    }

    #[test]
    fn a_trap_waits_for_its_number_and_is_spent_then() {
        let shared = Shared {
            trap: Mutex::new(Some(Trap {
                target: Target::Create,
                number: 2,
                moment: Moment::After,
            })),
            harm: Mutex::new(Some((Target::Log, 1, Harm::Empty))),
            caught: watch::Sender::new(false),
            released: watch::Sender::new(false),
            sent: Mutex::default(),
        };
        assert_eq!(shared.strike(Some(Target::Create)), None);
        assert_eq!(shared.strike(Some(Target::Log)), Some(Harm::Empty));
        assert_eq!(shared.strike(Some(Target::Log)), None);
        assert_eq!(shared.spring(Some(Target::Create)), None);
        assert_eq!(shared.spring(Some(Target::Delete)), None);
        assert_eq!(shared.spring(Some(Target::Create)), Some(Moment::After));
        assert_eq!(shared.spring(Some(Target::Create)), None);
    }
}
