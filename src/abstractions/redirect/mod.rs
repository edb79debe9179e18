// SPDX-License-Identifier: GPL-2.0

//! Redirection of kernel functions, for the tasks of enrolled IPC namespaces.
//!
//! The function tracer calls a handler at the entry of each redirected function. If the caller is a member, the handler
//! sets the instruction pointer to an answer of this module with the original's signature, which runs in the
//! original's place and returns to the original's caller. `docs/routes.md` draws it. The rules:
//!
//! - The decision is data ([`hook::Decide`]): a handler must not sleep, and a closure could.
//! - **A call on a file of this module's is pinned by the file**, which holds a reference to the module and which its caller keeps open.
//! - **A call of a member is pinned by its namespace**: each record of a [`members::Member`] holds a reference to the
//!   module, and the caller's namespace outlives the call. The reference is given back only after disarming
//!   succeeded. [`routes::Started`] ends with `synchronize_rcu_tasks`, for tasks that were preempted in an answer's last
//!   instructions.
//! - **A missed call is harmless**: no kernel structure holds a pointer of ours that the original would follow.
//! - An original is called by a direct call that is patched in, behind its entry to the tracer: see
//!   `src/bindings/redirect.c`.
//!
//! C headers: [`include/linux/ftrace.h`](srctree/include/linux/ftrace.h),
//! [`include/linux/ipc_namespace.h`](srctree/include/linux/ipc_namespace.h).

mod counts;
mod hook;
pub(crate) mod members;
mod namespace;
pub(crate) mod pipe;
pub(crate) mod routes;
pub(crate) mod syscall;
