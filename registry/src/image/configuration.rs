//! The configuration of an image (OCI image configuration): how it is run, and what its layers are. Pure.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value, json};

use crate::{Digest, Platform, names::unambiguous};

/// Most bytes of one: of an image that others made, the history may be long.
pub(crate) const MAX_SIZE: u64 = 4 << 20;
/// Most layers of an image: what runs images mounts no more (Docker, "overlay2").
pub(crate) const MAX_LAYERS: usize = 127;
/// What of it counts for how an image is run.
const KEYS: [&str; 14] = [
    "architecture",
    "os",
    "variant",
    "created",
    "config",
    "rootfs",
    "history",
    "diff_ids",
    "Entrypoint",
    "Cmd",
    "Env",
    "User",
    "Labels",
    "WorkingDir",
];

/// How an image is run, as its variant says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Process {
    /// The command that is run; empty leaves it to the base.
    pub entrypoint: Vec<String>,
    /// Variables of it, beside those of the base.
    pub env: BTreeMap<String, String>,
    /// As whom it runs, `user` or `user:group`; `None` leaves that to the base.
    pub user: Option<String>,
    /// What is said of the image, beside what the base says.
    pub labels: BTreeMap<String, String>,
}

/// The configuration of an image, with whatever else whoever made it says there.
#[derive(Debug, Clone, PartialEq)]
pub struct Configuration {
    all: Map<String, Value>,
    diff_ids: Vec<Digest>,
}

impl Configuration {
    /// Reads one that others made.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(json: &[u8]) -> Result<Self> {
        if json.len() as u64 > MAX_SIZE {
            bail!("the configuration has more than {MAX_SIZE} bytes");
        }
        let all: Map<String, Value> =
            serde_json::from_slice(json).context("the configuration is not JSON of an image")?;
        unambiguous::ensure(json, &KEYS).context("the configuration can be read in two ways")?;
        let ids = all.get("rootfs").and_then(|rootfs| rootfs.get("diff_ids")).and_then(Value::as_array);
        let ids = ids.context("the configuration names no layers: this is no image of files")?;
        if ids.len() > MAX_LAYERS {
            bail!("the image has {} layers, and {MAX_LAYERS} are the most", ids.len());
        }
        let id = |id: &Value| id.as_str().unwrap_or_default().parse::<Digest>();
        let diff_ids =
            ids.iter().map(id).collect::<Result<_, _>>().context("the configuration names a layer wrongly")?;
        Ok(Self { all, diff_ids })
    }

    /// That of an image of nothing, for this platform.
    pub fn of_nothing(platform: &Platform) -> Self {
        let Platform { architecture, os, variant } = platform;
        let known = [("architecture", Some(architecture)), ("os", Some(os)), ("variant", variant.as_ref())];
        let all = known.into_iter().filter_map(|(key, text)| Some((key.to_owned(), Value::String(text?.clone()))));
        Self { all: all.collect(), diff_ids: Vec::new() }
    }

    /// That of an image that has one layer more.
    #[must_use]
    pub fn with_layer(mut self, process: &Process, created: &str, layer: &Digest) -> Self {
        self.diff_ids.push(layer.clone());
        let all = &mut self.all;
        let mut history = taken_list(all, "history");
        history.push(json!({ "created": created, "created_by": "release run" }));
        let mut config = taken_map(all, "config");
        apply(process, &mut config);
        all.insert("created".to_owned(), json!(created));
        all.insert("config".to_owned(), Value::Object(config));
        all.insert("rootfs".to_owned(), json!({ "type": "layers", "diff_ids": self.diff_ids }));
        all.insert("history".to_owned(), Value::Array(history));
        self
    }

    /// Whether it says what to run.
    pub(super) fn can_run(&self) -> bool {
        let config = self.all.get("config");
        let says = |key: &str| config?.get(key)?.as_array().filter(|words| !words.is_empty());
        says("Entrypoint").or(says("Cmd")).is_some()
    }

    /// The sums of its layers as they are when they are not compressed, the lowest first.
    pub fn diff_ids(&self) -> &[Digest] {
        &self.diff_ids
    }

    /// As it is uploaded: its keys are sorted, so that the same content gives the same bytes.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(&self.all).expect("a map is JSON")
    }
}

/// What a variant says goes over what the base says. A base's usual arguments are for the base's program.
fn apply(process: &Process, config: &mut Map<String, Value>) {
    let texts = |texts: &[String]| Value::Array(texts.iter().cloned().map(Value::String).collect());
    if !process.entrypoint.is_empty() {
        config.insert("Entrypoint".to_owned(), texts(&process.entrypoint));
        config.remove("Cmd");
    }
    if let Some(user) = &process.user {
        config.insert("User".to_owned(), Value::String(user.clone()));
    }
    if !process.env.is_empty() {
        let is_new = |variable: &Value| {
            let name = variable.as_str().and_then(|variable| variable.split_once('=')).map(|(name, _)| name);
            name.is_none_or(|name| !process.env.contains_key(name))
        };
        let mut env = taken_list(config, "Env");
        env.retain(is_new);
        env.extend(process.env.iter().map(|(name, value)| Value::String(format!("{name}={value}"))));
        config.insert("Env".to_owned(), Value::Array(env));
    }
    if !process.labels.is_empty() {
        let mut labels = taken_map(config, "Labels");
        labels.extend(process.labels.iter().map(|(name, value)| (name.clone(), Value::String(value.clone()))));
        config.insert("Labels".to_owned(), Value::Object(labels));
    }
}

