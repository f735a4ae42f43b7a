//! Who may do what: what Google's IAM would say of the accounts that requests come from.

use serde_json::Value;

use super::{
    address::Copy,
    state::{Grant, Kind, Right, Shared, lock},
    store::{Query, Refusal},
};
use crate::base64::base64url;

/// As whom a request comes that bears no token.
const NOBODY: &str = "anonymous";

/// What a request is refused with, if anybody was granted anything and it comes from somebody who may not do that.
pub(super) fn refused(
    state: &Shared,
    (kind, bucket, object, query): (Kind, &str, &str, &Query),
    path: &str,
    authorization: Option<&str>,
) -> Option<Refusal> {
    let state = lock(state);
    if state.grants.is_empty() {
        return None;
    }
    let account = authorization.map_or_else(|| NOBODY.to_owned(), account);
    let replaces = query.get("ifGenerationMatch").is_some_and(|generation| generation != "0");
    let source =
        || path.split_once("/o/").and_then(|(_, copy)| Copy::parse(copy)).map(|copy| copy.from).unwrap_or_default();
    let needed = match kind {
        Kind::Get | Kind::Head => vec![("get", Right::Read, object.to_owned())],
        Kind::List => vec![("list", Right::Read, object.to_owned())],
        Kind::Insert if replaces => {
            vec![("create", Right::Create, object.to_owned()), ("delete", Right::Delete, object.to_owned())]
        }
        Kind::Insert => vec![("create", Right::Create, object.to_owned())],
        // Its address is a secret of whoever began the upload.
        Kind::Chunk => Vec::new(),
        Kind::Rewrite => vec![("get", Right::Read, source()), ("create", Right::Create, object.to_owned())],
        Kind::Delete => vec![("delete", Right::Delete, object.to_owned())],
    };
    let may = |right: Right, object: &str| {
        let of_it = |grant: &&Grant| grant.account == account && grant.bucket == bucket && grant.right == right;
        state.grants.iter().filter(of_it).any(|grant| object.starts_with(&grant.prefix))
    };
    let (missing, ..) = needed.into_iter().find(|(_, right, object)| !may(*right, object))?;
    let permission = format!("storage.objects.{missing}");
    Some((
        403,
        format!(
            "{account} does not have {permission} access to the Google Cloud Storage object. Permission '{permission}' denied \
             on resource (or it may not exist)."
        ),
    ))
}

/// The account that signed a token for itself (RFC 7519).
fn account(authorization: &str) -> String {
    let claims = authorization.split('.').nth(1).and_then(base64url).unwrap_or_default();
    let claims: Value = serde_json::from_slice(&claims).unwrap_or_default();
    claims.get("iss").and_then(Value::as_str).unwrap_or(NOBODY).to_owned()
}
