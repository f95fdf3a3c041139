//! Users as front proxies name them: in headers, believed when the connection's certificate is a front proxy's.

/// Which headers, from whom.
#[derive(Clone, Debug)]
pub struct RequestHeader {
    /// Common names of front proxies' certificates; any when empty.
    pub allowed_names: Vec<String>,
    pub user: Vec<String>,
    pub uid: Vec<String>,
    pub group: Vec<String>,
    /// Prefixes of the headers that hold the rest.
    pub extra_prefix: Vec<String>,
}

impl Default for RequestHeader {
    fn default() -> Self {
        let one = |name: &str| vec![name.to_owned()];
        Self {
            allowed_names: one("front-proxy-client"),
            user: one("X-Remote-User"),
            uid: one("X-Remote-Uid"),
            group: one("X-Remote-Group"),
            extra_prefix: one("X-Remote-Extra-"),
        }
    }
}
