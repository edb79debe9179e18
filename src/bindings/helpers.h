/* SPDX-License-Identifier: GPL-2.0 */
#ifndef IPCDEMO_HELPERS_H
#define IPCDEMO_HELPERS_H

#include <linux/wait.h>

void ipcdemo_helper___add_wait_queue_entry_tail(struct wait_queue_head *head,
						struct wait_queue_entry *entry);
void ipcdemo_helper___remove_wait_queue(struct wait_queue_head *head,
					struct wait_queue_entry *entry);
void ipcdemo_helper_set_current_state(unsigned int state);
int ipcdemo_helper_signal_pending_state(unsigned int state);
int ipcdemo_helper_waitqueue_active(struct wait_queue_head *head);
void ipcdemo_helper___set_current_state(unsigned int state);
void ipcdemo_helper_set_in_eventfd(bool in_eventfd);

#endif /* IPCDEMO_HELPERS_H */
