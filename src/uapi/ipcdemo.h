/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * ipcdemo: the interface between the module and user space.
 *
 * This file is the one source of truth. The module's constants and the client
 * library's are generated from it; it compiles alone as C and as C++.
 *
 * /dev/ipcdemo is a factory. Most requests make an object and store its file
 * descriptor in the struct's fd (a pipe: read_fd, write_fd); the call itself
 * returns 0. The descriptor then behaves as the original does.
 *
 * Every argument struct is extensible. Its size travels in the ioctl number:
 *  - a longer struct, from a newer user, is taken if the tail that the module
 *    does not know is zero, and refused with E2BIG otherwise;
 *  - a shorter struct, from an older user, is taken as if extended by zeros,
 *    down to the size of the first version (IPCDEMO_*_SIZE_VER0); below that
 *    it is refused with EINVAL.
 * Unknown flags and non-zero reserved fields are refused with EINVAL, an
 * unknown request with ENOTTY, a bad pointer with EFAULT: then no object was
 * made and no descriptor appeared. All structs have the same layout for 32-bit
 * and 64-bit callers.
 */
#ifndef _UAPI_IPCDEMO_H
#define _UAPI_IPCDEMO_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* Flags that every object takes: the values are those of O_CLOEXEC, O_NONBLOCK. */
#define IPCDEMO_CLOEXEC		02000000
#define IPCDEMO_NONBLOCK	00004000

/* struct ipcdemo_counter_args.flags: EFD_SEMAPHORE's value. */
#define IPCDEMO_COUNTER_SEMAPHORE	1

/**
 * struct ipcdemo_null_args - make a null object
 * @fd: out: the new descriptor
 * @flags: IPCDEMO_CLOEXEC, IPCDEMO_NONBLOCK
 *
 * A write takes any number of bytes and forgets them; a read gives as many
 * zeros as were asked for. It never blocks.
 */
struct ipcdemo_null_args {
	__s32 fd;
	__u32 flags;
};

#define IPCDEMO_NULL_SIZE_VER0	8

/**
 * struct ipcdemo_counter_args - make a counter, as eventfd2(2) makes an eventfd
 * @fd: out: the new descriptor
 * @flags: IPCDEMO_CLOEXEC, IPCDEMO_NONBLOCK, IPCDEMO_COUNTER_SEMAPHORE
 * @initval: the counter's first value
 * @reserved: must be zero
 */
struct ipcdemo_counter_args {
	__s32 fd;
	__u32 flags;
	__u32 initval;
	__u32 reserved;
};

#define IPCDEMO_COUNTER_SIZE_VER0	16

/**
 * struct ipcdemo_waitq_args - make a wait queue
 * @fd: out: the new descriptor
 * @flags: IPCDEMO_CLOEXEC, IPCDEMO_NONBLOCK
 * @word: the first value of its condition word
 *
 * A wait queue, bare, with a 64-bit word for those who sleep on it to agree
 * upon. A read sleeps until it is woken and then returns 0 bytes; a write of any
 * bytes wakes every sleeper that is not exclusive, and one that is, with the
 * key POLLIN. What the ioctls IPCDEMO_IOC_WAIT, _WAKE and _WAITERS of the new
 * descriptor (and of /dev/ipcdemo-waitq) do, they do with all there is to choose.
 * poll(2) reports POLLIN while the word is not zero, and POLLOUT always.
 *
 * As with every wait queue, a wake that finds nobody is not remembered.
 */
struct ipcdemo_waitq_args {
	__s32 fd;
	__u32 flags;
	__u64 word;
};

#define IPCDEMO_WAITQ_SIZE_VER0	16

/* struct ipcdemo_pipe_args.flags: O_DIRECT's value. */
#define IPCDEMO_PIPE_DIRECT	00040000

