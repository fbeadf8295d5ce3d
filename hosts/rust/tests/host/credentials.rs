//! Who answers a runner's questions for a credential.

use std::sync::{Arc, Mutex};

use podrun_host::{BoxFuture, Credential, Credentials, Error, Folders, Target};

use crate::guest::{ask, follow, runner, task};

/// Hands out numbered tokens and keeps what it was asked.
#[derive(Default)]
struct Tokens(Mutex<Vec<bool>>);

impl Credentials for Tokens {
    fn credential(&self, refused: bool) -> BoxFuture<'_, Result<Option<Credential>, Error>> {
        Box::pin(async move {
            let mut asked = self.0.lock().unwrap();
            asked.push(refused);
            Ok(Some(Credential::BearerToken(format!("number {}", asked.len()))))
        })
    }
}

#[tokio::test]
async fn embedder_answers_and_learns_of_a_refusal() {
    let tokens = Arc::new(Tokens::default());
    // The embedder's answer goes before the command.
    let target = Target {
        config: "command=false".to_owned(),
        credentials: Some(tokens.clone()),
    };
    let run = runner()
        .await
        .start(&target, task(&["authenticate", "twice"]), Folders::default(), None);
    let outcome = follow(run).await.1.unwrap();
    assert_eq!(outcome.message, "token number 1 then token number 2");
    assert_eq!(*tokens.0.lock().unwrap(), [false, true]);
}

/// Has no answer, and says why.
struct Unable;

impl Credentials for Unable {
    fn credential(&self, _: bool) -> BoxFuture<'_, Result<Option<Credential>, Error>> {
        Box::pin(async { Err(Error::Unavailable("the token server is away".to_owned())) })
    }
}

#[tokio::test]
async fn embedder_without_an_answer_says_why() {
    let target = Target {
        config: String::new(),
        credentials: Some(Arc::new(Unable)),
    };
    let run = runner()
        .await
        .start(&target, task(&["authenticate"]), Folders::default(), None);
    let error = follow(run).await.1.unwrap_err();
    assert!(
        matches!(&error, Error::Unavailable(text) if text == "the token server is away"),
        "{error:?}"
    );
}

#[tokio::test]
async fn command_that_the_config_names_is_run_with_its_environment() {
    let found = ask(&runner().await, "command=printenv,ADDED", &["authenticate"])
        .await
        .unwrap();
    assert_eq!(found, "exec yes\n");
}

#[tokio::test]
async fn failed_command_is_the_error_of_the_call() {
    let error = ask(&runner().await, "command=ls,/no/such/folder", &["authenticate"])
        .await
        .unwrap_err();
    assert!(
        matches!(&error, Error::Credential { command, .. } if command == "ls"),
        "{error:?}"
    );
    assert!(error.to_string().contains("/no/such/folder"), "{error}");
}

#[tokio::test]
async fn without_credentials_the_runner_decides() {
    let error = ask(&runner().await, "", &["authenticate"]).await.unwrap_err();
    assert!(
        matches!(&error, Error::AccessDenied(text) if text == "no credential"),
        "{error:?}"
    );
}
