//! Keys of AWS KMS for whoever compiles a configuration.

use std::{
    sync::{Arc, OnceLock, mpsc},
    thread,
    time::{Duration, Instant},
};

use gapura_config::{model, secret::SecretRef};
use gapura_filters::{
    contract::{KeyService, Leased, Purpose, RemoteKey, ciphertext},
    metrics::Metrics,
};
use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle};

use super::{
    answer::Trouble,
    client::Client,
    key::Key,
    lease::{self, Lease},
};

pub(super) struct Service {
    client: Arc<Client>,
    /// The last silence: whoever asks next within a moment is told the same, so that a file with many keys does not wait once
    /// for each.
    silence: Mutex<Option<(Instant, Trouble)>>,
}

const MOMENT: Duration = Duration::from_secs(1);

impl Service {
    pub(super) fn new(config: &model::Kms, metrics: &Arc<Metrics>) -> Self {
        Self { client: Arc::new(Client::new(config, metrics)), silence: Mutex::new(None) }
    }

    /// Asks, and waits for the answer: on a thread that may.
    fn ask<T, F, A>(&self, question: F) -> Result<T, Trouble>
    where
        T: Send + 'static,
        F: FnOnce(Arc<Client>) -> A,
        A: Future<Output = Result<T, Trouble>> + Send + 'static,
    {
        if let Some((at, trouble)) = &*self.silence.lock()
            && at.elapsed() < MOMENT
        {
            return Err(trouble.clone());
        }
        let (tell, told) = mpsc::sync_channel(1);
        let asking = question(Arc::clone(&self.client));
        let runtime = runtime().map_err(|_| Trouble::away("no thread can be started"))?;
        runtime.spawn(async move {
            // Nobody waits any longer: nobody minds.
            let _ = tell.send(asking.await);
        });
        let longest = self.client.patience() + Duration::from_secs(1);
        let answer = told.recv_timeout(longest).unwrap_or(Err(Trouble::away("no answer in time")));
        if let Err(trouble @ Trouble::Away(_)) = &answer {
            *self.silence.lock() = Some((Instant::now(), trouble.clone()));
        }
        answer
    }
}

impl KeyService for Service {
    fn open(&self, reference: &SecretRef) -> Result<Leased, String> {
        let ciphertext = ciphertext(reference)?;
        let (asked, sent) = (Instant::now(), ciphertext.clone());
        let secret = self.ask(|client| async move { client.open(&sent).await }).map_err(|why| why.to_string())?;
        let lease = Lease::new(reference.to_string(), asked, &self.client);
        if let Ok(runtime) = runtime() {
            runtime.spawn(lease::keep(Arc::clone(&self.client), Arc::downgrade(&lease), ciphertext));
        }
        Ok(Leased { secret, lease })
    }

    fn key(&self, id: &str, purpose: Purpose) -> Result<Arc<dyn RemoteKey>, String> {
        let asked = id.to_owned();
        let found = self.ask(|client| async move { client.public_key(&asked).await }).map_err(|why| why.to_string())?;
        Ok(Arc::new(Key::new(Arc::clone(&self.client), found, purpose)?))
    }
}

/// The thread that KMS is spoken to on, from the first question to the end of the process: connections outlive a reload, and no
/// thread that serves waits for a TLS handshake of the SDK.
pub(super) fn runtime() -> Result<&'static Handle, ()> {
    static RUNTIME: OnceLock<Option<Handle>> = OnceLock::new();
    let started = RUNTIME.get_or_init(|| {
        let runtime = Builder::new_current_thread().enable_all().build().ok()?;
        let handle = runtime.handle().clone();
        let serving =
            thread::Builder::new().name("kms".into()).spawn(move || runtime.block_on(std::future::pending::<()>()));
        serving.ok().map(|_| handle)
    });
    started.as_ref().ok_or(())
}
