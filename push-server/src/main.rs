//! `push`: which release each server should have.

use std::process::ExitCode;

fn main() -> ExitCode {
    push_server::cli::main()
}
