/* SPDX-License-Identifier: GPL-2.0 */
/*
 * bindgen's input: what the kernel crate's own bindings lack. A type that they
 * have is that very type here, because only what is listed in Kbuild is taken
 * and everything else resolves to kernel::bindings.
 */
#include <linux/anon_inodes.h>
#include <linux/capability.h>
#include <linux/fs.h>
#include <linux/kallsyms.h>
#include <linux/pipe_fs_i.h>
#include <linux/poll.h>
#include <linux/pseudo_fs.h>
#include <linux/splice.h>

#include <asm/ioctls.h>

#include "../uapi/constants.h"
#include "helpers.h"
#include "redirect.h"

static const __u32 RUST_CONST_HELPER_EPOLLIN = (__force __u32)EPOLLIN;
static const __u32 RUST_CONST_HELPER_EPOLLOUT = (__force __u32)EPOLLOUT;
static const __u32 RUST_CONST_HELPER_EPOLLERR = (__force __u32)EPOLLERR;
static const __u32 RUST_CONST_HELPER_EPOLLHUP = (__force __u32)EPOLLHUP;
static const __u32 RUST_CONST_HELPER_EPOLLRDNORM = (__force __u32)EPOLLRDNORM;
static const __u32 RUST_CONST_HELPER_EPOLLWRNORM = (__force __u32)EPOLLWRNORM;
static const __u32 RUST_CONST_HELPER_EPOLLET = (__force __u32)EPOLLET;
static const __u32 RUST_CONST_HELPER_POLLFREE = (__force __u32)POLLFREE;
static const __u32 RUST_CONST_HELPER_FIONREAD = FIONREAD;
static const __u32 RUST_CONST_HELPER_FMODE_READ = (__force __u32)FMODE_READ;
static const __u32 RUST_CONST_HELPER_FMODE_WRITE = (__force __u32)FMODE_WRITE;
static const __u32 RUST_CONST_HELPER_FMODE_LSEEK = (__force __u32)FMODE_LSEEK;
static const __u32 RUST_CONST_HELPER_FMODE_CAN_READ = (__force __u32)FMODE_CAN_READ;
static const __u32 RUST_CONST_HELPER_FMODE_CAN_WRITE = (__force __u32)FMODE_CAN_WRITE;
static const __u32 RUST_CONST_HELPER_FMODE_OPENED = (__force __u32)FMODE_OPENED;
static const __u32 RUST_CONST_HELPER_FMODE_STREAM = (__force __u32)FMODE_STREAM;
static const __u32 RUST_CONST_HELPER_FMODE_CAN_ODIRECT = (__force __u32)FMODE_CAN_ODIRECT;
static const __u32 RUST_CONST_HELPER_FMODE_NONOTIFY = (__force __u32)FMODE_NONOTIFY;
static const __u32 RUST_CONST_HELPER_FMODE_NONOTIFY_PERM = (__force __u32)FMODE_NONOTIFY_PERM;
static const __u32 RUST_CONST_HELPER_FMODE_NOWAIT = (__force __u32)FMODE_NOWAIT;
static const int RUST_CONST_HELPER_IOCB_NOWAIT = IOCB_NOWAIT;
static const int RUST_CONST_HELPER_IOCB_NOSIGNAL = IOCB_NOSIGNAL;
static const __u32 RUST_CONST_HELPER_SPLICE_F_NONBLOCK = SPLICE_F_NONBLOCK;
static const __u32 RUST_CONST_HELPER_KSYM_SYMBOL_LEN = KSYM_SYMBOL_LEN;
