//! One request, one answer. The API server has made sure who asks and that he may.

use api::status::Status;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::discovery::{self, API_VERSION};
use crate::gather::Gatherer;
use crate::routes::{Kind, Route};
use crate::{objects, table};

pub type Body = Full<Bytes>;

pub async fn answer(gatherer: &Gatherer, request: &Parts) -> Response<Body> {
    let (code, document) = match find(gatherer, request).await {
        Ok(document) => (StatusCode::OK, document),
        Err(status) => {
            let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            (code, status.to_value())
        }
    };
    let mut answer = Response::new(Full::new(Bytes::from(document.to_string())));
    *answer.status_mut() = code;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

async fn find(gatherer: &Gatherer, request: &Parts) -> Result<Value, Status> {
    let route = Route::of(request.uri.path()).ok_or_else(Status::unknown_resource)?;
    if request.method != Method::GET {
        return Err(Status::wrong_method());
    }
    match route {
        Route::Group => Ok(discovery::group()),
        Route::Resources => Ok(discovery::resources()),
        Route::OpenApiIndex => Ok(discovery::openapi_index()),
        Route::OpenApi => Ok(discovery::openapi()),
        // They are measured when somebody asks: nothing tells that they have changed.
        Route::List(kind, _) if is_watch(request) => {
            Err(Status::method_not_allowed((discovery::GROUP, kind.plural()), "watch"))
        }
        Route::List(kind, namespace) => {
            let items = list(gatherer, kind, namespace, &selectors(request)).await?;
            Ok(shown(request, kind, items))
        }
        Route::One(kind, namespace, name) => {
            let object = one(gatherer, kind, namespace, name).await?;
            Ok(if wants_table(request) { table::render(&[object]) } else { object })
        }
    }
}

fn parameter(request: &Parts, name: &str) -> Option<String> {
    let query = request.uri.query().unwrap_or_default();
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    let value = pairs.find(|(key, _)| key == name)?.1.into_owned();
    (!value.is_empty()).then_some(value)
}

fn is_watch(request: &Parts) -> bool {
    parameter(request, "watch").is_some_and(|value| value != "false" && value != "0")
}

fn selectors(request: &Parts) -> ListParams {
    ListParams {
        label_selector: parameter(request, "labelSelector"),
        field_selector: parameter(request, "fieldSelector"),
        ..ListParams::default()
    }
}

/// What stands first is what is wanted most; whoever can show a Table names it first.
fn wants_table(request: &Parts) -> bool {
    let accepted = request.headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accepted.split(',').next().is_some_and(|first| first.contains("as=Table"))
}

fn shown(request: &Parts, kind: Kind, items: Vec<Value>) -> Value {
    if wants_table(request) {
        return table::render(&items);
    }
    json!({"kind": format!("{}List", kind.name()), "apiVersion": API_VERSION, "metadata": {}, "items": items})
}

async fn list(
    gatherer: &Gatherer,
    kind: Kind,
    namespace: Option<&str>,
    params: &ListParams,
) -> Result<Vec<Value>, Status> {
    let client = gatherer.client.clone();
    match (kind, namespace) {
        (Kind::Nodes, _) => {
            let nodes = Api::<Node>::all(client).list(params).await.map_err(told)?.items;
            let summaries = gatherer.of(nodes.iter().map(ResourceExt::name_any)).await;
            let known = |node: &Node| objects::node(node, summaries.get(&node.name_any())?);
            Ok(nodes.iter().filter_map(known).collect())
        }
        (Kind::Pods, Some(namespace)) => {
            let pods = Api::<Pod>::namespaced(client, namespace).list(params).await.map_err(told)?;
            Ok(of_pods(gatherer, &pods.items).await)
        }
        (Kind::Pods, None) => {
            let pods = Api::<Pod>::all(client).list(params).await.map_err(told)?;
            Ok(of_pods(gatherer, &pods.items).await)
        }
    }
}

async fn of_pods(gatherer: &Gatherer, pods: &[Pod]) -> Vec<Value> {
    let runs = |pod: &&Pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
    let running = || pods.iter().filter(runs);
    let mut nodes: Vec<String> = running().filter_map(|pod| pod.spec.as_ref()?.node_name.clone()).collect();
    nodes.sort_unstable();
    nodes.dedup();
    let summaries = gatherer.of(nodes).await;
    let known = objects::index(&summaries);
    running().filter_map(|pod| objects::pod(pod, &known)).collect()
}

async fn one(gatherer: &Gatherer, kind: Kind, namespace: Option<&str>, name: &str) -> Result<Value, Status> {
    let client = gatherer.client.clone();
    let found = match kind {
        Kind::Nodes => {
            let node = Api::<Node>::all(client).get_opt(name).await.map_err(told)?;
            let summaries = gatherer.of(node.iter().map(ResourceExt::name_any)).await;
            node.zip(summaries.get(name)).and_then(|(node, summary)| objects::node(&node, summary))
        }
        Kind::Pods => {
            let api = Api::<Pod>::namespaced(client, namespace.unwrap_or_default());
            let pod = api.get_opt(name).await.map_err(told)?;
            of_pods(gatherer, pod.as_slice()).await.pop()
        }
    };
    found.ok_or_else(|| Status::not_found((discovery::GROUP, kind.plural()), name))
}

/// What the API server says of a selector or a name is what there is to say.
fn told(error: kube::Error) -> Status {
    match error {
        kube::Error::Api(status) => Status {
            reason: status.reason.clone().into(),
            code: status.code,
            message: status.message.clone(),
            ..Status::default()
        },
        other => Status::internal(other),
    }
}
