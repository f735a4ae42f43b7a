//! Our reading of a package's control file, compared with `dpkg-deb --field` on hundreds of archives, hostile ones too.
//!
//! What is verified here and installed by dpkg must be one thing. So whatever we take, dpkg takes, with the same values;
//! what dpkg takes and we refuse is refused for a reason that is written here.

use std::{collections::BTreeMap, path::Path, process::Command};

use bucket::{Control, PackageFacts};

use super::members;

/// What every package here begins with, unless the case is about just that.
const BASE: &str = "Package: web\nVersion: 1\nArchitecture: all\nMaintainer: A <a@b.example>\nDescription: Web\n";

/// The fields whose values dpkg prints as they are written; it parses and writes anew those of dependencies.
const COMPARED: [&str; 10] = [
    "Package",
    "Version",
    "Architecture",
    "Description",
    "Installed-Size",
    "Push-Release",
    "Push-Units",
    "Push-Check",
    "Push-Note",
    "XX",
];

/// Why a control file may be refused that dpkg takes; `Alike` if there is no such reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Alike,
    Stricter(&'static str),
}
use Expected::{Alike, Stricter};

const ENCODING: Expected = Stricter("values are shown to people and written into JSON: they are text, and names ASCII");
const CUT: Expected = Stricter("dpkg cuts a value at NUL and a paragraph at ^Z: what is behind would be nobody's");
const LAST: Expected = Stricter("dpkg drops a last lone byte without a newline: it means something else than it says");

const FOLDED: Expected = Stricter("a package's name, version, architecture and size are of one line");

/// Pieces of control files, whole lines each. Any of them may come in any order.
const PIECES: &[(&str, Expected)] = &[
    ("Push-Release: web:dev@build-1:2026-11-20T19:05:02Z:7e0ff6059e653eb75a36efb621d0fd66d1ced433\n", Alike),
    ("Push-Units: web.service=restart\n", Alike),
    ("Push-Units: web.service=restart\n web.timer=start\n\tx.path=none\n", Alike),
    ("push-units: web.service=none\n", Alike),
    ("PUSH-CHECK: /usr/bin/web --health\n", Alike),
    ("Push-Check:/usr/bin/web\n", Alike),
    ("Push-Check :/usr/bin/web\n", Alike),
    ("Push-Check\t : /usr/bin/web\t \n", Alike),
    ("Push-Note: a\\nb: c\n", Alike),
    ("Push-Note: \u{202e}ä€ \u{a0}\n", Alike),
    ("Push-Note: a : b :: c\n", Alike),
    ("Push-Note:\n folded\n", Alike),
    ("Push-Note: \t\n", Alike),
    ("XX: a \n b  \n", Alike),
    ("XX: a\r\n", Alike),
    ("XX: a,\r\n b\r\n", Alike),
    ("XX: a\u{b}\n\u{b}b\u{c}\n", Alike),
    ("XX:\n", Alike),
    ("XX: \u{1b}[2J\n", Alike),
    ("XX: -----BEGIN PGP SIGNATURE-----\n", Alike),
    ("Depends: a,\n b (>= 2) | c,\n d\n", Alike),
    ("Installed-Size: 7\n", Alike),
    ("#XX: a comment?\n", Alike),
    ("X: short\n", Alike),
    ("# a comment\n", Alike),
    ("XX\n", Alike),
    ("XX YY: a\n", Alike),
    (": a\n", Alike),
    ("-XX: a\n", Alike),
    (" continued\n", FOLDED),
    ("\tXX: continued\n", FOLDED),
    ("\n", Alike),
    (" \n", Alike),
    ("\r\n", Alike),
    (" .\n", FOLDED),
    (".\n", Alike),
    ("Package: other\n", Alike),
    ("package: other\n", Alike),
    ("Version: 2\n", Alike),
    ("-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n", Alike),
    ("-----BEGIN PGP SIGNATURE-----\n\niQ==\n-----END PGP SIGNATURE-----\n", Alike),
    ("XÄ: a\n", ENCODING),
    ("XX: a\0b\n", CUT),
    ("XX: a\u{1a}b\n", CUT),
    ("\u{1a}\n", CUT),
];

