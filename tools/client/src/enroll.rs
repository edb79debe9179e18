// SPDX-License-Identifier: GPL-2.0

//! How a process makes the module answer its own system calls.

use std::arch::asm;
use std::error::Error;
use std::ffi::c_int;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr;
use std::thread;
use std::time::Duration;

use bitflags::bitflags;

use crate::namespace::{NamespaceError, own_namespace};
use crate::waitq::text;
use crate::{Factory, Kinds, Tally, factory, raw};

/// Makes [`RefusalReason`] of the reasons in the interface.
macro_rules! reasons {
    ($($(#[$doc:meta])* $reason:ident = $number:ident;)*) => {
        /// Why a namespace, or a kind of call in it, was not enrolled.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub enum RefusalReason {
            $($(#[$doc])* $reason,)*
            /// One that this library, older than the module, does not know; 0 if the module
            /// gave none.
            Unknown(u32),
        }

        impl From<u32> for RefusalReason {
            fn from(reason: u32) -> Self {
                match reason {
                    $(raw::$number => Self::$reason,)*
                    unknown => Self::Unknown(unknown),
                }
            }
        }
    };
}

reasons! {
    /// The module was loaded without routes.
    Without = IPCDEMO_REFUSED_WITHOUT;
    /// Routes are switched off.
    Off = IPCDEMO_REFUSED_OFF;
    /// The kernel is locked down.
    Lockdown = IPCDEMO_REFUSED_LOCKDOWN;
    /// The kernel has no function tracer, or it is broken.
    Tracer = IPCDEMO_REFUSED_TRACER;
    /// The caller has no CAP_SYS_ADMIN over the namespace.
    Capability = IPCDEMO_REFUSED_CAPABILITY;
    /// It is the initial namespace.
    Initial = IPCDEMO_REFUSED_INITIAL;
    /// Another task runs in the process's memory: a thread, or the parent of a child of vfork(2).
    Threads = IPCDEMO_REFUSED_THREADS;
    /// Another task, descriptor or mount has the namespace.
    Shared = IPCDEMO_REFUSED_SHARED;
    /// There are objects in it.
    Used = IPCDEMO_REFUSED_USED;
    /// It is enrolled already.
    Twice = IPCDEMO_REFUSED_TWICE;
    /// The function cannot be redirected in this kernel.
    Absent = IPCDEMO_REFUSED_ABSENT;
    /// The function is livepatched, or redirected by another module.
    Taken = IPCDEMO_REFUSED_TAKEN;
    /// No call of the function came through.
    Unseen = IPCDEMO_REFUSED_UNSEEN;
    /// The namespace is not enrolled.
    NotArmed = IPCDEMO_REFUSED_NOT_ARMED;
    /// It is sealed already.
    Sealed = IPCDEMO_REFUSED_SEALED;
}

/// Why a namespace, or some kinds of calls in it, are not enrolled. As text it is a sentence
/// that says what to do about it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// The error of the system call; 0 if other kinds are enrolled.
    pub errno: i32,
    /// Why.
    pub reason: RefusalReason,
    /// The kernel's function that the reason is about, or nothing.
    pub function: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let function = &self.function;
        match self.reason {
            RefusalReason::Without => {
                f.write_str("the module was loaded without routes: load it with routes=1")
            }
            RefusalReason::Off => {
                f.write_str("routes are switched off: switch them on with `ipcdemo routes --on`")
            }
            RefusalReason::Lockdown => f.write_str(
                "the kernel is locked down, which forbids to redirect its functions: boot it \
                 without lockdown=confidentiality",
            ),
            RefusalReason::Tracer => f.write_str(
                "the kernel cannot redirect its functions: boot one with \
                 CONFIG_DYNAMIC_FTRACE_WITH_ARGS whose function tracer works",
            ),
            RefusalReason::Capability => f.write_str(
                "enrollment needs CAP_SYS_ADMIN in the user namespace that owns the IPC namespace: \
                 become root there",
            ),
            RefusalReason::Initial => f.write_str(
                "this is the initial IPC namespace: make another first, as `unshare --ipc` does",
            ),
            RefusalReason::Threads => f.write_str(
                "another thread or process runs in this process's memory: enroll before it \
                     starts any, and not in a child of vfork(2)",
            ),
            RefusalReason::Shared => f.write_str(
                "another task, an open descriptor or a mount has this IPC namespace \
                 (`ls -l /proc/*/ns/ipc /proc/*/fd`, `findmnt -t nsfs`): make another with \
                 unshare(2)",
            ),
            RefusalReason::Used => f.write_str(
                "there are objects in this IPC namespace, or the process has semaphore \
                 adjustments (`ipcs`): make another with unshare(2)",
            ),
            RefusalReason::Twice => {
                f.write_str("this IPC namespace is enrolled already: nothing is left to do")
            }
            RefusalReason::Absent => write!(
                f,
                "the kernel's {function} cannot be redirected: it is missing, or no function that \
                 the tracer knows; leave out its kind with --only"
            ),
            RefusalReason::Taken => write!(
                f,
                "the kernel's {function} is livepatched or redirected already: remove that \
                 (`cat /sys/kernel/tracing/enabled_functions`)"
            ),
            RefusalReason::Unseen => write!(
                f,
                "no call of the kernel's {function} came through to the module: make each call \
                 once between the two steps, in a process that no filter of system calls keeps \
                 from it"
            ),
            RefusalReason::NotArmed => f.write_str(
                "this IPC namespace is not enrolled: it takes the first step, \
                 IPCDEMO_IOC_ARM, before the second",
            ),
            RefusalReason::Sealed => {
                f.write_str("this IPC namespace is sealed already: nothing is left to do")
            }
            RefusalReason::Unknown(0) if self.errno == libc::ENOTTY => {
                f.write_str("the module knows no routes: load one that is as new as this program")
            }
            RefusalReason::Unknown(0) => {
                write!(f, "{}", io::Error::from_raw_os_error(self.errno))
            }
            RefusalReason::Unknown(reason) => write!(
                f,
                "the module refuses for its reason {reason}, which this program is too old to know"
            ),
        }
    }
}

impl Error for Refusal {}

/// The kinds that are enrolled, and why others are not.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Enrolled {
    /// The kinds of calls that the module answers.
    pub kinds: Kinds,
    /// Why others that were asked for are not among them.
    pub refused: Option<Refusal>,
}

