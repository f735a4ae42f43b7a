//! Reading `Channels`.

use std::time::Duration;

use bucket::{AppName, ChannelName, Commit};
use globset::{Glob, GlobBuilder};
use jsonc_parser::{
    ast::{Object, Value},
    common::{Range, Ranged},
};

use registry::Tag;

use super::{Reader, WAVES, did_you_mean};
use crate::{
    channel::{branch::Branch, change::Moves},
    policy::{ChannelRules, ConfigRules, ImageRules},
    wish::Asked,
};

/// The longest soak.
const MAX_SOAK: Duration = Duration::from_hours(30 * 24);

/// The keys of a channel.
const CHANNEL: [&str; 15] = [
    "App", "Channel", "Repo", "Branch", "Servers", "Image", "Tag", "Config", "Moves", "MaxDown", "From", "Soak",
    WAVES[0], WAVES[1], WAVES[2],
];

/// The keys of its `Config`.
const CONFIG: [&str; 3] = ["Repo", "Branch", "Files"];

/// Most entries of `Files`, and most bytes of one.
const MAX_FILES: usize = 20;
const MAX_GLOB: usize = 255;

/// Those of them that are about servers.
const OF_SERVERS: [&str; 5] = ["Servers", "MaxDown", WAVES[0], WAVES[1], WAVES[2]];

