//! `/debug/api_priority_and_fairness`: the levels, their queues and the requests in them, as tables that people and
//! scripts read.
//!
//! Requests that are being worked on are counted, not listed: nobody keeps a record of those that did not wait.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::FlowControl;
use super::level::{Level, Turn};
use super::metrics::Totals;
use super::queue::Waiting;
use crate::UserInfo;
use crate::options::Query;
use crate::request::RequestInfo;

const ROOT: &str = "/debug/api_priority_and_fairness/";

/// Empty queues beyond this many are not listed: there may be millions.
const MAX_EMPTY: usize = 1024;

const LEVELS: [&str; 10] = [
    "PriorityLevelName",
    "ActiveQueues",
    "IsIdle",
    "IsQuiescing",
    "WaitingRequests",
    "ExecutingRequests",
    "DispatchedRequests",
    "RejectedRequests",
    "TimedoutRequests",
    "CancelledRequests",
];
const QUEUES: [&str; 9] = [
    "PriorityLevelName",
    "Index",
    "PendingRequests",
    "ExecutingRequests",
    "SeatsInUse",
    "NextDispatchR",
    "InitialSeatsSum",
    "MaxSeatsSum",
    "TotalWorkSum",
];
/// With upstream's spelling.
const REQUESTS: [&str; 10] = [
    "PriorityLevelName",
    "FlowSchemaName",
    "QueueIndex",
    "RequestIndexInQueue",
    "FlowDistingsher",
    "ArriveTime",
    "InitialSeats",
    "FinalSeats",
    "AdditionalLatency",
    "StartTime",
];
const DETAILS: [&str; 8] =
    ["UserName", "Verb", "APIPath", "Namespace", "Name", "APIVersion", "Resource", "SubResource"];

/// What is remembered of a request while it waits.
pub struct Asked {
    arrived: Timestamp,
    /// What tells its flow from others of its schema.
    distinguisher: String,
    user: String,
    info: RequestInfo,
}

impl Asked {
    pub fn new(distinguisher: &str, info: &RequestInfo, user: &UserInfo) -> Self {
        Self {
            arrived: Timestamp::now(),
            distinguisher: distinguisher.to_owned(),
            user: user.name.clone(),
            info: info.clone(),
        }
    }
}

impl FlowControl {
    /// The table of a path; nothing where the path is another one.
    pub fn dump(&self, path: &str, query: &Query) -> Option<String> {
        let configuration = self.configuration.load();
        let mut levels: Vec<&Level> = configuration.levels.iter().map(|level| &**level).collect();
        levels.sort_by_key(|level| level.name());
        let rows = match path.strip_prefix(ROOT)? {
            "dump_priority_levels" => {
                let row = |level: &&Level| {
                    let schemas = configuration.schemas.iter();
                    let own = schemas.filter(|schema| *schema.level_name == *level.name());
                    let mut of = Totals::default();
                    own.for_each(|schema| schema.metrics.add_to(&mut of));
                    let (waiting, queues) = level.look(|queues| queues.waiting());
                    vec![
                        level.name().to_owned(),
                        queues.to_string(),
                        (of.executing == 0 && waiting == 0).to_string(),
                        false.to_string(),
                        waiting.to_string(),
                        of.executing.to_string(),
                        of.dispatched.to_string(),
                        of.rejected.to_string(),
                        of.timed_out.to_string(),
                        of.cancelled.to_string(),
                    ]
                };
                rows(&LEVELS, levels.iter().map(row))
            }
            "dump_queues" => rows(&QUEUES, levels.iter().flat_map(|level| queues(level))),
            "dump_requests" => {
                let details = query.get("includeRequestDetails").is_some_and(|asked| !asked.is_empty());
                let headers: Vec<&str> =
                    REQUESTS.into_iter().chain(DETAILS.into_iter().filter(|_| details)).collect();
                rows(&headers, levels.iter().flat_map(|level| requests(level, details)))
            }
            _ => return None,
        };
        Some(rows)
    }
}

fn queues(level: &Level) -> Vec<Vec<String>> {
    let row = |index: usize, seats: &[usize], virtual_time: f64, work: f64| {
        let sum: usize = seats.iter().sum();
        vec![
            level.name().to_owned(),
            index.to_string(),
            seats.len().to_string(),
            // Who is worked on has left its queue.
            0.to_string(),
            0.to_string(),
            format!("{virtual_time:.8}ss"),
            sum.to_string(),
            sum.to_string(),
            format!("{work:.8}ss"),
        ]
    };
    level.look(|queues| {
        let used: BTreeMap<usize, (Vec<usize>, f64, f64)> = queues.each().collect();
        let empty = (0..queues.count().min(MAX_EMPTY)).filter(|index| !used.contains_key(index));
        let mut indices: Vec<usize> = used.keys().copied().chain(empty).collect();
        indices.sort_unstable();
        let of = |index: usize| match used.get(&index) {
            Some((seats, time, work)) => row(index, seats, *time, *work),
            None => row(index, &[], 0.0, 0.0),
        };
        indices.into_iter().map(of).collect()
    })
}

fn requests(level: &Level, details: bool) -> Vec<Vec<String>> {
    let row = |queue: usize, index: usize, waiting: &Waiting<Turn>| {
        let Asked { arrived, distinguisher, user, info } = &waiting.turn.asked;
        let mut row = vec![
            level.name().to_owned(),
            waiting.schema.name.to_string(),
            queue.to_string(),
            index.to_string(),
            distinguisher.clone(),
            arrived.to_string(),
            waiting.seats.to_string(),
            0.to_string(),
            "0s".to_owned(),
            // Go's zero time: it has not started.
            "0001-01-01T00:00:00Z".to_owned(),
        ];
        if details {
            let RequestInfo { verb, path, namespace, name, version, resource, subresource, .. } = info;
            let texts = [user, verb, path, namespace, name, version, resource, subresource];
            row.extend(texts.into_iter().cloned());
        }
        row
    };
    level.look(|queues| queues.requests().map(|(queue, index, waiting)| row(queue, index, waiting)).collect())
}

/// Cells with a comma after each but the last of a line, in columns.
fn rows(headers: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    const NARROWEST: usize = 8;
    let headers = headers.iter().map(|header| (*header).to_owned()).collect();
    let lines: Vec<Vec<String>> = std::iter::once(headers).chain(rows).collect();
    let columns = lines.first().map_or(0, Vec::len);
    let width = |column: usize| {
        let widest = lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max();
        (widest.unwrap_or(0) + 2).max(NARROWEST)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        for (index, (cell, width)) in line.iter().zip(&widths).enumerate() {
            match index + 1 == columns {
                true => text.push_str(cell),
                false => text.push_str(&format!("{:<width$}", format!("{cell},"))),
            }
        }
        text.push('\n');
    }
    text
}
