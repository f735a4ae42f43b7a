//! How a push goes out: all at once, or in the waves that its operator says or the policy asks for. Pure.

use bucket::{AppName, ServerName};

use super::{
    channels::ChannelRules,
    refusal::Refusal,
    rules::{Policy, Reason, Role},
};
use crate::{
    identity::Identity,
    wish::{Asked, Said, Waves, WavesOrAll, Wish},
};

/// How a deploy goes out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// All servers are written at once.
    AtOnce {
        /// The waves that the policy asks for and an admin sets aside, in words.
        instead_of: Option<String>,
    },
    /// In waves.
    Waves {
        /// Which, and what they wait for.
        wish: Box<Wish>,
        /// Of what the policy asks for them, in words, unless its operator does.
        asked_for: Option<String>,
    },
}

impl Policy {
    /// How a deploy of an app to servers goes out. What `Apps` asks for goes before what groups ask for, and what is asked for on
    /// some of the servers is so for all of them.
    ///
    /// # Errors
    /// When not all of them are asked to go out in the same waves and the operator says none, when the operator may not set waves
    /// aside that are asked for, or when something is said of waves and there are none.
    pub fn way(
        &self,
        who: &Identity,
        app: &AppName,
        servers: &[&ServerName],
        reason: Reason,
        said: &Said,
    ) -> Result<Way, Refusal> {
        if let Some(WavesOrAll::Waves(waves)) = &said.waves {
            return Ok(Way::Waves { wish: Box::new(said.wish(waves)), asked_for: None });
        }
        let asking = self.asking(app, servers);
        let is_all = said.waves == Some(WavesOrAll::All);
        if said.is_about_waves() && (is_all || asking.is_empty()) {
            return Err(Refusal::NoWaves);
        }
        let in_words = |(asked, of): &(&Asked, String)| format!("{asked} for {of}");
        match asking.as_slice() {
            [] => Ok(Way::AtOnce { instead_of: None }),
            [first, ..] if is_all => {
                let waves = in_words(first);
                if servers.iter().any(|server| self.role(who, app, server) < Role::Admin) {
                    return Err(Refusal::AtOnce { who: who.name.clone(), policy: self.source.clone(), waves });
                }
                if reason.is_missing() {
                    return Err(Refusal::NoReasonAtOnce { policy: self.source.clone(), waves });
                }
                Ok(Way::AtOnce { instead_of: Some(waves) })
            }
            [(asked, of)] => {
                let wish = Box::new(said.wish_as_asked(asked));
                Ok(Way::Waves { wish, asked_for: Some(format!("{} asks for these waves for {of}", self.source)) })
            }
            [one, other, ..] => {
                let (policy, one, other) = (self.source.clone(), in_words(one), in_words(other));
                Err(Refusal::DifferentWaves { policy, one, other })
            }
        }
    }

    /// In which waves what a channel points to goes out to servers, unless it goes to all at once: in those of the channel, or else in
    /// those that are asked for of any deploy there. A channel that only says how many servers may be out has one wave.
    ///
    /// # Errors
    /// When the channel has none and not all servers are asked to go out in the same waves.
    pub fn wish_of_channel(
        &self,
        who: &Identity,
        rules: &ChannelRules,
        servers: &[&ServerName],
        reason: Reason,
    ) -> Result<Option<Wish>, Refusal> {
        let own = Said { max_down: rules.max_down, ..Said::default() };
        if let Some(asked) = &rules.asked {
            return Ok(Some(own.wish_as_asked(asked)));
        }
        match self.way(who, &rules.app, servers, reason, &Said::default())? {
            Way::Waves { wish, .. } => Ok(Some(Wish { max_down: rules.max_down, ..*wish })),
            Way::AtOnce { .. } => Ok(rules.max_down.map(|_| own.wish(&Waves::rest()))),
        }
    }

