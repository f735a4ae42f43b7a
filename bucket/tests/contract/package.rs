//! What a release carries inside its `.deb`: what is written is read again, by whoever reads it.

use std::time::Duration;

use bucket::{
    Architecture, Check, CheckCommand, CheckPace, Control, Note, OwnedUnit, PackageFacts, PackageName, Probe,
    Provenance, ReleaseFields, ReleaseMetadata, Sha256, UnitAction, UnitName,
};
use proptest::prelude::*;

use crate::{good_release, release_name};

fn unit() -> impl Strategy<Value = OwnedUnit> {
    let kind = "service|timer|socket|path|target|mount|automount|slice";
    let action =
        prop::sample::select(vec![UnitAction::Restart, UnitAction::Reload, UnitAction::Start, UnitAction::None]);
    ("[A-Za-z0-9][A-Za-z0-9:_.\\\\@-]{0,40}", kind, action, any::<bool>()).prop_map(|(stem, kind, action, disabled)| {
        OwnedUnit { name: format!("{stem}.{kind}").parse().unwrap(), action, disabled }
    })
}

fn check() -> impl Strategy<Value = Check> {
    let words = prop::collection::vec("[^\\s\\p{Cc}]{1,10}", 0..4);
    let command = ("/[^\\s\\p{Cc}]{0,10}", words).prop_map(|(program, arguments)| {
        Probe::Command([program].into_iter().chain(arguments).collect::<Vec<_>>().try_into().unwrap())
    });
    let host = prop::sample::select(vec!["127.0.0.1", "127.255.1.2", "[::1]", "localhost"]);
    let tcp = (host.clone(), 1_u16..).prop_map(|(host, port)| Probe::Tcp(format!("{host}:{port}").parse().unwrap()));
    let http = (host, prop::option::of(1_u16..), "(/[!-\"$-~]{0,20})?").prop_map(|(host, port, path)| {
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        Probe::Http(format!("http://{host}{port}{path}").parse().unwrap())
    });
    let pace = (100_u64..5000, 100_u64..1000, 1_u32..100).prop_map(|(timeout, interval, attempts)| {
        CheckPace::new(Duration::from_millis(timeout), Duration::from_millis(interval), attempts).unwrap()
    });
    (prop_oneof![command, tcp, http], prop::option::of(pace)).prop_map(|(probe, pace)| Check { probe, pace })
}

fn note() -> impl Strategy<Value = Note> {
    any::<String>().prop_filter_map("an empty note", |text| text.parse().ok())
}

fn fields() -> impl Strategy<Value = ReleaseFields> {
    (release_name(), prop::collection::vec(unit(), 0..5), prop::option::of(check()))
        .prop_map(|(release, units, check)| ReleaseFields { release, units, check })
}

/// White space around a repository or branch is none of either.
fn provenance() -> impl Strategy<Value = Provenance> {
    (any::<bool>(), note(), any::<String>(), "(feature/)?[a-zäλ\\\\\n\t]{0,20}").prop_map(
        |(dirty, note, repo, branch)| Provenance {
            dirty,
            note,
            repo: repo.trim().to_owned(),
            branch: branch.trim().to_owned(),
        },
    )
}

