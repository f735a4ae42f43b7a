//! The rules themselves, and what follows from them. Pure.

use std::{collections::BTreeMap, time::Duration};

use bucket::{AppName, ChannelName, ServerName};

use super::{channels::ChannelRules, links::Links, pattern::Pattern, refusal::Refusal};
use crate::{
    filter::Groups,
    identity::{Identity, Origin},
    wish::{Asked, Share},
};

/// The rules of a `skiapush.conf`, or none.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// Where they are from, for messages.
    pub(super) source: String,
    /// The apps of each server that is named; `None` when no server is.
    pub(super) servers: Option<BTreeMap<ServerName, Vec<Pattern>>>,
    pub(super) groups: Vec<Group>,
    /// The waves in which pushes of an app go out.
    pub(super) apps: BTreeMap<AppName, Asked>,
    pub(super) channels: Vec<ChannelRules>,
    /// `None` when the file gives none.
    pub(super) roles: Option<Vec<Grant>>,
    pub(super) links: Links,
}

/// Servers with rules of their own.
#[derive(Debug, Clone, Default)]
pub(super) struct Group {
    pub(super) name: String,
    pub(super) servers: Vec<Pattern>,
    /// The apps that may go to them; `None` leaves that to `Servers`.
    pub(super) apps: Option<Vec<Pattern>>,
    pub(super) require_reason: bool,
    pub(super) forbid_dirty: bool,
    /// How many of its servers may be out at a time while a release is rolled out.
    pub(super) max_down: Option<Share>,
    /// The waves in which pushes to its servers go out.
    pub(super) asked: Option<Asked>,
}

/// A role, for whom, and where.
#[derive(Debug, Clone)]
pub(super) struct Grant {
    pub(super) role: Role,
    pub(super) who: Vec<Pattern>,
    /// `None`: all.
    pub(super) apps: Option<Vec<Pattern>>,
    /// `None`: all servers.
    pub(super) groups: Option<Vec<String>>,
}

/// What a user may do. Each role includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Nothing, not even read.
    Nobody,
    /// Read.
    Viewer,
    /// Push.
    Deployer,
    /// Everything.
    Admin,
}

/// A push, as far as the rules look at it.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// The server to push to.
    pub server: &'a ServerName,
    /// The app to push.
    pub app: &'a AppName,
    /// Whether the release is dirty.
    pub dirty: bool,
    /// The operator's reason.
    pub reason: Reason<'a>,
}

/// Why an operator pushes, as far as they were asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason<'a> {
    /// They were asked, and this is what they said; perhaps nothing.
    Given(&'a str),
    /// They will be asked: that there is none yet is no reason to refuse.
    NotAskedYet,
}

impl Reason<'_> {
    pub(super) fn is_missing(self) -> bool {
        matches!(self, Self::Given(text) if text.trim().is_empty())
    }
}

impl Policy {
    /// The groups that a server is in, in the file's order.
    pub fn groups_of(&self, server: &ServerName) -> Vec<&str> {
        self.of(server).map(|group| group.name.as_str()).collect()
    }

