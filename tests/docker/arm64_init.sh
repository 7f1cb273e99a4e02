#!/bin/bash
# arm64_init.sh - the first process of an arm64 machine whose kernel has seccomp and Landlock: stent in its sandbox relays, with
# TLS too, is reloaded, and the unit test makes each forbidden call. Each line that begins with "guest:" is a result.
export PATH=/usr/bin:/bin
mkdir -p /proc /sys /dev /run /tmp/new
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
exec </dev/null >/dev/console 2>&1
say() { echo "guest: $*"; }

exchange() {	# NAME PORT: a line there and back, through stent
	local line=""
	if exec 3<>"/dev/tcp/127.0.0.1/$2"; then
		echo "over $1" >&3
		read -r -t 60 line <&3
		exec 3>&-
	fi
	say "$1: ${line:-nothing}"
}

perl -MSocket -e 'socket(S, AF_INET, SOCK_DGRAM, 0); $up = pack("a16sx14", "lo", 0x41); ioctl(S, 0x8914, $up) or die $!'	# IFF_UP, IFF_RUNNING
perl -MIO::Socket::INET -e '
	$l = IO::Socket::INET->new(Listen => 9, LocalAddr => "127.0.0.1:7000") or die $!;
	while ($c = $l->accept) { if (fork) { close $c; next } while (sysread $c, $b, 9999) { syswrite $c, $b } exit }' &
mkdir /run/stent
chmod 1777 /tmp /tmp/new /run/stent
say "kernel $(uname -r), $(uname -m)"
/stent run -c /conf/stent.ini &
pid=$!
for _ in {1..60}; do
	if grep -qs 'Seccomp:.*2' "/proc/$pid/status"; then break; fi
	sleep 1
done
say "filters: $(cat /proc/$pid/task/*/status | grep -c 'Seccomp:.*2') of $(cat /proc/$pid/task/*/status | grep -c Seccomp:) threads"
exchange plain 6001
exchange tls 6002
printf '[route new]\nlisten = 127.0.0.1:6004\nbackend = localhost:7000\n' >>/conf/stent.ini
/stent reload -c /conf/stent.ini && exchange reloaded 6004
printf '[route folder]\nlisten = unix:/tmp/new/s\nbackend = localhost:7000\n' >>/conf/stent.ini
say "new folder: $(/stent reload -c /conf/stent.ini 2>&1)"
kill $pid
wait $pid
say "stent ended: $?"
for test in /test_sandbox*; do
	$test
	say "$test ended: $?"
done
echo o >/proc/sysrq-trigger
sleep 60
