//! [`Containers`] in the agent's own pod, by whatever runtime serves the Container Runtime Interface.

use std::collections::{BTreeMap, HashMap};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tonic::Code;

use super::client::{Client, End, Failure};
use super::closed::Closed;
use super::cri::{Container, ContainerState, ContainerStatus, Mount};
use super::ends::{Seen, Watcher};
use super::output::Collector;
use super::pod::{self, Pod};
use super::{ContainerTask, Containers, Error, Exit, Found, Pending, spec, volumes};
use crate::aside::aside;
use crate::protocol::Moment;
use crate::store::TaskId;

/// How often logs are looked at.
const TICK: Duration = Duration::from_millis(50);

/// How long nothing may come any more before the log of a container that has ended is complete, if it was not seen to be
/// closed: the runtime may still be writing the last lines.
const SETTLING: Duration = Duration::from_millis(50);

/// How often it is looked at until then.
const GLANCE: Duration = Duration::from_millis(2);

/// How often an image is asked for, and a container that may be there already from an earlier request.
const TRIES: u32 = 3;

/// The runtime's word for the end of a container that could not be started.
const START_ERROR: &str = "StartError";

/// Why there is no container mode.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The socket cannot be used.
    #[error(
        "--enable-container-mode: --cri-socket `{socket}` cannot be used: {reason}; mount the node's folder of the \
         runtime's socket into the agent's container as a hostPath volume, and run the agent as root"
    )]
    Socket {
        /// The socket.
        socket: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// What is there is no runtime that can be used.
    #[error("--enable-container-mode: --cri-socket `{socket}`: {source}")]
    Pod {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: pod::Unknown,
    },
    /// The runtime cannot write where the agent reads.
    #[error(
        "--enable-container-mode: --data-dir `{0}` must be in a volume of the pod, where the runtime writes the output \
         of containers"
    )]
    NoVolume(PathBuf),
    /// A volume is not where it is said to be.
    #[error("--volume {name}={path}: nothing is mounted at that path in the agent's container; mount the volume there")]
    NotMounted {
        /// The volume.
        name: String,
        /// Where it is said to be.
        path: PathBuf,
    },
}

/// The runtime of this node, for the pod of this agent.
#[derive(Debug, Clone)]
pub struct Runtime(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    client: Client,
    pod: Pod,
    data_dir: PathBuf,
    /// Volumes by the names that the agent was told.
    named: BTreeMap<String, Mount>,
    watcher: Arc<Watcher>,
    closed: Arc<Closed>,
    /// Held by whoever makes, starts or removes the container of a task.
    locks: Mutex<HashMap<TaskId, Arc<tokio::sync::Mutex<()>>>>,
}

impl Runtime {
    /// Connects to the runtime and finds this pod at it. `named` says where volumes are mounted in this container.
    pub async fn connect(
        socket: &Path,
        data_dir: &Path,
        named: &BTreeMap<String, PathBuf>,
    ) -> Result<Self, ConnectError> {
        // A look of our own first: what is wrong with a socket is said best by the kernel.
        let reachable = tokio::net::UnixStream::connect(socket).await;
        reachable.map_err(|error| ConnectError::Socket {
            socket: socket.to_owned(),
            reason: match error.kind() {
                ErrorKind::NotFound => "it is not there".to_owned(),
                ErrorKind::PermissionDenied => "it is not permitted".to_owned(),
                _ => error.to_string(),
            },
        })?;
        let client = Client::new(socket);
        let of_pod = |source| ConnectError::Pod {
            socket: socket.to_owned(),
            source,
        };
        let version = client.version().await.map_err(|failure| of_pod(failure.into()))?;
        let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let pod = Pod::find(&client, &mountinfo).await.map_err(of_pod)?;
        let data_dir = data_dir.canonicalize().unwrap_or_else(|_| data_dir.to_owned());
        if pod.on_node(&data_dir).is_none() {
            return Err(ConnectError::NoVolume(data_dir));
        }
        let named = named.iter().map(|(name, path)| {
            let mount = pod.mounted_at(path).ok_or_else(|| ConnectError::NotMounted {
                name: name.clone(),
                path: path.clone(),
            });
            Ok((name.clone(), mount?.clone()))
        });
        let named = named.collect::<Result<_, _>>()?;
        log::info!(
            "containers are run by {} {} beside {pod}",
            version.runtime_name,
            version.runtime_version
        );
        Ok(Self(Arc::new(Inner {
            watcher: Watcher::start(client.clone(), spec::labels_of_all(&pod)),
            closed: Arc::new(Closed::new()),
            client,
            pod,
            data_dir,
            named,
            locks: Mutex::default(),
        })))
    }
}

