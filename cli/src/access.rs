//! How the cluster is reached when the flow does not say: `--kubeconfig`, `KUBECONFIG`, `~/.kube/config`, or the service
//! account of the pod that we run in.
//!
//! Only paths and names are remembered; the files are read anew each time, so a rotated credential is picked up and
//! none is stored.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use podrun_host::{BoxFuture, Credential, Credentials, Target};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::error::{Error, named};
use crate::kubeconfig;

/// Where the cluster is to be found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Access {
    /// Files that are merged as kubectl does, and the context to use.
    Kubeconfig { files: Vec<PathBuf>, context: String },
    /// The service account of our own pod, at this server.
    InCluster { server: String },
    /// Nowhere: every task must have a config.
    None,
}

/// What decides about access, taken from the command line and the environment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    /// `--kubeconfig`.
    pub(crate) kubeconfig: Option<PathBuf>,
    /// `--context`.
    pub(crate) context: Option<String>,
    /// `KUBECONFIG`.
    pub(crate) environment: Option<std::ffi::OsString>,
    /// The home folder.
    pub(crate) home: Option<PathBuf>,
    /// `KUBERNETES_SERVICE_HOST` and `KUBERNETES_SERVICE_PORT`.
    pub(crate) service: Option<(String, String)>,
}

/// Where Kubernetes puts the service account of a pod.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

impl Sources {
    /// The command line's values with those of the environment.
    pub(crate) fn new(kubeconfig: Option<PathBuf>, context: Option<String>) -> Self {
        let service = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            kubeconfig,
            context,
            environment: std::env::var_os("KUBECONFIG").filter(|value| !value.is_empty()),
            home: etcetera::home_dir().ok(),
            service: service("KUBERNETES_SERVICE_HOST")
                .map(|host| (host, service("KUBERNETES_SERVICE_PORT").unwrap_or_else(|| "443".into()))),
        }
    }

    /// The first source that there is.
    pub(crate) fn resolve(self) -> Result<Access, Error> {
        let files = if let Some(file) = self.kubeconfig {
            vec![file]
        } else if let Some(list) = self.environment {
            let all: Vec<PathBuf> = std::env::split_paths(&list)
                .filter(|path| !path.as_os_str().is_empty())
                .collect();
            // kubectl skips missing files of the list, which is how people keep one for each cluster.
            let present: Vec<PathBuf> = all.iter().filter(|path| path.exists()).cloned().collect();
            if present.is_empty() { all } else { present }
        } else {
            self.home
                .map(|home| home.join(".kube/config"))
                .filter(|path| path.exists())
                .into_iter()
                .collect()
        };
        if !files.is_empty() {
            let files = files
                .iter()
                .map(|file| std::path::absolute(file).map_err(named("find", file)))
                .collect::<Result<Vec<_>, _>>()?;
            if let Some(file) = files.iter().find(|file| file.exists() && !file.is_file()) {
                return Err(Error::Usage(format!(
                    "kubeconfig `{}` is not a regular file: it is read again whenever it is needed, so save it to one",
                    file.display()
                )));
            }
            let context = kubeconfig::load(&files)?.context(self.context.as_deref())?;
            return Ok(Access::Kubeconfig { files, context });
        }
        if let Some(context) = self.context {
            return Err(Error::Usage(format!(
                "context `{context}` needs a kubeconfig: add `--kubeconfig FILE`"
            )));
        }
        match self.service {
            Some((host, port)) if Path::new(SERVICE_ACCOUNT).join("token").exists() => {
                let host = if host.contains(':') { format!("[{host}]") } else { host };
                Ok(Access::InCluster {
                    server: format!("https://{host}:{port}"),
                })
            }
            _ => Ok(Access::None),
        }
    }
}

impl Access {
    /// What the runner needs to reach the cluster.
    pub(crate) fn target(&self) -> Result<Target, Error> {
        match self {
            Self::Kubeconfig { files, context } => {
                let chosen = kubeconfig::load(files)?.only(context)?;
                let config = json!({"kubeconfig": chosen.text.to_string(), "context": context});
                let credentials = chosen
                    .token_file
                    .map(|file| Arc::new(TokenFile::new(file)) as Arc<dyn Credentials>);
                Ok(Target {
                    config: config.to_string(),
                    credentials,
                })
            }
            Self::InCluster { server } => in_cluster(server, Path::new(SERVICE_ACCOUNT)),
            Self::None => Err(Error::Usage(
                "no cluster to run in: add `--kubeconfig FILE`, set KUBECONFIG, or give the task a `taskRunner.config`"
                    .into(),
            )),
        }
    }

    /// Where the cluster comes from, for people.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Kubeconfig { files, context } => {
                let files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
                format!("context `{context}` of {}", files.join(", "))
            }
            Self::InCluster { server } => format!("the service account of this pod at {server}"),
            Self::None => "no cluster".into(),
        }
    }
}

