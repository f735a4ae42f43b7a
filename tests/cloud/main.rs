//! Google Cloud without Google: our programs' real clients against fakes that misbehave, over real sockets.

mod adopt;
mod agent;
mod announcing;
mod buildsets;
mod channels;
mod clocks;
mod credentials;
mod messages;
mod metadata;
mod pipelines;
mod poke;
mod promoting;
mod push_command;
mod recent;
mod retiring;
mod runs;
mod serve;
mod snapshot;
mod stopping;
mod sweeping;
mod tokens;
mod trials;
mod tries;
mod trying;
mod watching;
mod writing;