impl Containers for Runtime {
    fn find<'a>(&'a self, task: &'a ContainerTask) -> Pending<'a, Found> {
        Box::pin(async move {
            let Some(container) = self.0.container(&task.id).await.map_err(unknown)? else {
                return Ok(Found::Absent);
            };
            match ContainerState::try_from(container.state) {
                Ok(ContainerState::Created) => Ok(Found::Created),
                Ok(ContainerState::Exited) => Ok(match exit(&self.0.status(&container.id).await?) {
                    Ok(exit) => Found::Exited(exit),
                    Err(reason) => Found::Unstartable(reason),
                }),
                // What the runtime does not know may run.
                _ => Ok(Found::Running {
                    started_at: moment(self.0.status(&container.id).await?.started_at),
                }),
            }
        })
    }

    fn prepare<'a>(&'a self, task: &'a ContainerTask) -> Pending<'a, ()> {
        Box::pin(async move {
            let image = self.0.image(&task.spec.image).await?;
            let (id, task) = (task.id.clone(), task.clone());
            self.0
                .alone(&id, |inner| async move { inner.prepare(&task, image).await })
                .await
        })
    }

    fn start<'a>(&'a self, task: &'a ContainerTask) -> Pending<'a, Moment> {
        Box::pin(async move {
            // A short program's log is closed before anybody waits.
            self.0.closed.watch(&task.folder);
            let id = task.id.clone();
            self.0
                .alone(&task.id, |inner| async move { inner.start(&id).await })
                .await
        })
    }

    fn wait<'a>(&'a self, task: &'a ContainerTask) -> Pending<'a, Option<Exit>> {
        Box::pin(self.0.wait(task))
    }

    fn stop<'a>(&'a self, task: &'a ContainerTask, grace: Duration) -> Pending<'a, ()> {
        Box::pin(async move {
            match self.0.container(&task.id).await? {
                Some(container) => Ok(self.0.client.stop(&container.id, grace).await?),
                None => Ok(()),
            }
        })
    }

    fn remove<'a>(&'a self, task: &'a ContainerTask) -> Pending<'a, ()> {
        Box::pin(async move {
            let _alone = self.0.lock(&task.id).lock_owned().await;
            if let Some(container) = self.0.container(&task.id).await? {
                self.0.client.remove(&container.id).await?;
            }
            self.0.forget(&task.id);
            Ok(())
        })
    }

    fn sweep<'a>(&'a self, needed: &'a (dyn Fn(&TaskId) -> bool + Send + Sync)) -> Pending<'a, ()> {
        Box::pin(async move {
            for container in self.0.client.containers(spec::labels_of_all(&self.0.pod)).await? {
                let task = container.labels.get(spec::TASK);
                if task.is_none_or(|task| TaskId::parse(task).is_some_and(|id| needed(&id))) {
                    continue;
                }
                log::warn!(
                    "container {} was made for a task that has ended or is not known; it is removed",
                    container.id
                );
                self.0.client.remove(&container.id).await?;
            }
            Ok(())
        })
    }
}

