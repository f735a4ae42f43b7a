//! Whether a request that changes something was meant by the operator, or sent by a page of another site. Pure.
//!
//! - Browsers say in `Sec-Fetch-Site` where a request comes from, and no page can change that. Only `same-origin` may
//!   change something. `none`, which is an address typed or a bookmark, never does so here: pages of ours send the forms.
//! - Browsers leave that header out for addresses that are neither TLS nor loopback, and older ones always do. All send
//!   `Origin` with a POST, and no page can change that either; it must name the host that the request was sent to.
//! - A request with neither is no form of any browser of the last years. To be sure, it must also be JSON: a form can't
//!   send that, and a script of another site only after asking us first (CORS preflight), which is never granted.
//!   This is for `curl` and other programs.
//!
//! Bodies are forms or JSON. Forms as `text/plain` and `multipart/form-data` are never ours, and whoever sends one
//! probes for a reader that guesses.

use axum::http::{HeaderMap, HeaderName, Method, header};

use super::{host::Host, refusal::Refusal};

const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const MISMATCH: Refusal = Refusal::Forbidden(
    "This request came from another site, so nothing was changed. Open the page in the web app and try again.",
);
const TYPE: Refusal =
    Refusal::Type("The body must be a form (application/x-www-form-urlencoded) or JSON (application/json).");

/// Judges a request to `host`; `https` when browsers can only have got there with TLS.
pub(super) fn judge(method: &Method, headers: &HeaderMap, host: &Host, https: bool) -> Result<(), Refusal> {
    if [Method::GET, Method::HEAD, Method::OPTIONS].contains(method) {
        return Ok(());
    }
    let kind = match single(headers, &header::CONTENT_TYPE)? {
        None if has_body(headers) => return Err(TYPE),
        None => None,
        Some(kind) => Some(kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()),
    };
    let json = kind.as_deref() == Some("application/json");
    if !json && kind.is_some_and(|kind| kind != "application/x-www-form-urlencoded") {
        return Err(TYPE);
    }
    let meant = match (single(headers, &SITE)?, single(headers, &header::ORIGIN)?) {
        (Some(site), _) => site == "same-origin",
        (None, Some(origin)) => host.is_origin(origin, https),
        (None, None) => json,
    };
    if meant { Ok(()) } else { Err(MISMATCH) }
}

fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(header::TRANSFER_ENCODING)
        || headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0")
}

/// A header that is there once or not at all.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| MISMATCH),
        (Some(_), Some(_)) => Err(MISMATCH),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
    const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");
    const OURS: (&str, &str) = ("origin", "http://localhost:8000");
    const THEIRS: (&str, &str) = ("origin", "https://evil.example");

    const fn site(value: &'static str) -> (&'static str, &'static str) {
        ("sec-fetch-site", value)
    }

    #[test]
    fn only_what_the_operator_meant_changes_something() {
        type Headers = &'static [(&'static str, &'static str)];
        const CASES: [(Headers, Result<(), Refusal>); 24] = [
            (&[site("same-origin"), FORM], Ok(())),
            (&[site("same-origin"), JSON], Ok(())),
            (&[site("same-origin")], Ok(())),
            (&[site("same-origin"), OURS, FORM], Ok(())),
            (&[site("same-site"), FORM], Err(MISMATCH)),
            (&[site("cross-site"), FORM], Err(MISMATCH)),
            (&[site("cross-site"), OURS, JSON], Err(MISMATCH)),
            (&[site("none"), FORM], Err(MISMATCH)),
            (&[site(""), FORM], Err(MISMATCH)),
            (&[site("same-origin"), site("cross-site"), FORM], Err(MISMATCH)),
            (&[OURS, FORM], Ok(())),
            (&[THEIRS, FORM], Err(MISMATCH)),
            (&[THEIRS, JSON], Err(MISMATCH)),
            (&[("origin", "null"), FORM], Err(MISMATCH)),
            (&[OURS, THEIRS, FORM], Err(MISMATCH)),
            (&[FORM], Err(MISMATCH)),
            (&[], Err(MISMATCH)),
            (&[JSON], Ok(())),
            (&[JSON, JSON], Err(MISMATCH)),
            (&[("content-type", "text/plain")], Err(TYPE)),
            (&[site("same-origin"), ("content-type", "text/plain")], Err(TYPE)),
            (&[site("same-origin"), ("content-type", "multipart/form-data; boundary=x")], Err(TYPE)),
            (&[("content-type", "text/plain; application/json")], Err(TYPE)),
            (&[site("same-origin"), ("content-length", "3")], Err(TYPE)),
        ];
        let host = Host::parse("localhost:8000").unwrap();
        for (given, expected) in CASES {
            let mut headers = HeaderMap::new();
            for (name, value) in given {
                headers.append(HeaderName::from_static(name), value.parse().unwrap());
            }
            for method in
                [Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::from_bytes(b"ODD").unwrap()]
            {
                assert_eq!(judge(&method, &headers, &host, false), expected, "{method} {given:?}");
            }
            assert_eq!(judge(&Method::GET, &headers, &host, false), Ok(()), "{given:?}");
        }
    }
}
