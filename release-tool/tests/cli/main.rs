//! The real `release` binary in real git repositories, with a directory as the bucket and dpkg as the judge.

mod builds;
mod candidates;
mod changes;
mod drafts;
mod git;
mod kills;
mod manifests;
mod outcome;
mod packages;
mod pipelines;
mod project;
mod promotions;
mod runs;
mod sources;
mod terminal;
mod unit_files;
mod uploads;
mod users;
mod views;
