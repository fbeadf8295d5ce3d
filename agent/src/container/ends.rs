//! What became of the containers of all tasks: one question to the runtime for everybody who waits, asked when the runtime
//! tells that something ended, and now and then.

use std::collections::{HashMap, HashSet};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tonic::Code;

use super::client::{Client, End, Ends, Failure};
use super::cri::{Container, ContainerState};
use super::runtime::Trouble;
use super::spec;

/// How often the runtime is asked if it does not tell of ends, or has not yet.
const TICK: Duration = Duration::from_millis(50);

/// How often it is asked if it does.
const SLOWLY: Duration = Duration::from_secs(1);

/// How often it is asked after it told of an end that only it can explain, and for how long.
const SOON: Duration = Duration::from_millis(5);
const LATE: Duration = Duration::from_secs(2);

/// The exit code of what was killed, perhaps for want of memory: the runtime says so when it shows the end.
const KILLED: i32 = 128 + 9;

/// Before ends are asked for again after their stream has broken.
const AGAIN: Duration = Duration::from_secs(1);

/// The containers of this agent's tasks, by the tasks' ids.
#[derive(Debug)]
struct Listing {
    asked: Instant,
    containers: HashMap<String, Seen>,
}

/// A container, as the runtime shows it.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) container: Container,
    /// How it ended, if it is shown to run and that is past.
    pub(super) end: Option<End>,
}

/// Asks the runtime, as long as somebody waits.
#[derive(Debug)]
pub(super) struct Watcher {
    listings: watch::Sender<Option<Listing>>,
    wanted: Notify,
}

impl Watcher {
    /// Begins. `labels` are those that all containers of tasks have.
    pub(super) fn start(client: Client, labels: HashMap<String, String>) -> Arc<Self> {
        let watcher = Arc::new(Self {
            listings: watch::Sender::new(None),
            wanted: Notify::new(),
        });
        tokio::spawn(Arc::clone(&watcher).run(client, labels));
        watcher
    }

    /// Waits with others for what becomes of the container of a task.
    pub(super) fn wait(&self) -> Waiter<'_> {
        let listings = self.listings.subscribe();
        let waiter = Waiter {
            watcher: self,
            listings,
            since: Instant::now(),
        };
        self.wanted.notify_one();
        waiter
    }

    async fn run(self: Arc<Self>, client: Client, labels: HashMap<String, String>) {
        let mut told = Told::new(client.clone());
        let mut trouble = Trouble::default();
        // Of containers that are not shown to have ended.
        let mut ends = HashMap::<String, (Instant, End)>::new();
        loop {
            let waited_for = self.listings.receiver_count() > 0;
            if waited_for {
                let asked = Instant::now();
                match client.containers(labels.clone()).await {
                    Ok(containers) => {
                        trouble.over();
                        let containers = look(containers, &mut ends);
                        self.listings.send_replace(Some(Listing { asked, containers }));
                    }
                    Err(failure) => trouble.note(&failure).await,
                }
            } else {
                ends.clear();
            }
            let unexplained = ends.values().any(|(_, end)| end.exit_code == KILLED);
            let pause = match told.tells() {
                _ if unexplained => SOON,
                true => SLOWLY,
                false => TICK,
            };
            tokio::select! {
                () = self.wanted.notified() => {}
                (id, end) = told.next() => {
                    ends.insert(id, (Instant::now(), end));
                }
                () = tokio::time::sleep(pause), if waited_for => {}
            }
        }
    }
}

/// The containers by the tasks' ids. Of the ends those are left that are still to be shown.
fn look(containers: Vec<Container>, ends: &mut HashMap<String, (Instant, End)>) -> HashMap<String, Seen> {
    let running = |container: &&Container| container.state == ContainerState::Running as i32;
    let running: HashSet<_> = containers
        .iter()
        .filter(running)
        .map(|container| &container.id)
        .collect();
    ends.retain(|id, (told, _)| running.contains(id) && told.elapsed() < LATE);
    let seen = containers.into_iter().filter_map(|mut container| {
        let task = container.labels.remove(spec::TASK)?;
        let end = ends.get(&container.id).map(|(_, end)| *end);
        let end = end.filter(|end| end.exit_code != KILLED);
        Some((task, Seen { container, end }))
    });
    seen.collect()
}

