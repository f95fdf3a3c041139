//! Dockerfiles, built with commands in containers of this runtime.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use build::{Event, Options, Printer};
use images::{Image, Registries, Store};

use crate::host::{Host, IMAGE, with_host};

struct Bench {
    store: Store,
    context: PathBuf,
    socket: PathBuf,
    events: Arc<Mutex<Vec<Event>>>,
}

impl Bench {
    fn new(host: &Host) -> Self {
        // As the program does; another test may have.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let context = host.directory.path().join("context");
        fs::create_dir_all(&context).unwrap();
        Self {
            store: Store::open(&host.directory.path().join("root/images")).unwrap(),
            context,
            socket: host.run_dir().join("cri.sock"),
            events: Arc::default(),
        }
    }

    fn file(&self, name: &str, text: &str) {
        let path = self.context.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    async fn build(&self, dockerfile: &str, change: impl FnOnce(&mut Options)) -> Result<Image, String> {
        self.file("Dockerfile", dockerfile);
        self.events.lock().unwrap().clear();
        let mut options = Options {
            context: self.context.clone(),
            dockerfile: None,
            target: None,
            arguments: BTreeMap::new(),
            tags: vec!["test.local/built:1".to_owned()],
            labels: Vec::new(),
            no_cache: false,
            pull: false,
            secrets: BTreeMap::new(),
            caches: self.context.join("../caches"),
            socket: self.socket.clone(),
            registries: Registries::default(),
        };
        change(&mut options);
        let events = self.events.clone();
        let printer = Printer::new(move |event| events.lock().unwrap().push(event));
        build::build(&self.store, options, printer).await.map_err(|e| e.to_string())
    }

    /// What commands wrote.
    fn output(&self) -> Vec<String> {
        let events = self.events.lock().unwrap();
        let lines = events.iter().filter_map(|e| match e {
            Event::Output(line) => Some(line.clone()),
            _ => None,
        });
        lines.collect()
    }

    fn cached(&self) -> usize {
        self.events.lock().unwrap().iter().filter(|e| **e == Event::Cached).count()
    }

    /// A file of the image, in whichever layer has it last.
    fn find(&self, image: &Image, path: &str) -> Option<PathBuf> {
        let layers = image.layers.iter().rev();
        layers
            .map(|l| self.store.layer_directory(l).unwrap().join(path))
            .find(|p| p.symlink_metadata().is_ok())
    }

    fn text(&self, image: &Image, path: &str) -> String {
        fs::read_to_string(self.find(image, path).unwrap_or_else(|| panic!("no {path}"))).unwrap()
    }
}

#[test]
fn stages_commands_and_copies() {
    with_host(|host| async move {
        let bench = Bench::new(&host);
        bench.file("src/a.txt", "hello");
        bench.file("src/skipped.md", "no");
        bench.file(".dockerignore", "**/*.md\n");
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(3);
        header.set_mode(0o600);
        header.set_uid(7);
        header.set_gid(8);
        header.set_mtime(9);
        archive.append_data(&mut header, "inside/f", &b"tar"[..]).unwrap();
        fs::write(bench.context.join("data.tar"), archive.into_inner().unwrap()).unwrap();
        let dockerfile = format!(
            "ARG BASE={IMAGE}\nFROM $BASE AS base\nARG WHO=nobody\nENV A=\"hi $WHO\"\n\
             RUN echo to $WHO; echo $A > /greeting\nWORKDIR /app\n\
             COPY --chown=web --chmod=640 src/ ./src/\nADD data.tar /unpacked/\n\
             RUN <<EOF\nset -e\nls src\nid -u > who\nEOF\n\
             FROM base AS unused\nRUN exit 1\n\
             FROM scratch\nCOPY --from=base /greeting /app/src /out/\nCOPY --from=base /unpacked /unpacked\n\
             COPY <<X /etc/conf\nvalue $NONE.\nX\nUSER 1000\nEXPOSE 80\nLABEL k=v\nHEALTHCHECK CMD true\nCMD [\"x\"]\n"
        );
        let with_who = |o: &mut Options| {
            o.arguments.insert("WHO".into(), "world".into());
        };
        let image = bench.build(&dockerfile, with_who).await.unwrap();
        assert_eq!(bench.output(), ["to world", "a.txt"]);
        assert_eq!(image.repo_tags, ["test.local/built:1"]);
        assert_eq!(bench.text(&image, "out/greeting"), "hi world\n");
        assert_eq!(bench.text(&image, "etc/conf"), "value .\n");
        let copied = fs::metadata(bench.find(&image, "out/a.txt").unwrap()).unwrap();
        assert_eq!((copied.uid(), copied.gid(), copied.mode() & 0o777), (101, 102, 0o640));
        let unpacked = fs::metadata(bench.find(&image, "unpacked/inside/f").unwrap()).unwrap();
        assert_eq!((unpacked.uid(), unpacked.gid(), unpacked.mtime()), (7, 8, 9));
        assert!(bench.find(&image, "out/skipped.md").is_none());
        let config: serde_json::Value = serde_json::from_str(&image.config).unwrap();
        let config = &config["config"];
        assert_eq!((&config["User"], &config["Cmd"][0]), (&"1000".into(), &"x".into()));
        assert_eq!(
            (&config["Labels"]["k"], &config["Healthcheck"]["Test"][0]),
            (&"v".into(), &"CMD-SHELL".into())
        );
        assert!(config["ExposedPorts"]["80/tcp"].is_object());

        let again = bench.build(&dockerfile, with_who).await.unwrap();
        assert_eq!((&again.id, bench.output().len(), bench.cached()), (&image.id, 0, 8));
        // What a file has in it counts, not when it was changed.
        bench.file("src/a.txt", "other");
        let other = bench.build(&dockerfile, with_who).await.unwrap();
        assert_eq!(bench.text(&other, "out/a.txt"), "other");
        assert_eq!((bench.output(), bench.cached()), (vec!["a.txt".to_owned()], 2));
        let nameless = bench.store.list().unwrap().iter().filter(|i| i.repo_tags.is_empty()).count();
        assert_eq!(nameless, 1, "the first, whose name the second got; none of single commands");
        assert_eq!(host.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn mounts_of_commands_are_in_no_layer() {
    with_host(|host| async move {
        let bench = Bench::new(&host);
        bench.file("tool", "of the context");
        let secret = host.directory.path().join("secret");
        fs::write(&secret, "hidden").unwrap();
        let dockerfile = format!(
            "FROM {IMAGE} AS one\nRUN echo made > /made\nFROM {IMAGE}\n\
             RUN --mount=type=bind,source=tool,target=/t --mount=type=cache,target=/c \
             --mount=type=secret,id=s --mount=type=bind,from=one,source=/made,target=/m \
             cat /t /run/secrets/s /m; echo; echo x >> /c/count; cat /c/count\n"
        );
        let with_secret = |o: &mut Options| {
            o.secrets.insert("s".into(), secret.clone());
            o.no_cache = true;
        };
        let image = bench.build(&dockerfile, with_secret).await.unwrap();
        assert_eq!(bench.output().join("|"), "of the contexthiddenmade||x");
        for path in ["t", "c", "m", "run/secrets/s"] {
            assert!(bench.find(&image, path).is_none(), "{path}");
        }
        bench.build(&dockerfile, with_secret).await.unwrap();
        assert_eq!(bench.output().last().map(String::as_str), Some("x"), "the cache stays");
        assert_eq!(bench.output().iter().filter(|l| *l == "x").count(), 2);
        assert_eq!(host.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    with_host(|host| async move {
        let bench = Bench::new(&host);
        symlink("/etc/passwd", bench.context.join("out")).unwrap();
        let check = async |steps: &str, part: &str| {
            let error = bench.build(&format!("FROM {IMAGE}\n{steps}\n"), |_| ()).await.unwrap_err();
            assert!(error.contains(part), "{steps}: {error}");
            assert!(bench.store.get("test.local/built:1").unwrap().is_none());
        };
        check("RUN exit 3", "Dockerfile:2: \"/bin/sh -c exit 3\" ended with exit code 3").await;
        check("USER x\nCOPY ../secret /", "Dockerfile:3: ../secret is outside of the build context").await;
        check("COPY out /x", "Dockerfile:2: out: a symbolic link leads out").await;
        check("COPY none /x", "Dockerfile:2: none is not in the build context").await;
        check("COPY --chown=nobody-here Dockerfile /x", "Dockerfile:2: the image has no user").await;
        check("COPY Dockerfile Dockerfile /x", "Dockerfile:2: several sources need a directory").await;
        check("COPY --from=test.invalid/none:1 x /x", "Dockerfile:2: ").await;
        check("RUN --mount=type=secret,id=s,required cat /x", "Dockerfile:2: the secret \"s\"").await;
        check("RUN [\"/no/such\"]", "Dockerfile:2: ").await;
        check("EXPOSE x", "Dockerfile:2: \"x\" is no port").await;
        assert_eq!(host.leftovers(), Vec::<String>::new());
        assert_eq!(bench.store.list().unwrap().len(), 1, "nothing of what failed stays");
    });
}
