// SPDX-License-Identifier: GPL-2.0
/*
 * What of the kernel Rust cannot use and takes more than an inline function.
 */
#include <linux/gfp.h>
#include <linux/memcontrol.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/pipe_fs_i.h>
#include <linux/sched/signal.h>
#include <linux/wait.h>

#include "helpers.h"

/* Who is on the lists of those who want SIGIO: src/abstractions/vfs/fasync.rs. */
DEFINE_MUTEX(ipcdemo_fasync_mutex);
/* The locks of the tables of objects, which share them: src/abstractions/tables/id_table.rs. */
struct id_table_lock ipcdemo_id_table_locks[1 << IPCDEMO_ID_TABLE_LOCKS_SHIFT] = {
	[0 ... (1 << IPCDEMO_ID_TABLE_LOCKS_SHIFT) - 1] = {
		.lock = __SPIN_LOCK_UNLOCKED(ipcdemo_id_table_locks.lock),
	},
};

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

/*
 * Charged to a memory cgroup, pages come one a call: alloc_pages_bulk() allocates no
 * more of those. Blocks and split_page() would take fewer instructions, but more time:
 * only single pages go back to where the next write finds them, still in the cache.
 * release_pages() uncharges and frees them together, which is dearer without a cgroup.
 */
void ipcdemo_helper_free_user_pages(void **addresses, unsigned int nr)
{
	if (nr > 1 && memcg_kmem_online()) {
		for (unsigned int i = 0; i < nr; i++)
			addresses[i] = virt_to_page(addresses[i]);
		release_pages((struct page **)addresses, nr);
		return;
	}
	for (unsigned int i = 0; i < nr; i++)
		__free_page(virt_to_page(addresses[i]));
}

int ipcdemo_helper_pipe_wait_writable(struct pipe_inode_info *pipe)
{
	return wait_event_interruptible(pipe->wr_wait,
					!pipe_is_full(pipe) || !READ_ONCE(pipe->readers));
}

/* What splice(2) between pipes waits for first: ipipe_prep in fs/splice.c. */
int ipcdemo_helper_pipe_wait_for_input(struct pipe_inode_info *pipe, bool nonblock)
{
	while (pipe_is_empty(pipe)) {
		if (signal_pending(current))
			return -ERESTARTSYS;
		if (!READ_ONCE(pipe->writers))
			break;
		if (nonblock)
			return -EAGAIN;
		wait_event_interruptible(pipe->rd_wait,
					 !pipe_is_empty(pipe) || !READ_ONCE(pipe->writers));
	}
	return 0;
}