proptest! {
    #[test]
    fn any_release_fields_come_back(fields in fields(), provenance in provenance(), before in fields()) {
        let mut control = Control::parse(b"Package: web\nVersion: 1\nArchitecture: all\nDepends: a,\n b\n").unwrap();
        before.write(&provenance, &mut control).unwrap();
        fields.write(&provenance, &mut control).unwrap();
        let text = control.to_string();
        prop_assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{:?}", text);
        let read = Control::parse(text.as_bytes()).unwrap();
        prop_assert_eq!(&read, &control);
        prop_assert_eq!(ReleaseFields::read(&read).unwrap(), Some(fields));
        prop_assert_eq!(Provenance::read(&read).unwrap(), provenance);
        let facts = PackageFacts::read(&read).unwrap();
        prop_assert_eq!((facts.package.as_str(), facts.depends), ("web", vec!["a, b".to_owned()]));
    }

    #[test]
    fn any_field_comes_back_and_begins_no_other(
        names in prop::collection::btree_set("[A-Z][a-z]{2,10}", 1..5),
        values in prop::collection::vec("\\PC{0,40}", 5),
        description in "[ -~\n\tä.]{0,200}",
    ) {
        let mut control = Control::default();
        let names: Vec<String> = names.into_iter().filter(|name| name != "Description").collect();
        for (name, value) in names.iter().zip(&values) {
            control.push(name, value).unwrap();
        }
        prop_assume!(!description.trim().is_empty());
        control.push_description(&description).unwrap();
        let read = Control::parse(control.to_string().as_bytes()).unwrap();
        prop_assert_eq!(&read, &control);
        for (name, value) in names.iter().zip(&values) {
            prop_assert_eq!(read.get(name).unwrap_or_default(), value.trim());
        }
    }

    #[test]
    fn no_bytes_make_a_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(control) = Control::parse(&bytes) {
            prop_assert_eq!(&Control::parse(control.to_string().as_bytes()).unwrap(), &control);
            let _ = (PackageFacts::read(&control), ReleaseFields::read(&control), Provenance::read(&control));
        }
    }

    #[test]
    fn no_text_makes_a_parser_panic_or_change_it(text in any::<String>()) {
        if let Ok(name) = text.parse::<PackageName>() { prop_assert_eq!(name.as_str(), &text); }
        if let Ok(name) = text.parse::<UnitName>() { prop_assert_eq!(name.as_str(), &text); }
        if let Ok(name) = text.parse::<Architecture>() { prop_assert_eq!(name.as_str(), &text); }
        if let Ok(sum) = text.parse::<Sha256>() { prop_assert_eq!(sum.as_str(), &text); }
        if let Ok(note) = text.parse::<Note>() { prop_assert_eq!(note.as_str(), text.trim()); }
        if let Ok(unit) = text.parse::<OwnedUnit>() { prop_assert_eq!(unit.to_string(), text.clone()); }
        let _ = (text.parse::<CheckCommand>(), text.parse::<Check>(), OwnedUnit::parse_all(&text));
    }
}

#[test]
fn units_and_checks_are_json_as_they_always_were() {
    let unit: OwnedUnit = "web.service=restart".parse().unwrap();
    let json = r#"{"name":"web.service","action":"restart"}"#;
    assert_eq!(serde_json::to_string(&unit).unwrap(), json);
    assert_eq!(serde_json::from_str::<OwnedUnit>(json).unwrap(), unit);
    let check: Check = "/usr/bin/web --health".parse().unwrap();
    let json = r#"["/usr/bin/web","--health"]"#;
    assert_eq!(serde_json::to_string(&check).unwrap(), json);
    assert_eq!(serde_json::from_str::<Check>(json).unwrap(), check);
}

#[test]
fn a_sum_is_64_lower_case_digits() {
    let sum = "0123456789abcdef".repeat(4);
    assert_eq!(sum.parse::<Sha256>().unwrap().to_string(), sum);
    let bytes: [u8; 32] = std::array::from_fn(|at| [0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef][at % 8]);
    assert_eq!(Sha256::from(bytes).as_str(), sum);
    for bad in [&sum[1..], &sum.to_uppercase(), &sum.replace('0', "g"), &format!("{sum}0"), ""] {
        assert!(bad.parse::<Sha256>().is_err(), "{bad}");
    }
}

#[test]
fn a_bad_sum_package_or_architecture_is_the_problem_of_one_release() {
    let name: bucket::ReleaseName = good_release().parse().unwrap();
    let good = ReleaseMetadata {
        dirty: false,
        note: "why".to_owned(),
        services: vec!["web.service".to_owned()],
        sha256: "0".repeat(64).parse().unwrap(),
        size: 7,
        package: "web".parse().unwrap(),
        version: "1".to_owned(),
        architecture: "all".parse().unwrap(),
        repo: String::new(),
        branch: "main".to_owned(),
        made_by: None,
    };
    let metadata = good.to_metadata(&name);
    assert_eq!(ReleaseMetadata::from_metadata(&name, &metadata).unwrap(), good);
    for (key, bad) in [("sha256", "0"), ("package", "Web"), ("architecture", "any"), ("size", "x"), ("dirty", "1")] {
        let mut metadata = metadata.clone();
        metadata.insert(key.to_owned(), bad.to_owned());
        let reason = ReleaseMetadata::from_metadata(&name, &metadata).unwrap_err();
        assert!(reason.contains(key), "{reason}");
    }
}
