//! Who an operator is.

/// An operator, as far as it is known who that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// `user@host` of the command or of the local web app, or the mail address of who is signed in.
    pub name: String,
    /// How that is known.
    pub origin: Origin,
}

/// How it is known who an operator is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// They are on the machine itself: the `push` command, or whoever showed the token of the web app bound to loopback.
    Local,
    /// They are on the machine itself and showed no token: they may look at what the operator may, and change nothing.
    Visitor,
    /// A proxy in front of the web app signed them in and vouches for them.
    SignedIn,
}