/**
 * struct ipcdemo_pipe_args - make a pipe, as pipe2(2) makes one
 * @read_fd: out: the new descriptor of the end to read from
 * @write_fd: out: the new descriptor of the end to write to
 * @flags: IPCDEMO_CLOEXEC, IPCDEMO_NONBLOCK, IPCDEMO_PIPE_DIRECT
 * @size: the capacity in bytes, judged and rounded as IPCDEMO_IOC_PIPE_SET_SIZE
 *        does; 0 for what pipe2(2) would give
 */
struct ipcdemo_pipe_args {
	__s32 read_fd;
	__s32 write_fd;
	__u32 flags;
	__u32 size;
};

#define IPCDEMO_PIPE_SIZE_VER0	16

/**
 * struct ipcdemo_fifo_args - make or remove a FIFO node
 * @name: NUL-terminated, padded with zeros: the node is /dev/ipcdemo-fifo-NAME.
 *        Letters, digits, '_', '.' and '-', the first of them no '.' or '-'
 * @mode: make: the node's permission bits; remove: must be zero
 * @reserved: must be zero
 *
 * Needs CAP_SYS_ADMIN. Who has a removed node open keeps what is behind it.
 * EEXIST: there is such a node already; ENOENT: there is none; ENOSPC: there
 * are IPCDEMO_FIFO_NODES_MAX nodes, /dev/ipcdemo-fifo among them.
 */
struct ipcdemo_fifo_args {
	char name[32];
	__u32 mode;
	__u32 reserved;
};

#define IPCDEMO_FIFO_SIZE_VER0	40
#define IPCDEMO_FIFO_NODES_MAX	64

/**
 * struct ipcdemo_tally_args - make a tally
 * @fd: out: the new descriptor
 * @flags: IPCDEMO_CLOEXEC
 *
 * The descriptor takes IPCDEMO_IOC_ARM as the factory does. The objects that the
 * members of that namespace make, and those of the namespaces that they make, are
 * counted in the tally, for as long as they live, but for those made before IPCDEMO_IOC_SEAL.
 * IPCDEMO_IOC_TALLIED tells the sums.
 */
struct ipcdemo_tally_args {
	__s32 fd;
	__u32 flags;
};

#define IPCDEMO_TALLY_SIZE_VER0	8

/* struct ipcdemo_sums.left */
#define IPCDEMO_LEFT_NOT		0	/* the module made the objects */
#define IPCDEMO_LEFT_NOTIFICATION	1	/* the kernel made notification pipes */

/**
 * struct ipcdemo_sums - a tally's sums for one kind of objects and one name of their makers
 * @kind: IPCDEMO_KIND_*
 * @left: IPCDEMO_LEFT_*: why the calls were left to the kernel
 * @comm: the name of the threads that made the calls, NUL-terminated. Beyond
 *        IPCDEMO_SUMS_MAX names all others have one row, with an empty name
 * @objects: how many objects were made
 * @read: how many bytes were read from them, or moved out of them
 * @written: how many bytes were written to them
 * @woken: how many sleepers, polls and epoll items a read or a write woke
 *
 * Each sum is exact; together they may be some calls apart. What goes through the
 * kernel's objects is not known.
 */
struct ipcdemo_sums {
	__u32 kind;
	__u32 left;
	char comm[16];
	__u64 objects;
	__u64 read;
	__u64 written;
	__u64 woken;
};

/**
 * struct ipcdemo_tallied_args - tell a tally's sums, in the order of their first calls
 * @sums: a user pointer to an array of struct ipcdemo_sums
 * @capacity: how many of them fit there, at least 1
 * @sums_size: sizeof(struct ipcdemo_sums) as the caller knows it, up to
 *             IPCDEMO_OBJECT_SIZE_MAX; each element is cut to it or followed by zeros
 * @count: out: how many were written
 * @total: out: how many there are
 */
struct ipcdemo_tallied_args {
	__u64 sums;
	__u32 capacity;
	__u32 sums_size;
	__u32 count;
	__u32 total;
};

#define IPCDEMO_TALLIED_SIZE_VER0	24
#define IPCDEMO_SUMS_MAX		256

