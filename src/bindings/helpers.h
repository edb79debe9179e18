/* SPDX-License-Identifier: GPL-2.0 */
#ifndef IPCDEMO_HELPERS_H
#define IPCDEMO_HELPERS_H

#include <linux/fs.h>
#include <linux/mm_types.h>
#include <linux/mutex.h>
#include <linux/pipe_fs_i.h>
#include <linux/sched.h>
#include <linux/uaccess.h>
#include <linux/wait.h>

extern struct mutex ipcdemo_fasync_mutex;

#define IPCDEMO_ID_TABLE_LOCKS_SHIFT	4

struct id_table_lock {
	/* Of the tables whose addresses have this hash. */
	spinlock_t lock;
} ____cacheline_aligned_in_smp;

extern struct id_table_lock ipcdemo_id_table_locks[1 << IPCDEMO_ID_TABLE_LOCKS_SHIFT];

bool ipcdemo_helper_eventfd_signal_allowed(void);
bool ipcdemo_helper_in_task(void);
void ipcdemo_helper_fasync_lock(void);
void ipcdemo_helper_fasync_unlock(void);
spinlock_t *ipcdemo_helper_id_table_lock(const void *table);
void ipcdemo_helper_id_table_unlock(spinlock_t *lock);
bool ipcdemo_helper_list_empty_careful(const struct list_head *list);
bool ipcdemo_helper_sb_start_write_trylock(struct super_block *sb);
void ipcdemo_helper_set_in_eventfd(bool in_eventfd);
int ipcdemo_helper_signal_pending_state(unsigned int state);
const struct cred *ipcdemo_helper_current_cred(void);
kuid_t ipcdemo_helper_current_uid(void);
pid_t ipcdemo_helper_task_pid_nr_ns(struct task_struct *task, struct pid_namespace *ns);
pid_t ipcdemo_helper_task_tgid_nr_ns(struct task_struct *task, struct pid_namespace *ns);
s64 ipcdemo_helper_timens_monotonic_offset(void);
void ipcdemo_helper_task_lock(struct task_struct *task);
void ipcdemo_helper_task_unlock(struct task_struct *task);
void ipcdemo_helper___set_current_state(unsigned int state);
void ipcdemo_helper_file_accessed(struct file *file);
void ipcdemo_helper_file_set_fsnotify_mode(struct file *file, fmode_t mode);
void ipcdemo_helper_get_page(struct page *page);
void ipcdemo_helper_get_task_comm(char *comm, struct task_struct *task);
void ipcdemo_helper_i_readcount_inc(struct inode *inode);
void ipcdemo_helper_list_add(struct list_head *entry, struct list_head *after);
void ipcdemo_helper_list_del_init(struct list_head *entry);
void ipcdemo_helper_list_del_init_careful(struct list_head *entry);
void ipcdemo_helper_put_page(struct page *page);
void ipcdemo_helper_sb_end_write(struct super_block *sb);
void ipcdemo_helper_set_current_state(unsigned int state);
unsigned long ipcdemo_helper_spin_lock_irqsave(spinlock_t *lock);
void ipcdemo_helper_spin_unlock_irqrestore(spinlock_t *lock, unsigned long flags);
unsigned int ipcdemo_helper_get_user_pages_bulk(unsigned int nr, void **addresses);
void ipcdemo_helper_free_user_pages(void **addresses, unsigned int nr);
unsigned long ipcdemo_helper_copy_from_user(void *to, const void __user *from, unsigned long n);
unsigned long ipcdemo_helper_copy_to_user(void __user *to, const void *from, unsigned long n);
int ipcdemo_helper_get_user_u64(u64 *to, const u64 __user *from);
int ipcdemo_helper_put_user_u64(u64 value, u64 __user *to);
struct page *ipcdemo_helper_virt_to_page(void *address);
int ipcdemo_helper_virt_page_count(void *address);
int ipcdemo_helper_pipe_wait_for_input(struct pipe_inode_info *pipe, bool nonblock);
int ipcdemo_helper_pipe_wait_writable(struct pipe_inode_info *pipe);
bool ipcdemo_helper_inode_goes_with(const struct file *file);
bool ipcdemo_helper_pipe_is_another_round(const struct pipe_inode_info *pipe);

#endif /* IPCDEMO_HELPERS_H */
