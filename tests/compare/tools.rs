//! The tools that are compared, each as its documentation has it used for one package.

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

    /// What brings a version to servers, as one command: to all of them side by side.
    pub(crate) fn act(self, stage: &Stage, servers: &[Server], version: &Built) -> Result<Command> {
        let deb = version.deb.display().to_string();
        let options = stage.ssh_options();
        let on_each = |command: &dyn Fn(u16) -> String| {
            let commands = servers.iter().map(|server| command(server.ssh_port));
            // `wait` ends as the process does that it waits for.
            let (begun, waits): (String, Vec<String>) = commands
                .enumerate()
                .map(|(at, command)| (format!("({command}) & p{at}=$!\n"), format!("wait $p{at}")))
                .unzip();
            shell(&(begun + &waits.join(" && ")))
        };
        Ok(match self {
            Self::Push => {
                let names = servers.iter().map(|server| server.machine.name());
                let mut push = stage.push(&["deploy", version.release.as_str(), "--force", "-m", "compared"])?;
                push.args(names);
                push
            }
            Self::Scp => on_each(&|port| {
                format!(
                    "scp {options} -P {port} '{deb}' root@127.0.0.1:/root/web.deb && \
                     ssh {options} -p {port} root@127.0.0.1 'dpkg --install /root/web.deb && systemctl restart web'"
                )
            }),
            Self::Apt => {
                stage.publish(version)?;
                on_each(&|port| {
                    format!(
                        "ssh {options} -p {port} root@127.0.0.1 'apt-get update && \
                         DEBIAN_FRONTEND=noninteractive apt-get install --yes web={version} && systemctl restart web'",
                        version = version.version
                    )
                })
            }
            Self::Ansible => {
                let playbook = stage.file("playbook.yml", PLAYBOOK)?;
                let host = |port| format!("server-{port} ansible_host=127.0.0.1 ansible_port={port}\n");
                let inventory = servers.iter().map(|server| host(server.ssh_port)).collect::<String>();
                let mut command = Command::new(python_tool("ansible-playbook"));
                command.arg("-i").arg(stage.file("inventory.ini", &inventory)?).args(["-u", "root", "-e"]);
                command.arg(format!("deb={deb}"));
                command.args(["-e", "ansible_python_interpreter=/usr/bin/python3"]).arg(playbook);
                command.env("ANSIBLE_SSH_ARGS", options).env("ANSIBLE_NOCOWS", "1");
                command.env("ANSIBLE_HOME", stage.path("ansible"));
                command
            }
            Self::Pyinfra => {
                let deploy = stage.file("deploy.py", DEPLOY)?;
                let host = |port| format!("('server-{port}', {{'ssh_hostname': '127.0.0.1', 'ssh_port': {port}}}), ");
                let hosts = servers.iter().map(|server| host(server.ssh_port)).collect::<String>();
                let inventory = stage.file("inventory.py", &format!("servers = [{hosts}]\n"))?;
                let mut command = Command::new(python_tool("pyinfra"));
                command.current_dir(stage.path("")).env("DEB", &deb).args(["-y", "--ssh-user", "root"]);
                command.args(["--ssh-key"]).arg(stage.path("key"));
                command.args(["--data", "ssh_strict_host_key_checking=off"]).arg(inventory).arg(deploy);
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
