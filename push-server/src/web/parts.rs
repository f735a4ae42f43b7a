//! The small things that pages are made of: states, times, releases, pagers.

use bucket::{AppState, ReleaseName, Timestamp};
use maud::{Markup, html};

use super::params::link;
use crate::text::cut;
use fleet::{
    condition::{Condition, Look, Tone, app_look},
    plan::age_in_words,
};

/// A sentence from outside; what stands between backticks is shown as code.
pub(crate) fn prose(text: &str) -> Markup {
    const LONGEST: usize = 1000;
    let text = cut(text, LONGEST);
    let pieces: Vec<&str> = text.split('`').collect();
    // An odd number of backticks encloses nothing that can be told.
    let paired = pieces.len() % 2 == 1;
    html! {
        @if paired { @for (n, piece) in pieces.iter().enumerate() { @if n % 2 == 1 { code { (piece) } } @else { (piece) } } }
        @else { (text) }
    }
}

/// A symbol and a word in a colour.
pub(crate) fn badge(tone: Tone, symbol: &str, word: &str) -> Markup {
    html! {
        span class={ "badge " (tone_class(tone)) } { span.symbol aria-hidden="true" { (symbol) } " " (word) }
    }
}

/// The class that colours something.
pub(crate) fn tone_class(tone: Tone) -> &'static str {
    match tone {
        Tone::Good => "good",
        Tone::Notice => "notice",
        Tone::Bad => "bad",
        Tone::Quiet => "quiet",
    }
}

/// How a server is.
pub(crate) fn condition_badge(condition: Condition) -> Markup {
    let Look { tone, symbol, text } = condition.look();
    badge(tone, symbol, text)
}

/// How an app on a server is.
pub(crate) fn app_badge(state: AppState) -> Markup {
    let Look { tone, symbol, text } = app_look(state);
    badge(tone, symbol, text)
}

/// A moment, as how long ago it was.
pub(crate) fn ago(time: Timestamp, now: Timestamp) -> Markup {
    html! {
        time datetime=(time.strftime("%Y-%m-%dT%H:%M:%SZ")) title=(time.strftime("%Y-%m-%d %H:%M:%S UTC")) data-ago {
            (age_in_words(now.duration_since(time).as_secs())) " ago"
        }
    }
}

/// How long something has been going on.
pub(crate) fn lasting(since: Timestamp, now: Timestamp) -> Markup {
    html! {
        time datetime=(since.strftime("%Y-%m-%dT%H:%M:%SZ")) title=(since.strftime("since %Y-%m-%d %H:%M:%S UTC")) data-for {
            (age_in_words(now.duration_since(since).as_secs()))
        }
    }
}

/// A release in a few words: its commit, and who built it.
pub(crate) fn release(name: &ReleaseName) -> Markup {
    html! {
        span.release title=(name.stem()) {
            code { (name.commit().short()) } " "
            span.by { (cut(name.user(), 24)) ", " (name.time().strftime("%d %b %H:%M")) }
        }
    }
}

/// A release in a few words, or that there is none.
pub(crate) fn release_or(name: Option<&ReleaseName>, none: &str) -> Markup {
    html! { @if let Some(name) = name { (release(name)) } @else { span.none { (none) } } }
}

/// Up to this many characters, a name isn't broken over lines.
const SHORT: usize = 30;

/// A server's name as a link to its page.
pub(crate) fn server_link(name: &str) -> Markup {
    html! { a.short[name.len() <= SHORT] href={ "/servers/" (name) } { (name) } }
}

/// An app's name as a link to its page. An agent may report apps whose names are none: those are no links.
pub(crate) fn app_link(name: &str) -> Markup {
    html! {
        @if let Ok(app) = name.parse::<bucket::AppName>() { a.short[name.len() <= SHORT] href={ "/apps/" (app) } { (app) } }
        @else { (cut(name, 100)) }
    }
}

/// Bytes as people say them.
pub(crate) fn size(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "one digit after the point is shown")]
    let scaled = |unit: u64| format!("{:.1}", bytes as f64 / unit as f64);
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{} kB", scaled(1_000)),
        1_000_000..1_000_000_000 => format!("{} MB", scaled(1_000_000)),
        _ => format!("{} GB", scaled(1_000_000_000)),
    }
}

/// `1 server`, `2 servers`, `3 pushes`.
pub(crate) fn count(number: usize, one: &str) -> String {
    let plural = if one.ends_with("sh") { "es" } else { "s" };
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}{plural}") }
}

/// Rows on one page.
pub(crate) const PAGE: usize = 100;

/// The rows of one page, out of all there are.
pub(crate) fn page_of<T>(rows: impl Iterator<Item = T>, page: usize) -> Vec<T> {
    rows.skip((page - 1).saturating_mul(PAGE)).take(PAGE).collect()
}

/// Links to the pages before and after, if there are any. `pairs` is what else the address says.
pub(crate) fn pager(path: &str, pairs: &[(&str, &str)], page: usize, total: usize) -> Markup {
    let pages = total.div_ceil(PAGE).max(1);
    let to = |page: usize| {
        let page = page.to_string();
        link(path, pairs.iter().copied().chain([("page", page.as_str())]))
    };
    html! {
        @if pages > 1 || page > 1 {
            nav.pager aria-label="Pages" {
                @if page > 1 { a rel="prev" href=(to((page - 1).min(pages))) { "← Previous" } }
                span { "Page " (page) " of " (pages) }
                @if page < pages { a rel="next" href=(to(page + 1)) { "Next →" } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_counts_are_said_in_words() {
        assert_eq!((size(999), size(10_485_760)), ("999 B".to_owned(), "10.5 MB".to_owned()));
        assert_eq!((count(1, "server"), count(0, "server")), ("1 server".to_owned(), "0 servers".to_owned()));
    }

    #[test]
    fn a_state_is_told_by_word_and_symbol() {
        let badge = condition_badge(Condition::Silent).into_string();
        assert!(badge.contains("silent") && badge.contains('○'), "{badge}");
    }

    #[test]
    fn a_page_past_the_end_is_empty_and_leads_back() {
        assert!(page_of(0..150, 9).is_empty());
        assert!(page_of(0..10, usize::MAX).is_empty());
        let pager = pager("/servers", &[("q", "web")], 9, 150).into_string();
        assert!(pager.contains("/servers?q=web&amp;page=2"), "{pager}");
    }
}
