//! Names of buckets and objects in the address of a request.

/// What is copied to where, as `OBJECT/rewriteTo/b/BUCKET/o/OBJECT` says it.
pub(super) struct Copy {
    pub(super) from: String,
    pub(super) bucket: String,
    pub(super) to: String,
}

impl Copy {
    pub(super) fn parse(path: &str) -> Option<Self> {
        let (from, to) = path.split_once("/rewriteTo/b/")?;
        let (bucket, to) = to.split_once("/o/")?;
        Some(Self { from: decode(from)?, bucket: decode(bucket)?, to: decode(to)? })
    }
}

/// Takes percent-encoding off (RFC 3986 §2.1).
pub(super) fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut pieces = text.split('%');
    bytes.extend_from_slice(pieces.next()?.as_bytes());
    for piece in pieces {
        bytes.push(u8::from_str_radix(piece.get(..2)?, 16).ok()?);
        bytes.extend_from_slice(&piece.as_bytes()[2..]);
    }
    String::from_utf8(bytes).ok()
}
