//! Where everything of the agent lies on its machine.
//!
//! All of it can be put below another directory (`pulld --root`), which is how tests run beside a real agent.

use std::path::{Path, PathBuf};

/// The places the agent reads and writes.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    root: PathBuf,
}

impl Paths {
    /// The places below `root`; `/` on a real machine.
    pub(crate) fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// What everything lies below.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The configuration that people edit.
    pub(crate) fn config_file(&self) -> PathBuf {
        self.root.join("etc/pulld/pulld.toml")
    }

    /// Directories of configuration drop-ins. A file hides those of the same name in the directories before it.
    pub(crate) fn drop_ins(&self) -> [PathBuf; 3] {
        ["usr/lib/pulld/pulld.d", "run/pulld/pulld.d", "etc/pulld/pulld.d"].map(|directory| self.root.join(directory))
    }

    /// The settings that the configuration last had while it was valid.
    pub(crate) fn settings(&self) -> PathBuf {
        self.state("settings.toml")
    }

    /// Verified `.deb`s.
    pub(crate) fn cache(&self) -> PathBuf {
        self.state("cache")
    }

    /// The dpkg request under way and its result; runners of earlier versions expect this name.
    pub(crate) fn requests(&self) -> PathBuf {
        self.state("order")
    }

    /// The record of the transaction under way.
    pub(crate) fn transaction(&self) -> PathBuf {
        self.state("transaction.json")
    }

    /// Releases that are not retried.
    pub(crate) fn quarantine(&self) -> PathBuf {
        self.state("quarantine.json")
    }

    /// Apps that are left alone after a rollback by a person.
    pub(crate) fn pauses(&self) -> PathBuf {
        self.state("pauses.json")
    }

    /// The releases that stayed up here, in their order.
    pub(crate) fn lineage(&self) -> PathBuf {
        self.state("lineage.json")
    }

    /// What was installed when the agent last looked.
    pub(crate) fn seen(&self) -> PathBuf {
        self.state("seen.json")
    }

    /// How often units were restarted lately.
    pub(crate) fn stability(&self) -> PathBuf {
        self.state("stability.json")
    }

    /// What happened here lately.
    pub(crate) fn events(&self) -> PathBuf {
        self.state("events.json")
    }

    /// The server document as last read.
    pub(crate) fn document(&self) -> PathBuf {
        self.state("document.json")
    }

    /// The rollback target of pulld itself, read by `pulld-rescue.service`.
    pub(crate) fn rescue(&self) -> PathBuf {
        self.state("rescue")
    }

    /// Held as long as an agent runs.
    pub(crate) fn lock(&self) -> PathBuf {
        self.runtime("lock")
    }

    /// Where the agent takes commands.
    pub(crate) fn socket(&self) -> PathBuf {
        self.runtime("pulld.sock")
    }

    /// This machine's copy of the last report.
    pub(crate) fn status(&self) -> PathBuf {
        self.runtime("status.json")
    }

    /// Why each app is as that says.
    pub(crate) fn causes(&self) -> PathBuf {
        self.runtime("causes.json")
    }

    /// Identifies the machine (machine-id(5)).
    pub(crate) fn machine_id(&self) -> PathBuf {
        self.root.join("etc/machine-id")
    }

    fn state(&self, name: &str) -> PathBuf {
        self.root.join("var/lib/pulld").join(name)
    }

    fn runtime(&self, name: &str) -> PathBuf {
        self.root.join("run/pulld").join(name)
    }
}
