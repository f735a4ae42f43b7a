//! Images that are made, and images that others made, well and badly.

use std::{fs, io::Read as _, path::Path};

use serde_json::{Value, json};
use tempfile::{TempDir, tempfile};

use super::*;
use crate::{Digest, ManifestType};

const CREATED: &str = "2026-11-26T23:30:00Z";

fn digest(byte: u8) -> Digest {
    Digest::of(&[byte])
}

fn layer() -> Layer {
    let root = TempDir::new().unwrap();
    fs::write(root.path().join("web"), "web").unwrap();
    Layer::write(root.path(), false, 7, tempfile().unwrap()).unwrap()
}

/// What is run.
fn web() -> Process {
    Process { entrypoint: vec!["/web".to_owned()], ..Process::default() }
}

fn content(blob: &Blob) -> Vec<u8> {
    let mut content = Vec::new();
    match &blob.origin {
        Origin::Bytes(bytes) => content.extend(bytes),
        Origin::Part(part) => drop(part.reader().read_to_end(&mut content).unwrap()),
        Origin::Repository(repository) => panic!("it is in {repository}"),
    }
    content
}

/// That each blob is what its descriptor says, and the manifests name these blobs and no others.
fn ensure_whole(image: &Image) {
    for blob in image.blobs.iter().filter(|blob| !matches!(blob.origin, Origin::Repository(_))) {
        let content = content(blob);
        assert_eq!(blob.descriptor.digest, Digest::of(&content));
        assert_eq!(blob.descriptor.size, content.len() as u64);
    }
    let named = image.manifests.iter().flat_map(Manifest::blobs).map(|blob| blob.digest.clone());
    let (mut named, mut there): (Vec<_>, Vec<_>) =
        (named.collect(), image.blobs.iter().map(|blob| blob.descriptor.digest.clone()).collect());
    named.sort();
    named.dedup();
    there.sort();
    assert_eq!(named, there);
}

fn base(media_type: &str, layers: usize) -> Base {
    let of = |n: usize| json!({ "mediaType": media_type, "digest": digest(u8::try_from(n).unwrap()), "size": 5 });
    let written = json!({
        "schemaVersion": 2, "mediaType": ManifestType::DockerImage.as_str(),
        "config": { "mediaType": "application/vnd.docker.container.image.v1+json", "digest": digest(99), "size": 2 },
        "layers": (0..layers).map(of).collect::<Vec<_>>(),
    });
    let configuration =
        json!({ "architecture": "arm64", "os": "linux", "rootfs": { "diff_ids": [digest(50), digest(51)] } });
    Base {
        repository: "docker.io/library/debian".parse().unwrap(),
        manifest: Manifest::read(ManifestType::DockerImage, written.to_string()).unwrap(),
        configuration: Configuration::read(configuration.to_string().as_bytes()).unwrap(),
    }
}

#[test]
fn an_image_on_nothing_is_its_layer_and_the_same_every_time() {
    let made = Image::make(None, layer(), &web(), CREATED).unwrap();
    ensure_whole(&made);
    assert_eq!(made.manifest().blobs().len(), 2);
    let again = Image::make(None, layer(), &web(), CREATED).unwrap();
    assert_eq!(made.manifest().bytes(), again.manifest().bytes());
    let other = Process { user: Some("www-data".to_owned()), ..web() };
    assert_ne!(Image::make(None, layer(), &other, CREATED).unwrap().manifest().digest(), made.manifest().digest());
}

/// Whoever changes these bytes makes other images of what was published before.
#[test]
fn the_bytes_of_an_image_are_what_they_always_were() {
    let made = Image::make(None, layer(), &web(), CREATED).unwrap();
    let Content::Image { config, layers } = made.manifest().content() else { panic!("an image") };
    let ids = Configuration::read(&content(made.blobs.last().unwrap())).unwrap().diff_ids().to_vec();
    let mut digests = vec![&ids[0], &layers[0].digest];
    let mut expected = vec![
        "sha256:3aac13fc656c5de9e4955f8ad02cea89293c8b89d7274daa404d2a2fe882e807",
        "sha256:c5e52594619f0eba23f9007acc8fa4ca78a88edb9aebaf8c66ecd7f559592c34",
    ];
    // A configuration says for which architecture it is.
    if Platform::here().unwrap().architecture == "amd64" {
        digests.extend([&config.digest, made.manifest().digest()]);
        expected.extend([
            "sha256:5e7e4d36cc90d77787e99f591f677314bcdd92364e97d2fc9a534b938b109867",
            "sha256:663100354f9fae517ac1634488532ba4a61f86522f32c038a0d7e19cc4fe56d0",
        ]);
    }
    let digests: Vec<String> = digests.into_iter().map(ToString::to_string).collect();
    assert_eq!(digests, expected);
}

