//! Which proxy leads to a cluster: the one that the config names, else the one of the environment that the host gives.
//! Pure; opens no socket, and never shows a proxy's password.

use crate::contract::Error;
use http::{HeaderValue, Uri};
use hyper_util::client::proxy::matcher::Matcher;

/// The variables that are looked at, in upper and lower case.
const VARIABLES: [&str; 2] = ["HTTPS_PROXY", "NO_PROXY"];

/// An HTTP proxy that opens tunnels.
#[derive(Clone)]
pub(crate) struct Proxy {
    /// Where it listens.
    pub(crate) address: Uri,
    /// How it is told who we are.
    pub(crate) authorization: Option<HeaderValue>,
}

/// What the environment says about proxies.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    pub(crate) https: Option<String>,
    pub(crate) none: Option<String>,
}

impl Environment {
    /// That of this instance: a host gives it on purpose, or not at all.
    pub(crate) fn read() -> Self {
        let [https, none] = VARIABLES.map(|name| {
            [name.to_owned(), name.to_lowercase()]
                .into_iter()
                .find_map(|name| std::env::var(name).ok())
                .filter(|value| !value.is_empty())
        });
        Self { https, none }
    }

    /// The proxy to a server, as Kubernetes' own programs choose it: never for this machine.
    pub(crate) fn proxy(&self, server: &Uri) -> Result<Option<Proxy>, Error> {
        let Some(https) = self.https.as_deref().filter(|_| !super::loopback(&super::host(server))) else {
            return Ok(None);
        };
        let field = "HTTPS_PROXY (of the environment)";
        let exceptions = self.none.as_deref().unwrap_or_default();
        named(field, https, exceptions, server)
    }
}

impl Proxy {
    /// The proxy that `field` of the config names.
    pub(crate) fn new(field: &str, url: &str, server: &Uri) -> Result<Option<Self>, Error> {
        named(field, url, "", server)
    }
}

fn named(field: &str, url: &str, exceptions: &str, server: &Uri) -> Result<Option<Proxy>, Error> {
    let refuse = |why: &str| {
        Err(Error::InvalidArgument(format!(
            "`{field}` {why}: write it as http://HOST:PORT"
        )))
    };
    let url = url.trim();
    match url
        .split_once("://")
        .map(|(scheme, _)| scheme.to_ascii_lowercase())
        .as_deref()
    {
        Some("http") | None => {}
        Some("https") => return refuse("is a proxy that is spoken to over TLS, which is not supported"),
        Some("socks5" | "socks5h" | "socks4") => return refuse("is a SOCKS proxy, which is not supported"),
        Some(_) => return refuse("has an unknown scheme"),
    }
    if server.scheme_str() != Some("https") {
        return refuse("opens tunnels to https servers only");
    }
    let probe = Matcher::builder().https(url).build();
    if probe.intercept(server).is_none() {
        return refuse("is not the address of a proxy");
    }
    let matcher = Matcher::builder().https(url).no(exceptions).build();
    Ok(matcher.intercept(server).map(|found| Proxy {
        address: found.uri().clone(),
        authorization: found.basic_auth().cloned(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(url: &str) -> Uri {
        url.parse().unwrap()
    }

    fn address(proxy: Option<Proxy>) -> Option<String> {
        proxy.map(|proxy| proxy.address.to_string())
    }

    #[test]
    fn a_proxy_is_named_with_or_without_a_password_which_is_never_shown() {
        let to = server("https://k8s.example:6443");
        let named = |url: &str| Proxy::new("config.proxyUrl", url, &to);
        assert_eq!(
            address(named("http://proxy:3128").unwrap()),
            Some("http://proxy:3128/".into())
        );
        assert_eq!(
            address(named(" proxy:3128\n").unwrap()),
            Some("http://proxy:3128/".into())
        );
        let known = named("http://me:hunter2@proxy:3128").unwrap().unwrap();
        assert_eq!(known.address, "http://proxy:3128/");
        assert!(known.authorization.unwrap().is_sensitive());
        for url in [
            "https://me:hunter2@proxy:3128",
            "socks5://me:hunter2@proxy",
            "ftp://proxy",
            "http://",
            "not a url",
        ] {
            let error = named(url).err().unwrap().to_string();
            assert!(error.contains("`config.proxyUrl`"), "{url}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn the_environment_is_obeyed_with_its_exceptions_and_never_for_this_machine() {
        let environment = Environment {
            https: Some("http://proxy:3128".into()),
            none: Some("internal.example, 10.0.0.0/8".into()),
        };
        let through = |url: &str| environment.proxy(&server(url)).unwrap().is_some();
        assert!(through("https://k8s.example:6443"));
        for url in [
            "https://k8s.internal.example:6443",
            "https://10.1.2.3:6443",
            "https://127.0.0.1:6443",
            "https://localhost:6443",
            "https://[::1]:6443",
            "http://127.0.0.1:8001",
        ] {
            assert!(!through(url), "{url}");
        }
        assert!(
            Environment::default()
                .proxy(&server("https://k8s.example"))
                .unwrap()
                .is_none()
        );
    }
}
