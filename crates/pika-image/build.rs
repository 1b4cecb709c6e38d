//! Collects the files of the folders that are laid out like the root of a guest (`image` here and in
//! `crates/pika-guest` for every role, `roles/ROLE` here for one) into tables, so that a new file there needs no second
//! mention.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

fn main() {
    let manifest = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    println!("cargo::rerun-if-changed=build.rs");
    let mut table = String::from("pub(crate) const GUEST_FILES: &[GuestFile] = &[\n");
    for folder in ["image", "../pika-guest/image"] {
        let root = manifest.join(folder);
        println!("cargo::rerun-if-changed={}", root.display());
        collect(&root, &root, &mut table);
    }
    table.push_str("];\npub(crate) const ROLE_FILES: &[(&str, &[GuestFile])] = &[\n");
    let roles = manifest.join("roles");
    println!("cargo::rerun-if-changed={}", roles.display());
    for root in sorted_entries(&roles) {
        // What is beside the folders is for people.
        if !root.is_dir() {
            continue;
        }
        let role = root.file_name().expect("it was just listed").display();
        writeln!(table, "    ({:?}, &[", role.to_string()).expect("a string takes what is written");
        collect(&root, &root, &mut table);
        table.push_str("    ]),\n");
    }
    table.push_str("];\n");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it"));
    fs::write(out.join("guest_files.rs"), table).expect("OUT_DIR can be written");
}

fn sorted_entries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory)
        .unwrap_or_else(|error| panic!("cannot read {}: {error}", directory.display()));
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("a directory that opened can be read").path())
        .collect();
    paths.sort();
    paths
}

fn collect(root: &Path, directory: &Path, table: &mut String) {
    for path in sorted_entries(directory) {
        println!("cargo::rerun-if-changed={}", path.display());
        let inside = path
            .strip_prefix(root)
            .expect("it was found below the root");
        // What is at the very top is for people.
        if directory == root && path.is_file() {
            continue;
        }
        let kind = fs::symlink_metadata(&path).expect("it was just listed");
        if kind.is_symlink() {
            let target = fs::read_link(&path).expect("it is a link");
            writeln!(
                table,
                "    GuestFile {{ path: {:?}, content: GuestContent::Symlink({:?}) }},",
                inside.display().to_string(),
                target.display().to_string()
            )
        } else if kind.is_dir() {
            collect(root, &path, table);
            continue;
        } else {
            let executable = kind.permissions().mode() & 0o111 != 0;
            writeln!(
                table,
                "    GuestFile {{ path: {:?}, content: GuestContent::File {{ bytes: include_bytes!({:?}), executable: {executable} }} }},",
                inside.display().to_string(),
                path.canonicalize()
                    .expect("it was just listed")
                    .display()
                    .to_string()
            )
        }
        .expect("a string takes what is written");
    }
}
