#!/usr/bin/python3
"""Reads the first 4 KiB of a request through libnbd, other people's client: "OFFSET URI" a line in, "ok" a line out.

One process for all points, so that its own start is in no figure.
"""

import sys

import nbd

BYTES = 4096

for line in sys.stdin:
    offset, uri = line.split()
    client = nbd.NBD()
    client.connect_uri(uri)
    assert len(client.pread(BYTES, int(offset))) == BYTES
    print("ok", flush=True)
    client.shutdown()
