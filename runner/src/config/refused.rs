//! Fields of configs that other runners take and this one does not, with what to use instead.

/// Fields that other runners of this type take, and what to use instead.
pub(crate) const REFUSED: [(&str, &str); 19] = [
    ("apiVersion", "there is only v1: leave it out"),
    (
        "caCertFile",
        "the runner reads no files: put the content of the file into `caCertData`",
    ),
    (
        "clientCertFile",
        "the runner reads no files: put the content of the file into `clientCertData`",
    ),
    ("clientKeyAlgo", "the key says itself what it is: leave it out"),
    (
        "clientKeyFile",
        "the runner reads no files: put the content of the file into `clientKeyData`",
    ),
    (
        "clientKeyPassphrase",
        "give the key without its passphrase, which `openssl pkey -in KEY` removes",
    ),
    (
        "disableHostnameVerification",
        "name what the certificate carries in `tlsServerName`",
    ),
    (
        "inheritClusterConfig",
        "a config is taken whole: leave `config` out to use the cluster that the host uses",
    ),
    (
        "keyStoreFile",
        "put the certificate and its key into `clientCertData` and `clientKeyData`, which `openssl pkcs12 -nodes` extracts",
    ),
    (
        "keyStorePassphrase",
        "put the certificate and its key into `clientCertData` and `clientKeyData`, which `openssl pkcs12 -nodes` extracts",
    ),
    (
        "maxConcurrentRequests",
        "a task holds two or three connections: leave it out",
    ),
    (
        "maxConcurrentRequestsPerHost",
        "a task holds two or three connections: leave it out",
    ),
    (
        "oauthTokenProvider",
        "`podrun` itself takes it; other hosts leave `oauthToken` out and answer the runner's question for a credential, or use a `kubeconfig` with an exec plugin",
    ),
    (
        "password",
        "Kubernetes removed basic authentication in 1.19: use `oauthToken` or a client certificate",
    ),
    (
        "trustStoreFile",
        "put its certificates into `caCertData`, which may hold several",
    ),
    (
        "trustStorePassphrase",
        "put the certificates of the store into `caCertData`, which may hold several",
    ),
    (
        "watchReconnectInterval",
        "the runner reconnects by itself: leave it out",
    ),
    ("httpProxy", "use `proxyUrl`"),
    ("httpsProxy", "use `proxyUrl`"),
];
