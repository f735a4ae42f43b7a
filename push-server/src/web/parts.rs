//! The small things that pages are made of: states, times, releases, pagers.

use bucket::{AppState, PushKind, ReleaseName, Timestamp};
use console::{age, cut, cut_lines};
use fleet::{condition::Condition, history::WITHOUT_WAVES};
use maud::{Markup, html};

use super::params::link;
use crate::badge::{self, Badge, Severity};

/// Text from elsewhere, cut to a width. It may run from right to left without reordering what is around it.
pub(crate) fn foreign(text: &str, width: usize) -> Markup {
    html! { bdi { (cut(text, width)) } }
}

/// A sentence from elsewhere; what stands between backticks is shown as code.
pub(crate) fn prose(text: &str) -> Markup {
    const MAX_LENGTH: usize = 1000;
    let text = cut(text, MAX_LENGTH);
    let pieces: Vec<&str> = text.split('`').collect();
    // An odd number of backticks encloses nothing that can be known.
    let paired = pieces.len() % 2 == 1;
    html! {
        bdi {
            @if paired {
                @for (n, piece) in pieces.iter().enumerate() { @if n % 2 == 1 { code { (piece) } } @else { (piece) } }
            } @else { (text) }
        }
    }
}

/// Why something is as it is, from elsewhere: a sentence, and below it what a unit last wrote to its journal.
pub(crate) fn reason(text: &str) -> Markup {
    const MAX_LENGTH: usize = 3000;
    let lines = cut_lines(text, MAX_LENGTH);
    html! {
        p.reason { (prose(lines.first().map_or("", String::as_str))) }
        @if lines.len() > 1 { pre.reason { @for line in &lines[1..] { bdi { (line) } "\n" } } }
    }
}

/// A symbol and a word in a color.
pub(crate) fn badge(severity: Severity, symbol: &str, word: &str) -> Markup {
    html! {
        span class={ "badge " (severity_class(severity)) } {
            span.symbol aria-hidden="true" { (symbol) } " " (word)
        }
    }
}

/// The class that colors something.
pub(crate) fn severity_class(severity: Severity) -> &'static str {
    match severity {
        Severity::Good => "good",
        Severity::Notice => "notice",
        Severity::Bad => "bad",
        Severity::Quiet => "quiet",
    }
}

/// How a server is.
pub(crate) fn condition_badge(condition: Condition) -> Markup {
    let Badge { severity, symbol, text } = badge::of_server(condition);
    badge(severity, symbol, text)
}

/// How an app on a server is.
pub(crate) fn app_badge(state: AppState) -> Markup {
    let Badge { severity, symbol, text } = badge::of_app(state);
    badge(severity, symbol, text)
}

/// A moment, as how long ago it was.
pub(crate) fn ago(time: Timestamp, now: Timestamp) -> Markup {
    html! {
        time datetime=(time.strftime("%Y-%m-%dT%H:%M:%SZ")) title=(time.strftime("%Y-%m-%d %H:%M:%S UTC")) data-ago {
            (age(now.duration_since(time))) " ago"
        }
    }
}

/// How long something has been going on.
pub(crate) fn lasting(since: Timestamp, now: Timestamp) -> Markup {
    html! {
        time datetime=(since.strftime("%Y-%m-%dT%H:%M:%SZ")) title=(since.strftime("since %Y-%m-%d %H:%M:%S UTC")) data-for {
            (age(now.duration_since(since)))
        }
    }
}

/// A release in a few words: its commit, and who built it.
pub(crate) fn release(name: &ReleaseName) -> Markup {
    html! {
        span.release title=(name.stem()) {
            code { (name.commit().short()) } " "
            span.by { (foreign(name.user(), 24)) ", " (name.time().strftime("%d %b %H:%M")) }
        }
    }
}

/// The address of a release's page.
pub(crate) fn release_address(name: &ReleaseName) -> String {
    format!("/releases/{}", name.stem())
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
        @else { (foreign(name, 100)) }
    }
}

/// Where the reason for what is decided for everybody is asked for; `help` says who will read it.
pub(crate) fn reason_input(help: &str) -> Markup {
    html! {
        label for="reason" { "Reason" }
        input #reason type="text" name="reason" maxlength="500" autocomplete="off" required aria-describedby="reason-help";
        p #reason-help.help { (help) }
    }
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

/// A sentence that began as a part of one.
pub(crate) fn first_up(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// What a push was for, unless it is a deploy, and whether waves were set aside for it.
pub(crate) fn kind_tags(kind: &PushKind, without_waves: bool) -> Markup {
    html! {
        @if *kind != PushKind::Deploy { " " span.tag { (foreign(kind.as_str(), 40)) } }
        @if without_waves { " " span.tag title="An admin set the waves aside that the policy asks for" { (WITHOUT_WAVES) } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_is_escaped_and_isolated() {
        assert_eq!(foreign("<a>\u{202e}b", 40).into_string(), "<bdi>&lt;a&gt;\\u{202e}b</bdi>");
        assert_eq!(prose("`a` \u{5d0}").into_string(), "<bdi><code>a</code> \u{5d0}</bdi>");
    }

    #[test]
    fn a_reason_has_a_sentence_and_lines() {
        assert_eq!(reason("`a` failed").into_string(), "<p class=\"reason\"><bdi><code>a</code> failed</bdi></p>");
        let shown = reason("failed\nends with:\n  <b>\u{202e}").into_string();
        assert!(shown.ends_with("<bdi>ends with:</bdi>\n<bdi>  &lt;b&gt;\\u{202e}</bdi>\n</pre>"), "{shown}");
    }

    #[test]
    fn a_state_has_a_word_and_a_symbol() {
        let badge = condition_badge(Condition::Silent).into_string();
        assert!(badge.contains("not reporting") && badge.contains('○'), "{badge}");
    }

    #[test]
    fn a_page_past_the_end_is_empty_and_leads_back() {
        assert!(page_of(0..150, 9).is_empty());
        assert!(page_of(0..10, usize::MAX).is_empty());
        let pager = pager("/servers", &[("q", "web")], 9, 150).into_string();
        assert!(pager.contains("/servers?q=web&amp;page=2"), "{pager}");
    }
}
