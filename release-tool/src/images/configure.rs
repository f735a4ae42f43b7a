//! Configurations of clients, by which they find images in the registry of a buildset first: written into a directory of the
//! buildset, and used by whoever is told to. The machine's own are never touched.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use registry::Host;
use serde_json::{Value, json};

use super::name::prefix;
use crate::shared_files::write_private;

/// Whose configuration is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tool {
    /// Docker: its command, and its daemon
    Docker,
    /// Podman, Buildah and skopeo
    Podman,
    /// containerd, nerdctl and ctr
    Containerd,
    /// `BuildKit`
    Buildkit,
}

/// The registry of a buildset, as configurations name it.
#[derive(Debug)]
pub(crate) struct Registry<'a> {
    /// Where it is.
    pub(crate) address: &'a str,
    /// Its authority, in PEM.
    pub(crate) authority: &'a str,
    /// The file with its password, and what is in it.
    pub(crate) auth_file: &'a Path,
    /// The same as it is sent: user and password, in base64.
    pub(crate) auth: &'a str,
    /// The registries that it reads through.
    pub(crate) upstreams: &'a [Host],
}

/// A file of a configuration: where it is, and what is in it.
type Written = (PathBuf, String);

impl Tool {
    /// What its directory is called.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Containerd => "containerd",
            Self::Buildkit => "buildkit",
        }
    }

    /// Writes the configuration into a directory; how it is used, for people.
    pub(crate) fn write(self, registry: &Registry<'_>, directory: &Path) -> Result<String> {
        for (path, content) in self.files(registry, directory) {
            let path = directory.join(path);
            let above = path.parent().unwrap_or(directory);
            fs::create_dir_all(above).with_context(|| format!("could not make `{}`", above.display()))?;
            // Some have the password.
            write_private(&path, &content)?;
        }
        Ok(self.usage(registry, directory))
    }

    /// What its configuration consists of.
    fn files(self, registry: &Registry<'_>, directory: &Path) -> Vec<Written> {
        let Registry { address, authority, auth, upstreams, .. } = registry;
        let file = |path: String, content: String| (PathBuf::from(path), content);
        let ca = |path: String| file(path, (*authority).to_owned());
        match self {
            Self::Docker => {
                let mirrors: Vec<String> = upstreams
                    .first()
                    .filter(|host| host.as_str() == "docker.io")
                    .map(|_| format!("https://{address}"))
                    .into_iter()
                    .collect();
                let daemon: Value = json!({ "registry-mirrors": mirrors });
                let login = json!({ "auths": { *address: { "auth": auth } } });
                vec![
                    file("config.json".to_owned(), login.to_string()),
                    file("daemon.json".to_owned(), daemon.to_string()),
                    ca(format!("certs.d/{address}/ca.crt")),
                ]
            }
            Self::Podman => {
                let mirrors = upstreams.iter().map(|host| {
                    format!(
                        "[[registry]]\nprefix = \"{host}\"\nlocation = \"{host}\"\n\n[[registry.mirror]]\nlocation = \"{address}/{}\"\n\n",
                        prefix(host)
                    )
                });
                vec![file("registries.conf".to_owned(), mirrors.collect()), ca(format!("certs.d/{address}/ca.crt"))]
            }
            Self::Containerd => {
                let ca_file = directory.join("ca.pem");
                let host = |server: &str| {
                    format!(
                        "server = \"{server}\"\n\n[host.\"https://{address}\"]\ncapabilities = [\"pull\", \"resolve\"]\nca = {ca:?}\n\n\
                         [host.\"https://{address}\".header]\nauthorization = \"Basic {auth}\"\n",
                        ca = ca_file.display().to_string()
                    )
                };
                let server = |host: &Host| match host.as_str() {
                    "docker.io" => "https://registry-1.docker.io".to_owned(),
                    name if host.is_loopback() => format!("http://{name}"),
                    name => format!("https://{name}"),
                };
                let own = host(&format!("https://{address}"));
                let mirrors = upstreams
                    .iter()
                    .map(|upstream| file(format!("certs.d/{upstream}/hosts.toml"), host(&server(upstream))));
                let alone = [ca("ca.pem".to_owned()), file(format!("certs.d/{address}/hosts.toml"), own)];
                mirrors.chain(alone).collect()
            }
            Self::Buildkit => {
                let ca_file = directory.join("ca.pem").display().to_string();
                // Else it would speak plain HTTP with what is on this machine.
                let own = format!("[registry.\"{address}\"]\nhttp = false\nca = [{ca_file:?}]\n\n");
                let mirrors = upstreams
                    .iter()
                    .map(|host| format!("[registry.\"{host}\"]\nmirrors = [\"{address}/{}\"]\n\n", prefix(host)));
                vec![ca("ca.pem".to_owned()), file("buildkitd.toml".to_owned(), mirrors.chain([own]).collect())]
            }
        }
    }

    /// How it is used.
    fn usage(self, registry: &Registry<'_>, directory: &Path) -> String {
        let (at, auth_file) = (directory.display(), registry.auth_file.display());
        match self {
            Self::Docker => format!(
                "docker: DOCKER_CONFIG={at} docker pull {}/IMAGE:TAG; the daemon trusts the certificate if it is started with \
                 {at}/certs.d as its /etc/docker/certs.d and with --config-file {at}/daemon.json, as docker:dind in a container",
                registry.address
            ),
            Self::Podman => format!(
                "podman: CONTAINERS_REGISTRIES_CONF={at}/registries.conf REGISTRY_AUTH_FILE={auth_file} \
                 podman pull --cert-dir {at}/certs.d/{} IMAGE:TAG",
                registry.address
            ),
            Self::Containerd => format!(
                "containerd: config_path = \"{at}/certs.d\" in the registry plugin of its configuration, or \
                 nerdctl --hosts-dir {at}/certs.d pull IMAGE:TAG"
            ),
            Self::Buildkit => format!(
                "buildkit: buildkitd --config {at}/buildkitd.toml, or \
                 docker buildx create --driver docker-container --buildkitd-config {at}/buildkitd.toml"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn each_client_finds_the_mirror_the_certificate_and_nothing_of_it_is_open_to_others() {
        let directory = tempfile::tempdir().unwrap();
        let upstreams = ["docker.io", "images.example:5000"].map(|host| host.parse::<Host>().unwrap());
        let registry = Registry {
            address: "127.0.0.1:41234",
            authority: "-----BEGIN CERTIFICATE-----",
            auth_file: Path::new("/srv/try/registry/auth.json"),
            auth: "cHVzaDp4",
            upstreams: &upstreams,
        };
        let at = directory.path();
        for (tool, path, expected) in [
            (Tool::Docker, "config.json", r#"{"auths":{"127.0.0.1:41234":{"auth":"cHVzaDp4"}}}"#),
            (Tool::Docker, "daemon.json", r#"{"registry-mirrors":["https://127.0.0.1:41234"]}"#),
            (Tool::Docker, "certs.d/127.0.0.1:41234/ca.crt", "BEGIN CERTIFICATE"),
            (Tool::Podman, "registries.conf", "location = \"127.0.0.1:41234/images.example_5000\""),
            (Tool::Podman, "certs.d/127.0.0.1:41234/ca.crt", "BEGIN CERTIFICATE"),
            (Tool::Containerd, "certs.d/docker.io/hosts.toml", "server = \"https://registry-1.docker.io\""),
            (Tool::Containerd, "certs.d/images.example:5000/hosts.toml", "[host.\"https://127.0.0.1:41234\"]"),
            (Tool::Containerd, "certs.d/127.0.0.1:41234/hosts.toml", "authorization = \"Basic cHVzaDp4\""),
            (Tool::Buildkit, "buildkitd.toml", "mirrors = [\"127.0.0.1:41234/images.example_5000\"]"),
            (Tool::Buildkit, "buildkitd.toml", "[registry.\"127.0.0.1:41234\"]\nhttp = false\n"),
            (Tool::Buildkit, "ca.pem", "BEGIN CERTIFICATE"),
        ] {
            let at = at.join(format!("{tool:?}"));
            let usage = tool.write(&registry, &at).unwrap();
            assert!(usage.contains(&at.display().to_string()) && !usage.contains("cHVzaDp4"), "{usage}");
            let content = fs::read_to_string(at.join(path)).unwrap();
            assert!(content.contains(expected), "{path}: {content}");
            assert_eq!(fs::metadata(at.join(path)).unwrap().permissions().mode() & 0o077, 0);
            // What is TOML can be read as such.
            if [".toml", ".conf"].iter().any(|ending| path.ends_with(ending)) {
                content.parse::<toml::Table>().unwrap();
            }
        }
    }
}
