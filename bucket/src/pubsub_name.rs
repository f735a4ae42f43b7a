//! Names of what Pub/Sub has: subscriptions and topics.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::NameError;

/// A subscription of Pub/Sub: `projects/acme-prod/subscriptions/push-watch`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SubscriptionName(String);

/// A topic of Pub/Sub: `projects/acme-prod/topics/push`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TopicName(String);

text_name!(SubscriptionName);
text_name!(TopicName);

impl FromStr for SubscriptionName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if is_name(text, "subscriptions") {
            return Ok(Self(text.to_owned()));
        }
        Err(NameError::new("subscription", text, "write it as in `projects/acme-prod/subscriptions/push-watch`"))
    }
}

impl FromStr for TopicName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if is_name(text, "topics") {
            return Ok(Self(text.to_owned()));
        }
        Err(NameError::new("topic", text, "write it as in `projects/acme-prod/topics/push`"))
    }
}

/// `projects/{project}/{kind}/{id}`, of characters that mean nothing in a URL.
fn is_name(text: &str, kind: &str) -> bool {
    let mut segments = text.split('/');
    let [projects, project, of_kind, id] = [(); 4].map(|()| segments.next().unwrap_or_default());
    let consists_of = |text: &str, others: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || others.contains(c));
    let begins = |text: &str| text.starts_with(|c: char| c.is_ascii_alphabetic());
    // A project of a domain is `example.com:name`.
    let is_project = begins(project) && project.len() <= 100 && consists_of(project, "-.:");
    let is_id = begins(id) && (3..=255).contains(&id.len()) && consists_of(id, "-_.~+");
    (projects, of_kind) == ("projects", kind) && is_project && is_id && segments.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_four_plain_segments() {
        for good in ["projects/acme-prod/topics/push", "projects/example.com:acme/topics/a-b_c.d~e+1"] {
            assert_eq!(good.parse::<TopicName>().unwrap().as_str(), good);
        }
        let long = format!("projects/p/topics/{}", "x".repeat(256));
        for bad in [
            "",
            "push",
            "projects/acme-prod/subscriptions/push",
            "projects/acme-prod/topics/",
            "projects//topics/push",
            "projects/acme-prod/topics/push/x",
            "/projects/acme-prod/topics/push",
            "projects/../topics/push",
            "projects/p/topics/..",
            "projects/p/topics/%2e%2e",
            "projects/p/topics/a:publish",
            "projects/p/topics/push?x",
            "projects/p/topics/--x",
            &long,
        ] {
            assert!(
                bad.parse::<TopicName>().unwrap_err().to_string().contains("projects/acme-prod/topics/push"),
                "{bad}"
            );
        }
        assert!("projects/acme-prod/topics/push".parse::<SubscriptionName>().is_err());
        assert!("projects/acme-prod/subscriptions/push".parse::<SubscriptionName>().is_ok());
    }
}
