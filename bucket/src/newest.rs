//! The newest objects of those whose names begin with a time, in few round trips however many there are.
//!
//! A listing gives the oldest first, and a thousand at a time. So it begins a little while ago; only if that isn't enough
//! everything before is listed, and only if that is more than a thousand, span by span at the same time.

use futures_util::{TryStreamExt, future::try_join_all};
use jiff::{SignedDuration, Timestamp};

use crate::{Bucket, Error, ObjectInfo, PageToken, items, layout};

/// Days before now at which the listings of everything before begin and end.
const SPANS: [i64; 8] = [30, 60, 120, 180, 365, 2 * 365, 4 * 365, 8 * 365];

/// The objects `{prefix}{time}…`, oldest first: those since a time, or at least the newest `enough` if there are so many.
/// `days` are the beginnings that are tried first, in days before now.
pub(crate) async fn newest(
    bucket: &Bucket,
    prefix: &str,
    since: Option<Timestamp>,
    days: &[i64],
    enough: usize,
) -> Result<Vec<ObjectInfo>, Error> {
    let place = |time: Timestamp| format!("{prefix}{}", layout::time(time));
    if let Some(since) = since {
        return listed(bucket, prefix, Some(place(since)), None).await;
    }
    let before = |days: i64| {
        let time = Timestamp::now().saturating_sub(SignedDuration::from_hours(24 * days));
        place(time.unwrap_or(Timestamp::MIN))
    };
    let (mut found, mut end) = (Vec::new(), None);
    for days in days {
        let start = before(*days);
        let mut more = listed(bucket, prefix, Some(start.clone()), end.replace(start)).await?;
        more.append(&mut found);
        found = more;
        if found.len() >= enough {
            return Ok(found);
        }
    }
    let before_all = PageToken::between(None, end.clone());
    let page = bucket.list(prefix, Some(&before_all), 1000).await?;
    if page.next.is_none() {
        let mut all = page.items;
        all.append(&mut found);
        return Ok(all);
    }
    let beginnings = SPANS.iter().filter(|span| days.iter().all(|days| days < span)).map(|days| before(*days));
    let bounds: Vec<Option<String>> = std::iter::once(end).chain(beginnings.map(Some)).chain([None]).collect();
    let spans = bounds.windows(2).rev().map(|span| listed(bucket, prefix, span[1].clone(), span[0].clone()));
    let mut all: Vec<ObjectInfo> = try_join_all(spans).await?.into_iter().flatten().collect();
    all.append(&mut found);
    Ok(all)
}

async fn listed(
    bucket: &Bucket,
    prefix: &str,
    start: Option<String>,
    end: Option<String>,
) -> Result<Vec<ObjectInfo>, Error> {
    let first = PageToken::between(start, end);
    let page = async |after: Option<PageToken>| bucket.list(prefix, Some(&after.unwrap_or(first.clone())), 1000).await;
    items(page).try_collect().await
}