    /// The names of all groups, in the file's order.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.groups.iter().map(|group| group.name.as_str())
    }

    /// How many apps have waves of their own.
    pub fn apps_in_waves(&self) -> usize {
        self.apps.len()
    }

    /// How many servers of a group may be out at a time while a release is rolled out, if the file says.
    pub fn max_down(&self, group: &str) -> Option<Share> {
        self.groups.iter().find(|known| known.name == group)?.max_down
    }

    /// The channels, in the file's order.
    pub fn channels(&self) -> &[ChannelRules] {
        &self.channels
    }

    /// The longest that a release must have run on the followers of a channel before one behind it takes it; `None` if none
    /// is behind it.
    pub fn soak_behind(&self, app: &AppName, channel: &ChannelName) -> Option<Duration> {
        let behind = self.channels.iter().filter(|rules| rules.app == *app && rules.from.as_ref() == Some(channel));
        behind.map(|rules| rules.soak).max()
    }

    /// The channels that a release must have gone through before one, the nearest first.
    pub fn before<'a>(&'a self, rules: &'a ChannelRules) -> impl Iterator<Item = &'a ChannelRules> {
        let before = |at: &&'a ChannelRules| {
            let from = at.from.as_ref()?;
            self.channels.iter().find(|rules| rules.app == at.app && rules.channel == *from)
        };
        std::iter::successors(Some(rules), before).skip(1).take(self.channels.len())
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
        let groups = self.groups_of(server);
        self.role_where(who, app, |named| named.iter().any(|name| groups.contains(&name.as_str())))
    }

    /// What somebody may do with an app wherever that is: a role for some groups of servers is none.
    pub fn role_for(&self, who: &Identity, app: &AppName) -> Role {
        self.role_where(who, app, |_| false)
    }

    /// What somebody may do with an app in the groups that count.
    fn role_where(&self, who: &Identity, app: &AppName, counts: impl Fn(&[String]) -> bool) -> Role {
        let here = |grant: &&Grant| {
            grant.apps.as_ref().is_none_or(|apps| apps.iter().any(|pattern| pattern.matches(app.as_str())))
                && grant.groups.as_ref().is_none_or(|named| counts(named))
        };
        let role = match self.grants(who) {
            None => without_roles(who),
            Some(grants) => {
                let looks = if grants.is_empty() { Role::Nobody } else { Role::Viewer };
                grants.into_iter().filter(here).map(|grant| grant.role).fold(looks, Role::max)
            }
        };
        role.min(at_most(who))
    }

    /// The most that somebody may do anywhere.
    pub fn highest_role(&self, who: &Identity) -> Role {
        let role = match self.grants(who) {
            None => without_roles(who),
            Some(grants) => grants.into_iter().map(|grant| grant.role).fold(Role::Nobody, Role::max),
        };
        role.min(at_most(who))
    }

    /// Whether a group that the server is in wants a reason for every push.
    pub fn requires_reason(&self, server: &ServerName) -> bool {
        self.of(server).any(|group| group.require_reason)
    }

    /// Judges a push by every rule.
    ///
    /// # Errors
    /// The first rule that refuses it.
    pub fn judge(&self, who: &Identity, case: Case) -> Result<(), Refusal> {
        let Case { server, app, dirty, reason } = case;
        self.may_go(app, server)?;
        self.may_push(who, app, server)?;
        if let Some(group) = self.of(server).find(|group| group.forbid_dirty && dirty) {
            return Err(Refusal::Dirty { group: group.name.clone(), server: server.clone() });
        }
        self.needs_no_reason(server, reason)
    }

    /// Judges taking an app off a server. That the app may not go there is no reason to keep it.
    ///
    /// # Errors
    /// The first rule that refuses it.
    pub fn judge_removal(
        &self,
        who: &Identity,
        app: &AppName,
        server: &ServerName,
        reason: Reason,
    ) -> Result<(), Refusal> {
        self.may_push(who, app, server)?;
        self.needs_no_reason(server, reason)
    }

    /// Judges retiring a server that should have these apps, which takes the role `admin` for all of them.
    ///
    /// # Errors
    /// The first rule that refuses it.
    pub fn judge_retirement(
        &self,
        who: &Identity,
        server: &ServerName,
        apps: &[&AppName],
        reason: Reason,
    ) -> Result<(), Refusal> {
        let least = apps.iter().map(|app| self.role(who, app, server)).min();
        if least.unwrap_or(Role::Admin).min(self.highest_role(who)) < Role::Admin {
            let policy = self.roles.is_some().then(|| self.source.clone());
            return Err(Refusal::NotAdmin { who: who.name.clone(), server: server.clone(), policy });
        }
        self.needs_no_reason(server, reason)
    }

    /// Addresses that pages link to.
    pub fn links(&self) -> &Links {
        &self.links
    }

    fn may_push(&self, who: &Identity, app: &AppName, server: &ServerName) -> Result<(), Refusal> {
        if self.role(who, app, server) < Role::Deployer {
            let policy = self.roles.is_some().then(|| self.source.clone());
            return Err(Refusal::Role { who: who.name.clone(), app: app.clone(), server: server.clone(), policy });
        }
        Ok(())
    }

    fn needs_no_reason(&self, server: &ServerName, reason: Reason) -> Result<(), Refusal> {
        match self.of(server).find(|group| group.require_reason && reason.is_missing()) {
            Some(group) => Err(Refusal::NoReason { group: group.name.clone(), server: server.clone() }),
            None => Ok(()),
        }
    }

    fn may_go(&self, app: &AppName, server: &ServerName) -> Result<(), Refusal> {
        // A group's `AppNames` say nothing of servers that aren't in it.
        let restricted = self.servers.is_some() || self.of(server).any(|group| group.apps.is_some());
        if !restricted || self.patterns(server).any(|pattern| pattern.matches(app.as_str())) {
            return Ok(());
        }
        let (policy, server) = (self.source.clone(), server.clone());
        let allowed: Vec<Pattern> = self.patterns(&server).cloned().collect();
        Err(if allowed.is_empty() {
            Refusal::NoApps { policy, server }
        } else {
            Refusal::OtherApps { policy, app: app.clone(), server, allowed }
        })
    }

    /// The apps that may go to a server, by its own name and by its groups.
    fn patterns(&self, server: &ServerName) -> impl Iterator<Item = &Pattern> {
        let own = self.servers.iter().filter_map(|servers| servers.get(server)).flatten();
        own.chain(self.of(server).filter_map(|group| group.apps.as_ref()).flatten())
    }

    pub(super) fn of(&self, server: &ServerName) -> impl Iterator<Item = &Group> {
        self.groups.iter().filter(|group| group.servers.iter().any(|pattern| pattern.matches(server.as_str())))
    }

    /// The roles that are given to somebody; `None` when the file gives none to anybody.
    fn grants(&self, who: &Identity) -> Option<Vec<&Grant>> {
        let roles = self.roles.as_ref()?;
        Some(roles.iter().filter(|grant| grant.who.iter().any(|pattern| pattern.matches(&who.name))).collect())
    }
}

