//! Whom a question goes to: the one server, or the primary of a Cluster that has the keys.

use std::{future::Future, sync::Arc};

use redis::RedisResult;

use super::{
    cluster::{self, Cluster},
    link::{Down, Link},
    road::Road,
};

#[derive(Clone)]
pub(super) enum Servers {
    One(Arc<Link>),
    Cluster(Arc<Cluster>),
}

impl Servers {
    /// Keys with different tags may stand on different servers.
    pub(super) fn are_several(&self) -> bool {
        matches!(self, Self::Cluster(_))
    }

    pub(super) fn link(&self, tag: &str) -> Option<Arc<Link>> {
        match self {
            Self::One(link) => Some(link.clone()),
            Self::Cluster(cluster) => cluster.link(cluster::slot(tag)),
        }
    }

    /// Puts one question about keys with this tag, within the budget; where they have moved meanwhile, or are on their way, once more.
    pub(super) async fn ask<T, F>(&self, tag: &str, question: impl Fn(Road) -> F) -> Result<T, Down>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let link = self.link(tag).ok_or(Down::Silent)?;
        match (link.ask(&question).await, self) {
            (Err(Down::Moved(to)), Self::Cluster(cluster)) => {
                cluster.named(&to).ok_or(Down::Silent)?.ask(&question).await
            }
            (Err(Down::Leaving(to)), Self::Cluster(cluster)) => {
                cluster.named(&to).ok_or(Down::Silent)?.ask_ahead(&question).await
            }
            (answer, _) => answer,
        }
    }
}
