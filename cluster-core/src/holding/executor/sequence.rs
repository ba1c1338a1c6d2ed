//! Steps that wait for inputs, written down as what they are: one after the other.
//!
//! Bringing a group up or taking it away is a sequence with a branch at each step, and as a table of states nobody
//! can read it. So it is an `async` block here, and still a machine: nothing of it runs by itself. It is resumed after
//! each input, goes as far as it can, and waits for a question to the desk to have an answer; the
//! moments at which a question will have one without any input are its deadline. There are no threads, no
//! runtime and no wakers: whoever drives it resumes it. The locks are never waited for: they say to the compiler what
//! the machine's `&mut self` sees to, that one at a time looks at what its sequences share.

#![expect(clippy::disallowed_types, reason = "a machine may be handed to another thread")]

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::desk::Desk;
use super::values::{Action, Done, Output};
use crate::group::ResourceDef;
use crate::time::Instant;

/// What sequences see of the world: what is known here, and where effects go.
#[derive(Clone, Debug)]
pub(super) struct Port {
    desk: Arc<Mutex<Desk>>,
    out: Arc<Mutex<Vec<Output>>>,
    /// Counts questions that were answered: as long as it grows, somebody may get further.
    steps: Arc<AtomicU64>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Port {
    pub(super) fn new(desk: Desk) -> Self {
        Self { desk: Arc::new(Mutex::new(desk)), out: Arc::default(), steps: Arc::default() }
    }

    /// What is known here. Nothing is awaited while it is held.
    pub(super) fn desk(&self) -> MutexGuard<'_, Desk> {
        lock(&self.desk)
    }

    /// Has something done.
    pub(super) fn put(&self, output: Output) {
        lock(&self.out).push(output);
    }

    /// Everything that is to be done, in order.
    pub(super) fn take(&self) -> Vec<Output> {
        std::mem::take(&mut lock(&self.out))
    }

    /// Answered questions so far.
    pub(super) fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    /// Somebody got further, and others may now.
    pub(super) fn step(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits until a question has an answer.
    pub(super) async fn wait<T>(&self, mut ask: impl FnMut(&mut Desk) -> Option<T>) -> T {
        let answer =
            std::future::poll_fn(|_| ask(&mut self.desk()).map_or(Poll::Pending, Poll::Ready));
        let answer = answer.await;
        self.step();
        answer
    }

    /// Waits until a moment.
    pub(super) async fn wait_until(&self, at: Instant) {
        self.wait(|desk| desk.is_past(at).then_some(())).await;
    }

    /// Begins something that takes time; [`Operating::take`] has its outcome.
    pub(super) fn begin(
        &self,
        desk: &mut Desk,
        (group, token): (&str, u64),
        action: Action,
        resource: &ResourceDef,
    ) -> Operating {
        let id = desk.open();
        let (group, resource) = (group.to_owned(), Box::new(resource.clone()));
        self.put(Output::Do { id, group, token, action, resource });
        Operating { id, ended: false, out: self.out.clone() }
    }

    /// Does something that takes time.
    pub(super) async fn act(
        &self,
        of: (&str, u64),
        action: Action,
        resource: &ResourceDef,
    ) -> Done {
        let mut operating = self.begin(&mut self.desk(), of, action, resource);
        self.wait(|desk| operating.take(desk)).await
    }
}

/// Something that is being done. Whoever loses interest in it, as a sequence that is interrupted does, ends it.
#[derive(Debug)]
pub(super) struct Operating {
    id: u64,
    ended: bool,
    out: Arc<Mutex<Vec<Output>>>,
}

impl Operating {
    /// Its outcome, as soon as there is one.
    pub(super) fn take(&mut self, desk: &mut Desk) -> Option<Done> {
        let done = desk.close(self.id)?;
        self.ended = true;
        Some(done)
    }
}

impl Drop for Operating {
    fn drop(&mut self) {
        if !self.ended {
            lock(&self.out).push(Output::Cancel { id: self.id });
        }
    }
}

/// A sequence that was begun.
pub(super) struct Sequence(Option<Pin<Box<dyn Future<Output = ()> + Send>>>);

impl std::fmt::Debug for Sequence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Sequence").field(&self.0.is_some()).finish()
    }
}

impl Sequence {
    pub(super) fn new(steps: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(Some(Box::pin(steps)))
    }

    /// Goes as far as it can; answers whether it is over.
    pub(super) fn resume(&mut self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        let over = self.0.as_mut().is_none_or(|it| it.as_mut().poll(&mut context).is_ready());
        if over {
            self.0 = None;
        }
        over
    }
}

/// What came first.
pub(super) enum Either<A, B> {
    First(A),
    Second(B),
}

/// The first of two that ends; the other one is given up.
pub(super) async fn either<A, B>(
    first: impl Future<Output = A>,
    second: impl Future<Output = B>,
) -> Either<A, B> {
    let (mut first, mut second) = (std::pin::pin!(first), std::pin::pin!(second));
    std::future::poll_fn(|context| {
        if let Poll::Ready(done) = first.as_mut().poll(context) {
            return Poll::Ready(Either::First(done));
        }
        second.as_mut().poll(context).map(Either::Second)
    })
    .await
}
