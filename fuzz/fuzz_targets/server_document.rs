//! Any bytes: a server document that is taken says the same after it was written and read again.

#![no_main]

use bucket::ServerDocument;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|content: &[u8]| {
    let Ok(document) = ServerDocument::parse(content) else { return };
    for (value, reason) in document.bad_entries() {
        assert!(!value.chars().chain(reason.chars()).any(char::is_control), "{value:?}: {reason:?}");
    }
    let again = ServerDocument::parse(&document.to_json()).expect("what was written is a document");
    assert_eq!(document.entries(), again.entries());
    assert_eq!(document.to_json(), again.to_json());
    let mut apps: Vec<_> = document.releases().map(|name| name.app()).collect();
    apps.sort_unstable();
    assert!(apps.windows(2).all(|pair| pair[0] != pair[1]), "two releases of one app");
});
