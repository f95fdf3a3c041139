//! `/logs/`: the log files of the machine, as Go's file server shows them.

use std::path::{Component, Path, PathBuf};

use http::{Response, StatusCode, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio_util::io::ReaderStream;

use super::{Body, error, text};

const ROOT: &str = "/var/log";

/// `path` is what follows `/logs`.
pub async fn handle(path: &str) -> Response<Body> {
    let Some(file) = below(Path::new(ROOT), path) else {
        return error(StatusCode::BAD_REQUEST, "invalid URL path");
    };
    let Ok(meta) = tokio::fs::metadata(&file).await else {
        return error(StatusCode::NOT_FOUND, "404 page not found");
    };
    if meta.is_dir() {
        if !path.ends_with('/') {
            return moved(&format!("{}/", path.rsplit('/').next().unwrap_or_default()));
        }
        return list(&file).await;
    }
    if !meta.is_file() {
        return error(StatusCode::NOT_FOUND, "404 page not found");
    }
    match tokio::fs::File::open(&file).await {
        Ok(opened) => {
            use futures::TryStreamExt;
            // No more than there was: a log that grows would never end.
            let opened = tokio::io::AsyncReadExt::take(opened, meta.len());
            let frames = ReaderStream::new(opened).map_ok(Frame::data).map_err(Into::into);
            let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
            let kind = header::HeaderValue::from_static("text/plain; charset=utf-8");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        Err(problem) => error(StatusCode::INTERNAL_SERVER_ERROR, problem.to_string()),
    }
}

/// Only plain names lead down.
fn below(root: &Path, path: &str) -> Option<PathBuf> {
    let mut file = root.to_owned();
    for part in Path::new(path.trim_start_matches('/')).components() {
        match part {
            Component::Normal(name) => file.push(name),
            Component::CurDir => {}
            Component::RootDir | Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(file)
}

fn moved(to: &str) -> Response<Body> {
    let mut response = text(StatusCode::MOVED_PERMANENTLY, "");
    if let Ok(to) = header::HeaderValue::from_str(to) {
        response.headers_mut().insert(header::LOCATION, to);
    }
    response
}

async fn list(dir: &Path) -> Response<Body> {
    let mut names: Vec<String> = Vec::new();
    let Ok(mut entries) = tokio::fs::read_dir(dir).await else {
        return error(StatusCode::INTERNAL_SERVER_ERROR, "Error reading directory");
    };
    while let Ok(Some(entry)) = entries.next_entry().await {
        let slash = entry.file_type().await.is_ok_and(|kind| kind.is_dir());
        let name = entry.file_name().to_string_lossy().into_owned();
        names.push(if slash { name + "/" } else { name });
    }
    names.sort();
    let mut page =
        String::from("<!doctype html>\n<meta name=\"viewport\" content=\"width=device-width\">\n<pre>\n");
    for name in names {
        let shown = escape(&name);
        let link: String = name.bytes().map(link_byte).collect();
        page.push_str(&format!("<a href=\"{link}\">{shown}</a>\n"));
    }
    page.push_str("</pre>\n");
    let mut response = text(StatusCode::OK, page);
    let kind = header::HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn escape(name: &str) -> String {
    name.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&#34;")
}

fn link_byte(byte: u8) -> String {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
            char::from(byte).to_string()
        }
        other => format!("%{other:02X}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leads_out() {
        let check = |path: &str, expected: Option<&str>| {
            assert_eq!(below(Path::new("/r"), path), expected.map(PathBuf::from), "{path}");
        };
        check("/", Some("/r"));
        check("/a/b.log", Some("/r/a/b.log"));
        check("//a", Some("/r/a"));
        check("/../etc/passwd", None);
        check("/a/../../etc", None);
    }

    #[tokio::test]
    async fn a_directory_is_listed() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a<b.log"), "x").unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        let body = list(dir.path()).await.into_body().collect().await.unwrap().to_bytes();
        let page = String::from_utf8(body.to_vec()).unwrap();
        assert!(page.contains("<a href=\"a%3Cb.log\">a&lt;b.log</a>\n<a href=\"sub/\">sub/</a>\n"), "{page}");
    }
}
