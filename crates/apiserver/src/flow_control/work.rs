//! How many seats a request takes: as much as it costs more than a simple one.

use crate::options::Query;
use crate::request::RequestInfo;

/// A list of so many objects costs as much as a simple request.
const OBJECTS_PER_SEAT: usize = 100;
/// No request takes more.
const MOST: usize = 10;

/// Seats for a request, of which there may be no more than `most`.
pub fn seats(info: &RequestInfo, query: &str, cache: impl FnOnce() -> Option<usize>, most: usize) -> usize {
    if info.verb != "list" && info.verb != "watch" {
        return 1;
    }
    let query = Query::parse(Some(query));
    if info.verb == "watch" && query.flag("sendInitialEvents") != Some(true) {
        return 1;
    }
    let Some(stored) = cache() else {
        // Nothing is known of it: it may be anything, or nothing at all.
        return 1;
    };
    let limit = query.get("limit").and_then(|limit| limit.parse::<usize>().ok()).filter(|limit| *limit > 0);
    let selects = query.get("labelSelector").is_some() || query.get("fieldSelector").is_some();
    // A selector is applied to all of them to find `limit`.
    let objects = match limit {
        Some(limit) if !selects => limit.min(stored),
        _ => stored,
    };
    objects.div_ceil(OBJECTS_PER_SEAT).clamp(1, most.clamp(1, MOST))
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    #[test]
    fn lists_cost_by_length() {
        let check = |uri: &str, stored: usize, expected: usize| {
            let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
            let info = RequestInfo::parse(&Method::GET, path, query);
            assert_eq!(seats(&info, query, || Some(stored), 8), expected, "{uri} of {stored}");
        };
        check("/api/v1/pods", 0, 1);
        check("/api/v1/pods", 250, 3);
        check("/api/v1/pods", 100_000, 8);
        check("/api/v1/pods?limit=100", 100_000, 1);
        check("/api/v1/pods?limit=500", 100_000, 5);
        check("/api/v1/pods?limit=500&labelSelector=a", 100_000, 8);
        check("/api/v1/pods?limit=-1", 100_000, 8);
        check("/api/v1/pods?watch=1", 100_000, 1);
        check("/api/v1/pods?watch=1&sendInitialEvents=true", 100_000, 8);
        check("/api/v1/namespaces/a/pods/b", 100_000, 1);
    }
}