#[test]
fn what_nobody_could_run_or_mount_is_refused() {
    let silent = Image::make(None, layer(), &Process::default(), CREATED).unwrap_err().to_string();
    assert!(silent.contains("nobody could run the image") && silent.contains("`entrypoint`"), "{silent}");
    let mut full = base("application/vnd.docker.image.rootfs.diff.tar.gzip", 127);
    let ids: Vec<Digest> = (0..127).map(digest).collect();
    let json = json!({ "architecture": "arm64", "os": "linux", "rootfs": { "diff_ids": ids } }).to_string();
    full.configuration = Configuration::read(json.as_bytes()).unwrap();
    let refused = Image::make(Some(&full), layer(), &web(), CREATED).unwrap_err().to_string();
    assert!(refused.contains("the base has 127 layers"), "{refused}");
    let layers = vec![&b"one"[..]; 128];
    let directory = TempDir::new().unwrap();
    let (configuration, listed) = (configuration_of(&layers), manifest_json(&["l"; 128]));
    let files: [(&str, &[u8]); 3] = [("l", b"one"), ("c.json", &configuration), ("manifest.json", &listed)];
    let refused = refusal(&archive(&directory.path().join("image.tar"), &files));
    assert!(refused.contains("has 128 layers, and 127 are the most"), "{refused}");
}

#[test]
fn architectures_have_the_names_that_images_know() {
    for (ours, is_little, expected) in
        [("x86_64", true, "amd64 None"), ("arm", true, "arm Some(\"v7\")"), ("powerpc64", true, "ppc64le None")]
    {
        let Platform { architecture, variant, .. } = Platform::called(ours, is_little).unwrap();
        assert_eq!(format!("{architecture} {variant:?}"), expected);
    }
    for (unknown, is_little) in [("powerpc64", false), ("sparc64", false), ("m68k", false)] {
        let refused = Platform::called(unknown, is_little).unwrap_err().to_string();
        assert!(refused.contains(&format!("the architecture `{unknown}` of this machine")), "{refused}");
    }
}

#[test]
fn an_image_on_a_base_names_its_layers_and_where_they_are() {
    let base = base("application/vnd.docker.image.rootfs.diff.tar.gzip", 2);
    let made = Image::make(Some(&base), layer(), &web(), CREATED).unwrap();
    ensure_whole(&made);
    let Content::Image { layers, .. } = made.manifest().content() else { panic!("an image") };
    let digests: Vec<_> = layers.iter().map(|layer| layer.digest.clone()).collect();
    assert_eq!(digests[..2], [digest(0), digest(1)]);
    assert!(layers.iter().all(|layer| layer.media_type.as_str() == MediaType::LAYER_GZIP));
    let elsewhere = made.blobs.iter().filter(|blob| matches!(blob.origin, Origin::Repository(_))).count();
    assert_eq!((elsewhere, made.blobs.len()), (2, 4));
    let annotations = made.manifest().annotations();
    assert_eq!(annotations[BASE_DIGEST], base.manifest.digest().to_string());
    assert_eq!(annotations[BASE_NAME], "docker.io/library/debian");
}

#[test]
fn on_what_is_no_whole_image_nothing_is_built() {
    for (media_type, layers, expected) in [
        ("application/vnd.docker.image.rootfs.diff.tar.gzip", 3, "has 3 layers, and its configuration 2"),
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", 2, "can't be passed on"),
    ] {
        let refused = Image::make(Some(&base(media_type, layers)), layer(), &web(), CREATED).unwrap_err();
        assert!(refused.to_string().contains(expected), "{refused}");
    }
}

type Files<'a> = &'a [(&'a str, &'a [u8])];

/// An archive of these files, each with its content.
fn archive(at: &Path, files: Files<'_>) -> Built {
    let mut tar = tar::Builder::new(fs::File::create(at).unwrap());
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, *content).unwrap();
    }
    tar.into_inner().unwrap();
    format!("docker-archive:{}", at.display()).parse().unwrap()
}

fn configuration_of(layers: &[&[u8]]) -> Vec<u8> {
    let ids: Vec<Digest> = layers.iter().map(|layer| Digest::of(layer)).collect();
    json!({ "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": ids } })
        .to_string()
        .into_bytes()
}

fn manifest_json(layers: &[&str]) -> Vec<u8> {
    json!([{ "Config": "c.json", "RepoTags": ["web:1"], "Layers": layers }]).to_string().into_bytes()
}

fn refusal(built: &Built) -> String {
    format!("{:#}", Image::read(built).unwrap_err())
}