bitflags! {
    /// How [`Factory::seal`] judges.
    #[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
    pub struct SealFlags: u32 {
        /// The calls of 32-bit programs need not have been seen: such programs cannot run here.
        const WITHOUT_IA32 = raw::IPCDEMO_SEAL_WITHOUT_IA32;
    }
}

impl Factory {
    /// Enrolls the caller's IPC namespace, which has to be fresh: from now on the module answers
    /// the calls of its tasks. No kinds stand for all.
    pub fn arm(&self, kinds: Kinds) -> Result<Enrolled, Refusal> {
        step(self.as_fd(), raw::IPCDEMO_IOC_ARM, kinds, 0)
    }

    /// Ends the enrollment of those kinds of which a call was not seen to come through since
    /// [`Factory::arm`]. No kinds stand for all.
    pub fn seal(&self, kinds: Kinds, flags: SealFlags) -> Result<Enrolled, Refusal> {
        step(self.as_fd(), raw::IPCDEMO_IOC_SEAL, kinds, flags.bits())
    }
}

/// Asks the factory or a tally for one of the two steps.
pub(crate) fn step(
    fd: BorrowedFd<'_>,
    request: u32,
    kinds: Kinds,
    flags: u32,
) -> Result<Enrolled, Refusal> {
    let mut args = raw::ipcdemo_enroll_args {
        kinds: kinds.bits(),
        flags,
        ..Default::default()
    };
    let result = factory::call(fd, request, &mut args);
    let refusal = |errno| Refusal {
        errno,
        reason: args.reason.into(),
        function: text(&args.function),
    };
    match result {
        Ok(()) => Ok(Enrolled {
            kinds: Kinds::from_bits_retain(args.kinds),
            refused: (args.reason != 0).then(|| refusal(0)),
        }),
        Err(error) => Err(refusal(error.raw_os_error().unwrap_or_default())),
    }
}

/// Why [`enroll`] failed.
#[derive(Debug)]
pub enum EnrollError {
    /// There is no IPC namespace to be had.
    Namespace(NamespaceError),
    /// The proving calls could not be made.
    Proof(io::Error),
    /// The module refused.
    Refused(Refusal),
}

impl fmt::Display for EnrollError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Namespace(error) => error.fmt(f),
            Self::Proof(error) => write!(f, "cannot make the proving calls: {error}"),
            Self::Refused(refusal) => refusal.fmt(f),
        }
    }
}

