//! Whether a message of a subscription begins a round: pure. It may be forged, so nothing else is concluded from it.

use std::collections::{BTreeMap, BTreeSet};

use bucket::{Announcement, AppName, NotAnnounced};

use super::repo::RepoUrl;

/// What becomes of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// It begins a round, for channels of these apps.
    Accepted(BTreeSet<AppName>),
    /// It is about a build of a change that isn't merged.
    Unmerged,
    /// No channel has anything to do with it.
    Foreign,
    /// It says nothing that is known.
    Undecodable,
    /// It is too long to be looked at.
    Oversized,
}

impl Heard {
    /// Every label that there is.
    pub const LABELS: [&str; 5] = ["accepted", "unmerged", "foreign", "undecodable", "oversized"];

    /// In a word, as metrics have it.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Accepted(_) => "accepted",
            Self::Unmerged => "unmerged",
            Self::Foreign => "foreign",
            Self::Undecodable => "undecodable",
            Self::Oversized => "oversized",
        }
    }
}

/// What becomes of a message with this content, unless that was no text at all, and these attributes, where there are
/// `channels` of these apps and repositories; `bucket` is the name of the bucket, if Google has it.
pub fn heard<'a>(
    content: Option<&[u8]>,
    attributes: &BTreeMap<String, String>,
    channels: impl IntoIterator<Item = (&'a AppName, &'a RepoUrl)>,
    bucket: Option<&str>,
) -> Heard {
    let Some(content) = content else { return Heard::Undecodable };
    let announcement = match Announcement::parse(content, attributes) {
        Ok(announcement) => announcement,
        Err(NotAnnounced::Oversized) => return Heard::Oversized,
        Err(NotAnnounced::Undecodable) => return Heard::Undecodable,
    };
    if matches!(&announcement, Announcement::Image { tag, .. } if tag.contains('_')) {
        return Heard::Unmerged;
    }
    let is_concerned = |(app, of_channel): &(&AppName, &RepoUrl)| match &announcement {
        Announcement::App(of_upload) => of_upload == *app,
        Announcement::Image { repo, .. } => plain(repo) == plain(of_channel.as_str()),
        Announcement::Object { bucket: of_object, release } => {
            Some(of_object.as_str()) == bucket && release.as_ref().is_some_and(|release| release.app() == *app)
        }
    };
    let apps: BTreeSet<AppName> = channels.into_iter().filter(is_concerned).map(|(app, _)| app.clone()).collect();
    if apps.is_empty() { Heard::Foreign } else { Heard::Accepted(apps) }
}

/// An address without what some write at its end.
fn plain(repo: &str) -> &str {
    let repo = repo.strip_suffix('/').unwrap_or(repo);
    repo.strip_suffix(".git").unwrap_or(repo)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RELEASE: &str = "debs/web/web:dev@build-1:2026-11-20T19:05:02Z:7e0ff6059e653eb75a36efb621d0fd66d1ced433.deb";

    fn judge(content: &[u8], attributes: &[(&str, &str)], bucket: Option<&str>) -> Heard {
        let apps = ["web", "api", "docs"].map(|app| app.parse::<AppName>().unwrap());
        let repos = ["https://git.example/acme/web.git", "https://git.example/acme/web.git", "file:///srv/docs"];
        let repos = repos.map(|repo| repo.parse::<RepoUrl>().unwrap());
        let attributes = attributes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        heard(Some(content), &attributes, apps.iter().zip(&repos), bucket)
    }

    fn accepted(apps: &[&str]) -> Heard {
        Heard::Accepted(apps.iter().map(|app| app.parse().unwrap()).collect())
    }

    #[test]
    fn a_round_begins_for_channels_that_a_message_is_about() {
        for (content, want) in [
            (r#"{"app":"web"}"#, accepted(&["web"])),
            (r#"{"app":"db"}"#, Heard::Foreign),
            (
                r#"{"image_name":"web","tag":"7e0ff60","repo":"https://git.example/acme/web.git"}"#,
                accepted(&["api", "web"]),
            ),
            (
                r#"{"image_name":"web","tag":"7e0ff60","repo":"https://git.example/acme/web"}"#,
                accepted(&["api", "web"]),
            ),
            (r#"{"image_name":"web","tag":"7e0ff60_3","repo":"https://git.example/acme/web.git"}"#, Heard::Unmerged),
            (r#"{"image_name":"web","tag":"7e0ff60","repo":"https://git.example/acme/other.git"}"#, Heard::Foreign),
            (r#"{"image_name":"web","tag":"7e0ff60","repo":"--upload-pack=x"}"#, Heard::Foreign),
            (r#"{"image_name":"web","tag":"7e0ff60","repo":""}"#, Heard::Foreign),
            ("hello", Heard::Undecodable),
        ] {
            assert_eq!(judge(content.as_bytes(), &[], None), want, "{content}");
        }
        assert_eq!(judge(&vec![b' '; Announcement::MAX + 1], &[], None), Heard::Oversized);
        assert_eq!(heard(None, &BTreeMap::new(), [], None), Heard::Undecodable);
    }

    #[test]
    fn of_what_the_storage_tells_only_releases_of_this_bucket_count() {
        let told = |of: &str, object: &str, bucket| {
            judge(b"", &[("eventType", "OBJECT_FINALIZE"), ("bucketId", of), ("objectId", object)], bucket)
        };
        assert_eq!(told("acme-push", RELEASE, Some("acme-push")), accepted(&["web"]));
        assert_eq!(told("other", RELEASE, Some("acme-push")), Heard::Foreign);
        assert_eq!(told("acme-push", RELEASE, None), Heard::Foreign, "a directory tells nothing");
        assert_eq!(told("acme-push", "status/web-1.json", Some("acme-push")), Heard::Foreign);
        assert_eq!(told("acme-push", &RELEASE.replace("web", "db"), Some("acme-push")), Heard::Foreign);
    }

    #[test]
    fn each_has_its_label() {
        let all = [accepted(&[]), Heard::Unmerged, Heard::Foreign, Heard::Undecodable, Heard::Oversized];
        assert_eq!(all.map(|heard| heard.label()), Heard::LABELS);
    }
}
