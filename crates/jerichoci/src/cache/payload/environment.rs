//! Owns the environment of jobs that take a payload: what was linked and generated elsewhere needs the same programs
//! and libraries at hand. Pure: the guest is asked by whoever has one, with [`PROBE_SCRIPT`].

use std::collections::BTreeMap;

use pika_cloud::paths::{JOB_PATH_TAIL, SYSTEM_BIN_DIR};

/// Libraries of the graphics driver, in guests that have one.
const OPENGL_DRIVER_DIR: &str = "/run/opengl-driver/lib";

/// For `sh -c`, as root of a guest in which nothing of a job's has run: says where it has what payloads need, for
/// [`StagedPrograms::told`]. What is in the system's own folder of programs is on every job's `PATH`.
pub const PROBE_SCRIPT: &str = r#"
PATH=/run/current-system/sw/bin:/usr/sbin:/usr/bin:/sbin:/bin
there() { for each; do [ -e "$each" ] && printf '%s\n' "$each"; done | sort -V | tail -n 1; }
postgres=$(there /usr/lib/postgresql/*/bin/postgres)
[ -n "$postgres" ] && printf 'postgresql=%s\n' "${postgres%/*}"
case $(readlink -f /run/current-system/sw/lib) in
/lib | /usr/lib) ;; # where the loader looks by itself
*) [ -d /run/current-system/sw/lib ] && echo library=/run/current-system/sw/lib ;;
esac
clang=$(there /usr/lib/llvm-*/lib/libclang.so* /usr/lib/llvm-*/lib/libclang-[0-9]*.so*)
[ -e /run/current-system/sw/lib/libclang.so ] && clang=/run/current-system/sw/lib/libclang.so
[ -n "$clang" ] && printf 'libclang=%s\n' "${clang%/*}"
[ -d /run/opengl-driver/lib ] && echo opengl=yes
exit 0
"#;

/// Where a guest image has what payloads need. Directories of the guest, absolute.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StagedPrograms {
    /// Programs of PostgreSQL.
    pub postgresql_bin: Option<String>,
    /// Libraries that prepared binaries are linked with.
    pub library_dirs: Vec<String>,
    /// The directory of `libclang.so`.
    pub libclang_dir: Option<String>,
    /// Whether the guest has a graphics driver's libraries.
    pub opengl_driver: bool,
}

impl StagedPrograms {
    /// What a guest said to [`PROBE_SCRIPT`].
    pub fn told(said: &str) -> Self {
        let mut programs = Self::default();
        for (what, value) in said.lines().filter_map(|line| line.split_once('=')) {
            let value = value.to_owned();
            match what {
                "postgresql" => programs.postgresql_bin = Some(value),
                "library" => programs.library_dirs.push(value),
                "libclang" => programs.libclang_dir = Some(value),
                "opengl" => programs.opengl_driver = true,
                _ => {}
            }
        }
        programs
    }
}

/// Environment to add to a job's own, which is `of_lane`: the lane's `PATH` and `LD_LIBRARY_PATH` stay, behind what
/// payloads need, and its `LIBCLANG_PATH` wins.
pub fn staged_environment(
    programs: &StagedPrograms,
    of_lane: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let lanes_own = |name: &str| of_lane.get(name).filter(|value| !value.is_empty()).cloned();
    let mut env = BTreeMap::new();
    let mut set = |name: &str, value: String| env.insert(name.to_owned(), value);

    let path = lanes_own("PATH").unwrap_or_else(|| JOB_PATH_TAIL.to_owned());
    let mut paths: Vec<String> = programs.postgresql_bin.iter().cloned().collect();
    paths.extend([SYSTEM_BIN_DIR.to_owned(), path]);
    set("PATH", paths.join(":"));

    let mut libraries = programs.library_dirs.clone();
    if programs.opengl_driver {
        libraries.insert(0, OPENGL_DRIVER_DIR.to_owned());
    }
    libraries.extend(lanes_own("LD_LIBRARY_PATH"));
    // An empty one would mean the working directory.
    if !libraries.is_empty() {
        set("LD_LIBRARY_PATH", libraries.join(":"));
    }
    if let Some(dir) = lanes_own("LIBCLANG_PATH").or_else(|| programs.libclang_dir.clone()) {
        set("LIBCLANG_PATH", dir);
    }
    env
}

#[cfg(test)]
mod tests {
    use super::*;

    fn programs() -> StagedPrograms {
        StagedPrograms {
            postgresql_bin: Some("/pg/bin".to_owned()),
            library_dirs: vec!["/a/lib".to_owned(), "/b/lib".to_owned()],
            libclang_dir: Some("/clang/lib".to_owned()),
            opengl_driver: true,
        }
    }

    fn shown(programs: &StagedPrograms, of_lane: &[(&str, &str)]) -> String {
        let own = of_lane
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let env = staged_environment(programs, &own);
        let lines: Vec<String> = env
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        lines.join("\n")
    }

    #[test]
    fn everything_that_there_is_is_on_its_path() {
        insta::assert_snapshot!(shown(&programs(), &[]), @"
        LD_LIBRARY_PATH=/run/opengl-driver/lib:/a/lib:/b/lib
        LIBCLANG_PATH=/clang/lib
        PATH=/pg/bin:/run/current-system/sw/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
        ");
    }

    #[test]
    fn what_a_guest_says_is_read() {
        let said = "postgresql=/pg/bin\nlibrary=/a/lib\nlibrary=/b/lib\nlibclang=/clang/lib\nopengl=yes\nother=x\n";
        assert_eq!(StagedPrograms::told(said), programs());
        assert_eq!(StagedPrograms::told(""), StagedPrograms::default());
    }

    #[test]
    fn the_lanes_own_words_stay() {
        let of_lane = [
            ("PATH", "/lane/bin"),
            ("LD_LIBRARY_PATH", "/lane/lib"),
            ("LIBCLANG_PATH", "/lane/clang"),
            ("OTHER", "x"),
        ];
        insta::assert_snapshot!(shown(&programs(), &of_lane), @"
        LD_LIBRARY_PATH=/run/opengl-driver/lib:/a/lib:/b/lib:/lane/lib
        LIBCLANG_PATH=/lane/clang
        PATH=/pg/bin:/run/current-system/sw/bin:/lane/bin
        ");
    }

    #[test]
    fn what_there_is_not_is_not_named() {
        insta::assert_snapshot!(shown(&StagedPrograms::default(), &[("LD_LIBRARY_PATH", "")]), @"PATH=/run/current-system/sw/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    }
}