impl Error for EnrollError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Namespace(error) => Some(error),
            Self::Proof(error) => Some(error),
            Self::Refused(refusal) => Some(refusal),
        }
    }
}

impl From<NamespaceError> for EnrollError {
    fn from(error: NamespaceError) -> Self {
        Self::Namespace(error)
    }
}

impl From<Refusal> for EnrollError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Gives this process an IPC namespace of its own ([`own_namespace`]) and enrolls it
/// ([`enroll_own`]).
pub fn enroll(
    factory: &Factory,
    kinds: Kinds,
    tally: Option<&Tally>,
) -> Result<Enrolled, EnrollError> {
    let _ = own_namespace()?;
    enroll_own(factory, kinds, tally)
}

/// Enrolls the IPC namespace that this process has just made: the module then answers the calls of
/// these kinds (of all, if there is none) that this process makes, and the programs that it starts
/// or becomes. The process must have a single thread. With a tally, the objects are counted there.
///
/// After an error the process may be a member. It should end.
pub fn enroll_own(
    factory: &Factory,
    kinds: Kinds,
    tally: Option<&Tally>,
) -> Result<Enrolled, EnrollError> {
    let armed = arm_own(|| match tally {
        None => factory.arm(kinds),
        Some(tally) => tally.arm(kinds),
    })?;
    let flags = prove(armed.kinds).map_err(EnrollError::Proof)?;
    let sealed = factory.seal(armed.kinds, flags)?;
    Ok(Enrolled {
        // The first step knows of what it refused, and the second does not.
        refused: armed.refused.or(sealed.refused),
        ..sealed
    })
}

/// Arms a namespace that this process has just made, so that nobody means to share it: a monitor that
/// looks at `/proc/PID/ns/ipc` holds it for as long as that takes, and is waited for.
fn arm_own(arm: impl Fn() -> Result<Enrolled, Refusal>) -> Result<Enrolled, Refusal> {
    const TRIES: u32 = 200;
    const PAUSE: Duration = Duration::from_millis(1);
    for _ in 1..TRIES {
        match arm() {
            Err(refusal) if refusal.reason == RefusalReason::Shared => thread::sleep(PAUSE),
            outcome => return outcome,
        }
    }
    arm()
}

/// Makes each call of `kinds` once by each entry, in child processes, and tells what
/// [`Factory::seal`] cannot expect to have seen.
pub fn prove(kinds: Kinds) -> io::Result<SealFlags> {
    let calls = || CALLS.iter().filter(|calls| kinds.contains(calls.kinds));
    in_child(|| {
        for calls in calls() {
            (calls.native)();
        }
    })?;
    let status = in_child(|| {
        for &call in calls().flat_map(|calls| calls.ia32) {
            // SAFETY: As above.
            unsafe { call_ia32(call) };
        }
    })?;
    // Without the entry the instruction is a fault; a filter of system calls ends the process, too.
    let without =
        libc::WIFSIGNALED(status) && matches!(libc::WTERMSIG(status), libc::SIGSEGV | libc::SIGSYS);
    Ok(if without {
        SealFlags::WITHOUT_IA32
    } else {
        SealFlags::empty()
    })
}

/// The calls that are routed for some kinds.
struct Calls {
    kinds: Kinds,
    /// Makes them in a child process, whose descriptors nobody needs.
    native: fn(),
    /// Those of the 32-bit table that have entries of their own. Each does no harm with zeros for arguments.
    ia32: &'static [u32],
}

const CALLS: &[Calls] = &[
    Calls {
        kinds: Kinds::COUNTER,
        native: call_eventfd,
        // eventfd and eventfd2.
        ia32: &[323, 328],
    },
    Calls {
        kinds: Kinds::PIPE,
        native: call_pipe,
        ia32: &[],
    },
];

fn call_eventfd() {
    // SAFETY: They take numbers.
    unsafe {
        libc::syscall(libc::SYS_eventfd, 0);
        libc::syscall(libc::SYS_eventfd2, 0, 0);
    }
}

fn call_pipe() {
    let mut fds = [-1; 2];
    // SAFETY: pipe2 writes two numbers; the others take numbers. All descriptors may be taken: two have
    // to be free.
    unsafe {
        libc::syscall(libc::SYS_close, 0);
        libc::syscall(libc::SYS_close, 1);
        libc::syscall(libc::SYS_pipe2, fds.as_mut_ptr(), 0);
        libc::syscall(libc::SYS_fcntl, fds[0], libc::F_GETPIPE_SZ);
    }
}

