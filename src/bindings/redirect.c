// SPDX-License-Identifier: GPL-2.0
/*
 * Redirections of kernel functions, as far as they take macros and structs that Rust
 * does not have: src/abstractions/redirect/ has the rules.
 */
#include <linux/capability.h>
#include <linux/ftrace.h>
#include <linux/kprobes.h>
#include <linux/random.h>
#include <linux/rcupdate.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/security.h>
#include <linux/static_call.h>
#include <linux/workqueue.h>

#include "redirect.h"

#if defined(CONFIG_DYNAMIC_FTRACE_WITH_ARGS) && defined(CONFIG_KPROBES)

int ipcdemo_helper_hook_arm(struct redirect_hook *hook, redirect_handler_t handler,
			    unsigned long *ips, unsigned int nr)
{
	int ret;

	hook->ops = (struct ftrace_ops) {
		.func = handler,
		.flags = FTRACE_OPS_FL_IPMODIFY | FTRACE_OPS_FL_DYNAMIC,
	};
	ret = ftrace_set_filter_ips(&hook->ops, ips, nr, 0, 1);
	if (!ret) {
		ret = register_ftrace_function(&hook->ops);
		/* It was on the tracer's list for a moment, which is walked with preemption off. */
		if (ret)
			synchronize_rcu_tasks_rude();
	}
	if (ret)
		ftrace_free_filter(&hook->ops);
	return ret;
}

int ipcdemo_helper_hook_disarm(struct redirect_hook *hook)
{
	int ret = unregister_ftrace_function(&hook->ops);

	if (!ret)
		ftrace_free_filter(&hook->ops);
	return ret;
}

void ipcdemo_helper_wait_for_rcu_tasks(void)
{
	synchronize_rcu_tasks();
}

/* Where the tracer enters the function, behind its ENDBR; 0 if there is no such function. */
unsigned long ipcdemo_helper_function_address(const char *name)
{
	struct kprobe probe = {
		.symbol_name = name,
		.flags = KPROBE_FLAG_DISABLED,
	};
	unsigned long address;

	if (register_kprobe(&probe))
		return 0;
	address = (unsigned long)probe.addr;
	unregister_kprobe(&probe);
	return address;
}

#else

int ipcdemo_helper_hook_arm(struct redirect_hook *hook, redirect_handler_t handler,
			    unsigned long *ips, unsigned int nr)
{
	return -EOPNOTSUPP;
}

int ipcdemo_helper_hook_disarm(struct redirect_hook *hook)
{
	return 0;
}

unsigned long ipcdemo_helper_function_address(const char *name)
{
	return 0;
}

void ipcdemo_helper_wait_for_rcu_tasks(void)
{
}

#endif

u64 ipcdemo_helper_random_u64(void)
{
	return get_random_u64();
}

DEFINE_PER_CPU(struct redirect_counts [REDIRECT_COUNTS_MAX], redirect_counts);

struct redirect_counts ipcdemo_helper_sum_counts(unsigned int index)
{
	struct redirect_counts sum = {};
	int cpu;

	for_each_possible_cpu(cpu) {
		struct redirect_counts *counts = per_cpu(redirect_counts, cpu);

		sum.answered += READ_ONCE(counts[index].answered);
		sum.passed += READ_ONCE(counts[index].passed);
	}
	return sum;
}

/*
 * The originals. A static call is a direct one, which CFI does not judge: a function may
 * have been sealed against indirect calls. The address that it gets is behind the
 * instruction by which the function enters the tracer: a call that is answered here was
 * traced once already.
 */
typedef long (*original_syscall_t)(const struct pt_regs *regs);
typedef void (*original_ns_t)(struct ipc_namespace *ns);
typedef int (*original_install_t)(struct nsset *nsset, struct ns_common *ns);

#define DEFINE_ORIGINAL_SYSCALL(name)						\
static long unresolved_##name(const struct pt_regs *regs)			\
{										\
	return -EINVAL;								\
}										\
										\
