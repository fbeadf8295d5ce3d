//! Calls to the container runtime: gRPC over its Unix socket.

use std::collections::HashMap;
use std::error::Error as _;
use std::io;
use std::path::Path;
use std::time::Duration;

use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::net::UnixStream;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use super::{Error, cri};

/// How long the runtime may take for a call that has nothing to wait for.
const PATIENCE: Duration = Duration::from_secs(120);

/// The largest answer that is taken; the kubelet takes as much.
const LARGEST: usize = 16 << 20;

const RUNTIME: &str = "/runtime.v1.RuntimeService/";
const IMAGES: &str = "/runtime.v1.ImageService/";
const EVENTS: &str = "/containerd.services.events.v1.Events/";

/// Which of containerd's events are asked for.
const ENDS: &str = r#"namespace=="k8s.io",topic=="/tasks/exit""#;

/// A call that failed.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct Failure {
    pub(super) code: Code,
    message: String,
}

impl Failure {
    /// Whether the runtime itself was out of reach, or asks to be called again.
    pub(super) fn may_pass(&self) -> bool {
        matches!(
            self.code,
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Aborted | Code::ResourceExhausted
        )
    }
}

impl Failure {
    /// Whether the runtime is already about what was asked for.
    pub(super) fn is_under_way(&self) -> bool {
        self.message.contains("already in starting state")
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        if failure.may_pass() {
            Self::Unavailable(failure.message)
        } else {
            Self::Refused(failure.message)
        }
    }
}

/// A connection to the runtime, made anew whenever it was lost.
#[derive(Debug, Clone)]
pub(super) struct Client {
    channel: Channel,
}

impl Client {
    /// Nothing is connected before the first call.
    pub(super) fn new(socket: &Path) -> Self {
        let socket = socket.to_owned();
        let connect = tower::service_fn(move |_| {
            let socket = socket.clone();
            async move { Ok::<_, io::Error>(TokioIo::new(UnixStream::connect(socket).await?)) }
        });
        // The name is for the protocol's sake: whoever serves the socket is meant.
        let channel = Endpoint::from_static("http://localhost").connect_with_connector_lazy(connect);
        Self { channel }
    }

    pub(super) async fn version(&self) -> Result<cri::VersionResponse, Failure> {
        self.call(RUNTIME, "Version", cri::VersionRequest {}, Some(PATIENCE))
            .await
    }

    /// The containers that have these labels, in whatever state.
    pub(super) async fn containers(
        &self,
        label_selector: HashMap<String, String>,
    ) -> Result<Vec<cri::Container>, Failure> {
        let filter = Some(cri::ContainerFilter { label_selector });
        let question = cri::ListContainersRequest { filter };
        let answer: cri::ListContainersResponse =
            self.call(RUNTIME, "ListContainers", question, Some(PATIENCE)).await?;
        Ok(answer.containers)
    }

    pub(super) async fn status(&self, container_id: &str) -> Result<cri::ContainerStatus, Failure> {
        let question = cri::ContainerStatusRequest {
            container_id: container_id.to_owned(),
        };
        let answer: cri::ContainerStatusResponse =
            self.call(RUNTIME, "ContainerStatus", question, Some(PATIENCE)).await?;
        Ok(answer.status.unwrap_or_default())
    }

    /// The sandboxes that have these labels, in whatever state.
    pub(super) async fn sandboxes(
        &self,
        label_selector: HashMap<String, String>,
    ) -> Result<Vec<cri::PodSandbox>, Failure> {
        let filter = Some(cri::PodSandboxFilter { label_selector });
        let question = cri::ListPodSandboxRequest { filter };
        let answer: cri::ListPodSandboxResponse =
            self.call(RUNTIME, "ListPodSandbox", question, Some(PATIENCE)).await?;
        Ok(answer.items)
    }

