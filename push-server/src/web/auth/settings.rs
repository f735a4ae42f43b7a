//! How operators sign in, as `push serve` was told: exactly one way, and no argument that belongs to another.

use std::{net::SocketAddr, str::FromStr};

use anyhow::{Result, bail, ensure};
use axum::http::HeaderName;
use clap::{Args, ValueEnum};
use ipnet::IpNet;

use super::{
    host::Host,
    keys::{GOOGLE, KeySource},
};

/// The arguments of `push serve` about signing in.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Authentication")]
pub struct AuthArguments {
    /// Authentication of operators
    #[arg(long, value_enum, default_value_t, env = "PUSH_AUTH")]
    auth: Mode,
    /// Audience of the tokens of Google's proxy: `/projects/NUMBER/global/backendServices/ID`
    #[arg(long, value_name = "AUDIENCE", env = "PUSH_IAP_AUDIENCE")]
    iap_audience: Option<String>,
    /// URL or file of the keys that Google's proxy signs with; default: Google's own URL
    #[arg(long, value_name = "URL|FILE", env = "PUSH_IAP_KEYS")]
    iap_keys: Option<String>,
    /// Header in which the proxy names the operator, for example `X-Forwarded-Email`
    #[arg(long, value_name = "HEADER", env = "PUSH_PROXY_HEADER")]
    proxy_header: Option<String>,
    /// Address of the proxy, for example `127.0.0.1/32`; repeatable. Only these addresses are trusted
    #[arg(long, value_name = "CIDR", env = "PUSH_PROXY_TRUSTED", value_delimiter = ',')]
    proxy_trusted: Vec<String>,
    /// Host name of the web app in browsers, for example `push.acme.example`; repeatable
    #[arg(long, value_name = "HOST", env = "PUSH_PUBLIC_HOST", value_delimiter = ',')]
    public_host: Vec<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Users of this machine only, of whom those who have the token may push; listens on loopback
    #[default]
    Local,
    /// Google's identity-aware proxy, by its signature
    Iap,
    /// A proxy at a trusted address, which signs users in and names them in a header
    Proxy,
}

/// How operators sign in, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthSettings {
    /// Whoever is on this machine may look, and whoever shows the token is the operator.
    Local,
    /// By Google's identity-aware proxy.
    Iap {
        /// Whom its tokens must be for.
        audience: String,
        /// Where the keys come from.
        keys: KeySource,
        /// Under which names the web app is reached.
        hosts: Vec<Host>,
    },
    /// By a proxy that is trusted for where it connects from.
    Proxy {
        /// Where it names the operator.
        header: HeaderName,
        /// From where it connects.
        trusted: Vec<IpNet>,
        /// Under which names the web app is reached.
        hosts: Vec<Host>,
    },
}

impl AuthArguments {
    /// Checks that the arguments fit each other and the address to listen on.
    ///
    /// # Errors
    /// What is missing, too much or wrong, and what to give: the command was misused.
    pub fn settings(&self, listen: SocketAddr) -> Result<AuthSettings> {
        self.nothing_of_other_modes()?;
        match self.auth {
            Mode::Local => {
                loopback(listen)?;
                Ok(AuthSettings::Local)
            }
            Mode::Iap => {
                let Some(audience) = self.iap_audience.clone().filter(|audience| !audience.trim().is_empty()) else {
                    bail!(
                        "`--auth iap` requires the audience that Google's proxy signs for: use --iap-audience \
                         /projects/NUMBER/global/backendServices/ID"
                    )
                };
                let keys = KeySource::parse(self.iap_keys.as_deref().unwrap_or(GOOGLE))?;
                Ok(AuthSettings::Iap { audience, keys, hosts: self.hosts("iap")? })
            }
            Mode::Proxy => {
                let Some(header) = &self.proxy_header else {
                    bail!(
                        "`--auth proxy` requires the header that names the operator: use --proxy-header X-Forwarded-Email"
                    )
                };
                let header = proxy_header(header)?;
                ensure!(
                    !self.proxy_trusted.is_empty(),
                    "`--auth proxy` requires the address of the proxy: use --proxy-trusted 127.0.0.1/32"
                );
                let trusted = self.proxy_trusted.iter().map(|text| network(text)).collect::<Result<_>>()?;
                Ok(AuthSettings::Proxy { header, trusted, hosts: self.hosts("proxy")? })
            }
        }
    }

    fn nothing_of_other_modes(&self) -> Result<()> {
        let given = [
            ("--iap-audience", self.iap_audience.is_some(), &[Mode::Iap][..]),
            ("--iap-keys", self.iap_keys.is_some(), &[Mode::Iap]),
            ("--proxy-header", self.proxy_header.is_some(), &[Mode::Proxy]),
            ("--proxy-trusted", !self.proxy_trusted.is_empty(), &[Mode::Proxy]),
            ("--public-host", !self.public_host.is_empty(), &[Mode::Iap, Mode::Proxy]),
        ];
        for (argument, given, modes) in given {
            if given && !modes.contains(&self.auth) {
                let name = |mode: Mode| mode.to_possible_value().map_or_else(String::new, |v| v.get_name().to_owned());
                let belongs: Vec<String> = modes.iter().map(|mode| format!("`--auth {}`", name(*mode))).collect();
                bail!(
                    "`{argument}` cannot be used with `--auth {}`: remove it, or use {}",
                    name(self.auth),
                    belongs.join(" or ")
                );
            }
        }
        Ok(())
    }