impl Inner {
    /// The id of an image, which is brought to the node if it is not there.
    async fn image(&self, image: &str) -> Result<String, Error> {
        let mut tries = 1;
        loop {
            if let Some(id) = self.client.image(image).await? {
                return Ok(id);
            }
            log::info!("pulling image `{image}`");
            let pulled = self.client.pull(image, self.pod.config.clone()).await;
            let failure = match pulled {
                Ok(()) if tries < TRIES => None,
                Ok(()) => return Err(Error::Refused(format!("image `{image}` was pulled and is not there"))),
                Err(failure) if failure.may_pass() => return Err(failure.into()),
                Err(failure) => Some(failure),
            };
            let hopeless = |code| {
                let codes = [
                    Code::NotFound,
                    Code::InvalidArgument,
                    Code::PermissionDenied,
                    Code::Unauthenticated,
                ];
                codes.contains(&code)
            };
            if let Some(failure) = failure {
                if tries >= TRIES || hopeless(failure.code) {
                    return Err(Error::Refused(format!("image `{image}` cannot be pulled: {failure}")));
                }
                log::warn!("image `{image}` cannot be pulled: {failure}; it is tried again");
                tokio::time::sleep(Duration::from_secs(1) * tries).await;
            }
            tries += 1;
        }
    }

    /// Does something with a task's container while nobody else does. It is done to its end: whoever does not wait any
    /// more finds the container, or none.
    async fn alone<T: Send + 'static, F: Future<Output = Result<T, Error>> + Send + 'static>(
        self: &Arc<Self>,
        id: &TaskId,
        work: impl FnOnce(Arc<Self>) -> F,
    ) -> Result<T, Error> {
        let guard = self.lock(id).lock_owned().await;
        let work = work(Arc::clone(self));
        let done = tokio::spawn(async move {
            let _alone = guard;
            work.await
        });
        done.await
            .unwrap_or_else(|error| Err(Error::Unavailable(error.to_string())))
    }

    /// Makes the container, unless it is there.
    async fn prepare(&self, task: &ContainerTask, image: String) -> Result<(), Error> {
        if self.container(&task.id).await.map_err(unknown)?.is_none() {
            self.create(task, image).await?;
        }
        Ok(())
    }

    /// Starts the container, unless it was started.
    async fn start(&self, id: &TaskId) -> Result<Moment, Error> {
        let Some(container) = self.container(id).await.map_err(unknown)? else {
            return Err(Error::Refused("the container is gone".to_owned()));
        };
        let id = container.id;
        if container.state == ContainerState::Created as i32
            && let Err(failure) = self.client.start(&id).await
        {
            // What one agent asked for may still be under way when the next one asks, and then it is refused: what
            // became of the container decides.
            let status = self.status(&id).await?;
            if status.state == ContainerState::Created as i32 && failure.is_under_way() {
                return Err(Error::Unavailable(failure.to_string()));
            }
            if status.state == ContainerState::Created as i32 {
                return Err(failure.into());
            }
        }
        let status = self.status(&id).await?;
        match status.state == ContainerState::Exited as i32 && status.reason == START_ERROR {
            true => Err(Error::Refused(status.message)),
            false => Ok(moment(status.started_at)),
        }
    }

    async fn create(&self, task: &ContainerTask, image: String) -> Result<String, Error> {
        let mounts = self.mounts().await?;
        let state = self.on_node(&self.data_dir)?;
        let known = volumes::Volumes::of(&mounts, &self.pod.uid, &self.named);
        let mounts = known
            .resolve(&task.spec.volume_mounts, &state)
            .map_err(Error::Refused)?;
        let folder = task.folder.canonicalize().unwrap_or_else(|_| task.folder.clone());
        let folder = self.on_node(&folder)?;
        let request = spec::request(task, &self.pod, image, mounts, &folder).map_err(Error::Refused)?;
        let mut tries = 1;
        let id = loop {
            let failure = match self.client.create(request.clone()).await {
                Ok(id) => break id,
                Err(failure) => failure,
            };
            // An agent that was killed may have asked for it, and the runtime may still be about it.
            if let Some(there) = self.container(&task.id).await? {
                return Ok(there.id);
            }
            if failure.may_pass() || failure.code != Code::Unknown || tries >= TRIES {
                return Err(failure.into());
            }
            tokio::time::sleep(Duration::from_millis(200) * tries).await;
            tries += 1;
        };
        let log = self.client.status(&id).await?.log_path;
        if Path::new(&log) != folder.join(super::output::LOG) {
            self.client.remove(&id).await?;
            return Err(Error::Refused(format!(
                "the runtime writes output to `{log}`, where the agent cannot read it: container mode needs containerd"
            )));
        }
        Ok(id)
    }

