//! Stands in for what tasks ask of Google Cloud: the metadata server, the token server, and the API of GKE. Only the
//! standard library and JSON, so that tests of other crates can take it in.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde_json::{Value, json};

/// The cluster that every name leads to.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Its address, without a scheme.
    pub endpoint: String,
    /// Its certificate authority: PEM in Base64.
    pub certificate_authority: String,
    /// The token that it takes. None: a new one for each question.
    pub token: Option<String>,
}

/// Google, as far as tasks ask it.
#[derive(Debug)]
pub struct Google {
    address: SocketAddr,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct State {
    cluster: Cluster,
    tokens: Mutex<Vec<String>>,
    assertions: Mutex<Vec<String>>,
    /// Seconds that a token lives.
    lifetime: AtomicU64,
    /// Answers that will be failures.
    failures: AtomicU64,
    over: AtomicBool,
}

impl Google {
    /// Begin to answer, on a port of this machine.
    pub fn start(cluster: Cluster) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let state = Arc::new(State {
            cluster,
            tokens: Mutex::default(),
            assertions: Mutex::default(),
            lifetime: AtomicU64::new(3600),
            failures: AtomicU64::new(0),
            over: AtomicBool::new(false),
        });
        let served = Arc::clone(&state);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if served.over.load(Ordering::SeqCst) {
                    break;
                }
                // A client that goes away is none of its concern.
                let _ = stream.and_then(|stream| answer(stream, &served));
            }
        });
        Self {
            address,
            state,
            thread: Some(thread),
        }
    }

    /// What makes a program ask here: Google's own variables.
    pub fn environment(&self) -> [(&'static str, String); 2] {
        [
            ("GCE_METADATA_HOST", self.address.to_string()),
            (
                "CLOUDSDK_API_ENDPOINT_OVERRIDES_CONTAINER",
                format!("http://{}", self.address),
            ),
        ]
    }

    /// The key of a service account whose tokens come from here.
    pub fn key(&self) -> String {
        let key = json!({
            "type": "service_account",
            "project_id": "p",
            "private_key_id": "k",
            "private_key": KEY,
            "client_email": "robot@p.iam.gserviceaccount.com",
            "token_uri": format!("http://{}/token", self.address),
        });
        key.to_string()
    }

    /// The tokens that were given, in that order.
    pub fn tokens(&self) -> Vec<String> {
        self.state.tokens.lock().expect("no panic").clone()
    }

    /// The signed claims that service accounts showed.
    pub fn assertions(&self) -> Vec<String> {
        self.state.assertions.lock().expect("no panic").clone()
    }

    /// How many seconds the tokens live that are given from now on.
    pub fn set_lifetime(&self, seconds: u64) {
        self.state.lifetime.store(seconds, Ordering::SeqCst);
    }

    /// Answer so many questions with a failure of the server.
    pub fn fail(&self, count: u64) {
        self.state.failures.store(count, Ordering::SeqCst);
    }
}

impl Drop for Google {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Answer one request, and close.
fn answer(mut stream: TcpStream, state: &State) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let (mut length, mut bearer, mut flavor) = (0, String::new(), false);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let Some((name, value)) = header.trim_end().split_once(": ") else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap_or(0),
            "authorization" => bearer = value.strip_prefix("Bearer ").unwrap_or_default().to_owned(),
            "metadata-flavor" => flavor = value == "Google",
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let failing = state
        .failures
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
        .is_ok();
    let path = target.split('?').next().unwrap_or_default();
    let (status, json) = if failing {
        (503, Value::Null)
    } else if path == "/token" || (path.starts_with("/computeMetadata/") && flavor) {
        let body = String::from_utf8_lossy(&body);
        let assertion = body.split('&').find_map(|pair| pair.strip_prefix("assertion="));
        let mut assertions = state.assertions.lock().expect("no panic");
        assertions.extend(assertion.map(str::to_owned));
        (200, token(state))
    } else {
        look_up(state, path, &bearer)
    };
    let text = match json {
        Value::Null => "<html>the server has a bad moment</html>".to_owned(),
        json => json.to_string(),
    };
    write!(
        stream,
        "HTTP/1.1 {status} .\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
        text.len()
    )
}

fn token(state: &State) -> Value {
    let mut tokens = state.tokens.lock().expect("no panic");
    let fixed = state.cluster.token.clone();
    let token = fixed.unwrap_or_else(|| format!("ya29.t0ken-{}", tokens.len() + 1));
    tokens.push(token.clone());
    let lifetime = state.lifetime.load(Ordering::SeqCst);
    json!({"access_token": token, "expires_in": lifetime, "token_type": "Bearer"})
}

