//! Answers to Get, GetNext and GetBulk.
//!
//! A single Get is answered from the latest view. A walk is many GetNext, each of which begins with
//! the name that the one before ended with: by that name the walk is recognised, and it goes on in
//! the snapshot it began with, so that rows neither vanish nor appear in its midst. After
//! [`HOLD`] without a further step, or [`LONGEST_WALK`] in all, the snapshot is let go.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use vedette_core::time::{Instant, WallTime};
use vedette_core::view::Source;

use crate::oid::Oid;
use crate::pdu::SearchRange;
use crate::snapshot::{Place, Snapshot, place};
use crate::stamp::TimeBase;
use crate::table::Object;
use crate::tables::{cluster, objects};
use crate::value::Value;

/// How long a walk that does not go on is remembered.
const HOLD: Duration = Duration::from_secs(5);

/// How long a walk may stay with one snapshot.
const LONGEST_WALK: Duration = Duration::from_secs(60);

/// How many walks are remembered at most; a walk that is forgotten goes on in the latest snapshot.
const MOST_WALKS: usize = 1_024;

/// A large snapshot is not made anew before this many times as long as it took is over, so that a
/// huge and busy cluster cannot keep this thread from answering.
const REST: u32 = 4;

/// Snapshots of fewer variables than this are made as often as anybody likes.
const LARGE: usize = 10_000;

/// A walk: where it is is the key in [`Answers::walks`].
struct Walk {
    snapshot: Arc<Snapshot>,
    began: Instant,
    stepped: Instant,
}

/// What answers a request. Told the time by its caller.
pub struct Answers {
    source: Arc<dyn Source>,
    objects: Vec<Object>,
    base: TimeBase,
    /// The moment of the present request, and the wall clock at the last look.
    now: Instant,
    wall: (Instant, WallTime),
    latest: Option<Arc<Snapshot>>,
    /// When the latest snapshot was complete, and how long it took.
    built: (Instant, Duration),
    builds: u64,
    walks: HashMap<Oid, Walk>,
}

impl Answers {
    /// Answers from what `source` shows.
    pub fn new(source: Arc<dyn Source>) -> Self {
        Self {
            source,
            objects: objects(),
            base: TimeBase::default(),
            now: Instant::ZERO,
            wall: (Instant::ZERO, WallTime::default()),
            latest: None,
            built: (Instant::ZERO, Duration::ZERO),
            builds: 0,
            walks: HashMap::new(),
        }
    }

    /// Takes in that `sysUpTime` was `uptime` at `now`, for objects of type `TimeStamp`.
    pub fn learn_uptime(&mut self, uptime: u32, now: Instant) {
        self.base.learn(uptime, now);
    }

    /// The master agent may be another one from now on.
    pub fn doubt_uptime(&mut self) {
        self.base.doubt();
    }

    /// Sees what changed, at `now` when the wall clock shows `wall`; cheap if nothing did. The sooner
    /// after a change, the better objects of type `TimeStamp` are.
    pub fn look(&mut self, now: Instant, wall: WallTime) {
        self.wall = (now, wall);
        self.base.look(&self.source.view(), now, wall);
    }

    /// How many snapshots were made.
    pub fn builds(&self) -> u64 {
        self.builds
    }

    /// The snapshot of the latest view; made anew only if the view is another one.
    pub fn latest(&mut self, now: Instant, clock: impl Fn() -> Instant) -> Arc<Snapshot> {
        let view = self.source.view();
        let (looked, wall) = self.wall;
        self.now = now;
        self.base.look(&view, now, wall.plus(now.since(looked)));
        if let Some(latest) = &self.latest {
            let same = Arc::ptr_eq(latest.view(), &view) && latest.started() == self.base.started();
            let (at, took) = self.built;
            let tired = latest.len() >= LARGE && now.since(at) < took * REST;
            if same || tired {
                return Arc::clone(latest);
            }
        }
        let snapshot = Arc::new(Snapshot::build(view, &self.base, self.latest.as_deref()));
        let done = clock();
        self.built = (done, done.since(now));
        self.builds += 1;
        self.latest = Some(Arc::clone(&snapshot));
        snapshot
    }

    /// The value of one variable, or why there is none (RFC 2741, 7.2.3.1).
    pub fn get(&self, snapshot: &Snapshot, name: &Oid) -> Value {
        let Place::Inside(suffix) = place(name) else { return Value::NoSuchObject };
        match snapshot.get(suffix) {
            Some(value) => self.live(suffix, value),
            None if self.is_object(suffix) => Value::NoSuchInstance,
            None => Value::NoSuchObject,
        }
    }

    /// Whether the name is that of an object or of something below one.
    fn is_object(&self, suffix: &[u32]) -> bool {
        let place = self.objects.partition_point(|object| object.suffix.as_slice() <= suffix);
        place > 0 && suffix.starts_with(&self.objects[place - 1].suffix)
    }

    /// A value that changes by itself is made now.
    fn live(&self, suffix: &[u32], value: &Value) -> Value {
        let age = match suffix {
            cluster::DATA_AGE | cluster::UNKNOWN_FOR => self.source.stale(),
            cluster::LOG_STALLED_FOR => {
                let since = self.source.view().local.log.stalled_since;
                since.map_or(Duration::ZERO, |since| self.base.age(since, self.now))
            }
            _ => return value.clone(),
        };
        Value::TimeTicks(u32::try_from(age.as_millis() / 10).unwrap_or(u32::MAX))
    }

    /// The first variable in the range, if there is one (RFC 2741, 7.2.3.2).
    pub fn next(
        &mut self,
        latest: &Arc<Snapshot>,
        now: Instant,
        range: &SearchRange,
    ) -> Option<(Oid, Value)> {
        let (suffix, include): (&[u32], bool) = match place(&range.start) {
            Place::Before => (&[], true),
            Place::Inside(suffix) => (suffix, range.include),
            Place::Behind => return None,
        };
        let walk = self
            .walks
            .remove(&range.start)
            .filter(|walk| now.since(walk.stepped) < HOLD && now.since(walk.began) < LONGEST_WALK);
        let (snapshot, began) =
            walk.map_or_else(|| (Arc::clone(latest), now), |walk| (walk.snapshot, walk.began));
        let (found, value) = snapshot.next(suffix, include)?;
        let name = Oid::in_module(found);
        if !range.end.is_null() && name >= range.end {
            return None;
        }
        let value = self.live(found, value);
        self.remember(name.clone(), Walk { snapshot, began, stepped: now });
        Some((name, value))
    }

    fn remember(&mut self, name: Oid, walk: Walk) {
        if self.walks.len() >= MOST_WALKS {
            let now = walk.stepped;
            self.walks.retain(|_, walk| now.since(walk.stepped) < HOLD);
            if self.walks.len() >= MOST_WALKS {
                self.walks.clear();
            }
        }
        self.walks.insert(name, walk);
    }

    /// Lets go of walks that are over.
    pub fn forget_walks(&mut self, now: Instant) {
        self.walks.retain(|_, walk| now.since(walk.stepped) < HOLD);
    }
}
