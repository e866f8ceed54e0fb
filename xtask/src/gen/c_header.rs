//! `segfuse.h`, from the C library's crate.

use crate::root;
use anyhow::Context;
use cbindgen::{Braces, Config, DocumentationStyle, ItemType, Language, Style};

/// What stands before the first declaration.
const OPENING: &str = "\
/*
 * segfuse: image-segmentation losses and their gradients, fused. docs/c.md is the page with examples.
 *
 * Errors.    Every function that can fail returns a segfuse_status, 0 when all went well; segfuse_last_error() says in words
 *            and numbers what was wrong. No function ends the program, but for the allocator of the library when no memory
 *            is left.
 * Objects.   Devices, plans, evaluations, moments and coefficients are handles: small structs that are passed by value and
 *            compared by `id`. A handle that was destroyed or never made gives SEGFUSE_INVALID_HANDLE, never undefined
 *            behaviour: no id is used twice. What a function makes, the caller destroys; an object may be destroyed while
 *            another thread still computes with it.
 * Memory.    Buffers, arrays and texts belong to the caller and are used during the call alone. What cannot be known, such as
 *            whether an address really holds as many bytes as the call says, is the caller's promise.
 * Threads.   Every function may be called from any thread at any time, with the same handles too. Do not call after fork()
 *            in a process that has already computed: the threads of the pool are not there any more.
 * Versions.  Structs that begin with `size` may grow: fill them with zeros and set `size` to their sizeof. Fields that an
 *            older caller does not know mean 0; fields that an older library does not know must be 0.
 *
 * Made by `cargo xtask gen`; not to be edited. MIT OR Apache-2.0.
 */";

pub(super) fn text() -> anyhow::Result<String> {
    let mut config = Config {
        language: Language::C,
        header: Some(OPENING.into()),
        include_guard: Some("SEGFUSE_H".into()),
        no_includes: true,
        sys_includes: vec!["stddef.h".into(), "stdint.h".into()],
        cpp_compat: true,
        usize_is_size_t: true,
        style: Style::Both,
        braces: Braces::SameLine,
        line_length: 120,
        tab_width: 4,
        documentation_style: DocumentationStyle::Doxy,
        ..Config::default()
    };
    config.export.item_types =
        vec![ItemType::Constants, ItemType::Enums, ItemType::Structs, ItemType::Typedefs, ItemType::Functions];
    let folder = root().join("bindings/c");
    let bindings = cbindgen::Builder::new().with_crate(&folder).with_config(config).generate();
    let bindings = bindings.with_context(|| format!("cannot make the header of {}", folder.display()))?;
    let mut text = Vec::new();
    bindings.write(&mut text);
    let text = String::from_utf8(text).context("the header is not UTF-8")?;
    // What Rust calls safety are the caller's duties.
    Ok(text.replace("\n * # Safety\n", "\n * The caller promises:\n"))
}