    fn hosts(&self, mode: &str) -> Result<Vec<Host>> {
        ensure!(
            !self.public_host.is_empty(),
            "`--auth {mode}` requires the host name of the web app: use --public-host push.acme.example"
        );
        self.public_host
            .iter()
            .map(|text| match Host::parse(text) {
                Some(host) => Ok(host),
                None => bail!("invalid host `{text}`: use --public-host NAME or NAME:PORT, without https://"),
            })
            .collect()
    }
}

/// That nobody else can connect at all.
pub(super) fn loopback(listen: SocketAddr) -> Result<()> {
    ensure!(
        listen.ip().to_canonical().is_loopback(),
        "`--auth local` allows only this machine, and `{listen}` is not a loopback address: use --listen 127.0.0.1:{}, \
         or authenticate users with `--auth iap` or `--auth proxy`",
        listen.port()
    );
    Ok(())
}

/// Browsers and every proxy set these for their own purposes, so they name nobody.
const TAKEN: [&str; 7] = ["host", "cookie", "origin", "referer", "user-agent", "content-type", "x-forwarded-for"];

fn proxy_header(text: &str) -> Result<HeaderName> {
    match HeaderName::from_str(text) {
        Ok(name) if !TAKEN.contains(&name.as_str()) => Ok(name),
        _ => bail!("`{text}` cannot name an operator: use --proxy-header X-Forwarded-Email"),
    }
}

fn network(text: &str) -> Result<IpNet> {
    let Ok(network) = text.trim().parse::<IpNet>() else {
        bail!("invalid network `{text}`: use --proxy-trusted with an address such as 10.0.0.5/32 or fd00::5/128")
    };
    ensure!(
        network.prefix_len() >= 8,
        "`{text}` would trust nearly every address: use --proxy-trusted with the address of the proxy, such as 10.0.0.5/32"
    );
    Ok(network)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        auth: AuthArguments,
    }

    fn settings(line: &str, listen: &str) -> Result<AuthSettings, String> {
        let command = Command::try_parse_from(std::iter::once("serve").chain(line.split_whitespace()));
        let command = command.map_err(|error| error.to_string())?;
        command.auth.settings(listen.parse().unwrap()).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn each_mode_has_what_it_needs() {
        let hosts = vec![Host::parse("push.acme.example").unwrap()];
        let (local, any) = ("127.0.0.1:8000", "0.0.0.0:8000");
        assert_eq!(settings("", local), Ok(AuthSettings::Local));
        assert_eq!(settings("--auth local", "[::1]:1"), Ok(AuthSettings::Local));
        let iap = AuthSettings::Iap {
            audience: "/projects/1/apps/x".into(),
            keys: KeySource::parse(GOOGLE).unwrap(),
            hosts: hosts.clone(),
        };
        let line = "--auth iap --iap-audience /projects/1/apps/x --public-host push.acme.example";
        assert_eq!(settings(line, any), Ok(iap));
        let line = "--auth proxy --proxy-header X-Forwarded-Email --proxy-trusted 10.0.0.5/32 \
                    --proxy-trusted fd00::5/128 --public-host push.acme.example";
        let trusted = vec!["10.0.0.5/32".parse().unwrap(), "fd00::5/128".parse().unwrap()];
        let header = HeaderName::from_static("x-forwarded-email");
        assert_eq!(settings(line, any), Ok(AuthSettings::Proxy { header, trusted, hosts }));
    }

    #[test]
    fn wrong_combinations_say_what_to_give() {
        let proxy = "--auth proxy --proxy-header X-User --public-host push.example";
        let cases = [
            ("", "0.0.0.0:8000", "--listen 127.0.0.1:8000"),
            ("", "[::]:8000", "--listen 127.0.0.1:8000"),
            ("", "192.168.1.7:80", "`--auth iap` or `--auth proxy`"),
            ("--public-host a.example", "127.0.0.1:1", "`--auth iap` or `--auth proxy`"),
            ("--iap-audience x", "127.0.0.1:1", "remove it, or use `--auth iap`"),
            ("--proxy-trusted 127.0.0.1/32", "127.0.0.1:1", "remove it, or use `--auth proxy`"),
            ("--auth iap", "127.0.0.1:1", "use --iap-audience"),
            ("--auth iap --iap-audience a", "127.0.0.1:1", "use --public-host"),
            ("--auth iap --iap-audience a --public-host a --iap-keys http://k.example", "127.0.0.1:1", "https://"),
            ("--auth iap --iap-audience a --public-host a --proxy-header X-User", "127.0.0.1:1", "`--auth proxy`"),
            ("--auth iap --iap-audience a --public-host https://a", "127.0.0.1:1", "without https://"),
            ("--auth proxy", "127.0.0.1:1", "use --proxy-header"),
            ("--auth proxy --proxy-header Cookie", "127.0.0.1:1", "use --proxy-header"),
            (proxy, "127.0.0.1:1", "use --proxy-trusted"),
            (&format!("{proxy} --proxy-trusted 0.0.0.0/0"), "127.0.0.1:1", "trust nearly every address"),
            (&format!("{proxy} --proxy-trusted ::/0"), "127.0.0.1:1", "trust nearly every address"),
            (&format!("{proxy} --proxy-trusted 0.0.0.0/7"), "127.0.0.1:1", "trust nearly every address"),
            (&format!("{proxy} --proxy-trusted 10.0.0.5"), "127.0.0.1:1", "10.0.0.5/32"),
            ("--auth none", "127.0.0.1:1", "invalid value"),
        ];
        for (line, listen, expected) in cases {
            let error = settings(line, listen).unwrap_err();
            assert!(error.contains(expected), "`{line}` on {listen}: {error}");
        }
    }
}
