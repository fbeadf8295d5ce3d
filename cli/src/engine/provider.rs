//! `taskRunner.config.oauthTokenProvider`: a task that is asked for a token whenever the cluster needs one.
//!
//! The runner asks through the contract's `authenticate`, so no token is part of a config or of the journal.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use podrun_host::{BoxFuture, Credential, Credentials};
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;

use super::google::credentials;
use crate::document::{Place, Problem};
use crate::error::Error;
use crate::expression::{Renderer, Text};
use crate::flow::model::{Provided, TokenProvider};
use crate::google::{self, Token};
use crate::scope::Scope;

/// A token is not used any more so long before it expires: it still has to arrive.
const MARGIN: Duration = Duration::from_secs(60);

/// Answers a runner's questions with a provider's tokens.
pub(super) struct Tokens {
    source: Source,
    output: String,
    /// Whose provider it is, for errors.
    owner: String,
    cache: Duration,
    renderer: Renderer,
    last: Mutex<Option<Last>>,
}

/// Where tokens come from.
enum Source {
    Google {
        key: Option<String>,
        scopes: Vec<String>,
    },
    /// Rendered each time.
    Expression {
        text: String,
        values: Map<String, Value>,
    },
}

/// The token that was fetched last.
struct Last {
    token: String,
    expires: Option<Timestamp>,
    fetched: Instant,
}

impl Last {
    fn holds(&self, cache: Duration) -> bool {
        let margin = Timestamp::now() + MARGIN;
        self.fetched.elapsed() < cache && self.expires.is_none_or(|expires| margin < expires)
    }

    /// As an exec plugin says it: so the runner knows when to ask again.
    fn credential(&self) -> Credential {
        let status = match self.expires {
            Some(expires) => json!({"token": self.token, "expirationTimestamp": expires.to_string()}),
            None => json!({"token": self.token}),
        };
        let kind = json!({"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status});
        Credential::ExecCredential(kind.to_string())
    }
}

impl Tokens {
    /// Render what the provider needs; nothing is asked yet.
    pub(super) fn new(
        provider: &TokenProvider,
        task: &str,
        scope: &Scope,
        renderer: &Renderer,
    ) -> Result<Self, Problem> {
        let render = |text: &Text| renderer.render(text, &scope.values);
        let source = match &provider.task {
            Provided::Google(auth) => Source::Google {
                key: auth.service_account.as_ref().map(render).transpose()?,
                scopes: auth.scopes.iter().map(render).collect::<Result<_, _>>()?,
            },
            Provided::Expression(text) => Source::Expression {
                text: text.text.clone(),
                values: scope.values.clone(),
            },
        };
        Ok(Self {
            source,
            output: provider.output.text.clone(),
            owner: format!("`taskRunner.config.oauthTokenProvider` of task `{task}`"),
            cache: Duration::from_millis(provider.cache),
            renderer: renderer.clone(),
            last: Mutex::new(None),
        })
    }

    async fn token(&self, refused: bool) -> Result<Credential, Error> {
        let mut last = self.last.lock().await;
        if let Some(known) = last.as_ref().filter(|known| !refused && known.holds(self.cache)) {
            return Ok(known.credential());
        }
        let (outputs, expires) = self.ask().await?;
        let token = self.render(&self.output, &outputs)?.trim().to_owned();
        if token.is_empty() {
            return Err(Error::Unreachable(format!(
                "{}: `output` renders to nothing",
                self.owner
            )));
        }
        self.renderer.sources().mint(&self.owner, &token);
        let known = Last {
            token,
            expires,
            fetched: Instant::now(),
        };
        Ok(last.insert(known).credential())
    }

    /// What the task gives back, and when that expires.
    async fn ask(&self) -> Result<(Map<String, Value>, Option<Timestamp>), Error> {
        match &self.source {
            Source::Expression { text, values } => {
                let value = Value::from(self.render(text, values)?);
                Ok((Map::from_iter([("value".to_owned(), value)]), None))
            }
            Source::Google { key, scopes } => {
                let asked = async { google::token(&credentials(key.as_deref())?, scopes).await };
                let token: Token = asked
                    .await
                    .map_err(|failure| Error::Unreachable(format!("{}: {failure}", self.owner)))?;
                Ok((token.outputs(), token.expires))
            }
        }
    }

    fn render(&self, text: &str, values: &Map<String, Value>) -> Result<String, Problem> {
        // The place of a text cannot be taken to another thread.
        let text = Text {
            text: text.to_owned(),
            place: Place::built_in(),
            what: self.owner.clone(),
        };
        self.renderer.render(&text, values)
    }
}

impl Credentials for Tokens {
    fn credential(&self, refused: bool) -> BoxFuture<'_, Result<Option<Credential>, podrun_host::Error>> {
        Box::pin(async move {
            let token = self.token(refused).await;
            token
                .map(Some)
                .map_err(|error| podrun_host::Error::Unavailable(crate::error::message(&error)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_used_while_it_holds_and_the_cache_says_so() {
        let last = |seconds: Option<i64>| Last {
            token: "t".to_owned(),
            expires: seconds.map(|seconds| Timestamp::now() + jiff::SignedDuration::from_secs(seconds)),
            fetched: Instant::now(),
        };
        let minutes = Duration::from_secs(300);
        assert!(last(None).holds(minutes) && last(Some(3600)).holds(minutes));
        assert!(!last(Some(59)).holds(minutes), "it expires on its way");
        assert!(!last(Some(3600)).holds(Duration::ZERO), "no cache is wanted");
    }
}
