//! Container images that were built from changes. They lie in registries, under tags that are theirs for as long as what is
//! recorded of them: `builds/{project}/{id}/{build}/{app}/{tag}.json` in the candidate bucket;
//! `candidates/{project}/{id}/{app}/{tag}@{digest}.json` in that of the releases, when the change is about to be merged. Another
//! image that is gated under the same tag gets the tag, and a record of its own: until the change names it, the one before counts.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    AppName, Bucket, BuildId, ChangeId, Commit, Error, Generation, ImageTag, Metadata, NameError, Object, ObjectPath,
    ReleaseName, Sha256, image, layout,
};

/// Most bytes of a record.
const MAX_SIZE: u64 = 4 << 10;

/// Which image of a change a record is of.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ImagePlace {
    /// One in the registry of candidates, recorded in the candidate bucket.
    Built {
        /// The change that it was built from.
        change: ChangeId,
        /// The build.
        build: BuildId,
        /// The app.
        app: AppName,
        /// The tag that it is to have.
        tag: ImageTag,
    },
    /// One in production's registry, recorded in the bucket of the releases, ready to be promoted.
    Gated {
        /// The change that it was built from.
        change: ChangeId,
        /// The app.
        app: AppName,
        /// The tag that it is to have.
        tag: ImageTag,
        /// The sum of its manifest.
        digest: Sha256,
    },
}

impl ImagePlace {
    /// The path of the record.
    pub fn path(&self) -> ObjectPath {
        match self {
            Self::Built { change, build, app, tag } => layout::built_image(change, build, app, tag),
            Self::Gated { change, app, tag, digest } => layout::gated_image(change, app, tag, digest),
        }
    }

    /// The image whose record an object is; `None` for one that lies where no such record does.
    pub fn at(path: &ObjectPath) -> Option<Self> {
        let built = || {
            let (change, build, app, tag) = layout::built_image_at(path)?;
            Some(Self::Built { change, build, app, tag })
        };
        built().or_else(|| {
            let (change, app, tag, digest) = layout::gated_image_at(path)?;
            Some(Self::Gated { change, app, tag, digest })
        })
    }

    /// The change that it was built from.
    pub fn change(&self) -> &ChangeId {
        match self {
            Self::Built { change, .. } | Self::Gated { change, .. } => change,
        }
    }

    /// The app.
    pub fn app(&self) -> &AppName {
        match self {
            Self::Built { app, .. } | Self::Gated { app, .. } => app,
        }
    }

    /// The tag that it is to have.
    pub fn tag(&self) -> &ImageTag {
        match self {
            Self::Built { tag, .. } | Self::Gated { tag, .. } => tag,
        }
    }

    /// The tag that it has until then: `{build}_{tag}` or `change_{id}_{tag}`.
    ///
    /// # Errors
    /// When that is too long for a tag.
    pub fn temporary(&self) -> Result<ImageTag, NameError> {
        match self {
            Self::Built { build, tag, .. } => format!("{build}_{tag}").parse(),
            Self::Gated { change, tag, .. } => Self::gated_tag(change, tag),
        }
    }

    /// The tag that an image of a change has in production's registry, whichever it is.
    ///
    /// # Errors
    /// As [`ImagePlace::temporary`].
    pub fn gated_tag(change: &ChangeId, tag: &ImageTag) -> Result<ImageTag, NameError> {
        format!("change_{}_{tag}", change.change()).parse()
    }
}

/// An image that was built from a change. Unknown fields are ignored by readers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageCandidate {
    /// The version of the format: 1.
    pub schema: u32,
    /// The app.
    pub app: AppName,
    /// The change that it was built from.
    pub change: ChangeId,
    /// Which version of that.
    pub patchset: u32,
    /// The commit of that.
    pub commit: Commit,
    /// The tree of that commit, as git names it.
    pub tree: Commit,
    /// The newest commit of the target branch that is in it, if that is known. What landed is newer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Commit>,
    /// The build that it is of.
    pub build: BuildId,
    /// Where it lies, for people: `images.example/acme/web`.
    pub name: String,
    /// The tag that it is to have.
    pub tag: ImageTag,
    /// The sum of its manifest.
    #[serde(with = "image::digest")]
    pub digest: Sha256,
    /// What kind of manifest that is.
    pub media_type: String,
    /// The image that it was built on, with its digest, as far as that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_image: Option<String>,
    /// When it was recorded, by the bucket's clock as far as that was known.
    pub time: Timestamp,
    /// Who recorded it.
    pub who: String,
    /// What this program doesn't know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl ImageCandidate {
    /// What it is called where releases are named.
    ///
    /// # Errors
    /// When app and commit have no room for anything else in a name.
    pub fn release(&self) -> Result<ReleaseName, NameError> {
        image::release(&self.app, &self.commit, self.time, &self.who)
    }

    /// What is understood of a record, if it is that of this image.
    fn parse(json: &[u8], place: &ImagePlace) -> Result<Self, String> {
        let read: Self = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        if read.schema != 1 {
            return Err(format!("it has schema {}, which this program does not know", read.schema));
        }
        let is_it = match place {
            ImagePlace::Built { build, .. } => read.build == *build,
            ImagePlace::Gated { digest, .. } => read.digest == *digest,
        };
        if !is_it || (&read.change, &read.app, &read.tag) != (place.change(), place.app(), place.tag()) {
            return Err("it says that it is another image".to_owned());
        }
        Ok(read)
    }
}

