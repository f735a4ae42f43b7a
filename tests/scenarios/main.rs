//! Whole stories, on real dpkg, systemd and D-Bus, through the real programs. Test names are facts.

mod machines;
