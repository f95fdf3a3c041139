//! The queues of one priority level: shuffle sharding over many, fair between them.
//!
//! Each flow is dealt a hand of queues and its request joins the shortest of them, so that a flow that fills its
//! hand leaves most others at least one free queue. The next request is that of the queue with the least virtual
//! time, which advances by the work (seats times seconds) that the queue has had done: what a request will take is
//! guessed when it starts and set right when it ends.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::schema::Schema;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queuing {
    pub queues: usize,
    /// Queues that a flow may use.
    pub hand: usize,
    /// Requests in one queue.
    pub length: usize,
}

impl Queuing {
    /// More queues than upstream's validation allows are not made.
    pub const MOST: usize = 10_000_000;
}

/// A request that waits.
pub struct Waiting<T> {
    pub seats: usize,
    pub flow: u64,
    pub schema: Arc<Schema>,
    pub turn: T,
}

struct Queue<T> {
    requests: VecDeque<(u64, Waiting<T>)>,
    /// Work done for this queue, in seat-seconds; never behind the clock when it fills.
    virtual_time: f64,
}

pub struct Queues<T> {
    queuing: Option<Queuing>,
    /// Only those that have been used.
    queues: ahash::AHashMap<usize, Queue<T>>,
    /// Of the request that was started last.
    clock: f64,
    numbers: u64,
}

/// What a request is thought to take before it has run.
const GUESS: Duration = Duration::from_millis(3);

impl<T> Queues<T> {
    pub fn new(queuing: Option<Queuing>) -> Self {
        Self { queuing, queues: ahash::AHashMap::new(), clock: 0.0, numbers: 0 }
    }

    /// Whether requests may wait at all.
    pub fn exist(&self) -> bool {
        self.queuing.is_some()
    }

    /// Who waits goes on waiting, in the new queues where there are any.
    pub fn configure(&mut self, queuing: Option<Queuing>) {
        self.queuing = queuing;
        if queuing.is_none() {
            return;
        }
        let mut waiting: Vec<_> =
            self.queues.drain().flat_map(|(_, queue)| queue.requests.into_iter()).collect();
        waiting.sort_by_key(|(number, _)| *number);
        for (number, request) in waiting {
            let queue = self.choose(request.flow);
            self.queue(queue).requests.push_back((number, request));
        }
    }

    /// Adds a request to a queue of its flow's hand; a number to find it by, or none if even the shortest is full.
    pub fn push(&mut self, request: Waiting<T>) -> Option<u64> {
        let length = self.queuing?.length;
        let index = self.choose(request.flow);
        if self.length(index) >= length {
            return None;
        }
        self.numbers += 1;
        let number = self.numbers;
        let clock = self.clock;
        let queue = self.queue(index);
        if queue.requests.is_empty() {
            queue.virtual_time = queue.virtual_time.max(clock);
        }
        queue.requests.push_back((number, request));
        Some(number)
    }

    /// Takes a request out again; false if it is not there any more.
    pub fn remove(&mut self, number: u64) -> bool {
        for queue in self.queues.values_mut() {
            // Numbers ascend within a queue.
            if let Ok(at) = queue.requests.binary_search_by_key(&number, |(number, _)| *number) {
                queue.requests.remove(at);
                return true;
            }
        }
        false
    }

    /// The seats of the request whose turn it is.
    pub fn next_seats(&self) -> Option<usize> {
        let (_, queue) = self.next()?;
        queue.requests.front().map(|(_, request)| request.seats)
    }

    /// The request whose turn it is.
    pub fn pop(&mut self) -> Option<Waiting<T>> {
        let (index, _) = self.next()?;
        let queue = self.queues.get_mut(&index)?;
        let (_, request) = queue.requests.pop_front()?;
        self.clock = self.clock.max(queue.virtual_time);
        queue.virtual_time += work(request.seats, GUESS);
        Some(request)
    }

