//! What ARCHITECTURE.md promises of the source tree itself, one fact a test: read as text, without network, within two seconds.

mod bounds;
mod circles;
mod crates;
mod documents;
mod files;
mod lexer;
mod modules;
mod mutants;
mod source;