/// Whole control files.
fn whole() -> Vec<(Vec<u8>, Expected)> {
    let with = |more: &str| format!("{BASE}{more}").into_bytes();
    let bytes = |more: &[u8]| [BASE.as_bytes(), more].concat();
    let facts = |package: &str, version: &str, architecture: &str| {
        format!("Package: {package}\nVersion: {version}\nArchitecture: {architecture}\n").into_bytes()
    };
    let name = Stricter("a package name is that of Debian Policy: dpkg makes it lower-case, or takes `_`");
    let built = Stricter("a built package is for one architecture or for all");
    vec![
        (with(""), Alike),
        (Vec::new(), Alike),
        (b"\n\n".to_vec(), Alike),
        (with("XX: a"), Alike),
        (with("XX: a\nq"), LAST),
        (with("XX: a\n\n "), LAST),
        (with("\n\n\n"), Alike),
        (format!("\n\n\n{BASE}").into_bytes(), Alike),
        (format!(" \n{BASE}").into_bytes(), Alike),
        (format!("\u{feff}{BASE}").into_bytes(), Alike),
        (BASE.replace('\n', "\r\n").into_bytes(), Alike),
        (BASE.replace('\n', "\r").into_bytes(), Alike),
        (BASE.replace(": ", ":").into_bytes(), Alike),
        (BASE.to_uppercase().replace("WEB", "web").replace("ALL", "all").into_bytes(), Alike),
        (BASE.trim_end().as_bytes().to_vec(), Alike),
        (bytes(b"XX: \xff\xfe\n"), ENCODING),
        (bytes(b"XX: \xed\xa0\x80\n"), ENCODING),
        (bytes(b"X\xff: a\n"), ENCODING),
        (with(&format!("XX: {}\n", "x".repeat(500_000))), Alike),
        (with(&"XX: a\n".replace("XX", &"X".repeat(500))), Alike),
        (
            with(&format!("XX: {}\n", "x".repeat(Control::MAX))),
            Stricter("an agent doesn't read what fills its memory into it"),
        ),
        (with(&(0..5000).map(|n| format!("X-{n}: {n}\n")).collect::<Vec<_>>().concat()), Alike),
        (with("Installed-Size: many\n"), Stricter("a size that is none would count as nothing to make room for")),
        (facts("Web", "1", "all"), name),
        (facts("w_b", "1", "all"), name),
        (facts("web", "1", "any"), built),
        (facts("web", "1", "AMD64"), built),
        (facts("web", "1", ""), Alike),
        (facts("-rf", "1", "all"), Alike),
        (facts("../x", "1", "all"), Alike),
        (facts("web", "1 2", "all"), Alike),
        (facts("web", "", "all"), Alike),
        (b"Package: web\nArchitecture: all\n".to_vec(), Alike),
        (b"Version: 1\nArchitecture: all\n".to_vec(), Alike),
    ]
}

/// Control files of some pieces each, the same in every run.
fn mixed() -> Vec<(Vec<u8>, Expected)> {
    let mut seed: u64 = 0x5eed;
    let mut random = |below: usize| {
        // Knuth's MMIX generator; its high digits are the random ones.
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap() % below
    };
    let mix = |number: usize| {
        let base: Vec<&str> = BASE.split_inclusive('\n').collect();
        let mut lines: Vec<(&str, Expected)> = base.into_iter().map(|line| (line, Alike)).collect();
        // Each piece alone at the end, then more and more of them anywhere.
        if let Some(piece) = PIECES.get(number) {
            lines.push(*piece);
        } else {
            for _ in 0..=number % 4 {
                lines.insert(random(lines.len() + 1), PIECES[random(PIECES.len())]);
            }
        }
        let text: String = lines.iter().map(|(line, _)| *line).collect();
        let expected = lines.iter().map(|(_, expected)| *expected).find(|expected| *expected != Alike);
        (text.into_bytes(), expected.unwrap_or(Alike))
    };
    (0..360).map(mix).collect()
}