/* struct ipcdemo_pipe_limits_args.set */
#define IPCDEMO_LIMIT_MAX_SIZE		0x01
#define IPCDEMO_LIMIT_USER_PAGES_SOFT	0x02
#define IPCDEMO_LIMIT_USER_PAGES_HARD	0x04

/**
 * struct ipcdemo_pipe_limits_args - what users may ask of pipes and FIFOs
 * @set: IPCDEMO_LIMIT_*: which limits to change first; needs CAP_SYS_RESOURCE
 *       unless it is 0
 * @max_size: in, out: as /proc/sys/fs/pipe-max-size, and rounded as that is
 * @user_pages_soft: in, out: as /proc/sys/fs/pipe-user-pages-soft; 0 for none
 * @user_pages_hard: in, out: as /proc/sys/fs/pipe-user-pages-hard; 0 for none
 * @user_pages: out: how many pages the caller's user has now
 *
 * These count the module's pipes only, and the kernel's limits do not.
 */
struct ipcdemo_pipe_limits_args {
	__u32 set;
	__u32 max_size;
	__u64 user_pages_soft;
	__u64 user_pages_hard;
	__u64 user_pages;
};

#define IPCDEMO_PIPE_LIMITS_SIZE_VER0	32

/*
 * A key says what a wake is about, a mask what a sleeper wants to hear of: sets
 * of poll events, POLLIN and so on, out of these.
 */
#define IPCDEMO_KEY_ALL		0x3fff

/* struct ipcdemo_wait_args.flags */
#define IPCDEMO_WAIT_EXCLUSIVE		0x01	/* at the tail; a wake counts those it woke */
#define IPCDEMO_WAIT_PRIORITY		0x02	/* ahead of all who are not, in order of arrival */
#define IPCDEMO_WAIT_KILLABLE		0x04	/* only fatal signals end the sleep */
#define IPCDEMO_WAIT_UNINTERRUPTIBLE	0x08	/* no signal does; needs a timeout */
#define IPCDEMO_WAIT_TIMEOUT		0x10	/* @timeout_ns counts from now */
#define IPCDEMO_WAIT_ABSTIME		0x20	/* @timeout_ns is a CLOCK_MONOTONIC time */
#define IPCDEMO_WAIT_EXPECT		0x40	/* sleep only if the word is @expected */

/* The longest sleep that IPCDEMO_WAIT_UNINTERRUPTIBLE may ask for. */
#define IPCDEMO_UNINTERRUPTIBLE_MAX_NS	10000000000ULL

/* struct ipcdemo_wait_args.linger_us, at most. */
#define IPCDEMO_LINGER_MAX_US	1000

/* struct ipcdemo_wait_args.reason */
#define IPCDEMO_WOKEN		1	/* by a wake; the call returns 0 */
#define IPCDEMO_CHANGED		2	/* the word was not @expected: EAGAIN */
#define IPCDEMO_TIMED_OUT	3	/* ETIMEDOUT */
#define IPCDEMO_SIGNALED	4	/* EINTR */

/* stopped_by: why a walk along the queue ended. */
#define IPCDEMO_STOPPED_BY_END		0	/* it reached the queue's end */
#define IPCDEMO_STOPPED_BY_QUOTA	1	/* as many exclusive ones were woken as it wanted */
#define IPCDEMO_STOPPED_BY_ENTRY	2	/* an entry's wake function said so */

