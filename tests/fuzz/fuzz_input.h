/* fuzz_input.h - reads the input of a fuzz target byte by byte; behind its end there are zeros. Included once in a program. */
#ifndef STENT_FUZZ_INPUT_H
#define STENT_FUZZ_INPUT_H

#include <stddef.h>
#include <stdint.h>

/* What is left of the input. */
static const uint8_t *input;
static size_t left;

static uint8_t
next_byte(void)
{
	if (left == 0)
		return 0;
	left--;
	return *input++;
}

/* As many bytes as the next one says, or what there is; they stay where they are. */
static size_t
take_piece(const uint8_t **piece)
{
	size_t n = next_byte();

	n = n < left ? n : left;
	*piece = input;
	input += n;
	left -= n;
	return n;
}

#endif
