//! The channels, and one channel: where it points, who follows it, what landed after it, and what is decided about it.

use axum::{extract::Path, http::StatusCode, response::Response};
use bucket::{AppName, ReleaseName};
use console::{count, duration};
use fleet::{
    channel::change::{Moves, before},
    policy::ChannelRules,
};
use maud::{Markup, html};

use crate::{
    badge::Severity,
    web::{
        channels::{NotChanged, ShownChannel, ShownFollower, address, no_watcher},
        pages::runs::of_commit,
        parts::{ago, app_badge, app_link, badge, foreign, prose, release_address, release_or, server_link},
        view::{Nav, View},
    },
};

/// Followers that are named in a list, each with why it is elsewhere, and on a channel's own page.
const NAMED: usize = 4;
const SHOWN: usize = 100;
/// Moves that are shown, and releases that are offered.
const MOVES: usize = 20;
const OFFERED: usize = 50;

/// `GET /channels`.
pub(crate) async fn list(view: View) -> Response {
    let content = html! {
        h1 { "Channels" }
        div #channels data-live {
            (watcher(&view))
            @if view.policy.channels().is_empty() {
                div.empty {
                    h2 { "No channels" }
                    p { "A channel moves an app forward along a branch. " code { "Channels" } " in the policy file says which there are." }
                }
            } @else { (table(&view, ShownChannel::all(&view))) }
        }
    };
    view.page("Channels", Nav::Channels, &content)
}

/// The channels of an app, if it has some, for its page.
pub(crate) fn of_app(view: &View, app: &AppName) -> Markup {
    let of_it: Vec<ShownChannel> = ShownChannel::all(view).filter(|shown| shown.rules.app == *app).collect();
    html! {
        @if !of_it.is_empty() {
            section aria-labelledby="channels-title" {
                h2 #channels-title { "Channels" }
                (table(view, of_it.into_iter()))
            }
        }
    }
}

/// That nothing moves channels, as it seems.
fn watcher(view: &View) -> Markup {
    let problem = if view.policy.channels().is_empty() { None } else { no_watcher(view) };
    html! { @if let Some(problem) = problem { p.banner.notice role="status" { (prose(&problem)) } } }
}

fn table<'a>(view: &View, channels: impl Iterator<Item = ShownChannel<'a>>) -> Markup {
    html! {
        table.rows {
            thead {
                tr {
                    th scope="col" { "Channel" } th scope="col" { "Release" } th scope="col" { "State" }
                    th scope="col" { "Followers" } th scope="col" { "Next round" }
                }
            }
            tbody { @for shown in channels { (row(view, &shown)) } }
        }
    }
}

fn row(view: &View, shown: &ShownChannel) -> Markup {
    let (rules, off) = (shown.rules, shown.off());
    html! {
        tr {
            th scope="row" data-label="Channel" { a href=(address(rules)) { (rules.app) " " (rules.channel) } }
            td data-label="Release" {
                (pointed(rules, shown.channel.release.as_ref()))
                @if let Some(place) = shown.place() {
                    " " span.facts { (place) @if let Some(state) = shown.state { ", as seen since " (ago(state.at, view.now)) } }
                }
            }
            td.wide data-label="State" { (state(view, shown)) }
            td.wide data-label="Followers" {
                @if let Some(image) = &rules.image { "tag " code { (image.tag) } } @else { (on_it(shown)) }
                @for follower in off.iter().take(NAMED) { (why(follower)) }
                @if off.len() > NAMED { p.reason { "and " (off.len() - NAMED) " more" } }
            }
            td.wide data-label="Next round" { (shown.outlook()) }
        }
    }
}

/// What a channel points to. An image has no page.
fn pointed(rules: &ChannelRules, release: Option<&ReleaseName>) -> Markup {
    html! {
        @match (&rules.image, release) {
            (Some(_), Some(release)) => code { (release.commit().short()) },
            _ => (release_or(release, "nothing yet")),
        }
    }
}

