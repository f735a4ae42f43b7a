//! What may go where, and who may do it: `skiapush.conf`.
//!
//! ```json5
//! { Servers: { "web-1": { AppNames: ["web", "pulld"] } } }    // all that the original system had
//! ```
//!
//! `docs/skiapush.conf` shows every key. The rules are pure: [`Policy::judge`] decides, `read.rs` makes them from text,
//! and [`watched::Watched`] reads the file anew when it changes.

mod links;
mod pattern;
mod read;
pub mod watched;

use std::collections::BTreeMap;

use bucket::{AppName, ServerName};

use crate::identity::{Identity, Origin};
pub use links::Links;
pub use pattern::Pattern;
pub use read::{LIMIT, Problem};

/// The rules of a `skiapush.conf`, or none.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// Where they are from, for messages.
    source: String,
    /// The apps of each server that is named; `None` when no server is.
    servers: Option<BTreeMap<ServerName, Vec<Pattern>>>,
    groups: Vec<Group>,
    /// `None` when the file gives none.
    roles: Option<Vec<Grant>>,
    links: Links,
}

/// Servers with rules of their own.
#[derive(Debug, Clone)]
struct Group {
    name: String,
    servers: Vec<Pattern>,
    /// The apps that may go to them; `None` leaves that to `Servers`.
    apps: Option<Vec<Pattern>>,
    require_reason: bool,
    forbid_dirty: bool,
}

/// A role, for whom, and where.
#[derive(Debug, Clone)]
struct Grant {
    role: Role,
    who: Vec<Pattern>,
    /// `None`: all.
    apps: Option<Vec<Pattern>>,
    /// `None`: all servers.
    groups: Option<Vec<String>>,
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

impl Policy {
    /// Reads the rules from JSON5. `source` is where it is from, for messages.
    ///
    /// # Errors
    /// Everything that is wrong with it, in order.
    pub fn parse(source: &str, text: &str) -> Result<Self, Vec<Problem>> {
        read::read(source, text)
    }

    /// The groups that a server is in, in the file's order.
    pub fn groups_of(&self, server: &ServerName) -> Vec<&str> {
        self.of(server).map(|group| group.name.as_str()).collect()
    }

    /// The names of all groups, in the file's order.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.groups.iter().map(|group| group.name.as_str())
    }

    /// The servers that the file names one by one.
    pub fn servers(&self) -> impl Iterator<Item = &ServerName> {
        self.servers.iter().flat_map(BTreeMap::keys)
    }

    /// The apps that the rules name for a server, whether or not it has them yet; patterns name none.
    pub fn apps_named_for(&self, server: &ServerName) -> Vec<AppName> {
        let mut apps: Vec<AppName> = self.patterns(server).filter_map(Pattern::as_app).collect();
        apps.sort();
        apps.dedup();
        apps
    }

    /// What somebody may do with an app on a server.
    pub fn role(&self, who: &Identity, app: &AppName, server: &ServerName) -> Role {
        let here = |grant: &&Grant| {
            let groups = self.groups_of(server);
            grant.apps.as_ref().is_none_or(|apps| apps.iter().any(|pattern| pattern.matches(app.as_str())))
                && grant.groups.as_ref().is_none_or(|named| named.iter().any(|name| groups.contains(&name.as_str())))
        };
        match self.grants(who) {
            None => without_roles(who),
            Some(grants) => {
                let looks = if grants.is_empty() { Role::Nobody } else { Role::Viewer };
                grants.into_iter().filter(here).map(|grant| grant.role).fold(looks, Role::max)
            }
        }
    }

    /// The most that somebody may do anywhere.
    pub fn highest_role(&self, who: &Identity) -> Role {
        match self.grants(who) {
            None => without_roles(who),
            Some(grants) => grants.into_iter().map(|grant| grant.role).fold(Role::Nobody, Role::max),
        }
    }

