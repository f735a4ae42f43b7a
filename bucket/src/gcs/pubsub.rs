//! Pub/Sub over REST, the neighbour of the storage: a subscription is pulled from, a topic is published to.
//!
//! Messages are hints, so nothing is tried again here: what one would have said, a poll finds out.

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use super::{attempt::message, cause::chain, rest::http_client, tokens::Tokens};
use crate::{PubSubOptions, SubscriptionName, TopicName};

const SCOPE: &str = "https://www.googleapis.com/auth/pubsub";

/// Most bytes of an answer that are read: one message of the 10 MB that there may be, in base64.
const MAX_ANSWER: usize = 16 << 20;

const TIMEOUT: Duration = Duration::from_secs(20);

/// How long Google takes, about, to answer a pull for which there is no message.
const EMPTY_PULL: Duration = Duration::from_secs(90);

/// Longer than that: else every pull without a message would be a failure.
const PULL_TIMEOUT: Duration = Duration::from_mins(2);
const _: () = assert!(PULL_TIMEOUT.as_secs() > EMPTY_PULL.as_secs());

/// A subscription, from which messages are pulled.
#[derive(Debug)]
pub struct Subscription {
    client: Client,
    name: SubscriptionName,
}

/// A topic, to which messages are published.
#[derive(Debug)]
pub struct Topic {
    client: Client,
    name: TopicName,
}

/// A message as it was pulled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// By what this delivery of it is acknowledged.
    pub ack_id: String,
    /// Its content; `None` if that isn't base64.
    pub content: Option<Vec<u8>>,
    /// What is said beside it.
    pub attributes: BTreeMap<String, String>,
}

/// Why Pub/Sub did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum PubSubError {
    /// The request has something that can't be (400): of many delivery ids one, perhaps.
    #[error("{0}")]
    Invalid(String),
    /// The answer is longer than what is read: fewer messages may fit.
    #[error("the answer of Pub/Sub is longer than {MAX_ANSWER} bytes")]
    TooLong,
    /// All else, as a sentence.
    #[error("{0}")]
    Failed(String),
}

impl Subscription {
    /// The longest that [`Self::keep`] keeps messages.
    pub const MAX_KEPT: Duration = Duration::from_mins(10);

    /// Opens one. Nothing is asked yet.
    ///
    /// # Errors
    /// When there can be no credentials or no client, as a sentence.
    pub fn open(name: SubscriptionName, options: &PubSubOptions) -> Result<Self, String> {
        Ok(Self { client: Client::open(options)?, name })
    }

    /// At most so many messages; waits for the first of them, for some 90 seconds.
    ///
    /// # Errors
    /// Whatever Pub/Sub, or the way there, answers.
    pub async fn pull(&self, most: u32) -> Result<Vec<Pulled>, PubSubError> {
        let answer =
            self.client.call(self.name.as_str(), "pull", &json!({ "maxMessages": most }), PULL_TIMEOUT).await?;
        let invalid = |error| PubSubError::Failed(format!("invalid answer of Pub/Sub: {error}"));
        let pulled: Deliveries = serde_json::from_slice(&answer).map_err(invalid)?;
        Ok(pulled.received_messages.into_iter().map(Pulled::from).collect())
    }

    /// Has deliveries never come again.
    ///
    /// # Errors
    /// Whatever Pub/Sub answers; nothing says how many of them it took.
    pub async fn acknowledge(&self, ack_ids: &[String]) -> Result<(), PubSubError> {
        self.client.call(self.name.as_str(), "acknowledge", &json!({ "ackIds": ack_ids }), TIMEOUT).await.map(drop)
    }

    /// Has deliveries come again after this time, at most [`Self::MAX_KEPT`], unless they are acknowledged before.
    ///
    /// # Errors
    /// Whatever Pub/Sub answers; nothing says how many of them it took.
    pub async fn keep(&self, ack_ids: &[String], time: Duration) -> Result<(), PubSubError> {
        let body = json!({ "ackIds": ack_ids, "ackDeadlineSeconds": time.min(Self::MAX_KEPT).as_secs() });
        self.client.call(self.name.as_str(), "modifyAckDeadline", &body, TIMEOUT).await.map(drop)
    }
}