/**
 * struct ipcdemo_wait_args - sleep on a wait queue
 * @expected: with IPCDEMO_WAIT_EXPECT: what the word has to be
 * @timeout_ns: with IPCDEMO_WAIT_TIMEOUT or IPCDEMO_WAIT_ABSTIME: for how long, or until when
 * @flags: IPCDEMO_WAIT_*
 * @mask: the keys to be woken by; 0 for any. A wake without a key wakes all.
 * @linger_us: to study a race: once the sleep was ended by time or signal, stay on the queue
 *             for so many microseconds more, where a wake can still find the task
 * @reserved: must be zero
 * @word: out: the word at the end
 * @slept_ns: out: how long it took
 * @remaining_ns: out: what was left of the timeout
 * @reason: out: IPCDEMO_WOKEN and so on
 * @key: out: the key of the wake, 0 if it had none
 * @waker_pid: out: the process that woke; 0 if it cannot be seen from here
 * @waker_tid: out: its thread
 * @walked: out: the waker's walk had come to so many entries, the caller's included
 * @called: out: and had called so many wake functions
 * @woken: out: and so many of them had woken somebody
 * @stopped_by: out: IPCDEMO_STOPPED_BY_QUOTA if the walk was content then, else 0
 * @passed_on: out: the sleep was ended by time or signal and a wake that counts
 *             exclusive sleepers took the caller for one all the same: 1 if the
 *             wake was passed on to another, 2 if there was nobody to pass it to
 * @reserved2: must be zero
 *
 * The struct is written to before the task sleeps as well: what cannot take a
 * receipt is refused with EFAULT at once, and takes no wake.
 *
 * The receipt (@word and what follows) is written whatever the outcome is, for
 * which the call returns 0 or fails with EAGAIN, ETIMEDOUT or EINTR as futex(2)
 * does. It is never restarted after a signal. What describes the wake is 0
 * unless one woke, or was passed on.
 */
struct ipcdemo_wait_args {
	__u64 expected;
	__u64 timeout_ns;
	__u32 flags;
	__u32 mask;
	__u32 linger_us;
	__u32 reserved;
	__u64 word;
	__u64 slept_ns;
	__u64 remaining_ns;
	__u32 reason;
	__u32 key;
	__s32 waker_pid;
	__s32 waker_tid;
	__u32 walked;
	__u32 called;
	__u32 woken;
	__u32 stopped_by;
	__u32 passed_on;
	__u32 reserved2;
};

#define IPCDEMO_WAIT_SIZE_VER0	96

/* struct ipcdemo_wake_args.flags */
#define IPCDEMO_WAKE_SYNC	0x01	/* the waker is about to sleep: do not preempt it */
#define IPCDEMO_WAKE_SET	0x02	/* set the word to @word in the same step */

/**
 * struct ipcdemo_wake_args - wake those on a wait queue
 * @word: in, with IPCDEMO_WAKE_SET: the word's new value; out: its value
 * @flags: IPCDEMO_WAKE_*
 * @nr: how many exclusive sleepers at most; 0 for all
 * @key: what it is about; 0 to reach everyone whatever their mask
 * @reserved: must be zero
 * @walked: out: entries that the walk came to
 * @called: out: wake functions called
 * @woken: out: those that woke somebody
 * @exclusive: out: of these, exclusive ones
 * @stopped_by: out: IPCDEMO_STOPPED_BY_*
 * @reserved2: must be zero
 *
 * As with IPCDEMO_IOC_WAIT, what cannot take a receipt wakes nobody.
 */
struct ipcdemo_wake_args {
	__u64 word;
	__u32 flags;
	__u32 nr;
	__u32 key;
	__u32 reserved;
	__u32 walked;
	__u32 called;
	__u32 woken;
	__u32 exclusive;
	__u32 stopped_by;
	__u32 reserved2;
};

#define IPCDEMO_WAKE_SIZE_VER0	48

/* struct ipcdemo_waiter.kind */
#define IPCDEMO_WAITER_TASK	1	/* a task asleep in this module */
#define IPCDEMO_WAITER_POLL	2	/* poll(2) or select(2) */
#define IPCDEMO_WAITER_EPOLL	3	/* an item of an epoll set */
#define IPCDEMO_WAITER_IO_URING	4	/* a poll by io_uring */
#define IPCDEMO_WAITER_OTHER	5	/* see its function */

/* struct ipcdemo_waiter.flags: WQ_FLAG_* of the kernel, by value too */
#define IPCDEMO_WAITER_EXCLUSIVE	0x01
#define IPCDEMO_WAITER_PRIORITY		0x10

