//! What happens to a rollout, by story.

mod channel;
mod deciding;
mod dividing;
mod others;
mod room;
mod settling;
mod stopping;
mod story;
mod whatever;