impl Topic {
    /// Opens one. Nothing is asked yet.
    ///
    /// # Errors
    /// When there can be no credentials or no client, as a sentence.
    pub fn open(name: TopicName, options: &PubSubOptions) -> Result<Self, String> {
        Ok(Self { client: Client::open(options)?, name })
    }

    /// Publishes messages with this content.
    ///
    /// # Errors
    /// Whatever Pub/Sub, or the way there, answers.
    pub async fn publish(&self, contents: &[Vec<u8>]) -> Result<(), PubSubError> {
        let messages: Vec<Value> = contents.iter().map(|content| json!({ "data": STANDARD.encode(content) })).collect();
        self.client.call(self.name.as_str(), "publish", &json!({ "messages": messages }), TIMEOUT).await.map(drop)
    }
}

#[derive(Debug)]
struct Client {
    http: reqwest::Client,
    endpoint: Url,
    tokens: Tokens,
}

impl Client {
    fn open(options: &PubSubOptions) -> Result<Self, String> {
        // First: this makes sure that there can be a client at all.
        let tokens = Tokens::load(&options.credentials, SCOPE)?;
        let http =
            http_client(TIMEOUT).map_err(|error| format!("could not create a Pub/Sub client: {}", chain(&error)))?;
        Ok(Self { http, endpoint: options.endpoint.clone(), tokens })
    }

    async fn call(&self, name: &str, verb: &str, body: &Value, timeout: Duration) -> Result<Vec<u8>, PubSubError> {
        let mut url = self.endpoint.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("v1").extend(format!("{name}:{verb}").split('/'));
        }
        let renewals = self.tokens.renewals();
        let (mut status, mut answer) = self.attempt(&url, body, timeout).await?;
        // A token may have been revoked: another is asked for, once.
        if status == StatusCode::UNAUTHORIZED && self.tokens.renew(renewals) {
            (status, answer) = self.attempt(&url, body, timeout).await?;
        }
        if status.is_success() {
            return Ok(answer);
        }
        let (words, status) = (message(&answer).0, status.as_u16());
        let reason = if words.is_empty() || words.starts_with('<') { String::new() } else { format!(": {words}") };
        let reason = format!("Pub/Sub answered with status {status}{reason}");
        Err(if status == 400 { PubSubError::Invalid(reason) } else { PubSubError::Failed(reason) })
    }

    async fn attempt(&self, url: &Url, body: &Value, timeout: Duration) -> Result<(StatusCode, Vec<u8>), PubSubError> {
        let headers = self.tokens.headers().await.map_err(|no_token| PubSubError::Failed(no_token.reason))?;
        let broken = |error: reqwest::Error| {
            PubSubError::Failed(format!("could not reach Pub/Sub: {}", chain(&error.without_url())))
        };
        let request = self.http.post(url.clone()).headers(headers).json(body).timeout(timeout);
        let mut response = request.send().await.map_err(broken)?;
        let mut answer = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(broken)? {
            if answer.len() + chunk.len() > MAX_ANSWER {
                return Err(PubSubError::TooLong);
            }
            answer.extend_from_slice(&chunk);
        }
        Ok((response.status(), answer))
    }
}

/// As the API has it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Deliveries {
    #[serde(default)]
    received_messages: Vec<Delivery>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Delivery {
    ack_id: String,
    #[serde(default)]
    message: Message,
}

#[derive(Debug, Default, Deserialize)]
struct Message {
    #[serde(default)]
    data: String,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
}

impl From<Delivery> for Pulled {
    fn from(Delivery { ack_id, message: Message { data, attributes } }: Delivery) -> Self {
        Self { ack_id, content: STANDARD.decode(data).ok(), attributes }
    }
}
