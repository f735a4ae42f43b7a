//! Copies: whole at once, or in parts by request.

use axum::{body::to_bytes, extract::Request as HttpRequest};
use serde_json::json;

use super::{
    address::Copy,
    reply::{Answer, json_answer},
    state::{Fault, Shared, lock},
    store::{Copying, Query},
    upload::Resource,
};

/// The longest resource that is taken, in bytes.
const LIMIT: usize = 64 << 10;

/// Copies an object, or goes on with that.
pub(super) async fn rewrite(
    state: &Shared,
    bucket: &str,
    query: &Query,
    request: HttpRequest,
    fault: Option<&Fault>,
) -> Answer {
    let malformed = || (400, "Invalid argument.".to_owned());
    let path = request.uri().path().to_owned();
    let copy = path.split_once("/o/").and_then(|(_, path)| Copy::parse(path)).ok_or_else(malformed)?;
    let body = to_bytes(request.into_body(), LIMIT).await.map_err(|e| (400, e.to_string()))?;
    let Resource { metadata, content_type, .. } = Resource::parse(&body)?;
    let mut state = lock(state);
    let source = state.store.get(bucket, &copy.from, &of_source(query))?.clone();
    state.store.may_put(&copy.bucket, &copy.to, query)?;
    let mut copying = Copying { path, generation: source.generation, resource: body.clone(), copied: 0 };
    if let Some(token) = query.get("rewriteToken") {
        let known = state.store.copies.get(token).cloned().ok_or_else(|| (400, "Invalid rewrite token.".to_owned()))?;
        copying.copied = known.copied;
        if copying != known {
            return Err((400, "The rewrite token is of another copy.".to_owned()));
        }
    }
    let size = source.content.len();
    if let Some(Fault::Part(most)) = fault
        && copying.copied + most < size
    {
        copying.copied += most;
        let token = format!("copy-{}", state.store.copies.len() + 1);
        let copied = copying.copied.to_string();
        state.store.copies.insert(token.clone(), copying);
        return Ok(json_answer(&json!({
            "kind": "storage#rewriteResponse",
            "totalBytesRewritten": copied,
            "objectSize": size.to_string(),
            "done": false,
            "rewriteToken": token,
        })));
    }
    let mut content = source.content.clone();
    if let Some(Fault::Shorter(by)) = fault {
        content.truncate(size.saturating_sub(*by));
    }
    let content_type = content_type.unwrap_or_else(|| source.content_type.clone());
    let made = state.store.put(&copy.bucket, &copy.to, content, metadata, content_type, query)?;
    Ok(json_answer(&json!({
        "kind": "storage#rewriteResponse",
        "totalBytesRewritten": size.to_string(),
        "objectSize": size.to_string(),
        "done": true,
        "resource": made.to_json(&copy.bucket, None),
    })))
}

/// The conditions that are about the object that is copied.
fn of_source(query: &Query) -> Query {
    let conditions = [("ifSourceGenerationMatch", "ifGenerationMatch"), ("sourceGeneration", "generation")];
    let stated = conditions.iter().filter_map(|(key, plain)| Some(((*plain).to_owned(), query.get(*key)?.clone())));
    stated.collect()
}