/**
 * struct ipcdemo_waiter - one entry of a wait queue
 * @since_ns: task: asleep since this CLOCK_MONOTONIC time; others: 0
 * @position: 0 is woken first
 * @kind: IPCDEMO_WAITER_*
 * @flags: IPCDEMO_WAITER_EXCLUSIVE, IPCDEMO_WAITER_PRIORITY
 * @key: task, poll: the events waited for, 0 for any; others: 0
 * @pid: task, poll: the process; 0 if it cannot be seen from here, or is not known
 * @tid: its thread
 * @comm: its name
 * @function: the wake function's symbol
 */
struct ipcdemo_waiter {
	__u64 since_ns;
	__u32 position;
	__u32 kind;
	__u32 flags;
	__u32 key;
	__s32 pid;
	__s32 tid;
	char comm[16];
	char function[64];
};

/**
 * struct ipcdemo_waiters_args - tell who is on a wait queue, in order, at one moment
 * @waiters: a user pointer to an array of struct ipcdemo_waiter
 * @capacity: how many of them fit there; at most IPCDEMO_WAITERS_MAX are told
 * @waiter_size: sizeof(struct ipcdemo_waiter) as the caller knows it, up to
 *               IPCDEMO_WAITER_SIZE_MAX; each element is cut to it or followed by zeros
 * @count: out: how many were written
 * @total: out: how many there are, or @count + 1 if there are more than were written:
 *         nobody walks the rest of the queue to count it
 * @word: out: the word at that moment
 */
struct ipcdemo_waiters_args {
	__u64 waiters;
	__u32 capacity;
	__u32 waiter_size;
	__u32 count;
	__u32 total;
	__u64 word;
};

#define IPCDEMO_WAITERS_SIZE_VER0	32
#define IPCDEMO_WAITERS_MAX	4096
#define IPCDEMO_WAITER_SIZE_MAX	4096

/* struct ipcdemo_object.kind */
#define IPCDEMO_KIND_NULL	1
#define IPCDEMO_KIND_COUNTER	2
#define IPCDEMO_KIND_WAITQ	3
#define IPCDEMO_KIND_PIPE	4

/**
 * struct ipcdemo_object - one live object, as IPCDEMO_IOC_LIST tells of it
 * @id: unique among live objects: the kind in the upper half, and in the lower
 *      half the number that /proc/PID/fdinfo shows as eventfd-id (counter),
 *      null-id or waitq-id. A number is used again only after the highest was reached.
 * @value: counter: its count; wait queue: its word; pipe: how many buffers hold
 *         something; null object: 0
 * @kind: IPCDEMO_KIND_*
 * @flags: the object's own flags (IPCDEMO_COUNTER_SEMAPHORE)
 * @waiters: entries on its wait queues: sleeping tasks, pollers, epoll items; counted
 *           up to IPCDEMO_WAITERS_COUNTED, which stands for as many or more
 * @inode: pipe: the number that /proc/PID/fd shows, after "pipe:"; others: 0
 *
 * Who holds an object is not told here: /proc/PID/fd and fdinfo tell it, to
 * those who may know. The shared nodes under /dev are not listed.
 */
struct ipcdemo_object {
	__u64 id;
	__u64 value;
	__u32 kind;
	__u32 flags;
	__u32 waiters;
	__u32 inode;
};

/**
 * struct ipcdemo_list_args - tell of live objects in order of their ids
 * @after: objects with an id greater than this; 0 to begin
 * @objects: a user pointer to an array of struct ipcdemo_object
 * @capacity: how many of them fit there, at least 1; at most IPCDEMO_LIST_MAX
 *            are told
 * @object_size: sizeof(struct ipcdemo_object) as the caller knows it, up to
 *               IPCDEMO_OBJECT_SIZE_MAX; each element is cut to it or followed
 *               by zeros
 * @count: out: how many were written; 0 at the end
 * @reserved: must be zero
 */
struct ipcdemo_list_args {
	__u64 after;
	__u64 objects;
	__u32 capacity;
	__u32 object_size;
	__u32 count;
	__u32 reserved;
};

