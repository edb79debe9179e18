// SPDX-License-Identifier: GPL-2.0
/*
 * A plugin of QEMU's: counts what costs more than its one instruction, while
 * the benchmark says so.
 *
 * The benchmark executes long nops that mean something here (see marker()): the
 * counts of what the kernel executes between ON and OFF add up, and TAKE writes
 * a line of them to the file and begins anew. It is for one processor.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "insn.h"
#include "qemu_plugin.h"

#define EXPORT __attribute__((visibility("default")))

EXPORT int qemu_plugin_version = 4;

static struct qemu_plugin_scoreboard *counts;
static uint64_t before[KINDS], sum[KINDS];
static FILE *file;

static struct entry entry(size_t kind)
{
	return (struct entry) { counts, kind * sizeof(uint64_t) };
}

static void mark(unsigned int cpu, void *data)
{
	enum marker marker = (uintptr_t)data;

	(void)cpu;
	for (size_t kind = 0; kind < KINDS; kind++) {
		uint64_t now = qemu_plugin_u64_sum(entry(kind));

		if (marker == ON) {
			before[kind] = now;
		} else if (marker == OFF) {
			sum[kind] += now - before[kind];
		} else {
			fprintf(file, "%llu%c", (unsigned long long)sum[kind],
				kind + 1 < KINDS ? ' ' : '\n');
			sum[kind] = 0;
		}
	}
	/* Nobody tells when the guest's power goes off in the middle. */
	if (marker == TAKE)
		fflush(file);
}

static void translate(uint64_t id, struct qemu_plugin_tb *tb)
{
	size_t number = qemu_plugin_tb_n_insns(tb);

	(void)id;
	for (size_t i = 0; i < number; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
		uint8_t code[15];
		size_t size = qemu_plugin_insn_data(insn, code, sizeof(code));
		enum marker what = marker(code, size);
		enum kind kind;

		if (what != NONE) {
			qemu_plugin_register_vcpu_insn_exec_cb(insn, mark, NO_REGISTERS,
							       (void *)(uintptr_t)what);
			continue;
		}
		/* The kernel has the upper half of the addresses. */
		if (!(qemu_plugin_insn_vaddr(insn) >> 63))
			continue;
		kind = classify(code, size);
		if (kind != OTHER)
			qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(insn, ADD_U64,
									    entry(kind), 1);
	}
}

EXPORT int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv)
{
	(void)info;
	if (argc != 1 || strncmp(argv[0], "out=", 4)) {
		fprintf(stderr, "count: it takes out=FILE\n");
		return -1;
	}
	file = fopen(argv[0] + 4, "w");
	if (!file) {
		perror(argv[0]);
		return -1;
	}
	counts = qemu_plugin_scoreboard_new(KINDS * sizeof(uint64_t));
	qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
	return 0;
}
