//! The main job: what is pushed gets onto the server and runs, forward and back.

use anyhow::Result;
use harness::{Scenario, Version};

use crate::{PORT, says};

/// Each story once for each kind of bucket.
macro_rules! stories {
    ($($story:ident),* $(,)?) => {
        mod over_a_directory {
            $(
                #[test]
                fn $story() -> anyhow::Result<()> {
                    super::$story(&harness::Scenario::new()?)
                }
            )*
        }

        mod over_google_storage {
            $(
                #[test]
                fn $story() -> anyhow::Result<()> {
                    super::$story(&harness::Scenario::over_gcs()?)
                }
            )*
        }
    };
}

stories! {
    first_install_serves_http,
    upgrade_serves_the_new_version,
    rollback_brings_back_what_the_server_had,
    a_broken_app_does_not_hold_back_another,
}

fn first_install_serves_http(scenario: &Scenario) -> Result<()> {
    let server = scenario.server("web-1")?;
    let web = scenario.service("web", PORT)?;
    let one = web.release(scenario.target(), &Version::new("1"))?;
    scenario.install(&one, &server)?;
    says(&server, PORT, "web 1")?;
    assert_eq!(server.sh("dpkg-query -W -f '${Push-Release}' web")?, one.stem());
    assert_eq!(server.sh("systemctl is-enabled web.service")?, "enabled", "it runs after a reboot too");
    assert_eq!(server.sh("dpkg --verify web")?, "", "nothing differs from what the package brought");
    Ok(())
}

fn upgrade_serves_the_new_version(scenario: &Scenario) -> Result<()> {
    let server = scenario.server("web-1")?;
    let web = scenario.service("web", PORT)?;
    let one = web.release(scenario.target(), &Version::new("1"))?;
    scenario.install(&one, &server)?;
    let before = server.sh("systemctl show --value -p InvocationID web.service")?;
    let two = web.release(scenario.target(), &Version::new("2"))?;
    scenario.install(&two, &server)?;
    says(&server, PORT, "web 2")?;
    assert_ne!(server.sh("systemctl show --value -p InvocationID web.service")?, before, "it was restarted");
    Ok(())
}

fn rollback_brings_back_what_the_server_had(scenario: &Scenario) -> Result<()> {
    let server = scenario.server("web-1")?;
    let web = scenario.service("web", PORT)?;
    let one = web.release(scenario.target(), &Version::new("1"))?;
    // Released, but never on this server: not what it goes back to.
    web.release(scenario.target(), &Version::new("2"))?;
    let three = web.release(scenario.target(), &Version::new("3"))?;
    scenario.install(&one, &server)?;
    scenario.install(&three, &server)?;
    scenario.push(&["rollback", "web", "web-1", "-m", "it is slow"])?.ok()?;
    scenario.wait_until_converged(&server, &one)?;
    says(&server, PORT, "web 1")
}

fn a_broken_app_does_not_hold_back_another(scenario: &Scenario) -> Result<()> {
    let server = scenario.server("web-1")?;
    let (web, api) = (scenario.service("web", PORT)?, scenario.service("api", PORT + 1)?);
    let web_one = web.release(scenario.target(), &Version::new("1"))?;
    let api_one = api.release(scenario.target(), &Version::new("1"))?;
    scenario.install(&web_one, &server)?;
    scenario.install(&api_one, &server)?;
    // Both in the document before the agent looks again: one cycle.
    server.sh("systemctl stop pulld")?;
    let web_two = web.release(scenario.target(), &Version::new("2").crashing())?;
    let api_two = api.release(scenario.target(), &Version::new("2"))?;
    scenario.deploy(&web_two, &server)?;
    scenario.deploy(&api_two, &server)?;
    server.sh("systemctl start pulld")?;
    scenario.wait_until_converged(&server, &api_two)?;
    let app = scenario.wait_for_app(&server, &web_two, bucket::AppState::Quarantined)?;
    assert_eq!(app.installed.as_ref(), Some(&web_one));
    says(&server, PORT, "web 1")?;
    says(&server, PORT + 1, "api 2")
}
