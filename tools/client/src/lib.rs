// SPDX-License-Identifier: GPL-2.0

//! A typed client of the ipcdemo kernel module.
//!
//! ```no_run
//! use ipcdemo_client::{CounterFlags, Factory};
//!
//! let factory = Factory::open()?;
//! let counter = factory.counter(0, CounterFlags::CLOEXEC)?;
//! counter.write(3)?;
//! counter.write(4)?;
//! assert_eq!(counter.read()?, 7);
//! # Ok::<(), std::io::Error>(())
//! ```

mod counter;
mod enroll;
mod error;
mod factory;
mod fifo;
mod limits;
mod namespace;
mod null;
mod object;
mod pipe;
pub mod raw;
mod routes;
mod tally;
mod waitq;

pub use counter::{Counter, CounterFlags};
pub use enroll::{
    EnrollError, Enrolled, Refusal, RefusalReason, SealFlags, enroll, enroll_own, prove,
};
pub use error::OpenError;
pub use factory::Factory;
pub use fifo::{Fifo, fifo_path};
pub use limits::LostLimit;
pub use namespace::{NamespaceError, OwnNamespace, own_namespace};
pub use null::{Null, NullFlags};
pub use object::{Kind, Object};
pub use pipe::{PipeFlags, PipeLimits, PipeLimitsChange, PipeReader, PipeWriter};
pub use routes::{Kinds, Namespace, Route, RouteState, Routes};
pub use tally::{Left, Sums, Tally};
pub use waitq::{
    Keys, Listing, PassedOn, Reason, Receipt, StoppedBy, WaitOptions, Waiter, WaiterKind, Waitq,
    WaitqFlags, WakeOptions, WakeReceipt, monotonic,
};
