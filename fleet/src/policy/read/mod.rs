//! Reading the rules from JSON5 (<https://spec.json5.org>), with every mistake at its line and column.

mod channels;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use bucket::AppName;
use console::{nearest, quoted};
use jsonc_parser::{
    CollectOptions, ParseOptions,
    ast::{Object, ObjectProp, StringLit, Value},
    common::{Range, Ranged},
    parse_to_ast,
};

use super::{
    links::{self, Links},
    pattern::Pattern,
    rules::{Grant, Group, Policy, Role},
};
use crate::wish::{Asked, Share, Waves, settle};

/// Most bytes of a policy file.
pub const MAX_BYTES: u64 = 1 << 20;

/// The keys that say in which waves a push goes out.
const WAVES: [&str; 3] = ["Waves", "Settle", "StopAt"];

/// The keys of a group.
const GROUP: [&str; 8] =
    ["Servers", "AppNames", "RequireReason", "ForbidDirty", "MaxDown", WAVES[0], WAVES[1], WAVES[2]];

/// Most mistakes that are reported.
const MAX_PROBLEMS: usize = 50;

/// A mistake in a policy file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Which line, from 1.
    pub line: usize,
    /// Which character of it, from 1.
    pub column: usize,
    /// What is wrong, and what would be right.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.text)
    }
}

impl Policy {
    /// Reads the rules from JSON5. `source` is where it is from, for messages.
    ///
    /// # Errors
    /// Everything that is wrong with it, in order.
    pub fn parse(source: &str, text: &str) -> Result<Self, Vec<Problem>> {
        read(source, text)
    }
}

fn read(source: &str, text: &str) -> Result<Policy, Vec<Problem>> {
    let options = ParseOptions { allow_missing_commas: false, ..ParseOptions::default() };
    let parsed = parse_to_ast(text, &CollectOptions::default(), &options).map_err(|error| {
        vec![Problem { line: error.line_display(), column: error.column_display(), text: error.kind().to_string() }]
    })?;
    let mut reader = Reader { text, problems: Vec::new() };
    let mut policy = Policy { source: source.to_owned(), ..Policy::default() };
    match &parsed.value {
        Some(Value::Object(object)) => reader.policy(object, &mut policy),
        other => {
            let range = other.as_ref().map_or(Range::new(0, 0), Ranged::range);
            reader.problem(range, "must be an object: `{ Servers: { … } }`".to_owned());
        }
    }
    reader.problems.sort_by_key(|problem| (problem.line, problem.column));
    if reader.problems.is_empty() { Ok(policy) } else { Err(reader.problems) }
}