/// Whether it moves by itself, and what is wrong with it.
fn state(view: &View, shown: &ShownChannel) -> Markup {
    html! {
        @match &shown.channel.frozen {
            Some(frozen) => {
                (badge(Severity::Notice, "‖", "frozen"))
                p.reason { "by " (foreign(&frozen.by, 80)) ", " (ago(frozen.at, view.now)) ": " (prose(&frozen.in_words())) }
            },
            None => @match shown.rules.moves {
                Moves::Newest => (badge(Severity::Good, "→", "moves")),
                Moves::Told => (badge(Severity::Quiet, "→", "moves when told")),
            }
        }
        @if let Some(problem) = &shown.problem { (badge(Severity::Bad, "✗", "problem")) p.reason { (prose(problem)) } }
    }
}

/// `3 of 4 servers`.
fn on_it(shown: &ShownChannel) -> Markup {
    html! {
        (shown.on_it()) " of " (count(shown.followers.len(), "server"))
        @if !shown.unreadable.is_empty() {
            p.reason { (count(shown.unreadable.len(), "more server")) " whose document cannot be read" }
        }
    }
}

fn why(follower: &ShownFollower) -> Markup {
    html! { @if let Some(why) = follower.why_off { p.reason { (server_link(follower.server.name.as_str())) ": " (prose(why)) } } }
}

/// `GET /channels/{app}/{channel}`.
pub(crate) async fn get(view: View, Path((app, channel)): Path<(String, String)>) -> Response {
    let Some(shown) = ShownChannel::find(&view, &app, &channel) else {
        return view.problem(StatusCode::NOT_FOUND, "Channel not found", &format!("{}.", NotChanged::NotFound));
    };
    let title = format!("{} {}", shown.rules.app, shown.rules.channel);
    let content = html! {
        header.title {
            h1 {
                @if shown.rules.image.is_some() { (shown.rules.app) } @else { (app_link(shown.rules.app.as_str())) }
                " " (shown.rules.channel)
            }
        }
        div #channel data-live { (watcher(&view)) (facts(&view, &shown)) }
        div #decisions data-live { @if shown.may_be_changed(&view) { (forms(&view, &shown)) } }
        @if let Some(image) = &shown.rules.image {
            section aria-labelledby="image-title" {
                h2 #image-title { "Image" }
                p { "The tag " code { (image.tag) } " of " code { (image.name) } " is moved to the image of the commit it points to." }
                @if let Some(config) = &shown.rules.config {
                    p {
                        "That commit is written as the tag of its lines in "
                        @for (at, path) in config.paths().enumerate() {
                            @if at > 0 { ", " }
                            code { (foreign(path, 100)) }
                        }
                        " on " code { (foreign(config.branch.as_str(), 100)) } " of " code { (foreign(config.repo.as_str(), 200)) } "."
                    }
                }
            }
        } @else {
            section aria-labelledby="followers-title" {
                h2 #followers-title { "Followers" }
                div #followers data-live { (followers(&shown)) }
            }
        }
        section aria-labelledby="later-title" {
            h2 #later-title { "Commits after it" }
            div #later data-live { (later(&view, &shown)) }
        }
        section aria-labelledby="moves-title" {
            h2 #moves-title { "Moves" }
            div #moves data-live { (moves(&view, &shown)) }
        }
    };
    view.page(&title, Nav::Channels, &content)
}

