//! Whole cycles: what never reaches dpkg.

use std::time::Duration;

use bucket::{AppState, BucketOptions, BucketUrl};

use crate::{
    machine::fake::{Behaviour, Deb, release},
    service::liveness::Liveness,
    store::{bucket::Bucket, cache::Cache, download},
};

use super::harness::{Server, pull};

#[tokio::test(start_paused = true)]
async fn a_corrupt_download_never_reaches_dpkg() {
    let server = Server::new().await;
    let web = release("web", 1);
    server.upload_as(&web, &Deb::new(&web, Behaviour::Good), |_| [0; 32].into()).await;
    server.push(&[&web]).await;
    let cycle = pull(&mut server.agent()).await;
    assert!(!cycle.ok);
    assert!(cycle.lines[0].contains("corrupt") && cycle.lines[0].contains("sha256"), "{cycle:?}");
    assert_eq!(server.world.dpkg_runs(), Vec::<Vec<String>>::new());
    let left: Vec<_> = std::fs::read_dir(server.paths().cache().join(web.stem())).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(start_paused = true)]
async fn a_package_that_is_not_the_release_it_is_named_never_reaches_dpkg() {
    let server = Server::new().await;
    let (web, other) = (release("web", 1), release("web", 2));
    server.upload_as(&web, &Deb::new(&other, Behaviour::Good), |sha256| sha256).await;
    server.push(&[&web]).await;
    let cycle = pull(&mut server.agent()).await;
    assert!(cycle.lines[0].contains("does not match the release name"), "{cycle:?}");
    assert_eq!(server.world.dpkg_runs().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn unmet_dependencies_keep_an_app_out_and_what_counts_on_it() {
    let server = Server::new().await;
    let (web, db, mail) = (release("web", 1), release("db", 1), release("mail", 1));
    server.upload_deb(&Deb { depends: vec!["db".into()], ..Deb::new(&web, Behaviour::Good) }).await;
    server.upload_deb(&Deb { depends: vec!["libnone".into()], ..Deb::new(&db, Behaviour::Good) }).await;
    server.upload(&mail, Behaviour::Good).await;
    server.push(&[&web, &db, &mail]).await;
    let cycle = pull(&mut server.agent()).await;
    assert!(!cycle.ok);
    assert_eq!(server.world.dpkg_runs().len(), 1);
    assert_eq!(server.world.installed("mail"), Some((mail, true)));
    assert_eq!((server.world.installed("web"), server.world.installed("db")), (None, None));
}

#[tokio::test(start_paused = true)]
async fn what_stands_by_for_dpkg_is_needed_or_let_go() {
    let server = Server::new().await;
    let (web, db) = (release("web", 1), release("db", 1));
    server.upload_deb(&Deb { depends: vec!["libnone".into()], ..Deb::new(&web, Behaviour::Good) }).await;
    server.upload(&db, Behaviour::Good).await;
    let began = || server.world.calls().iter().filter(|call| *call == "packages.stand_by").count();
    server.push(&[&web]).await;
    let mut agent = server.agent();
    assert!(!pull(&mut agent).await.ok);
    assert_eq!((began(), server.world.stands_by(), server.world.dpkg_runs().len()), (1, false, 0));
    server.push(&[&web, &db]).await;
    pull(&mut agent).await;
    assert_eq!((began(), server.world.stands_by(), server.world.dpkg_runs().len()), (2, false, 1));
    // What is in the cache is there at once, whatever becomes of it.
    pull(&mut agent).await;
    assert_eq!((began(), server.world.stands_by()), (3, false));
}

#[tokio::test(start_paused = true)]
async fn sizes_whose_sum_is_more_than_can_be_counted_leave_no_room() {
    let server = Server::new().await;
    let releases = [release("web", 1), release("db", 1)];
    for release in &releases {
        // Twice that is 2, for whoever counts no further than a `u64` goes.
        let installed_size = u64::MAX / 2 + 2;
        server.upload_deb(&Deb { installed_size, ..Deb::new(release, Behaviour::Good) }).await;
    }
    server.push(&releases.iter().collect::<Vec<_>>()).await;
    let cycle = pull(&mut server.agent()).await;
    assert!(!cycle.ok && cycle.lines.len() == 2, "{cycle:?}");
    assert!(cycle.lines.iter().all(|line| line.contains("space")), "{cycle:?}");
    assert_eq!(server.world.dpkg_runs().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_cut_download_goes_on_where_it_ended() {
    let server = Server::new().await;
    let web = release("web", 1);
    server.upload(&web, Behaviour::Good).await;
    server.push(&[&web]).await;
    let found = server.bucket.release(&web).await.unwrap().unwrap();
    let sha256 = found.metadata.unwrap().sha256;
    let whole = std::fs::read(server.root.path().join("new.deb")).unwrap();
    let cache = Cache::new(server.paths().cache());
    let url = BucketUrl::File(server.root.path().join("bucket"));
    let bucket = Bucket::open_marked(&url, &BucketOptions::default()).await.unwrap();
    for (cut, good) in [(&whole[..10], true), (&whole[..], true), (&b"other bytes"[..], false)] {
        std::fs::remove_dir_all(server.paths().cache()).ok();
        let part = cache.part(&web, &sha256, found.generation);
        std::fs::create_dir_all(part.parent().unwrap()).unwrap();
        std::fs::write(&part, cut).unwrap();
        let obtained = download::obtain(Some(&bucket), &cache, &web, &Liveness::new(), None).await;
        assert_eq!(obtained.is_ok(), good, "{obtained:?}");
        assert!(!part.exists(), "a part becomes the file, or goes");
    }
    assert!(pull(&mut server.agent()).await.ok, "and what was corrupt is fetched anew");
}

#[tokio::test(start_paused = true)]
async fn an_app_that_is_not_allowed_is_refused() {
    let server = Server::new().await;
    server.configure("allowed_apps = [\"db*\"]");
    let web = release("web", 1);
    server.upload(&web, Behaviour::Good).await;
    server.push(&[&web]).await;
    assert!(!pull(&mut server.agent()).await.ok);
    assert_eq!(server.state_of("web").await, AppState::Refused);
    assert_eq!(server.world.dpkg_runs().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn only_the_app_pulld_may_bring_the_package_pulld() {
    for (app, package) in [("web", "pulld"), ("pulld", "web")] {
        let server = Server::new().await;
        let release = release(app, 1);
        server.upload_deb(&Deb { package: package.into(), ..Deb::new(&release, Behaviour::Good) }).await;
        server.push(&[&release]).await;
        // An agent that replaces itself waits for its end, which nobody brings about here.
        let mut agent = server.agent();
        let cycle = tokio::time::timeout(Duration::from_hours(1), pull(&mut agent)).await.expect("nothing is updated");
        assert!(cycle.lines.iter().any(|line| line.contains("reserved")), "{app}: {cycle:?}");
        assert_eq!(server.world.dpkg_runs().len(), 0, "{app}");
    }
}

#[tokio::test(start_paused = true)]
async fn two_apps_in_one_document_cannot_bring_the_same_package() {
    let server = Server::new().await;
    let (web, db) = (release("web", 1), release("db", 1));
    server.upload(&web, Behaviour::Good).await;
    server.upload_deb(&Deb { package: "web".into(), ..Deb::new(&db, Behaviour::Good) }).await;
    server.push(&[&web, &db]).await;
    let cycle = pull(&mut server.agent()).await;
    assert!(cycle.lines.iter().any(|line| line.contains("is that of another app")), "{cycle:?}");
    assert_eq!(server.world.dpkg_runs().iter().map(Vec::len).collect::<Vec<_>>(), [1], "one run, of one package");
    assert!(server.world.installed("web").is_some());
}