fn in_cluster(server: &str, folder: &Path) -> Result<Target, Error> {
    let ca_file = folder.join("ca.crt");
    let ca = fs::read(&ca_file).map_err(named("read", &ca_file))?;
    let mut config = json!({"masterUrl": server, "caCertData": STANDARD.encode(ca)});
    if let (Ok(namespace), Some(map)) = (fs::read_to_string(folder.join("namespace")), config.as_object_mut()) {
        map.insert("namespace".into(), namespace.trim().into());
    }
    let credentials: Arc<dyn Credentials> = Arc::new(TokenFile::new(folder.join("token")));
    Ok(Target {
        config: config.to_string(),
        credentials: Some(credentials),
    })
}

/// A token that somebody else renews in a file.
struct TokenFile {
    path: PathBuf,
    last: Mutex<Option<String>>,
}

impl TokenFile {
    fn new(path: PathBuf) -> Self {
        Self {
            path,
            last: Mutex::new(None),
        }
    }

    /// The token in the file; none if it is the one that was just refused.
    fn read(&self, refused: bool) -> Option<String> {
        let token = fs::read_to_string(&self.path).ok()?.trim().to_owned();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if token.is_empty() || (refused && last.as_deref() == Some(token.as_str())) {
            return None;
        }
        *last = Some(token.clone());
        Some(token)
    }
}

impl Credentials for TokenFile {
    fn credential(&self, refused: bool) -> BoxFuture<'_, Result<Option<Credential>, podrun_host::Error>> {
        let credential = self.read(refused).map(Credential::BearerToken);
        Box::pin(std::future::ready(Ok(credential)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(dir: &Path, name: &str, context: &str) -> PathBuf {
        let path = dir.join(name);
        let text = format!(
            "current-context: {context}\ncontexts: [{{name: {context}, context: {{cluster: c, user: u}}}}]\n\
             clusters: [{{name: c, cluster: {{server: 'https://x'}}}}]\nusers: [{{name: u, user: {{token: t}}}}]\n"
        );
        fs::write(&path, text).unwrap();
        path
    }

    fn context(access: &Access) -> &str {
        match access {
            Access::Kubeconfig { context, .. } => context,
            other => panic!("{other:?} has no context"),
        }
    }

    #[test]
    fn the_first_source_wins() {
        let dir = tempfile::tempdir().unwrap();
        let (flag, one, two) = (
            file(dir.path(), "flag", "a"),
            file(dir.path(), "one", "b"),
            file(dir.path(), "two", "c"),
        );
        fs::create_dir(dir.path().join(".kube")).unwrap();
        file(&dir.path().join(".kube"), "config", "d");
        let list = std::env::join_paths([dir.path().join("missing"), one, two]).unwrap();
        let service = Some(("10.0.0.1".to_owned(), "443".to_owned()));
        let mut sources = Sources {
            kubeconfig: Some(flag),
            context: None,
            environment: Some(list),
            home: Some(dir.path().to_owned()),
            service,
        };
        assert_eq!(context(&sources.clone().resolve().unwrap()), "a");
        sources.kubeconfig = None;
        assert_eq!(context(&sources.clone().resolve().unwrap()), "b");
        let other = Sources {
            context: Some("c".into()),
            ..sources.clone()
        };
        assert_eq!(context(&other.resolve().unwrap()), "c");
        sources.environment = None;
        assert_eq!(context(&sources.clone().resolve().unwrap()), "d");
        sources.home = None;
        assert_eq!(sources.resolve().unwrap(), Access::None);
    }

    #[test]
    fn no_source_is_an_error_that_names_them() {
        let refusal = Access::None.target().err().unwrap().to_string();
        insta::assert_snapshot!(refusal, @"no cluster to run in: add `--kubeconfig FILE`, set KUBECONFIG, or give the task a `taskRunner.config`");
        let lost = Sources {
            environment: Some("/nosuch/config".into()),
            ..Sources::default()
        };
        assert_eq!(
            lost.resolve().unwrap_err().to_string(),
            "failed to read `/nosuch/config`"
        );
    }

    #[test]
    fn the_pods_token_is_read_anew_and_never_part_of_the_config() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [("ca.crt", "PEM"), ("token", "one\n"), ("namespace", "jobs")] {
            fs::write(dir.path().join(name), text).unwrap();
        }
        let target = in_cluster("https://10.0.0.1:443", dir.path()).unwrap();
        let config =
            serde_json::json!({"masterUrl": "https://10.0.0.1:443", "caCertData": "UEVN", "namespace": "jobs"});
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&target.config).unwrap(),
            config
        );
        let token = TokenFile::new(dir.path().join("token"));
        assert_eq!(token.read(false).as_deref(), Some("one"));
        assert_eq!(token.read(true), None);
        fs::write(dir.path().join("token"), "two").unwrap();
        assert_eq!(token.read(true).as_deref(), Some("two"));
    }
}
