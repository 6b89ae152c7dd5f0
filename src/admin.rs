//! The admin listener: health, metrics, reload, revocations. It trusts whoever reaches it, so it never stands on a public address.

mod revoke;

use std::sync::Arc;

use async_trait::async_trait;
use gapura_filters::{
    assertion::KEYS_PATH,
    contract::{Code, Refusal},
};
use http::{HeaderValue, Method, Response, StatusCode, header};
use pingora::{apps::http_app::ServeHttp, protocols::http::ServerSession};

use crate::{
    proxy::{
        own::{FRESH, KEY_SET},
        problem::{self, X_REQUEST_ID},
    },
    reload,
    wiring::Gateway,
};

pub(crate) struct Admin {
    pub(crate) gateway: Arc<Gateway>,
}

const GET: &str = "GET, HEAD";

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        if let ("/revocations", &Method::POST) = (session.req_header().uri.path(), &session.req_header().method) {
            return self.revoke(session).await;
        }
        // No other call here has a body.
        if !session.is_body_done() || session.is_upgrade_req() {
            session.set_keepalive(None);
        }
        let head = session.req_header();
        let get = matches!(head.method, Method::GET | Method::HEAD);
        let mut response = match (head.uri.path(), get, head.method == Method::POST) {
            ("/healthz", true, _) => text(StatusCode::OK, "ok\n"),
            (KEYS_PATH, true, _) if self.gateway.live().policy.assertions.is_some() => self.assertion_keys(),
            ("/readyz", true, _) => match self.gateway.not_ready() {
                reasons if reasons.is_empty() => text(StatusCode::OK, self.ready()),
                reasons => text(StatusCode::SERVICE_UNAVAILABLE, reasons.join("\n") + "\n"),
            },
            ("/metrics", true, _) => {
                let mut response = text(StatusCode::OK, self.gateway.services.metrics.encode());
                let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
                response.headers_mut().insert(header::CONTENT_TYPE, kind);
                response
            }
            // Browsers name the page that makes a call; no page has a reason for this one.
            ("/reload", _, true) if head.headers.contains_key(header::ORIGIN) => {
                refuse(&Refusal::new(Code::PermissionDenied, "A reload is not for pages in a browser."))
            }
            ("/reload", _, true) => self.reload().await,
            ("/healthz" | "/readyz" | "/metrics", ..) => not_allowed(GET),
            ("/reload" | "/revocations", ..) => not_allowed("POST"),
            _ => refuse(&Refusal::new(
                Code::RouteNotFound,
                "The admin listener has /healthz, /readyz, /metrics, POST /reload and POST /revocations.",
            )),
        };
        if session.req_header().method == Method::HEAD {
            response.body_mut().clear();
        }
        response
    }
}

impl Admin {
    /// What is amiss all the same stands below.
    fn ready(&self) -> String {
        let ended = self.gateway.ended_keys();
        ["ready".to_owned()].into_iter().chain(ended).map(|line| line + "\n").collect()
    }

    /// As on the public listeners, for upstreams that reach only this one.
    fn assertion_keys(&self) -> Response<Vec<u8>> {
        let live = self.gateway.live();
        let keys = live.policy.assertions.as_ref().map(|assertions| assertions.keys().to_vec());
        let mut response = text(StatusCode::OK, keys.unwrap_or_default());
        response.headers_mut().insert(header::CONTENT_TYPE, KEY_SET);
        response.headers_mut().insert(header::CACHE_CONTROL, FRESH);
        response
    }

    async fn revoke(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        session.set_keepalive(None);
        if session.req_header().headers.contains_key(header::ORIGIN) {
            return refuse(&Refusal::new(Code::PermissionDenied, "A revocation is not for pages in a browser."));
        }
        let body = match revoke::read(session).await {
            Ok(body) => body,
            Err(refusal) => return refuse(&refusal),
        };
        match revoke::revoke(&self.gateway, &body).await {
            Ok(()) => text(StatusCode::OK, "revoked\n"),
            Err(refusal) => refuse(&refusal),
        }
    }

    async fn reload(&self) -> Response<Vec<u8>> {
        match reload::reload(&self.gateway).await {
            Ok(()) => text(StatusCode::OK, "reloaded\n"),
            Err(faults) => unprocessable(&faults),
        }
    }
}

/// 422 with every fault, as `gapura check` would show it. It is a problem, but none of the exchange's table.
fn unprocessable(faults: &reload::Rejected) -> Response<Vec<u8>> {
    let request_id = problem::request_id();
    let body = serde_json::json!({
        "type": "urn:gapura:problem:configuration-invalid",
        "title": "The configuration cannot be used",
        "status": 422,
        "detail": "Nothing was changed; the faults say where and what to write instead.",
        "code": "CONFIGURATION_INVALID",
        "request_id": request_id.as_str(),
        "faults": faults.list(),
        "report": faults.report(),
    });
    let mut response = text(StatusCode::UNPROCESSABLE_ENTITY, body.to_string());
    let kind = HeaderValue::from_static(gapura_filters::contract::PROBLEM_JSON);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response.headers_mut().insert(X_REQUEST_ID, request_id.value().clone());
    response
}

fn text(status: StatusCode, text: impl Into<Vec<u8>>) -> Response<Vec<u8>> {
    let body = text.into();
    let mut response = Response::new(Vec::new());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response.headers_mut().insert(header::CONTENT_LENGTH, body.len().into());
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    *response.body_mut() = body;
    response
}

fn refuse(refusal: &Refusal) -> Response<Vec<u8>> {
    let request_id = problem::request_id();
    let mut response = Response::new(refusal.body(request_id.as_str()));
    *response.status_mut() = refusal.code.status();
    let length = response.body().len();
    problem::describe(response.headers_mut(), refusal, &request_id, length);
    response
}

fn not_allowed(allow: &'static str) -> Response<Vec<u8>> {
    refuse(
        &Refusal::new(Code::MethodNotAllowed, "This path does not take this method.")
            .header(header::ALLOW, HeaderValue::from_static(allow)),
    )
}
