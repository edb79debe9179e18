/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * bindgen's input for the interface, kernel side and user side alike: bindgen
 * cannot evaluate function-like macros such as _IOWR(), so each request is
 * given to it as a constant. The prefix is dropped from the generated name.
 */
#include "ipcdemo.h"

static const __u32 RUST_CONST_HELPER_IPCDEMO_IOC_NULL = IPCDEMO_IOC_NULL;
static const __u32 RUST_CONST_HELPER_IPCDEMO_IOC_COUNTER = IPCDEMO_IOC_COUNTER;
static const __u32 RUST_CONST_HELPER_IPCDEMO_IOC_LIST = IPCDEMO_IOC_LIST;
static const __u32 RUST_CONST_HELPER_IPCDEMO_IOC_WAITQ = IPCDEMO_IOC_WAITQ;
static const __u32 RUST_CONST_HELPER_IPCDEMO_IOC_WAIT = IPCDEMO_IOC_WAIT;
static const __u32 RUST_CONST_HELPER_IPCDEMO_IOC_WAKE = IPCDEMO_IOC_WAKE;
static const __u32 RUST_CONST_HELPER_IPCDEMO_IOC_WAITERS = IPCDEMO_IOC_WAITERS;
static const __u32 RUST_CONST_HELPER_IPCDEMO_IOC_PIPE = IPCDEMO_IOC_PIPE;
static const __u32 RUST_CONST_HELPER_IPCDEMO_IOC_MKFIFO = IPCDEMO_IOC_MKFIFO;
static const __u32 RUST_CONST_HELPER_IPCDEMO_IOC_RMFIFO = IPCDEMO_IOC_RMFIFO;
static const __u32 RUST_CONST_HELPER_IPCDEMO_IOC_PIPE_LIMITS = IPCDEMO_IOC_PIPE_LIMITS;
static const __u32 RUST_CONST_HELPER_IPCDEMO_IOC_PIPE_SET_SIZE = IPCDEMO_IOC_PIPE_SET_SIZE;
static const __u32 RUST_CONST_HELPER_IPCDEMO_IOC_PIPE_GET_SIZE = IPCDEMO_IOC_PIPE_GET_SIZE;
