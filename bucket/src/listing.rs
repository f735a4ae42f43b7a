//! Listings: page by page where a caller stops in between, else one stream of all items.

use futures_util::{Stream, TryStreamExt, stream};

use crate::Error;

/// Where the next page of a listing begins. Only the bucket that gave it understands it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageToken {
    /// The path after which the whole listing begins; `None` when it begins at its first.
    pub(crate) start: Option<String>,
    /// The path before which the whole listing ends; `None` when it ends at its last.
    pub(crate) end: Option<String>,
    /// The bucket's own token for where this page begins; `None` for the first page after `start`.
    pub(crate) page: Option<String>,
}

impl PageToken {
    /// Begins a listing after a path, which need not be an object's.
    pub(crate) fn after(path: impl Into<String>) -> Self {
        Self::between(Some(path.into()), None)
    }

    /// Begins a listing after a path and ends it before another; neither need be an object's.
    pub(crate) fn between(start: Option<String>, end: Option<String>) -> Self {
        Self { start, end, page: None }
    }

    /// The next page of the listing that `this` is a page of.
    pub(crate) fn next(this: Option<&Self>, page: String) -> Self {
        let Self { start, end, .. } = this.cloned().unwrap_or(Self::between(None, None));
        Self { start, end, page: Some(page) }
    }
}

/// One page of a listing, in the byte order of the paths.
#[derive(Debug, Clone)]
pub struct Page<T> {
    /// The items of this page, in order.
    pub items: Vec<T>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<PageToken>,
}

/// All items of a listing, one page after the other; `page` reads the one that begins at a token.
///
/// A page is read only when the items before it were taken. After an error there is nothing more.
pub fn items<T, F: Future<Output = Result<Page<T>, Error>>>(
    page: impl Fn(Option<PageToken>) -> F,
) -> impl Stream<Item = Result<T, Error>> {
    let pages = stream::try_unfold((Some(None), page), |(after, page)| async move {
        let Some(after) = after else { return Ok(None) };
        let Page { items, next } = page(after).await?;
        Ok(Some((stream::iter(items.into_iter().map(Ok)), (next.map(Some), page))))
    });
    pages.try_flatten()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn all_pages_are_read_in_order_and_none_too_early() {
        let read = Cell::new(0);
        let pages = items(|after| {
            read.set(read.get() + 1);
            let number = after.map_or(0, |token| token.page.unwrap().parse::<usize>().unwrap());
            async move {
                match number {
                    0 => Ok(Page { items: vec![1, 2], next: Some(PageToken::next(None, "1".to_owned())) }),
                    1 => Ok(Page { items: vec![], next: Some(PageToken::next(None, "2".to_owned())) }),
                    2 => Ok(Page { items: vec![3], next: Some(PageToken::next(None, "3".to_owned())) }),
                    _ => Err(Error::Gone { object: "x".to_owned() }),
                }
            }
        });
        let mut pages = std::pin::pin!(pages);
        for (item, after) in [(1, 1), (2, 1), (3, 3)] {
            assert_eq!(pages.try_next().await.unwrap(), Some(item));
            assert_eq!(read.get(), after);
        }
        assert!(pages.try_next().await.is_err());
        assert_eq!(pages.try_next().await.unwrap(), None);
    }
}
