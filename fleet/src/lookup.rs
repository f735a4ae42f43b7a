//! Names that nothing in the bucket has: said as such, with the name that was probably meant.

use anyhow::{Context, Result, ensure};
use bucket::{AppName, Bucket, ServerName};
use futures_util::TryStreamExt as _;

use crate::{
    plan::is_new,
    server::{self, Server},
};

/// Makes sure that an app has releases.
///
/// # Errors
/// That it has none, or that the apps cannot be listed.
pub async fn ensure_app(bucket: &Bucket, app: &AppName) -> Result<()> {
    let apps: Vec<AppName> = bucket.apps().try_collect().await.context("could not list the apps")?;
    ensure!(apps.contains(app), unknown_app(app, &apps));
    Ok(())
}

/// Makes sure that a server has a document or has reported.
///
/// # Errors
/// That it has not, or that the servers cannot be listed.
pub async fn ensure_server(bucket: &Bucket, server: &ServerName) -> Result<()> {
    let servers = server::names(bucket).await?;
    ensure!(servers.contains(server), unknown_server(server, &servers));
    Ok(())
}

/// Makes sure that something in the bucket is of a server that was read just now.
///
/// # Errors
/// That nothing is, or that the servers cannot be listed.
pub async fn ensure_known(bucket: &Bucket, server: &Server) -> Result<()> {
    if is_new(server) { ensure_server(bucket, &server.name).await } else { Ok(()) }
}

/// What is said of an app that is none of those `known`.
fn unknown_app(app: &AppName, known: &[AppName]) -> String {
    let known: Vec<&str> = known.iter().map(AppName::as_str).collect();
    let meant = did_you_mean(app.as_str(), &known);
    format!("no app `{app}` in the bucket; {}", meant.as_deref().unwrap_or("`push list` lists the apps"))
}

/// What is said of a server that is none of those `known`.
fn unknown_server(server: &ServerName, known: &[ServerName]) -> String {
    let known: Vec<&str> = known.iter().map(ServerName::as_str).collect();
    let meant = did_you_mean(server.as_str(), &known);
    let meant = meant.as_deref().unwrap_or("`push status` lists the servers");
    format!("no server `{server}` has a document or a report; {meant}")
}

/// Asks whether the one of `known` that is nearest was meant, if any is near.
pub(crate) fn did_you_mean(word: &str, known: &[&str]) -> Option<String> {
    console::nearest(word, known).map(|near| format!("did you mean `{near}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_name_is_named_and_the_nearest_is_offered() {
        let apps = ["clock", "web"].map(|app| app.parse().unwrap());
        let servers = ["web-1", "db-1"].map(|server| server.parse().unwrap());
        assert_eq!(
            unknown_app(&"clokc".parse().unwrap(), &apps),
            "no app `clokc` in the bucket; did you mean `clock`?"
        );
        assert_eq!(
            unknown_app(&"mailer".parse().unwrap(), &apps),
            "no app `mailer` in the bucket; `push list` lists the apps"
        );
        assert_eq!(
            unknown_server(&"wbe-1".parse().unwrap(), &servers),
            "no server `wbe-1` has a document or a report; did you mean `web-1`?"
        );
    }
}
