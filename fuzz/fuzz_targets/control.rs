//! Any bytes: a control file that is taken says the same after it was written and read again, and so do its fields.

#![no_main]

use bucket::{Control, PackageFacts, Provenance, ReleaseFields};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|content: &[u8]| {
    let Ok(control) = Control::parse(content) else { return };
    let again = Control::parse(control.to_string().as_bytes()).expect("what was written is a control file");
    assert_eq!(control, again);
    if let Ok(facts) = PackageFacts::read(&control) {
        let name = facts.package.as_str();
        assert!(!name.starts_with('-') && !name.contains('/') && !name.contains(char::is_whitespace));
    }
    let (Ok(Some(fields)), Ok(provenance)) = (ReleaseFields::read(&control), Provenance::read(&control)) else {
        return;
    };
    let mut written = control;
    fields.write(&provenance, &mut written).expect("what was read can be written");
    assert_eq!(ReleaseFields::read(&written), Ok(Some(fields)));
    assert_eq!(Provenance::read(&written).map(|read| (read.dirty, read.note)), Ok((provenance.dirty, provenance.note)));
});
