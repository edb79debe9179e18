/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * ipcdemo: the interface between the module and user space.
 *
 * This file is the one source of truth. The module's constants and the client
 * library's are generated from it; it compiles alone as C and as C++.
 *
 * /dev/ipcdemo is a factory: each ioctl on it makes one object and returns it
 * as a file descriptor of its own, which then behaves as the original does.
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

/* struct ipcdemo_object.kind */
#define IPCDEMO_KIND_NULL	1
#define IPCDEMO_KIND_COUNTER	2

/**
 * struct ipcdemo_object - one live object, as IPCDEMO_IOC_LIST tells of it
 * @id: unique among live objects: the kind in the upper half, and in the lower
 *      half the number that /proc/PID/fdinfo shows as eventfd-id (counter) or
 *      null-id. Free to be used again after the object's end.
 * @value: counter: its count; null object: 0
 * @kind: IPCDEMO_KIND_*
 * @flags: the object's own flags (IPCDEMO_COUNTER_SEMAPHORE)
 * @waiters: entries on its wait queue: sleeping tasks, pollers, epoll items
 * @reserved: zero
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
	__u32 reserved;
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
#define IPCDEMO_OBJECT_SIZE_MAX	4096

#define IPCDEMO_IOC_MAGIC	0xBC
#define IPCDEMO_IOC_NULL	_IOWR(IPCDEMO_IOC_MAGIC, 0x01, struct ipcdemo_null_args)
#define IPCDEMO_IOC_COUNTER	_IOWR(IPCDEMO_IOC_MAGIC, 0x02, struct ipcdemo_counter_args)
#define IPCDEMO_IOC_LIST	_IOWR(IPCDEMO_IOC_MAGIC, 0x10, struct ipcdemo_list_args)

#endif /* _UAPI_IPCDEMO_H */