impl Bucket {
    /// Records an image of a change: over the generation that was read, or as the first.
    ///
    /// # Errors
    /// [`Error::Conflict`] or [`Error::AlreadyExists`] when somebody else recorded one there meanwhile, [`Error::TooLarge`] when
    /// what is said of it is too long. Nothing was written then.
    pub async fn record_image_candidate(
        &self,
        place: &ImagePlace,
        image: &ImageCandidate,
        seen: Option<Generation>,
    ) -> Result<Generation, Error> {
        let content = serde_json::to_vec_pretty(image).expect("what is said of an image is JSON");
        self.write_within(MAX_SIZE, &place.path(), content, &Metadata::new(), seen).await
    }

    /// What is recorded of an image of a change, with the generation; `None` if nothing is.
    ///
    /// # Errors
    /// Also [`Error::Malformed`].
    pub async fn image_candidate(&self, place: &ImagePlace) -> Result<Option<(Generation, ImageCandidate)>, Error> {
        let path = place.path();
        let Some(Object { generation, content, .. }) = self.get(&path, MAX_SIZE).await? else { return Ok(None) };
        let malformed = |reason| Error::Malformed { object: path.to_string(), reason };
        let read = ImageCandidate::parse(&content, place).map_err(malformed)?;
        Ok(Some((generation, read)))
    }

    /// Deletes what was read of an image of a change.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it is another record by now. That it is gone is fine.
    pub async fn delete_image_candidate(&self, place: &ImagePlace, seen: Generation) -> Result<(), Error> {
        self.delete(&place.path(), seen).await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn digest() -> Sha256 {
        "07".repeat(32).parse().unwrap()
    }

    fn places() -> [ImagePlace; 2] {
        let (change, app): (ChangeId, AppName) = ("web/12".parse().unwrap(), "web".parse().unwrap());
        let tag: ImageTag = "1234_2".parse().unwrap();
        let build = "k3v9".parse().unwrap();
        [
            ImagePlace::Built { change: change.clone(), build, app: app.clone(), tag: tag.clone() },
            ImagePlace::Gated { change, app, tag, digest: digest() },
        ]
    }

    #[test]
    fn a_record_is_found_by_its_path_and_says_which_tag_is_its_own() {
        let gated = format!("candidates/web/12/web/1234_2@{}.json", digest());
        let expected = [("builds/web/12/k3v9/web/1234_2.json", "k3v9_1234_2"), (&*gated, "change_12_1234_2")];
        for (place, (path, temporary)) in places().into_iter().zip(expected) {
            assert_eq!((place.path().as_str(), place.temporary().unwrap().as_str()), (path, temporary));
            assert_eq!(ImagePlace::at(&place.path()), Some(place));
        }
        for other in [
            "candidates/web/12/web/web:dev@ci:2026-11-20T19:05:02Z:7e0ff6059e653eb75a36efb621d0fd66d1ced433.deb",
            "candidates/web/12/1234.json",
            "candidates/web/12/web/1234.json",
            "candidates/web/12/web/1234@07.json",
            &format!("candidates/web/12/web/x/1234@{}.json", digest()),
            &format!("candidates/web/12/web/-@{}.json", digest()),
            "images/web/1234.json",
        ] {
            assert_eq!(ImagePlace::at(&other.parse().unwrap()), None, "{other}");
        }
        let long = ImagePlace::Gated {
            change: "web/12".parse().unwrap(),
            app: "web".parse().unwrap(),
            tag: "x".repeat(128).parse().unwrap(),
            digest: digest(),
        };
        assert!(long.temporary().unwrap_err().to_string().contains("longer than 128"));
    }

    #[test]
    fn a_record_must_be_that_of_its_image() {
        let [built, gated] = places();
        let written = json!({
            "schema": 1, "app": "web", "change": "web/12", "patchset": 3, "commit": "a".repeat(40), "tree": "e".repeat(40),
            "build": "k3v9", "name": "images.example/acme/web", "tag": "1234_2",
            "digest": format!("sha256:{}", "07".repeat(32)), "media_type": "x", "time": "2026-11-20T19:05:02Z",
            "who": "dev@build-1",
        });
        let read = |place, key: &str, value: &str| {
            let mut written = written.clone();
            written[key] = value.into();
            ImageCandidate::parse(written.to_string().as_bytes(), place)
        };
        let release = read(&gated, "build", "other").unwrap().release().unwrap();
        assert_eq!(release.stem(), format!("web:dev@build1:2026-11-20T19:05:02Z:{}", "a".repeat(40)));
        for (key, value) in [("change", "web/13"), ("app", "lib"), ("tag", "1234"), ("build", "k3v8")] {
            let refused = read(&built, key, value).unwrap_err();
            assert_eq!(refused, "it says that it is another image", "{key}");
        }
        let other = read(&gated, "digest", &format!("sha256:{}", "08".repeat(32)));
        assert_eq!(other.unwrap_err(), "it says that it is another image");
        assert!(read(&gated, "digest", &"07".repeat(32)).unwrap_err().contains("must begin with `sha256:`"));
    }
}
