// SPDX-License-Identifier: GPL-2.0
/*
 * Inline functions and macros of the kernel that Rust cannot call and that
 * the kernel crate has no helper for, in the manner of its rust/helpers/.
 */
#include <linux/list.h>
#include <linux/nsproxy.h>
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

void ipcdemo_helper_get_task_comm(char *comm, struct task_struct *task)
{
	strscpy_pad(comm, task->comm, TASK_COMM_LEN);
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

void ipcdemo_helper_set_current_state(unsigned int state)
{
	set_current_state(state);
}