    /// What the runtime tells of a sandbox beyond the interface: texts of its own kind.
    pub(super) async fn sandbox_info(&self, id: &str) -> Result<HashMap<String, String>, Failure> {
        let question = cri::PodSandboxStatusRequest {
            pod_sandbox_id: id.to_owned(),
            verbose: true,
        };
        let answer: cri::PodSandboxStatusResponse =
            self.call(RUNTIME, "PodSandboxStatus", question, Some(PATIENCE)).await?;
        Ok(answer.info)
    }

    /// The id of an image, if it is on the node.
    pub(super) async fn image(&self, image: &str) -> Result<Option<String>, Failure> {
        let question = cri::ImageStatusRequest {
            image: Some(image_of(image)),
        };
        let answer: cri::ImageStatusResponse = self.call(IMAGES, "ImageStatus", question, Some(PATIENCE)).await?;
        Ok(answer.image.map(|image| image.id).filter(|id| !id.is_empty()))
    }

    /// Brings an image to the node, however long that takes: the runtime gives up when nothing comes any more.
    pub(super) async fn pull(&self, image: &str, pod: cri::PodSandboxConfig) -> Result<(), Failure> {
        let question = cri::PullImageRequest {
            image: Some(image_of(image)),
            sandbox_config: Some(pod),
        };
        let _: cri::Done = self.call(IMAGES, "PullImage", question, None).await?;
        Ok(())
    }

    /// Makes a container; the answer is its id.
    pub(super) async fn create(&self, request: cri::CreateContainerRequest) -> Result<String, Failure> {
        let answer: cri::CreateContainerResponse =
            self.call(RUNTIME, "CreateContainer", request, Some(PATIENCE)).await?;
        Ok(answer.container_id)
    }

    pub(super) async fn start(&self, container_id: &str) -> Result<(), Failure> {
        let request = cri::StartContainerRequest {
            container_id: container_id.to_owned(),
        };
        let _: cri::Done = self.call(RUNTIME, "StartContainer", request, Some(PATIENCE)).await?;
        Ok(())
    }

    /// Sends the image's stop signal, mostly TERM, and KILL after the grace; returns when the container has ended. There
    /// may be none.
    pub(super) async fn stop(&self, container_id: &str, grace: Duration) -> Result<(), Failure> {
        // Part of a second is a second, so that no grace becomes none.
        let seconds = grace.as_secs() + u64::from(grace.subsec_nanos() > 0);
        let request = cri::StopContainerRequest {
            container_id: container_id.to_owned(),
            timeout: i64::try_from(seconds).unwrap_or(i64::MAX),
        };
        let patience = grace.saturating_add(PATIENCE);
        let stopped: Result<cri::Done, _> = self.call(RUNTIME, "StopContainer", request, Some(patience)).await;
        unless_gone(stopped)
    }

    /// Ends a container, if it runs, and removes it. There may be none.
    pub(super) async fn remove(&self, container_id: &str) -> Result<(), Failure> {
        let request = cri::RemoveContainerRequest {
            container_id: container_id.to_owned(),
        };
        let removed: Result<cri::Done, _> = self.call(RUNTIME, "RemoveContainer", request, Some(PATIENCE)).await;
        unless_gone(removed)
    }

    /// The ends of containers on this node, as they come. containerd tells them, other runtimes may not; the interface's
    /// own events are not for this, since whoever is slow to read those holds up the runtime. Answers with the first end.
    pub(super) async fn ends(&self) -> Result<Ends, Failure> {
        let method = "Subscribe";
        let (mut grpc, path) = self.method(EVENTS, method).await?;
        let question = Request::new(cri::SubscribeRequest {
            filters: vec![ENDS.to_owned()],
        });
        let answer = grpc.server_streaming(question, path, ProstCodec::<_, cri::Envelope>::default());
        let answer = answer.await.map_err(|status| failure(method, &status))?;
        Ok(Ends(answer.into_inner()))
    }

