//! The way to the issuers of tokens and of API keys: what `keys` and `issuers` ask for, over the connections that `upstream` makes.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use gapura_config::{
    fault::{Fault, Place},
    model::Config,
};
use http::{StatusCode, Uri};

use crate::{
    issuers::{Destination, Posts},
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
        let body = fetched.body.ok_or_else(|| format!("`{uri}`: the answer is larger than {max} bytes"))?;
        Ok(Page { status: fetched.status, location: fetched.location, body })
    }
}

impl Posts for Providers {
    async fn post(&self, to: &Destination, form: &[u8], max: u64) -> Result<(StatusCode, Option<Bytes>), String> {
        let (pingora, sent) = (self.0.pingora(), (to.authorization.as_ref(), form));
        let said = upstream::post(&pingora.connector, &to.uri, to.ca.as_deref(), sent, (PAUSE, max)).await?;
        Ok((said.status, said.body))
    }
}

/// Bundles that keys are fetched with and that cannot be read.
pub(crate) fn authorities(config: &Config) -> Vec<Fault> {
    let bundles = config.jwt.iter().filter_map(|(name, jwt)| Some((name, jwt.ca.as_deref()?)));
    let bundles = bundles.map(|(name, ca)| (Place::root().key("jwt").key(name).key("ca"), ca));
    let endpoints = config.api_keys.iter().filter_map(|(name, keys)| {
        let place = Place::root().key("api_keys").key(name).key("introspection").key("ca");
        Some((place, keys.introspection.as_ref()?.ca.as_deref()?))
    });
    let fault = |(place, ca): (Place, &Path)| {
        let why = upstream::read_ca(ca).err()?;
        let help = "name a readable PEM file with the authority that signs the provider's certificate";
        Some(Fault::at(place, why).help(help))
    };
    bundles.chain(endpoints).filter_map(fault).collect()
}
