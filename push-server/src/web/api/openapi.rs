//! The API's description, `OpenAPI` 3.1, from the table of routes and the types that the handlers use.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::types::Problem;
use crate::web::routes::{self, Route};

/// What is said of one route.
pub(crate) struct Doc {
    summary: &'static str,
    queries: &'static [Query],
    takes: Option<fn(&mut SchemaGenerator) -> Schema>,
    gives: Option<fn(&mut SchemaGenerator) -> Schema>,
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

/// `GET /api/v1/openapi.json`.
pub(crate) async fn get() -> Response {
    Json(document(&routes::all())).into_response()
}

fn document(routes: &[Route]) -> Value {
    let mut schemas = SchemaSettings::draft2020_12()
        .with(|settings| settings.definitions_path = "/components/schemas".into())
        .into_generator();
    let problem = schemas.subschema_for::<Problem>();
    let mut paths = Map::new();
    for route in routes {
        let Some(doc) = &route.doc else { continue };
        let operation = operation(route.path, doc, &problem, &mut schemas);
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.as_str().to_lowercase()] = operation;
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Push",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What every server should run and does run, and choosing it.",
        },
        "paths": paths,
        "components": { "schemas": schemas.take_definitions(true) },
    })
}

fn operation(path: &str, doc: &Doc, problem: &Schema, schemas: &mut SchemaGenerator) -> Value {
    let in_path = path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
    let in_path =
        in_path.map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }));
    let in_query = doc.queries.iter().map(
        |query| json!({ "name": query.name, "in": "query", "description": query.text, "schema": { "type": "string" } }),
    );
    let parameters: Vec<Value> = in_path.chain(in_query).collect();
    let content = match doc.gives {
        Some(schema) => json!({ "application/json": { "schema": schema(schemas) } }),
        None => json!({ "text/event-stream": {} }),
    };
    let mut operation = json!({
        "summary": doc.summary,
        "parameters": parameters,
        "responses": {
            "200": { "description": "Done", "content": content },
            "default": { "description": "A problem", "content": { "application/problem+json": { "schema": problem } } },
        },
    });
    if let Some(schema) = doc.takes {
        operation["requestBody"] =
            json!({ "required": true, "content": { "application/json": { "schema": schema(schemas) } } });
    }
    operation
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::api::PREFIX;

    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
                fields.values().for_each(|field| references(field, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    #[test]
    fn every_route_of_the_api_is_described() {
        let document = document(&routes::all());
        for route in routes::all().iter().filter(|route| route.path.starts_with(PREFIX)) {
            let described = document["paths"].get(route.path).is_some();
            assert!(described || route.path.ends_with("/openapi.json"), "{}", route.path);
        }
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 10, "{found:?}");
        for reference in found {
            assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference} leads nowhere");
        }
    }
}