#[test]
fn an_archive_of_docker_is_read_where_it_lies() {
    let directory = TempDir::new().unwrap();
    let (one, two) = (vec![1; 5000], [&[0x1f, 0x8b][..], &[2; 700]].concat());
    let files: [(&str, &[u8]); 5] = [
        ("x/layer.tar", &one),
        ("y.tar.gz", &two),
        ("c.json", &configuration_of(&[&one, b"unpacked", &one])),
        ("repositories", b"{}"),
        ("manifest.json", &manifest_json(&["x/layer.tar", "y.tar.gz", "x/layer.tar"])),
    ];
    let image = Image::read(&archive(&directory.path().join("image.tar"), &files)).unwrap();
    ensure_whole(&image);
    let Content::Image { layers, .. } = image.manifest().content() else { panic!("an image") };
    let kinds: Vec<&str> = layers.iter().map(|layer| layer.media_type.as_str()).collect();
    assert_eq!(kinds, [MediaType::LAYER, MediaType::LAYER_GZIP, MediaType::LAYER]);
    assert_eq!(image.blobs.len(), 3, "a layer that is there twice is uploaded once");
}

/// Before its version 25, Docker wrote of equal layers the first, and links to it.
#[test]
fn of_an_older_archive_links_between_layers_are_followed() {
    let directory = TempDir::new().unwrap();
    let at = directory.path().join("image.tar");
    let write = |links: &[(&str, &str)]| {
        let files: [(&str, &[u8]); 3] = [
            ("a1/layer.tar", b"one"),
            ("c.json", &configuration_of(&[b"one", b"one", b"one"])),
            ("manifest.json", &manifest_json(&["a1/layer.tar", "b2/layer.tar", "c3/layer.tar"])),
        ];
        let built = archive(&at, &files);
        let mut content = fs::read(&at).unwrap();
        content.truncate(content.len() - 1024);
        let mut tar = tar::Builder::new(content);
        for (name, to) in links {
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            tar.append_link(&mut header, name, to).unwrap();
        }
        fs::write(&at, tar.into_inner().unwrap()).unwrap();
        built
    };
    let image =
        Image::read(&write(&[("b2/layer.tar", "../a1/layer.tar"), ("c3/layer.tar", "../b2/layer.tar")])).unwrap();
    ensure_whole(&image);
    let Content::Image { layers, .. } = image.manifest().content() else { panic!("an image") };
    assert_eq!((layers.len(), image.blobs.len()), (3, 2));
    for (links, expected) in [
        (&[("b2/layer.tar", "../../etc/shadow")][..], "`b2/layer.tar` is a link that leads out of it"),
        (&[("b2/layer.tar", "/etc/shadow")], "leads out of it"),
        (&[("b2/layer.tar", "layer.tar")], "there is no `b2/layer.tar` in it"),
        (&[("a1/layer.tar", "../b2/layer.tar")], "`a1/layer.tar` is in it twice"),
    ] {
        let refused = refusal(&write(links));
        assert!(refused.contains(expected), "{refused}");
    }
}

