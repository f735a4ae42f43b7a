//! The agent with its fail points: `tests/scenarios` kill it at each of them. It is never released.

use std::process::ExitCode;

fn main() -> ExitCode {
    pulld::commands::main()
}
