//! The name of a channel.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{AppName, NameError, name::check_word};

/// The name of a channel of an app, as `prod`. The rules are those of an [`AppName`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ChannelName(String);

text_name!(ChannelName);

impl ChannelName {
    /// The channel that is meant where none is named: `prod`.
    pub fn usual() -> Self {
        Self("prod".to_owned())
    }
}

impl FromStr for ChannelName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        check_word("channel name", name, AppName::MAX)?;
        Ok(Self(name.to_owned()))
    }
}
