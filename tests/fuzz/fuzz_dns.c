/*
 * fuzz_dns.c - replies that no name server would send, and files that nobody would write.
 *
 * Whatever a reply is: it is judged, without a byte read or written that is not
 * there. What has another id, or another question, is ignored.
 */
#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stent/dns.h"
#include "stent/name_files.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The input, as it is and then behind the id and the question that it would have to have. */
static void
read_replies(const uint8_t *data, size_t size)
{
	uint8_t question[DNS_QUESTION_MAX], *reply;
	struct dns_addresses found;
	const int len = dns_write_question(question, 0x1234, "www.test", size % 2 == 0 ? DNS_A : DNS_AAAA, NULL);
	const size_t body = (size_t)len - 12;
	enum dns_verdict verdict = dns_read_reply(question, (size_t)len, data, size, true, &found);

	assert(verdict == DNS_IGNORED || (size >= 12 && memcmp(data, question, 2) == 0));
	if (size < 12)
		return;
	reply = malloc(size + body);
	assert(reply != NULL);
	memcpy(reply, data, 12);
	memcpy(reply, question, 2);
	reply[2] = (uint8_t)((data[2] | 0x80) & 0x87);
	memcpy(reply + 4, question + 4, 2);
	memcpy(reply + 12, question + 12, body);
	memcpy(reply + 12 + body, data + 12, size - 12);
	verdict = dns_read_reply(question, (size_t)len, reply, size + body, false, &found);
	assert(found.n <= DNS_ADDRESSES_MAX && (verdict != DNS_FOUND || found.n > 0));
	free(reply);
}

static void
read_files(const uint8_t *data, size_t size)
{
	FILE *in = fmemopen((void *)(uintptr_t)data, size, "r");
	struct sockaddr_storage at[4];
	struct resolv_conf conf;
	char name[DNS_NAME_MAX + 1];

	assert(in != NULL);
	resolv_conf_read(&conf, in, "host.example");
	assert(conf.n_servers >= 1 && conf.n_servers <= RESOLV_SERVERS_MAX);
	for (size_t i = 0; resolv_conf_candidate(&conf, "www.test", i, name); i++)
		assert(i <= RESOLV_SEARCH_MAX && strncmp(name, "www.test", 8) == 0);
	rewind(in);
	assert(hosts_find(in, "www.test", at, 4) <= 4);
	fclose(in);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	read_replies(data, size);
	if (size > 0)
		read_files(data, size);
	return 0;
}
