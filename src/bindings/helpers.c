// SPDX-License-Identifier: GPL-2.0
/*
 * Inline functions and macros of the kernel that Rust cannot call and that
 * the kernel crate has no helper for, in the manner of its rust/helpers/.
 */
#include <linux/fs.h>
#include <linux/gfp.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/nsproxy.h>
#include <linux/pipe_fs_i.h>
#include <linux/preempt.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/time_namespace.h>
#include <linux/wait.h>

#include "helpers.h"

bool ipcdemo_helper_in_task(void)
{
	return in_task();
}

bool ipcdemo_helper_list_empty_careful(const struct list_head *list)
{
	return list_empty_careful(list);
}

bool ipcdemo_helper_sb_start_write_trylock(struct super_block *sb)
{
	return sb_start_write_trylock(sb);
}

bool ipcdemo_helper_set_in_eventfd(bool in_eventfd)
{
#ifdef CONFIG_EVENTFD
	bool before = current->in_eventfd;

	current->in_eventfd = in_eventfd;
	return before;
#else
	return false;
#endif
}

int ipcdemo_helper_signal_pending_state(unsigned int state)
{
	return signal_pending_state(state, current);
}

kuid_t ipcdemo_helper_current_uid(void)
{
	return current_uid();
}

pid_t ipcdemo_helper_task_pid_nr_ns(struct task_struct *task, struct pid_namespace *ns)
{
	return task_pid_nr_ns(task, ns);
}

pid_t ipcdemo_helper_task_tgid_nr_ns(struct task_struct *task, struct pid_namespace *ns)
{
	return task_tgid_nr_ns(task, ns);
}

s64 ipcdemo_helper_timens_monotonic_offset(void)
{
#ifdef CONFIG_TIME_NS
	return timespec64_to_ns(&current->nsproxy->time_ns->offsets.monotonic);
#else
	return 0;
#endif
}

void ipcdemo_helper___set_current_state(unsigned int state)
{
	__set_current_state(state);
}

void ipcdemo_helper_file_accessed(struct file *file)
{
	file_accessed(file);
}

void ipcdemo_helper_file_set_fsnotify_mode(struct file *file, fmode_t mode)
{
	file_set_fsnotify_mode(file, mode);
}

void ipcdemo_helper_get_page(struct page *page)
{
	get_page(page);
}

void ipcdemo_helper_get_task_comm(char *comm, struct task_struct *task)
{
	strscpy_pad(comm, task->comm, TASK_COMM_LEN);
}

void ipcdemo_helper_inode_state_assign_raw(struct inode *inode, unsigned int flags)
{
	inode_state_assign_raw(inode, flags);
}

void ipcdemo_helper_list_add(struct list_head *entry, struct list_head *after)
{
	list_add(entry, after);
}

void ipcdemo_helper_list_del_init(struct list_head *entry)
{
	list_del_init(entry);
}

void ipcdemo_helper_list_del_init_careful(struct list_head *entry)
{
	list_del_init_careful(entry);
}

void ipcdemo_helper_put_page(struct page *page)
{
	put_page(page);
}

void ipcdemo_helper_sb_end_write(struct super_block *sb)
{
	sb_end_write(sb);
}

void ipcdemo_helper_set_current_state(unsigned int state)
{
	set_current_state(state);
}

/* The array has to be of null pointers. */
unsigned int ipcdemo_helper_get_user_pages_bulk(unsigned int nr, void **addresses)
{
	gfp_t gfp = GFP_USER | __GFP_ACCOUNT;
	unsigned int got;

	if (nr == 1) {
		addresses[0] = (void *)__get_free_page(gfp);
		return addresses[0] ? 1 : 0;
	}
	got = alloc_pages_bulk(gfp, nr, (struct page **)addresses);
	for (unsigned int i = 0; i < got; i++)
		addresses[i] = page_address(addresses[i]);
	return got;
}

void ipcdemo_helper_free_user_pages(void **addresses, unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++)
		free_page((unsigned long)addresses[i]);
}

struct page *ipcdemo_helper_virt_to_page(void *address)
{
	return virt_to_page(address);
}

int ipcdemo_helper_virt_page_count(void *address)
{
	return page_count(virt_to_page(address));
}

static DEFINE_MUTEX(ipcdemo_fasync_mutex);

void ipcdemo_helper_fasync_lock(void)
{
	mutex_lock(&ipcdemo_fasync_mutex);
}

void ipcdemo_helper_fasync_unlock(void)
{
	mutex_unlock(&ipcdemo_fasync_mutex);
}

static DEFINE_MUTEX(ipcdemo_live_mutex);

void ipcdemo_helper_live_lock(void)
{
	mutex_lock(&ipcdemo_live_mutex);
}

void ipcdemo_helper_live_unlock(void)
{
	mutex_unlock(&ipcdemo_live_mutex);
}

int ipcdemo_helper_pipe_wait_writable(struct pipe_inode_info *pipe)
{
	return wait_event_interruptible(pipe->wr_wait,
					!pipe_is_full(pipe) || !READ_ONCE(pipe->readers));
}

bool ipcdemo_helper_pipe_has_files(const struct pipe_inode_info *pipe)
{
	return pipe->files;
}
