//! Channels in the web app's snapshot: listed each round, and read when they have changed.

use bucket::{AppName, Channel, ChannelName, ChannelState, Frozen, WatcherReport};
use serde_json::{Map, json};

use crate::snapshot::{QUIET, World, asked, time};

fn channel() -> Channel {
    Channel::new("web".parse().unwrap(), "prod".parse().unwrap(), "dev", "first", time(0))
}

fn state(behind: usize) -> ChannelState {
    let state = json!({
        "schema": 1, "app": "web", "channel": "prod", "at": time(0), "release": null, "behind": behind
    });
    serde_json::from_value(state).unwrap()
}

impl World {
    /// What a round asks for beside the listings of one without channels.
    async fn asked_more(&self) -> Vec<String> {
        let mut asked = asked(&self.round().await);
        for quiet in QUIET {
            let at = asked.iter().position(|asked| asked == quiet).unwrap_or_else(|| panic!("{quiet}"));
            asked.remove(at);
        }
        asked
    }
}

const LISTED: [&str; 2] = ["List channel-state/", "List watchers/"];

#[tokio::test]
async fn channels_and_what_was_seen_of_them_are_read_when_they_have_changed() {
    let world = World::settled().await;
    let generation = world.bucket.write_channel(&channel(), None).await.unwrap();
    assert_eq!(world.asked_more().await, ["Get channels/web/prod.json", LISTED[0], LISTED[1]]);
    assert_eq!(world.asked_more().await, LISTED, "it is read once");
    let seen = world.bucket.write_channel_state(&state(3), None).await.unwrap();
    let report = WatcherReport {
        schema: 1,
        host: "ops-1".parse().unwrap(),
        at: time(0),
        poll_seconds: 300,
        version: "1".to_owned(),
        other: Map::new(),
    };
    world.bucket.write_watcher(&report, None).await.unwrap();
    let changes = world.changes();
    assert_eq!(
        world.asked_more().await,
        ["Get channel-state/web/prod.json", "Get watchers/ops-1.json", LISTED[0], LISTED[1]]
    );
    assert!(world.changes() > changes, "pages are told");
    assert_eq!(world.asked_more().await, LISTED);
    let frozen = Some(Frozen {
        by: "dev".to_owned(),
        at: time(0),
        why: "fair".to_owned(),
        because: None,
        other: serde_json::Map::new(),
    });
    world.bucket.write_channel(&Channel { frozen: frozen.clone(), ..channel() }, Some(generation)).await.unwrap();
    assert_eq!(world.asked_more().await, ["Get channels/web/prod.json", LISTED[0], LISTED[1]]);
    let key: (AppName, ChannelName) = ("web".parse().unwrap(), "prod".parse().unwrap());
    let snapshot = world.refresher.snapshot();
    let known = &snapshot.channels;
    assert_eq!(known.channels[&key].read.known().unwrap().frozen, frozen);
    assert_eq!(known.states[&key].read.known().unwrap().behind, Some(3));
    assert_eq!(known.watcher.as_ref().unwrap().1.read.known().unwrap().poll_seconds, 300);
    // What can't be understood is said of that one, and read again, in case that was the network.
    world.bucket.write_channel_state(&state(4), Some(seen)).await.unwrap();
    world.gcs.put("fleet", "channel-state/web/prod.json", "{");
    for _ in 0..2 {
        assert_eq!(world.asked_more().await, ["Get channel-state/web/prod.json", LISTED[0], LISTED[1]]);
        let snapshot = world.refresher.snapshot();
        assert!(snapshot.channels.states[&key].read.error().unwrap().contains("malformed"));
        assert_eq!((snapshot.failure.as_deref(), snapshot.channels.channels.len()), (None, 1));
    }
}
