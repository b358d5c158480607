"""Runs in a batch job as a pilot would: signs with its name, counts up its beat, and takes memory when told to.

Usage: ``holder.py PILOT``, with where the database is in the environment variable ``HOLDER_DATABASE`` (JSON).
"""

from __future__ import annotations

import json
import os
import sys
import time

import pymongo

from workflows.runtime.identity import ProcessName

BEAT_S = 0.5


def main() -> None:
    where = json.loads(os.environ["HOLDER_DATABASE"])
    client = pymongo.MongoClient(where["host"], where["port"], username=where["username"], password=where["password"])
    pilots = client[where["name"]].pilots
    pilot = sys.argv[1]
    pilots.update_one({"pilot": pilot}, {"$set": {"process": str(ProcessName.own()), "state": "running"}})
    taken = []
    while True:
        record = pilots.find_one_and_update({"pilot": pilot}, {"$inc": {"beat": 1}})
        if record.get("greedy"):
            taken.append(bytearray(os.urandom(1 << 20)) * 40)
            continue
        time.sleep(BEAT_S)


if __name__ == "__main__":
    main()
