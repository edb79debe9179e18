/* SPDX-License-Identifier: GPL-2.0 */
#ifndef IPCDEMO_HELPERS_H
#define IPCDEMO_HELPERS_H

#include <linux/sched.h>
#include <linux/wait.h>

bool ipcdemo_helper_in_task(void);
bool ipcdemo_helper_list_empty_careful(const struct list_head *list);
bool ipcdemo_helper_set_in_eventfd(bool in_eventfd);
int ipcdemo_helper_signal_pending_state(unsigned int state);
pid_t ipcdemo_helper_task_pid_nr_ns(struct task_struct *task, struct pid_namespace *ns);
pid_t ipcdemo_helper_task_tgid_nr_ns(struct task_struct *task, struct pid_namespace *ns);
s64 ipcdemo_helper_timens_monotonic_offset(void);
void ipcdemo_helper___set_current_state(unsigned int state);
void ipcdemo_helper_get_task_comm(char *comm, struct task_struct *task);
void ipcdemo_helper_list_add(struct list_head *entry, struct list_head *after);
void ipcdemo_helper_list_del_init(struct list_head *entry);
void ipcdemo_helper_list_del_init_careful(struct list_head *entry);
void ipcdemo_helper_set_current_state(unsigned int state);

#endif /* IPCDEMO_HELPERS_H */