/// One who waits.
#[derive(Debug)]
pub(super) struct Waiter<'w> {
    watcher: &'w Watcher,
    listings: watch::Receiver<Option<Listing>>,
    since: Instant,
}

impl Waiter<'_> {
    /// The container of this task, whenever the runtime was asked anew. Can be dropped and called again.
    pub(super) async fn next(&mut self, task: &str) -> Option<Seen> {
        loop {
            // The watcher that this borrows holds the sender.
            let _ = self.listings.changed().await;
            if let Some(listing) = &*self.listings.borrow_and_update()
                && listing.asked >= self.since
            {
                return listing.containers.get(task).cloned();
            }
        }
    }

    /// Has the runtime asked at once.
    pub(super) fn hurry(&self) {
        self.watcher.wanted.notify_one();
    }
}

/// The ends that the runtime tells of, over any number of streams.
struct Told {
    client: Client,
    stream: Stream,
    complained: bool,
}

enum Stream {
    /// Not before this moment.
    Closed(Instant),
    Opening(Pin<Box<dyn Future<Output = Result<Ends, Failure>> + Send>>),
    Open(Box<Ends>),
    /// This runtime tells nothing.
    None,
}

impl Told {
    fn new(client: Client) -> Self {
        Self {
            client,
            stream: Stream::Closed(Instant::now()),
            complained: false,
        }
    }

    /// Whether ends are known to be told.
    fn tells(&self) -> bool {
        matches!(self.stream, Stream::Open(_))
    }

    /// The id of the next container that ended, and how. Can be dropped and called again.
    async fn next(&mut self) -> (String, End) {
        loop {
            match &mut self.stream {
                Stream::Closed(until) => {
                    tokio::time::sleep_until(*until).await;
                    let client = self.client.clone();
                    self.stream = Stream::Opening(Box::pin(async move { client.ends().await }));
                }
                Stream::Opening(opening) => {
                    self.stream = match opening.await {
                        Ok(ends) => Stream::Open(Box::new(ends)),
                        Err(failure) if failure.code == Code::Unimplemented => Stream::None,
                        Err(failure) => {
                            if !std::mem::replace(&mut self.complained, true) {
                                log::warn!("{failure}; until ends of containers are told they are asked for");
                            }
                            Stream::Closed(Instant::now() + AGAIN)
                        }
                    }
                }
                Stream::Open(ends) => match ends.next().await {
                    Some(end) => return end,
                    None => self.stream = Stream::Closed(Instant::now() + AGAIN),
                },
                Stream::None => std::future::pending().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_counts_until_the_runtime_shows_it() {
        let end = |exit_code| End {
            exit_code,
            finished_at: 1,
        };
        let container = |id: &str, state: ContainerState| Container {
            id: id.into(),
            state: state as i32,
            labels: HashMap::from([(spec::TASK.to_owned(), format!("task-{id}"))]),
            ..Container::default()
        };
        let told = |id: &str, exit_code| (id.to_owned(), (Instant::now(), end(exit_code)));
        let mut ends = HashMap::from([
            told("a", 7),
            told("b", KILLED),
            told("c", 0),
            told("d", 0),
            told("foreign", 0),
        ]);
        let containers = vec![
            container("a", ContainerState::Running),
            container("b", ContainerState::Running),
            container("c", ContainerState::Exited),
            // One that could not be started ends, too, and the runtime says why.
            container("d", ContainerState::Created),
            container("e", ContainerState::Running),
        ];
        let seen = look(containers, &mut ends);
        let of = |id: &str| seen[&format!("task-{id}")].end;
        assert_eq!(
            ["a", "b", "c", "d", "e"].map(of),
            [Some(end(7)), None, None, None, None]
        );
        let mut left: Vec<_> = ends.into_keys().collect();
        left.sort_unstable();
        assert_eq!(left, ["a", "b"]);
    }
}