fn look_up(state: &State, path: &str, bearer: &str) -> (u16, Value) {
    let failure = |code: u16, message: &str| (code, json!({"error": {"code": code, "message": message}}));
    if !state
        .tokens
        .lock()
        .expect("no panic")
        .iter()
        .any(|token| token == bearer)
    {
        return failure(401, "Request had invalid authentication credentials.");
    }
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let ["v1", "projects", project, "locations", location, "clusters", name] = parts.as_slice() else {
        return failure(404, "Not found.");
    };
    if *name == "missing" {
        let message = format!("Not found: projects/{project}/locations/{location}/clusters/{name}.");
        return failure(404, &message);
    }
    let cluster = json!({
        "name": name,
        "location": location,
        "endpoint": state.cluster.endpoint,
        "createTime": "2026-01-01T00:00:00+00:00",
        "nodePools": [{"name": "default-pool", "status": "RUNNING"}],
        "masterAuth": {"clusterCaCertificate": state.cluster.certificate_authority},
        "selfLink": format!("https://container.googleapis.com{path}"),
    });
    (200, cluster)
}

/// The key of nobody's account.
const KEY: &str = "\
-----BEGIN PRIVATE KEY-----\n\
MIIEvgIBADANBgkqhkiG9w0BAQEFAASCBKgwggSkAgEAAoIBAQCzTrTiYH04oODb\n\
49KLMx38DxXaCRXVkNfj/IOxcTjA54cGow3Ww+mRluG5VT72zSEmCQogbHqqjUih\n\
lDoIEDS/ozYqPi1akIQAh1S3Bn67iDEJznHL86tuf303L/jl4hVnuIIlp3Jwdd7O\n\
mq6YU61TR/1Fq6nAtSfLYPqipWb/st90Q657ZlAh/55olyOILMWDz8Ftze4E8q++\n\
W+BY+GW3VzHhPY4GY4Sv8zN2qtsNlbU8VvzmmRlVEPsiSdeYChiE9WMZ/XCkzG/z\n\
qcZSpxcCskOX/TcG0TA0qOOcXRXu8DgtKfFFGxbmIED6ZRFgVH3ZhWvdNc/AAmsU\n\
lljOO1CRAgMBAAECggEABIZNKrQ4HLR0kB/q2W/gBxMDYGXfyuyVgg+GbDUY80c0\n\
YU6+g+ecLnwR9JkJ1nT9K+ZI/uH143VeupMQttDf3+EYtg6tGs6wQgooMVkk3AsW\n\
/7IZrYWX0xk8+eZIP9bJZv1hLV2RFfTneyuskbP02PflVHt9NFtt5mQrVuzZEUUx\n\
rbmzKxcvu9QLbNS+katR71h+ayOXF7tln3Q1Of19OhbLMT7vwl2gmQjbU78pGxw+\n\
J0NHhRf7ojhpvfy4rzt9B6WmJWjUQBEx/U+lun8RnExEx0SF75YA2eukwkKQC16s\n\
3FXXYa/sSrSOXLGES7xgqqo9n8F+v6DKaOa3MhLIgQKBgQDWkqIOGPax7xSCiuvK\n\
+0g34LNoOYKuD0bHE0ry3w5Tk/VQaM1wv/jKJkahbjUZb4TKz/5sgsZi/8peiB+A\n\
EculcrBuSLMvu/bte+1aShzNUmE7+nfilmQdiomdQ0lcMyYFHfNLUM00vNjgpkvl\n\
hI8+1z5ABuwnMu/5TZnLiu1eIQKBgQDV7REPXqCP1sT9KEuUPTAoI+pEwAm707HQ\n\
T3NuAbe6MysxYTKyYLYy/E9w7bhhtz6UWo3tGI0iHp/SI7/QKMHBpmKOGVB/isNP\n\
2OPtsc5r/1xHlKaKpA+pOBMEkrCvGf162J2EjUbN+o2HYHZcxlezpNUAG09Yu5VS\n\
XKiO1/REcQKBgQDGiHoFDTgEvq99cchl0Uaq3O9iugOdxWi5fbJVMelxj27lbXLY\n\
pecuM2gaqXvcAwEdHoHMKNwicYXvHYf32X9Rn+J6yC1zNzlr1sRwTC6GE3kAI+mU\n\
743Gf46Awec4teKxzVp1D1gvOaR5h6Slwpc/j6x7VWxfgJPlWdW5LNwfwQKBgQC5\n\
/bHubfQk+rIr9CO5z3UWARvGCDyuO8CF/v25r+6gCarM9NfR9HmUXH9pDJVZB6t1\n\
6kEo2UajWoLTfddf0H+csN9Q8jtlmCx1OHn6h7OTe+IsLdaaBUfEdQc725mXs34J\n\
l1lkDDx6CxOPltNxl9RaUL4LqLLUz8pkYEEAaEtsUQKBgGJ3zs6diPePmdL478yW\n\
ymID9TAo6fjWDyGaWSlLQpZ0ekYrHd/yh8PsqXM2/UanOXVoOZ0BoF902+rMdGMk\n\
dbfiJhj6qc0JzxcuefpTLbchgT0Nci9/vm/FtoqyP5Qp4WU9P4tW8/hctHnPli+w\n\
WCrUYfvWliAEbjhX47pkA5u9\n\
-----END PRIVATE KEY-----\n\
";
