//! A command in a container, over the WebSocket protocol `v5.channel.k8s.io`: whole messages in and out, an exit status
//! that must arrive, and errors for everything else. A closed stream proves nothing.

use crate::{
    client::{Action, Cluster},
    contract::Error,
};
use bytes::{BufMut, Bytes, BytesMut};
use futures::{FutureExt as _, SinkExt as _, StreamExt as _};
use hyper_util::rt::TokioIo;
use kube::{
    api::AttachParams,
    core::{Request, response::StatusSummary},
};
use std::time::Duration;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{self, Message},
};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const STATUS: u8 = 3;
/// Longest silence of a stream that is moving bytes.
const SILENCE: Duration = Duration::from_secs(60);

/// Why an exec did not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExecError {
    /// The API server refused it, or could not be reached.
    #[error("{}", crate::contract::text(.0))]
    Refused(#[source] Error),
    /// The stream ended without an exit status, or fell silent.
    #[error("the stream broke: {0}")]
    Broken(String),
    /// The command ended with another exit code than 0.
    #[error("the command failed{}: {message}", code.map(|c| format!(" with exit code {c}")).unwrap_or_default())]
    Failed { code: Option<i32>, message: String },
}

impl ExecError {
    fn broken(error: impl std::fmt::Display) -> Self {
        Self::Broken(error.to_string())
    }
}

/// What a command sends.
#[derive(Debug)]
pub(crate) enum Output {
    Stdout(Bytes),
    Stderr(Bytes),
    /// The command ended with exit code 0; nothing follows.
    Done,
}

/// A running command.
pub(crate) struct Exec {
    socket: WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>,
    /// The end of what the command wrote to standard error, for its failure's message.
    said: Vec<u8>,
}

/// How much of standard error a message may hold.
const SAID: usize = 2048;

impl Exec {
    /// Starts a command in a container of a pod.
    pub(crate) async fn start(
        cluster: &Cluster<'_>,
        pod: &str,
        container: &str,
        command: &[&str],
    ) -> Result<Self, ExecError> {
        let params = AttachParams::default()
            .container(container)
            .stdin(true)
            .stdout(true)
            .stderr(true);
        let path = format!("/api/v1/namespaces/{}/pods", cluster.namespace());
        let connection = cluster
            .call(Action::EXEC, async |client| {
                let request = Request::new(&path)
                    .exec(pod, command.iter().copied(), &params)
                    .map_err(kube::Error::BuildRequest)?;
                client.connect(request).await
            })
            .await
            .map_err(ExecError::Refused)?;
        if !connection.supports_stream_close() {
            return Err(ExecError::Refused(Error::Other(
                "the API server does not speak exec protocol v5: Kubernetes 1.30 or later is needed".into(),
            )));
        }
        Ok(Self {
            socket: connection.into_stream(),
            said: Vec::new(),
        })
    }

    /// Queues bytes for the command's standard input. Fails as soon as the command is known to have ended.
    pub(crate) async fn write(&mut self, data: &[u8]) -> Result<(), ExecError> {
        let mut message = BytesMut::with_capacity(data.len() + 1);
        message.put_u8(STDIN);
        message.put_slice(data);
        within(self.socket.feed(Message::Binary(message.freeze())))
            .await?
            .map_err(ExecError::broken)
    }

    /// Sends what was queued.
    pub(crate) async fn flush(&mut self) -> Result<(), ExecError> {
        within(self.socket.flush()).await?.map_err(ExecError::broken)
    }

    /// What the command has sent already, without waiting.
    pub(crate) fn ready(&mut self) -> Result<Option<Output>, ExecError> {
        while let Some(message) = self.socket.next().now_or_never() {
            if let Some(output) = self.note(output(message))? {
                return Ok(Some(output));
            }
        }
        Ok(None)
    }

    /// The next output of the command; waits as long as something keeps coming.
    pub(crate) async fn next(&mut self) -> Result<Output, ExecError> {
        loop {
            let message = within(self.socket.next()).await?;
            if let Some(output) = self.note(output(message))? {
                return Ok(output);
            }
        }
    }