#define IPCDEMO_LIST_SIZE_VER0	32
#define IPCDEMO_LIST_MAX	64
#define IPCDEMO_WAITERS_COUNTED	64	/* @waiters stops here: so many, or more */
#define IPCDEMO_OBJECT_SIZE_MAX	4096

/*
 * Routes: for the tasks of an enrolled IPC namespace, the module answers the kernel's own
 * system calls. A set of kinds has the bit 1 << IPCDEMO_KIND_* for each; these can be enrolled.
 */
#define IPCDEMO_ROUTED_KINDS	0x14	/* IPCDEMO_KIND_COUNTER, IPCDEMO_KIND_PIPE */

/* struct ipcdemo_enroll_args.reason */
#define IPCDEMO_REFUSED_OFF		1	/* EOPNOTSUPP: routes are switched off */
#define IPCDEMO_REFUSED_LOCKDOWN	2	/* EPERM: the kernel is locked down */
#define IPCDEMO_REFUSED_TRACER		3	/* EOPNOTSUPP: the kernel has no function tracer */
#define IPCDEMO_REFUSED_CAPABILITY	4	/* EPERM: no CAP_SYS_ADMIN over the namespace */
#define IPCDEMO_REFUSED_INITIAL		5	/* EBUSY: it is the initial namespace */
#define IPCDEMO_REFUSED_THREADS		6	/* EBUSY: another task runs in its memory */
#define IPCDEMO_REFUSED_SHARED		7	/* EBUSY: another task or descriptor has it */
#define IPCDEMO_REFUSED_USED		8	/* EBUSY: there are objects in it */
#define IPCDEMO_REFUSED_TWICE		9	/* EBUSY: it is enrolled already */
#define IPCDEMO_REFUSED_ABSENT		10	/* EOPNOTSUPP: @function cannot be redirected */
#define IPCDEMO_REFUSED_TAKEN		11	/* EBUSY: @function is livepatched or redirected */
#define IPCDEMO_REFUSED_UNSEEN		12	/* ENOTCONN: no call of @function came through */
#define IPCDEMO_REFUSED_NOT_ARMED	13	/* EINVAL: the namespace is not enrolled */
#define IPCDEMO_REFUSED_SEALED		14	/* EBUSY: it is sealed already */
#define IPCDEMO_REFUSED_WITHOUT		15	/* EOPNOTSUPP: the module has no routes */

/* struct ipcdemo_enroll_args.flags */
#define IPCDEMO_SEAL_WITHOUT_IA32	1	/* SEAL: 32-bit programs cannot run here */

/**
 * struct ipcdemo_enroll_args - enroll the caller's IPC namespace, in two steps
 * @kinds: in: the kinds wanted, 0 for all that there are; out: those that are enrolled
 * @flags: ARM: must be zero; SEAL: IPCDEMO_SEAL_*
 * @reason: out: IPCDEMO_REFUSED_*: why a kind was refused; 0 if none was
 * @reserved: must be zero
 * @function: out: NUL-terminated: the kernel's function that @reason is about, or empty
 *
 * IPCDEMO_IOC_ARM enrolls the namespace: from then on the calls of its tasks are
 * answered. Only a fresh one can be enrolled, which unshare(2) or clone(2) has just made
 * for the caller alone. A namespace made by a member is a member of the same kinds.
 *
 * Then the caller makes each call of those kinds once, in a child process, and IPCDEMO_IOC_SEAL
 * looks whether each was seen to come through. A kind with a call that did not is enrolled no
 * more.
 *
 * Both fail if no kind is left; the struct is written all the same. If it cannot be written,
 * no kind is left.
 */
struct ipcdemo_enroll_args {
	__u32 kinds;
	__u32 flags;
	__u32 reason;
	__u32 reserved;
	char function[64];
};

#define IPCDEMO_ENROLL_SIZE_VER0	80

