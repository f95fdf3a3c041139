//! A priority level: seats, and the requests that sit on them or wait for one.
//!
//! Seats are taken by an atomic addition as long as nobody waits. Who finds none takes the lock of the queues; who
//! leaves takes it only if somebody waits. Both look again at what the other has written before they go: the number
//! of waiting requests is raised before the seats are tried again, and lowered seats are published before the
//! number is read (all sequentially consistent), so that no free seat and waiting request can miss each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use http::HeaderValue;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::{Notify, oneshot};

use super::dump::Asked;
use super::queue::{Queues, Queuing, Waiting};
use super::schema::Schema;

/// Why a request was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The level has no queues.
    Limit,
    QueueFull,
    TimeOut,
}

/// What a PriorityLevelConfiguration says.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub name: String,
    pub uid: String,
    pub exempt: bool,
    /// Out of the shares of all levels.
    pub shares: u64,
    pub lendable_percent: u64,
    /// Of its own seats, how many it may borrow; as many as there are without.
    pub borrowing_percent: Option<u64>,
    /// None turns away what finds no seat.
    pub queuing: Option<Queuing>,
}

impl Settings {
    pub fn read(object: &Value) -> Option<Self> {
        let spec = &object["spec"];
        let exempt = spec["type"].as_str()? == "Exempt";
        let of = if exempt { &spec["exempt"] } else { &spec["limited"] };
        let shares = of["nominalConcurrencyShares"].as_u64().unwrap_or(if exempt { 0 } else { 30 });
        let response = &of["limitResponse"];
        let number = |field: &str, default: u64| {
            let value = response["queuing"][field].as_u64().unwrap_or(default);
            usize::try_from(value).unwrap_or(usize::MAX)
        };
        let queuing = (response["type"].as_str() == Some("Queue")).then(|| Queuing {
            queues: number("queues", 64).clamp(1, Queuing::MOST),
            hand: number("handSize", 8).max(1),
            length: number("queueLengthLimit", 50).max(1),
        });
        Some(Self {
            name: object["metadata"]["name"].as_str()?.to_owned(),
            uid: object["metadata"]["uid"].as_str().unwrap_or_default().to_owned(),
            exempt,
            shares,
            lendable_percent: of["lendablePercent"].as_u64().unwrap_or(0).min(100),
            borrowing_percent: of["borrowingLimitPercent"].as_u64(),
            queuing,
        })
    }
}

/// How many seats a level has of its own, keeps in any case, and may have at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shares {
    pub nominal: usize,
    pub lower: usize,
    pub upper: usize,
}

pub struct Level {
    name: Box<str>,
    uid: Option<HeaderValue>,
    exempt: bool,
    settings: ArcSwap<Settings>,
    shares: Mutex<Shares>,
    /// Seats there are now, with what is lent and borrowed.
    limit: AtomicUsize,
    taken: AtomicUsize,
    /// Requests in the queues.
    waiting: AtomicUsize,
    /// The most seats that were taken and asked for since it was last looked at.
    demand: AtomicUsize,
    queues: Mutex<Queues<Turn>>,
    scarce: Arc<Notify>,
}

/// A waiting request: how it is told that it has seats, and what it asks for.
pub struct Turn {
    told: oneshot::Sender<Seats>,
    pub asked: Asked,
}

/// Seats that are taken, until this is dropped.
pub struct Seats {
    level: Arc<Level>,
    count: usize,
    schema: Arc<Schema>,
    since: Instant,
    flow: Option<u64>,
}

impl Level {
    pub fn new(settings: &Settings, scarce: Arc<Notify>) -> Arc<Self> {
        Arc::new(Self {
            name: settings.name.as_str().into(),
            uid: HeaderValue::from_str(&settings.uid).ok().filter(|uid| !uid.is_empty()),
            exempt: settings.exempt,
            shares: Mutex::default(),
            limit: AtomicUsize::new(1),
            taken: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            demand: AtomicUsize::new(0),
            queues: Mutex::new(Queues::new(settings.queuing)),
            settings: ArcSwap::from_pointee(settings.clone()),
            scarce,
        })
    }

    /// Whether these are settings of the same object.
    pub fn is(&self, settings: &Settings) -> bool {
        let before = self.settings.load();
        before.name == settings.name && before.uid == settings.uid && before.exempt == settings.exempt
    }