fn facts(view: &View, shown: &ShownChannel) -> Markup {
    let (rules, channel) = (shown.rules, &shown.channel);
    html! {
        p.lead {
            "Points to " (pointed(rules, channel.release.as_ref()))
            @if let Some(place) = shown.place() { ", " (place) }
        }
        @if channel.release.is_some() {
            p.facts { "Moved there " (ago(channel.moved, view.now)) " by " (foreign(&channel.by, 80)) ": " (prose(&channel.why)) }
        }
        div { (state(view, shown)) }
        p.note { "Next round: " (shown.outlook()) "." }
        p.facts {
            @match rules.moves {
                Moves::Newest => "Moves to every newer release of ",
                Moves::Told => "Moves only when told, along ",
            }
            code { (foreign(rules.branch.as_str(), 100)) } " of " (foreign(rules.repo.as_str(), 200))
            @if let Some(from) = &rules.from {
                ", after " @if !rules.soak.is_zero() { (duration::show(rules.soak)) " " } "on " (from)
            }
            @if let Some(state) = shown.state { " · As " code { "push watch" } " has seen it since " (ago(state.at, view.now)) }
        }
        @if let Some(state) = shown.state.filter(|state| state.unreadable > 0) {
            p.banner.notice { "Passed over " (count(state.unreadable, "release")) " that cannot be read." }
            @let named = state.named_passed_over();
            ul.facts {
                @for why in &named { li { (prose(why)) } }
                @if state.unreadable > named.len() { li { "and " (state.unreadable - named.len()) " more" } }
            }
        }
        @if let Some(state) = shown.state.filter(|state| !state.on_older.is_empty()) {
            p.banner.notice {
                "Built on an older one than this, and to be built again: "
                @for (at, older) in state.on_older.iter().enumerate() {
                    @if at > 0 { ", " }
                    (older.app) " " code { (older.commit.short()) }
                }
                "."
            }
        }
        @for entry in channel.rolled_back.iter().take(NAMED) {
            p.banner.notice {
                (server_link(entry.server.as_str())) " went back from " code { (entry.release.commit().short()) } " by itself, "
                (ago(entry.at, view.now)) ": it goes no further. " span.detail { (prose(&entry.why)) }
            }
        }
    }
}

fn forms(view: &View, shown: &ShownChannel) -> Markup {
    let (rules, channel) = (shown.rules, &shown.channel);
    let generation = shown.generation.map(|generation| generation.0);
    let releases = view.snapshot.apps.get(&rules.app).filter(|_| rules.image.is_none());
    html! {
        form.push method="post" action=(address(rules)) {
            @if let Some(generation) = generation { input type="hidden" name="generation" value=(generation); }
            label for="decide-reason" { "Reason" }
            input #decide-reason type="text" name="reason" maxlength="500" autocomplete="off" required aria-describedby="decide-help";
            p #decide-help.help {
                "Recorded in the channel, for everybody who meets it. "
                @if rules.image.is_some() { "The next round moves the tag; " code { "push channel set" } " points it to another image." }
                @else { "Followers are pushed to in the next round." }
            }
            div.actions {
                @if channel.frozen.is_some() { button.primary type="submit" name="action" value="resume" { "Resume" } }
                @else { button.primary type="submit" name="action" value="freeze" { "Freeze" } }
                @if let Some(before) = before(channel) {
                    " " button type="submit" name="action" value="rollback" { "Roll back to " (before.commit().short()) }
                }
            }
        }
        @if let Some(releases) = releases {
            form.push method="post" action=(address(rules)) {
                @if let Some(generation) = generation { input type="hidden" name="generation" value=(generation); }
                label for="set-release" { "Point it to" }
                select #set-release name="release" {
                    @for listed in releases.newest().filter(|listed| !view.snapshot.rejected.contains(&listed.name)).take(OFFERED) {
                        option value=(listed.name.stem()) {
                            (listed.name.commit().short()) ", " (listed.name.time().strftime("%d %b %H:%M"))
                            @if listed.dirty { ", dirty" }
                            ": " (console::cut(listed.note, 60))
                        }
                    }
                }
                label for="set-reason" { "Reason to point it there" }
                input #set-reason type="text" name="reason" maxlength="500" autocomplete="off" required aria-describedby="set-help";
                p #set-help.help {
                    "It is then frozen there"
                    @if rules.moves == Moves::Told { ", unless that is further on " code { (rules.branch) } }
                    "."
                }
                @if let Some(from) = &rules.from {
                    label { input type="checkbox" name="skip_soak" value="yes"; " Also if it has not gone through " (from) }
                }
                div.actions { button type="submit" name="action" value="set" { "Set" } }
            }
        }
    }
}

fn followers(shown: &ShownChannel) -> Markup {
    let off = shown.off();
    let on = shown.followers.iter().filter(|follower| follower.why_off.is_none());
    html! {
        p { (on_it(shown)) }
        @if !shown.followers.is_empty() {
            table.rows {
                thead { tr { th scope="col" { "Server" } th scope="col" { "Release" } th scope="col" { "State" } th scope="col" { "Why not on it" } } }
                tbody {
                    @for follower in off.into_iter().chain(on).take(SHOWN) {
                        tr {
                            th scope="row" data-label="Server" { (server_link(follower.server.name.as_str())) }
                            td data-label="Release" { (release_or(follower.release, "no release chosen")) }
                            td data-label="State" { @if let Some(state) = follower.state { (app_badge(state)) } }
                            td.wide data-label="Why not on it" { @if let Some(why) = follower.why_off { (prose(why)) } }
                        }
                    }
                }
            }
            @if shown.followers.len() > SHOWN { p { "and " (shown.followers.len() - SHOWN) " more" } }
        }
    }
}

