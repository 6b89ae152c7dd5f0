//! An issuer of tokens: HTTPS on the loopback under an authority of its own, good and bad in every way that a test wants.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::{Arc, Mutex},
    thread,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tempfile::TempDir;

/// What it does with a connection, by the path that is asked for; the bytes of the answer. None: it keeps silent.
type Answers = dyn Fn(&str) -> Option<Vec<u8>> + Send + Sync;

pub(crate) struct Provider {
    pub(crate) address: SocketAddr,
    answers: Arc<Mutex<Arc<Answers>>>,
    dir: TempDir,
}

pub(crate) fn ok(body: impl AsRef<[u8]>) -> Option<Vec<u8>> {
    let body = body.as_ref();
    let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    answer.extend_from_slice(body);
    Some(answer)
}

impl Provider {
    /// Its certificate is for `localhost`.
    pub(crate) fn start(answers: impl Fn(&str) -> Option<Vec<u8>> + Send + Sync + 'static) -> Self {
        let dir = TempDir::new().unwrap();
        let config = Arc::new(tls(dir.path()));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let answers: Arc<Mutex<Arc<Answers>>> = Arc::new(Mutex::new(Arc::new(answers)));
        let current = Arc::clone(&answers);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (config, answers) = (Arc::clone(&config), Arc::clone(&current.lock().unwrap()));
                thread::spawn(move || serve(stream.unwrap(), config, &*answers));
            }
        });
        Self { address, answers, dir }
    }

    pub(crate) fn becomes(&self, answers: impl Fn(&str) -> Option<Vec<u8>> + Send + Sync + 'static) {
        *self.answers.lock().unwrap() = Arc::new(answers);
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.address.port())
    }

    /// The PEM file of its authority.
    pub(crate) fn ca(&self) -> String {
        self.dir.path().join("ca.pem").display().to_string()
    }
}

fn tls(dir: &Path) -> ServerConfig {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    std::fs::write(dir.join("ca.pem"), authority.pem()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".into()]).unwrap().signed_by(&key, &authority).unwrap();
    let chain = vec![CertificateDer::from(certificate.der().to_vec())];
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    builder.with_no_client_auth().with_single_cert(chain, key).unwrap()
}

/// One request per connection. Whatever its client does, a test hears of it from the gateway.
fn serve(stream: TcpStream, config: Arc<ServerConfig>, answers: &Answers) {
    let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), stream);
    let mut line = String::new();
    let mut reader = BufReader::new(&mut stream);
    if reader.read_line(&mut line).is_err() {
        return;
    }
    while reader.read_line(&mut line).is_ok_and(|read| read > 2) {}
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    match answers(&path) {
        Some(answer) => {
            let _ = stream.write_all(&answer);
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
        // Until the client gives up.
        None => drop(stream.read(&mut [0])),
    }
}
