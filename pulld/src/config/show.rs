//! The settings as a configuration file that would have them: for `pulld check-config`, and kept by the agent.

use bucket::BucketOptions;
use console::duration::show;
use toml::Value;

use super::Settings;

impl Settings {
    /// A line for each key, in the order of the documented file. A key that is not set is a comment.
    pub(crate) fn lines(&self) -> Vec<String> {
        // All fields are named, so that the compiler asks for the line of a new one.
        let Self {
            bucket,
            bucket_options: BucketOptions { endpoint, credentials, timeout: _, attempts: _ },
            server,
            poll,
            jitter,
            heartbeat,
            health_window,
            rescue_after,
            transaction_timeout,
            prune,
            allowed_apps,
            keep_releases,
            metadata,
        } = self;
        let text = |value: &dyn ToString| Some(Value::String(value.to_string()));
        let values = [
            ("bucket", bucket.as_ref().and_then(|url| text(url))),
            ("server", text(server)),
            ("poll", text(&show(*poll))),
            ("jitter", text(&show(*jitter))),
            ("heartbeat", text(&show(*heartbeat))),
            ("health_window", text(&show(*health_window))),
            ("rescue_after", text(&show(*rescue_after))),
            ("transaction_timeout", text(&show(*transaction_timeout))),
            ("prune", Some(Value::from(*prune))),
            ("allowed_apps", Some(allowed_apps.globs().to_vec().into())),
            ("keep_releases", i64::try_from(*keep_releases).ok().map(Value::Integer)),
            ("gcs_endpoint", endpoint.as_ref().and_then(|url| text(url))),
            ("gcs_credentials", text(credentials)),
            ("metadata", text(metadata)),
        ];
        let line = |(key, value): (&str, Option<Value>)| match value {
            Some(value) => format!("{key} = {value}"),
            None if key == "bucket" => format!("# {key} is not set: the agent waits"),
            None => format!("# {key} is not set"),
        };
        values.into_iter().map(line).collect()
    }
}
