//! The agent of one server: see `pulld --help`, and `lib.rs` for the map.

use std::process::ExitCode;

fn main() -> ExitCode {
    pulld::commands::main()
}
