//! Prepared payloads in runs: made by one lane, taken by others, gone with the run.

use pikahut::stack::TestIncus;

use crate::bench_tree::{Tree, lane};
use crate::caches::volumes;
use crate::durability::{CREATE, DELETE};
use crate::gate::{At, Gate, Stop};
use crate::program::{kill, start, until_logged};

const AT: &str = "/staged/linux-rust/workspace-deps";
const MAKES: &str = "outputs = [\"workspace-deps\"]";
const TAKES: &str = "inputs = [\"workspace-deps\"]";
const SHOW: &str = "env | grep -E '^(PATH|LD_LIBRARY_PATH|LIBCLANG_PATH)=' | sort";

async fn assert_nothing_left(incus: &TestIncus) {
    assert_eq!(volumes(incus).await, Vec::<String>::new());
    incus.assert_nothing_left().await;
}

fn told(tree: &Tree, lane: &str) -> String {
    String::from_utf8_lossy(&tree.log(lane)).into_owned()
}

/// Host directories in place of what an image with PostgreSQL and libclang has, and a volume in place of a graphics
/// driver: no container sees a host directory below `/run`.
fn configure_programs(tree: &Tree) {
    let host = tree.config().parent().expect("a folder").join("programs");
    for (name, file, guest_path) in [
        ("pg", "postgres", "/usr/lib/postgresql/15/bin"),
        ("clang", "libclang.so", "/usr/lib/llvm-14/lib"),
    ] {
        let source = host.join(name);
        std::fs::create_dir_all(&source).expect("made");
        std::fs::write(source.join(file), "").expect("written");
        tree.configure(&format!(
            "[mounts.{name}]\nsource = {source:?}\nmode = \"read_only\"\nguest_path = {guest_path:?}\n"
        ));
    }
    tree.configure("[caches.gl]\nguest_path = \"/run/opengl-driver/lib\"\n");
}

#[tokio::test]
async fn what_one_lane_makes_others_read_and_not_even_root_changes() {
    let incus = TestIncus::shared().await;
    let makes = format!("cd {AT}; mkdir lib; echo built > lib/x; ln -s lib/x link; {SHOW}");
    let takes = format!("cat {AT}/link; {SHOW}");
    let root = format!(
        "exec 2>&1; cd {AT}; echo evil > lib/x; echo evil > new; rm -rf lib; chmod 777 lib
         mount -o remount,rw {AT}; mount -o remount,bind,rw {AT}; echo evil > lib/x
         mkdir /m; mount --bind {AT} /m; mount -o remount,bind,rw /m; echo evil > /m/lib/x
         cat lib/x; ls; true"
    );
    let with_programs = format!("{TAKES}\nmounts = [\"pg\", \"clang\"]\ncaches = [\"gl\"]");
    let lanes = [
        lane("takes", &takes, TAKES),
        lane("programs", &takes, &with_programs),
        lane("root", &root, &format!("{TAKES}\nrun_as_root = true")),
        lane("makes", &makes, MAKES),
        lane("other", &format!("ls {AT}; {SHOW}"), ""),
    ];
    let tree = Tree::on(&incus, &lanes.concat()).await;
    configure_programs(&tree);
    tree.run(&["run", "--all"]).await.assert_code(0);
    let tail =
        "/run/current-system/sw/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let plain = format!("PATH={tail}\n");
    assert_eq!(told(&tree, "makes"), plain, "who makes one is as any other");
    assert_eq!(told(&tree, "other"), plain, "and sees none");
    assert_eq!(told(&tree, "takes"), format!("built\n{plain}"));
    assert_eq!(
        told(&tree, "programs"),
        format!(
            "built\nLD_LIBRARY_PATH=/run/opengl-driver/lib\nLIBCLANG_PATH=/usr/lib/llvm-14/lib\n\
             PATH=/usr/lib/postgresql/15/bin:{tail}\n"
        )
    );
    let root = told(&tree, "root");
    assert!(root.ends_with("built\nlib\nlink\n"), "{root}");
    assert_eq!(root.matches("Read-only file system").count(), 6, "{root}");
    assert_nothing_left(&incus).await;
}

#[tokio::test]
async fn a_lane_runs_with_the_one_that_makes_what_it_takes_and_tells_so() {
    let incus = TestIncus::shared().await;
    let lanes = [
        lane("takes", &format!("cat {AT}/x"), TAKES),
        lane("makes", &format!("echo built > {AT}/x"), MAKES),
    ];
    let tree = Tree::on(&incus, &lanes.concat()).await;
    let shown = tree.run(&["lanes"]).await.assert_code(0).stdout.clone();
    assert!(
        shown.contains("takes `workspace-deps` from lane `makes`"),
        "{shown}"
    );
    tree.run(&["run", "takes"]).await.assert_code(0);
    assert_eq!(told(&tree, "takes"), "built\n");
    for (lane, words) in [
        ("takes", "It takes `workspace-deps` from lane `makes`."),
        ("makes", "Chosen: needed by lane takes."),
        ("makes", "It makes `workspace-deps` for other lanes."),
    ] {
        let why = tree.run(&["why", lane]).await;
        assert!(why.assert_code(0).stdout.contains(words), "{}", why.stdout);
    }
    let shell = tree.run(&["shell", "takes", "--", "true"]).await;
    shell.assert_code(2);
    assert!(shell.stderr.contains("only a run"), "{}", shell.stderr);
    assert_nothing_left(&incus).await;
}