struct Reader<'a> {
    text: &'a str,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn problem(&mut self, range: Range, text: String) {
        if self.problems.len() == MAX_PROBLEMS {
            return;
        }
        let before = &self.text[..range.start.min(self.text.len())];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let (line, column) = (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1);
        self.problems.push(Problem { line, column, text });
    }

    fn policy(&mut self, object: &Object, policy: &mut Policy) {
        for (key, property) in self.properties(object, &["Servers", "Groups", "Apps", "Channels", "Roles", "Links"]) {
            match key.as_str() {
                "Servers" => policy.servers = Some(self.servers(property)),
                "Groups" => policy.groups = self.groups(property),
                "Apps" => policy.apps = self.apps(property),
                "Channels" => policy.channels = self.channels(&property.value),
                "Links" => policy.links = self.links(property),
                _ => policy.roles = Some(self.roles(property)),
            }
        }
        // Roles may be written before the groups that they name.
        let Some(roles) = object.get("Roles").and_then(|property| property.value.as_array()) else { return };
        let objects = roles.elements.iter().filter_map(Value::as_object);
        let named = objects.filter_map(|role| role.get("Groups")?.value.as_array()).flat_map(|array| &array.elements);
        for name in named.filter_map(Value::as_string_lit) {
            let known: Vec<&str> = policy.groups.iter().map(|group| group.name.as_str()).collect();
            if !known.contains(&name.value.as_ref()) {
                let hint = did_you_mean(&name.value, &known);
                self.problem(name.range, format!("unknown group `{}`{hint}", name.value.escape_debug()));
            }
        }
    }

    fn servers(&mut self, property: &ObjectProp) -> BTreeMap<bucket::ServerName, Vec<Pattern>> {
        let mut servers = BTreeMap::new();
        for (name, property) in self.entries(property, "server") {
            let server = match name.parse::<bucket::ServerName>() {
                Ok(server) => server,
                Err(error) => {
                    self.problem(property.name.range(), error.to_string());
                    continue;
                }
            };
            let mut apps = None;
            let Some(object) = self.object(&property.value, "a server") else { continue };
            for (_, property) in self.properties(object, &["AppNames"]) {
                apps = Some(self.patterns(&property.value));
            }
            if apps.is_none() && object.properties.is_empty() {
                self.problem(
                    property.range,
                    format!("server `{server}` has no `AppNames`: list the apps that may be deployed there"),
                );
            }
            servers.insert(server, apps.unwrap_or_default());
        }
        servers
    }

    fn groups(&mut self, property: &ObjectProp) -> Vec<Group> {
        let mut groups = Vec::new();
        for (name, property) in self.entries(property, "group") {
            let Some(object) = self.object(&property.value, "a group") else { continue };
            let mut group = Group { name, ..Group::default() };
            if group.name.is_empty() || group.name.contains(|c: char| c.is_whitespace() || c.is_control() || c == ':') {
                self.problem(property.name.range(), "a group name cannot be empty or contain spaces or `:`".to_owned());
            }
            for (key, property) in self.properties(object, &GROUP) {
                match key.as_str() {
                    "Servers" => group.servers = self.patterns(&property.value),
                    "AppNames" => group.apps = Some(self.patterns(&property.value)),
                    "RequireReason" => group.require_reason = self.boolean(&property.value),
                    "ForbidDirty" => group.forbid_dirty = self.boolean(&property.value),
                    "MaxDown" => group.max_down = self.share(&property.value),
                    _ => {}
                }
            }
            if object.get("Servers").is_none() {
                let text = format!("group `{}` has no `Servers`: list them, with `*` for any characters", group.name);
                self.problem(property.range, text);
            }
            group.asked = self.asked(object);
            groups.push(group);
        }
        groups
    }

    fn apps(&mut self, property: &ObjectProp) -> BTreeMap<AppName, Asked> {
        let mut apps = BTreeMap::new();
        for (name, property) in self.entries(property, "app") {
            let app = name.parse::<AppName>();
            if let Err(error) = &app {
                self.problem(property.name.range(), error.to_string());
            }
            let Some(object) = self.object(&property.value, "an app") else { continue };
            self.properties(object, &WAVES);
            if object.get("Waves").is_none() {
                let text = "this app has no `Waves`: say in which its pushes go out, as `1,10%,rest`";
                self.problem(property.range, text.to_owned());
            }
            apps.extend(app.ok().zip(self.asked(object)));
        }
        apps
    }

    /// The waves that a group or an app asks for, if it does.
    fn asked(&mut self, object: &Object) -> Option<Asked> {
        let for_any_push = |text: &str| text.parse().and_then(Waves::for_any_push).map_err(|error| error.to_string());
        let [waves, settling, stop_at] = WAVES.map(|key| object.get(key));
        if let (None, Some(property)) = (waves, settling.or(stop_at)) {
            let text = format!("`{}` has no meaning without `Waves`", property.name.as_str());
            self.problem(property.name.range(), text);
        }
        let settle = settling.and_then(|property| self.parsed(&property.value, settle));
        let stop_at = stop_at.and_then(|property| self.count(&property.value));
        let waves = waves.and_then(|property| self.waves(&property.value, for_any_push))?;
        Some(Asked { waves, settle, stop_at })
    }

    /// Waves as they are said on a command line, or each in a string of its own.
    fn waves(&mut self, value: &Value, parse: impl Fn(&str) -> Result<Waves, String>) -> Option<Waves> {
        let Value::Array(array) = value else { return self.parsed(value, parse) };
        let each: Option<Vec<&str>> =
            array.elements.iter().map(|wave| wave.as_string_lit().map(|text| text.value.as_ref())).collect();
        let parsed =
            each.ok_or_else(|| "each wave must be a string".to_owned()).and_then(|each| parse(&each.join(",")));
        parsed.map_err(|error| self.problem(value.range(), error)).ok()
    }

    fn parsed<T>(&mut self, value: &Value, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let parsed = match value.as_string_lit() {
            Some(text) => parse(&text.value),
            None => Err("must be a string".to_owned()),
        };
        parsed.map_err(|error| self.problem(value.range(), error)).ok()
    }

    fn count(&mut self, value: &Value) -> Option<usize> {
        let count = value.as_number_lit().and_then(|number| number.value.parse().ok()).filter(|count| *count > 0);
        if count.is_none() {
            self.problem(value.range(), "must be a number of servers, at least 1".to_owned());
        }
        count
    }

    fn share(&mut self, value: &Value) -> Option<Share> {
        let text = match value {
            Value::NumberLit(number) => number.value,
            value => value.as_string_lit().map_or("", |text| text.value.as_ref()),
        };
        text.parse::<Share>().map_err(|error| self.problem(value.range(), error.to_string())).ok()
    }

    fn roles(&mut self, property: &ObjectProp) -> Vec<Grant> {
        let Value::Array(array) = &property.value else {
            self.problem(property.value.range(), "`Roles` must be an array: `[{ Role: …, Who: […] }]`".to_owned());
            return Vec::new();
        };
        let mut grants = Vec::new();
        for element in &array.elements {
            let Some(object) = self.object(element, "a role") else { continue };
            let mut grant = Grant { role: Role::Nobody, who: Vec::new(), apps: None, groups: None };
            for (key, property) in self.properties(object, &["Role", "Who", "Apps", "Groups"]) {
                match key.as_str() {
                    "Role" => grant.role = self.role(&property.value),
                    "Who" => grant.who = self.patterns(&property.value),
                    "Apps" => grant.apps = Some(self.patterns(&property.value)),
                    _ => {
                        let names = self.strings(&property.value);
                        grant.groups = Some(names.iter().map(|name| name.value.to_string()).collect());
                    }
                }
            }
            for key in ["Role", "Who"] {
                if object.get(key).is_none() {
                    self.problem(object.range, format!("this role has no `{key}`"));
                }
            }
            grants.push(grant);
        }
        grants
    }

    fn role(&mut self, value: &Value) -> Role {
        match value.as_string_lit().map(|text| text.value.as_ref()) {
            Some("viewer") => Role::Viewer,
            Some("deployer") => Role::Deployer,
            Some("admin") => Role::Admin,
            other => {
                let hint = other.map_or(String::new(), |other| did_you_mean(other, &["viewer", "deployer", "admin"]));
                self.problem(value.range(), format!("must be `viewer`, `deployer` or `admin`{hint}"));
                Role::Nobody
            }
        }
    }

    fn links(&mut self, property: &ObjectProp) -> Links {
        let mut found = Links::default();
        let Some(object) = self.object(&property.value, "`Links`") else { return found };
        for (key, property) in self.properties(object, &links::KEYS.map(|(key, _)| key)) {
            let Some(template) = property.value.as_string_lit() else {
                self.problem(property.value.range(), "must be a string".to_owned());
                continue;
            };
            let placeholders = links::KEYS.iter().find(|(known, _)| *known == key).map_or(&[][..], |(_, names)| names);
            if let Err(error) = links::check(&template.value, placeholders) {
                self.problem(template.range, error.to_string());
                continue;
            }
            let place = match key.as_str() {
                "Change" => &mut found.change,
                "Commit" => &mut found.commit,
                "Compare" => &mut found.compare,
                "Logs" => &mut found.logs,
                _ => &mut found.monitoring,
            };
            *place = Some(template.value.to_string());
        }
        found
    }

    /// The properties of an object that must have known keys, each once.
    fn properties<'b>(&mut self, object: &'b Object<'b>, known: &[&str]) -> Vec<(String, &'b ObjectProp<'b>)> {
        let mut found: Vec<(String, &ObjectProp)> = Vec::new();
        for property in &object.properties {
            let key = property.name.as_str();
            if !known.contains(&key) {
                let hint = did_you_mean(key, known);
                let text = format!("unknown key `{}`{hint}; valid keys: {}", key.escape_debug(), quoted(known));
                self.problem(property.name.range(), text);
            } else if found.iter().any(|(other, _)| other == key) {
                self.problem(property.name.range(), format!("duplicate key `{key}`"));
            } else {
                found.push((key.to_owned(), property));
            }
        }
        found
    }

    /// The properties of an object whose keys are names of somebody's choice, each once.
    fn entries<'b>(&mut self, property: &'b ObjectProp<'b>, what: &str) -> Vec<(String, &'b ObjectProp<'b>)> {
        let Some(object) = self.object(&property.value, &format!("`{}`", property.name.as_str())) else {
            return Vec::new();
        };
        let mut found: Vec<(String, &ObjectProp)> = Vec::new();
        let mut names = BTreeSet::new();
        for property in &object.properties {
            let name = property.name.as_str();
            if names.insert(name) {
                found.push((name.to_owned(), property));
            } else {
                self.problem(property.name.range(), format!("duplicate {what} `{}`", name.escape_debug()));
            }
        }
        found
    }

    fn object<'b>(&mut self, value: &'b Value<'b>, what: &str) -> Option<&'b Object<'b>> {
        let object = value.as_object();
        if object.is_none() {
            self.problem(value.range(), format!("{what} must be an object: `{{ … }}`"));
        }
        object
    }

    fn boolean(&mut self, value: &Value) -> bool {
        match value {
            Value::BooleanLit(literal) => literal.value,
            other => {
                self.problem(other.range(), "must be `true` or `false`".to_owned());
                false
            }
        }
    }

    fn strings<'b>(&mut self, value: &'b Value<'b>) -> Vec<&'b StringLit<'b>> {
        let Value::Array(array) = value else {
            self.problem(value.range(), "must be an array of strings".to_owned());
            return Vec::new();
        };
        let mut strings = Vec::new();
        for element in &array.elements {
            match element.as_string_lit() {
                Some(string) => strings.push(string),
                None => self.problem(element.range(), "must be a string".to_owned()),
            }
        }
        strings
    }

    fn patterns(&mut self, value: &Value) -> Vec<Pattern> {
        let mut patterns = Vec::new();
        for string in self.strings(value) {
            match Pattern::new(&string.value) {
                Ok(pattern) if patterns.contains(&pattern) => {
                    self.problem(string.range, format!("duplicate `{pattern}`"));
                }
                Ok(pattern) => patterns.push(pattern),
                Err(error) => self.problem(string.range, error.to_string()),
            }
        }
        patterns
    }
}

