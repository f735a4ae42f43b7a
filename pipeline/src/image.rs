//! `publish: { image: … }`: what an image is called, what it is made of, and what can be said against that.

use std::collections::{BTreeMap, BTreeSet};

use console::cut;
use registry::{Repository, Tag, image::Built};
use serde::{Serialize, Serializer};

use crate::{
    config::Pipeline,
    fields::{Fields, leads_out, list, template, text, wanted},
    problem::{Place, Problems},
    stage::{SETUP, Stage},
    template::{Piece, Template},
    variants::Variants,
    yaml::{Node, Value},
};

/// The keys of an image.
pub(crate) const KEYS: [&str; 4] = ["name", "tag", "tags", "from"];

/// What others have as keys of an image, and what to use here.
pub(crate) const ELSEWHERE: [(&str, &str); 6] = [
    ("id", "the image is that of the variant that the stage builds, or of `from`"),
    ("base", OF_VARIANT),
    ("root", OF_VARIANT),
    ("entrypoint", OF_VARIANT),
    ("user", OF_VARIANT),
    ("labels", OF_VARIANT),
];

const OF_VARIANT: &str = "the variant that the stage builds says that";

/// `publish: { image: … }`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Image {
    /// Where it is written.
    #[serde(skip)]
    pub place: Place,
    /// What it is called, below what release.toml says of the registry.
    pub name: Template,
    /// Its tag.
    pub tag: Template,
    /// More tags; those that are empty are dropped.
    pub tags: Vec<Template>,
    /// Where another builder put it, below the directory of the pipeline; without it, it is made of the variant's `root`.
    #[serde(serialize_with = "shown", skip_serializing_if = "Option::is_none")]
    pub from: Option<Built>,
}

#[expect(clippy::ref_option, reason = "serde passes references")]
fn shown<S: Serializer>(from: &Option<Built>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(from.as_ref().map_or(&"" as &dyn std::fmt::Display, |from| from))
}

/// What an image is called that is to be called so: in lower case, and one word.
pub fn image_name(text: &str) -> String {
    text.to_lowercase().replace('/', "-")
}