impl Reader<'_> {
    pub(super) fn channels(&mut self, value: &Value) -> Vec<ChannelRules> {
        let Value::Array(array) = value else {
            let text = "`Channels` must be an array: `[{ App: …, Repo: … }]`";
            self.problem(value.range(), text.to_owned());
            return Vec::new();
        };
        let mut found: Vec<(ChannelRules, Range)> = Vec::new();
        for element in &array.elements {
            let Some(object) = self.object(element, "a channel") else { continue };
            let Some(rules) = self.channel(object) else { continue };
            let same =
                |(known, _): &(ChannelRules, Range)| (&known.app, &known.channel) == (&rules.app, &rules.channel);
            if found.iter().any(same) {
                let text =
                    format!("`{}` has the channel `{}` already: give this one another name", rules.app, rules.channel);
                self.problem(object.range, text);
            } else if let Some(text) = two_of_one(&rules, found.iter().map(|(rules, _)| rules)) {
                self.problem(object.get("Image").map_or(object.range, |property| property.value.range()), text);
            } else {
                found.push((rules, object.get("From").map_or(object.range, |property| property.value.range())));
            }
        }
        for (rules, range) in &found {
            self.channels_before(rules, *range, &found);
        }
        found.into_iter().map(|(rules, _)| rules).collect()
    }

    /// One channel, unless something that it must have is missing or wrong.
    fn channel(&mut self, object: &Object) -> Option<ChannelRules> {
        self.properties(object, &CHANNEL);
        for key in ["App", "Repo"] {
            if object.get(key).is_none() {
                self.problem(object.range, format!("this channel has no `{key}`"));
            }
        }
        if let (None, Some(soak)) = (object.get("From"), object.get("Soak")) {
            self.problem(soak.name.range(), "`Soak` has no meaning without `From`".to_owned());
        }
        let problems = self.problems.len();
        let app = self.value_of::<AppName>(object, "App");
        let repo = self.value_of(object, "Repo");
        let channel = self.value_of(object, "Channel");
        let branch = self.value_of(object, "Branch");
        let from = self.value_of::<ChannelName>(object, "From");
        let moves = object.get("Moves").and_then(|property| self.moves(&property.value));
        let image = self.image(object);
        let config = self.config(object);
        let servers = object.get("Servers").map(|property| self.patterns(&property.value));
        let max_down = object.get("MaxDown").and_then(|property| self.share(&property.value));
        let soak = object.get("Soak").and_then(|property| self.parsed(&property.value, soak));
        let asked: Option<Asked> = self.asked(object);
        if self.problems.len() > problems {
            return None;
        }
        Some(ChannelRules {
            app: app?,
            channel: channel.unwrap_or_else(ChannelName::usual),
            repo: repo?,
            branch: branch.unwrap_or_else(Branch::usual),
            servers: servers.unwrap_or_default(),
            image,
            config,
            moves: moves.unwrap_or_default(),
            asked,
            max_down,
            from,
            soak: soak.unwrap_or_default(),
        })
    }

    /// Reports a `From` that no channel has, or that comes back to where it begins.
    fn channels_before(&mut self, rules: &ChannelRules, range: Range, all: &[(ChannelRules, Range)]) {
        let of_app = || all.iter().map(|(rules, _)| rules).filter(|other| other.app == rules.app);
        let mut at = rules;
        for _ in 0..all.len() {
            let Some(from) = &at.from else { return };
            let Some(before) = of_app().find(|other| other.channel == *from) else {
                if std::ptr::eq(at, rules) {
                    let names: Vec<&str> = of_app().map(|other| other.channel.as_str()).collect();
                    let hint = did_you_mean(from.as_str(), &names);
                    self.problem(range, format!("`{}` has no channel `{from}`{hint}", rules.app));
                }
                return;
            };
            if before.image.is_some() != at.image.is_some() {
                let text = format!(
                    "`{}` is of images and `{}` of packages, or the other way round",
                    before.channel, at.channel
                );
                self.problem(range, text);
                return;
            }
            if before.channel == rules.channel {
                let text = format!("`From` goes in a circle: `{}` would wait for itself", rules.channel);
                self.problem(range, text);
                return;
            }
            at = before;
        }
    }

    /// The image of a channel that has no servers.
    fn image(&mut self, object: &Object) -> Option<ImageRules> {
        let named = object.get("Image").or(object.get("Tag"))?;
        for key in ["Image", "Tag"].into_iter().filter(|key| object.get(key).is_none()) {
            let text = format!("`{}` needs `{key}`: a channel of images moves a tag of one image", named.name.as_str());
            self.problem(named.name.range(), text);
        }
        for of_servers in OF_SERVERS.into_iter().filter_map(|key| object.get(key)) {
            let text = format!("`{}` has no meaning beside `Image`: no server follows that", of_servers.name.as_str());
            self.problem(of_servers.name.range(), text);
        }
        let (name, tag) = (self.value_of(object, "Image"), self.value_of::<Tag>(object, "Tag"));
        if let Some(tag) = tag.as_ref().filter(|tag| tag.as_str().parse::<Commit>().is_ok()) {
            let text = format!("`{tag}` is a commit: such tags are the releases, and are never moved");
            self.problem(object.get("Tag").map_or(object.range, |property| property.value.range()), text);
            return None;
        }
        Some(ImageRules { name: name?, tag: tag? })
    }

    /// Where the tag of a channel's image is written for what deploys it.
    fn config(&mut self, object: &Object) -> Option<ConfigRules> {
        let property = object.get("Config")?;
        if object.get("Image").is_none() {
            let text = "`Config` needs `Image`: it is about the lines that name a channel's image";
            self.problem(property.name.range(), text.to_owned());
        }
        let config = self.object(&property.value, "`Config`")?;
        self.properties(config, &CONFIG);
        for key in ["Repo", "Files"].into_iter().filter(|key| config.get(key).is_none()) {
            self.problem(config.range, format!("this `Config` has no `{key}`"));
        }
        let (repo, branch) = (self.value_of(config, "Repo"), self.value_of(config, "Branch"));
        let files = config.get("Files").map(|property| self.files(&property.value));
        Some(ConfigRules { repo: repo?, branch: branch.unwrap_or_else(Branch::usual), files: files? })
    }

    fn files(&mut self, value: &Value) -> Vec<Glob> {
        let mut files: Vec<Glob> = Vec::new();
        for string in self.strings(value) {
            match file_glob(&string.value) {
                Ok(glob) if files.contains(&glob) => self.problem(string.range, format!("duplicate `{glob}`")),
                Ok(glob) => files.push(glob),
                Err(text) => self.problem(string.range, text),
            }
        }
        if files.is_empty() || files.len() > MAX_FILES {
            self.problem(value.range(), format!("must be 1 to {MAX_FILES} paths, as in `[\"prod/*.yaml\"]`"));
        }
        files
    }

    fn moves(&mut self, value: &Value) -> Option<Moves> {
        let text = value.as_string_lit().map(|text| text.value.as_ref());
        let moves = Moves::ALL.into_iter().find(|moves| Some(moves.as_str()) == text);
        if moves.is_none() {
            let known = Moves::ALL.map(Moves::as_str);
            let hint = text.map_or(String::new(), |text| did_you_mean(text, &known));
            self.problem(value.range(), format!("must be `newest` or `told`{hint}"));
        }
        moves
    }

    /// The text of a key, as what it must be.
    fn value_of<T: std::str::FromStr<Err: ToString>>(&mut self, object: &Object, key: &str) -> Option<T> {
        let property = object.get(key)?;
        self.parsed(&property.value, |text| text.parse().map_err(|error: T::Err| error.to_string()))
    }
}

