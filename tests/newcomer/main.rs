//! What somebody does who has just found Push: the README's own commands, and what is said when something is missing.

mod demo;
mod readme;
mod setup;
mod way;