    /// What is mounted into the containers of the pod, but not into those of tasks.
    async fn mounts(&self) -> Result<Vec<Mount>, Error> {
        let of_pod = HashMap::from([(pod::label::POD_UID.to_owned(), self.pod.uid.clone())]);
        let mut mounts = self.pod.mounts.clone();
        for container in self.client.containers(of_pod).await? {
            if container.labels.contains_key(spec::TASK) || container.pod_sandbox_id != self.pod.sandbox {
                continue;
            }
            match self.client.status(&container.id).await {
                Ok(status) => mounts.extend(status.mounts),
                Err(failure) if failure.code == Code::NotFound => {}
                Err(failure) => return Err(failure.into()),
            }
        }
        Ok(mounts)
    }

    fn on_node(&self, path: &Path) -> Result<PathBuf, Error> {
        self.pod.on_node(path).ok_or_else(|| {
            Error::Refused(format!(
                "`{}` is not in a volume of the pod: --data-dir must be",
                path.display()
            ))
        })
    }

    async fn wait(&self, task: &ContainerTask) -> Result<Option<Exit>, Error> {
        let mut waiter = self.watcher.wait();
        let mut output = Output::new(task, &self.closed);
        let mut trouble = Trouble::default();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let seen = tokio::select! {
                seen = waiter.next(task.id.as_str()) => seen,
                _ = tick.tick() => {
                    output.pump().await;
                    continue;
                }
            };
            let Some(Seen { container, end }) = seen else {
                output.finish().await;
                return Ok(None);
            };
            if container.state != ContainerState::Exited as i32 && end.is_none() {
                continue;
            }
            match self.client.status(&container.id).await {
                Ok(shown) => {
                    output.finish().await;
                    return exit(&with_end(shown, end)).map(Some).map_err(Error::Refused);
                }
                // It is gone just now: the next look says so.
                Err(failure) if failure.code == Code::NotFound => {}
                Err(failure) => trouble.note(&failure).await,
            }
            waiter.hurry();
        }
    }

    async fn status(&self, container_id: &str) -> Result<ContainerStatus, Error> {
        self.client.status(container_id).await.map_err(unknown)
    }

    /// The container of a task, as of now.
    async fn container(&self, id: &TaskId) -> Result<Option<Container>, Failure> {
        let mut labels = spec::labels_of_all(&self.pod);
        labels.insert(spec::TASK.to_owned(), id.to_string());
        Ok(self.client.containers(labels).await?.into_iter().next())
    }

    fn lock(&self, id: &TaskId) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(locks.entry(id.clone()).or_default())
    }

    fn forget(&self, id: &TaskId) {
        self.locks.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}

/// The output of a task's container, whose trouble is never the task's.
struct Output {
    name: String,
    folder: PathBuf,
    limit: u64,
    closed: Arc<Closed>,
    collector: Option<Collector>,
    trouble: bool,
}

impl Output {
    fn new(task: &ContainerTask, closed: &Arc<Closed>) -> Self {
        Self {
            name: task.name.to_string(),
            folder: task.folder.clone(),
            limit: task.log_limit,
            closed: Arc::clone(closed),
            collector: None,
            trouble: false,
        }
    }

    /// Takes over what is there; says how much that was.
    async fn pump(&mut self) -> usize {
        let collector = self.collector.take();
        let (folder, limit) = (self.folder.clone(), self.limit);
        let pumped = aside(move || {
            let mut collector = match collector {
                Some(collector) => collector,
                None => Collector::resume(&folder, limit)?,
            };
            let read = collector.pump()?;
            Ok((collector, read))
        });
        match pumped.await {
            Ok((collector, read)) => {
                self.collector = Some(collector);
                read
            }
            Err(error) => {
                self.complain(&error);
                0
            }
        }
    }

    /// Takes over the rest after the container's end.
    async fn finish(&mut self) {
        let mut quiet = Instant::now();
        loop {
            let closed = self.closed.closed(&self.folder);
            // The end of a log that was renamed is not that of the last one.
            if self.pump().await + self.pump().await > 0 {
                quiet = Instant::now();
            } else if closed || quiet.elapsed() >= SETTLING {
                break;
            } else {
                tokio::time::sleep(GLANCE).await;
            }
        }
        self.closed.forget(&self.folder);
        if let Some(collector) = self.collector.take()
            && let Err(error) = aside(move || collector.finish()).await
        {
            self.complain(&error);
        }
    }

