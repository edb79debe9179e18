// SPDX-License-Identifier: GPL-2.0

//! Measures the module's objects against the kernel's own, and tells what came out.
//!
//! [`measure`] runs where the module is, most often in a VM, and gives a [`Run`](record::Run).
//! Everything else works on such runs, wherever they come from.

pub mod bars;
pub mod compare;
pub mod counts;
pub mod measure;
#[cfg(feature = "report")]
pub mod page;
#[cfg(feature = "report")]
pub mod plot;
pub mod profile;
pub mod reasons;
pub mod record;
pub mod stats;
pub mod table;
pub mod trust;