/// A package with that control archive, which is compressed in the way that its name says.
fn write_deb(path: &Path, name: &str, control: &[u8]) {
    write_parts(path, name, &[control]);
}

/// A package whose control archive is in several parts, each compressed for itself.
fn write_parts(path: &Path, name: &str, parts: &[&[u8]]) {
    let control: Vec<u8> = parts.iter().flat_map(|part| compressed(name, part)).collect();
    write_members(path, &[("debian-binary", b"2.0\n"), (name, &control), ("data.tar", &tar(&[]))]);
}

fn write_members(path: &Path, members: &[(&str, &[u8])]) {
    let mut deb = b"!<arch>\n".to_vec();
    for (name, content) in members {
        deb.extend(format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, content.len()).as_bytes());
        deb.extend(*content);
        deb.extend(vec![b'\n'; content.len() % 2]);
    }
    std::fs::write(path, deb).unwrap();
}

fn compressed(name: &str, content: &[u8]) -> Vec<u8> {
    match name.trim_end_matches('/').rsplit('.').next().unwrap() {
        "gz" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            std::io::Write::write_all(&mut encoder, content).unwrap();
            encoder.finish().unwrap()
        }
        "xz" => liblzma::encode_all(content, 0).unwrap(),
        "zst" => zstd::encode_all(content, 1).unwrap(),
        _ => content.to_vec(),
    }
}

fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in members {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        archive.append(&header, *content).unwrap();
    }
    archive.into_inner().unwrap()
}

/// The compared fields by their names in lower case, as dpkg-deb prints them; `None` if it refuses the package.
fn by_dpkg(deb: &Path) -> Option<BTreeMap<String, String>> {
    let output = Command::new("dpkg-deb").arg("--field").arg(deb).args(COMPARED).env("LC_ALL", "C").output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in printed.strip_suffix('\n').unwrap_or_default().split('\n').filter(|line| !line.is_empty()) {
        if line.starts_with(|c: char| c.is_ascii_whitespace() || c == '\u{b}') {
            let (_, value) = fields.last_mut()?;
            value.push('\n');
            value.push_str(line);
        } else {
            let (name, value) = line.split_once(": ").or_else(|| line.split_once(':')).unwrap();
            fields.push((name.to_ascii_lowercase(), value.to_owned()));
        }
    }
    output.status.success().then(|| fields.into_iter().collect())
}

/// The compared fields, as we read them; `Err` if we refuse the package.
fn by_us(deb: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let control = Control::parse(&members(deb)?.control)?;
    PackageFacts::read(&control)?;
    let value = |name: &&str| {
        Some((name.to_ascii_lowercase(), control.get(name).filter(|value| !value.is_empty())?.to_owned()))
    };
    Ok(COMPARED.iter().filter_map(value).collect())
}

/// Compares both on one package; says what is wrong.
fn compare(deb: &Path, expected: Expected) -> Result<(), String> {
    let (dpkg, us) = (by_dpkg(deb), by_us(deb));
    // A value of white space only is a field for dpkg and none for us: nobody can tell it from an absent one.
    let dpkg = dpkg.map(|fields| fields.into_iter().filter(|(_, value)| !value.is_empty()).collect::<BTreeMap<_, _>>());
    match (dpkg, us, expected) {
        (Some(dpkg), Ok(us), _) if dpkg == us => Ok(()),
        (Some(dpkg), Ok(us), _) => Err(format!("dpkg reads {dpkg:?}, we read {us:?}")),
        (None, Ok(us), _) => Err(format!("dpkg refuses it, we read {us:?}")),
        (Some(_), Err(_), Stricter(_)) | (None, Err(_), _) => Ok(()),
        (Some(dpkg), Err(error), Alike) => Err(format!("dpkg reads {dpkg:?}, we say: {error:#}")),
    }
}

