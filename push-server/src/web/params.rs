//! What a request asks for: the pairs of its query, or of a form.
//!
//! Keys repeat (`server=a&server=b`), in the order they were sent.

use std::convert::Infallible;

use axum::{extract::FromRequestParts, http::request::Parts};

/// Pairs of keys and values, decoded.
#[derive(Debug, Clone, Default)]
pub(crate) struct Params(Vec<(String, String)>);

impl Params {
    /// Of a query or a form's body. What isn't UTF-8 is shown as such and matches nothing.
    pub(crate) fn parse(encoded: &[u8]) -> Self {
        Self(url::form_urlencoded::parse(encoded).into_owned().collect())
    }

    /// Of pairs as they are.
    pub(crate) fn of<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        Self(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
    }

    /// All pairs, in the order they were sent.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// The first value of a key that isn't empty, without spaces around it.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.all(key).next()
    }

    /// All values of a key that aren't empty, without spaces around them.
    pub(crate) fn all(&self, key: &str) -> impl Iterator<Item = &str> {
        let values = self.0.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.trim());
        values.filter(|value| !value.is_empty())
    }

    /// The number of a page, from 1. Of anything else, [`Params::has_page`] has kept the request from whoever asks.
    pub(crate) fn page(&self) -> usize {
        self.get("page").and_then(page_number).unwrap_or(1)
    }

    /// Whether the number of a page is one, if there is any.
    pub(crate) fn has_page(&self) -> bool {
        self.get("page").is_none_or(|page| page_number(page).is_some())
    }
}

fn page_number(text: &str) -> Option<usize> {
    text.parse().ok().filter(|page| *page >= 1)
}

impl<S: Sync> FromRequestParts<S> for Params {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::parse(parts.uri.query().unwrap_or_default().as_bytes()))
    }
}

/// A path of ours with a query, encoded.
pub(crate) fn link<'a>(path: &str, pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(pairs);
    let query = query.finish();
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_repeat_and_empty_values_are_none() {
        let params = Params::parse(b"server=a&server=b&q=&page=&reason=+two%20words+");
        assert_eq!(params.all("server").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!((params.get("q"), params.page(), params.get("reason")), (None, 1, Some("two words")));
        for (query, is_page) in
            [("", true), ("page=2", true), ("page=0", false), ("page=abc", false), ("page=-1", false)]
        {
            assert_eq!(Params::parse(query.as_bytes()).has_page(), is_page, "{query}");
        }
        assert_eq!(link("/servers", [("q", "app:web a&b")]), "/servers?q=app%3Aweb+a%26b");
    }
}