/// A list of what others wrote; nothing, if it is none.
fn taken_list(all: &mut Map<String, Value>, key: &str) -> Vec<Value> {
    match all.remove(key) {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    }
}

fn taken_map(all: &mut Map<String, Value>, key: &str) -> Map<String, Value> {
    match all.remove(key) {
        Some(Value::Object(entries)) => entries,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(byte: char) -> Digest {
        format!("sha256:{}", byte.to_string().repeat(64)).parse().unwrap()
    }

    const CREATED: &str = "2026-11-26T23:30:00Z";

    fn on_nothing(process: &Process) -> Configuration {
        let platform = Platform { architecture: "amd64".to_owned(), os: "linux".to_owned(), variant: None };
        Configuration::of_nothing(&platform).with_layer(process, CREATED, &id('a'))
    }

    fn process() -> Process {
        let map = |entries: &[(&str, &str)]| entries.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Process {
            entrypoint: vec!["/bin/web".to_owned(), "--serve".to_owned()],
            env: map(&[("LANG", "C.UTF-8"), ("A", "b=c")]),
            user: Some("1000:1000".to_owned()),
            labels: map(&[("z", "last"), ("a", "first")]),
        }
    }

    #[test]
    fn an_image_on_nothing_says_what_its_variant_says() {
        let made = on_nothing(&process());
        let expected = format!(
            r#"{{"architecture":"amd64","config":{{"Entrypoint":["/bin/web","--serve"],"Env":["A=b=c","LANG=C.UTF-8"],"Labels":{{"a":"first","z":"last"}},"User":"1000:1000"}},"created":"2026-11-26T23:30:00Z","history":[{{"created":"2026-11-26T23:30:00Z","created_by":"release run"}}],"os":"linux","rootfs":{{"diff_ids":["{}"],"type":"layers"}}}}"#,
            id('a')
        );
        assert_eq!(String::from_utf8(made.to_json()).unwrap(), expected);
        assert_eq!(Configuration::read(&made.to_json()).unwrap(), made);
        let silent = on_nothing(&Process::default());
        assert_eq!(serde_json::from_slice::<Value>(&silent.to_json()).unwrap()["config"], json!({}));
    }

    #[test]
    fn an_image_on_a_base_has_what_the_base_has_unless_its_variant_says_otherwise() {
        let base = json!({
            "architecture": "arm64", "os": "linux", "variant": "v8", "created": "2020-01-01T00:00:00Z",
            "config": { "Env": ["PATH=/bin", "LANG=C"], "Cmd": ["sh"], "WorkingDir": "/srv", "Labels": { "a": "base", "b": "base" } },
            "rootfs": { "type": "layers", "diff_ids": [id('b')] }, "history": [{ "created_by": "debuerreotype" }],
        });
        let base = Configuration::read(base.to_string().as_bytes()).unwrap();
        let made = base.clone().with_layer(&process(), CREATED, &id('a'));
        let json: Value = serde_json::from_slice(&made.to_json()).unwrap();
        assert_eq!(json["config"]["Env"], json!(["PATH=/bin", "A=b=c", "LANG=C.UTF-8"]));
        assert_eq!(json["config"]["Labels"], json!({ "a": "first", "b": "base", "z": "last" }));
        assert_eq!((&json["config"]["WorkingDir"], json["config"].get("Cmd")), (&json!("/srv"), None));
        assert_eq!((&json["architecture"], &json["variant"]), (&json!("arm64"), &json!("v8")));
        assert_eq!(json["rootfs"]["diff_ids"], json!([id('b'), id('a')]));
        assert_eq!(json["history"].as_array().unwrap().len(), 2);
        // Who only adds files leaves how it is run to the base.
        let made = base.with_layer(&Process::default(), CREATED, &id('a'));
        let json: Value = serde_json::from_slice(&made.to_json()).unwrap();
        assert_eq!((&json["config"]["Cmd"], &json["config"]["Env"]), (&json!(["sh"]), &json!(["PATH=/bin", "LANG=C"])));
    }

    #[test]
    fn what_is_no_configuration_is_refused() {
        let many = json!({ "rootfs": { "diff_ids": vec![id('a'); MAX_LAYERS + 1] } }).to_string();
        for (json, expected) in [
            ("<html>", "is not JSON"),
            (r#"{"rootfs":{"diff_ids":[]},"config":{},"config":{}}"#, "the key `config` twice"),
            (
                r#"{"rootfs":{"diff_ids":[]},"config":{"entrypoint":["/bin/evil"]}}"#,
                "some readers take the key `entrypoint` for another",
            ),
            ("[]", "is not JSON of an image"),
            ("{}", "names no layers"),
            (r#"{"rootfs":{"diff_ids":["sha256:0"]}}"#, "names a layer wrongly"),
            (&many, "has 128 layers, and 127 are the most"),
            (&" ".repeat((4 << 20) + 1), "more than 4194304 bytes"),
        ] {
            let refused = format!("{:#}", Configuration::read(json.as_bytes()).unwrap_err());
            assert!(refused.contains(expected), "{refused}");
        }
    }
}
