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
    fn a_placeholder_becomes_the_release_in_its_place() {
        let document = ServerDocument::parse(br#"["web/", 7]"#).unwrap();
        let assignment = assign(&document, &web(), Some(&NEW.parse().unwrap()));
        assert_eq!(assignment.from, None);
        let written: serde_json::Value = serde_json::from_slice(&assignment.document.to_json()).unwrap();
        assert_eq!(written, serde_json::json!([NEW, 7]));
    }
}