    async fn call<Q, A>(&self, service: &str, method: &str, question: Q, limit: Option<Duration>) -> Result<A, Failure>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let (mut grpc, path) = self.method(service, method).await?;
        let mut request = Request::new(question);
        if let Some(limit) = limit {
            request.set_timeout(limit);
        }
        let answer = grpc.unary(request, path, ProstCodec::<Q, A>::default());
        let answer = match limit {
            Some(limit) => tokio::time::timeout(limit, answer)
                .await
                .unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time"))),
            None => answer.await,
        };
        answer
            .map(Response::into_inner)
            .map_err(|status| failure(method, &status))
    }

    async fn method(&self, service: &str, method: &str) -> Result<(Grpc<Channel>, PathAndQuery), Failure> {
        let path = PathAndQuery::try_from(format!("{service}{method}"))
            .map_err(|error| failure(method, &Status::internal(error.to_string())))?;
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(LARGEST);
        let ready = grpc.ready().await;
        ready.map_err(|error| failure(method, &Status::from_error(error.into())))?;
        Ok((grpc, path))
    }
}

/// A container's end, before the runtime has cleaned up after it and shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    pub(super) exit_code: i32,
    /// In nanoseconds, as the runtime shows it later.
    pub(super) finished_at: i64,
}

/// A stream of ends.
#[derive(Debug)]
pub(super) struct Ends(Streaming<cri::Envelope>);

impl Ends {
    /// The id of the next container that ended, and how. Nothing means that no more are told. Can be dropped and called
    /// again.
    pub(super) async fn next(&mut self) -> Option<(String, End)> {
        while let Ok(Some(envelope)) = self.0.message().await {
            if let Some(end) = end(&envelope.event.unwrap_or_default().value) {
                return Some(end);
            }
        }
        None
    }
}

/// What an event says, if it is about the first process of a container.
fn end(event: &[u8]) -> Option<(String, End)> {
    let exit = cri::TaskExit::decode(event).ok()?;
    let at = exit.exited_at?;
    let end = End {
        exit_code: i32::try_from(exit.exit_status).ok()?,
        finished_at: at.seconds.checked_mul(1_000_000_000)?.checked_add(at.nanos.into())?,
    };
    (exit.id == exit.container_id).then_some((exit.container_id, end))
}

fn failure(method: &str, status: &Status) -> Failure {
    Failure {
        code: status.code(),
        message: format!("container runtime, {method}: {}", causes(status)),
    }
}

fn image_of(image: &str) -> cri::ImageSpec {
    cri::ImageSpec {
        image: image.to_owned(),
        user_specified_image: image.to_owned(),
    }
}

fn unless_gone(done: Result<cri::Done, Failure>) -> Result<(), Failure> {
    match done {
        Err(failure) if failure.code == Code::NotFound => Ok(()),
        done => done.map(|cri::Done {}| ()),
    }
}

/// What a status says, and the innermost reason for it.
fn causes(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let innermost = std::iter::successors(status.source(), |cause| (*cause).source()).last();
    if let Some(cause) = innermost.map(ToString::to_string)
        && !text.contains(&cause)
    {
        text = format!("{text}: {cause}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_process_of_a_container_is_its_end() {
        let event = |id: &str, exited_at| {
            let exit = cri::TaskExit {
                container_id: "c".into(),
                id: id.into(),
                exit_status: 7,
                exited_at,
            };
            end(&exit.encode_to_vec())
        };
        let at = |seconds, nanos| Some(cri::Timestamp { seconds, nanos });
        let (id, told) = event("c", at(2, 3)).unwrap();
        assert_eq!((id.as_str(), told.exit_code, told.finished_at), ("c", 7, 2_000_000_003));
        assert_eq!(event("probe", at(2, 3)), None, "a process that was added");
        assert_eq!(event("c", None), None);
        assert_eq!(event("c", at(i64::MAX, 0)), None);
        assert_eq!(end(b"no event"), None);
    }
}
