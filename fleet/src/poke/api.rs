//! The five calls of the Compute API that a poke needs, over REST, and which failures are worth another try.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use bucket::{NoToken, Tokens};
use reqwest::{
    Method, Response, StatusCode, Url,
    header::{HeaderMap, RETRY_AFTER},
    redirect::Policy,
};
use serde::{Deserialize, de::DeserializeOwned};

use super::{
    instance::{Candidate, InstanceDocument, InstanceList, InstanceMetadata, Operation},
    settings::ComputeSettings,
};

/// The only scope that lets `setMetadata` through; IAM narrows it further.
const SCOPE: &str = "https://www.googleapis.com/auth/compute";
/// Ten instances with all the metadata they may have, written as JSON.
const MAX_BYTES: usize = 16 << 20;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// A metadata server answers within milliseconds, and Google's token server within a second.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest part of Google's own message that is shown, in characters.
const SHOWN: usize = 300;

/// The Compute API of one project.
#[derive(Debug)]
pub(super) struct Api {
    http: reqwest::Client,
    base: Url,
    tokens: Tokens,
}

/// Why a call failed.
#[derive(Debug)]
pub(super) struct Failure {
    /// As a sentence.
    pub(super) reason: String,
    /// Whether another try may help.
    pub(super) retry: bool,
    /// How long the server wants to be left alone.
    pub(super) retry_after: Option<Duration>,
}

impl Failure {
    pub(super) fn permanent(reason: String) -> Self {
        Self { reason, retry: false, retry_after: None }
    }

    fn transient(reason: String) -> Self {
        Self { reason, retry: true, retry_after: None }
    }
}

impl Api {
    pub(super) fn new(settings: &ComputeSettings) -> Result<Self> {
        // First: this makes sure that there can be a client at all.
        let tokens = Tokens::load(&settings.credentials, SCOPE).map_err(|reason| anyhow!(reason))?;
        let base = format!("compute/v1/projects/{}/", settings.project);
        let base = settings.endpoint.join(&base).context("could not build a Compute API URL")?;
        let http = reqwest::Client::builder().redirect(Policy::none()).timeout(REQUEST_TIMEOUT);
        let http = http.build().context("could not create a Compute API client")?;
        Ok(Self { http, base, tokens })
    }

    /// Makes sure that there is an access token.
    pub(super) async fn authenticate(&self) -> Result<(), Failure> {
        self.headers().await.map(drop)
    }

    /// One page of the instances of these names, in all zones.
    pub(super) async fn list(&self, names: &[&str], page: Option<&str>) -> Result<InstanceList, Failure> {
        let filter: Vec<String> = names.iter().map(|name| format!("(name = \"{name}\")")).collect();
        let filter = filter.join(" OR ");
        // One zone that is down must not hide the instances of the others.
        let mut query = vec![("filter", filter.as_str()), ("returnPartialSuccess", "true"), ("maxResults", "500")];
        query.extend(page.map(|page| ("pageToken", page)));
        self.call(Method::GET, "aggregated/instances", &query, None).await
    }

    pub(super) async fn metadata(&self, instance: &Candidate) -> Result<InstanceMetadata, Failure> {
        let path = format!("zones/{}/instances/{}", instance.zone, instance.name);
        let document: InstanceDocument = self.call(Method::GET, &path, &[], None).await?;
        Ok(document.metadata)
    }

    pub(super) async fn set_metadata(
        &self,
        instance: &Candidate,
        metadata: &InstanceMetadata,
    ) -> Result<Operation, Failure> {
        let path = format!("zones/{}/instances/{}/setMetadata", instance.zone, instance.name);
        let body = serde_json::to_value(metadata).map_err(|error| Failure::permanent(error.to_string()))?;
        self.call(Method::POST, &path, &[], Some(&body)).await
    }

