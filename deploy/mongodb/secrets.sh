#!/bin/sh
# Makes the replica set's keyfile and a random password for each user where there are none. Prints none of them.
# usage: secrets.sh [DIRECTORY]     default: secrets/ beside this script
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
to=${1:-$here/secrets}
umask 077
mkdir -p "$to"
chmod 700 "$to"

make() { # name, bytes: written under another name first, so that a file is whole or not there
    if [ -s "$to/$1" ]; then
        return
    fi
    head -c "$2" /dev/urandom | base64 | tr -d '\n=' | tr '+/' '-_' >"$to/.$1"
    chmod 400 "$to/.$1"
    mv "$to/.$1" "$to/$1"
    echo "made $to/$1"
}

# mongod refuses a keyfile of more than 1024 characters, and one that others can read.
make keyfile 512
for user in admin campaign viewer backup; do
    make "$user" 32
done
# In the container everything runs as 999: it must be the files' owner to read them.
if [ "$(id -u)" = 0 ]; then
    chown -R 999:999 "$to"
else
    echo "as root: chown -R 999:999 $to"
fi