/* struct ipcdemo_route.state */
#define IPCDEMO_ROUTE_ABSENT	0	/* the kernel has none that can be redirected */
#define IPCDEMO_ROUTE_RESTING	1	/* no namespace needs it now */
#define IPCDEMO_ROUTE_ARMED	2	/* calls of members are answered */

/**
 * struct ipcdemo_route - a function of the kernel that the module answers for members
 * @function: its symbol, NUL-terminated
 * @kind: IPCDEMO_KIND_*; 0 for what all kinds need
 * @state: IPCDEMO_ROUTE_*
 * @answered: how many calls the module answered
 * @passed: how many calls it let pass to the original
 */
struct ipcdemo_route {
	char function[64];
	__u32 kind;
	__u32 state;
	__u64 answered;
	__u64 passed;
};

/**
 * struct ipcdemo_routes_args - list the routes
 * @routes: a user pointer to an array of struct ipcdemo_route
 * @capacity: how many of them fit there, at least 1
 * @route_size: sizeof(struct ipcdemo_route) as the caller knows it, up to
 *              IPCDEMO_ROUTE_SIZE_MAX; each element is cut to it or followed by zeros
 * @count: out: how many were written
 * @total: out: how many there are: at most IPCDEMO_ROUTES_MAX
 * @switched: in: IPCDEMO_ROUTES_AS_IS, _OFF or _ON; out: _OFF, _ON or _WITHOUT. Needs
 *            CAP_SYS_ADMIN unless it is 0. _OFF disarms the routes of all kinds, whatever
 *            members there are: their calls go to the kernel until _ON. Fails with
 *            EOPNOTSUPP if the module was loaded without its parameter routes
 * @reserved: must be zero
 */
struct ipcdemo_routes_args {
	__u64 routes;
	__u32 capacity;
	__u32 route_size;
	__u32 count;
	__u32 total;
	__u32 switched;
	__u32 reserved;
};

#define IPCDEMO_ROUTES_AS_IS	0
#define IPCDEMO_ROUTES_OFF	1
#define IPCDEMO_ROUTES_ON	2
#define IPCDEMO_ROUTES_WITHOUT	3	/* the module was loaded without routes: there are none */

#define IPCDEMO_ROUTES_SIZE_VER0	32
#define IPCDEMO_ROUTES_MAX		64
#define IPCDEMO_ROUTE_SIZE_MAX		4096

/* struct ipcdemo_namespace.flags */
#define IPCDEMO_NAMESPACE_SEALED	1
#define IPCDEMO_NAMESPACE_BORN		2	/* made by a member, not enrolled itself */

/**
 * struct ipcdemo_namespace - an enrolled IPC namespace, which pins the module
 * @id: unique since the machine started: what NS_GET_ID of ioctl_nsfs(2) tells
 * @inum: its inode number, as in /proc/PID/ns/ipc
 * @kinds: the kinds that are answered in it
 * @flags: IPCDEMO_NAMESPACE_*
 * @reserved: zero
 */
struct ipcdemo_namespace {
	__u64 id;
	__u32 inum;
	__u32 kinds;
	__u32 flags;
	__u32 reserved;
};

/**
 * struct ipcdemo_namespaces_args - list the enrolled namespaces in order of their ids
 * @after: those with an id greater than this; 0 to begin
 * @namespaces: a user pointer to an array of struct ipcdemo_namespace
 * @capacity: how many of them fit there, at least 1; at most IPCDEMO_LIST_MAX are told
 * @namespace_size: sizeof(struct ipcdemo_namespace) as the caller knows it, up to
 *                  IPCDEMO_OBJECT_SIZE_MAX; each element is cut to it or followed by zeros
 * @count: out: how many were written; 0 at the end
 * @reserved: must be zero
 */
struct ipcdemo_namespaces_args {
	__u64 after;
	__u64 namespaces;
	__u32 capacity;
	__u32 namespace_size;
	__u32 count;
	__u32 reserved;
};

#define IPCDEMO_NAMESPACES_SIZE_VER0	32

