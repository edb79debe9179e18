// SPDX-License-Identifier: GPL-2.0
/*
 * Inline functions and macros of the kernel that Rust cannot call and that
 * the kernel crate has no helper for, in the manner of its rust/helpers/: where
 * the kernel inlines its own (CONFIG_RUST_INLINE_HELPERS), so does Kbuild these.
 */
#include <linux/dcache.h>
#include <linux/eventfd.h>
#include <linux/fault-inject-usercopy.h>
#include <linux/fs.h>
#include <linux/gfp.h>
#include <linux/hash.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/nsproxy.h>
#include <linux/pipe_fs_i.h>
#include <linux/preempt.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/spinlock.h>
#include <linux/time_namespace.h>
#include <linux/uaccess.h>
#include <linux/wait.h>

#include "helpers.h"
#include "redirect.h"

#ifdef IPCDEMO_INLINE_HELPERS
#define __helper __always_inline
#else
#define __helper
#endif

__helper bool ipcdemo_helper_eventfd_signal_allowed(void)
{
	return eventfd_signal_allowed();
}

__helper bool ipcdemo_helper_in_task(void)
{
	return in_task();
}

__helper void ipcdemo_helper_fasync_lock(void)
{
	mutex_lock(&ipcdemo_fasync_mutex);
}

__helper void ipcdemo_helper_fasync_unlock(void)
{
	mutex_unlock(&ipcdemo_fasync_mutex);
}

/* Takes the lock of a table, which is found by its address: as lib/atomic64.c does. */
__helper spinlock_t *ipcdemo_helper_id_table_lock(const void *table)
{
	u32 index = hash_ptr(table, IPCDEMO_ID_TABLE_LOCKS_SHIFT);
	spinlock_t *lock = &ipcdemo_id_table_locks[index].lock;

	spin_lock(lock);
	return lock;
}

__helper void ipcdemo_helper_id_table_unlock(spinlock_t *lock)
{
	spin_unlock(lock);
}

__helper bool ipcdemo_helper_list_empty_careful(const struct list_head *list)
{
	return list_empty_careful(list);
}

__helper bool ipcdemo_helper_sb_start_write_trylock(struct super_block *sb)
{
	return sb_start_write_trylock(sb);
}

__helper void ipcdemo_helper_set_in_eventfd(bool in_eventfd)
{
#ifdef CONFIG_EVENTFD
	current->in_eventfd = in_eventfd;
#endif
}

__helper int ipcdemo_helper_signal_pending_state(unsigned int state)
{
	return signal_pending_state(state, current);
}

__helper const struct cred *ipcdemo_helper_current_cred(void)
{
	return current_cred();
}

__helper kuid_t ipcdemo_helper_current_uid(void)
{
	return current_uid();
}

__helper pid_t ipcdemo_helper_task_pid_nr_ns(struct task_struct *task, struct pid_namespace *ns)
{
	return task_pid_nr_ns(task, ns);
}

__helper pid_t ipcdemo_helper_task_tgid_nr_ns(struct task_struct *task, struct pid_namespace *ns)
{
	return task_tgid_nr_ns(task, ns);
}

__helper s64 ipcdemo_helper_timens_monotonic_offset(void)
{
#ifdef CONFIG_TIME_NS
	/* A task that is past exit_nsproxy_namespaces has none. */
	struct nsproxy *nsproxy = current->nsproxy;

	if (nsproxy)
		return timespec64_to_ns(&nsproxy->time_ns->offsets.monotonic);
#endif
	return 0;
}

__helper void ipcdemo_helper_task_lock(struct task_struct *task)
{
	task_lock(task);
}

__helper void ipcdemo_helper_task_unlock(struct task_struct *task)
{
	task_unlock(task);
}

__helper void ipcdemo_helper___set_current_state(unsigned int state)
{
	__set_current_state(state);
}

__helper void ipcdemo_helper_file_accessed(struct file *file)
{
	file_accessed(file);
}

__helper void ipcdemo_helper_file_set_fsnotify_mode(struct file *file, fmode_t mode)
{
	file_set_fsnotify_mode(file, mode);
}

__helper void ipcdemo_helper_get_page(struct page *page)
{
	get_page(page);
}

__helper void ipcdemo_helper_get_task_comm(char *comm, struct task_struct *task)
{
	strscpy_pad(comm, task->comm, TASK_COMM_LEN);
}

__helper void ipcdemo_helper_i_readcount_inc(struct inode *inode)
{
	i_readcount_inc(inode);
}

__helper void ipcdemo_helper_list_add(struct list_head *entry, struct list_head *after)
{
	list_add(entry, after);
}

__helper void ipcdemo_helper_list_del_init(struct list_head *entry)
{
	list_del_init(entry);
}

__helper void ipcdemo_helper_list_del_init_careful(struct list_head *entry)
{
	list_del_init_careful(entry);
}