fn later(view: &View, shown: &ShownChannel) -> Markup {
    let later = shown.state.map(|state| state.later.as_slice()).unwrap_or_default();
    let behind = shown.state.and_then(|state| state.behind).unwrap_or(later.len());
    html! {
        @if later.is_empty() { p.none { "None, as far as the last round saw." } }
        @else {
            table.rows {
                thead { tr { th scope="col" { "Commit" } th scope="col" { "Release" } th scope="col" { "Run" } } }
                tbody {
                    @for later in later {
                        tr {
                            th scope="row" data-label="Commit" { code { (later.commit.short()) } }
                            td data-label="Release" {
                                @match &later.release {
                                    Some(_) if shown.rules.image.is_some() => "image",
                                    Some(release) => a href=(release_address(release)) { (release_or(Some(release), "")) },
                                    None => span.none { "none" },
                                }
                            }
                            td data-label="Run" { (of_commit(view, &later.commit)) }
                        }
                    }
                }
            }
            @if behind > later.len() { p { "and " (count(behind - later.len(), "commit")) " before these" } }
        }
    }
}

fn moves(view: &View, shown: &ShownChannel) -> Markup {
    html! {
        @if shown.channel.history.is_empty() { p.none { "It was never moved." } }
        @else {
            table.rows {
                thead { tr { th scope="col" { "Release" } th scope="col" { "When" } th scope="col" { "By" } th scope="col" { "Reason" } th scope="col" { "Run" } } }
                tbody {
                    @for entry in shown.channel.history.iter().take(MOVES) {
                        tr {
                            th scope="row" data-label="Release" {
                                (pointed(shown.rules, Some(&entry.release)))
                                @if entry.without_soak { " " span.tag { "without soak" } }
                            }
                            td data-label="When" { (ago(entry.at, view.now)) }
                            td data-label="By" { (foreign(&entry.by, 80)) }
                            td.wide data-label="Reason" { (prose(&entry.why)) }
                            td data-label="Run" { (run_of(view, &entry.release)) }
                        }
                    }
                }
            }
        }
    }
}

/// The newest run of the commit that a release counts as.
fn run_of(view: &View, release: &ReleaseName) -> Markup {
    let listed = view.snapshot.apps.get(release.app()).and_then(|releases| releases.get(release));
    of_commit(view, listed.as_ref().map_or(release.commit(), |listed| listed.commit()))
}

#[cfg(test)]
mod tests {
    use axum::http::Method;

    use super::*;
    use crate::web::testing::{body, release_of, rules, send, server, web};