#[tokio::test]
async fn what_is_no_payload_is_refused_and_nobody_takes_it() {
    let incus = TestIncus::shared().await;
    let lanes = [
        lane("makes", "bash make.sh", MAKES),
        lane("takes", "true", TAKES),
    ];
    let tree = Tree::on(&incus, &lanes.concat()).await;
    for (script, outcome, cause) in [
        ("touch x; exit 3", "failed", ""),
        ("true", "output_refused", "left nothing at /staged"),
        (
            "mkdir d; ln -s ../../etc d/out",
            "output_refused",
            "the link `d/out` leads out of it, to `../../etc`",
        ),
        ("mkfifo p", "output_refused", "`p` is a pipe"),
        (
            "truncate -s 40G x",
            "output_refused",
            "bytes, and 34359738368 are allowed",
        ),
    ] {
        let file = tree.root().join("make.sh");
        std::fs::write(file, format!("cd {AT} || exit 9\n{script}\n")).expect("written");
        let ended = tree.run(&["run", "--all"]).await;
        ended.assert_code(1);
        let result = tree.result("makes");
        assert_eq!(result["outcome"], outcome, "{result}");
        let said = result["cause"].as_str().unwrap_or_default();
        assert!(said.contains(cause), "{script}: {said}");
        assert!(ended.stdout.contains(cause), "{}", ended.stdout);
        let result = tree.result("takes");
        assert_eq!(
            result["reason"],
            "takes `workspace-deps` from lane `makes`, which did not pass"
        );
        assert_nothing_left(&incus).await;
    }
}

/// A run that was killed while its second lane held the payload.
async fn killed_while_taken(incus: &TestIncus, kill_maker: bool) -> Tree {
    let lanes = [
        lane(
            "makes",
            &format!("echo making; sleep 4; echo built > {AT}/x"),
            MAKES,
        ),
        lane(
            "takes",
            &format!("cat {AT}/x; echo taking; sleep 6; cat {AT}/x"),
            TAKES,
        ),
    ];
    let tree = Tree::on(incus, &lanes.concat()).await;
    let mut child = start(&tree, &["run", "takes"]);
    if kill_maker {
        until_logged(&tree, "makes", "making").await;
        kill(child).await;
        assert_eq!(volumes(incus).await.len(), 1);
        child = start(&tree, &["resume"]);
    }
    until_logged(&tree, "takes", "taking").await;
    kill(child).await;
    assert_eq!(volumes(incus).await.len(), 1);
    tree
}

#[tokio::test]
async fn a_run_that_is_taken_up_twice_still_has_its_payload() {
    let incus = TestIncus::shared().await;
    let tree = killed_while_taken(&incus, true).await;
    tree.run(&["resume"]).await.assert_code(0);
    assert_eq!(told(&tree, "takes"), "built\ntaking\nbuilt\n");
    assert_nothing_left(&incus).await;
}

#[tokio::test]
async fn a_payload_whose_maker_was_not_wound_up_is_sealed_by_whoever_takes_the_run_up() {
    let incus = TestIncus::shared().await;
    let lanes = [
        lane("makes", &format!("echo built > {AT}/x"), MAKES),
        lane("takes", &format!("cat {AT}/x"), TAKES),
    ];
    let sealing = Stop {
        method: "PATCH",
        path: "/1.0/storage-pools/",
        ..CREATE
    };
    let sealed = Stop {
        at: At::Answer,
        ..sealing
    };
    for stop in [DELETE, sealing, sealed] {
        let tree = Tree::on(&incus, &lanes.concat()).await;
        let mut gate = Gate::open(incus.socket(), stop);
        let socket = gate.socket();
        let socket = socket.to_str().expect("text");
        let child = start(&tree, &["run", "takes", "--socket", socket]);
        gate.stopped().await;
        kill(child).await;
        drop(gate);
        let result = tree.result("makes");
        assert_eq!(result["outcome"], "passed", "{stop:?}");
        tree.run(&["resume"]).await.assert_code(0);
        assert_eq!(told(&tree, "takes"), "built\n", "{stop:?}");
        assert_nothing_left(&incus).await;
    }
}

#[tokio::test]
async fn what_a_killed_run_made_goes_when_it_is_given_up() {
    let incus = TestIncus::shared().await;
    let tree = killed_while_taken(&incus, false).await;
    let id = tree.newest_id();
    tree.run(&["cancel", &id]).await.assert_code(0);
    assert_nothing_left(&incus).await;
}
