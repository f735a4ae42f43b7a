//! What a built package says of its release, gathered for the bucket and for the linter.

use anyhow::{Context, Result, bail};
use bucket::{Control, PackageFacts, Provenance, ReleaseFields, ReleaseMetadata, ReleaseName, Sha256};

use crate::manifest::FILE;

/// A release, as its own control file describes it.
#[derive(Debug, Clone)]
pub(crate) struct Described {
    facts: PackageFacts,
    fields: ReleaseFields,
    provenance: Provenance,
}

impl Described {
    /// Reads all fields that a release must have, and checks that they have room in a bucket.
    pub(crate) fn read(control: &Control) -> Result<Self> {
        let Some(fields) = ReleaseFields::read(control)? else {
            bail!(
                "the package has no field `{}`: `release` did not build it. To release it as it is, add to {FILE} a table \
                 [package.NAME] with deb = \"path/of/it.deb\", and run `release -m \"why\" NAME`",
                ReleaseFields::RELEASE
            );
        };
        let provenance = Provenance::read(control)
            .context("incomplete release fields: build the package again with `release build`")?;
        let described = Self { facts: PackageFacts::read(control)?, fields, provenance };
        let (release, metadata) = described.clone().into_metadata([0; 32].into(), u64::MAX);
        if let Err(reason) = metadata.check_size(&release) {
            bail!("the release could not be uploaded: {reason}");
        }
        Ok(described)
    }

    /// Its name, and what is said of it in the bucket; hash and size are those of the whole file.
    pub(crate) fn into_metadata(self, sha256: Sha256, size: u64) -> (ReleaseName, ReleaseMetadata) {
        let PackageFacts { package, version, architecture, .. } = self.facts;
        let Provenance { dirty, note, repo, branch } = self.provenance;
        let services = self.fields.units.into_iter().map(|unit| unit.name.into()).collect();
        let note = note.into();
        let metadata = ReleaseMetadata {
            dirty,
            note,
            services,
            sha256,
            size,
            package,
            version,
            architecture,
            repo,
            branch,
            made_by: None,
        };
        (self.fields.release, metadata)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEM: &str = "web:dev@build-1:2026-11-20T19:05:02Z:7e0ff6059e653eb75a36efb621d0fd66d1ced433";

    fn described(extra: &str) -> Result<Described> {
        let text = format!("Package: web\nVersion: 1\nArchitecture: all\n{extra}");
        Described::read(&Control::parse(text.as_bytes())?)
    }

    #[test]
    fn facts_come_from_inside() {
        let fields = format!(
            "Push-Release: {STEM}\nPush-Note: a\\nb\nPush-Dirty: true\nPush-Units: web.service=restart x.timer=none\n"
        );
        let (release, metadata) = described(&fields).unwrap().into_metadata([0; 32].into(), 7);
        assert_eq!(release.stem(), STEM);
        assert_eq!((metadata.note.as_str(), metadata.dirty, metadata.size), ("a\nb", true, 7));
        assert_eq!(metadata.services, ["web.service", "x.timer"]);
    }

    #[test]
    fn packages_of_others_are_refused_with_the_way_to_release_them() {
        let error = described("").unwrap_err().to_string();
        assert!(error.contains("deb = "), "{error}");
        for bad in ["Push-Release: ../x:a@b\n".to_owned(), format!("Push-Release: {STEM}\nPush-Note: x\n")] {
            assert!(described(&bad).is_err(), "{bad}");
        }
    }
}
