//! One way to say who calls, whatever its kind.

use std::{collections::BTreeSet, sync::Arc};

use gapura_config::{fault::Fault, model};

use super::{ApiKeysMethod, ForeignTables, HeldTables, JwtMethod, KeySets, Revocations, mtls::MtlsMethod};
use crate::{contract::KeyReader, keyring::Keyrings};

/// A `[jwt.NAME]`, `[mtls.NAME]` or `[api_keys.NAME]`, compiled. Built once per policy; a clone shares it.
#[derive(Debug, Clone)]
pub enum Method {
    Jwt(Arc<JwtMethod>),
    Mtls(Arc<MtlsMethod>),
    ApiKeys(Arc<ApiKeysMethod>),
}

impl Method {
    pub fn jwt(name: &str, config: &model::Jwt, key_sets: &KeySets) -> Result<Self, Vec<Fault>> {
        JwtMethod::build(name, config, key_sets, &KeyReader::default()).map(|method| Self::Jwt(Arc::new(method)))
    }

    /// With what all methods share.
    pub fn jwt_with(name: &str, config: &model::Jwt, shared: &Shared) -> Result<Self, Vec<Fault>> {
        let method = JwtMethod::build(name, config, &shared.key_sets, &shared.keys)?;
        let method = method.keeping(&shared.kept).heeding(&shared.revocations);
        Ok(Self::Jwt(Arc::new(method.decrypting(config, &shared.keyrings)?)))
    }

    pub fn mtls(name: &str, config: &model::Mtls) -> Result<Self, Vec<Fault>> {
        MtlsMethod::build(name, config).map(|method| Self::Mtls(Arc::new(method)))
    }

    pub fn api_keys(name: &str, config: &model::ApiKeys) -> Result<Self, Vec<Fault>> {
        ApiKeysMethod::build(name, config, &KeyReader::default()).map(|method| Self::ApiKeys(Arc::new(method)))
    }

    /// With the keys of its database, where it has one.
    pub fn api_keys_with(name: &str, config: &model::ApiKeys, shared: &Shared) -> Result<Self, Vec<Fault>> {
        let method = ApiKeysMethod::build(name, config, &shared.keys)?;
        let method = method.holding(&shared.held_keys, config.database.as_ref())?;
        Ok(Self::ApiKeys(Arc::new(method.asking(&shared.foreign_keys, config)?)))
    }

    /// As routes name it and principals carry it: `jwt.users`, `api_keys.developers`.
    pub fn name(&self) -> &Arc<str> {
        match self {
            Self::Jwt(method) => method.name(),
            Self::Mtls(method) => method.name(),
            Self::ApiKeys(method) => method.name(),
        }
    }

    /// What works and yet should be changed: a short secret, say.
    pub fn warnings(&self) -> &[Fault] {
        match self {
            Self::Jwt(method) => method.warnings(),
            Self::Mtls(_) => &[],
            Self::ApiKeys(method) => method.warnings(),
        }
    }

    pub(super) fn explain(&self) -> String {
        match self {
            Self::Jwt(method) => method.explain(),
            Self::Mtls(method) => method.explain(),
            Self::ApiKeys(method) => method.explain(),
        }
    }
}

/// What the methods of a policy share.
#[derive(Clone, Default)]
pub struct Shared {
    pub key_sets: Arc<KeySets>,
    pub revocations: Arc<Revocations>,
    pub held_keys: Arc<HeldTables>,
    pub foreign_keys: Arc<ForeignTables>,
    /// Reads secrets and salts.
    pub keys: KeyReader,
    /// What tokens may be encrypted to.
    pub keyrings: Arc<Keyrings>,
    /// Claims that guards ask for, named as in `claims`: principals keep them.
    pub kept: BTreeSet<String>,
}
