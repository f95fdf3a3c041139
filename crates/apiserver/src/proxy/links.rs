//! Links of proxied servers lead back through the proxy.
//!
//! A server behind `.../proxy/` does not know that: it redirects to, and its pages link to, paths of its own. What
//! names a path of that server gets the proxy's path in front, in `Location` and in the attributes of HTML pages that
//! hold URLs. Links to elsewhere and relative ones stay as they are.

use futures::StreamExt;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, LOCATION};
use http::{Method, Response, StatusCode, Uri};
use http_body_util::BodyExt;

use super::backend::authority;
use super::html::Html;
use super::target::Target;
use crate::server::body::{BoxError, ResponseBody};

/// Where a proxied server is, for this server and for its clients.
#[derive(Clone, Debug)]
pub struct Links {
    /// The path that ends in `/proxy`.
    prefix: String,
    authority: String,
}

impl Links {
    pub fn new(request: &Uri, target: &Target) -> Self {
        let path = request.path();
        let proxied = target.path.split('?').next().unwrap_or_default();
        let prefix = path.strip_suffix(proxied).unwrap_or(path).trim_end_matches('/').to_owned();
        Self { prefix, authority: authority(target) }
    }

    /// Where a link leads through the proxy, if that is elsewhere than it says.
    pub fn led(&self, link: &str) -> Option<String> {
        let path = match link.split_once("://") {
            Some((scheme @ ("http" | "https"), rest)) => {
                let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
                let (host, path) = rest.split_at(end);
                let default = if scheme == "http" { ":80" } else { ":443" };
                let same = host == self.authority || self.authority.strip_suffix(default) == Some(host);
                same.then_some(path)?
            }
            _ => link,
        };
        let absolute = path.starts_with('/') && !path.starts_with("//");
        let inside =
            path.strip_prefix(&self.prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        (absolute && !inside).then(|| format!("{}{path}", self.prefix))
    }

    /// The answer as the client is to see it.
    pub fn through(self, method: &Method, answer: Response<ResponseBody>) -> Response<ResponseBody> {
        let (mut parts, body) = answer.into_parts();
        if let Some(location) = parts.headers.get(LOCATION) {
            let led = location.to_str().ok().and_then(|location| self.led(location));
            if let Some(led) = led.and_then(|led| HeaderValue::try_from(led).ok()) {
                parts.headers.insert(LOCATION, led);
            }
            return Response::from_parts(parts, body);
        }
        let kind = parts.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let is_html = kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("text/html");
        let is_plain = !parts.headers.contains_key(CONTENT_ENCODING);
        if !is_html || !is_plain || method == Method::HEAD {
            return Response::from_parts(parts, body);
        }
        parts.headers.remove(CONTENT_LENGTH);
        Response::from_parts(parts, ResponseBody::stream(rewritten(self, body)))
    }
}

fn rewritten(
    links: Links,
    body: ResponseBody,
) -> impl futures::Stream<Item = Result<bytes::Bytes, BoxError>> + Send + 'static {
    let html = Html::new(move |link| links.led(link));
    let pieces = Box::pin(body.into_data_stream());
    futures::stream::unfold(Some((html, pieces)), |state| async {
        let (mut html, mut pieces) = state?;
        let mut out = Vec::new();
        match pieces.next().await {
            Some(Ok(piece)) => {
                html.feed(&piece, &mut out);
                Some((Ok(out.into()), Some((html, pieces))))
            }
            Some(Err(error)) => Some((Err(error), None)),
            None => {
                html.finish(&mut out);
                Some((Ok(out.into()), None))
            }
        }
    })
}

/// A server's root without the slash is asked for with it: relative links of its page are relative to that.
pub fn to_root(method: &Method, uri: &Uri) -> Option<Response<ResponseBody>> {
    if !matches!(*method, Method::GET | Method::HEAD) || !uri.path().ends_with("/proxy") {
        return None;
    }
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let location = HeaderValue::try_from(format!("{}/{query}", uri.path())).ok()?;
    let mut answer = Response::new(ResponseBody::empty());
    *answer.status_mut() = StatusCode::MOVED_PERMANENTLY;
    answer.headers_mut().insert(LOCATION, location);
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::super::target::{Purpose, Scheme};
    use super::*;

    fn links(uri: &str, path: &str) -> Links {
        let target = Target {
            scheme: Scheme::Http,
            host: "10.1.0.5".into(),
            port: 80,
            path: path.into(),
            purpose: Purpose::Proxy,
        };
        Links::new(&uri.parse().unwrap(), &target)
    }

    #[test]
    fn links_lead_through_the_proxy() {
        let links = links("/api/v1/namespaces/n/pods/p:80/proxy/a/b?c=d", "/a/b?c=d");
        let check = |link: &str, expected: Option<&str>| {
            let expected = expected.map(|path| format!("/api/v1/namespaces/n/pods/p:80/proxy{path}"));
            assert_eq!(links.led(link), expected, "{link}");
        };
        check("/x?y=z#w", Some("/x?y=z#w"));
        check("/x/", Some("/x/"));
        check("http://10.1.0.5/x", Some("/x"));
        check("http://10.1.0.5:80/x", Some("/x"));
        check("http://other/x", None);
        check("//other/x", None);
        check("x", None);
        check("#x", None);
        check("mailto:a@b", None);
        check("/api/v1/namespaces/n/pods/p:80/proxy/x", None);
    }

    #[test]
    fn the_root_has_a_slash() {
        let check = |method: Method, uri: &str, expected: Option<&str>| {
            let answer = to_root(&method, &uri.parse().unwrap());
            let location = answer.map(|answer| answer.headers()[LOCATION].to_str().unwrap().to_owned());
            assert_eq!(location.as_deref(), expected, "{method} {uri}");
        };
        let root = "/api/v1/namespaces/n/services/s/proxy";
        check(Method::GET, root, Some("/api/v1/namespaces/n/services/s/proxy/"));
        check(Method::HEAD, &format!("{root}?a=b"), Some("/api/v1/namespaces/n/services/s/proxy/?a=b"));
        check(Method::POST, root, None);
        check(Method::GET, &format!("{root}/"), None);
    }

    #[tokio::test]
    async fn what_comes_back_leads_through_the_proxy() {
        let check =
            async |headers: &[(http::HeaderName, &str)], body: &'static str, location: &str, seen: &str| {
                let links = links("/api/v1/namespaces/n/pods/p/proxy/", "/");
                let mut answer = Response::new(ResponseBody::full(body));
                for (name, value) in headers {
                    answer.headers_mut().insert(name, value.parse().unwrap());
                }
                let answer = links.through(&Method::GET, answer);
                let told = answer.headers().get(LOCATION).map_or("", |location| location.to_str().unwrap());
                assert_eq!(told, location);
                let text = answer.into_body().collect().await.unwrap().to_bytes();
                assert_eq!(text, seen.replace('~', "/api/v1/namespaces/n/pods/p/proxy"));
            };
        let page = "<a href=\"/rewriteme\">test</a>";
        let html = (CONTENT_TYPE, "text/html; charset=utf-8");
        let there = (LOCATION, "/there?x=1");
        check(std::slice::from_ref(&html), page, "", "<a href=\"~/rewriteme\">test</a>").await;
        check(&[(CONTENT_TYPE, "text/plain")], page, "", page).await;
        check(&[html.clone(), (CONTENT_ENCODING, "gzip")], page, "", page).await;
        check(&[html, there], page, "/api/v1/namespaces/n/pods/p/proxy/there?x=1", page).await;
    }
}