    pub fn configure(&self, settings: Settings) {
        let before = self.settings.load();
        if before.queuing != settings.queuing {
            self.queues.lock().configure(settings.queuing);
        }
        drop(before);
        self.settings.store(Arc::new(settings));
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn uid(&self) -> Option<&HeaderValue> {
        self.uid.as_ref()
    }

    pub fn is_exempt(&self) -> bool {
        self.exempt
    }

    pub fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    pub fn shares(&self) -> Shares {
        *self.shares.lock()
    }

    pub fn set_shares(&self, shares: Shares) {
        *self.shares.lock() = shares;
    }

    pub fn limit(&self) -> usize {
        self.limit.load(SeqCst)
    }

    /// Changes how many seats there are; who waits may get one.
    pub fn set_limit(self: &Arc<Self>, limit: usize) {
        self.limit.store(limit, SeqCst);
        if self.waiting.load(SeqCst) > 0 {
            self.dispatch();
        }
    }

    /// The most seats wanted at once since the last call of [`Self::take_demand`].
    pub fn demand(&self) -> usize {
        self.demand.load(SeqCst)
    }

    pub fn take_demand(&self) -> usize {
        self.demand.swap(self.taken.load(SeqCst), SeqCst)
    }

    /// No request may take more: a long list must leave seats to others.
    pub fn most_seats(&self) -> usize {
        (self.shares.lock().nominal * 15).div_ceil(100).max(1)
    }

    /// Seats without waiting.
    pub fn try_enter(self: &Arc<Self>, seats: usize, schema: &Arc<Schema>) -> Option<Seats> {
        if self.exempt {
            self.taken.fetch_add(seats, SeqCst);
        } else if self.waiting.load(SeqCst) > 0 || !self.take(seats) {
            return None;
        }
        Some(self.seated(seats, schema, None))
    }

    fn seated(self: &Arc<Self>, count: usize, schema: &Arc<Schema>, flow: Option<u64>) -> Seats {
        let now_taken = self.taken.load(SeqCst);
        self.wants(now_taken);
        schema.metrics.begun(count);
        Seats { level: self.clone(), count, schema: schema.clone(), since: Instant::now(), flow }
    }

    fn wants(&self, seats: usize) {
        // Most of the time it has been as high before: reading costs nothing.
        if self.demand.load(SeqCst) < seats {
            self.demand.fetch_max(seats, SeqCst);
        }
    }

    fn take(&self, seats: usize) -> bool {
        let limit = self.limit.load(SeqCst);
        let fits = |taken: usize| {
            // What needs more than there are goes when it is alone.
            (taken + seats <= limit || (taken == 0 && limit > 0)).then_some(taken + seats)
        };
        self.taken.fetch_update(SeqCst, SeqCst, fits).is_ok()
    }

    /// Waits for seats.
    pub async fn wait(
        self: &Arc<Self>,
        seats: usize,
        flow: u64,
        schema: &Arc<Schema>,
        asked: Asked,
        patience: Duration,
    ) -> Result<Seats, Refusal> {
        if self.exempt {
            return self.try_enter(seats, schema).ok_or(Refusal::Limit);
        }
        self.wants(self.taken.load(SeqCst) + self.waiting.load(SeqCst) + seats);
        self.scarce.notify_one();
        let (teller, told) = oneshot::channel();
        let number = {
            let mut queues = self.queues.lock();
            if !queues.exist() {
                drop(queues);
                return self.try_enter(seats, schema).ok_or(Refusal::Limit);
            }
            let turn = Turn { told: teller, asked };
            let waiting = Waiting { seats, flow, schema: schema.clone(), turn };
            let number = queues.push(waiting).ok_or(Refusal::QueueFull)?;
            self.waiting.fetch_add(1, SeqCst);
            schema.metrics.queued();
            number
        };
        let mut place = Place { level: self, number: Some(number), schema, late: false };
        self.dispatch();
        match tokio::time::timeout(patience, told).await {
            Ok(Ok(seats)) => {
                place.number = None;
                Ok(seats)
            }
            // The sender is dropped when the queues are closed.
            Ok(Err(_)) => {
                place.number = None;
                Err(Refusal::Limit)
            }
            Err(_) => {
                place.late = true;
                Err(Refusal::TimeOut)
            }
        }
    }

    /// Looks at the queues.
    pub fn look<R>(&self, look: impl FnOnce(&Queues<Turn>) -> R) -> R {
        look(&self.queues.lock())
    }

    /// Gives free seats to those who wait.
    fn dispatch(self: &Arc<Self>) {
        loop {
            let mut queues = self.queues.lock();
            let Some(wanted) = queues.next_seats() else {
                return;
            };
            if !self.take(wanted) {
                return;
            }
            let Some(Waiting { seats, flow, schema, turn }) = queues.pop() else {
                self.taken.fetch_sub(wanted, SeqCst);
                return;
            };
            drop(queues);
            self.waiting.fetch_sub(1, SeqCst);
            schema.metrics.unqueued();
            let seats = self.seated(seats, &schema, Some(flow));
            // Who has gone away meanwhile drops them here; that dispatches again.
            if let Err(seats) = turn.told.send(seats) {
                // Dropping calls this function: not from within itself, or the stack might grow with the queue.
                seats.leave();
            }
        }
    }

    fn left(&self, count: usize, schema: &Schema, since: Instant, flow: Option<u64>) {
        let took = since.elapsed();
        schema.metrics.ended(count, took);
        if let Some(flow) = flow {
            self.queues.lock().finished(flow, count, took);
        }
        self.taken.fetch_sub(count, SeqCst);
    }
}

impl Seats {
    /// Gives the seats back without passing them on.
    fn leave(mut self) {
        self.level.left(self.count, &self.schema, self.since, self.flow);
        self.count = 0;
    }
}

impl Drop for Seats {
    fn drop(&mut self) {
        if self.count == 0 {
            return;
        }
        self.level.left(self.count, &self.schema, self.since, self.flow);
        if self.level.waiting.load(SeqCst) > 0 {
            self.level.dispatch();
        }
    }
}

/// A place in a queue: given up when its request goes away before its turn.
struct Place<'a> {
    level: &'a Arc<Level>,
    number: Option<u64>,
    schema: &'a Arc<Schema>,
    /// Its time was up; otherwise whoever asked has gone.
    late: bool,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number
            && self.level.queues.lock().remove(number)
        {
            self.level.waiting.fetch_sub(1, SeqCst);
            self.schema.metrics.unqueued();
            if !self.late {
                self.schema.metrics.cancelled();
            }
        }
    }
}