#define IPCDEMO_IOC_MAGIC	0xBC
#define IPCDEMO_IOC_NULL	_IOWR(IPCDEMO_IOC_MAGIC, 0x01, struct ipcdemo_null_args)
#define IPCDEMO_IOC_COUNTER	_IOWR(IPCDEMO_IOC_MAGIC, 0x02, struct ipcdemo_counter_args)
#define IPCDEMO_IOC_WAITQ	_IOWR(IPCDEMO_IOC_MAGIC, 0x03, struct ipcdemo_waitq_args)
#define IPCDEMO_IOC_PIPE	_IOWR(IPCDEMO_IOC_MAGIC, 0x04, struct ipcdemo_pipe_args)
#define IPCDEMO_IOC_MKFIFO	_IOW(IPCDEMO_IOC_MAGIC, 0x05, struct ipcdemo_fifo_args)
#define IPCDEMO_IOC_RMFIFO	_IOW(IPCDEMO_IOC_MAGIC, 0x06, struct ipcdemo_fifo_args)
#define IPCDEMO_IOC_PIPE_LIMITS	_IOWR(IPCDEMO_IOC_MAGIC, 0x07, struct ipcdemo_pipe_limits_args)
#define IPCDEMO_IOC_TALLY	_IOWR(IPCDEMO_IOC_MAGIC, 0x08, struct ipcdemo_tally_args)
#define IPCDEMO_IOC_LIST	_IOWR(IPCDEMO_IOC_MAGIC, 0x10, struct ipcdemo_list_args)
#define IPCDEMO_IOC_ARM		_IOWR(IPCDEMO_IOC_MAGIC, 0x11, struct ipcdemo_enroll_args)
#define IPCDEMO_IOC_SEAL	_IOWR(IPCDEMO_IOC_MAGIC, 0x12, struct ipcdemo_enroll_args)
#define IPCDEMO_IOC_ROUTES	_IOWR(IPCDEMO_IOC_MAGIC, 0x13, struct ipcdemo_routes_args)
#define IPCDEMO_IOC_NAMESPACES	_IOWR(IPCDEMO_IOC_MAGIC, 0x14, struct ipcdemo_namespaces_args)

/* Of a wait queue's descriptor, and of /dev/ipcdemo-waitq. */
#define IPCDEMO_IOC_WAIT	_IOWR(IPCDEMO_IOC_MAGIC, 0x20, struct ipcdemo_wait_args)
#define IPCDEMO_IOC_WAKE	_IOWR(IPCDEMO_IOC_MAGIC, 0x21, struct ipcdemo_wake_args)
#define IPCDEMO_IOC_WAITERS	_IOWR(IPCDEMO_IOC_MAGIC, 0x22, struct ipcdemo_waiters_args)

/*
 * Of a pipe's or FIFO's descriptor: F_SETPIPE_SZ and F_GETPIPE_SZ of fcntl(2),
 * which know the kernel's own pipes only while no namespace is enrolled for pipes. The
 * first takes the capacity itself as its argument, not a pointer; both return the capacity.
 */
#define IPCDEMO_IOC_PIPE_SET_SIZE	_IO(IPCDEMO_IOC_MAGIC, 0x30)
#define IPCDEMO_IOC_PIPE_GET_SIZE	_IO(IPCDEMO_IOC_MAGIC, 0x31)

/*
 * Of a counter's or a pipe's descriptor: its id, as IPCDEMO_IOC_LIST tells it. One that
 * eventfd(2) or pipe(2) made for a member is named under /proc as the kernel's own are: this
 * request, which those refuse with ENOTTY, tells them apart. A FIFO refuses it, too.
 */
#define IPCDEMO_IOC_ID		_IOR(IPCDEMO_IOC_MAGIC, 0x38, __u64)

/* Of a tally's descriptor. */
#define IPCDEMO_IOC_TALLIED	_IOWR(IPCDEMO_IOC_MAGIC, 0x40, struct ipcdemo_tallied_args)

#endif /* _UAPI_IPCDEMO_H */
