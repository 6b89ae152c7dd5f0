//! The way to AWS KMS: TLS, or within this machine. Keys travel on it.
//!
//! Where KMS is may stand in `[kms]`, in the environment, and in several places of a shared AWS file. So each request is held to
//! this as it leaves, whoever said where it goes.

use std::{env, error::Error, fmt};

use aws_sdk_kms::{
    config::{
        ConfigBag, Intercept, RuntimeComponents, SharedHttpClient, interceptors::BeforeTransmitInterceptorContextRef,
    },
    error::BoxError,
};
use aws_smithy_http_client::{
    Builder, Connector,
    proxy::ProxyConfig,
    tls::{Provider, rustls_provider::CryptoMode},
};
use gapura_config::model::Kms;

use super::answer::Trouble;

/// Lets no request go where others could read it.
#[derive(Debug)]
pub(super) struct Private;

impl Intercept for Private {
    fn name(&self) -> &'static str {
        "Private"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if Kms::is_private(context.request().uri()) { Ok(()) } else { Err(InTheClear.into()) }
    }
}

#[derive(Debug)]
struct InTheClear;

impl Error for InTheClear {}

impl fmt::Display for InTheClear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("keys would travel in the clear")
    }
}

/// Whether [`Private`] has stopped a request.
pub(super) fn was_in_the_clear(error: &(dyn Error + 'static)) -> bool {
    std::iter::successors(Some(error), |&error| error.source()).any(|error| error.is::<InTheClear>())
}

/// As the SDK makes one, but for one thing: what goes in the clear within this machine goes to no proxy.
pub(super) fn http() -> Result<SharedHttpClient, Trouble> {
    let proxy = proxy(|name| env::var(name).ok())?;
    Ok(Builder::new().build_with_connector_fn(move |settings, components| {
        let mut connector = Connector::builder().tls_provider(Provider::Rustls(CryptoMode::AwsLc));
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
        connector.set_proxy_config(Some(proxy.clone()));
        connector.build()
    }))
}

/// Of what goes over TLS, as everybody reads these variables.
fn proxy(variable: impl Fn(&str) -> Option<String>) -> Result<ProxyConfig, Trouble> {
    let first = |names: &[&str]| names.iter().find_map(|name| variable(name)).filter(|value| !value.is_empty());
    let Some(address) = first(&["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]) else {
        return Ok(ProxyConfig::disabled());
    };
    let address = if address.contains("://") { address } else { format!("http://{address}") };
    // The reason would quote the address, and a password with it.
    let proxy = ProxyConfig::https(address.as_str())
        .map_err(|_| Trouble::no("HTTPS_PROXY or ALL_PROXY is no address of a proxy"))?;
    Ok(match first(&["NO_PROXY", "no_proxy"]) {
        Some(hosts) => proxy.no_proxy(hosts),
        None => proxy,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_goes_over_tls_goes_to_a_proxy() {
        let of = |set: &[(&str, &str)]| {
            proxy(|name| set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
        };
        assert!(of(&[]).unwrap().is_disabled());
        assert!(of(&[("HTTP_PROXY", "http://proxy:3128"), ("HTTPS_PROXY", "")]).unwrap().is_disabled());
        for set in [("HTTPS_PROXY", "http://proxy:3128"), ("all_proxy", "proxy:3128")] {
            let shown = format!("{:?}", of(&[set, ("NO_PROXY", "kms.example")]).unwrap());
            assert!(
                shown.contains("Https") && shown.contains("proxy:3128") && shown.contains("kms.example"),
                "{shown}"
            );
        }
        let refused = of(&[("HTTPS_PROXY", "http://a:secret word@")]).unwrap_err().to_string();
        assert!(refused.contains("HTTPS_PROXY") && !refused.contains("secret"), "{refused}");
    }

    #[test]
    fn the_reason_is_found_however_deep_it_lies() {
        assert!(was_in_the_clear(&InTheClear));
        assert!(was_in_the_clear(&Wrapped(Box::new(Wrapped(Box::new(InTheClear))))));
        assert!(!was_in_the_clear(&Wrapped("another".into())));
    }

    #[derive(Debug)]
    struct Wrapped(BoxError);

    impl Error for Wrapped {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&*self.0)
        }
    }

    impl fmt::Display for Wrapped {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("wrapped")
        }
    }
}
