//! Where an upload's time goes, seen from outside the runner: a proxy between it and the API server notes who waits for whom,
//! and the kernel tells which process computed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::cluster::Cluster;
use crate::task::Timeline;

/// Requests are smaller than this; what follows on the same connection is a file.
const REQUEST: u64 = 16 * 1024;

/// The bytes that one connection took to the API server.
#[derive(Clone, Debug, Default)]
struct Stream {
    bytes: u64,
    first: Option<Instant>,
    last: Option<Instant>,
    for_runner: Duration,
    for_server: Duration,
}

/// Every connection so far, those that are still open among them.
type Streams = Arc<Mutex<Vec<Arc<Mutex<Stream>>>>>;

/// Stands between a runner and the API server.
pub(crate) struct Proxy {
    address: String,
    streams: Streams,
    accepting: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Proxy {
    /// Listens beside the API server of `cluster`.
    pub(crate) async fn start(cluster: &Cluster) -> Result<Self> {
        let host = cluster.server.host().unwrap_or_default();
        ensure!(
            host == "127.0.0.1",
            "--profile needs the API server at 127.0.0.1, where its certificate is valid for the proxy as well"
        );
        let server = format!("{host}:{}", cluster.server.port_u16().unwrap_or(443));
        let listener = TcpListener::bind((host, 0)).await?;
        let address = format!("{host}:{}", listener.local_addr()?.port());
        let streams = Streams::default();
        let all = Arc::clone(&streams);
        let accepting = tokio::spawn(async move {
            while let Ok((runner, _)) = listener.accept().await {
                let stream = Arc::new(Mutex::new(Stream::default()));
                if let Ok(mut all) = all.lock() {
                    all.push(Arc::clone(&stream));
                }
                tokio::spawn(pass(runner, server.clone(), stream));
            }
        });
        Ok(Self {
            address,
            streams,
            accepting,
        })
    }

    /// The runner's config, with this in place of the API server.
    pub(crate) fn config(&self, cluster: &Cluster) -> String {
        let server = cluster.server.authority().map(ToString::to_string).unwrap_or_default();
        serde_json::json!({ "kubeconfig": cluster.text.replace(&server, &self.address) }).to_string()
    }

    /// The connection that took the most bytes up since the last call.
    fn upload(&self) -> Option<Stream> {
        let mut streams = self.streams.lock().ok()?;
        let streams = std::mem::take(&mut *streams);
        let streams = streams.iter().filter_map(|stream| Some(stream.lock().ok()?.clone()));
        streams.max_by_key(|stream| stream.bytes)
    }
}

/// Passes one connection on. What went wrong shows at both of its ends.
async fn pass(runner: TcpStream, server: String, stream: Arc<Mutex<Stream>>) {
    let Ok(server) = TcpStream::connect(server).await else {
        return;
    };
    let _ = (runner.set_nodelay(true), server.set_nodelay(true));
    let (mut from_runner, mut to_runner) = runner.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let down = async {
        let _ = tokio::io::copy(&mut from_server, &mut to_runner).await;
    };
    let up = async {
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let waiting = Instant::now();
            let Ok(count @ 1..) = from_runner.read(&mut buffer).await else {
                break;
            };
            let sending = Instant::now();
            if to_server
                .write_all(buffer.get(..count).unwrap_or_default())
                .await
                .is_err()
            {
                break;
            }
            let Ok(mut stream) = stream.lock() else { break };
            stream.bytes += count as u64;
            if stream.bytes > REQUEST && count > 1024 {
                match stream.first {
                    None => stream.first = Some(sending),
                    Some(_) => stream.for_runner += sending - waiting,
                }
                stream.for_server += sending.elapsed();
                stream.last = Some(Instant::now());
            }
        }
        let _ = to_server.shutdown().await;
    };
    tokio::join!(up, down);
}

/// The stages of one upload, in seconds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Upload {
    /// From the call to the handle: the files are read and hashed, the pod drawn up.
    pub(crate) read_and_hashed: f64,
    /// From the phase to the first bytes of the file: the exec request, the pod's answer.
    pub(crate) opened: f64,
    /// From the first byte to the last.
    pub(crate) streamed: f64,
    /// Of these, how long the proxy had nothing to send.
    pub(crate) waited_for_runner: f64,
    /// Of these, how long the API server took nothing.
    pub(crate) waited_for_server: f64,
    /// From the last byte at the proxy until the pod has written it.
    pub(crate) drained: f64,
    /// How long the pod hashed what it had written.
    pub(crate) hashed: f64,
    /// From the last byte at the proxy to the pod's word that all of it arrived whole, the two above among it.
    pub(crate) acknowledged: f64,
    /// Bytes on the wire.
    pub(crate) bytes: u64,
    /// Seconds of processor time between the phase and the pod's word, by process.
    pub(crate) processor: BTreeMap<String, f64>,
}

impl Upload {
    /// What a run through `proxy` shows.
    pub(crate) fn of(timeline: &Timeline, proxy: &Proxy, pod: &Pod) -> Result<Self> {
        let stream = proxy.upload().context("no connection went through the proxy")?;
        let span = |from, to, what| timeline.seconds(from, to, what);
        let (before, after) = timeline.cpu.as_ref().context("no processor time was recorded")?;
        Ok(Self {
            read_and_hashed: span(Some(timeline.submitted), timeline.started, "the handle")?,
            opened: span(timeline.staging, stream.first, "staging")?,
            streamed: span(stream.first, stream.last, "a file")?,
            waited_for_runner: stream.for_runner.as_secs_f64(),
            waited_for_server: stream.for_server.as_secs_f64(),
            drained: span(stream.last, pod.received.map(|seen| seen.1), "a process that receives")?,
            hashed: span(
                pod.hashed.map(|seen| seen.0),
                pod.hashed.map(|seen| seen.1),
                "a process that hashes",
            )?,
            acknowledged: span(stream.last, timeline.staged, "the pod's word")?,
            bytes: stream.bytes,
            processor: before.until(after),
        })
    }
}