    /// Remembers standard error, and adds it to the failure it explains.
    fn note(&mut self, output: Result<Option<Output>, ExecError>) -> Result<Option<Output>, ExecError> {
        match output {
            Ok(Some(Output::Stderr(text))) => {
                self.said.extend_from_slice(&text);
                let surplus = self.said.len().saturating_sub(SAID);
                self.said.drain(..surplus);
                Ok(Some(Output::Stderr(text)))
            }
            Err(ExecError::Failed { code, .. }) if !self.said.is_empty() => Err(ExecError::Failed {
                code,
                message: String::from_utf8_lossy(&self.said).trim().to_owned(),
            }),
            other => other,
        }
    }

    /// Waits for the end; returns standard output, at most 64 KiB of it.
    pub(crate) async fn finish(&mut self) -> Result<String, ExecError> {
        let mut text = Vec::new();
        loop {
            match self.next().await? {
                Output::Stdout(data) if text.len() < 64 * 1024 => text.extend_from_slice(&data),
                Output::Stdout(_) | Output::Stderr(_) => {}
                Output::Done => return Ok(String::from_utf8_lossy(&text).into_owned()),
            }
        }
    }
}

async fn within<T>(step: impl Future<Output = T>) -> Result<T, ExecError> {
    tokio::time::timeout(SILENCE, step)
        .await
        .map_err(|_| ExecError::Broken("nothing moved for 60 s".into()))
}

fn output(message: Option<Result<Message, tungstenite::Error>>) -> Result<Option<Output>, ExecError> {
    let data = match message {
        Some(Ok(Message::Binary(data))) => data,
        Some(Ok(Message::Text(text))) => Bytes::from(text),
        Some(Ok(Message::Close(_))) | None => {
            return Err(ExecError::Broken("it was closed without an exit status".into()));
        }
        Some(Ok(_)) => return Ok(None),
        Some(Err(error)) => return Err(ExecError::broken(error)),
    };
    let Some((channel, rest)) = data.split_first() else {
        return Ok(None);
    };
    match *channel {
        STATUS => status(rest).map(Some),
        _ if rest.is_empty() => Ok(None),
        STDOUT => Ok(Some(Output::Stdout(data.slice(1..)))),
        STDERR => Ok(Some(Output::Stderr(data.slice(1..)))),
        _ => Ok(None),
    }
}

/// The status that ends every exec.
fn status(json: &[u8]) -> Result<Output, ExecError> {
    let status: kube::core::Status =
        serde_json::from_slice(json).map_err(|_| ExecError::Broken("its exit status is not a status".into()))?;
    if status.status == Some(StatusSummary::Success) {
        return Ok(Output::Done);
    }
    let causes = status.details.iter().flat_map(|d| &d.causes);
    let code = causes
        .filter(|c| c.reason == "ExitCode")
        .find_map(|c| c.message.parse().ok());
    Err(ExecError::Failed {
        code,
        message: status.message,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(channel: u8, text: &str) -> Option<Result<Message, tungstenite::Error>> {
        Some(Ok(Message::Binary([&[channel], text.as_bytes()].concat().into())))
    }

    #[test]
    fn only_a_status_of_success_is_success() {
        assert!(matches!(
            output(message(STATUS, r#"{"status":"Success"}"#)),
            Ok(Some(Output::Done))
        ));
        let failed = r#"{"status":"Failure","message":"command terminated","details":{"causes":[{"reason":"ExitCode","message":"4"}]}}"#;
        assert!(matches!(
            output(message(STATUS, failed)),
            Err(ExecError::Failed { code: Some(4), .. })
        ));
        assert!(matches!(output(message(STATUS, "")), Err(ExecError::Broken(_))));
        assert!(matches!(output(None), Err(ExecError::Broken(_))));
        assert!(matches!(
            output(Some(Ok(Message::Close(None)))),
            Err(ExecError::Broken(_))
        ));
    }

    #[test]
    fn streams_are_told_apart() {
        assert!(matches!(output(message(STDOUT, "a")), Ok(Some(Output::Stdout(b))) if b == "a"));
        assert!(matches!(output(message(STDERR, "a")), Ok(Some(Output::Stderr(b))) if b == "a"));
        assert!(matches!(output(message(STDOUT, "")), Ok(None)));
    }
}