    /// What is asked for of a push to these servers, each once, and of what it is asked.
    fn asking(&self, app: &AppName, servers: &[&ServerName]) -> Vec<(&Asked, String)> {
        if let Some(asked) = self.apps.get(app).filter(|_| !servers.is_empty()) {
            return vec![(asked, format!("`{app}`"))];
        }
        let mut asking: Vec<(&Asked, String)> = Vec::new();
        for group in servers.iter().flat_map(|server| self.of(server)) {
            if let Some(asked) = &group.asked
                && !asking.iter().any(|(known, _)| *known == asked)
            {
                asking.push((asked, format!("group `{}`", group.name)));
            }
        }
        asking
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Origin;

    const RULES: &str = r#"{
        Groups: {
            prod: { Servers: ["web-*"], Waves: "1,rest", Settle: "5m", StopAt: 2, MaxDown: "10%" },
            edge: { Servers: ["edge-*"], Waves: "1,rest", MaxDown: 3 },
            twin: { Servers: ["twin-*"], Waves: "1,rest" },
            stage: { Servers: ["*-stage"] },
        },
        Apps: { pulld: { Waves: ["web-1", "10%", "rest"] } },
        Roles: [
            { Role: "deployer", Who: ["dev"] },
            { Role: "admin", Who: ["root"] },
            { Role: "admin", Who: ["half"], Groups: ["prod"] },
        ],
    }"#;

    fn way(who: &str, app: &str, servers: &[&str], reason: &str, said: &Said) -> Result<Way, String> {
        let policy = Policy::parse("rules", RULES).unwrap();
        let servers: Vec<ServerName> = servers.iter().map(|server| server.parse().unwrap()).collect();
        let servers: Vec<&ServerName> = servers.iter().collect();
        let who = Identity { name: who.to_owned(), origin: Origin::Local };
        let way = policy.way(&who, &app.parse().unwrap(), &servers, Reason::Given(reason), said);
        way.map_err(|refusal| refusal.to_string())
    }

    fn waves(text: &str) -> Said {
        Said { waves: Some(text.parse().unwrap()), ..Said::default() }
    }

    #[test]
    fn a_push_without_waves_of_its_own_gets_those_that_are_asked_for() {
        let nothing = Said::default();
        let within = Said { within: Some(std::time::Duration::from_secs(90)), ..Said::default() };
        for (app, servers, said, want) in [
            ("web", vec!["web-1", "web-2"], &nothing, Some(("1,rest", 300, Some("group `prod`")))),
            // One server for which they are asked is enough, and two groups may ask for the same.
            ("web", vec!["a-stage", "web-2"], &within, Some(("1,rest", 300, Some("group `prod`")))),
            ("web", vec!["edge-1", "twin-1"], &nothing, Some(("1,rest", 60, Some("group `edge`")))),
            // What is said of an app goes before.
            ("pulld", vec!["web-1", "edge-1"], &nothing, Some(("web-1,10%,rest", 60, Some("`pulld`")))),
            ("web", vec!["a-stage", "other"], &nothing, None),
            ("web", vec!["web-1", "edge-1"], &waves("50%,rest"), Some(("50%,rest", 60, None))),
        ] {
            match (way("dev", app, &servers, "", said).unwrap(), want) {
                (Way::AtOnce { instead_of: None }, None) => {}
                (Way::Waves { wish, asked_for }, Some((waves, settle, of))) => {
                    assert_eq!((wish.waves.to_string().as_str(), wish.rules.settle_seconds), (waves, settle));
                    let of = of.map(|of| format!("rules asks for these waves for {of}"));
                    assert_eq!(asked_for, of, "{app} {servers:?}");
                }
                (way, want) => panic!("{app} {servers:?}: {way:?}, not {want:?}"),
            }
        }
        let policy = Policy::parse("rules", RULES).unwrap();
        let most = ["prod", "edge", "stage", "?"].map(|group| policy.max_down(group).map(|share| share.to_string()));
        assert_eq!(most, [Some("10%".to_owned()), Some("3".to_owned()), None, None]);
    }

