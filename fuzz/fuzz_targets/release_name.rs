//! Any text: a release name that is taken is the text itself, safe, and can be taken apart and put together again.

#![no_main]

use bucket::{ObjectPath, ReleaseName, ReleaseParts};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(name) = text.parse::<ReleaseName>() else { return };
    assert_eq!(name.as_str(), text);
    assert!(text.bytes().all(|byte| byte.is_ascii_graphic()) && !text.contains("..") && !text.starts_with('-'));
    assert_eq!(text.matches('/').count(), 1);
    assert!(format!("debs/{name}").parse::<ObjectPath>().is_ok());
    assert_eq!(ReleaseName::from_stem(name.stem()).as_ref(), Ok(&name));
    let parts = ReleaseParts {
        app: name.app().clone(),
        user: name.user().to_owned(),
        host: name.host().to_owned(),
        time: name.time(),
        commit: name.commit().clone(),
    };
    assert_eq!(ReleaseName::new(parts), Ok(name));
});