    fn complain(&mut self, error: &std::io::Error) {
        if !std::mem::replace(&mut self.trouble, true) {
            log::error!("failed to collect the output of task `{}`: {error}", self.name);
        }
    }
}

/// A runtime that cannot be asked just now: its containers go on.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    failures: u32,
}

impl Trouble {
    pub(super) async fn note(&mut self, failure: &Failure) {
        if self.failures == 0 {
            log::warn!("{failure}; it is asked again until it answers");
        }
        self.failures = self.failures.saturating_add(1);
        tokio::time::sleep(TICK * 2_u32.pow(self.failures.min(5))).await;
    }

    pub(super) fn over(&mut self) {
        self.failures = 0;
    }
}

/// A question that was not answered says nothing of what was asked about, whatever the runtime's reason.
fn unknown(failure: Failure) -> Error {
    Error::Unavailable(failure.to_string())
}

/// The status that will be shown, unless it is already.
fn with_end(shown: ContainerStatus, end: Option<End>) -> ContainerStatus {
    match end {
        Some(End { exit_code, finished_at }) if shown.state != ContainerState::Exited as i32 => ContainerStatus {
            exit_code,
            finished_at,
            ..shown
        },
        _ => shown,
    }
}

/// How a container ended; if it was never started, why.
fn exit(status: &ContainerStatus) -> Result<Exit, String> {
    let ContainerStatus { reason, message, .. } = status;
    if reason == START_ERROR {
        return Err(message.clone());
    }
    let message = match (reason.as_str(), message.as_str()) {
        ("OOMKilled", _) => Some("OOMKilled: the pod, or the node, had no memory left for it".to_owned()),
        ("" | "Completed" | "Error", "") => None,
        ("" | "Completed" | "Error", message) => Some(message.to_owned()),
        (reason, "") => Some(reason.to_owned()),
        (reason, message) => Some(format!("{reason}: {message}")),
    };
    Ok(Exit {
        exit_code: status.exit_code,
        // The runtime notes the start when it knows of it, which can be after a short program has ended.
        started_at: Some(status.started_at.min(status.finished_at))
            .filter(|at| *at > 0)
            .map(moment),
        finished_at: moment(status.finished_at),
        message,
    })
}

/// A moment in the runtime's nanoseconds.
fn moment(nanoseconds: i64) -> Moment {
    Moment(u64::try_from(nanoseconds / 1000).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(exit_code: i32, reason: &str, message: &str) -> ContainerStatus {
        ContainerStatus {
            exit_code,
            reason: reason.into(),
            message: message.into(),
            started_at: 1_000_000,
            finished_at: 2_000_999,
            ..ContainerStatus::default()
        }
    }

    #[test]
    fn ends_are_told_in_the_agents_words() {
        let expected = |exit_code, message: Option<&str>| Exit {
            exit_code,
            started_at: Some(Moment(1000)),
            finished_at: Moment(2000),
            message: message.map(str::to_owned),
        };
        for (status, message) in [
            (ended(0, "Completed", ""), None),
            (ended(3, "Error", ""), None),
            (ended(3, "Error", "more"), Some("more")),
            (ended(255, "Unknown", ""), Some("Unknown")),
            (ended(255, "Unknown", "lost"), Some("Unknown: lost")),
        ] {
            assert_eq!(exit(&status).unwrap(), expected(status.exit_code, message));
        }
        let at_once = ContainerStatus {
            started_at: 3_000_000,
            ..ended(0, "Completed", "")
        };
        assert_eq!(exit(&at_once).unwrap().started_at, Some(Moment(2000)));
        let killed = exit(&ended(137, "OOMKilled", "")).unwrap().message.unwrap();
        assert!(killed.starts_with("OOMKilled: "), "{killed}");
        assert!(matches!(exit(&ended(128, "StartError", "no such file")), Err(message) if message == "no such file"));
    }
}
