// SPDX-License-Identifier: GPL-2.0

//! What cannot be enrolled, each with the reason that is given. A namespace is for life, so each
//! case has a process of its own.

use std::fs::{self, File};
use std::io::Read;
use std::ptr;
use std::thread;

use ipcdemo_client::{Kinds, Refusal, RefusalReason, SealFlags, prove, raw};
use ipcdemo_tests::member::{
    answered, become_member, enrolled, forked, member, namespace_of, start,
};
use ipcdemo_tests::{Child, Errno, scaled, serial};
use rustix::pipe::pipe;
use rustix::thread::{UnshareFlags, unshare_unsafe};

use crate::{Off, open};

serial! {
    /// A second thread would go on under the new rules in the midst of something.
    fn a_second_thread() {
        forked(|| {
            let (reader, writer) = pipe().unwrap();
            let other = thread::spawn(move || File::from(reader).read(&mut [0]).unwrap());
            fresh();
            refused(RefusalReason::Threads, Errno::BUSY);
            drop(writer);
            other.join().unwrap();
        });
    }

    /// A child of vfork(2) runs on its parent's memory, and the parent is no member.
    fn on_anothers_memory() {
        forked(|| {
            let child = Child::clone(libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD, || {
                fresh();
                refused(RefusalReason::Threads, Errno::BUSY);
            });
            assert_eq!(child.wait(), 0);
        });
    }

    /// A thread that was joined is none, though it may be not quite gone.
    fn a_joined_thread() {
        for _ in 0..scaled(100) {
            forked(|| {
                let factory = open();
                thread::spawn(|| ()).join().unwrap();
                fresh();
                assert!(factory.arm(Kinds::empty()).is_ok());
            });
        }
    }

    /// By a descriptor anybody could join who holds it. Once it is closed, nobody can.
    fn an_open_descriptor() {
        forked(|| {
            fresh();
            let held = File::open("/proc/self/ns/ipc").unwrap();
            refused(RefusalReason::Shared, Errno::BUSY);
            drop(held);
            assert!(open().arm(Kinds::empty()).is_ok());
        });
    }

    /// One who only looks holds it for a moment, which is waited for.
    fn a_passing_look() {
        for _ in 0..scaled(20) {
            forked(|| {
                let link = format!("/proc/{}/ns/ipc", std::process::id());
                let (reader, writer) = pipe().unwrap();
                let looks = start(move || {
                    fs::metadata(&link).unwrap();
                    drop(writer);
                    loop {
                        fs::metadata(&link).unwrap();
                    }
                });
                assert_eq!(rustix::io::read(&reader, &mut [0; 1]), Ok(0));
                become_member();
                drop(looks);
            });
        }
    }

    /// A child that is in it, too.
    fn a_second_task() {
        forked(|| {
            fresh();
            let _child = start(|| loop {
                // SAFETY: It takes no pointer.
                unsafe { libc::pause() };
            });
            refused(RefusalReason::Shared, Errno::BUSY);
        });
    }

    fn the_initial_namespace() {
        forked(|| {
            assert_eq!(namespace_of("self"), namespace_of("1"));
            refused(RefusalReason::Initial, Errno::BUSY);
        });
    }

    /// A message queue, a set of semaphores, a segment, a POSIX queue.
    fn a_used_namespace() {
        let uses: [fn(); 4] = [
            || {
                // SAFETY: None of these takes a pointer, but for the name, a C string.
                let id = unsafe { libc::msgget(libc::IPC_PRIVATE, 0o600) };
                assert!(id >= 0);
            },
            || {
                // SAFETY: As above.
                let id = unsafe { libc::semget(libc::IPC_PRIVATE, 1, 0o600) };
                assert!(id >= 0);
            },
            || {
                // SAFETY: As above.
                let id = unsafe { libc::shmget(libc::IPC_PRIVATE, 4096, 0o600) };
                assert!(id >= 0);
            },
            || {
                let flags = libc::O_CREAT | libc::O_RDWR;
                let attributes = ptr::null_mut::<libc::mq_attr>();
                // SAFETY: As above.
                let queue = unsafe { libc::mq_open(c"/used".as_ptr(), flags, 0o600, attributes) };
                assert!(queue >= 0);
            },
        ];
        for used in uses {
            forked(|| {
                fresh();
                used();
                refused(RefusalReason::Used, Errno::BUSY);
            });
        }
    }

    /// The list of what is to be undone at the process's end outlives the semaphores.
    fn an_undo_list() {
        forked(|| {
            fresh();
            let mut up = libc::sembuf { sem_num: 0, sem_op: 1, sem_flg: libc::SEM_UNDO as i16 };
            // SAFETY: The operation is one, and the other calls take no pointer.
            unsafe {
                let id = libc::semget(libc::IPC_PRIVATE, 1, 0o600);
                assert_eq!(libc::semop(id, &raw mut up, 1), 0);
                assert_eq!(libc::semctl(id, 0, libc::IPC_RMID), 0);
            }
            refused(RefusalReason::Used, Errno::BUSY);
        });
    }

    /// The namespace is root's, and the caller is root no more.
    fn another_users() {
        forked(|| {
            let factory = open();
            fresh();
            become_nobody();
            let refusal = factory.arm(Kinds::empty()).unwrap_err();
            expect(&refusal, RefusalReason::Capability, Errno::PERM);
        });
    }

    /// All capabilities in a user namespace below the namespace's own are none over it.
    fn a_user_namespace_below() {
        forked(|| {
            let factory = open();
            fresh();
            unshare(UnshareFlags::NEWUSER);
            let refusal = factory.arm(Kinds::empty()).unwrap_err();
            expect(&refusal, RefusalReason::Capability, Errno::PERM);
        });
    }

    /// Those in the namespace's own are enough, if somebody passed on the factory.
    fn its_owner_may() {
        forked(|| {
            let factory = open();
            become_nobody();
            unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWIPC);
            let armed = factory.arm(Kinds::empty()).unwrap();
            assert_eq!((armed.kinds, armed.refused), (Kinds::all(), None));
        });
    }

    fn twice() {
        member(|| {
            refused(RefusalReason::Twice, Errno::BUSY);
            let refusal = open().seal(Kinds::empty(), SealFlags::empty()).unwrap_err();
            expect(&refusal, RefusalReason::Sealed, Errno::BUSY);
            assert!(answered());
        });
    }

    /// Nobody new, and those who are members have the kernel's for a while.
    fn routes_are_off() {
        forked(|| {
            fresh();
            let off = Off::new();
            refused(RefusalReason::Off, Errno::OPNOTSUPP);
            drop(off);
            assert!(open().arm(Kinds::empty()).is_ok());
        });
        forked(|| {
            become_member();
            let off = Off::new();
            assert!(!answered());
            assert!(enrolled(namespace_of("self")));
            drop(off);
            assert!(answered());
        });
    }

    /// No call was made, and the function is named of which none was seen. The calls go to the
    /// kernel from then on.
    fn sealing_without_calls() {
        forked(|| {
            fresh();
            let factory = open();
            assert!(factory.arm(Kinds::empty()).is_ok());
            let refusal = factory.seal(Kinds::empty(), SealFlags::empty()).unwrap_err();
            expect(&refusal, RefusalReason::Unseen, Errno::NOTCONN);
            assert_eq!(refusal.function, "__x64_sys_eventfd");
            assert!(!enrolled(namespace_of("self")));
            assert!(!answered());
        });
    }

    /// 32-bit programs could run here: their calls have to be seen, too.
    fn sealing_without_all_calls() {
        forked(|| {
            fresh();
            let factory = open();
            assert!(factory.arm(Kinds::empty()).is_ok());
            for call in [libc::SYS_eventfd, libc::SYS_eventfd2] {
                // SAFETY: It takes no pointer.
                assert!(unsafe { libc::syscall(call, 0, 0) } >= 0);
            }
            let refusal = factory.seal(Kinds::empty(), SealFlags::empty()).unwrap_err();
            expect(&refusal, RefusalReason::Unseen, Errno::NOTCONN);
            assert_eq!(refusal.function, "__ia32_sys_eventfd");
        });
    }

    /// The kernel has the entries for 32-bit programs, so nobody needs to do without.
    fn the_proof_is_complete() {
        assert_eq!(prove(Kinds::all()).unwrap(), SealFlags::empty());
    }

    fn sealing_what_is_not_enrolled() {
        forked(|| {
            fresh();
            let refusal = open().seal(Kinds::empty(), SealFlags::empty()).unwrap_err();
            expect(&refusal, RefusalReason::NotArmed, Errno::INVAL);
        });
    }

    /// Bits that mean nothing are EINVAL, without a reason.
    fn unknown_bits() {
        forked(|| {
            fresh();
            let factory = open();
            for bit in (0..u32::BITS).map(|bit| 1 << bit) {
                if raw::IPCDEMO_ROUTED_KINDS & bit == 0 {
                    let kinds = Kinds::from_bits_retain(bit);
                    let refusal = factory.arm(kinds).unwrap_err();
                    expect(&refusal, RefusalReason::Unknown(0), Errno::INVAL);
                }
                if SealFlags::from_bits(bit).is_none() {
                    let flags = SealFlags::from_bits_retain(bit);
                    let refusal = factory.seal(Kinds::empty(), flags).unwrap_err();
                    expect(&refusal, RefusalReason::Unknown(0), Errno::INVAL);
                }
            }
            assert!(!enrolled(namespace_of("self")));
        });
    }

    /// The switch that once stopped the function tracer does not stop routes.
    fn the_tracer_cannot_be_switched_off() {
        member(|| {
            let result = fs::write("/proc/sys/kernel/ftrace_enabled", "0");
            assert_eq!(Errno::from_io_error(&result.unwrap_err()), Some(Errno::OPNOTSUPP));
            assert!(answered());
        });
    }
}

/// An IPC namespace of this process's own.
fn fresh() {
    unshare(UnshareFlags::NEWIPC);
}

fn unshare(flags: UnshareFlags) {
    // SAFETY: No descriptors are unshared.
    unsafe { unshare_unsafe(flags) }.unwrap();
}

pub fn become_nobody() {
    // SAFETY: This process has one thread.
    assert_eq!(unsafe { libc::setresgid(65534, 65534, 65534) }, 0);
    // SAFETY: As above.
    assert_eq!(unsafe { libc::setresuid(65534, 65534, 65534) }, 0);
}

/// This process is refused for that reason, and is no member then.
fn refused(reason: RefusalReason, errno: Errno) {
    let known = enrolled(namespace_of("self"));
    let refusal = open().arm(Kinds::empty()).unwrap_err();
    expect(&refusal, reason, errno);
    assert_eq!(enrolled(namespace_of("self")), known);
}

fn expect(refusal: &Refusal, reason: RefusalReason, errno: Errno) {
    assert_eq!(
        (refusal.reason, refusal.errno),
        (reason, errno.raw_os_error()),
        "{refusal}"
    );
}
