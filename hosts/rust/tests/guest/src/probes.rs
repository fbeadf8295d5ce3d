//! What the guest tries. Each probe says in words how it went.

use std::fmt::Display;
use std::hint::black_box;
use std::io::Read;
use std::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::time::{Duration, Instant};

fn went<T: Display>(result: std::io::Result<T>) -> String {
    match result {
        Ok(what) => format!("ok: {what}"),
        Err(error) => format!("error: {:?}", error.kind()),
    }
}

/// What can be reached that should not be, where nothing was granted. Empty if all is well.
pub fn open_doors() -> String {
    let mut open = Vec::new();
    for folder in ["/", ".", "/inputs", "/outputs"] {
        if std::fs::read_dir(folder).is_ok() {
            open.push(format!("folder {folder}"));
        }
    }
    if TcpListener::bind("127.0.0.1:0").is_ok() {
        open.push("listening".to_owned());
    }
    if UdpSocket::bind("127.0.0.1:0").is_ok() {
        open.push("UDP".to_owned());
    }
    if "localhost:80".to_socket_addrs().is_ok() {
        open.push("names".to_owned());
    }
    for address in ["127.0.0.1:22", "127.0.0.1:6443"] {
        match TcpStream::connect(address).map_err(|error| error.kind()) {
            Err(std::io::ErrorKind::PermissionDenied) => {}
            other => open.push(format!("connecting: {other:?}")),
        }
    }
    open.join(", ")
}

/// Connects and says what the other side sends.
pub fn connect(address: &str) -> String {
    went(TcpStream::connect(address).and_then(|mut stream| {
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    }))
}

/// Listens.
pub fn bind(address: &str) -> String {
    went(TcpListener::bind(address).map(|_| "listening"))
}

/// Sends a datagram.
pub fn udp(address: &str) -> String {
    went(UdpSocket::bind("0.0.0.0:0").and_then(|socket| socket.send_to(b"hello", address)))
}

/// Looks a name up.
pub fn resolve(name: &str) -> String {
    went((name, 80).to_socket_addrs().map(|found| {
        let found: Vec<_> = found.map(|address| address.ip().to_string()).collect();
        found.join(" ")
    }))
}

/// Reads a file.
pub fn read(path: &str) -> String {
    went(std::fs::read_to_string(path))
}

/// Writes a file.
pub fn write(path: &str, text: &str) -> String {
    went(std::fs::write(path, text).map(|()| "written"))
}

/// Arguments, environment and standard input.
pub fn surroundings() -> String {
    let mut input = String::new();
    let input = went(std::io::stdin().read_to_string(&mut input));
    format!(
        "{:?} {:?} {input}",
        std::env::args().collect::<Vec<_>>(),
        std::env::vars().collect::<Vec<_>>()
    )
}

/// Writes more to standard output than anybody wants to read.
pub fn chat() -> String {
    for number in 0..20_000 {
        println!("this is line {number} of what a runner has to say when it talks to itself");
    }
    "done".to_owned()
}

/// Waits a moment.
pub fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}

/// Computes without end.
pub fn spin() -> ! {
    let mut number = 0u64;
    loop {
        number = black_box(number).wrapping_add(1);
    }
}

/// Moves memory without end, through instructions that the host's own library carries out.
pub fn churn() -> ! {
    let (from, mut to) = (vec![1u8; 1 << 16], vec![0u8; 1 << 16]);
    loop {
        black_box(&mut to).copy_from_slice(black_box(&from));
        #[cfg(target_arch = "wasm32")]
        black_box(core::arch::wasm32::memory_grow(0, 0));
    }
}

/// Computes for `milliseconds`, and looks at the clock, which is a call to the host, about every millisecond.
pub fn compute(milliseconds: u64) -> String {
    let (start, total) = (Instant::now(), Duration::from_millis(milliseconds));
    while start.elapsed() < total {
        black_box((0..1u64 << 20).fold(0, |sum, step| black_box(sum ^ step)));
    }
    "done".to_owned()
}

/// Takes memory without end.
pub fn allocate() -> ! {
    loop {
        black_box(vec![1u8; 1 << 20].leak());
    }
}