/// What is wrong with the image of a channel beside those before it, if anything is.
fn two_of_one<'a>(rules: &ChannelRules, mut before: impl Iterator<Item = &'a ChannelRules>) -> Option<String> {
    let image = rules.image.as_ref()?;
    before.find_map(|other| {
        let (theirs, channel) = (other.image.as_ref()?, &other.channel);
        if image == theirs {
            return Some(format!("the channel `{channel}` of `{}` moves this tag already", other.app));
        }
        (rules.app == other.app && image.name != theirs.name)
            .then(|| format!("the channel `{channel}` of `{}` has another image, and an app has one", rules.app))
    })
}

/// A path in a repository that may have wildcards.
fn file_glob(text: &str) -> Result<Glob, String> {
    if text.len() > MAX_GLOB {
        return Err(format!("can have at most {MAX_GLOB} bytes"));
    }
    if text.split('/').any(|segment| ["", ".", ".."].contains(&segment)) {
        return Err("must be a path from the top of the repository, without `.` and `..`".to_owned());
    }
    let glob = GlobBuilder::new(text).literal_separator(true).build();
    glob.map_err(|error| format!("cannot be read as a path with wildcards: {}", error.kind()))
}

fn soak(text: &str) -> Result<Duration, String> {
    let soak = console::duration::parse(text).map_err(|error| error.to_string())?;
    if soak > MAX_SOAK { Err("can be at most 30d".to_owned()) } else { Ok(soak) }
}

#[cfg(test)]
mod tests {
    use crate::policy::{ChannelRules, Policy};

    fn channels(text: &str) -> Result<Vec<ChannelRules>, Vec<String>> {
        let policy = Policy::parse("rules", &format!("{{ Channels: {text} }}"));
        let policy = policy.map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        Ok(policy.channels().to_vec())
    }

