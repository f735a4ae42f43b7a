//! One app's entry in one document.

use bucket::{ReleaseName, ServerDocument};

/// A document with one app's entry changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Assignment {
    /// The document as it should be written.
    pub document: ServerDocument,
    /// The release that the app had before.
    pub from: Option<ReleaseName>,
}

impl Assignment {
    /// Whether the document already named the release.
    pub fn is_no_change(&self, release: &ReleaseName) -> bool {
        self.from.as_ref() == Some(release)
    }
}

/// Makes `release` the desired one of its app. Every other entry stays as it is, in its place.
pub fn assign(document: &ServerDocument, release: &ReleaseName) -> Assignment {
    let mut document = document.clone();
    let from = document.set(release.clone());
    Assignment { document, from }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "web/web:dev@build-1:2026-11-20T19:05:02Z:7e0ff6059e653eb75a36efb621d0fd66d1ced433.deb";
    const NEW: &str = "web/web:dev@build-1:2026-11-20T20:05:02Z:8e0ff6059e653eb75a36efb621d0fd66d1ced433.deb";

    #[test]
    fn only_our_apps_entry_changes() {
        let before = format!(r#"["api/api:x", "{OLD}", 7, "later", "db/"]"#);
        let document = ServerDocument::parse(before.as_bytes()).unwrap();
        let assignment = assign(&document, &NEW.parse().unwrap());
        assert_eq!(assignment.from, Some(OLD.parse().unwrap()));
        let written: serde_json::Value = serde_json::from_slice(&assignment.document.to_json()).unwrap();
        // Placeholders say nothing and aren't written; what isn't understood is kept.
        assert_eq!(written, serde_json::json!(["api/api:x", NEW, 7]));
    }

    #[test]
    fn a_placeholder_becomes_the_release_in_its_place() {
        let document = ServerDocument::parse(br#"["web/", 7]"#).unwrap();
        let assignment = assign(&document, &NEW.parse().unwrap());
        assert_eq!(assignment.from, None);
        let written: serde_json::Value = serde_json::from_slice(&assignment.document.to_json()).unwrap();
        assert_eq!(written, serde_json::json!([NEW, 7]));
    }
}
