// SPDX-License-Identifier: GPL-2.0

//! Generates the interface's constants and structs from the C header.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

fn main() {
    let uapi = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../src/uapi");
    for header in ["constants.h", "ipcdemo.h"] {
        println!("cargo::rerun-if-changed={}", uapi.join(header).display());
    }
    for variable in ["BINDGEN", "LIBCLANG_PATH"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }

    // The command, not the crate: the kernel's build needs it anyway, and its
    // fifty dependencies would take longer to compile than all of ours.
    let bindgen = env::var_os("BINDGEN").unwrap_or_else(|| "bindgen".into());
    let output = Command::new(&bindgen)
        .arg(uapi.join("constants.h"))
        .args(["--no-layout-tests", "--with-derive-default"])
        .args(["--rust-target", "1.85"])
        .args(["--allowlist-type", "ipcdemo_.*"])
        .args(["--allowlist-var", "(RUST_CONST_HELPER_)?IPCDEMO_.*"])
        .output()
        .unwrap_or_else(|error| {
            panic!("cannot run {bindgen:?}: {error}; install bindgen, or name it in BINDGEN")
        });
    let generated = String::from_utf8(output.stdout).expect("bindgen writes UTF-8");
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        panic!("{bindgen:?} failed ({}):\n{complaint}", output.status);
    }

    let out = Path::new(&env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("uapi.rs");
    fs::write(&out, generated.replace("RUST_CONST_HELPER_", ""))
        .unwrap_or_else(|error| panic!("cannot write {}: {error}", out.display()));
}
