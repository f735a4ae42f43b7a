//! What happens to a rollout, by story.

mod dividing;
mod others;
mod settling;
mod stopping;
mod story;
mod whatever;
