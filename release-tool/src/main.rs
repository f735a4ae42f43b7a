//! The `release` command. Everything is in the library; see `release --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    release_tool::main()
}
