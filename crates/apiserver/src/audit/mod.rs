//! Who did what, when: events by policy, to a file and to a webhook.

pub mod options;
