// SPDX-License-Identifier: GPL-2.0
/*
 * A plugin of QEMU's: counts each instruction of the kernel, while the benchmark
 * says so as to count.c; told only=locked, those that are locked; told
 * only=nops, NOPs of five bytes, with one of which each C function begins that the
 * function tracer knows.
 *
 * For a round there is a line for each address that was executed, with how often,
 * and an empty one at the end. It is for one processor.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "insn.h"
#include "qemu_plugin.h"

#define EXPORT __attribute__((visibility("default")))
/* As many instructions as a kernel translates, by far. */
#define MOST 0x200000u

EXPORT int qemu_plugin_version = 4;

/* Those that were translated, in that order; and a hash table of their numbers plus one. */
static struct qemu_plugin_scoreboard *counts;
static uint64_t address[MOST], before[MOST], sum[MOST];
static uint32_t numbers[2 * MOST];
static uint32_t seen;
static bool (*wanted)(const uint8_t *code, size_t size);
static FILE *file;

static bool any(const uint8_t *code, size_t size)
{
	(void)code;
	(void)size;
	return true;
}

static bool is_locked(const uint8_t *code, size_t size)
{
	return classify(code, size) == LOCKED;
}

static bool is_nop(const uint8_t *code, size_t size)
{
	return size == 5 && !memcmp(code, "\x0f\x1f\x44\x00\x00", 5);
}

static struct entry entry(uint32_t number)
{
	return (struct entry) { counts, number * sizeof(uint64_t) };
}

static uint32_t number_of(uint64_t vaddr)
{
	uint32_t slot = (vaddr * 0x9e3779b97f4a7c15) >> 42;

	while (numbers[slot] && address[numbers[slot] - 1] != vaddr)
		slot = (slot + 1) % (2 * MOST);
	if (!numbers[slot]) {
		if (seen == MOST) {
			fprintf(stderr, "profile: too many instructions\n");
			exit(1);
		}
		address[seen] = vaddr;
		numbers[slot] = ++seen;
	}
	return numbers[slot] - 1;
}

static void mark(unsigned int cpu, void *data)
{
	enum marker marker = (uintptr_t)data;

	(void)cpu;
	for (uint32_t i = 0; i < seen; i++) {
		uint64_t now = marker == TAKE ? 0 : qemu_plugin_u64_sum(entry(i));

		if (marker == ON) {
			before[i] = now;
		} else if (marker == OFF) {
			sum[i] += now - before[i];
		} else {
			if (sum[i])
				fprintf(file, "%llx %llu\n", (unsigned long long)address[i],
					(unsigned long long)sum[i]);
			sum[i] = 0;
		}
	}
	if (marker == TAKE) {
		fputc('\n', file);
		fflush(file);
	}
}

static void translate(uint64_t id, struct qemu_plugin_tb *tb)
{
	size_t size, insns = qemu_plugin_tb_n_insns(tb);

	(void)id;
	for (size_t i = 0; i < insns; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
		uint64_t vaddr = qemu_plugin_insn_vaddr(insn);
		uint8_t code[15];
		struct entry its;
		enum marker what;

		size = qemu_plugin_insn_data(insn, code, sizeof(code));
		what = marker(code, size);
		if (what != NONE) {
			qemu_plugin_register_vcpu_insn_exec_cb(insn, mark, NO_REGISTERS,
							       (void *)(uintptr_t)what);
			continue;
		}
		/* The kernel has the upper half of the addresses. */
		if (!(vaddr >> 63) || !wanted(code, size))
			continue;
		its = entry(number_of(vaddr));
		qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(insn, ADD_U64, its, 1);
	}
}

EXPORT int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv)
{
	const char *name = NULL;

	(void)info;
	wanted = any;
	for (int i = 0; i < argc; i++) {
		if (!strncmp(argv[i], "out=", 4))
			name = argv[i] + 4;
		else if (!strcmp(argv[i], "only=locked"))
			wanted = is_locked;
		else if (!strcmp(argv[i], "only=nops"))
			wanted = is_nop;
		else
			name = NULL;
	}
	if (!name) {
		fprintf(stderr, "profile: it takes out=FILE, and only=locked or only=nops\n");
		return -1;
	}
	file = fopen(name, "w");
	if (!file) {
		perror(name);
		return -1;
	}
	counts = qemu_plugin_scoreboard_new(MOST * sizeof(uint64_t));
	qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
	return 0;
}
