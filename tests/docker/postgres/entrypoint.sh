#!/bin/sh -e
# Makes the database cluster at the first start, with the password that it was given.
if [ "$1" = postgres ] && [ ! -d "$PGDATA" ]; then
	printf %s "$POSTGRES_PASSWORD" >/tmp/password
	initdb --no-sync --auth=scram-sha-256 --pwfile=/tmp/password >/dev/null
	rm /tmp/password
	echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
	exec "$@" -c 'listen_addresses=*' -c unix_socket_directories=/tmp
fi
exec "$@"
