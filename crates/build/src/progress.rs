//! What a build tells while it goes on.

use std::sync::Arc;

/// What happens.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// An instruction is begun: which of how many.
    Step { number: usize, total: usize, text: String },
    /// The instruction's result was there from before.
    Cached,
    /// A line that a command wrote.
    Output(String),
    /// An image has to be fetched.
    Pull(String),
}

/// Where events go.
#[derive(Clone)]
pub struct Printer(Arc<dyn Fn(Event) + Send + Sync>);

impl Printer {
    pub fn new(print: impl Fn(Event) + Send + Sync + 'static) -> Self {
        Self(Arc::new(print))
    }

    pub fn tell(&self, event: Event) {
        (self.0)(event);
    }

    pub fn output(&self, line: &str) {
        self.tell(Event::Output(line.to_owned()));
    }
}
