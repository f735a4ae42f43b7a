//! Manifests as people write them, and what is said of those that are wrong.

use super::*;

const HEAD: &str = "schema = 1\n[package.web]\ndescription = \"Web\"\nmaintainer = \"A <a@example.org>\"\n";

fn parse(text: &str) -> Result<Manifest> {
    Manifest::parse(Path::new("/project"), text)
}

fn error(text: &str) -> String {
    format!("{:#}", parse(text).unwrap_err())
}

#[test]
fn example_of_the_design_is_understood() {
    let manifest = parse(
        r#"
        schema = 1
        [bucket]
        url = "gs://acme-push"
        [defaults]
        maintainer = "Acme <ops@acme.example>"
        [package.web]
        description = "Public web front end"
        arch = "amd64"
        depends = ["nginx (>= 1.18)", "mta | postfix"]
        build = ["cargo", "build", "--release"]
        check = ["/usr/local/bin/web", "--health"]
        contents = [
          { src = "target/release/web", dst = "/usr/local/bin/web", mode = "0755" },
          { src = "dist/**", dst = "/usr/local/share/web/", exclude = ["**/*.map"] },
          { src = "etc/nginx.conf", dst = "/etc/nginx/sites-available/web" },
          { link = "/etc/nginx/sites-enabled/web", to = "../sites-available/web" },
          { dir = "/var/local/web", owner = "www-data", mode = "0750" },
        ]
        [[package.web.unit]]
        file = "systemd/web.service"
        restart = "on-upgrade"
        [[package.web.unit]]
        file = "systemd/web-backup.timer"
        [[package.web.unit]]
        file = "systemd/web-backup.service"
        enable = false
        start = false
        [[package.web.unit]]
        name = "nginx.service"
        restart = "reload"
        [package.grafana]
        deb = "third_party/grafana.deb"
        "#,
    )
    .unwrap();
    let [grafana, web] = &manifest.packages[..] else { panic!("two packages") };
    assert!(matches!(&grafana.source, Source::Prebuilt(of) if of.deb == Path::new("third_party/grafana.deb")));
    let Source::Recipe(recipe) = &web.source else { panic!("a recipe") };
    assert_eq!(recipe.relations, [("Depends", "nginx (>= 1.18), mta | postfix".to_owned())]);
    assert_eq!(recipe.contents.len(), 5);
    assert_eq!(web.units.len(), 4);
    assert_eq!(web.check.as_ref().unwrap().to_string(), "/usr/local/bin/web --health");
}

#[test]
fn a_repository_may_have_images_and_no_packages() {
    assert_eq!(parse("schema = 1\n[images]\nregistry = \"images.example/acme\"").unwrap().packages.len(), 0);
    assert_eq!(error("schema = 1\n[package]"), error("schema = 1"));
}

#[test]
fn a_try_takes_what_any_package_requires() {
    let requires = |own: &str, other: &str| {
        let other = format!("[package.other]\ndeb = \"x.deb\"\n{other}");
        parse(&format!("{HEAD}{own}\n{other}")).unwrap().requires()
    };
    for (own, other) in [("", ""), ("requires = []", ""), ("", "requires = []"), ("requires = [\"deb\"]", "")] {
        assert_eq!(requires(own, other), [ArtifactType::Deb], "{own} {other}");
    }
    assert_eq!(requires("requires = []", "requires = []"), []);
    assert_eq!(requires("requires = [\"image\"]", ""), [ArtifactType::Deb, ArtifactType::Image]);
}

#[test]
fn errors_name_the_table_and_the_key() {
    let table = [
        (String::new(), "`schema` is missing"),
        ("schema = 2".to_owned(), "supports only 1"),
        ("schema = 1".to_owned(), "no packages defined"),
        ("schema = 1\n[packages.web]".to_owned(), "unknown key `packages`; did you mean `package`?"),
        ("schema = 1\n[bucket]\nurl = \"s3://x\"".to_owned(), "[bucket]: invalid `url`"),
        (
            "schema = 1\n[bucket]\nurl = \"gs://acme\"\nannounce = \"push\"".to_owned(),
            "[bucket]: invalid `announce`: invalid topic `push`",
        ),
        ("schema = 1\n[candidates]\nbucket = \"x\"".to_owned(), "[candidates]: invalid `bucket`"),
        ("schema = 1\n[candidates]\nbranch = \"x\"".to_owned(), "[candidates]: `bucket` is missing"),
        (
            "schema = 1\n[bucket]\nurl = \"gs://acme\"\n[candidates]\nbucket = \"gs://acme\"".to_owned(),
            "`bucket` is that of the releases",
        ),
        (
            "schema = 1\n[candidates]\nbucket = \"gs://acme-ci\"\nregistry = \"acme\"".to_owned(),
            "[candidates]: invalid `registry`: `acme`",
        ),
        (
            "schema = 1\n[candidates]\nbucket = \"gs://acme-ci\"\nregistry = \"a.example/x/\"\n[images]\nregistry = \"a.example/x\""
                .to_owned(),
            "[candidates]: `registry` is that of `[images]`",
        ),
        ("schema = 1\n[package.web]".to_owned(), "[package.web]: `description` is missing"),
        (
            "schema = 1\n[package.web]\ndescription = \"x\"\nmaintainer = \"x\"".to_owned(),
            "[package.web]: invalid `maintainer`",
        ),
        ("schema = 1\n[package.\"../x\"]".to_owned(), "[package.../x]: the table name must be a valid app name"),
        ("schema = 1\n[package.Web]".to_owned(), "also be a valid Debian package name"),
        ("schema = 1\n[package.web]\ndeb = \"x.deb\"\ndepends = [\"y\"]".to_owned(), "`depends` has no effect"),
        (format!("{HEAD}dependss = []"), "unknown key `dependss`; did you mean `depends`?"),
        (format!("{HEAD}depends = [\"nginx (>> >> 1)\"]"), "[package.web]: invalid `depends`"),
        (format!("{HEAD}arch = \"x86 64\""), "[package.web]: invalid `arch`"),
        (format!("{HEAD}version = \"one\""), "[package.web]: invalid `version`"),
        (format!("{HEAD}compression = \"gzip\""), "use \"zstd\" or \"xz\""),
        (format!("{HEAD}check = [\"web\"]"), "[package.web]: invalid `check`"),
        (format!("{HEAD}requires = [\"debs\"]"), "`debs` is no type of artifacts that is known"),
        (format!("{HEAD}contents = [{{ src = \"a\" }}]"), "[package.web] contents[0]: `dst` is missing"),
        (format!("{HEAD}scripts = {{ postint = \"\" }}"), "did you mean `postinst`?"),
    ];
    for (text, expected) in table {
        let error = error(&text);
        assert!(error.contains(expected), "{text}\ngave: {error}\nexpected: {expected}");
    }
}
