#!/bin/sh
# Writes the campaigns' database into one compressed archive, mode 0600, whole or not at all.
# usage: backup.sh DIRECTORY [KEEP]     keeps the KEEP newest (default 14)
# DATABASE names another database than nucleate; TOOL another way to mongodump than this compose file.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
to=${1:?usage: backup.sh DIRECTORY [KEEP]}
keep=${2:-14}
database=${DATABASE:-nucleate}
umask 077
mkdir -p "$to"
name=$database-$(date -u +%Y%m%dT%H%M%SZ).archive.gz
trap 'rm -f "$to/.$name"' EXIT

# The password comes from a file in the container: on a command line everybody on the host could read it.
# shellcheck disable=SC2016 # the container's shell expands it
inside='printf "password: %s\n" "$(cat /run/secrets/backup)" >/tmp/b.$$ && trap "rm -f /tmp/b.$$" EXIT && '"${TOOL:-mongodump}"' --config /tmp/b.$$ --username backup --authenticationDatabase admin --db "$1" --gzip --archive --quiet $2'
tls=
if [ -n "${TLS:-}" ]; then
    tls='--ssl --sslCAFile /tls/ca.pem'
fi
docker compose --project-directory "$here" exec -T mongodb sh -c "umask 077; $inside" backup "$database" "$tls" >"$to/.$name"
# An empty or cut archive is no backup.
gzip -t "$to/.$name"
mv "$to/.$name" "$to/$name"
echo "wrote $to/$name ($(du -h "$to/$name" | cut -f1))"

# The oldest beyond KEEP; names sort by time.
find "$to" -maxdepth 1 -name "$database-*.archive.gz" | sort -r | tail -n +"$((keep + 1))" | while read -r old; do
    rm -f -- "$old"
    echo "removed $old"
done
