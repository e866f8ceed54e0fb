//! The name under which a program finds the shared library: it has the ABI's version, which changes when a program that was
//! built against an older header could not run.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let version = env::var("CARGO_PKG_VERSION").expect("cargo sets it");
    let major = version.split('.').next().expect("a version has a first part");
    match env::var("CARGO_CFG_TARGET_OS").as_deref() {
        Ok("linux" | "freebsd" | "android") => {
            println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libsegfuse.so.{major}");
        }
        Ok("macos") => {
            println!("cargo::rustc-cdylib-link-arg=-Wl,-install_name,@rpath/libsegfuse.{major}.dylib");
        }
        _ => {}
    }
}
