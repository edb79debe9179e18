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

#include "qemu_plugin.h"

#define EXPORT __attribute__((visibility("default")))

EXPORT int qemu_plugin_version = 4;

enum kind { LOCKED, FENCE, DISABLE, KINDS, OTHER = KINDS };

enum marker { NONE = -1, OFF, ON, TAKE };

static struct qemu_plugin_scoreboard *counts;
static uint64_t before[KINDS], sum[KINDS];
static FILE *file;

static struct entry entry(size_t kind)
{
	return (struct entry) { counts, kind * sizeof(uint64_t) };
}

/* nopl 0x495043NN(%rax,%rax), which no compiler makes. */
static enum marker marker(const uint8_t *code, size_t size)
{
	static const uint8_t head[] = { 0x0f, 0x1f, 0x84, 0x00 }, tail[] = { 0x43, 0x50, 0x49 };

	if (size != 8 || memcmp(code, head, 4) || memcmp(code + 5, tail, 3) || code[4] > TAKE)
		return NONE;
	return code[4];
}

static bool is_prefix(uint8_t byte)
{
	return memchr("\x26\x2e\x36\x3e\x64\x65\x66\x67\xf0\xf2\xf3", byte, 11) ||
	       (byte & 0xf0) == 0x40;
}

static enum kind classify(const uint8_t *code, size_t size)
{
	bool locked = false;
	size_t left;

	for (; size && is_prefix(*code); code++, size--)
		locked |= *code == 0xf0;
	left = size ? size - 1 : 0;
	if (!size)
		return OTHER;
	if (*code == 0xfa)
		return DISABLE;
	if (*code == 0x0f && left >= 2 && code[1] == 0xae && (code[2] & 0xf8) == 0xf0 && !locked)
		return FENCE;
	/* An exchange with memory needs no prefix. */
	if ((*code == 0x86 || *code == 0x87) && left && code[1] < 0xc0)
		return LOCKED;
	if (!locked)
		return OTHER;
	/* lock addl or orl $0, of what is on the stack: it changes nothing, and is a fence. */
	if (*code == 0x83 && left >= 3 && (code[1] & 0x37) == 0x04 && code[2] == 0x24 &&
	    !code[size - 1])
		return FENCE;
	return LOCKED;
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