DEFINE_STATIC_CALL(ipcdemo_call_##name, unresolved_##name);			\
										\
void ipcdemo_helper_resolve_##name(unsigned long address)			\
{										\
	static_call_update(ipcdemo_call_##name, (original_syscall_t)address);	\
}										\
										\
long ipcdemo_helper_original_##name(const struct pt_regs *regs)			\
{										\
	return static_call(ipcdemo_call_##name)(regs);				\
}

DEFINE_ORIGINAL_SYSCALL(__x64_sys_eventfd)
DEFINE_ORIGINAL_SYSCALL(__x64_sys_eventfd2)
DEFINE_ORIGINAL_SYSCALL(__ia32_sys_eventfd)
DEFINE_ORIGINAL_SYSCALL(__ia32_sys_eventfd2)

typedef int (*original_pipe_files_t)(struct file **res, int flags);
typedef long (*original_pipe_fcntl_t)(struct file *file, unsigned int cmd, unsigned int arg);

static int unresolved_pipe_files(struct file **res, int flags)
{
	return -EINVAL;
}

DEFINE_STATIC_CALL(ipcdemo_call_create_pipe_files, unresolved_pipe_files);

void ipcdemo_helper_resolve_create_pipe_files(unsigned long address)
{
	static_call_update(ipcdemo_call_create_pipe_files, (original_pipe_files_t)address);
}

int ipcdemo_helper_original_create_pipe_files(struct file **res, int flags)
{
	return static_call(ipcdemo_call_create_pipe_files)(res, flags);
}

static long unresolved_pipe_fcntl(struct file *file, unsigned int cmd, unsigned int arg)
{
	return -EINVAL;
}

DEFINE_STATIC_CALL(ipcdemo_call_pipe_fcntl, unresolved_pipe_fcntl);

void ipcdemo_helper_resolve_pipe_fcntl(unsigned long address)
{
	static_call_update(ipcdemo_call_pipe_fcntl, (original_pipe_fcntl_t)address);
}

long ipcdemo_helper_original_pipe_fcntl(struct file *file, unsigned int cmd, unsigned int arg)
{
	return static_call(ipcdemo_call_pipe_fcntl)(file, cmd, arg);
}

static void unresolved_ns(struct ipc_namespace *ns)
{
}

DEFINE_STATIC_CALL(ipcdemo_call_shm_init_ns, unresolved_ns);
DEFINE_STATIC_CALL(ipcdemo_call_shm_exit_ns, unresolved_ns);

void ipcdemo_helper_resolve_shm_init_ns(unsigned long address)
{
	static_call_update(ipcdemo_call_shm_init_ns, (original_ns_t)address);
}

void ipcdemo_helper_original_shm_init_ns(struct ipc_namespace *ns)
{
	static_call(ipcdemo_call_shm_init_ns)(ns);
}

void ipcdemo_helper_resolve_shm_exit_ns(unsigned long address)
{
	static_call_update(ipcdemo_call_shm_exit_ns, (original_ns_t)address);
}

void ipcdemo_helper_original_shm_exit_ns(struct ipc_namespace *ns)
{
	static_call(ipcdemo_call_shm_exit_ns)(ns);
}

static int unresolved_install(struct nsset *nsset, struct ns_common *ns)
{
	return -EINVAL;
}

DEFINE_STATIC_CALL(ipcdemo_call_ipcns_install, unresolved_install);

void ipcdemo_helper_resolve_ipcns_install(unsigned long address)
{
	static_call_update(ipcdemo_call_ipcns_install, (original_install_t)address);
}

int ipcdemo_helper_original_ipcns_install(struct nsset *nsset, struct ns_common *ns)
{
	return static_call(ipcdemo_call_ipcns_install)(nsset, ns);
}

/* Of src/abstractions/redirect/members.rs, which says what it guards. */
DEFINE_MUTEX(ipcdemo_members_mutex);

/* Of src/abstractions/redirect/routes.rs: disarms what no member needs any more. */
static struct delayed_work settling;

void ipcdemo_helper_settling_init(work_func_t settle)
{
	INIT_DELAYED_WORK(&settling, settle);
}

void ipcdemo_helper_settling_queue(unsigned int ms)
{
	queue_delayed_work(system_dfl_wq, &settling, msecs_to_jiffies(ms));
}

void ipcdemo_helper_settling_end(void)
{
	disable_delayed_work_sync(&settling);
}

/* Whether the kernel is locked down against what redirects its functions. */
bool ipcdemo_helper_lock_down_redirections(void)
{
	return security_locked_down(LOCKDOWN_KPROBES) != 0;
}

bool ipcdemo_helper_capable_over_ipc_ns(struct ipc_namespace *ns)
{
	return ns_capable(ns->user_ns, CAP_SYS_ADMIN);
}

/* Whether there are objects in the namespace. */
bool ipcdemo_helper_ipc_ns_is_used(struct ipc_namespace *ns)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(ns->ids); i++)
		if (READ_ONCE(ns->ids[i].in_use))
			return true;
	return READ_ONCE(ns->mq_queues_count);
}

bool ipcdemo_helper_current_has_undo_list(void)
{
#ifdef CONFIG_SYSVIPC
	return current->sysvsem.undo_list;
#else
	return false;
#endif
}

/*
 * Whether another task runs in the caller's memory. The memory's count of users alone does not
 * tell: each reader of the caller's files in /proc is a user for a while, and so is a thread that
 * was joined and is not quite gone.
 */
bool ipcdemo_helper_current_shares_memory(void)
{
	struct mm_struct *mm = current->mm;
	struct task_struct *process, *thread;
	bool shares = false;

	if (!mm)
		return false;
	if (atomic_read(&current->signal->live) > 1)
		return true;
	if (atomic_read(&mm->mm_users) == 1)
		return false;
	rcu_read_lock();
	for_each_process(process) {
		if (process->flags & PF_KTHREAD || same_thread_group(process, current))
			continue;
		for_each_thread(process, thread) {
			struct mm_struct *other = READ_ONCE(thread->mm);

			shares = other == mm;
			if (other)
				break;
			/* It is exiting: a task that it made before has to be seen, too. */
			smp_rmb();
		}
		if (shares)
			break;
	}
	rcu_read_unlock();
	return shares;
}

/* Whether somebody else has the caller's namespaces, or has this one open. */
bool ipcdemo_helper_current_shares_ipc_ns(void)
{
	struct nsproxy *nsproxy = current->nsproxy;

	return refcount_read(&nsproxy->count) > 1 || ns_ref_read(nsproxy->ipc_ns) > 1;
}