    #[test]
    fn a_channel_has_waves_of_its_own_or_those_that_are_asked_for() {
        let wish = |more: &str, servers: &[&str]| {
            let text = RULES.trim_end().trim_end_matches('}').to_owned()
                + &format!("Channels: [{{ App: 'web', Repo: 'https://git.example/web.git', {more} }}] }}");
            let policy = Policy::parse("rules", &text).unwrap();
            let servers: Vec<ServerName> = servers.iter().map(|server| server.parse().unwrap()).collect();
            let servers: Vec<&ServerName> = servers.iter().collect();
            let who = Identity { name: "dev".to_owned(), origin: Origin::Local };
            let wish = policy.wish_of_channel(&who, &policy.channels()[0], &servers, Reason::Given("why"));
            let words = |wish: Wish| {
                let max_down = wish.max_down.map(|share| share.to_string());
                (wish.waves.to_string(), wish.rules.settle_seconds, wish.rules.stop_at, max_down)
            };
            wish.map(|wish| wish.map(words)).map_err(|refusal| refusal.to_string())
        };
        let waves = |waves: &str, settle, stop_at, max_down: Option<&str>| {
            Ok(Some((waves.to_owned(), settle, stop_at, max_down.map(str::to_owned))))
        };
        let own = "Waves: ['web-1', 'rest'], Settle: '2m', MaxDown: '20%'";
        for (more, servers, want) in [
            (own, vec!["web-1", "web-2"], waves("web-1,rest", 120, 1, Some("20%"))),
            // Where several groups ask for different ones, the channel's go before all of them.
            (own, vec!["web-1", "edge-1"], waves("web-1,rest", 120, 1, Some("20%"))),
            ("", vec!["web-1", "web-2"], waves("1,rest", 300, 2, None)),
            ("MaxDown: 2", vec!["web-1"], waves("1,rest", 300, 2, Some("2"))),
            ("MaxDown: 2", vec!["a-stage"], waves("rest", 60, 1, Some("2"))),
            ("", vec!["a-stage"], Ok(None)),
        ] {
            assert_eq!(wish(more, &servers), want, "{more} {servers:?}");
        }
        assert!(wish("", &["web-1", "edge-1"]).unwrap_err().contains("1,rest for group `edge`"));
    }

    #[test]
    fn what_is_asked_for_differently_is_not_guessed() {
        let refused = way("root", "web", &["web-1", "a-stage", "edge-1"], "", &Said::default()).unwrap_err();
        for part in ["1,rest, settling for 5m, stopping at 2 for group `prod`", "1,rest for group `edge`", "at a time"]
        {
            assert!(refused.contains(part), "{refused}");
        }
        let settle = Said { stop_at: Some(2), ..Said::default() };
        assert!(way("dev", "web", &["other"], "", &settle).unwrap_err().contains("`waves` is missing"));
    }

    #[test]
    fn only_an_admin_sets_waves_aside_and_says_why() {
        let all = waves("all");
        for (who, servers, reason, want) in [
            (
                "root",
                vec!["web-1"],
                "the site is down",
                Ok(Some("1,rest, settling for 5m, stopping at 2 for group `prod`")),
            ),
            // Where none are asked for, that is what happens anyway.
            ("dev", vec!["other"], "", Ok(None)),
            ("root", vec!["web-1"], " ", Err("requires a reason")),
            ("dev", vec!["web-1"], "why", Err("takes the role `admin`")),
            ("half", vec!["web-1", "other"], "why", Err("takes the role `admin`")),
        ] {
            let got = way(who, "web", &servers, reason, &all);
            match want {
                Ok(want) => assert_eq!(got, Ok(Way::AtOnce { instead_of: want.map(str::to_owned) }), "{who}"),
                Err(want) => assert!(got.as_ref().is_err_and(|text| text.contains(want)), "{who}: {got:?}"),
            }
        }
        let both = Said { stop_at: Some(2), ..all };
        assert!(way("root", "web", &["web-1"], "why", &both).unwrap_err().contains("`waves` is missing"));
    }
}
