//! The API's description, `OpenAPI` 3.1, from the table of routes and the types that the handlers use.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use schemars::{Schema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::types::Problem;
use crate::web::route::{Doc, Route};

/// The description of these routes, as an answer.
pub(crate) fn answer(routes: &[Route]) -> Response {
    Json(document(routes)).into_response()
}

pub(crate) fn document(routes: &[Route]) -> Value {
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
            "description": "Desired and installed releases of every server, and pushing.",
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