/// What ran in the pod, and from when to when it was seen.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pod {
    received: Option<(Instant, Instant)>,
    hashed: Option<(Instant, Instant)>,
}

/// How often the pod's processes are looked at, which is how exact their times are.
const LOOK: Duration = Duration::from_millis(20);

impl Pod {
    /// Looks at the machine's processes until `run` is done. Only the first that hash after the first that received count.
    pub(crate) async fn during<T>(run: impl Future<Output = T>) -> (T, Self) {
        let mut pod = Self::default();
        tokio::pin!(run);
        let mut clock = tokio::time::interval(LOOK);
        clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                done = &mut run => return (done, pod),
                _ = clock.tick() => {
                    // Looking takes a moment, which is none of the runner's.
                    let seen = tokio::task::spawn_blocking(|| (Instant::now(), running())).await;
                    if let Ok((now, running)) = seen {
                        pod.note(now, &running);
                    }
                }
            }
        }
    }

    fn note(&mut self, now: Instant, running: &BTreeSet<String>) {
        if self.hashed.is_none() && running.contains("dd") {
            self.received = Some((self.received.map_or(now, |seen| seen.0), now));
        } else if self.received.is_some() && running.contains("sha256sum") {
            self.hashed = Some((self.hashed.map_or(now, |seen| seen.0), now));
        }
    }
}

/// Names of all processes.
fn running() -> BTreeSet<String> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| fs::read_to_string(entry.path().join("comm")).ok());
    names.map(|name| name.trim().to_owned()).collect()
}

/// Processor time of every process so far, in clock ticks, by what the process is.
#[derive(Clone, Debug)]
pub(crate) struct Cpu(BTreeMap<String, u64>);

/// The kernel reports times in hundredths of a second.
const TICKS: f64 = 100.0;

impl Cpu {
    /// Reads them. Processes that cannot be read are left out.
    pub(crate) fn now() -> Self {
        let mut times = BTreeMap::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let path = entry.path();
            let read = |file: &str| fs::read(path.join(file)).unwrap_or_default();
            if let Some(ticks) = ticks(&String::from_utf8_lossy(&read("stat"))) {
                *times.entry(name(&read("cmdline"))).or_default() += ticks;
            }
        }
        Self(times)
    }

    /// Seconds between two readings, for those that computed.
    fn until(&self, later: &Self) -> BTreeMap<String, f64> {
        let used = later.0.iter().filter_map(|(name, after)| {
            let ticks = after.saturating_sub(self.0.get(name).copied().unwrap_or_default());
            (ticks > 0).then(|| (name.clone(), ticks as f64 / TICKS))
        });
        used.collect()
    }
}

/// Own and inherited times of a process: those of a child that ended are its parent's, so the sum loses nothing.
fn ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let times = fields.split_whitespace().skip(11).take(4);
    times.map(|time| time.parse::<u64>().ok()).sum()
}

/// What a process is, from its command line. What runs in containers counts with the shims that run it.
fn name(command: &[u8]) -> String {
    let mut arguments = command
        .split(|byte| *byte == 0)
        .map(|argument| String::from_utf8_lossy(argument).into_owned());
    let program = arguments.next().unwrap_or_default();
    let program = program.rsplit('/').next().unwrap_or_default();
    match program {
        "hyperkube" => arguments.next().unwrap_or_default(),
        "bench" => "runner, host and proxy".to_owned(),
        "containerd" => program.to_owned(),
        "sh" | "dd" | "sha256sum" | "tar" | "sleep" | "busybox" => "pod and shim".to_owned(),
        _ if program.starts_with("containerd-shim") || program == "runc" => "pod and shim".to_owned(),
        _ => "everything else".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_include_those_of_children_that_ended() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 200 0 0 11 22 33 44 20 0 1 0 5 6 7";
        assert_eq!(ticks(stat), Some(11 + 22 + 33 + 44));
        assert_eq!(ticks(""), None);
    }

    #[test]
    fn a_hash_counts_from_when_the_receiver_ended() {
        let now = Instant::now();
        let at = |second| now + Duration::from_secs(second);
        let mut pod = Pod::default();
        let steps: [(u64, &[&str]); 5] = [
            (1, &["sha256sum"]),
            (2, &["dd"]),
            (3, &["dd", "sh"]),
            (4, &["sha256sum"]),
            (6, &["sha256sum"]),
        ];
        for (second, names) in steps {
            pod.note(at(second), &names.iter().map(|name| (*name).to_owned()).collect());
        }
        assert_eq!(pod.received, Some((at(2), at(3))));
        assert_eq!(pod.hashed, Some((at(4), at(6))));
    }

    #[test]
    fn processes_are_named_by_their_part() {
        assert_eq!(name(b"/opt/hyperkube\0kube-apiserver\0--flag"), "kube-apiserver");
        assert_eq!(name(b"/x/containerd-shim-runc-v2\0-namespace"), "pod and shim");
        assert_eq!(name(b"rustc\0--crate-name"), "everything else");
    }
}
