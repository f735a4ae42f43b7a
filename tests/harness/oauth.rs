//! A fake of Google's token server (RFC 6749 §6): it changes a user's refresh token into access tokens.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{Json, Router, extract::State, routing::post};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

/// A request for a token: the form's fields.
type Form = BTreeMap<String, String>;

/// What was asked for, and how long tokens last.
type Shared = Arc<Mutex<(Vec<Form>, Duration)>>;

/// A running fake; it ends when dropped.
#[derive(Debug)]
pub struct FakeOauth {
    address: SocketAddr,
    state: Shared,
    server: JoinHandle<()>,
}

impl FakeOauth {
    /// Starts one on a free port of the loopback interface. Its tokens are `user-1`, `user-2` and so on.
    ///
    /// # Panics
    /// When no port can be bound.
    pub async fn start(lifetime: Duration) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port on loopback");
        let address = listener.local_addr().expect("a bound socket has an address");
        let state = Shared::new(Mutex::new((Vec::new(), lifetime)));
        let app = Router::new().route("/token", post(token)).with_state(state.clone());
        let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap_or_default() });
        Self { address, state, server }
    }

    /// What `gcloud auth application-default login` would leave behind, for this server.
    pub fn authorized_user(&self) -> Value {
        json!({
            "type": "authorized_user",
            "client_id": "gcloud",
            "client_secret": "known to all",
            "refresh_token": "1//refresh",
            "token_uri": format!("http://{}/token", self.address),
        })
    }

    /// The requests so far, oldest first.
    pub fn asked(&self) -> Vec<BTreeMap<String, String>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }
}

impl Drop for FakeOauth {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn token(State(state): State<Shared>, body: String) -> Json<Value> {
    let fields = url::form_urlencoded::parse(body.as_bytes()).into_owned();
    // The library sends a form or JSON, whichever its version prefers.
    let form: Form = serde_json::from_str(&body).unwrap_or_else(|_| fields.collect());
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    state.0.push(form);
    let (number, lifetime) = (state.0.len(), state.1.as_secs());
    Json(json!({ "access_token": format!("user-{number}"), "expires_in": lifetime, "token_type": "Bearer" }))
}
