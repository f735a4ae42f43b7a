//! Who decides about a rollout.

use super::story::Story;
use crate::{
    identity::{Identity, Origin},
    policy::Policy,
    rollout::decide::ensure_may_decide,
};

#[test]
fn only_a_deployer_of_the_app_on_all_servers_of_it_decides_about_a_rollout() {
    let rollout = Story::new(3, "1,rest").rollout;
    let rules = "{ Groups: { most: { Servers: ['web-1', 'web-2'] }, last: { Servers: ['web-3'] } }, Roles: [
        { Role: 'deployer', Who: ['all'] }, { Role: 'admin', Who: ['chief'] }, { Role: 'viewer', Who: ['guest'] },
        { Role: 'deployer', Who: ['most', 'both'], Groups: ['most'] }, { Role: 'deployer', Who: ['both'], Groups: ['last'] },
        { Role: 'deployer', Who: ['api'], Apps: ['api'] },
    ] }";
    let policy = Policy::parse("rules", rules).unwrap();
    for (who, may) in
        [("all", true), ("chief", true), ("both", true), ("most", false), ("api", false), ("guest", false)]
    {
        let who = Identity { name: who.to_owned(), origin: Origin::SignedIn };
        let judged = ensure_may_decide(&policy, &who, &rollout).map_err(|error| error.to_string());
        assert_eq!(judged.is_ok(), may, "{who:?}: {judged:?}");
        assert!(judged.err().is_none_or(|text| text.contains("the role `deployer` for `web` on every server of it")));
    }
}