    /// Waits until an operation is done, and gives its error if it has one.
    pub(super) async fn finish(&self, instance: &Candidate, mut operation: Operation) -> Result<(), Failure> {
        while operation.status != "DONE" {
            if !operation.name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
                return Err(Failure::permanent(format!("invalid operation name `{}`", clean(&operation.name))));
            }
            let path = format!("zones/{}/operations/{}/wait", instance.zone, operation.name);
            // It hangs until the operation is done, or for two minutes.
            operation = self.call(Method::POST, &path, &[], None).await?;
        }
        let Some(error) = operation.error.and_then(|error| error.errors.into_iter().next()) else { return Ok(()) };
        let reason = format!("the operation failed with {}: {}", clean(&error.code), clean(&error.message));
        let retry = ["CONDITION_NOT_MET", "RESOURCE_NOT_READY", "RATE_LIMIT_EXCEEDED", "INTERNAL_ERROR"];
        Err(Failure { reason, retry: retry.contains(&error.code.as_str()), retry_after: None })
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&serde_json::Value>,
    ) -> Result<T, Failure> {
        let url = self.base.join(path).map_err(|error| Failure::permanent(error.to_string()))?;
        let mut renewed = false;
        loop {
            let renewals = self.tokens.renewals();
            let mut request =
                self.http.request(method.clone(), url.clone()).query(query).headers(self.headers().await?);
            if let Some(body) = body {
                request = request.json(body);
            } else if method == Method::POST {
                request = request.header("Content-Length", "0");
            }
            let response = request.send().await.map_err(broken)?;
            // A cached token may have been revoked: ask for another, once.
            if response.status() == StatusCode::UNAUTHORIZED && !renewed && self.tokens.renew(renewals) {
                renewed = true;
                continue;
            }
            return read(response).await;
        }
    }

    async fn headers(&self) -> Result<HeaderMap, Failure> {
        match tokio::time::timeout(TOKEN_TIMEOUT, self.tokens.headers()).await {
            Ok(Ok(headers)) => Ok(headers),
            Ok(Err(NoToken { reason, transient })) => Err(Failure { reason, retry: transient, retry_after: None }),
            Err(_) => Err(Failure::permanent(format!(
                "no access token after {} s: if this machine is not on Google Cloud, set \
                 `PUSH_COMPUTE_CREDENTIALS` to the path of a key file",
                TOKEN_TIMEOUT.as_secs()
            ))),
        }
    }
}

async fn read<T: DeserializeOwned>(mut response: Response) -> Result<T, Failure> {
    let status = response.status();
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(broken)? {
        if body.len() + chunk.len() > MAX_BYTES {
            return Err(Failure::permanent(format!("the answer of the Compute API is longer than {MAX_BYTES} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    if status.is_success() {
        return serde_json::from_slice(&body)
            .map_err(|error| Failure::transient(format!("invalid answer of the Compute API: {error}")));
    }
    let (message, code) = explain(&body);
    let retry = status.is_server_error()
        || matches!(
            status,
            StatusCode::REQUEST_TIMEOUT
                | StatusCode::CONFLICT
                | StatusCode::PRECONDITION_FAILED
                | StatusCode::TOO_MANY_REQUESTS
        )
        // Compute Engine's way to say 429.
        || (status == StatusCode::FORBIDDEN && code.ends_with("ateLimitExceeded"));
    let reason = format!("the Compute API answered with status {}{message}", status.as_u16());
    Err(Failure { reason, retry, retry_after: retry_after.map(Duration::from_secs) })
}

/// Google's own message about an error, and the short name of its reason.
fn explain(body: &[u8]) -> (String, String) {
    #[derive(Deserialize)]
    struct Page {
        error: Explained,
    }
    #[derive(Deserialize)]
    struct Explained {
        #[serde(default)]
        message: String,
        #[serde(default)]
        errors: Vec<Reason>,
    }
    #[derive(Deserialize)]
    struct Reason {
        #[serde(default)]
        reason: String,
    }
    let Ok(Page { error }) = serde_json::from_slice(body) else { return (String::new(), String::new()) };
    let reason = error.errors.into_iter().next().map(|error| error.reason).unwrap_or_default();
    let said = if error.message.is_empty() { String::new() } else { format!(": {}", clean(&error.message)) };
    (said, reason)
}

fn broken(error: reqwest::Error) -> Failure {
    Failure::transient(format!("could not reach the Compute API: {:#}", anyhow!(error.without_url())))
}

fn clean(text: &str) -> String {
    text.chars().take(SHOWN).flat_map(char::escape_debug).collect()
}
