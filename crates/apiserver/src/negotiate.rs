//! In which form a client wants its answer: the `Accept` header.

use api::codec::{ACCEPTED, PROTOBUF};
use api::status::Status;
use http::header::ACCEPT;
use http::{HeaderMap, HeaderValue};

/// How values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Json,
    Yaml,
    Protobuf,
}

impl Encoding {
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => PROTOBUF,
        }
    }

    fn of_media_type(media_type: &str) -> Option<Self> {
        match media_type {
            "application/json" | "application/*" | "*/*" => Some(Self::Json),
            "application/yaml" => Some(Self::Yaml),
            PROTOBUF => Some(Self::Protobuf),
            _ => None,
        }
    }
}

/// What can be had of a resource beside its objects as JSON or YAML.
#[derive(Clone, Copy, Debug, Default)]
pub struct Offer {
    /// Tables and partial metadata.
    pub transforms: bool,
    pub protobuf: bool,
    /// The answer is a stream of frames, for which there is no YAML.
    pub stream: bool,
}

/// What is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// The object, or list of objects.
    #[default]
    Whole,
    /// A `meta.k8s.io/v1` Table, printed by the server.
    Table,
    /// Metadata only: `PartialObjectMetadata`, or the list of them.
    Partial,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accept {
    pub format: Encoding,
    pub form: Form,
    /// The `apiVersion` of tables and partial metadata; older clients ask for `v1beta1`, which is the same.
    pub meta_version: &'static str,
}

const META_V1: &str = "meta.k8s.io/v1";
const META_V1BETA1: &str = "meta.k8s.io/v1beta1";

impl Default for Accept {
    fn default() -> Self {
        Self { format: Encoding::Json, form: Form::Whole, meta_version: META_V1 }
    }
}

impl Accept {
    /// How a failure is told to a client that sent this header: as it likes, and as JSON where that is nothing we
    /// write.
    pub fn of_failure(header: Option<&HeaderValue>) -> Encoding {
        let mut headers = HeaderMap::new();
        if let Some(header) = header {
            headers.insert(ACCEPT, header.clone());
        }
        let offer = Offer { transforms: true, protobuf: true, stream: false };
        Self::negotiate(&headers, offer).map_or(Encoding::Json, |accept| accept.format)
    }

    /// The first clause that can be served, by descending quality.
    pub fn negotiate(headers: &HeaderMap, offer: Offer) -> Result<Self, Status> {
        let mut clauses = Vec::new();
        for header in headers.get_all(ACCEPT) {
            let text = header.to_str().map_err(|_| Status::not_acceptable(ACCEPTED))?;
            clauses.extend(text.split(',').map(Clause::parse).filter(|clause| !clause.media_type.is_empty()));
        }
        if clauses.is_empty() {
            return Ok(Self::default());
        }
        // Stable: of equal quality, the first mentioned.
        clauses.sort_by(|a, b| b.quality.total_cmp(&a.quality));
        clauses
            .iter()
            .filter(|clause| clause.quality > 0.0)
            .find_map(|clause| clause.served(offer))
            .ok_or_else(|| Status::not_acceptable(ACCEPTED))
    }
}

struct Clause<'a> {
    media_type: &'a str,
    quality: f32,
    form: &'a str,
    version: &'a str,
    group: &'a str,
}

impl<'a> Clause<'a> {
    fn parse(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let mut clause = Self {
            media_type: parts.next().unwrap_or_default(),
            quality: 1.0,
            form: "",
            version: "",
            group: "",
        };
        for (key, value) in parts.filter_map(|part| part.split_once('=')) {
            match key.trim() {
                "q" => clause.quality = value.trim().parse().unwrap_or(1.0),
                "as" => clause.form = value.trim(),
                "v" => clause.version = value.trim(),
                "g" => clause.group = value.trim(),
                _ => {}
            }
        }
        clause
    }

    fn served(&self, offer: Offer) -> Option<Accept> {
        let format = Encoding::of_media_type(self.media_type)?;
        let form = match self.form {
            "" => Form::Whole,
            _ if !offer.transforms || self.group != "meta.k8s.io" => return None,
            "Table" => Form::Table,
            "PartialObjectMetadata" | "PartialObjectMetadataList" => Form::Partial,
            _ => return None,
        };
        let meta_version = match (form, self.version) {
            (Form::Whole, _) | (_, "v1") => META_V1,
            (_, "v1beta1") => META_V1BETA1,
            _ => return None,
        };
        if format == Encoding::Yaml && offer.stream {
            return None;
        }
        // Tables have no protobuf form.
        if format == Encoding::Protobuf && (!offer.protobuf || form == Form::Table) {
            return None;
        }
        Some(Accept { format, form, meta_version })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negotiates() {
        #[track_caller]
        fn check(accept: &str, expected: Option<(Encoding, Form)>) {
            let mut headers = HeaderMap::new();
            if !accept.is_empty() {
                headers.insert(ACCEPT, accept.parse().unwrap());
            }
            let offer = Offer { transforms: true, protobuf: !accept.contains("yaml"), stream: false };
            let got = Accept::negotiate(&headers, offer).ok();
            assert_eq!(got.map(|accept| (accept.format, accept.form)), expected, "{accept}");
        }
        check("", Some((Encoding::Json, Form::Whole)));
        check("*/*", Some((Encoding::Json, Form::Whole)));
        check(
            "application/vnd.kubernetes.protobuf,application/json",
            Some((Encoding::Protobuf, Form::Whole)),
        );
        check("application/vnd.kubernetes.protobuf,application/yaml", Some((Encoding::Yaml, Form::Whole)));
        check("application/json;q=0.5, application/yaml", Some((Encoding::Yaml, Form::Whole)));
        check(
            "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
            Some((Encoding::Json, Form::Table)),
        );
        check(
            "application/json;as=Table;v=v9;g=meta.k8s.io,application/json",
            Some((Encoding::Json, Form::Whole)),
        );
        check(
            "application/json;as=PartialObjectMetadata;v=v1beta1;g=meta.k8s.io",
            Some((Encoding::Json, Form::Partial)),
        );
        check(
            "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
            Some((Encoding::Json, Form::Partial)),
        );
        check("text/html", None);
    }
}
