/*
 * transcripts_redis.h - conversations with redis-server 7.0, written by record.py.
 */
#ifndef STENT_TESTS_TRANSCRIPTS_REDIS_H
#define STENT_TESTS_TRANSCRIPTS_REDIS_H

#include "codec_harness.h"

/* RESP2: commands, inline ones, several in one piece, one that blocks */
static const struct step redis_plain[] = {
	STEP(CLIENT, "*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$5\r\nvalue\r\n"),
	STEP(BACKEND, "+OK\r\n"),
	STEP(CLIENT, "*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n"),
	STEP(BACKEND, "$5\r\nvalue\r\n"),
	STEP(CLIENT, "*2\r\n$3\r\nGET\r\n$4\r\nnone\r\n"),
	STEP(BACKEND, "$-1\r\n"),
	STEP(CLIENT, "*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n"),
	STEP(BACKEND, ":1\r\n"),
	STEP(CLIENT, "*1\r\n$5\r\nBOGUS\r\n"),
	STEP(BACKEND, "-ERR unknown command 'BOGUS', with args beginning with: \r\n"),
	STEP(CLIENT, "*5\r\n$5\r\nRPUSH\r\n$1\r\nl\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n"),
	STEP(BACKEND, ":3\r\n"),
	STEP(CLIENT, "*4\r\n$6\r\nLRANGE\r\n$1\r\nl\r\n$1\r\n0\r\n$2\r\n-1\r\n"),
	STEP(BACKEND, "*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n"),
	STEP(CLIENT, "*3\r\n$4\r\nEVAL\r\n$17\r\nreturn{1,{2,'x'}}\r\n$1\r\n0\r\n"),
	STEP(BACKEND, "*2\r\n:1\r\n*2\r\n:2\r\n$1\r\nx\r\n"),
	STEP(CLIENT, "PING\r\n"),
	STEP(BACKEND, "+PONG\r\n"),
	STEP(CLIENT, "  echo  hi \r\n\r\nget key\r\n"),
	STEP(BACKEND, "$2\r\nhi\r\n$5\r\nvalue\r\n"),
	STEP(CLIENT, "*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n$300\r\nxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
	    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
	    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
	    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
	    "xxxx\r\n"),
	STEP(CLIENT, "*2\r\n$3\r\nGET\r\n$3\r\nbig\r\n*0\r\n*1\r\n$6\r\nDBSIZE\r\n"),
	STEP(BACKEND, "+OK\r\n"),
	STEP(BACKEND, "$300\r\nxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
	    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
	    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
	    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n"),
	STEP(BACKEND, ":4\r\n"),
	STEP(CLIENT, "*3\r\n$5\r\nBLPOP\r\n$7\r\nnothing\r\n$4\r\n0.05\r\n"),
	STEP(CLIENT, "*1\r\n$4\r\nQUIT\r\n"),
	STEP(BACKEND, "*-1\r\n+OK\r\n"),
	FIN(BACKEND),
	FIN(CLIENT),
};

/* transactions that end well, that are given up, that fail; one in one piece */
static const struct step redis_transactions[] = {
	STEP(CLIENT, "*2\r\n$5\r\nWATCH\r\n$1\r\nk\r\n"),
	STEP(BACKEND, "+OK\r\n"),
	STEP(CLIENT, "*1\r\n$5\r\nMULTI\r\n"),
	STEP(BACKEND, "+OK\r\n"),
	STEP(CLIENT, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\n1\r\n"),
	STEP(BACKEND, "+QUEUED\r\n"),
	STEP(CLIENT, "*2\r\n$4\r\nINCR\r\n$1\r\nk\r\n"),
	STEP(BACKEND, "+QUEUED\r\n"),
	STEP(CLIENT, "*1\r\n$4\r\nEXEC\r\n"),
	STEP(BACKEND, "*2\r\n+OK\r\n:2\r\n"),
	STEP(CLIENT, "*1\r\n$5\r\nMULTI\r\n"),
	STEP(BACKEND, "+OK\r\n"),
	STEP(CLIENT, "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"),
	STEP(BACKEND, "+QUEUED\r\n"),
	STEP(CLIENT, "*1\r\n$7\r\nDISCARD\r\n"),
	STEP(BACKEND, "+OK\r\n"),
	STEP(CLIENT, "*1\r\n$5\r\nMULTI\r\n"),
	STEP(BACKEND, "+OK\r\n"),
	STEP(CLIENT, "*1\r\n$5\r\nBOGUS\r\n"),
	STEP(BACKEND, "-ERR unknown command 'BOGUS', with args beginning with: \r\n"),
	STEP(CLIENT, "*1\r\n$4\r\nEXEC\r\n"),
	STEP(BACKEND, "-EXECABORT Transaction discarded because of previous errors.\r\n"),
	STEP(CLIENT, "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"),
	STEP(BACKEND, "$1\r\n2\r\n"),
	STEP(CLIENT, "*3\r\n$5\r\nMULTI\r\n$4\r\nINCR\r\n$4\r\nEXEC\r\n"),
	STEP(CLIENT, "*1\r\n$5\r\nMULTI\r\n*2\r\n$4\r\nINCR\r\n$1\r\nk\r\n"),
	STEP(CLIENT, "*1\r\n$4\r\nEXEC\r\n"),
	STEP(BACKEND, "-ERR wrong number of arguments for 'multi' command\r\n"),
	STEP(BACKEND, "+OK\r\n+QUEUED\r\n*1\r\n:3\r\n"),
	STEP(CLIENT, "*1\r\n$4\r\nEXEC\r\n"),
	STEP(BACKEND, "-ERR EXEC without MULTI\r\n"),
	STEP(CLIENT, "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"),
	STEP(BACKEND, "$1\r\n3\r\n"),
	FIN(CLIENT),
	FIN(BACKEND),
};

/* every type of RESP3, subscriptions, invalidations, back to RESP2 */
static const struct step redis_resp3[] = {
	STEP(CLIENT, "*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n"),
	STEP(BACKEND, "%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n$5\r\nproto\r"
	    "\n:3\r\n$2\r\nid\r\n:7\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmas"
	    "ter\r\n$7\r\nmodules\r\n*0\r\n"),
	STEP(CLIENT, "*6\r\n$4\r\nHSET\r\n$1\r\nh\r\n$1\r\na\r\n$1\r\n1\r\n$1\r\nb\r\n$1\r\n2\r\n"),
	STEP(BACKEND, ":2\r\n"),
	STEP(CLIENT, "*2\r\n$7\r\nHGETALL\r\n$1\r\nh\r\n"),
	STEP(BACKEND, "%2\r\n$1\r\na\r\n$1\r\n1\r\n$1\r\nb\r\n$1\r\n2\r\n"),
	STEP(CLIENT, "*4\r\n$4\r\nSADD\r\n$1\r\ns\r\n$1\r\nx\r\n$1\r\ny\r\n"),
	STEP(BACKEND, ":2\r\n"),
	STEP(CLIENT, "*2\r\n$8\r\nSMEMBERS\r\n$1\r\ns\r\n"),
	STEP(BACKEND, "~2\r\n$1\r\ny\r\n$1\r\nx\r\n"),
	STEP(CLIENT, "*4\r\n$4\r\nZADD\r\n$1\r\nz\r\n$3\r\n1.5\r\n$1\r\nm\r\n"),
	STEP(BACKEND, ":1\r\n"),
	STEP(CLIENT, "*3\r\n$6\r\nZSCORE\r\n$1\r\nz\r\n$1\r\nm\r\n"),
	STEP(BACKEND, ",1.5\r\n"),
	STEP(CLIENT, "*2\r\n$3\r\nGET\r\n$4\r\nnone\r\n"),
	STEP(BACKEND, "_\r\n"),
	STEP(CLIENT, "*3\r\n$5\r\nDEBUG\r\n$8\r\nPROTOCOL\r\n$6\r\nattrib\r\n"),
	STEP(BACKEND, "|1\r\n$14\r\nkey-popularity\r\n*2\r\n$7\r\nkey:123\r\n:90\r\n$39\r\nSome real reply "
	    "following the attribute\r\n"),
	STEP(CLIENT, "*3\r\n$5\r\nDEBUG\r\n$8\r\nPROTOCOL\r\n$6\r\nbignum\r\n"),
	STEP(BACKEND, "(1234567999999999999999999999999999999\r\n"),
	STEP(CLIENT, "*3\r\n$5\r\nDEBUG\r\n$8\r\nPROTOCOL\r\n$8\r\nverbatim\r\n"),
	STEP(BACKEND, "=29\r\ntxt:This is a verbatim\nstring\r\n"),
	STEP(CLIENT, "*3\r\n$5\r\nDEBUG\r\n$8\r\nPROTOCOL\r\n$4\r\ntrue\r\n"),
	STEP(BACKEND, "#t\r\n"),
	STEP(CLIENT, "*3\r\n$5\r\nDEBUG\r\n$8\r\nPROTOCOL\r\n$4\r\nnull\r\n"),
	STEP(BACKEND, "_\r\n"),
	STEP(CLIENT, "*3\r\n$9\r\nSUBSCRIBE\r\n$3\r\none\r\n$3\r\ntwo\r\n"),
	STEP(BACKEND, ">3\r\n$9\r\nsubscribe\r\n$3\r\none\r\n:1\r\n"),
	STEP(BACKEND, ">3\r\n$9\r\nsubscribe\r\n$3\r\ntwo\r\n:2\r\n"),
	STEP(CLIENT, "*2\r\n$10\r\nPSUBSCRIBE\r\n$2\r\np*\r\n"),
	STEP(BACKEND, ">3\r\n$10\r\npsubscribe\r\n$2\r\np*\r\n:3\r\n"),
	STEP(BACKEND, ">3\r\n$7\r\nmessage\r\n$3\r\none\r\n$5\r\nhello\r\n"),
	STEP(BACKEND, ">4\r\n$8\r\npmessage\r\n$2\r\np*\r\n$2\r\npq\r\n$5\r\nhello\r\n"),
	STEP(CLIENT, "*2\r\n$3\r\nGET\r\n$4\r\nnone\r\n"),
	STEP(BACKEND, "_\r\n"),
	STEP(CLIENT, "*2\r\n$11\r\nUNSUBSCRIBE\r\n$3\r\none\r\n"),
	STEP(BACKEND, ">3\r\n$11\r\nunsubscribe\r\n$3\r\none\r\n:2\r\n"),
	STEP(CLIENT, "*3\r\n$6\r\nCLIENT\r\n$8\r\nTRACKING\r\n$2\r\nON\r\n"),
	STEP(BACKEND, "+OK\r\n"),
	STEP(CLIENT, "*2\r\n$3\r\nGET\r\n$2\r\nh2\r\n"),
	STEP(BACKEND, "_\r\n>2\r\n$10\r\ninvalidate\r\n*1\r\n$2\r\nh2\r\n"),
	STEP(CLIENT, "*1\r\n$4\r\nPING\r\n"),
	STEP(BACKEND, "+PONG\r\n"),
	STEP(CLIENT, "*2\r\n$5\r\nHELLO\r\n$1\r\n2\r\n"),
	STEP(BACKEND, "*14\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n$5\r\nproto\r"
	    "\n:2\r\n$2\r\nid\r\n:7\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmas"
	    "ter\r\n$7\r\nmodules\r\n*0\r\n"),
	STEP(CLIENT, "*2\r\n$3\r\nGET\r\n$2\r\nh2\r\n"),
	STEP(BACKEND, "-ERR Can't execute 'get': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RES"
	    "ET are allowed in this context\r\n"),
	STEP(CLIENT, "*1\r\n$5\r\nRESET\r\n"),
	STEP(BACKEND, "+RESET\r\n"),
	STEP(CLIENT, "*1\r\n$4\r\nPING\r\n"),
	STEP(BACKEND, "+PONG\r\n"),
	FIN(CLIENT),
	FIN(BACKEND),
};

/* a subscription in RESP2 */
static const struct step redis_subscriber[] = {
	STEP(CLIENT, "*2\r\n$3\r\nGET\r\n$4\r\nnone\r\n"),
	STEP(BACKEND, "$-1\r\n"),
	STEP(CLIENT, "*2\r\n$9\r\nSUBSCRIBE\r\n$2\r\nch\r\n"),
	STEP(BACKEND, "*3\r\n$9\r\nsubscribe\r\n$2\r\nch\r\n:1\r\n"),
	STEP(BACKEND, "*3\r\n$7\r\nmessage\r\n$2\r\nch\r\n$5\r\nhello\r\n"),
	STEP(CLIENT, "*1\r\n$4\r\nPING\r\n"),
	STEP(BACKEND, "*2\r\n$4\r\npong\r\n$0\r\n\r\n"),
	STEP(CLIENT, "*2\r\n$11\r\nUNSUBSCRIBE\r\n$2\r\nch\r\n"),
	STEP(BACKEND, "*3\r\n$11\r\nunsubscribe\r\n$2\r\nch\r\n:0\r\n"),
	STEP(CLIENT, "*2\r\n$3\r\nGET\r\n$4\r\nnone\r\n"),
	STEP(BACKEND, "$-1\r\n"),
	FIN(CLIENT),
	FIN(BACKEND),
};

/* CLIENT REPLY, CLIENT CACHING, ASKING */
static const struct step redis_silence[] = {
	STEP(CLIENT, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\n1\r\n"),
	STEP(BACKEND, "+OK\r\n"),
	STEP(CLIENT, "*3\r\n$6\r\nCLIENT\r\n$5\r\nREPLY\r\n$4\r\nSKIP\r\n"),
	STEP(CLIENT, "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"),
	STEP(BACKEND, "$1\r\n1\r\n"),
	STEP(CLIENT, "*3\r\n$6\r\nclient\r\n$5\r\nreply\r\n$3\r\noff\r\n"),
	STEP(CLIENT, "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"),
	STEP(CLIENT, "*3\r\n$6\r\nCLIENT\r\n$5\r\nREPLY\r\n$2\r\nON\r\n"),
	STEP(BACKEND, "+OK\r\n"),
	STEP(CLIENT, "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"),
	STEP(BACKEND, "$1\r\n1\r\n"),
	STEP(CLIENT, "*4\r\n$6\r\nCLIENT\r\n$8\r\nTRACKING\r\n$2\r\nON\r\n$5\r\nOPTIN\r\n"),
	STEP(BACKEND, "+OK\r\n"),
	STEP(CLIENT, "*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n"),
	STEP(BACKEND, "%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n$5\r\nproto\r"
	    "\n:3\r\n$2\r\nid\r\n:10\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nma"
	    "ster\r\n$7\r\nmodules\r\n*0\r\n"),
	STEP(CLIENT, "*4\r\n$6\r\nCLIENT\r\n$8\r\nTRACKING\r\n$2\r\nON\r\n$5\r\nOPTIN\r\n"),
	STEP(BACKEND, "+OK\r\n"),
	STEP(CLIENT, "*3\r\n$6\r\nCLIENT\r\n$7\r\nCACHING\r\n$3\r\nYES\r\n"),
	STEP(BACKEND, "+OK\r\n"),
	STEP(CLIENT, "*2\r\n$6\r\nCLIENT\r\n$2\r\nID\r\n"),
	STEP(BACKEND, ":10\r\n"),
	STEP(CLIENT, "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"),
	STEP(BACKEND, "$1\r\n1\r\n"),
	STEP(CLIENT, "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"),
	STEP(BACKEND, "$1\r\n1\r\n"),
	STEP(CLIENT, "*1\r\n$6\r\nASKING\r\n"),
	STEP(BACKEND, "-ERR This instance has cluster support disabled\r\n"),
	STEP(CLIENT, "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"),
	STEP(BACKEND, "$1\r\n1\r\n"),
	FIN(CLIENT),
	FIN(BACKEND),
};

/* a server that wants a password */
static const struct step redis_login[] = {
	STEP(CLIENT, "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"),
	STEP(BACKEND, "-NOAUTH Authentication required.\r\n"),
	STEP(CLIENT, "*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n"),
	STEP(BACKEND, "-NOAUTH HELLO must be called with the client already authenticated, otherwise the HE"
	    "LLO AUTH <user> <pass> option can be used to authenticate the client and select the "
	    "RESP protocol version at the same time\r\n"),
	STEP(CLIENT, "*2\r\n$4\r\nAUTH\r\n$5\r\nwrong\r\n"),
	STEP(BACKEND, "-WRONGPASS invalid username-password pair or user is disabled.\r\n"),
	STEP(CLIENT, "*2\r\n$4\r\nAUTH\r\n$2\r\npw\r\n"),
	STEP(BACKEND, "+OK\r\n"),
	STEP(CLIENT, "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"),
	STEP(BACKEND, "$1\r\n1\r\n"),
	STEP(CLIENT, "*7\r\n$5\r\nHELLO\r\n$1\r\n3\r\n$4\r\nAUTH\r\n$7\r\ndefault\r\n$2\r\npw\r\n$7\r\nSET"
	    "NAME\r\n$2\r\nme\r\n"),
	STEP(BACKEND, "%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n$5\r\nproto\r"
	    "\n:3\r\n$2\r\nid\r\n:12\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nma"
	    "ster\r\n$7\r\nmodules\r\n*0\r\n"),
	STEP(CLIENT, "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"),
	STEP(BACKEND, "$1\r\n1\r\n"),
	FIN(CLIENT),
	FIN(BACKEND),
};

/* MONITOR */
static const struct step redis_monitor[] = {
	STEP(CLIENT, "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"),
	STEP(BACKEND, "$1\r\n1\r\n"),
	STEP(CLIENT, "*1\r\n$7\r\nMONITOR\r\n"),
	STEP(BACKEND, "+OK\r\n"),
	STEP(BACKEND, "+1795199532.083514 [0 127.0.0.1:37334] \"SET\" \"k\" \"1\"\r\n"),
	STEP(BACKEND, "+1795199532.190903 [0 127.0.0.1:37334] \"GET\" \"k\"\r\n"),
	STEP(CLIENT, "*1\r\n$4\r\nQUIT\r\n"),
	STEP(BACKEND, "+OK\r\n"),
	FIN(BACKEND),
	FIN(CLIENT),
};

/* a replica */
static const struct step redis_replica[] = {
	STEP(CLIENT, "*1\r\n$4\r\nPING\r\n"),
	STEP(BACKEND, "+PONG\r\n"),
	STEP(CLIENT, "*3\r\n$8\r\nREPLCONF\r\n$14\r\nlistening-port\r\n$4\r\n7777\r\n"),
	STEP(BACKEND, "+OK\r\n"),
	STEP(CLIENT, "*5\r\n$8\r\nREPLCONF\r\n$4\r\ncapa\r\n$3\r\neof\r\n$4\r\ncapa\r\n$6\r\npsync2\r\n"),
	STEP(BACKEND, "+OK\r\n"),
	STEP(CLIENT, "*3\r\n$5\r\nPSYNC\r\n$1\r\n\?\r\n$2\r\n-1\r\n"),
	STEP(BACKEND, "+FULLRESYNC 2e0712829e8165df98297a265ad6cacb6232c499 0\r\n"),
	STEP(BACKEND, "$EOF:53adc29e5c402b0d1e054896bf255f0adb1a5f87\r\nREDIS0010\372\011redis-ver\0067.0.1"
	    "5\372\nredis-bits\300@\372\005ctime\302,\222\000k\372\010used-mem\302@_\033\000\372"
	    "\016repl-stream-db\300\000\372\007repl-id(2e0712829e8165df98297a265ad6cacb6232c499"
	    "\372\013repl-offset\300\000\372\010aof-base\300\000\376\000\373\011\000\000\001k\300"
	    "\001\000\001n\300\001\000\003key\005value\022\001l\001\002\020\020\000\000\000\003"
	    "\000\201a\002\201b\002\201c\002\377\000\002h2\300\003\000\003big\303\014A,\001xx\340"
	    "\377\000\340\027\000\001xx\020\001h\021\021\000\000\000\004\000\201a\002\001\001\201"
	    "b\002\002\001\377\021\001z\017\017\000\000\000\002\000\201m\002\2031.5\004\377\002"
	    "\001s\002\001y\001x\377i\366Y\233dkQ:53adc29e5c402b0d1e054896bf255f0adb1a5f87"),
	STEP(CLIENT, "*3\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$2\r\n14\r\n"),
	STEP(BACKEND, "*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\n1\r\n"),
	FIN(CLIENT),
	FIN(BACKEND),
};

/* redis-py */
static const struct step redis_py[] = {
	STEP(CLIENT, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n"),
	STEP(BACKEND, "+OK\r\n"),
	STEP(CLIENT, "*1\r\n$5\r\nMULTI\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n"),
	STEP(CLIENT, "*3\r\n$6\r\nINCRBY\r\n$1\r\na\r\n$1\r\n1\r\n*1\r\n$4\r\nEXEC\r\n"),
	STEP(BACKEND, "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n:2\r\n"),
	STEP(CLIENT, "*3\r\n$6\r\nINCRBY\r\n$1\r\nk\r\n$1\r\n1\r\n"),
	STEP(BACKEND, "-ERR value is not an integer or out of range\r\n"),
	FIN(BACKEND),
};

/* node-redis in RESP3 */
static const struct step node_redis[] = {
	STEP(CLIENT, "*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n"),
	STEP(CLIENT, "*4\r\n$6\r\nCLIENT\r\n$7\r\nSETINFO\r\n$7\r\nLIB-VER\r\n$5\r\n6.3.1\r\n"),
	STEP(CLIENT, "*4\r\n$6\r\nCLIENT\r\n$7\r\nSETINFO\r\n$8\r\nLIB-NAME\r\n$10\r\nnode-redis\r\n"),
	STEP(CLIENT, "*5\r\n$6\r\nCLIENT\r\n$19\r\nMAINT_NOTIFICATIONS\r\n$2\r\nON\r\n$20\r\nmoving-endpoi"
	    "nt-type\r\n$11\r\nexternal-ip\r\n"),
	STEP(BACKEND, "%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n$5\r\nproto\r"
	    "\n:3\r\n$2\r\nid\r\n:18\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nma"
	    "ster\r\n$7\r\nmodules\r\n*0\r\n"),
	STEP(BACKEND, "-ERR unknown subcommand 'SETINFO'. Try CLIENT HELP.\r\n"),
	STEP(BACKEND, "-ERR unknown subcommand 'SETINFO'. Try CLIENT HELP.\r\n"),
	STEP(BACKEND, "-ERR unknown subcommand 'MAINT_NOTIFICATIONS'. Try CLIENT HELP.\r\n"),
	STEP(CLIENT, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n"),
	STEP(BACKEND, "+OK\r\n"),
	STEP(CLIENT, "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"),
	STEP(CLIENT, "*4\r\n$4\r\nHSET\r\n$2\r\nhh\r\n$1\r\na\r\n$1\r\n1\r\n"),
	STEP(CLIENT, "*2\r\n$7\r\nHGETALL\r\n$2\r\nhh\r\n"),
	STEP(BACKEND, "$1\r\nv\r\n:1\r\n%1\r\n$1\r\na\r\n$1\r\n1\r\n"),
	STEP(CLIENT, "*1\r\n$5\r\nMULTI\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nw\r\n"),
	STEP(CLIENT, "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*1\r\n$4\r\nEXEC\r\n"),
	STEP(BACKEND, "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n$1\r\nw\r\n"),
	FIN(CLIENT),
	FIN(BACKEND),
};

#endif
