//! The HTTP API and the pages: two tables of routes, and around them what every request goes through.
//!
//! Owns the order: request id, then size, then who asks, then how often, then whether they may; only then a handler. A
//! handler reads its request, writes an intent or reads rows, and answers. Nothing of Incus is awaited in one but where the
//! answer is in there (logs, exec, lists of backups, strays, an agent's web interface).

mod actions;
mod agents;
mod auth;
mod backups;
mod body;
mod error;
mod events;
mod exec;
mod guard;
mod health;
mod limits;
mod logs;
mod metrics;
mod needs;
mod nostr;
mod openapi;
mod operations;
mod operators;
mod pages;
mod people;
mod routes;
mod strays;
mod views;
mod web;

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;

use crate::app::App;

pub(crate) use limits::Limiter;
pub(crate) use metrics::router_of_metrics;
pub(crate) use needs::Needs;
pub(crate) use openapi::document;
pub(crate) use pages::table as table_of_pages;
pub(crate) use routes::table;

/// Longest body of a request, in bytes.
const BODY_BYTES_MAX: usize = pika_managed_agent_contract::REQUEST_BYTES_MAX;

/// Tries to sign in with a token that is none, from one address.
const FAILED_SIGN_INS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(10).expect("10 is not 0");

/// What handlers share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) app: Arc<App>,
    pub(crate) limiter: Limiter,
    /// By address: who tried to sign in with a token that is none.
    pub(crate) failed_sign_ins: Limiter,
    /// The ways to agents' web interfaces.
    pub(crate) web: web::Gate,
    routes: BTreeSet<&'static str>,
}

impl Shared {
    /// A path of the table, as it stands there.
    fn route(&self, path: &str) -> Option<&'static str> {
        self.routes.get(path).copied()
    }
}

/// The router of everything.
pub(crate) fn router(app: &Arc<App>) -> Router {
    let shared = Arc::new(Shared {
        app: Arc::clone(app),
        limiter: Limiter::new(app.config.requests_per_second),
        failed_sign_ins: Limiter::seldom(FAILED_SIGN_INS_PER_MINUTE),
        web: web::Gate::default(),
        routes: table()
            .iter()
            .map(|row| row.path)
            .chain(pages::table().iter().map(|row| row.path))
            .collect(),
    });
    let mut router: Router<Arc<Shared>> = Router::new();
    for row in table() {
        let guard = from_fn_with_state((Arc::clone(&shared), row.needs), guard::guard);
        router = router.route(row.path, row.handler.layer(guard));
    }
    for row in pages::table() {
        let guard = from_fn_with_state((Arc::clone(&shared), row.needs), pages::guard);
        router = router.route(row.path, row.handler.layer(guard));
    }
    router
        .fallback(error::no_route)
        .method_not_allowed_fallback(error::no_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn_with_state(Arc::clone(&shared), error::finish))
        .layer(from_fn_with_state(Arc::clone(&shared), metrics::measure))
        .with_state(shared)
}
