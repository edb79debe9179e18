/* SPDX-License-Identifier: GPL-2.0 */
/* What the plugins tell of an instruction by its bytes. */
#ifndef IPCDEMO_INSN_H
#define IPCDEMO_INSN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum kind { LOCKED, FENCE, DISABLE, KINDS, OTHER = KINDS };

enum marker { NONE = -1, OFF, ON, TAKE };

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

#endif /* IPCDEMO_INSN_H */
