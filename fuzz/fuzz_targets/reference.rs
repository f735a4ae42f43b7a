//! Any text: a reference to an image that is taken is the text itself, and safe in an address and on a command line.

#![no_main]

use libfuzzer_sys::fuzz_target;
use registry::Reference;

fuzz_target!(|text: &str| {
    let Ok(reference) = text.parse::<Reference>() else { return };
    assert_eq!(reference.to_string(), text);
    assert!(text.bytes().all(|byte| byte.is_ascii_graphic()) && !text.starts_with('-'));
    let path = reference.repository.path();
    assert!(!path.split('/').any(|part| part.is_empty() || part.starts_with('.')));
    assert_eq!(format!("{}/{path}", reference.repository.host()), reference.repository.to_string());
});
