//! What the form of a plan says: which servers, from which release to which.

use bucket::{PushKind, ReleaseName, ServerName};
use fleet::{operation::Intent, plan::Proposal};
use thiserror::Error;

use super::{jobs::MAX_SERVERS, params::Params};

/// The form isn't one that a plan's page sends.
#[derive(Debug, PartialEq, Eq, Error)]
pub(crate) enum FormError {
    /// It says none of what a plan is for.
    #[error("`kind` must be `deploy`, `rollback`, `retry` or `remove`")]
    Kind,
    /// It has no target.
    #[error("no server specified")]
    NoTarget,
    /// It has too many targets.
    #[error("at most {MAX_SERVERS} servers can be pushed to at once")]
    TooManyTargets,
    /// A target isn't a server and two releases.
    #[error("`target` must be a server and two releases")]
    Shape,
    /// A name in a target isn't one.
    #[error(transparent)]
    Name(#[from] bucket::NameError),
    /// The two releases of a target are of different apps.
    #[error("the two releases of a target must be of the same app")]
    OtherApp,
}

/// What a form says of one server: `SERVER FROM TO`, with `-` where there was nothing.
pub(crate) fn target_value(proposal: &Proposal) -> String {
    let from = proposal.from.as_ref().map_or("-", ReleaseName::stem);
    let to = proposal.to.as_ref().map_or("-", ReleaseName::stem);
    format!("{} {from} {to}", proposal.server)
}

/// The intents of a form.
///
/// # Errors
/// The first mistake in it.
pub(crate) fn intents(form: &Params) -> Result<Vec<Intent>, FormError> {
    let kind = match form.get("kind") {
        Some("deploy") => PushKind::Deploy,
        Some("rollback") => PushKind::Rollback,
        Some("retry") => PushKind::Retry,
        Some("remove") => PushKind::Remove,
        _ => return Err(FormError::Kind),
    };
    // Of servers that don't have the app yet, if that box is ticked.
    let installed = form.all("install_target").filter(|_| form.get("install").is_some());
    // Of servers that the operator has put on hold, likewise.
    let held = form.all("held_target").filter(|_| form.get("held").is_some());
    let targets = form.all("target").chain(installed).chain(held);
    let intents: Vec<Intent> = targets.map(|value| intent(kind.clone(), value)).collect::<Result<_, _>>()?;
    match intents.len() {
        0 => Err(FormError::NoTarget),
        1..=MAX_SERVERS => Ok(intents),
        _ => Err(FormError::TooManyTargets),
    }
}

fn intent(kind: PushKind, value: &str) -> Result<Intent, FormError> {
    let mut words = value.split(' ');
    let (Some(server), Some(from), Some(to), None) = (words.next(), words.next(), words.next(), words.next()) else {
        return Err(FormError::Shape);
    };
    let server = server.parse::<ServerName>()?;
    let from = if from == "-" { None } else { Some(ReleaseName::from_stem(from)?) };
    if kind == PushKind::Remove {
        let (Some(from), "-") = (from, to) else { return Err(FormError::Shape) };
        return Ok(Intent { server, app: from.app().clone(), from: Some(from), to: None, kind });
    }
    let to = ReleaseName::from_stem(to)?;
    if from.as_ref().is_some_and(|from| from.app() != to.app()) {
        return Err(FormError::OtherApp);
    }
    Ok(Intent { server, app: to.app().clone(), from, to: Some(to), kind })
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "web:dev@build-1:2026-11-20T19:05:02Z:7e0ff6059e653eb75a36efb621d0fd66d1ced433";
    const B: &str = "web:dev@build-1:2026-11-20T20:05:02Z:8e0ff6059e653eb75a36efb621d0fd66d1ced433";

    fn read(kind: &str, targets: &[&str]) -> Result<Vec<Intent>, FormError> {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("kind", kind).extend_pairs(targets.iter().map(|target| ("target", target)));
        intents(&Params::parse(form.finish().as_bytes()))
    }

    #[test]
    fn a_form_says_what_the_operator_saw() {
        let read = read("deploy", &[&format!("web-1 {A} {B}"), &format!("web-2 - {B}")]).unwrap();
        assert_eq!((read[0].from.as_ref().unwrap().stem(), read[0].to.as_ref().unwrap().stem()), (A, B));
        assert_eq!((read[1].server.as_str(), read[1].from.as_ref()), ("web-2", None));
    }

    #[test]
    fn only_a_removal_leads_to_nothing() {
        let read = read("remove", &[&format!("web-1 {A} -")]).unwrap();
        assert_eq!((read[0].app.as_str(), &read[0].to, &read[0].kind), ("web", &None, &PushKind::Remove));
    }

    #[test]
    fn servers_without_the_app_are_meant_only_if_the_box_is_ticked() {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("kind", "deploy").append_pair("target", &format!("web-1 {A} {B}"));
        form.append_pair("install_target", &format!("web-2 - {B}"));
        let servers = |form: &str| -> Vec<String> {
            let intents = intents(&Params::parse(form.as_bytes())).unwrap();
            intents.iter().map(|intent| intent.server.to_string()).collect()
        };
        let unticked = form.finish();
        assert_eq!(servers(&unticked), ["web-1"]);
        assert_eq!(servers(&format!("{unticked}&install=yes")), ["web-1", "web-2"]);
    }

    #[test]
    fn what_a_form_cannot_say_is_refused() {
        let other = A.replace("web:", "api:");
        for (kind, targets) in [
            ("deploy", vec![]),
            ("", vec![format!("web-1 {A} {B}")]),
            ("deploy", vec![format!("web-1 {A}")]),
            ("deploy", vec![format!("../x {A} {B}")]),
            ("deploy", vec![format!("web-1 {A} {B} {B}")]),
            ("deploy", vec![format!("web-1 {other} {B}")]),
            ("deploy", vec![format!("web-1 {A} -")]),
            ("remove", vec![format!("web-1 {A} {B}")]),
            ("remove", vec!["web-1 - -".to_owned()]),
        ] {
            let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
            assert!(read(kind, &targets).is_err(), "{kind} {targets:?}");
        }
    }
}
