//! A program that does not ask for the software driver cannot get it, wherever the loader searches.

use std::path::PathBuf;
use std::process::Command;

/// The variable that makes this program a child of its own, and what the child is to do.
const CHILD: &str = "SOFTCUDA_TEST_CHILD";

fn folder() -> PathBuf {
    std::env::current_exe().unwrap().parent().unwrap().into()
}

/// Whether a driver that programs find under its own name is the software one.
fn finds_the_software_driver() -> bool {
    // SAFETY: asks for a file, and for a symbol that is looked up only.
    unsafe {
        libloading::Library::new("libcuda.so")
            .is_ok_and(|library| library.get::<*const ()>(b"softcuda_interface").is_ok())
    }
}

fn run_child(task: &str, driver: &str) -> bool {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture"]).env(CHILD, task).env(softcuda::DRIVER_VARIABLE, driver);
    let folder = folder();
    let path = std::env::join_paths([folder.clone(), folder.join("..")]).unwrap();
    command.env("LD_LIBRARY_PATH", path).status().unwrap().success()
}

/// Does nothing unless another test runs it in a process of its own.
#[test]
fn child() {
    match std::env::var(CHILD).as_deref() {
        Ok("never asks") => assert!(!finds_the_software_driver()),
        Ok("asks for the system's") => {
            assert!(softcuda::install().unwrap().is_none());
            assert!(!finds_the_software_driver());
        }
        Ok("asks") => {
            let driver = softcuda::install().unwrap().unwrap();
            assert!(std::ptr::eq(driver, softcuda::install().unwrap().unwrap()));
            assert!(finds_the_software_driver());
        }
        _ => {}
    }
}

#[test]
fn only_who_asks_gets_it() {
    assert!(run_child("never asks", ""));
    assert!(run_child("asks for the system's", "system"));
    assert!(run_child("asks", ""));
}

#[test]
fn no_file_has_a_name_that_programs_search_for() {
    for entry in std::fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(!name.starts_with("libcuda.so") && !name.starts_with("libcuda1"), "{name}");
    }
}
