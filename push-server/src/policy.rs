//! What may go where, and who may do it: `skiapush.conf`.

use bucket::{AppName, ServerName};

use crate::identity::{Identity, Origin};

/// The rules of a `skiapush.conf`, or none.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    links: Links,
}

/// A push, as the rules look at it.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    /// Where to.
    pub server: &'a ServerName,
    /// Which app.
    pub app: &'a AppName,
    /// Whether the release is dirty.
    pub dirty: bool,
    /// Why, in the operator's words.
    pub reason: &'a str,
}

/// What somebody may do. Each includes those before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Nothing, not even look.
    Nobody,
    /// Look.
    Viewer,
    /// Choose releases.
    Deployer,
    /// Whatever else there is.
    Admin,
}

/// Addresses that pages link to, with placeholders.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Links {
    /// A commit: `{repo}`, `{commit}`.
    pub commit: Option<String>,
    /// What changed between two commits: `{repo}`, `{from}`, `{to}`.
    pub compare: Option<String>,
    /// A server's logs: `{server}`.
    pub logs: Option<String>,
    /// A server's monitoring: `{server}`.
    pub monitoring: Option<String>,
}

impl Policy {
    /// The groups that a server is in, in the file's order.
    pub fn groups_of(&self, _server: &ServerName) -> Vec<&str> {
        Vec::new()
    }

    /// The apps that the rules name for a server, whether or not it has them yet; empty without rules.
    pub fn apps_named_for(&self, _server: &ServerName) -> Vec<&AppName> {
        Vec::new()
    }

    /// What somebody may do with an app on a server.
    pub fn role(&self, who: &Identity, _app: &AppName, _server: &ServerName) -> Role {
        if who.origin == Origin::Local { Role::Admin } else { Role::Viewer }
    }

    /// The most that somebody may do anywhere.
    pub fn highest_role(&self, who: &Identity) -> Role {
        if who.origin == Origin::Local { Role::Admin } else { Role::Viewer }
    }

    /// Whether a group that the server is in wants a reason for every push.
    pub fn requires_reason(&self, _server: &ServerName) -> bool {
        false
    }

    /// Judges a push by every rule.
    ///
    /// # Errors
    /// Why it may not be, as a sentence for the operator.
    pub fn judge(&self, who: &Identity, change: Change) -> Result<(), String> {
        if self.role(who, change.app, change.server) < Role::Deployer {
            return Err(format!("`{}` may not push `{}` to `{}`", who.name, change.app, change.server));
        }
        Ok(())
    }

    /// Where a server's logs are.
    pub fn logs_link(&self, _server: &ServerName) -> Option<String> {
        None
    }

    /// Where a server's monitoring is.
    pub fn monitoring_link(&self, _server: &ServerName) -> Option<String> {
        None
    }

    /// Where a commit of a repository is.
    pub fn commit_link(&self, _repo: &str, _commit: &str) -> Option<String> {
        None
    }

    /// Where the difference between two commits of a repository is.
    pub fn compare_link(&self, _repo: &str, _from: &str, _to: &str) -> Option<String> {
        None
    }

    /// Addresses that pages link to.
    pub fn links(&self) -> &Links {
        &self.links
    }
}
