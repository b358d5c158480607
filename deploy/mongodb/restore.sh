#!/bin/sh
# Puts an archive of backup.sh back: into another database (to look at it), or with --replace over the one it came from.
# usage: restore.sh ARCHIVE NEW_DATABASE | restore.sh ARCHIVE --replace
# Stop workers and `nucleate submit` before --replace; afterwards run `nucleate reconcile` for each campaign.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
usage='usage: restore.sh ARCHIVE NEW_DATABASE | --replace'
archive=${1:?$usage}
into=${2:?$usage}
database=${DATABASE:-nucleate}
if ! gzip -t "$archive"; then
    echo "$archive is no whole archive: nothing was changed" >&2
    exit 2
fi
case $into in
--replace) options=--drop ;;
"$database")
    echo "$database exists: write --replace to overwrite it" >&2
    exit 2
    ;;
*[!A-Za-z0-9_-]*)
    echo "$into is no name for a database" >&2
    exit 2
    ;;
*) options="--nsFrom=$database.* --nsTo=$into.*" ;;
esac
if [ -n "${TLS:-}" ]; then
    options="$options --ssl --sslCAFile /tls/ca.pem"
fi
# shellcheck disable=SC2016 # the container's shell expands it; $2 is several words
inside='set -f; printf "password: %s\n" "$(cat /run/secrets/backup)" >/tmp/r.$$ && trap "rm -f /tmp/r.$$" EXIT && mongorestore --config /tmp/r.$$ --username backup --authenticationDatabase admin --nsInclude "$1.*" --gzip --archive --quiet --stopOnError $2'
docker compose --project-directory "$here" exec -T mongodb sh -c "umask 077; $inside" restore "$database" "$options" <"$archive"
echo "restored $archive into $([ "$into" = --replace ] && echo "$database" || echo "$into")"
