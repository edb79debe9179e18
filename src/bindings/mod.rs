// SPDX-License-Identifier: GPL-2.0

//! What bindgen makes of `src/bindings/bindings.h`: the module's own C header
//! and the parts of kernel headers that [`kernel::bindings`] lacks.

#![allow(
    dead_code,
    improper_ctypes,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unreachable_pub,
    unused_imports,
    reason = "generated from C"
)]
#![allow(clippy::undocumented_unsafe_blocks, reason = "generated from C")]

include!(env!("IPCDEMO_BINDINGS"));
