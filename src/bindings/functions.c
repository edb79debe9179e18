// SPDX-License-Identifier: GPL-2.0
/*
 * What of the kernel Rust cannot use and takes more than an inline function.
 */
#include <linux/gfp.h>
#include <linux/log2.h>
#include <linux/memcontrol.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/pipe_fs_i.h>
#include <linux/sched/signal.h>
#include <linux/wait.h>

#include "helpers.h"

/* Who is on the lists of those who want SIGIO: src/abstractions/fasync.rs. */
DEFINE_MUTEX(ipcdemo_fasync_mutex);
/* The lists of the live objects: src/abstractions/live.rs. */
DEFINE_SPINLOCK(ipcdemo_live_spinlock);

/*
 * Where there are memory cgroups, alloc_pages_bulk() allocates one charged page a
 * call. A block is charged in one go, and split_page() splits the charge as well.
 */
static unsigned int get_charged_pages(gfp_t gfp, unsigned int nr, void **addresses)
{
	/* As skb_page_frag_refill() does: single pages serve as well, so nothing is reclaimed for a block. */
	gfp_t block_gfp = (gfp & ~__GFP_DIRECT_RECLAIM) | __GFP_NOWARN | __GFP_NORETRY;
	unsigned int max_order = PAGE_ALLOC_COSTLY_ORDER;
	unsigned int got = 0;

	while (got < nr) {
		unsigned int order = min_t(unsigned int, ilog2(nr - got), max_order);
		struct page *page = alloc_pages(order ? block_gfp : gfp, order);

		if (page) {
			split_page(page, order);
			for (unsigned int i = 0; i < 1U << order; i++)
				addresses[got++] = page_address(page + i);
		} else if (order) {
			max_order = 0;
		} else {
			break;
		}
	}
	return got;
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
	if (memcg_kmem_online())
		return get_charged_pages(gfp, nr, addresses);
	got = alloc_pages_bulk(gfp, nr, (struct page **)addresses);
	for (unsigned int i = 0; i < got; i++)
		addresses[i] = page_address(addresses[i]);
	return got;
}

void ipcdemo_helper_free_user_pages(void **addresses, unsigned int nr)
{
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