__helper void ipcdemo_helper_put_page(struct page *page)
{
	put_page(page);
}

__helper void ipcdemo_helper_sb_end_write(struct super_block *sb)
{
	sb_end_write(sb);
}

__helper void ipcdemo_helper_set_current_state(unsigned int state)
{
	set_current_state(state);
}

__helper unsigned long ipcdemo_helper_spin_lock_irqsave(spinlock_t *lock)
{
	unsigned long flags;

	spin_lock_irqsave(lock, flags);
	return flags;
}

__helper void ipcdemo_helper_spin_unlock_irqrestore(spinlock_t *lock, unsigned long flags)
{
	spin_unlock_irqrestore(lock, flags);
}

__helper struct page *ipcdemo_helper_virt_to_page(void *address)
{
	return virt_to_page(address);
}

__helper int ipcdemo_helper_virt_page_count(void *address)
{
	return page_count(virt_to_page(address));
}

/* Whether nothing else leads to the inode of a file that is being released. */
__helper bool ipcdemo_helper_inode_goes_with(const struct file *file)
{
	return d_count(file->f_path.dentry) == 1 && icount_read_once(file->f_inode) == 1;
}

/*
 * Whether sendfile(2) seems to have moved something before in the same call: a
 * guess, which src/abstractions/vfs/splice_guess.rs explains.
 */
__helper bool ipcdemo_helper_pipe_is_another_round(const struct pipe_inode_info *pipe)
{
	return !pipe->files && pipe->tail;
}

__helper unsigned long ipcdemo_helper_copy_from_user(void *to, const void __user *from,
						     unsigned long n)
{
	return _inline_copy_from_user(to, from, n);
}

__helper unsigned long ipcdemo_helper_copy_to_user(void __user *to, const void *from,
						   unsigned long n)
{
	return _inline_copy_to_user(to, from, n);
}

/* As a copy, which these stand for, they can be made to fail. */
__helper int ipcdemo_helper_get_user_u64(u64 *to, const u64 __user *from)
{
	if (should_fail_usercopy())
		return -EFAULT;
	return get_user_inline(*to, from);
}

__helper int ipcdemo_helper_put_user_u64(u64 value, u64 __user *to)
{
	if (should_fail_usercopy())
		return -EFAULT;
	return put_user_inline(value, to);
}

/*
 * The handler of a redirection calls these from within a trampoline of the tracer's, so
 * they are not traced themselves.
 */
__helper notrace unsigned long ipcdemo_helper_ftrace_argument(struct ftrace_regs *fregs,
							      unsigned int n)
{
#ifdef CONFIG_DYNAMIC_FTRACE_WITH_ARGS
	return ftrace_regs_get_argument(fregs, n);
#else
	return 0;
#endif
}

__helper notrace void ipcdemo_helper_ftrace_redirect(struct ftrace_regs *fregs, unsigned long ip)
{
#ifdef CONFIG_DYNAMIC_FTRACE_WITH_ARGS
	ftrace_regs_set_instruction_pointer(fregs, ip);
#endif
}

__helper notrace void ipcdemo_helper_count_answered(unsigned int index)
{
	this_cpu_inc(redirect_counts[index].answered);
}

__helper notrace void ipcdemo_helper_count_passed(unsigned int index)
{
	this_cpu_inc(redirect_counts[index].passed);
}

/* Late in its exit a task has none. */
__helper notrace const struct nsproxy *ipcdemo_helper_current_nsproxy(void)
{
	return current->nsproxy;
}

__helper notrace const struct ipc_namespace *
ipcdemo_helper_nsproxy_ipc_ns(const struct nsproxy *nsproxy)
{
	return nsproxy->ipc_ns;
}

__helper notrace struct ipc_namespace *ipcdemo_helper_to_ipc_ns(struct ns_common *ns)
{
	return to_ipc_ns(ns);
}

__helper notrace u64 ipcdemo_helper_ipc_ns_id(const struct ipc_namespace *ns)
{
	return ns->ns.ns_id;
}

__helper u32 ipcdemo_helper_ipc_ns_inum(const struct ipc_namespace *ns)
{
	return ns->ns.inum;
}

__helper bool ipcdemo_helper_ipc_ns_is_initial(const struct ipc_namespace *ns)
{
	return ns == &init_ipc_ns;
}

__helper notrace bool ipcdemo_helper_within_module(const void *address, const struct module *module)
{
	return within_module_core((unsigned long)address, module);
}

__helper notrace void ipcdemo_helper_preempt_disable_notrace(void)
{
	preempt_disable_notrace();
}

__helper notrace void ipcdemo_helper_preempt_enable_notrace(void)
{
	preempt_enable_notrace();
}

__helper void ipcdemo_helper_members_lock(void)
{
	mutex_lock(&ipcdemo_members_mutex);
}

__helper void ipcdemo_helper_members_unlock(void)
{
	mutex_unlock(&ipcdemo_members_mutex);
}
