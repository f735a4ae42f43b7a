//! What the tests stand on: see ARCHITECTURE.md, "Tests".