    /// A request that had waited has ended.
    pub fn finished(&mut self, flow: u64, seats: usize, took: Duration) {
        // Charged to the first queue of the hand that is in use: the flow pays, whichever it was.
        let more = work(seats, took) - work(seats, GUESS);
        let hand = self.hand(flow);
        let charged = hand.into_iter().find(|index| self.queues.contains_key(index));
        if let Some(queue) = charged.and_then(|index| self.queues.get_mut(&index)) {
            queue.virtual_time += more;
        }
        self.forget();
    }

    /// Empty queues that owe nothing are as good as new ones.
    fn forget(&mut self) {
        let clock = self.clock;
        if self.queues.values().all(|queue| queue.requests.is_empty()) {
            self.queues.clear();
            self.clock = 0.0;
        } else if self.queues.len() > 1024 {
            self.queues.retain(|_, queue| !queue.requests.is_empty() || queue.virtual_time > clock);
        }
    }

    fn next(&self) -> Option<(usize, &Queue<T>)> {
        self.queues
            .iter()
            .filter(|(_, queue)| !queue.requests.is_empty())
            .map(|(index, queue)| (*index, queue))
            .min_by(|(i, a), (j, b)| a.virtual_time.total_cmp(&b.virtual_time).then(i.cmp(j)))
    }

    /// How many requests wait, in how many queues.
    pub fn waiting(&self) -> (usize, usize) {
        let lengths = self.queues.values().map(|queue| queue.requests.len()).filter(|length| *length > 0);
        lengths.fold((0, 0), |(requests, queues), length| (requests + length, queues + 1))
    }

    /// How many queues there may be.
    pub fn count(&self) -> usize {
        self.queuing.map_or(0, |queuing| queuing.queues)
    }

    /// The queues that are in use: index, seats that are waited for, virtual time and the work that is guessed.
    pub fn each(&self) -> impl Iterator<Item = (usize, (Vec<usize>, f64, f64))> {
        self.queues.iter().map(|(index, queue)| {
            let seats: Vec<usize> = queue.requests.iter().map(|(_, request)| request.seats).collect();
            let guessed = work(seats.iter().sum(), GUESS);
            (*index, (seats, queue.virtual_time, guessed))
        })
    }

    /// The requests that wait: index of the queue, place in it, and the request.
    pub fn requests(&self) -> impl Iterator<Item = (usize, usize, &Waiting<T>)> {
        self.queues.iter().flat_map(|(index, queue)| {
            queue.requests.iter().enumerate().map(|(place, (_, request))| (*index, place, request))
        })
    }

    fn queue(&mut self, index: usize) -> &mut Queue<T> {
        self.queues.entry(index).or_insert_with(|| Queue { requests: VecDeque::new(), virtual_time: 0.0 })
    }

    fn length(&self, index: usize) -> usize {
        self.queues.get(&index).map_or(0, |queue| queue.requests.len())
    }

    fn choose(&self, flow: u64) -> usize {
        self.hand(flow).into_iter().min_by_key(|index| self.length(*index)).unwrap_or(0)
    }

    fn hand(&self, flow: u64) -> Vec<usize> {
        match self.queuing {
            Some(queuing) => deal(flow, queuing.queues, queuing.hand),
            None => vec![0],
        }
    }
}

fn work(seats: usize, time: Duration) -> f64 {
    seats as f64 * time.as_secs_f64()
}

/// `hand` different numbers below `deck`, all hands equally likely.
fn deal(flow: u64, deck: usize, hand: usize) -> Vec<usize> {
    let mut entropy = flow;
    let mut cards: Vec<usize> = Vec::with_capacity(hand.min(deck));
    for dealt in 0..hand.min(deck) {
        let left = (deck - dealt) as u64;
        let mut card = (entropy % left) as usize;
        entropy /= left;
        if entropy == 0 {
            // A large deck and hand use up 64 bits; stretch them.
            entropy = flow.rotate_left(dealt as u32 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        }
        // The card-th of those not yet dealt.
        let mut taken = cards.clone();
        taken.sort_unstable();
        for other in taken {
            if other <= card {
                card += 1;
            }
        }
        cards.push(card);
    }
    cards
}