/// A system call by the entry of 32-bit programs, with zeros for arguments.
///
/// # Safety
///
/// The call must have no effect on memory or descriptors that Rust knows of.
unsafe fn call_ia32(number: u32) {
    // SAFETY: By the caller. The kernel may clear r8 to r11; rbx, which the compiler keeps to
    // itself, is put back.
    unsafe {
        asm!(
            "xchg rbx, {first}",
            "int 0x80",
            "xchg rbx, {first}",
            first = inout(reg) 0_u64 => _,
            inout("rax") u64::from(number) => _,
            in("rcx") 0,
            in("rdx") 0,
            out("r8") _,
            out("r9") _,
            out("r10") _,
            out("r11") _,
        );
    }
}

/// Runs `body` in a child process, and gives its wait status. `body` must make system calls and
/// nothing else: in the child no lock of the C library's may be taken.
fn in_child(body: impl FnOnce()) -> io::Result<c_int> {
    // No signal tells of this child's end: a handler of the caller's hears nothing, and a caller
    // that ignores SIGCHLD does not lose the status.
    // SAFETY: Without CLONE_VM it is a fork, whose child makes system calls and ends.
    let pid = unsafe { libc::syscall(libc::SYS_clone, 0, 0, 0, 0, 0) };
    match pid {
        -1 => return Err(io::Error::last_os_error()),
        0 => {
            // SAFETY: None of these touches memory. If a call kills this child, that is no crash
            // that somebody wants a dump of.
            unsafe {
                libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0);
                libc::signal(libc::SIGSEGV, libc::SIG_DFL);
                libc::signal(libc::SIGSYS, libc::SIG_DFL);
                body();
                libc::syscall(libc::SYS_exit_group, 0);
            }
            unreachable!("exit_group(2) does not return");
        }
        _ => {}
    }
    let mut status = 0;
    loop {
        // SAFETY: The status is a number of its own, and no usage is asked for.
        let waited = unsafe {
            libc::syscall(
                libc::SYS_wait4,
                pid,
                &raw mut status,
                libc::__WALL,
                ptr::null_mut::<u8>(),
            )
        };
        if waited == pid {
            return Ok(status);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each reason has a sentence of its own, and one about a function names it.
    #[test]
    fn each_reason_is_a_sentence() {
        let sentence = |reason| {
            Refusal {
                errno: libc::EBUSY,
                reason: RefusalReason::from(reason),
                function: "some_function".into(),
            }
            .to_string()
        };
        let all: Vec<_> = (0..=raw::IPCDEMO_REFUSED_WITHOUT).map(sentence).collect();
        for (reason, text) in all.iter().enumerate() {
            assert_eq!(
                all.iter().filter(|other| *other == text).count(),
                1,
                "{text}"
            );
            assert!(reason == 0 || text.contains(": "), "{text}");
            assert!(!text.contains('\n') && !text.contains("  "), "{text}");
        }
        for about in [
            raw::IPCDEMO_REFUSED_ABSENT,
            raw::IPCDEMO_REFUSED_TAKEN,
            raw::IPCDEMO_REFUSED_UNSEEN,
        ] {
            assert!(sentence(about).contains("some_function"));
        }
        assert!(sentence(raw::IPCDEMO_REFUSED_WITHOUT + 1).contains("reason 16"));
    }

    /// A child is waited for and its end is told, even if the caller ignores its children.
    #[test]
    fn a_child_tells_its_end() {
        let killed = in_child(|| {
            // SAFETY: It ends the child.
            unsafe {
                libc::syscall(
                    libc::SYS_kill,
                    libc::syscall(libc::SYS_getpid),
                    libc::SIGSYS,
                )
            };
        });
        let killed = killed.unwrap();
        assert!(libc::WIFSIGNALED(killed) && libc::WTERMSIG(killed) == libc::SIGSYS);
        let ended = in_child(|| {}).unwrap();
        assert!(libc::WIFEXITED(ended) && libc::WEXITSTATUS(ended) == 0);
    }

    /// On a kernel that runs 32-bit programs and on one that does not.
    #[test]
    fn the_proving_calls_can_be_made() {
        assert!(prove(Kinds::all()).is_ok());
        assert_eq!(prove(Kinds::empty()).unwrap(), SealFlags::empty());
    }
}
