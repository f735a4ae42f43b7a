//! What a repository says of its pipelines, as its files lie in the checkout, and what the policy says to that.

use std::{fs::File, io::Read as _, path::Path};

use fleet::{
    policy::Policy,
    told::{NotTold, told},
};
use pipeline::{Action, ChannelMove, Checked, FILE, Known, MAX_SIZE, Place, Problem};
use registry::Writable;

use crate::manifest::Images;

/// The pipelines of the checkout in a directory; `None` if there is no file of them.
///
/// # Errors
/// All that is wrong with the files.
pub(crate) fn read(directory: &Path, known: &Known) -> Option<Result<Checked, Vec<Problem>>> {
    directory.join(FILE).symlink_metadata().ok()?;
    Some(match read_below(directory, FILE) {
        Ok(config) => pipeline::read(&config, known, |file| read_below(directory, file)),
        Err(reason) => Err(vec![Problem::of_file(FILE, format!("the file {reason}"))]),
    })
}

/// The moves of channels of an action that the policy leaves to no pipeline, if one is at hand.
pub(crate) fn refused(policy: Option<&Policy>, action: &Action) -> Vec<(Place, String)> {
    let (Some(policy), Action::Channel(moves)) = (policy, action) else { return Vec::new() };
    let refusal = |wanted: &ChannelMove| -> Option<NotTold> {
        // Names were checked with the file.
        told(policy, &wanted.app.parse().ok()?, &wanted.channel.parse().ok()?).err()
    };
    moves.iter().filter_map(|wanted| Some((wanted.place, refusal(wanted)?.to_string()))).collect()
}

/// The moves of channels of an action, in a run that takes what is not committed: what it releases is nothing for them.
pub(crate) fn of_uncommitted(action: &Action) -> Vec<(Place, String)> {
    let Action::Channel(moves) = action else { return Vec::new() };
    let refusal = |wanted: &ChannelMove| {
        let text = format!(
            "the channel `{}` of `{}` is not moved to a release with uncommitted changes: commit them, or leave `--dirty` out",
            wanted.channel, wanted.app
        );
        (wanted.place, text)
    };
    moves.iter().map(refusal).collect()
}

/// That the images of an action can't be written to any registry by what release.toml says, as far as their names are known.
pub(crate) fn unwritable(images: &Images, project: Option<&str>, action: &Action) -> Vec<(Place, String)> {
    refused_image(project, action, |name| images.writable(name))
}

/// The same of what `writable` says of a name.
pub(crate) fn refused_image(
    project: Option<&str>,
    action: &Action,
    writable: impl FnOnce(&str) -> anyhow::Result<Writable>,
) -> Vec<(Place, String)> {
    let (Action::Image(image), Some(project)) = (action, project) else { return Vec::new() };
    let refused = image.known_name(project).and_then(|name| writable(&name).err());
    refused.map(|error| (image.place, format!("{error:#}"))).into_iter().collect()
}

/// The content of a file below a directory, also through links that lead to no other place; else why not, as the end of a
/// sentence about it.
pub(crate) fn read_below(directory: &Path, file: &str) -> Result<Vec<u8>, String> {
    let unreadable = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => "is missing".to_owned(),
        _ => format!("cannot be read: {error}"),
    };
    let path = directory.join(file).canonicalize().map_err(unreadable)?;
    if !path.starts_with(directory) {
        return Err("is a link that leads out of the repository".to_owned());
    }
    if !path.metadata().map_err(unreadable)?.is_file() {
        return Err("is not a file".to_owned());
    }
    let mut content = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_SIZE as u64 + 1).read_to_end(&mut content)).map_err(unreadable)?;
    Ok(content)
}
