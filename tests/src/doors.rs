//! Two doors on this machine that a company's network has: a proxy that opens tunnels, and a registry that asks who one is.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// Longest head of a request.
const HEAD: usize = 16 * 1024;

/// A door that lets those through who say the right name and password, and counts them.
#[derive(Debug)]
pub struct Door {
    /// Where it is.
    pub address: SocketAddr,
    passed: Arc<AtomicUsize>,
    refused: Arc<AtomicUsize>,
    open: JoinHandle<()>,
}

impl Drop for Door {
    fn drop(&mut self) {
        self.open.abort();
    }
}

/// What is behind a door.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Whatever a CONNECT asks for: always this server.
    Proxy,
    /// A registry, whose requests are passed on.
    Registry,
}

impl Door {
    /// An HTTP proxy: tunnels to any name lead to `server`. With `user` (`name:password`) it asks for that.
    pub async fn proxy(server: SocketAddr, user: Option<&str>) -> Self {
        Self::open(Kind::Proxy, server, user).await
    }

    /// A registry that shows its images to `user` only.
    pub async fn registry(server: SocketAddr, user: &str) -> Self {
        Self::open(Kind::Registry, server, Some(user)).await
    }

    async fn open(kind: Kind, server: SocketAddr, user: Option<&str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (passed, refused) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let counts = (Arc::clone(&passed), Arc::clone(&refused));
        let wanted = user.map(|user| format!("Basic {}", STANDARD.encode(user)));
        let open = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (counts, wanted) = (counts.clone(), wanted.clone());
                tokio::spawn(async move {
                    let counted = match serve(kind, stream, server, wanted.as_deref()).await {
                        Ok(true) => counts.0,
                        Ok(false) => counts.1,
                        // Whoever connects may leave without a word.
                        Err(_) => return,
                    };
                    counted.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
        Self {
            address,
            passed,
            refused,
            open,
        }
    }

    /// How many connections came through and are over.
    pub fn passed(&self) -> usize {
        self.passed.load(Ordering::Relaxed)
    }

    /// How many were turned away.
    pub fn refused(&self) -> usize {
        self.refused.load(Ordering::Relaxed)
    }
}

/// One connection; whether it came through.
async fn serve(kind: Kind, mut stream: TcpStream, server: SocketAddr, wanted: Option<&str>) -> io::Result<bool> {
    let (head, rest) = head(&mut stream).await?;
    let (field, no) = match kind {
        Kind::Proxy => (
            "proxy-authorization",
            "407 Proxy Authentication Required\r\nProxy-Authenticate",
        ),
        Kind::Registry => ("authorization", "401 Unauthorized\r\nWWW-Authenticate"),
    };
    let given = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case(field).then(|| value.trim().to_owned())
    });
    if wanted.is_some() && given.as_deref() != wanted {
        let answer = format!("HTTP/1.1 {no}: Basic realm=\"door\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        stream.write_all(answer.as_bytes()).await?;
        return Ok(false);
    }
    let mut behind = TcpStream::connect(server).await?;
    match kind {
        Kind::Proxy => stream.write_all(b"HTTP/1.1 200 Open\r\n\r\n").await?,
        Kind::Registry => {
            let (first, fields) = head.split_once("\r\n").unwrap_or((&head, ""));
            // One request a connection, so that each is asked who it is.
            let head = format!("{first}\r\nConnection: close\r\n{fields}");
            behind.write_all(head.as_bytes()).await?;
        }
    }
    behind.write_all(&rest).await?;
    // How it ends is for the two of them.
    let _ = tokio::io::copy_bidirectional(&mut stream, &mut behind).await;
    Ok(true)
}

/// The head of a request, with the empty line, and what was read beyond it.
async fn head(stream: &mut TcpStream) -> io::Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            return Ok((String::from_utf8_lossy(&bytes).into_owned(), rest));
        }
        if bytes.len() > HEAD || stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
}
