//! The way to the issuers of tokens: what `keys` asks for, over the connections that `upstream` makes.

use std::{path::Path, sync::Arc, time::Duration};

use gapura_config::{
    fault::{Fault, Place},
    model::Config,
};
use http::Uri;

use crate::{
    keys::{Page, Web},
    upstream,
    wiring::Gateway,
};

pub(crate) struct Providers(pub(crate) Arc<Gateway>);

/// For each step of a fetch, which is bounded as a whole, too.
const PAUSE: Duration = Duration::from_secs(5);

impl Web for Providers {
    async fn get(&self, uri: &Uri, ca: Option<&Path>, max: u64) -> Result<Page, String> {
        let pingora = self.0.pingora();
        let fetched = upstream::get(&pingora.connector, uri, ca, PAUSE, max).await?;
        Ok(Page { status: fetched.status, location: fetched.location, body: fetched.body })
    }
}

/// Bundles that keys are fetched with and that cannot be read.
pub(crate) fn authorities(config: &Config) -> Vec<Fault> {
    let bundles = config.jwt.iter().filter_map(|(name, jwt)| Some((name, jwt.ca.as_deref()?)));
    let fault = |(name, ca): (&String, &Path)| {
        let why = upstream::read_ca(ca).err()?;
        let place = Place::root().key("jwt").key(name).key("ca");
        let help = "name a readable PEM file with the authority that signs the provider's certificate";
        Some(Fault::at(place, why).help(help))
    };
    bundles.filter_map(fault).collect()
}
