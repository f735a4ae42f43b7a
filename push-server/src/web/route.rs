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
    /// By which clients that are made from the description name it.
    pub(crate) id: &'static str,
    pub(crate) summary: &'static str,
    pub(crate) queries: &'static [Query],
    pub(crate) takes: Option<fn(&mut SchemaGenerator) -> Schema>,
    pub(crate) gives: Option<fn(&mut SchemaGenerator) -> Schema>,
    /// What it answers beside 200 and problems without more.
    pub(crate) others: Vec<OtherAnswer>,
}

/// One more answer of a route.
pub(crate) struct OtherAnswer {
    pub(crate) status: u16,
    /// What it means.
    pub(crate) text: &'static str,
    /// The type of its body.
    pub(crate) media: &'static str,
    pub(crate) gives: fn(&mut SchemaGenerator) -> Schema,
}

/// A parameter of the query.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Query {
    pub(crate) name: &'static str,
    pub(crate) text: &'static str,
    pub(crate) kind: QueryKind,
}

/// What the value of a parameter is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum QueryKind {
    Text,
    /// Text, any number of times.
    Texts,
    /// A whole number, from 1.
    Number,
    /// Whether something is so; not, if it is absent.
    Flag,
}

impl Doc {
    pub(crate) fn new<T: JsonSchema>(id: &'static str, summary: &'static str, queries: &'static [Query]) -> Self {
        let gives = Some(SchemaGenerator::subschema_for::<T> as fn(&mut SchemaGenerator) -> Schema);
        Self { id, summary, queries, takes: None, gives, others: Vec::new() }
    }

    pub(crate) fn takes<T: JsonSchema>(self) -> Self {
        Self { takes: Some(SchemaGenerator::subschema_for::<T>), ..self }
    }

    /// Adds an answer with another status.
    pub(crate) fn or<T: JsonSchema>(mut self, status: u16, text: &'static str, media: &'static str) -> Self {
        self.others.push(OtherAnswer { status, text, media, gives: SchemaGenerator::subschema_for::<T> });
        self
    }

    pub(crate) fn events(id: &'static str, summary: &'static str) -> Self {
        Self { id, summary, queries: &[], takes: None, gives: None, others: Vec::new() }
    }
}
