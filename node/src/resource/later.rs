//! Kinds of resources that this release cannot handle yet: they say so.

use futures_util::future::BoxFuture;
use vedette_core::document::Finding;

use super::{Context, Detail, Failure, Health, Reach, Resource, error};

/// A resource that is refused.
pub(super) struct Later(pub(super) String);

impl Later {
    fn refusal<T>(&self) -> Result<T, Failure> {
        let why = format!("resources like {} cannot be handled yet", self.0);
        Err(Failure::new(why, "Take it out of its group.").reaching(Reach::Cluster))
    }
}

impl Resource for Later {
    fn start<'a>(&'a self, _: &'a Context) -> BoxFuture<'a, Result<Detail, Failure>> {
        Box::pin(async { self.refusal() })
    }

    fn stop<'a>(&'a self, _: &'a Context) -> BoxFuture<'a, Result<Detail, Failure>> {
        Box::pin(async { self.refusal() })
    }

    fn monitor<'a>(&'a self, _: &'a Context) -> BoxFuture<'a, Result<Health, Failure>> {
        Box::pin(async { self.refusal() })
    }

    fn verify<'a>(&'a self, _: &'a Context) -> BoxFuture<'a, Vec<Finding>> {
        let refused = self.refusal::<()>().err();
        Box::pin(async { refused.map(|f| error(&self.0, f.why, f.advice)).into_iter().collect() })
    }
}
