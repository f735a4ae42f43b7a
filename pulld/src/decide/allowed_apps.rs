//! Which apps the configuration lets the server document install here. Pure.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// Globs of app names.
#[derive(Debug, Clone)]
pub(crate) struct AllowedApps {
    globs: Vec<String>,
    set: GlobSet,
}

impl PartialEq for AllowedApps {
    fn eq(&self, other: &Self) -> bool {
        self.globs == other.globs
    }
}

impl AllowedApps {
    /// Takes globs as `*`, `web-*`, `{web,db}`.
    ///
    /// # Errors
    /// When one of them is not a glob.
    pub(crate) fn new(globs: Vec<String>) -> Result<Self, globset::Error> {
        let mut set = GlobSetBuilder::new();
        for glob in &globs {
            set.add(GlobBuilder::new(glob).build()?);
        }
        let set = set.build()?;
        Ok(Self { globs, set })
    }

    /// The globs as they were written.
    pub(crate) fn globs(&self) -> &[String] {
        &self.globs
    }

    /// Whether the document may install `app` here.
    pub(crate) fn allows(&self, app: &str) -> bool {
        self.set.is_match(app)
    }
}
