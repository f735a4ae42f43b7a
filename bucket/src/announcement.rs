//! What is announced when a release is there: messages by which a watcher of channels looks at once, and not at its next poll.
//!
//! Whoever may publish can announce anything, and anything may be lost, late or doubled: nothing is concluded from an
//! announcement but that it is time to look.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{AppName, ObjectPath, ReleaseName, layout};

/// A message about releases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Announcement {
    /// `{"app"}`: `release` uploaded a release of this app.
    App(AppName),
    /// `{"image_name","tag","repo"}`: an image of a commit was built, as the builders of the original system tell it.
    Image {
        /// The build; one with `_` is of a change that isn't merged.
        tag: String,
        /// The repository, as an address.
        repo: String,
    },
    /// `OBJECT_FINALIZE`: an object was written, as Google's storage tells by itself.
    Object {
        /// The bucket's name.
        bucket: String,
        /// The release that the object is, if it is one.
        release: Option<ReleaseName>,
    },
}

/// Why a message isn't an announcement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAnnounced {
    /// It has more than [`Announcement::MAX`] bytes.
    Oversized,
    /// It is none of the forms that there are.
    Undecodable,
}

/// As it is written.
#[derive(Debug, Serialize, Deserialize)]
struct Uploaded {
    app: AppName,
}

/// As it is written.
#[derive(Debug, Serialize, Deserialize)]
struct Built {
    image_name: String,
    tag: String,
    repo: String,
}

impl Announcement {
    /// Most bytes of a message that are looked at.
    pub const MAX: usize = 64 << 10;

    /// What a message says, by its content and its attributes. What is unknown in it is passed over.
    ///
    /// # Errors
    /// When it says nothing of the kind.
    pub fn parse(content: &[u8], attributes: &BTreeMap<String, String>) -> Result<Self, NotAnnounced> {
        if content.len() > Self::MAX || attributes.iter().any(|(key, value)| key.len() + value.len() > Self::MAX) {
            return Err(NotAnnounced::Oversized);
        }
        // Cloud Storage, "Pub/Sub notifications": the attributes say it all, and there need not be content.
        if attributes.get("eventType").is_some_and(|event| event == "OBJECT_FINALIZE") {
            let (Some(bucket), Some(object)) = (attributes.get("bucketId"), attributes.get("objectId")) else {
                return Err(NotAnnounced::Undecodable);
            };
            let release = object.parse().ok().and_then(|path: ObjectPath| layout::release_at(&path));
            return Ok(Self::Object { bucket: bucket.clone(), release });
        }
        if let Ok(Uploaded { app }) = serde_json::from_slice(content) {
            return Ok(Self::App(app));
        }
        let built: Result<Built, _> = serde_json::from_slice(content);
        built.map(|Built { tag, repo, .. }| Self::Image { tag, repo }).map_err(|_| NotAnnounced::Undecodable)
    }

    /// What is published after a release of an app was uploaded.
    pub fn of_upload(app: &AppName) -> Vec<u8> {
        serde_json::to_vec(&Uploaded { app: app.clone() }).expect("an app's name is JSON")
    }

    /// What is published after an image was built of a repository that is at this address.
    pub fn of_build(image: &str, tag: &str, repo: &str) -> Vec<u8> {
        let built = Built { image_name: image.to_owned(), tag: tag.to_owned(), repo: repo.to_owned() };
        serde_json::to_vec(&built).expect("text is JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "7e0ff6059e653eb75a36efb621d0fd66d1ced433";

    #[test]
    fn three_forms_are_announcements_and_nothing_else() {
        let nothing = BTreeMap::new();
        let parse = |content: &str| Announcement::parse(content.as_bytes(), &nothing);
        let web: AppName = "web".parse().unwrap();
        assert_eq!(Announcement::parse(&Announcement::of_upload(&web), &nothing), Ok(Announcement::App(web.clone())));
        assert_eq!(parse(r#"{"app":"web","newer":1}"#), Ok(Announcement::App(web)));
        let built = parse(r#"{"image_name":"gcr.io/x/web","tag":"2026-7e0ff60","repo":"--upload-pack=x"}"#);
        let (tag, repo) = ("2026-7e0ff60".to_owned(), "--upload-pack=x".to_owned());
        assert_eq!(parse(&String::from_utf8(Announcement::of_build("gcr.io/x/web", &tag, &repo)).unwrap()), built);
        assert_eq!(built, Ok(Announcement::Image { tag, repo }));
        for bad in [
            "",
            "web",
            "null",
            "[]",
            "{}",
            r#"{"app":1}"#,
            r#"{"app":"../x"}"#,
            r#"{"app":"--upload-pack=x"}"#,
            r#"{"image_name":"x","tag":"y"}"#,
            r#"{"image_name":"x","tag":1,"repo":"z"}"#,
            &"[".repeat(60_000),
        ] {
            assert_eq!(parse(bad), Err(NotAnnounced::Undecodable), "{bad:.40}");
        }
        let padded = |length: usize| format!(r#"{{"app":"web"}}{}"#, " ".repeat(length - 13));
        assert!(parse(&padded(Announcement::MAX)).is_ok());
        assert_eq!(parse(&padded(Announcement::MAX + 1)), Err(NotAnnounced::Oversized));
    }

    #[test]
    fn the_storage_tells_of_objects_by_attributes() {
        let told = |event: &str, object: &str| {
            let attributes = [("eventType", event), ("bucketId", "acme-push"), ("objectId", object)];
            let attributes = attributes.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
            Announcement::parse(b"", &attributes)
        };
        let name = format!("web/web:dev@build-1:2026-11-20T19:05:02Z:{COMMIT}.deb");
        let object = |release: Option<&str>| {
            let release = release.map(|name| name.parse().unwrap());
            Ok(Announcement::Object { bucket: "acme-push".to_owned(), release })
        };
        assert_eq!(told("OBJECT_FINALIZE", &format!("debs/{name}")), object(Some(&name)));
        for other in ["status/web-1.json", "debs/web/x", "../x", "", &format!("x/{name}")] {
            assert_eq!(told("OBJECT_FINALIZE", other), object(None), "{other}");
        }
        assert_eq!(told("OBJECT_DELETE", &format!("debs/{name}")), Err(NotAnnounced::Undecodable));
        let only = [("eventType".to_owned(), "OBJECT_FINALIZE".to_owned())].into();
        assert_eq!(Announcement::parse(b"{\"app\":\"web\"}", &only), Err(NotAnnounced::Undecodable));
        let long = [("x".to_owned(), "x".repeat(Announcement::MAX))].into();
        assert_eq!(Announcement::parse(b"{\"app\":\"web\"}", &long), Err(NotAnnounced::Oversized));
    }
}
