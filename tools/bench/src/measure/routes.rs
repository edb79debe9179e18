// SPDX-License-Identifier: GPL-2.0

//! System calls that the module answers for the tasks of an enrolled IPC namespace, and what that costs others.
//!
//! On the native side all routes are switched off: the kernel is as if there were no module.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;

use ipcdemo_client::{Factory, Kinds, RouteState, enroll};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::measure::case::{BOTH, Case, Round};
use crate::measure::counter;
use crate::measure::kit::Kit;
use crate::measure::pipe;
use crate::measure::tasks::rest;
use crate::record::{Setting, Side};

/// The standing of the task that makes the calls.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Caller {
    /// No member, and there is none.
    Alone,
    /// No member, while there is one.
    Bystander,
    /// A member: the module answers.
    Member,
}

/// All operations. Those without a member come first, as routes stay armed for a second after the last one is gone.
pub fn cases() -> Vec<Case> {
    [
        ("nobody enrolled", Caller::Alone),
        ("bystander", Caller::Bystander),
        ("member", Caller::Member),
    ]
    .into_iter()
    .flat_map(|(who, caller)| {
        [
            Case::new(
                format!("routes/eventfd2+close, {who}"),
                BOTH,
                move |kit, side| as_caller(kit, side, caller, eventfd),
            )
            .long(),
            Case::new(
                format!("routes/pipe2+close, {who}"),
                BOTH,
                move |kit, side| as_caller(kit, side, caller, pipe),
            )
            .long(),
            Case::new(format!("routes/getppid, {who}"), BOTH, move |kit, side| {
                as_caller(kit, side, caller, getppid)
            }),
        ]
    })
    .map(|case| case.only(Setting::Instructions))
    .collect()
}

/// The very operation of the counter's case.
fn eventfd(kit: &Kit) -> io::Result<Round> {
    counter::create(kit, Side::Native)
}

/// The very operation of the pipe's case.
fn pipe(kit: &Kit) -> io::Result<Round> {
    pipe::create(kit, Side::Native)
}

/// A call that no route is about.
fn getppid(kit: &Kit) -> io::Result<Round> {
    Ok(kit.clock.batch(|| {
        // SAFETY: It takes nothing.
        unsafe { libc::getppid() };
        Ok(())
    }))
}

/// Puts the routes into the state of the side before each round, and has the right task do the operation.
fn as_caller(
    kit: &Kit,
    side: Side,
    caller: Caller,
    operation: fn(&Kit) -> io::Result<Round>,
) -> io::Result<Round> {
    let factory = kit.factory();
    let is_native = kit.whose(side) == Side::Native;
    let mut own = operation(kit)?;
    let member = if is_native || caller == Caller::Alone {
        None
    } else {
        Some(Member::start(Arc::clone(&factory), operation(kit)?)?)
    };
    Ok(Box::new(move |turns| {
        switch(&factory, !is_native, member.is_some())?;
        // Arming and disarming leave work behind.
        rest();
        match &member {
            Some(member) if caller == Caller::Member => member.round(turns),
            _ => own(turns),
        }
    }))
}

/// Fails if routes are not armed afterwards as they are to be. Those that membership itself needs stay armed as long as
/// there is a member; no operation comes by them.
fn switch(factory: &Factory, on: bool, armed: bool) -> io::Result<()> {
    let routes = factory.switch_routes(on).map_err(|error| {
        let why = "routes cannot be switched, for which the module has to be loaded with routes=1";
        io::Error::other(format!("{why}: {error}"))
    })?;
    if routes
        .list
        .iter()
        .any(|route| route.kind.is_some() && (route.state == RouteState::Armed) != armed)
    {
        let not = if armed { "not " } else { "" };
        return Err(io::Error::other(format!(
            "a route is {not}armed: {routes:?}"
        )));
    }
    Ok(())
}

/// A process that is enrolled, and does a round of an operation whenever it is told to.
struct Member {
    process: libc::pid_t,
    /// How many turns each round has.
    orders: File,
    /// The time or instructions of each round.
    answers: File,
}

impl Member {
    /// Starts it, and waits until the module answers its calls.
    fn start(factory: Arc<Factory>, operation: Round) -> io::Result<Self> {
        let (its_orders, orders) = pipe_with(PipeFlags::CLOEXEC)?;
        let (answers, its_answers) = pipe_with(PipeFlags::CLOEXEC)?;
        // SAFETY: Helpers are gone between two cases, so that this process has one thread. Its copy does nothing but
        // serve, and ends without what the original has to do at its end.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                drop((orders, answers));
                let served = serve(&factory, its_orders.into(), its_answers.into(), operation);
                if let Err(error) = &served {
                    eprintln!("a member: {error}");
                }
                // SAFETY: Nothing of this process is needed any more.
                unsafe { libc::_exit(served.is_err().into()) }
            }
            process => {
                let member = Self {
                    process,
                    orders: orders.into(),
                    answers: answers.into(),
                };
                drop((its_orders, its_answers));
                member.round(0)?;
                Ok(member)
            }
        }
    }

    fn round(&self, turns: u64) -> io::Result<f64> {
        let mut figure = [0; size_of::<f64>()];
        (&self.orders).write_all(&turns.to_ne_bytes())?;
        (&self.answers).read_exact(&mut figure)?;
        Ok(f64::from_ne_bytes(figure))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // SAFETY: It is a child that nobody else waits for, and the status may be left out.
        unsafe {
            libc::kill(self.process, libc::SIGKILL);
            libc::waitpid(self.process, std::ptr::null_mut(), 0);
        }
    }
}

/// The member's own loop.
fn serve(
    factory: &Factory,
    mut orders: File,
    mut answers: File,
    mut operation: Round,
) -> io::Result<()> {
    let enrolled = enroll(factory, Kinds::empty(), None).map_err(io::Error::other)?;
    if let Some(refusal) = enrolled.refused {
        return Err(io::Error::other(refusal));
    }
    let mut turns = [0; size_of::<u64>()];
    loop {
        orders.read_exact(&mut turns)?;
        let figure = operation(u64::from_ne_bytes(turns))?;
        answers.write_all(&figure.to_ne_bytes())?;
    }
}