    /// Whether a group that the server is in wants a reason for every push.
    pub fn requires_reason(&self, server: &ServerName) -> bool {
        self.of(server).any(|group| group.require_reason)
    }

    /// Judges a push by every rule.
    ///
    /// # Errors
    /// Why it may not be, as a sentence for the operator.
    pub fn judge(&self, who: &Identity, change: Change) -> Result<(), String> {
        let Change { server, app, dirty, reason } = change;
        self.may_go(app, server)?;
        if self.role(who, app, server) < Role::Deployer {
            let rules =
                if self.roles.is_some() { format!("; `Roles` in {} says who may", self.source) } else { String::new() };
            return Err(format!("`{}` may not push `{app}` to `{server}`{rules}", who.name));
        }
        if let Some(group) = self.of(server).find(|group| group.forbid_dirty && dirty) {
            return Err(format!(
                "the release is dirty, built with uncommitted changes, and the group `{}` of `{server}` forbids that: release it from a commit",
                group.name
            ));
        }
        if let Some(group) = self.of(server).find(|group| group.require_reason && reason.trim().is_empty()) {
            return Err(format!("the group `{}` of `{server}` wants a reason for every push: give one", group.name));
        }
        Ok(())
    }

    /// Addresses that pages link to.
    pub fn links(&self) -> &Links {
        &self.links
    }

    fn may_go(&self, app: &AppName, server: &ServerName) -> Result<(), String> {
        // A group's `AppNames` say nothing of servers that aren't in it.
        let restricted = self.servers.is_some() || self.of(server).any(|group| group.apps.is_some());
        if !restricted || self.patterns(server).any(|pattern| pattern.matches(app.as_str())) {
            return Ok(());
        }
        let allowed: Vec<String> = self.patterns(server).map(|pattern| format!("`{pattern}`")).collect();
        Err(if allowed.is_empty() {
            format!("{} names no app that may go to `{server}`: add it there, or check the server's name", self.source)
        } else {
            format!("{} lets only {} go to `{server}`, not `{app}`", self.source, allowed.join(", "))
        })
    }

    /// The apps that may go to a server, by its own name and by its groups.
    fn patterns(&self, server: &ServerName) -> impl Iterator<Item = &Pattern> {
        let own = self.servers.iter().filter_map(|servers| servers.get(server)).flatten();
        own.chain(self.of(server).filter_map(|group| group.apps.as_ref()).flatten())
    }

    fn of(&self, server: &ServerName) -> impl Iterator<Item = &Group> {
        self.groups.iter().filter(|group| group.servers.iter().any(|pattern| pattern.matches(server.as_str())))
    }

    /// The roles that are given to somebody; `None` when the file gives none to anybody.
    fn grants(&self, who: &Identity) -> Option<Vec<&Grant>> {
        let roles = self.roles.as_ref()?;
        Some(roles.iter().filter(|grant| grant.who.iter().any(|pattern| pattern.matches(&who.name))).collect())
    }
}

