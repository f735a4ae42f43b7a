//! Keys of the whole file.

use crate::manifest::keys::{
    Key,
    Kind::{Matching, Named, Number, Table, Text},
    Place::{Bucket, Candidates, Defaults, Package, Recipe, Top},
};

pub(super) const KEYS: &[Key] = &[
    Key {
        place: Top,
        name: "schema",
        kind: Number(1, 1),
        meaning: "The version of this format.",
        default: "required",
        example: "schema = 1",
    },
    Key {
        place: Top,
        name: "bucket",
        kind: Table(Bucket),
        meaning: "Where releases are uploaded to.",
        default: "`--bucket` or `PUSH_BUCKET`",
        example: "[bucket]",
    },
    Key {
        place: Top,
        name: "candidates",
        kind: Table(Candidates),
        meaning: "Where changes are recorded that are not merged yet.",
        default: "none",
        example: "[candidates]",
    },
    Key {
        place: Top,
        name: "defaults",
        kind: Table(Defaults),
        meaning: "What holds for every package that does not say otherwise.",
        default: "none",
        example: "[defaults]",
    },
    Key {
        place: Top,
        name: "package",
        kind: Named(&[Package, Recipe]),
        meaning: "A package, at least one. NAME is the app, and the Debian package unless that is prebuilt.",
        default: "required",
        example: "[package.web]",
    },
    Key {
        place: Bucket,
        name: "url",
        kind: Matching("^(gs|file)://"),
        meaning: "`gs://NAME`, or `file:///DIRECTORY`. The option `--bucket` and the variable `PUSH_BUCKET` take precedence.",
        default: "required",
        example: "url = \"gs://acme-push\"",
    },
    Key {
        place: Candidates,
        name: "bucket",
        kind: Matching("^(gs|file)://"),
        meaning: "The candidate bucket, `gs://NAME` or `file:///DIRECTORY`: another than that of the releases, so that what is not merged needs no right there.",
        default: "required",
        example: "bucket = \"gs://acme-ci\"",
    },
    Key {
        place: Candidates,
        name: "branch",
        kind: Text,
        meaning: "The branch that changes are merged into.",
        default: "that of `origin`, else `main`",
        example: "branch = \"main\"",
    },
    Key {
        place: Defaults,
        name: "maintainer",
        kind: Text,
        meaning: "The `maintainer` of packages that name none.",
        default: "the person whom git knows",
        example: "maintainer = \"Acme <ops@acme.example>\"",
    },
];