    #[tokio::test]
    async fn who_may_change_a_channel_does_it_on_its_page_over_what_they_saw() {
        let (directory, web) = web().await;
        let one = "Channels: [{ App: 'web', Repo: 'https://git.example/web.git', Servers: ['web-*'] }]";
        let (old, new) = (release_of(&web, 7).await, release_of(&web, 9).await);
        server(&web, "web-1", Some(&old), "converged", "converged").await;
        web.refresher.refresh().await;
        assert!(!body(&web, "viewer", "/").await.contains("href=\"/channels\""));
        rules(directory.path(), one);
        assert!(body(&web, "viewer", "/").await.contains("href=\"/channels\""));
        let page = "/channels/web/prod";
        let post = async |who: &str, form: String| send(&web, who, Method::POST, page, form).await.status();
        assert!(!body(&web, "viewer", page).await.contains("<form"));
        assert!(body(&web, "deployer", page).await.contains("name=\"action\" value=\"freeze\""));
        let set = |release: &bucket::ReleaseName, more: &str| {
            format!("action=set&release={}&reason=%3Cb%3Efair{more}", release.stem().replace('@', "%40"))
        };
        assert_eq!(post("viewer", set(&old, "")).await, StatusCode::FORBIDDEN);
        assert_eq!(post("deployer", "action=freeze&reason=".to_owned()).await, StatusCode::CONFLICT);
        assert_eq!(post("deployer", "action=freeze&reason=x&generation=x".to_owned()).await, StatusCode::BAD_REQUEST);
        assert_eq!(post("deployer", set(&old, "")).await, StatusCode::SEE_OTHER);
        // Who still sees a channel that was never moved.
        assert_eq!(post("deployer", set(&new, "")).await, StatusCode::CONFLICT);
        let shown = body(&web, "deployer", page).await;
        assert!(
            shown.contains("&lt;b&gt;fair") && !shown.contains("<b>") && shown.contains("1 of 1 server"),
            "{shown}"
        );
        let generation = shown.split("name=\"generation\" value=\"").nth(1).unwrap().split('"').next().unwrap();
        assert_eq!(post("deployer", set(&new, &format!("&generation={generation}"))).await, StatusCode::SEE_OTHER);
        assert!(body(&web, "viewer", "/channels").await.contains("another release"));
        let of_server = body(&web, "viewer", "/servers/web-1").await;
        assert!(
            of_server.contains("follows <a href=\"/channels/web/prod\">prod</a>: <bdi>another release"),
            "{of_server}"
        );
        assert!(body(&web, "viewer", "/apps/web").await.contains("href=\"/channels/web/prod\""));
        // What cannot be understood is said, and is changed by nobody.
        std::fs::write(directory.path().join("bucket/channels/web/prod.json"), "{").unwrap();
        web.refresher.refresh().await;
        let shown = body(&web, "deployer", page).await;
        assert!(shown.contains("malformed"), "{shown}");
        assert_eq!(post("deployer", "action=freeze&reason=x".to_owned()).await, StatusCode::CONFLICT);
        let absent = send(&web, "viewer", Method::GET, "/channels/web/x", String::new()).await;
        assert_eq!(absent.status(), StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn a_channel_of_images_names_them_by_their_commits_and_is_changed_by_who_may_deploy_the_app_anywhere() {
        let (directory, web) = web().await;
        let image =
            "Channels: [{ App: 'web', Repo: 'https://git.example/web.git', Image: 'i.example/web', Tag: 'prod' }]";
        rules(directory.path(), image);
        let package = release_of(&web, 7).await;
        let commit = "7e0ff6059e653eb75a36efb621d0fd66d1ced433";
        let image: bucket::Image = serde_json::from_value(serde_json::json!({
            "schema": 1, "app": "web", "commit": commit, "name": "i.example/web", "tag": commit, "who": "watcher@ops",
            "digest": format!("sha256:{}", "07".repeat(32)), "media_type": "application/vnd.oci.image.manifest.v1+json",
            "time": "2026-11-26T23:30:00Z",
        }))
        .unwrap();
        web.refresher.bucket().record_image(&image).await.unwrap();
        web.refresher.refresh().await;
        let set = async |who: &str, release: &str| {
            let form = format!("action=set&release={}&reason=fair", release.replace('@', "%40"));
            send(&web, who, Method::POST, "/channels/web/prod", form).await.status()
        };
        let release = image.release().unwrap();
        assert_eq!(set("viewer", release.stem()).await, StatusCode::FORBIDDEN);
        assert_eq!(set("deployer", package.stem()).await, StatusCode::CONFLICT, "that is no image");
        assert_eq!(set("deployer", release.stem()).await, StatusCode::SEE_OTHER);
        let page = body(&web, "deployer", "/channels/web/prod").await;
        for shown in [
            "Points to <code>7e0ff6059e65</code>",
            "The tag <code>prod</code> of <code>i.example/web</code>",
            "value=\"resume\"",
        ] {
            assert!(page.contains(shown), "{shown}: {page}");
        }
        assert!(!page.contains("/releases/") && !page.contains("Followers") && !page.contains("set-release"), "{page}");
        assert!(body(&web, "viewer", "/channels").await.contains("tag <code>prod</code>"));
        let told = body(&web, "viewer", "/api/v1/channels/web/prod").await;
        assert!(told.contains("\"image\":\"i.example/web:prod\""), "{told}");
    }
}