/// `; did you mean …?`, when a known word is near enough.
fn did_you_mean(word: &str, known: &[&str]) -> String {
    nearest(word, known).map_or(String::new(), |near| format!("; did you mean `{near}`?"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn problems(text: &str) -> Vec<String> {
        read("x", text).err().unwrap_or_default().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_original_file_loads_unchanged() {
        let text = r#"// Generated.
{
  "Servers": {
    "skia-push": { "AppNames": ["pushd", "pulld"], },
    /* the monitoring */
    "skia-prom": { AppNames: ['prometheus', "pulld"] },
  },
}"#;
        let policy = read("skiapush.conf", text).unwrap();
        let names: Vec<&str> = policy.servers().map(bucket::ServerName::as_str).collect();
        assert_eq!(names, ["skia-prom", "skia-push"]);
    }

    #[test]
    fn every_mistake_is_reported_at_its_place() {
        let text = "{\n  Servers: { 'web-1': { AppName: ['web'] }, 'web-1': { AppNames: [] } },\n  Groups: { prod: { Servers: ['a b', 7], RequireReason: 1 } },\n  Roles: [{ Role: 'deploy', Who: ['x'], Groups: ['prd'] }],\n  Link: {},\n  Apps: { web: { Waves: '1,2' }, 'a b': { Settle: '2h', StopAt: 0 } },\n}";
        let want = [
            "2:25: unknown key `AppName`; did you mean `AppNames`?; valid keys: `AppNames`",
            "2:45: duplicate server `web-1`",
            "3:31: a name cannot contain ` `",
            "3:38: must be a string",
            "3:57: must be `true` or `false`",
            "4:19: must be `viewer`, `deployer` or `admin`; did you mean `deployer`?",
            "4:50: unknown group `prd`; did you mean `prod`?",
            "5:3: unknown key `Link`; did you mean `Links`?",
            "6:25: the last wave must be `rest`",
            "6:34: invalid app name `a b`",
            "6:34: this app has no `Waves`",
            "6:43: `Settle` has no meaning without `Waves`",
            "6:51: can be at most 1h",
            "6:65: must be a number of servers",
        ];
        let got = problems(text);
        for want in want {
            assert!(got.iter().any(|problem| problem.starts_with(want)), "{want}\n{got:#?}");
        }
    }

    #[test]
    fn what_is_no_policy_is_refused() {
        for (text, want) in [
            ("", "1:1: must be an object"),
            ("[]", "1:1: must be an object"),
            ("{ Servers: {} Groups: {} }", "1:14: "),
            ("{ Servers: [] }", "1:12: `Servers` must be an object"),
            ("{ Links: { Logs: 'javascript:x' } }", "1:18: must be an address"),
            ("{ Roles: [{}] }", "1:11: this role has no `Role`"),
            (
                "{ Groups: { a: { Servers: [], MaxDown: '0%' } } }",
                "1:40: must be a number of servers, at least 1, or a share",
            ),
            ("{ Groups: { a: { Servers: [], MaxDown: 1.5 } } }", "1:40: must be a number of servers"),
            ("{ Groups: { a: { Servers: [], Waves: '1,stat:x,rest' } } }", "1:38: unknown filter key `stat:`"),
            ("{ Groups: { a: { Servers: [], Waves: ['1'] } } }", "1:38: the last wave must be `rest`"),
            ("{ Groups: { a: { Servers: [], Waves: [1, 'rest'] } } }", "1:38: each wave must be a string"),
            ("{ Groups: { a: { Servers: [], Waves: 1 } } }", "1:38: must be a string"),
            ("{ Apps: { web: {} } }", "1:11: this app has no `Waves`"),
            ("{ Apps: { web: { Waves: 'rest', Wave: 'rest' } } }", "1:33: unknown key `Wave`; did you mean `Waves`?"),
            ("{\n\n  Servers: { x: ", "3:17: "),
        ] {
            let got = problems(text);
            assert!(got.first().is_some_and(|problem| problem.starts_with(want)), "{text}: {got:?}");
        }
        assert!(!problems(&"[".repeat(100_000)).is_empty());
    }

    proptest! {
        #[test]
        fn no_text_is_too_much(text in "[{}\\[\\]:,'\"a-zA-Z*/\n \u{e4}]{0,200}") {
            let _ = read("x", &text);
        }
    }
}