/// Checks what an image is called, by the name of the project.
///
/// # Errors
/// Why it can't be called so, as the end of a sentence.
pub fn check_image_name(name: &str, project: &str) -> Result<(), String> {
    let project = image_name(project);
    let is_own = name.strip_prefix(project.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
    if !is_own {
        return Err(format!("it is neither that of the project, `{project}`, nor begins with `{project}-`"));
    }
    // In whichever registry.
    format!("images.example/{name}").parse::<Repository>().map(drop).map_err(|error| error.reason)
}

impl Image {
    /// The texts in it that values are put into.
    pub(crate) fn templates(&self) -> impl Iterator<Item = &Template> {
        [&self.name, &self.tag].into_iter().chain(&self.tags)
    }

    /// What it is called, if that is known before anything runs.
    pub fn known_name(&self, project: &str) -> Option<String> {
        let of_setup = |name: &str| (name == "project").then(|| project.to_owned());
        resolved(&self.name, of_setup).map(|name| image_name(&name))
    }
}

/// `true`, or a map.
pub(crate) fn image(node: &Node, problems: &mut Problems) -> Option<Image> {
    if let Value::Text(_) = node.value {
        let nothing = Node { place: node.place, value: Value::Nothing };
        let is_wanted = wanted(node, "`image`", problems);
        return is_wanted.then(|| of_fields(node.place, &mut Fields::of(&nothing, "", problems), problems))?;
    }
    let mut fields = Fields::of(node, "`image`", problems);
    let found = of_fields(node.place, &mut fields, problems);
    fields.end(&KEYS, &ELSEWHERE, problems);
    found
}

/// The same of keys that are at hand; what else there is stays.
pub(crate) fn of_fields(place: Place, fields: &mut Fields, problems: &mut Problems) -> Option<Image> {
    let of_setup = |name: &str| Template::of_value(Some(SETUP), name, place);
    let mut text_of = |key: &str, usual: &str, problems: &mut Problems| match fields.take(key) {
        Some(node) => template(node, &format!("`{key}`"), problems),
        None => Some(of_setup(usual)),
    };
    let (name, tag) = (text_of("name", "project", problems), text_of("tag", "commit", problems));
    let tags = match fields.take("tags") {
        Some(tags) => {
            list(tags, "`tags`", problems).iter().filter_map(|tag| template(tag, "a tag", problems)).collect()
        }
        None => vec![dated(place), of_setup("tag")],
    };
    let from = fields.take("from").map(|from| built(from, problems));
    let image = Image { place, name: name?, tag: tag?, tags, from: from.map_or(Some(None), |from| from.map(Some))? };
    let is_empty = |tag: &Template| tag.as_plain() == Some("");
    if is_empty(&image.tag) {
        problems.add(image.tag.place, "`tag` is empty: only those in `tags` may be");
    }
    for tag in [&image.tag].into_iter().chain(&image.tags).filter(|tag| !is_empty(tag)) {
        if let Some(Err(error)) = tag.as_plain().map(str::parse::<Tag>) {
            problems.add(tag.place, error.to_string());
        }
    }
    Some(image)
}

/// `${setup.timestamp}-${setup.stage}`
fn dated(place: Place) -> Template {
    let value = |name: &str| Template::of_value(Some(SETUP), name, place).pieces;
    Template { place, pieces: [value("timestamp"), vec![Piece::Text("-".to_owned())], value("stage")].concat() }
}

/// What another builder made, inside of the copy.
fn built(node: &Node, problems: &mut Problems) -> Option<Built> {
    let text = text(node, "`from`", problems)?;
    let refused = match text.parse::<Built>() {
        Ok(built) => match leads_out(&built.path().to_string_lossy()) {
            None => return Some(built),
            Some(reason) => format!("`from` cannot be `{}`: {reason}", cut(text, 80)),
        },
        Err(error) => error.to_string(),
    };
    problems.add(node.place, refused);
    None
}

/// A text with the values of the hidden first stage put into it, if there are no others in it and those are known.
fn resolved(template: &Template, of_setup: impl Fn(&str) -> Option<String>) -> Option<String> {
    let piece = |piece: &Piece| match piece {
        Piece::Text(text) => Some(text.clone()),
        Piece::Value { stage, name, .. } if stage.as_deref() == Some(SETUP) => of_setup(name),
        Piece::Value { .. } => None,
    };
    template.pieces.iter().map(piece).collect()
}

/// What can be said against how an image is called.
pub(crate) fn check_called(image: &Image, project: Option<&str>, problems: &mut Problems) {
    if let Some(project) = project
        && let Some(name) = image.known_name(project)
        && let Err(reason) = check_image_name(&name, project)
    {
        problems.add(image.name.place, format!("an image cannot be called `{}`: {reason}", cut(&name, 80)));
    }
}

/// What can be said against what the image of a stage is made of.
pub(crate) fn check_made(image: &Image, stage: &Stage, variants: Option<&Variants>, problems: &mut Problems) {
    let build = stage.variant();
    let variant = build.and_then(|build| variants?.get(&build.variant));
    match (build, variant, &image.from) {
        (None, _, None) => problems.add(
            image.place,
            "the image is made of nothing: `build` says of which variant with a `root`, or `from` where another builder put it",
        ),
        (Some(build), Some(variant), None) if variant.root.is_none() => problems.add(
            image.place,
            format!("the variant `{}` has no `root`: the directory that the image is made of", build.variant),
        ),
        (Some(build), Some(variant), None) if variant.base.is_none() && variant.entrypoint.is_empty() => problems.add(
            image.place,
            format!("nobody could run the image: the variant `{}` has neither an `entrypoint` nor a `base`", build.variant),
        ),
        (Some(build), Some(variant), Some(from)) if variant.root.is_some() => problems.add(
            image.place,
            format!("`{from}` is taken as it is, and the variant `{}` has a `root`: leave one of them out", build.variant),
        ),
        _ => {}
    }
}

/// Images of a file that get one name and tag: of a run of all its pipelines the last would replace the others.
pub(crate) fn check_twice(pipelines: &[Pipeline], project: Option<&str>, problems: &mut Problems) {
    let mut seen: BTreeMap<(String, String), Place> = BTreeMap::new();
    for pipeline in pipelines {
        for stage in &pipeline.stages {
            for image in stage.images() {
                // What else a run gives is the same for all of its stages, whatever it will be.
                let of_setup = |name: &str| {
                    Some(match (name, project) {
                        ("pipeline", _) => pipeline.name.clone(),
                        ("stage", _) => stage.name.clone(),
                        ("project", Some(project)) => project.to_owned(),
                        (other, _) => format!("${{{SETUP}.{other}}}"),
                    })
                };
                let Some(name) = resolved(&image.name, of_setup).map(|name| image_name(&name)) else { continue };
                let tags = [&image.tag].into_iter().chain(&image.tags).filter_map(|tag| resolved(tag, of_setup));
                let named: BTreeSet<(String, String)> =
                    tags.filter(|tag| !tag.is_empty()).map(|tag| (name.clone(), tag)).collect();
                if let Some((both, first)) = named.iter().find_map(|named| Some((named, seen.get(named)?))) {
                    let shown = cut(&format!("{}:{}", both.0, both.1), 120);
                    let text = format!(
                        "`{shown}` is published already, in line {}: give one of them another `name`, `tag` or `tags`",
                        first.line
                    );
                    problems.add(image.place, text);
                }
                for named in named {
                    seen.entry(named).or_insert(image.place);
                }
            }
        }
    }
}
