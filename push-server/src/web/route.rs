//! One route: its address, who may use it, what answers, and what the API's description says of it.

use std::sync::Arc;

use axum::{http::Method, routing::MethodRouter};
use fleet::policy::Role;
use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::shared::Web;

/// One route.
pub(crate) struct Route {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    /// The least that somebody must be; what they may push where is judged for each push.
    pub(crate) least: Role,
    pub(crate) handler: MethodRouter<Arc<Web>>,
    /// What the API's description says of it.
    pub(crate) doc: Option<Doc>,
}

/// What the API's description says of one route.
pub(crate) struct Doc {
    pub(crate) summary: &'static str,
    pub(crate) queries: &'static [Query],
    pub(crate) takes: Option<fn(&mut SchemaGenerator) -> Schema>,
    pub(crate) gives: Option<fn(&mut SchemaGenerator) -> Schema>,
}

/// A parameter of the query.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Query {
    pub(crate) name: &'static str,
    pub(crate) text: &'static str,
}

impl Doc {
    pub(crate) fn new<T: JsonSchema>(summary: &'static str, queries: &'static [Query]) -> Self {
        Self { summary, queries, takes: None, gives: Some(SchemaGenerator::subschema_for::<T>) }
    }

    pub(crate) fn takes<T: JsonSchema>(self) -> Self {
        Self { takes: Some(SchemaGenerator::subschema_for::<T>), ..self }
    }

    pub(crate) fn events(summary: &'static str) -> Self {
        Self { summary, queries: &[], takes: None, gives: None }
    }
}