#[test]
fn an_archive_that_is_not_what_it_says_is_refused() {
    let directory = TempDir::new().unwrap();
    let at = directory.path().join("image.tar");
    let (configuration, layers) = (configuration_of(&[b"one"]), manifest_json(&["l"]));
    let two = json!([{ "Config": "c.json", "Layers": [] }, { "Config": "c.json", "Layers": [] }]).to_string();
    let cases: [(Files<'_>, &str); 10] = [
        (&[], "there is no `manifest.json`"),
        (&[("manifest.json", b"{}")], "`manifest.json` is not that of an archive"),
        (&[("manifest.json", two.as_bytes())], "it has 2 images: save one"),
        (&[("manifest.json", br#"[{"Config":"c","Layers":[],"layers":["x"]}]"#)], "`manifest.json` is not that of"),
        (&[("manifest.json", br#"[{"Config":"c","Layers":[],"RepoTags":1,"RepoTags":2}]"#)], "`RepoTags` twice"),
        (&[("manifest.json", &layers)], "there is no `c.json`"),
        (&[("manifest.json", &layers), ("c.json", &configuration)], "there is no `l`"),
        (&[("manifest.json", &layers), ("c.json", &configuration), ("l", b"two")], "as the configuration says"),
        (
            &[("manifest.json", &layers), ("c.json", &configuration_of(&[]))],
            "names 0 layers, and its `manifest.json` 1",
        ),
        (&[("l", b"one"), ("./l", b"one")], "`l` is in it twice"),
    ];
    for (files, expected) in cases {
        let refused = refusal(&archive(&at, files));
        assert!(refused.contains(expected), "{refused}");
    }
    let large = vec![b' '; (1 << 20) + 1];
    assert!(refusal(&archive(&at, &[("manifest.json", &large)])).contains("1048576 is the most"));
    // Cut off within the layer, and no tar at all.
    let built = archive(&at, &[("manifest.json", &layers), ("c.json", &configuration), ("l", &vec![1; 5000])]);
    fs::File::options().write(true).open(&at).unwrap().set_len(4000).unwrap();
    let refused = refusal(&built);
    assert!(
        refused.contains("could not read the layer `l`: the file ends before it does")
            || refused.contains("it is no tar"),
        "{refused}"
    );
    fs::write(&at, [&[0x1f, 0x8b][..], &[7; 2000]].concat()).unwrap();
    assert!(refusal(&built).contains("has to be unpacked first"));
    assert!(
        refusal(&"docker-archive:/none".parse().unwrap()).contains("could not read the image `docker-archive:/none`")
    );
}

/// A layout, as a tree of blobs by their digests.
struct Written {
    directory: TempDir,
}

impl Written {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        fs::create_dir_all(directory.path().join("blobs/sha256")).unwrap();
        fs::write(directory.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Self { directory }
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.directory.path().join("blobs/sha256").join(digest.sha256().as_str())
    }

    fn blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = Digest::of(bytes);
        fs::write(self.path(&digest), bytes).unwrap();
        json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() })
    }

    fn image(&self, layer: &[u8]) -> Value {
        let config = self.blob(MediaType::CONFIG, &configuration_of(&[layer]));
        let layers = [self.blob(MediaType::LAYER, layer)];
        let manifest = json!({ "schemaVersion": 2, "config": config, "layers": layers });
        self.blob(ManifestType::OciImage.as_str(), manifest.to_string().as_bytes())
    }

    fn index(&self, manifests: &[Value]) -> Value {
        let index = json!({ "schemaVersion": 2, "manifests": manifests });
        self.blob(ManifestType::OciIndex.as_str(), index.to_string().as_bytes())
    }

    fn of(&self, manifests: &[Value]) -> Built {
        let index = json!({ "schemaVersion": 2, "manifests": manifests });
        fs::write(self.directory.path().join("index.json"), index.to_string()).unwrap();
        format!("oci:{}", self.directory.path().display()).parse().unwrap()
    }
}

#[test]
fn a_layout_is_read_with_all_its_platforms() {
    let written = Written::new();
    let index = written.index(&[written.image(b"one"), written.image(b"two")]);
    let image = Image::read(&written.of(std::slice::from_ref(&index))).unwrap();
    ensure_whole(&image);
    assert_eq!(image.manifest().digest().to_string(), index["digest"].as_str().unwrap());
    assert_eq!((image.manifests.len(), image.blobs.len()), (3, 4));
    assert!(
        image.manifests[..2].iter().all(|manifest| !manifest.media_type().is_index()),
        "what is listed comes first"
    );
}

#[test]
fn a_layout_that_is_not_what_it_says_is_refused() {
    let written = Written::new();
    let one = written.image(b"one");
    assert!(refusal(&written.of(&[one.clone(), written.image(b"two")])).contains("it has 2 images"));
    let renamed = |key: &str, value: Value| {
        let mut other = one.clone();
        other[key] = value;
        other
    };
    let size = json!(one["size"].as_u64().unwrap() + 1);
    assert!(refusal(&written.of(&[renamed("size", size)])).contains("bytes, and not"));
    assert!(refusal(&written.of(&[renamed("digest", json!("sha256:../../x"))])).contains("`index.json` is none"));
    assert!(refusal(&written.of(&[renamed("mediaType", json!("text/html"))])).contains("media type of a manifest"));
    let deep = (0..6).fold(one.clone(), |below, _| written.index(&[below]));
    assert!(refusal(&written.of(&[deep])).contains("more than 4 deep"));
    // A blob of other bytes, one that is a link to a good one, and one that is gone.
    let path = written.path(&Digest::of(b"one"));
    fs::write(&path, "two").unwrap();
    assert!(refusal(&written.of(std::slice::from_ref(&one))).contains("what is called sha256:"));
    fs::remove_file(&path).unwrap();
    assert!(refusal(&written.of(std::slice::from_ref(&one))).contains("could not read the blob sha256:"));
    fs::write(written.directory.path().join("outside"), "one").unwrap();
    std::os::unix::fs::symlink("../../outside", &path).unwrap();
    assert!(refusal(&written.of(std::slice::from_ref(&one))).contains("could not read the blob sha256:"));
}

#[test]
fn what_was_built_is_named_by_its_kind() {
    for good in ["docker-archive:out/image.tar", "oci:out"] {
        assert_eq!(good.parse::<Built>().unwrap().to_string(), good);
    }
    for bad in ["", "out/image.tar", "oci:", "docker-archive:", "docker:web"] {
        assert!(bad.parse::<Built>().unwrap_err().to_string().contains("docker-archive:FILE"), "{bad}");
    }
}