    #[test]
    fn what_is_not_said_of_a_channel_is_as_usual() {
        let all = r#"[
            { App: "web", Channel: "prod", Repo: "https://git.example/acme/web.git", Branch: "release/1",
              Servers: ["web-*"], Moves: "told", Waves: ["web-1", "10%", "rest"], Settle: "2m", StopAt: 2, MaxDown: "10%",
              From: "beta", Soak: "1h" },
            { App: "web", Channel: "beta", Repo: "git@git.example:acme/web.git" },
            { App: "api", Repo: "file:///srv/api.git" },
        ]"#;
        let channels = channels(all).unwrap();
        let [prod, beta, api] = &channels[..] else { panic!("{channels:?}") };
        let said = (prod.branch.as_str(), prod.moves.as_str(), prod.asked.as_ref().map(ToString::to_string), prod.soak);
        let waves = "web-1,10%,rest, settling for 2m, stopping at 2".to_owned();
        assert_eq!(said, ("release/1", "told", Some(waves), std::time::Duration::from_hours(1)));
        assert_eq!(prod.from.as_ref(), Some(&beta.channel));
        assert!(prod.matches(&"web-7".parse().unwrap()) && !prod.matches(&"api-1".parse().unwrap()));
        let usual = (api.channel.as_str(), api.branch.as_str(), api.moves.as_str(), &api.asked, &api.from);
        assert_eq!(usual, ("prod", "main", "newest", &None, &None));
        assert!(!api.matches(&"api-1".parse().unwrap()), "without `Servers` nothing follows it");
    }

    #[test]
    fn every_mistake_in_a_channel_has_its_place() {
        for (text, at, part) in [
            (r"{}", "{}", "must be an array"),
            (r"[7]", "7", "a channel must be an object"),
            (r#"[{ Repo: "file:///a" }]"#, "{", "no `App`"),
            (r#"[{ App: "web" }]"#, "{", "no `Repo`"),
            (r#"[{ App: "web", Repo: "file:///a", Serves: [] }]"#, "Serves", "did you mean `Servers`?"),
            (r#"[{ App: "../web", Repo: "file:///a" }]"#, "\"../web", "app name"),
            (r#"[{ App: "web", Channel: "a/b", Repo: "file:///a" }]"#, "\"a/b", "channel name"),
            (r#"[{ App: "web", Repo: "https://me:secret@git.example/web" }]"#, "\"https", "credential"),
            (r#"[{ App: "web", Repo: "file:///a", Branch: "--upload-pack=x" }]"#, "\"--", "branch"),
            (r#"[{ App: "web", Repo: "file:///a", Moves: "tolt" }]"#, "\"tolt", "did you mean `told`?"),
            (r#"[{ App: "web", Repo: "file:///a", Settle: "1m" }]"#, "Settle", "without `Waves`"),
            (r#"[{ App: "web", Repo: "file:///a", Waves: "1,2" }]"#, "\"1,2", "must be `rest`"),
            (r#"[{ App: "web", Repo: "file:///a", Image: "i.example/web" }]"#, "Image", "`Image` needs `Tag`"),
            (r#"[{ App: "web", Repo: "file:///a", Tag: "prod" }]"#, "Tag", "`Tag` needs `Image`"),
            (
                r#"[{ App: "web", Repo: "file:///a", Image: "web", Tag: "prod" }]"#,
                "\"web\", Tag",
                "a registry and a path",
            ),
            (r#"[{ App: "web", Repo: "file:///a", Image: "i.example/web", Tag: "a/b" }]"#, "\"a/b", "tag"),
            (
                r#"[{ App: "web", Repo: "file:///a", Image: "i.example/web", Tag: "7e0ff6059e653eb75a36efb621d0fd66d1ced433" }]"#,
                "\"7e0f",
                "never moved",
            ),
            (
                r#"[{ App: "web", Repo: "file:///a", Image: "i.example/web", Tag: "prod", Servers: ["web-*"] }]"#,
                "Servers",
                "no meaning beside `Image`",
            ),
            (
                r#"[{ App: "web", Repo: "file:///a", Image: "i.example/web", Tag: "prod", MaxDown: 1 }]"#,
                "MaxDown",
                "no meaning beside `Image`",
            ),
            (
                r#"[{ App: "a", Repo: "file:///a", Image: "i.example/web", Tag: "prod" }, { App: "b", Repo: "file:///a", Image: "i.example/web", Tag: "prod" }]"#,
                "\"i.example/web\", Tag: \"prod\" }]",
                "of `a` moves this tag already",
            ),
            (
                r#"[{ App: "a", Repo: "file:///a", Image: "i.example/x", Tag: "prod" }, { App: "a", Channel: "b", Repo: "file:///a", Image: "i.example/y", Tag: "b" }]"#,
                "\"i.example/y",
                "another image",
            ),
            (
                r#"[{ App: "a", Repo: "file:///a", Channel: "b" }, { App: "a", Repo: "file:///a", Image: "i.example/x", Tag: "prod", From: "b" }]"#,
                "\"b\" }]",
                "of images and",
            ),
            (
                r#"[{ App: "web", Repo: "file:///a", Config: { Repo: "file:///b", Files: ["x"] } }]"#,
                "Config",
                "`Config` needs `Image`",
            ),
            (
                r#"[{ App: "web", Repo: "file:///a", Image: "i.example/web", Tag: "prod", Config: { Branch: "main" } }]"#,
                "{ Branch",
                "has no `Files`",
            ),
            (
                r#"[{ App: "web", Repo: "file:///a", Image: "i.example/web", Tag: "prod", Config: { Repo: "file:///b", Files: [] } }]"#,
                "[] } }",
                "must be 1 to 20 paths",
            ),
            (
                r#"[{ App: "web", Repo: "file:///a", Image: "i.example/web", Tag: "prod", Config: { Repo: "file:///b", Files: ["../x"] } }]"#,
                "\"../x",
                "without `.` and `..`",
            ),
            (
                r#"[{ App: "web", Repo: "file:///a", Image: "i.example/web", Tag: "prod", Config: { Repo: "file:///b", Files: ["a[b"] } }]"#,
                "\"a[b",
                "with wildcards",
            ),
            (r#"[{ App: "web", Repo: "file:///a", Soak: "1h" }]"#, "Soak", "without `From`"),
            (r#"[{ App: "web", Repo: "file:///a", From: "beta" }]"#, "\"beta", "has no channel `beta`"),
            (r#"[{ App: "web", Repo: "file:///a", From: "prod" }]"#, "\"prod", "in a circle"),
            (
                r#"[{ App: "web", Repo: "file:///a" }, { App: "web", Channel: "prod", Repo: "file:///b" }]"#,
                "{ App: \"web\", Channel",
                "has the channel `prod` already",
            ),
            (
                r#"[{ App: "web", Repo: "file:///a", From: "b" }, { App: "web", Channel: "b", Repo: "file:///a", From: "prod" }]"#,
                "\"b\"",
                "in a circle",
            ),
        ] {
            let place = format!("1:{}: ", "{ Channels: ".len() + text.find(at).unwrap() + 1);
            let problems = channels(text).unwrap_err();
            let found = problems.iter().any(|problem| problem.starts_with(&place) && problem.contains(part));
            assert!(found, "{text}: {problems:?}");
        }
        // One of another app is another channel.
        assert!(channels(r#"[{ App: "a", Repo: "file:///a" }, { App: "b", Repo: "file:///a" }]"#).is_ok());
    }
}
