//! The tools that are compared, each as its documentation has it used for one package on one server.

use std::process::Command;

use anyhow::Result;

use crate::stage::{Built, Server, Stage, python_tool};

/// What an operator uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tool {
    /// `push deploy`, and the agent on the server.
    Push,
    /// `scp`, then `dpkg --install` over `ssh`.
    Scp,
    /// `apt-get install` from a signed repository, over `ssh`.
    Apt,
    /// A playbook: copy, `apt: deb=`, `systemd: state=restarted`.
    Ansible,
    /// The same three operations.
    Pyinfra,
}

/// Restarts what dpkg has just replaced; a package of ours restarts its units itself when a person installs it.
const PLAYBOOK: &str = "\
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.copy: { src: '{{ deb }}', dest: /root/web.deb }
    - ansible.builtin.apt: { deb: /root/web.deb, allow_downgrade: true }
    - ansible.builtin.systemd: { name: web, state: restarted, daemon_reload: true }
";

const DEPLOY: &str = "\
import os
from pyinfra.operations import apt, files, systemd
files.put(src=os.environ['DEB'], dest='/root/web.deb')
apt.deb(src='/root/web.deb', force=True)
systemd.service(service='web', restarted=True, daemon_reload=True)
";

impl Tool {
    pub(crate) const ALL: [Self; 5] = [Self::Push, Self::Scp, Self::Apt, Self::Ansible, Self::Pyinfra];

    /// Its name, for the table and the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Scp => "ssh+scp+dpkg",
            Self::Apt => "apt-over-ssh",
            Self::Ansible => "ansible",
            Self::Pyinfra => "pyinfra",
        }
    }

    /// What brings a version to a server, as one command.
    pub(crate) fn act(self, stage: &Stage, server: &Server, version: &Built) -> Result<Command> {
        let deb = version.deb.display().to_string();
        Ok(match self {
            Self::Push => {
                stage.push(&["deploy", version.release.as_str(), server.machine.name(), "--force", "-m", "compared"])?
            }
            Self::Scp => shell(&format!(
                "scp {options} -P {port} '{deb}' root@127.0.0.1:/root/web.deb && \
                 ssh {options} -p {port} root@127.0.0.1 'dpkg --install /root/web.deb && systemctl restart web'",
                options = stage.ssh_options(),
                port = server.ssh_port
            )),
            Self::Apt => {
                stage.publish(version)?;
                shell(&format!(
                    "ssh {options} -p {port} root@127.0.0.1 'apt-get update && \
                     DEBIAN_FRONTEND=noninteractive apt-get install --yes web={version} && systemctl restart web'",
                    options = stage.ssh_options(),
                    port = server.ssh_port,
                    version = version.version
                ))
            }
            Self::Ansible => {
                let playbook = stage.file("playbook.yml", PLAYBOOK)?;
                let mut command = Command::new(python_tool("ansible-playbook"));
                command.args(["-i", "127.0.0.1,", "-u", "root", "-e"]).arg(format!("deb={deb}"));
                command.arg("-e").arg(format!("ansible_port={}", server.ssh_port)).arg("-e");
                command.arg("ansible_python_interpreter=/usr/bin/python3").arg(playbook);
                command.env("ANSIBLE_SSH_ARGS", stage.ssh_options()).env("ANSIBLE_NOCOWS", "1");
                command.env("ANSIBLE_HOME", stage.path("ansible"));
                command
            }
            Self::Pyinfra => {
                let deploy = stage.file("deploy.py", DEPLOY)?;
                let mut command = Command::new(python_tool("pyinfra"));
                command.current_dir(stage.path("")).env("DEB", &deb).args(["-y", "--ssh-user", "root"]);
                command.args(["--ssh-key"]).arg(stage.path("key")).arg("--ssh-port").arg(server.ssh_port.to_string());
                command.args(["--data", "ssh_strict_host_key_checking=off", "127.0.0.1"]).arg(deploy);
                command
            }
        })
    }

    /// What a person types at the server's console to go back while its network is gone; `None` where the tool is of no
    /// use there.
    pub(crate) fn go_back(self, previous: &Built) -> Option<String> {
        match self {
            Self::Push => Some("pulld rollback web -m 'the network is gone'".to_owned()),
            // The file of the version before is gone from where the next one was copied to.
            Self::Scp | Self::Ansible | Self::Pyinfra => None,
            Self::Apt => Some(format!(
                "DEBIAN_FRONTEND=noninteractive apt-get install --yes --allow-downgrades web={} && systemctl restart web",
                previous.version
            )),
        }
    }
}

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}
