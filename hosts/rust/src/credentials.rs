//! Where a runner's questions for a credential go: to the embedder, or to the command that the config names.

use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

use crate::{Credential, Error};

/// How long a credential command may take.
const COMMAND: Duration = Duration::from_secs(60);
/// Bytes that a credential command may write to standard output.
const OUTPUT: u64 = 1 << 20;
/// Bytes of a failed command's standard error that are shown.
const SHOWN: usize = 1 << 10;

/// Answers a runner's questions for a credential.
pub trait Credentials: Send + Sync {
    /// The credential to use, or none if there is none. `refused` says that the last one was not accepted. An error is what
    /// the call ends with, if the target insists on a credential.
    fn credential(&self, refused: bool) -> BoxFuture<'_, Result<Option<Credential>, Error>>;
}

/// Who answers in one call.
pub(crate) enum Answers {
    /// Nobody: the call is not one that may ask.
    Nobody,
    /// The embedder.
    Embedder(Arc<dyn Credentials>),
    /// A command, with its arguments and the environment added to this process's.
    Command(CredentialCommand),
}

impl Answers {
    /// The answer, or why there should have been one.
    pub(crate) async fn credential(&self, refused: bool) -> Result<Option<Credential>, Error> {
        match self {
            Self::Nobody => Ok(None),
            Self::Embedder(credentials) => credentials.credential(refused).await,
            Self::Command(command) => command
                .output()
                .await
                .map(|text| Some(Credential::ExecCredential(text))),
        }
    }
}

/// A program that writes a credential to its standard output.
#[derive(Clone)]
pub(crate) struct CredentialCommand {
    program: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    bound: Duration,
}

impl CredentialCommand {
    /// None for a command without a program.
    pub(crate) fn new(command: Vec<String>, environment: Vec<(String, String)>) -> Option<Self> {
        let mut words = command.into_iter();
        Some(Self {
            program: words.next()?,
            arguments: words.collect(),
            environment,
            bound: COMMAND,
        })
    }

    async fn output(&self) -> Result<String, Error> {
        self.run().await.map_err(|reason| Error::Credential {
            command: self.program.clone(),
            reason,
        })
    }

    async fn run(&self) -> Result<String, String> {
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("it cannot be started: {error}"))?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let ended = async {
            let (text, complaint) = tokio::join!(read(stdout, OUTPUT), read(stderr, OUTPUT));
            Ok::<_, std::io::Error>((child.wait().await?, text?, complaint?))
        };
        let (status, text, complaint) = tokio::time::timeout(self.bound, ended)
            .await
            .map_err(|_| format!("it did not end within {:?}", self.bound))?
            .map_err(|error| format!("its output cannot be read: {error}"))?;
        if !status.success() {
            return Err(failure(status, &complaint));
        }
        if text.len() as u64 == OUTPUT {
            return Err(format!("it wrote more than {} KiB", OUTPUT >> 10));
        }
        String::from_utf8(text).map_err(|_| "what it wrote is not UTF-8".to_owned())
    }
}

async fn read(pipe: Option<impl AsyncRead + Unpin>, bound: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(bound).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

/// The end of what a failed command complained about says the most.
fn failure(status: ExitStatus, complaint: &[u8]) -> String {
    let end = complaint.len().saturating_sub(SHOWN);
    let shown = complaint.split_at_checked(end).map_or(complaint, |(_, shown)| shown);
    match String::from_utf8_lossy(shown).trim() {
        "" => format!("it ended with {status} and wrote nothing to standard error"),
        text => format!("it ended with {status}: {text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> CredentialCommand {
        let command = ["sh", "-c", script].map(str::to_owned).to_vec();
        CredentialCommand::new(command, vec![("REGION".to_owned(), "north".to_owned())]).unwrap()
    }

    #[tokio::test]
    async fn environment_is_added_and_output_comes_back() {
        let text = shell("test -n \"$PATH\" && printf '%s' \"$REGION\"")
            .output()
            .await
            .unwrap();
        assert_eq!(text, "north");
    }

    #[tokio::test]
    async fn failure_shows_what_the_command_complained_about_and_not_what_it_wrote() {
        let error = shell("echo token-1; echo session expired >&2; exit 3")
            .output()
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("`sh`") && error.contains("session expired"), "{error}");
        assert!(error.contains('3') && !error.contains("token-1"), "{error}");
    }

    #[tokio::test]
    async fn long_complaint_is_cut_at_its_start() {
        let script = "i=0; while [ $i -lt 2000 ]; do echo line $i >&2; i=$((i+1)); done; exit 1";
        let error = shell(script).output().await.unwrap_err().to_string();
        assert!(error.contains("line 1999") && !error.contains("line 1000\n"), "{error}");
    }

    #[tokio::test]
    async fn missing_program_is_named() {
        let command = CredentialCommand::new(vec!["no-such-program".to_owned()], Vec::new()).unwrap();
        let error = command.output().await.unwrap_err().to_string();
        assert!(
            error.contains("`no-such-program`") && error.contains("cannot be started"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn endless_command_and_endless_output_are_bounded() {
        let endless = CredentialCommand {
            bound: Duration::from_millis(50),
            ..shell("exec sleep 600")
        };
        assert!(
            endless
                .output()
                .await
                .unwrap_err()
                .to_string()
                .contains("did not end within")
        );
        let error = shell("exec head -c 2000000 /dev/zero")
            .output()
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("1024 KiB") || error.contains("SIGPIPE") || error.contains("signal: 13"),
            "{error}"
        );
    }
}