#[test]
fn a_control_file_means_to_us_what_it_means_to_dpkg() {
    let directory = tempfile::tempdir().unwrap();
    let deb = directory.path().join("x.deb");
    let names = ["control.tar", "control.tar.gz", "control.tar.xz", "control.tar.zst"];
    let mut wrong = Vec::new();
    let cases: Vec<(Vec<u8>, Expected)> = whole().into_iter().chain(mixed()).collect();
    assert!(cases.len() > 390, "{} cases", cases.len());
    for (number, (content, expected)) in cases.iter().enumerate() {
        write_deb(&deb, names[number % names.len()], &tar(&[("./control", content)]));
        if let Err(text) = compare(&deb, *expected) {
            let shown: String = String::from_utf8_lossy(content).chars().take(400).collect();
            wrong.push(format!("{shown:?}\n  {text}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// What is called stricter must be: otherwise its reason explains nothing.
#[test]
fn each_reason_for_being_stricter_has_a_case() {
    let directory = tempfile::tempdir().unwrap();
    let deb = directory.path().join("x.deb");
    for (content, expected) in whole() {
        if let Stricter(why) = expected {
            write_deb(&deb, "control.tar", &tar(&[("./control", &content)]));
            let shown: String = String::from_utf8_lossy(&content).chars().take(400).collect();
            assert!(by_dpkg(&deb).is_some(), "dpkg refuses it too: {shown:?} ({why})");
            assert!(by_us(&deb).is_err(), "we take it too: {shown:?} ({why})");
        }
    }
}

#[test]
fn an_archive_has_one_control_file_for_us_and_for_dpkg() {
    let directory = tempfile::tempdir().unwrap();
    let deb = directory.path().join("x.deb");
    let base = BASE.as_bytes();
    let other = BASE.replace("web", "other").into_bytes();
    let twice = Stricter("dpkg takes the last of two, whatever a reader saw first");
    let cases: [(&str, Vec<u8>, Expected); 14] = [
        ("control.tar", tar(&[("./control", base)]), Alike),
        ("control.tar/", tar(&[("control", base)]), Alike),
        ("control.tar.gz/", tar(&[("./", b""), ("./md5sums", b"x"), ("./control", base)]), Alike),
        ("control.tar", tar(&[("./control", base), ("./x/control", &other)]), Alike),
        ("control.tar.xz", tar(&[("./control", base), ("./control", &other)]), twice),
        ("control.tar", tar(&[("./control", base), ("control", &other)]), twice),
        ("control.tar", tar(&[("./control", base), ("././/control", &other)]), twice),
        ("control.tar", tar(&[("./control", base), ("x/../control", &other)]), Alike),
        ("control.tar", tar(&[("/control", base)]), Stricter("a name that leads out of its archive is refused")),
        ("control.tar", tar(&[("./postinst", base)]), Alike),
        ("control.tar", tar(&[("./Control", base)]), Alike),
        ("control.tar", tar(&[("./control", base)])[..700].to_vec(), Alike),
        ("control.tar.bz2", tar(&[("./control", base)]), Alike),
        ("control.tar.lzma", tar(&[("./control", base)]), Alike),
    ];
    for (name, archive, expected) in cases {
        write_deb(&deb, name, &archive);
        compare(&deb, expected).unwrap_or_else(|text| panic!("{name} {:?}: {text}", archive.len()));
    }
}

/// A member of a control archive whose header is `made` by hand.
fn member(name: &str, content: &[u8], made: impl FnOnce(&mut tar::Header)) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    made(&mut header);
    header.set_cksum();
    let padding = vec![0; content.len().wrapping_neg() % 512];
    [header.as_bytes(), content, &padding].concat()
}

fn of_type(kind: u8) -> impl FnOnce(&mut tar::Header) {
    move |header| header.set_entry_type(tar::EntryType::new(kind))
}

fn link(kind: u8, target: &str) -> impl FnOnce(&mut tar::Header) {
    move |header| {
        header.set_entry_type(tar::EntryType::new(kind));
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
    }
}

fn plain(_: &mut tar::Header) {}

/// What a package of tricks is expected to be, of an archive that comes as plain members only.
const PLAIN: Expected = Stricter("a control archive has plain members only");

/// The members of an outer archive: their names as written in it, and their contents.
type Members<'a> = &'a [(&'a str, &'a [u8])];

/// The control file of another package, which nobody allowed.
fn other() -> Vec<u8> {
    BASE.replace("web", "other").into_bytes()
}

/// A second control archive, or the same one in parts, which some programs read and others don't.
#[test]
fn no_archive_in_parts_makes_dpkg_read_another_control_file() {
    let directory = tempfile::tempdir().unwrap();
    let deb = directory.path().join("x.deb");
    let (base, other) = (BASE.as_bytes(), other());
    let good = member("./control", base, plain);
    let evil = [member("./control", &other, plain), vec![0; 1024]].concat();
    let mut wrong = Vec::new();
    for name in ["control.tar.gz", "control.tar.xz", "control.tar.zst", "control.tar"] {
        let whole = tar(&[("./control", base)]);
        let empty = if name.ends_with("xz") || name.ends_with("zst") { PLAIN } else { Alike };
        for (what, parts, expected) in [
            ("cut in two parts", [whole[..700].to_vec(), whole[700..].to_vec()], Alike),
            ("a second part with another", [good.clone(), evil.clone()], PLAIN),
            ("a second whole archive", [whole.clone(), tar(&[("./control", &other)])], PLAIN),
            ("an empty second part", [whole.clone(), vec![]], empty),
        ] {
            write_parts(&deb, name, &parts.iter().map(Vec::as_slice).collect::<Vec<_>>());
            if let Err(text) = compare(&deb, expected) {
                wrong.push(format!("{name}, {what}: {text}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whoever can make us read another control file than dpkg gets a package in that nobody allowed.
#[test]
fn no_trick_makes_dpkg_read_another_control_file() {
    let directory = tempfile::tempdir().unwrap();
    let deb = directory.path().join("x.deb");
    let mut wrong = Vec::new();
    for (what, members) in tricks() {
        write_parts(&deb, "control.tar", &[&[members.concat(), vec![0; 1024]].concat()]);
        if let Err(text) = compare(&deb, PLAIN) {
            wrong.push(format!("{what}: {text}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Archives that have the control file of one package, and perhaps of another one: what they try, and their members.
fn tricks() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let (base, other) = (BASE.as_bytes(), other());
    let good = || member("./control", base, plain);
    let evil = || member("./control", &other, plain);
    let pax = |path: &str| {
        let record = format!(" path={path}\n");
        let length = record.len() + 2;
        format!("{length}{record}").into_bytes()
    };
    let long = |name: &str| [name.as_bytes(), b"\0"].concat();
    let prefixed = |header: &mut tar::Header| {
        *header = tar::Header::new_ustar();
        header.as_old_mut().name[..7].copy_from_slice(b"control");
        header.as_ustar_mut().unwrap().prefix[..1].copy_from_slice(b".");
        header.set_size(other.len() as u64);
        header.set_mode(0o644);
    };
    vec![
        (
            "through a linked directory",
            vec![good(), member("./x", b"", link(b'2', ".")), member("x/control", &other, plain)],
        ),
        (
            "a link to another file",
            vec![member("./other", &other, plain), member("./control", b"", link(b'2', "other"))],
        ),
        (
            "a link in its place",
            vec![good(), member("./other", &other, plain), member("./control", b"", link(b'2', "other"))],
        ),
        ("a hard link", vec![member("./other", &other, plain), member("./control", b"", link(b'1', "./other"))]),
        (
            "a hard link in its place",
            vec![good(), member("./other", &other, plain), member("./control", b"", link(b'1', "./other"))],
        ),
        (
            "written through a hard link",
            vec![good(), member("./x", b"", link(b'1', "./control")), member("./x", &other, plain)],
        ),
        (
            "an extended header",
            vec![good(), member("p", &pax("./control"), of_type(b'x')), member("./other", &other, plain)],
        ),
        (
            "a global header",
            vec![member("p", &pax("./control"), of_type(b'g')), good(), member("./other", &other, plain)],
        ),
        (
            "a long name",
            vec![good(), member("././@LongLink", &long("./control"), of_type(b'L')), member("./other", &other, plain)],
        ),
        (
            "a long name with an end",
            vec![good(), member("././@LongLink", b"control\0x\0", of_type(b'L')), member("./other", &other, plain)],
        ),
        ("a prefix", vec![good(), member("control", &other, prefixed)]),
        ("a contiguous file", vec![good(), member("./control", &other, of_type(b'7'))]),
        ("an unknown type", vec![good(), member("./control", &other, of_type(b'Q'))]),
        ("two slashes", vec![good(), member(".//control", &other, plain)]),
        ("a dot behind it", vec![good(), member("./control/.", &other, plain)]),
        ("a directory by its slash", vec![good(), member("./control/", b"", plain)]),
        ("a directory of that name", vec![member("./control/", b"", of_type(b'5')), good()]),
        ("a directory with a content", vec![member("./x/", &[evil(), vec![]].concat(), of_type(b'5')), good()]),
        ("a lone block of zeros", vec![good(), vec![0; 512], evil()]),
        (
            "a size in another base",
            vec![
                good(),
                member("./control", &other, |header| {
                    let size = other.len() as u64;
                    header.as_old_mut().size = *b"\x80\0\0\0\0\0\0\0\0\0\0\0";
                    header.as_old_mut().size[4..].copy_from_slice(&size.to_be_bytes());
                }),
            ],
        ),
        ("another case", vec![good(), member("./CONTROL", &other, plain)]),
        (
            "a name that goes on behind its end",
            vec![member("./control\0x", base, plain), member("./control\0y", &other, plain)],
        ),
    ]
}

/// What the outer archive can say of its members' names.
#[test]
fn no_outer_archive_makes_dpkg_read_another_control_file() {
    let directory = tempfile::tempdir().unwrap();
    let deb = directory.path().join("x.deb");
    let (base, other) = (BASE.as_bytes(), other());
    let mut wrong = Vec::new();
    let archive = |content: &[u8]| tar(&[("./control", content)]);
    let (first, second) = (archive(base), archive(&other));
    let version: (&str, &[u8]) = ("debian-binary", b"2.0\n");
    let behind = [&b"control.tar\0"[..], &second].concat();
    let outer: [(&str, Members, Expected); 7] = [
        ("two control archives", &[("control.tar", &first), ("control.tar", &second)], Alike),
        ("a name table", &[("//", b"control.tar/\n\n"), ("/0", &second)], Alike),
        ("a symbol table", &[("/", b"\0\0\0\0"), ("control.tar", &second)], Alike),
        (
            "what dpkg skips",
            &[("_x", b""), ("control.tar", &first)],
            Stricter("the second member is the control archive"),
        ),
        ("a name behind the header", &[("#1/12", &behind)], Alike),
        ("spaces before its name", &[(" control.tar", &second)], Alike),
        ("two slashes behind it", &[("control.tar//", &second)], Alike),
    ];
    for (what, members, expected) in outer {
        write_members(&deb, &[&[version], members].concat());
        if let Err(text) = compare(&deb, expected) {
            wrong.push(format!("{what}: {text}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
