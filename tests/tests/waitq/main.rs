// SPDX-License-Identifier: GPL-2.0

//! The wait queue: who stands on it, whom a wake reaches, and what both are told.
//!
//! Whether somebody sleeps is seen in the queue's own listing, which has the number
//! of each thread; nothing is waited for by the clock.

mod listing;
mod race;
mod requests;
mod slack;
mod variants;
mod waits;