/// With no roles everybody may look, and who is on the machine may do everything.
fn without_roles(who: &Identity) -> Role {
    match who.origin {
        Origin::Local => Role::Admin,
        Origin::SignedIn => Role::Viewer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = r#"{
        // What the original had.
        Servers: { "web-1": { AppNames: ["web", "pulld"] }, 'new-1': { AppNames: ["web"], }, },
        Groups: {
            prod: { Servers: ["web-*"], AppNames: ["mail*"], RequireReason: true, ForbidDirty: true },
            stage: { Servers: ["*-stage"], AppNames: ["*"] },
        },
        Roles: [
            { Role: "viewer", Who: ["*"] },
            { Role: "deployer", Who: ["*@acme.example"], Apps: ["web*"], Groups: ["prod"] },
            { Role: "admin", Who: ["root@acme.example"] },
        ],
    }"#;

    fn who(name: &str, origin: Origin) -> Identity {
        Identity { name: name.into(), origin }
    }

    fn judge(
        policy: &Policy,
        who: &Identity,
        app: &str,
        server: &str,
        dirty: bool,
        reason: &str,
    ) -> Result<(), String> {
        let (app, server) = (app.parse().unwrap(), server.parse().unwrap());
        policy.judge(who, Change { server: &server, app: &app, dirty, reason })
    }

    #[test]
    fn every_rule_binds() {
        let policy = Policy::parse("skiapush.conf", RULES).unwrap();
        let (root, dev, outsider) = ("root@acme.example", "dev@acme.example", "outsider@evil.example");
        for (name, app, server, dirty, reason, want) in [
            (root, "web", "web-1", false, "why", None),
            (root, "mail-relay", "web-1", false, "why", None),
            (root, "api", "web-1", false, "why", Some("lets only `web`, `pulld`, `mail*` go to `web-1`, not `api`")),
            (root, "web", "db-1", false, "why", Some("names no app that may go to `db-1`")),
            (root, "anything", "x-stage", true, "", None),
            (root, "web", "web-1", true, "why", Some("dirty")),
            (root, "web", "web-1", false, " ", Some("wants a reason")),
            (root, "web", "new-1", true, "", None),
            (dev, "web", "web-1", false, "why", None),
            (dev, "pulld", "web-1", false, "why", Some("may not push `pulld` to `web-1`")),
            (dev, "web", "new-1", false, "why", Some("may not push")),
            (outsider, "web", "web-1", false, "why", Some("may not push")),
        ] {
            let got = judge(&policy, &who(name, Origin::SignedIn), app, server, dirty, reason);
            match want {
                None => assert_eq!(got, Ok(()), "{name} {app} {server}"),
                Some(want) => {
                    assert!(got.as_ref().is_err_and(|text| text.contains(want)), "{name} {app} {server}: {got:?}");
                }
            }
        }
        assert_eq!(policy.highest_role(&who(outsider, Origin::SignedIn)), Role::Viewer);
        assert_eq!(policy.groups_of(&"web-1".parse().unwrap()), ["prod"]);
        assert_eq!(policy.apps_named_for(&"web-1".parse().unwrap()).len(), 2);
    }

    #[test]
    fn without_roles_everybody_looks_and_only_local_pushes() {
        let policy = Policy::default();
        assert_eq!(judge(&policy, &who("dev", Origin::Local), "web", "any", true, ""), Ok(()));
        assert!(judge(&policy, &who("dev", Origin::SignedIn), "web", "any", false, "").is_err());
        assert_eq!(policy.highest_role(&who("dev", Origin::SignedIn)), Role::Viewer);
    }

    #[test]
    fn a_groups_apps_bind_its_own_servers_only() {
        let rules = "{ Groups: { stage: { Servers: ['*-stage'], AppNames: ['web'] }, prod: { Servers: ['web-1'] } } }";
        let policy = Policy::parse("x", rules).unwrap();
        let dev = who("dev", Origin::Local);
        assert_eq!(judge(&policy, &dev, "api", "web-1", false, ""), Ok(()));
        assert_eq!(judge(&policy, &dev, "api", "db-1", false, ""), Ok(()));
        assert!(judge(&policy, &dev, "api", "web-stage", false, "").is_err());
    }

    #[test]
    fn who_is_given_no_role_may_not_even_look() {
        let policy = Policy::parse("x", r#"{ Roles: [{ Role: "admin", Who: ["dev"] }] }"#).unwrap();
        assert_eq!(policy.highest_role(&who("ops", Origin::Local)), Role::Nobody);
        assert_eq!(
            policy.role(&who("ops", Origin::Local), &"web".parse().unwrap(), &"w".parse().unwrap()),
            Role::Nobody
        );
    }

    #[test]
    fn the_example_is_good() {
        let policy = Policy::parse("docs/skiapush.conf", include_str!("../../../docs/skiapush.conf")).unwrap();
        assert_eq!(policy.groups().collect::<Vec<_>>(), ["prod", "stage"]);
    }
}
