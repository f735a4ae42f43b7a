//! Which servers are in which wave.

use super::story::{Story, candidates, name};
use crate::{
    policy::Policy,
    rollout::{
        budget::{Group, budgets},
        waves::{Candidate, Undivided, divide},
    },
    wish::{Share, Waves, WavesError},
};

#[test]
fn waves_are_read_as_they_are_written() {
    let of = |waves: Waves, count| {
        let story = Story::new(count, "rest");
        let candidates: Vec<Candidate> = candidates(&story.servers);
        let app = "web".parse().unwrap();
        let divided = divide(&waves, &app, &candidates, &story.rollout.budgets, &Policy::default(), story.now);
        divided.map(|waves| waves.iter().map(|wave| wave.rows.len()).collect::<Vec<_>>())
    };
    let for_any_push = |waves: &str, count| of(waves.parse::<Waves>().unwrap().for_any_push().unwrap(), count);
    let divided = |waves: &str, count| of(waves.parse().unwrap(), count);
    assert_eq!(divided("1,10%,rest", 40), Ok(vec![1, 4, 35]));
    assert_eq!(divided("web-3+web-4, app:web state:converged", 5), Ok(vec![2, 3]));
    assert_eq!(divided("1,1,1,rest", 2), Ok(vec![1, 1]));
    assert_eq!(divided("100%,rest", 4), Ok(vec![3, 1]), "no wave but the last has a whole group");
    assert_eq!(divided("2,2", 5), Err(Undivided::LeftOut(1)));
    assert_eq!(divided("web-9,rest", 3), Err(Undivided::NotInPush("web-9".into(), name("web-9"))));
    assert_eq!(divided("app:api,rest", 3), Err(Undivided::Empty("app:api".into())));
    assert_eq!(divided("web-1+web-2,rest", 2), Err(Undivided::WholeGroup("web-1+web-2".into(), "prod".into())),);
    // What was chosen for no push in particular fits each of them.
    assert_eq!(for_any_push("web-9,app:api,web-2,1,rest", 3), Ok(vec![1, 1, 1]));
    assert_eq!(for_any_push("web-1+web-2,rest", 2), Ok(vec![1, 1]));
    assert_eq!("1,2".parse::<Waves>().unwrap().for_any_push(), Err(WavesError::NoRest));
    assert_eq!("rest,1".parse::<Waves>(), Err(WavesError::RestNotLast));
    for wrong in ["", "0", "0%", "101%", "1,,rest", "a b", "99999999999999999999999"] {
        assert!(matches!(wrong.parse::<Waves>(), Err(WavesError::NoWave(_))), "{wrong}");
    }
    assert!(matches!("stat:x,rest".parse::<Waves>(), Err(WavesError::Filter(_))));
}

#[test]
fn what_an_operator_says_of_the_budget_goes_before_the_policy() {
    let servers: Vec<_> = (1..=8).map(|n| name(&format!("web-{n}"))).collect();
    let allowed = |of_group, said| {
        let group = Group { name: "prod", servers: servers.clone(), max_down: of_group };
        budgets(&servers, vec![group], said)[0].allowed
    };
    assert_eq!(allowed(None, None), 2, "a quarter");
    assert_eq!(allowed(Some(Share::Percent(50)), None), 4);
    assert_eq!(allowed(Some(Share::Percent(50)), Some(Share::Count(1))), 1);
}
