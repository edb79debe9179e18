// SPDX-License-Identifier: GPL-2.0
/*
 * Inline functions and macros of the kernel that Rust cannot call and that
 * the kernel crate has no helper for, in the manner of its rust/helpers/.
 */
#include <linux/sched/signal.h>
#include <linux/wait.h>

#include "helpers.h"

void ipcdemo_helper___add_wait_queue_entry_tail(struct wait_queue_head *head,
						struct wait_queue_entry *entry)
{
	__add_wait_queue_entry_tail(head, entry);
}

void ipcdemo_helper___remove_wait_queue(struct wait_queue_head *head,
					struct wait_queue_entry *entry)
{
	__remove_wait_queue(head, entry);
}

void ipcdemo_helper_set_current_state(unsigned int state)
{
	set_current_state(state);
}

int ipcdemo_helper_signal_pending_state(unsigned int state)
{
	return signal_pending_state(state, current);
}

int ipcdemo_helper_waitqueue_active(struct wait_queue_head *head)
{
	/* The caller holds head->lock, which orders this. */
	return waitqueue_active(head);
}

void ipcdemo_helper___set_current_state(unsigned int state)
{
	__set_current_state(state);
}

void ipcdemo_helper_set_in_eventfd(bool in_eventfd)
{
#ifdef CONFIG_EVENTFD
	current->in_eventfd = in_eventfd;
#endif
}
