//! Who runs the program, and where: what is recorded with releases and pushes for other people to read.
//!
//! It is what the machine says of itself. Nothing is allowed or refused by it.

use std::fmt;

use rustix::process::Uid;

/// A person at a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// Login name, as the machine has it.
    pub user: String,
    /// Host name up to the first dot.
    pub host: String,
}

impl Person {
    /// Finds out by the environment (`lookup` is normally [`std::env::var`]) and the system.
    ///
    /// `PUSH_USER` and `PUSH_HOST` win, so that a build server can name the person it works for; root is whoever
    /// called `sudo`. Then come `USER`, `LOGNAME`, the system's user database, and at last the number of the user.
    pub fn find(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let node = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Self::choose(lookup, rustix::process::getuid(), &passwd, &node)
    }

    fn choose(lookup: impl Fn(&str) -> Option<String>, uid: Uid, passwd: &str, node: &str) -> Self {
        let set = |key: &str| lookup(key).filter(|value| !value.is_empty());
        let user = set("PUSH_USER")
            // Anybody can set it; only for root does it come from sudo.
            .or_else(|| set("SUDO_USER").filter(|_| uid.is_root()))
            .or_else(|| set("USER"))
            .or_else(|| set("LOGNAME"))
            .or_else(|| login_name(passwd, uid))
            .unwrap_or_else(|| if uid.is_root() { "root".to_owned() } else { uid.as_raw().to_string() });
        let host = set("PUSH_HOST").unwrap_or_else(|| node.to_owned());
        let host = host.split('.').next().filter(|host| !host.is_empty()).unwrap_or("localhost").to_owned();
        Self { user, host }
    }
}

impl fmt::Display for Person {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.user, self.host)
    }
}

/// The name of a user in the format of passwd(5).
fn login_name(passwd: &str, uid: Uid) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        (fields.nth(1)?.parse() == Ok(uid.as_raw())).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\n\nbroken\nops:x:1000:1000:,,,:/home/ops:/bin/sh\n";

    #[test]
    fn the_first_answer_counts() {
        type Environment = &'static [(&'static str, &'static str)];
        let table: [(Environment, u32, &str); 11] = [
            (&[("PUSH_USER", "ci"), ("USER", "ops"), ("PUSH_HOST", "runner-7.acme.example")], 1000, "ci@runner-7"),
            (&[("SUDO_USER", "dev"), ("USER", "root")], 0, "dev@build-1"),
            (&[("SUDO_USER", "dev"), ("USER", "ops")], 1000, "ops@build-1"),
            (&[("LOGNAME", "log"), ("USER", "ops")], 1000, "ops@build-1"),
            (&[("LOGNAME", "log"), ("USER", "")], 1000, "log@build-1"),
            (&[], 0, "root@build-1"),
            (&[], 1000, "ops@build-1"),
            (&[], 4711, "4711@build-1"),
            (&[("PUSH_USER", "")], 1000, "ops@build-1"),
            (&[("PUSH_HOST", ".")], 1000, "ops@localhost"),
            (&[("SUDO_USER", "")], 0, "root@build-1"),
        ];
        for (environment, uid, expected) in table {
            let lookup = |key: &str| environment.iter().find(|(name, _)| *name == key).map(|(_, v)| (*v).to_owned());
            let person = Person::choose(lookup, Uid::from_raw(uid), PASSWD, "build-1.acme.example");
            assert_eq!(person.to_string(), expected, "{environment:?}");
        }
        assert_eq!(Person::choose(|_| None, Uid::ROOT, "", "").to_string(), "root@localhost");
    }
}
