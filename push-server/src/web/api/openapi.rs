//! The API's description, `OpenAPI` 3.1, from the table of routes and the types that the handlers use.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use fleet::policy::Role;
use schemars::{Schema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::types::Problem;
use crate::web::route::{Doc, OtherAnswer, Query, QueryKind, Route};

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
        let operation = operation(route, doc, &problem, &mut schemas);
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
        "components": {
            "schemas": schemas.take_definitions(true),
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer", "description": TOKEN } },
        },
    })
}

/// Who is let in depends on how the web app was started.
const TOKEN: &str = "With `--auth local`: the token that `push serve` prints at its start; looking needs none. With \
                     `--auth iap` and `--auth proxy` the proxy in front signs users in, and there is no token.";

fn query(query: &Query) -> Value {
    let schema = match query.kind {
        QueryKind::Text => json!({ "type": "string" }),
        QueryKind::Texts => json!({ "type": "array", "items": { "type": "string" } }),
        QueryKind::Number => json!({ "type": "integer", "minimum": 1, "default": 1 }),
        QueryKind::Flag => json!({ "type": "boolean", "default": false }),
    };
    let mut parameter = json!({ "name": query.name, "in": "query", "description": query.text, "schema": schema });
    if matches!(query.kind, QueryKind::Texts) {
        parameter["explode"] = true.into();
    }
    parameter
}

fn operation(route: &Route, doc: &Doc, problem: &Schema, schemas: &mut SchemaGenerator) -> Value {
    let in_path = route.path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
    let in_path = in_path.map(|name| {
        let text = format!("The {name}, as lists name it");
        json!({ "name": name, "in": "path", "required": true, "description": text, "schema": { "type": "string" } })
    });
    let parameters: Vec<Value> = in_path.chain(doc.queries.iter().map(query)).collect();
    let is_open = route.least <= Role::Viewer;
    let content = match doc.gives {
        Some(schema) => json!({ "application/json": { "schema": schema(schemas) } }),
        None => json!({ "text/event-stream": {} }),
    };
    let mut operation = json!({
        "operationId": doc.id,
        "summary": doc.summary,
        "security": if is_open { json!([{}, { "token": [] }]) } else { json!([{ "token": [] }]) },
        "parameters": parameters,
        "responses": {
            "200": { "description": "Done", "content": content },
            "default": { "description": "A problem", "content": { "application/problem+json": { "schema": problem } } },
        },
    });
    for OtherAnswer { status, text, media, gives } in &doc.others {
        let content = json!({ *media: { "schema": gives(schemas) } });
        operation["responses"][status.to_string()] = json!({ "description": text, "content": content });
    }
    if let Some(schema) = doc.takes {
        operation["requestBody"] =
            json!({ "required": true, "content": { "application/json": { "schema": schema(schemas) } } });
    }
    operation
}