impl Groups for Policy {
    fn groups_of(&self, server: &ServerName) -> Vec<&str> {
        Self::groups_of(self, server)
    }
}

/// What nobody's roles can go beyond.
fn at_most(who: &Identity) -> Role {
    match who.origin {
        Origin::Local | Origin::SignedIn => Role::Admin,
        Origin::Visitor => Role::Viewer,
    }
}

/// With no roles everybody may read, and a user of this machine may do everything.
fn without_roles(who: &Identity) -> Role {
    match who.origin {
        Origin::Local => Role::Admin,
        Origin::SignedIn | Origin::Visitor => Role::Viewer,
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
    ) -> Result<(), Refusal> {
        let (app, server) = (app.parse().unwrap(), server.parse().unwrap());
        policy.judge(who, Case { server: &server, app: &app, dirty, reason: Reason::Given(reason) })
    }

    #[test]
    fn every_rule_binds() {
        let policy = Policy::parse("skiapush.conf", RULES).unwrap();
        let (root, dev, outsider) = ("root@acme.example", "dev@acme.example", "outsider@evil.example");
        for (name, app, server, dirty, reason, want) in [
            (root, "web", "web-1", false, "why", None),
            (root, "mail-relay", "web-1", false, "why", None),
            (
                root,
                "api",
                "web-1",
                false,
                "why",
                Some("does not allow `api` on `web-1`; allowed: `web`, `pulld`, `mail*`"),
            ),
            (root, "web", "db-1", false, "why", Some("allows no app on `db-1`")),
            (root, "anything", "x-stage", true, "", None),
            (root, "web", "web-1", true, "why", Some("dirty")),
            (root, "web", "web-1", false, " ", Some("requires a reason")),
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
                    let got = got.map_err(|refusal| refusal.to_string());
                    assert!(got.as_ref().is_err_and(|text| text.contains(want)), "{name} {app} {server}: {got:?}");
                }
            }
        }
        assert_eq!(policy.highest_role(&who(outsider, Origin::SignedIn)), Role::Viewer);
        assert_eq!(policy.groups_of(&"web-1".parse().unwrap()), ["prod"]);
        assert_eq!(policy.apps_named_for(&"web-1".parse().unwrap()).len(), 2);
    }

    #[test]
    fn what_may_not_go_to_a_server_may_be_taken_off_it() {
        let policy = Policy::parse("skiapush.conf", RULES).unwrap();
        let remove = |name: &str, app: &str, server: &str, reason: &str| {
            let (app, server) = (app.parse().unwrap(), server.parse().unwrap());
            policy.judge_removal(&who(name, Origin::SignedIn), &app, &server, Reason::Given(reason)).is_ok()
        };
        let (root, dev) = ("root@acme.example", "dev@acme.example");
        assert!(judge(&policy, &who(root, Origin::SignedIn), "api", "web-1", false, "why").is_err());
        assert!(remove(root, "api", "web-1", "why") && remove(root, "web", "db-1", ""));
        assert!(remove(dev, "web", "web-1", "why"));
        assert!(!remove(dev, "web", "web-1", " "), "its group requires a reason");
        assert!(!remove(dev, "api", "web-1", "why") && !remove("x@evil.example", "web", "web-1", "why"));
    }

    #[test]
    fn only_an_admin_of_all_its_apps_retires_a_server() {
        let rules = r#"{
            Groups: { prod: { Servers: ["web-*"], RequireReason: true }, stage: { Servers: ["*-stage"] } },
            Roles: [
                { Role: "admin", Who: ["stager"], Groups: ["stage"] },
                { Role: "deployer", Who: ["dev"] },
                { Role: "admin", Who: ["root"] },
            ],
        }"#;
        let policy = Policy::parse("x", rules).unwrap();
        let (web, api): (AppName, AppName) = ("web".parse().unwrap(), "api".parse().unwrap());
        let retire = |name: &str, server: &str, reason: &str| {
            let server = server.parse().unwrap();
            let who = who(name, Origin::SignedIn);
            policy
                .judge_retirement(&who, &server, &[&web, &api], Reason::Given(reason))
                .map_err(|error| error.to_string())
        };
        assert_eq!((retire("root", "web-1", "old"), retire("stager", "a-stage", "")), (Ok(()), Ok(())));
        for (name, server, want) in [
            ("root", "web-1", "requires a reason"),
            ("stager", "web-1", "may not retire `web-1`"),
            ("dev", "a-stage", "takes the role `admin`"),
        ] {
            assert!(retire(name, server, "").unwrap_err().contains(want), "{name} {server}");
        }
    }

    #[test]
    fn a_reason_that_is_asked_for_later_is_not_missing() {
        let policy = Policy::parse("x", "{ Groups: { prod: { Servers: ['web-1'], RequireReason: true } } }").unwrap();
        let (app, server) = ("web".parse().unwrap(), "web-1".parse().unwrap());
        let judge = |reason| {
            policy.judge(&who("dev", Origin::Local), Case { server: &server, app: &app, dirty: false, reason })
        };
        let refused = Err(Refusal::NoReason { group: "prod".into(), server: server.clone() });
        assert_eq!(judge(Reason::Given(" ")), refused);
        assert_eq!((judge(Reason::Given("why")), judge(Reason::NotAskedYet)), (Ok(()), Ok(())));
    }

    #[test]
    fn without_roles_everybody_looks_and_only_local_pushes() {
        let policy = Policy::default();
        assert_eq!(judge(&policy, &who("dev", Origin::Local), "web", "any", true, ""), Ok(()));
        assert!(judge(&policy, &who("dev", Origin::SignedIn), "web", "any", false, "").is_err());
        assert_eq!(policy.highest_role(&who("dev", Origin::SignedIn)), Role::Viewer);
    }

    #[test]
    fn a_visitor_looks_at_what_the_operator_may_and_changes_nothing() {
        for (rules, least) in [
            ("{}", Role::Viewer),
            ("{ Roles: [{ Role: 'admin', Who: ['dev'] }] }", Role::Viewer),
            ("{ Roles: [{ Role: 'admin', Who: ['ops'] }] }", Role::Nobody),
        ] {
            let policy = Policy::parse("x", rules).unwrap();
            let visitor = who("dev", Origin::Visitor);
            assert_eq!(policy.highest_role(&visitor), least, "{rules}");
            assert_eq!(policy.role(&visitor, &"web".parse().unwrap(), &"w".parse().unwrap()), least, "{rules}");
            assert!(judge(&policy, &visitor, "web", "w", false, "").is_err(), "{rules}");
        }
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
    fn the_example_is_valid() {
        let policy = Policy::parse("docs/skiapush.conf", include_str!("../../../docs/skiapush.conf")).unwrap();
        assert_eq!(policy.groups().collect::<Vec<_>>(), ["prod", "stage"]);
    }
}
