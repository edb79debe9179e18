/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Redirections of kernel functions: src/abstractions/redirect/ has the rules.
 */
#ifndef IPCDEMO_REDIRECT_H
#define IPCDEMO_REDIRECT_H

#include <linux/ftrace.h>
#include <linux/ipc_namespace.h>
#include <linux/nsproxy.h>
#include <linux/percpu.h>
#include <linux/ptrace.h>
#include <linux/workqueue.h>

/*
 * Redirections need the function tracer, whose handler gets the arguments, and
 * kprobes, which tell a function's address.
 */
#ifdef CONFIG_FUNCTION_TRACER
#define REDIRECT_ENTRY_SIZE	MCOUNT_INSN_SIZE
#else
#define REDIRECT_ENTRY_SIZE	0
#endif

struct redirect_hook {
#if defined(CONFIG_DYNAMIC_FTRACE_WITH_ARGS) && defined(CONFIG_KPROBES)
	struct ftrace_ops ops;
#else
	int none;
#endif
};

/* As the tracer's own: it calls by pointer, which CFI judges by the type. */
typedef void (*redirect_handler_t)(unsigned long ip, unsigned long parent_ip,
				   struct ftrace_ops *ops, struct ftrace_regs *fregs);

int ipcdemo_helper_hook_arm(struct redirect_hook *hook, redirect_handler_t handler,
			    unsigned long *ips, unsigned int nr);
int ipcdemo_helper_hook_disarm(struct redirect_hook *hook);
unsigned long ipcdemo_helper_function_address(const char *name);

unsigned long ipcdemo_helper_ftrace_argument(struct ftrace_regs *fregs, unsigned int n);
void ipcdemo_helper_ftrace_redirect(struct ftrace_regs *fregs, unsigned long ip);

/* How often a redirected function was called: src/abstractions/redirect/counts.rs. */
#define REDIRECT_COUNTS_MAX	64

struct redirect_counts {
	unsigned long answered;
	unsigned long passed;
};

DECLARE_PER_CPU(struct redirect_counts [REDIRECT_COUNTS_MAX], redirect_counts);

void ipcdemo_helper_count_answered(unsigned int index);
void ipcdemo_helper_count_passed(unsigned int index);
struct redirect_counts ipcdemo_helper_sum_counts(unsigned int index);

/*
 * The originals of redirected functions: ipcdemo_helper_original_NAME calls NAME, directly,
 * once ipcdemo_helper_resolve_NAME has patched its address in.
 */
#define DECLARE_ORIGINAL_SYSCALL(name)						\
	long ipcdemo_helper_original_##name(const struct pt_regs *regs);	\
	void ipcdemo_helper_resolve_##name(unsigned long address)

DECLARE_ORIGINAL_SYSCALL(__x64_sys_eventfd);
DECLARE_ORIGINAL_SYSCALL(__x64_sys_eventfd2);
DECLARE_ORIGINAL_SYSCALL(__ia32_sys_eventfd);
DECLARE_ORIGINAL_SYSCALL(__ia32_sys_eventfd2);

int ipcdemo_helper_original_create_pipe_files(struct file **res, int flags);
void ipcdemo_helper_resolve_create_pipe_files(unsigned long address);
long ipcdemo_helper_original_pipe_fcntl(struct file *file, unsigned int cmd, unsigned int arg);
void ipcdemo_helper_resolve_pipe_fcntl(unsigned long address);

void ipcdemo_helper_original_shm_init_ns(struct ipc_namespace *ns);
void ipcdemo_helper_resolve_shm_init_ns(unsigned long address);
void ipcdemo_helper_original_shm_exit_ns(struct ipc_namespace *ns);
void ipcdemo_helper_resolve_shm_exit_ns(unsigned long address);
int ipcdemo_helper_original_ipcns_install(struct nsset *nsset, struct ns_common *ns);
void ipcdemo_helper_resolve_ipcns_install(unsigned long address);

/* IPC namespaces, enrolled or not: src/abstractions/redirect/namespace.rs. */
extern struct mutex ipcdemo_members_mutex;

void ipcdemo_helper_settling_init(work_func_t settle);
void ipcdemo_helper_settling_queue(unsigned int ms);
void ipcdemo_helper_settling_end(void);

bool ipcdemo_helper_lock_down_redirections(void);
bool ipcdemo_helper_capable_over_ipc_ns(struct ipc_namespace *ns);
bool ipcdemo_helper_ipc_ns_is_used(struct ipc_namespace *ns);
bool ipcdemo_helper_current_has_undo_list(void);
bool ipcdemo_helper_current_shares_memory(void);
bool ipcdemo_helper_current_shares_ipc_ns(void);

void ipcdemo_helper_wait_for_rcu_tasks(void);
u64 ipcdemo_helper_random_u64(void);

void ipcdemo_helper_members_lock(void);
void ipcdemo_helper_members_unlock(void);
const struct nsproxy *ipcdemo_helper_current_nsproxy(void);
const struct ipc_namespace *ipcdemo_helper_nsproxy_ipc_ns(const struct nsproxy *nsproxy);
struct ipc_namespace *ipcdemo_helper_to_ipc_ns(struct ns_common *ns);
u64 ipcdemo_helper_ipc_ns_id(const struct ipc_namespace *ns);
u32 ipcdemo_helper_ipc_ns_inum(const struct ipc_namespace *ns);
bool ipcdemo_helper_ipc_ns_is_initial(const struct ipc_namespace *ns);
bool ipcdemo_helper_within_module(const void *address, const struct module *module);
void ipcdemo_helper_preempt_disable_notrace(void);
void ipcdemo_helper_preempt_enable_notrace(void);

#endif /* IPCDEMO_REDIRECT_H */
