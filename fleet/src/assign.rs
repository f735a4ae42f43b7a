//! One app's entry in one document.

use bucket::{AppName, ReleaseName, ServerDocument};

/// A document with one app's entry changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Assignment {
    /// The document as it should be written.
    pub document: ServerDocument,
    /// The release that the app had before.
    pub from: Option<ReleaseName>,
}

/// Makes `to` the desired release of `app`, or takes the app out. Every other entry stays as it is, in its place.
pub fn assign(document: &ServerDocument, app: &AppName, to: Option<&ReleaseName>) -> Assignment {
    let mut document = document.clone();
    let from = match to {
        Some(release) => document.set(release.clone()),
        None => document.remove(app),
    };
    Assignment { document, from }
}

/// The same for a while: nothing but the app's release changes, so that giving it what it had, or none, makes the document what
/// it was.
pub fn assign_for_a_while(document: &ServerDocument, app: &AppName, to: Option<&ReleaseName>) -> Assignment {
    let mut document = document.clone();
    let from = match to {
        Some(release) => document.set_beside(release.clone()),
        None => document.unset(app),
    };
    Assignment { document, from }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "web/web:dev@build-1:2026-11-20T19:05:02Z:7e0ff6059e653eb75a36efb621d0fd66d1ced433.deb";
    const NEW: &str = "web/web:dev@build-1:2026-11-20T20:05:02Z:8e0ff6059e653eb75a36efb621d0fd66d1ced433.deb";

    fn web() -> AppName {
        "web".parse().unwrap()
    }

    #[test]
    fn an_app_that_is_taken_out_does_not_come_back_by_its_second_entry() {
        let before = format!(r#"["api/api:x", "{NEW}", 7, "{OLD}", {{"web":1}}]"#);
        let document = ServerDocument::parse(before.as_bytes()).unwrap();
        let assignment = assign(&document, &web(), None);
        assert_eq!(assignment.from, Some(NEW.parse().unwrap()));
        let written = assignment.document.to_json();
        assert_eq!(written, "[\n  \"api/api:x\",\n  7,\n  {\"web\":1}\n]\n");
        let again = ServerDocument::parse(&written).unwrap();
        assert_eq!((again.release_of(&web()), assign(&again, &web(), None).from), (None, None));
    }

    #[test]
    fn only_our_apps_entry_changes() {
        let before = format!(r#"["api/api:x", "{OLD}", 7, "later", "db/"]"#);
        let document = ServerDocument::parse(before.as_bytes()).unwrap();
        let assignment = assign(&document, &web(), Some(&NEW.parse().unwrap()));
        assert_eq!(assignment.from, Some(OLD.parse().unwrap()));
        let written: serde_json::Value = serde_json::from_slice(&assignment.document.to_json()).unwrap();
        assert_eq!(written, serde_json::json!(["api/api:x", NEW, 7, "later", "db/"]));
    }

    #[test]
    fn what_an_app_has_for_a_while_leaves_the_document_as_it_was() {
        for (before, now) in [
            (format!(r#"["api/api:x", "{OLD}", 7, "web"]"#), format!(r#"["api/api:x", "{NEW}", 7, "web"]"#)),
            (r#"["web/", 7]"#.to_owned(), format!(r#"["web/", 7, "{NEW}"]"#)),
            ("[7]".to_owned(), format!(r#"[7, "{NEW}"]"#)),
            ("[]".to_owned(), format!(r#"["{NEW}"]"#)),
        ] {
            let [before, now] = [before, now].map(|text| ServerDocument::parse(text.as_bytes()).unwrap());
            let tried = assign_for_a_while(&before, &web(), Some(&NEW.parse().unwrap()));
            assert_eq!(tried.document, now, "{before}");
            let put_back = assign_for_a_while(&tried.document, &web(), tried.from.as_ref());
            assert_eq!((put_back.document.to_json(), put_back.from), (before.to_json(), NEW.parse().ok()), "{before}");
        }
    }

    #[test]
    fn a_placeholder_becomes_the_release_in_its_place() {
        let document = ServerDocument::parse(br#"["web/", 7]"#).unwrap();
        let assignment = assign(&document, &web(), Some(&NEW.parse().unwrap()));
        assert_eq!(assignment.from, None);
        let written: serde_json::Value = serde_json::from_slice(&assignment.document.to_json()).unwrap();
        assert_eq!(written, serde_json::json!([NEW, 7]));
    }
}
