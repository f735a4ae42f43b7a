//! The style sheet, the script and the icon, compiled in. Their addresses change with their content, so that browsers
//! keep them for ever.

use std::sync::LazyLock;

use axum::{
    extract::Path,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use sha2::{Digest, Sha256};

struct Asset {
    path: String,
    kind: &'static str,
    content: &'static str,
}

static STYLE: LazyLock<Asset> =
    LazyLock::new(|| asset("style", "css", "text/css; charset=utf-8", include_str!("assets/style.css")));
static SCRIPT: LazyLock<Asset> =
    LazyLock::new(|| asset("push", "js", "text/javascript; charset=utf-8", include_str!("assets/push.js")));
static ICON: LazyLock<Asset> = LazyLock::new(|| asset("push", "svg", "image/svg+xml", include_str!("assets/push.svg")));

fn asset(stem: &str, suffix: &str, kind: &'static str, content: &'static str) -> Asset {
    let hash = hex::encode(&Sha256::digest(content)[..8]);
    Asset { path: format!("/assets/{stem}.{hash}.{suffix}"), kind, content }
}

/// Where the style sheet is.
pub(crate) fn style() -> &'static str {
    &STYLE.path
}

/// Where the script is.
pub(crate) fn script() -> &'static str {
    &SCRIPT.path
}

/// Where the icon is.
pub(crate) fn icon() -> &'static str {
    &ICON.path
}

/// `GET /assets/{name}`.
pub(crate) async fn get(Path(name): Path<String>) -> Response {
    let ours = [&*STYLE, &*SCRIPT, &*ICON].into_iter().find(|asset| asset.path.strip_prefix("/assets/") == Some(&name));
    match ours {
        Some(asset) => {
            let headers =
                [(header::CONTENT_TYPE, asset.kind), (header::CACHE_CONTROL, "public, max-age=31536000, immutable")];
            (headers, asset.content).into_response()
        }
        None => (StatusCode::NOT_FOUND, "there is no such file\n").into_response(),
    }
}
