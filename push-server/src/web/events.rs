//! `GET /events`: tells pages that something changed, so that they fetch themselves anew.
//!
//! An event says only that, never what: whatever is shown is drawn by the same code as the page itself. While nothing
//! changes, `read` tells now and then when the bucket was read last, so that pages can show how fresh they are.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    extract::State,
    http::StatusCode,
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::stream;

use super::{params::Params, shared::Web};

/// Most pages that are followed at the same time.
const MAX_STREAMS: usize = 500;
/// Changes closer together than this are one event.
const PACE: Duration = Duration::from_millis(400);
/// So soon the first of them is told: what belongs to one change is there by then.
const GATHERING: Duration = Duration::from_millis(100);
/// How often an event says how fresh pages are.
const READ: Duration = Duration::from_secs(15);
/// A stream ends after this long, so that who may look is judged anew.
const LIFE: Duration = Duration::from_mins(30);

static OPEN: AtomicUsize = AtomicUsize::new(0);

/// One open stream; it counts as long as it lives.
struct Place;

impl Place {
    fn take() -> Option<Self> {
        if OPEN.fetch_add(1, Ordering::Relaxed) < MAX_STREAMS {
            return Some(Self);
        }
        OPEN.fetch_sub(1, Ordering::Relaxed);
        None
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}

/// `GET /events`: `seen=N` is the number of the last change that the page has.
pub(crate) async fn get(State(web): State<Arc<Web>>, params: Params) -> Response {
    let Some(place) = Place::take() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many open pages\n").into_response();
    };
    let (mut changes, ending) = (web.refresher.changes(), web.ending.subscribe());
    // Something may have changed between the drawing of the page and now.
    if params.get("seen").is_some_and(|seen| seen != changes.borrow().to_string()) {
        changes.mark_changed();
    }
    let end = tokio::time::Instant::now() + LIFE;
    let paced = tokio::time::Instant::now();
    let begin = (web, changes, ending, place, paced);
    let events = stream::unfold(begin, move |(web, mut changes, mut ending, place, mut paced)| async move {
        let event = tokio::select! {
            news = changes.changed() => {
                news.ok()?;
                let soon = tokio::time::Instant::now() + GATHERING;
                tokio::time::sleep_until(paced.max(soon)).await;
                paced = tokio::time::Instant::now() + PACE;
                Event::default().event("change").data(changes.borrow_and_update().to_string())
            }
            () = tokio::time::sleep(READ) => {
                let taken = web.refresher.snapshot().taken;
                Event::default().event("read").data(taken.map(|taken| taken.to_string()).unwrap_or_default())
            }
            () = async { drop(ending.wait_for(|ending| *ending).await) } => return None,
            () = tokio::time::sleep_until(end) => return None,
        };
        Some((Ok::<_, Infallible>(event), (web, changes, ending, place, paced)))
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(Duration::from_secs(20))).into_response()
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;
    use crate::web::testing::web;

    #[tokio::test]
    async fn the_first_change_is_told_soon_and_the_next_ones_together() {
        let (_directory, web) = web().await;
        let mut events = get(State(web.clone()), Params::default()).await.into_body().into_data_stream();
        tokio::time::pause();
        let begun = tokio::time::Instant::now();
        web.refresher.touch();
        let first = events.next().await.unwrap().unwrap();
        assert!(first.starts_with(b"event: change"), "{first:?}");
        assert!(begun.elapsed() < PACE);
        for _ in 0..3 {
            web.refresher.touch();
        }
        let second = events.next().await.unwrap().unwrap();
        assert!(second.ends_with(b"data: 4\n\n"), "{second:?}");
        assert!(begun.elapsed() >= PACE);
    }
    #[tokio::test]
    async fn what_changed_between_a_page_and_its_stream_is_told_at_once() {
        let (_directory, web) = web().await;
        let seen = web.refresher.changes().borrow().to_string();
        web.refresher.touch();
        for (seen, expected) in [(seen.as_str(), "change"), ("", "read"), ("2", "change"), ("x", "change")] {
            let params = Params::of([("seen", seen)].into_iter());
            let mut events = get(State(web.clone()), params).await.into_body().into_data_stream();
            tokio::time::pause();
            let first = events.next().await.unwrap().unwrap();
            assert!(first.starts_with(format!("event: {expected}").as_bytes()), "{seen}: {first:?}");
            tokio::time::resume();
        }
    }
}
