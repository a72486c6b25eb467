#!/usr/bin/python3
"""Concurrent writers over the volumes of one group, through libnbd or a block device: other people's clients.

Every sector of 512 bytes that is written carries who wrote it: magic, volume, sector, operation, and the operation
again in its last eight bytes; in the eight before them what lies between, by exclusive or. Each operation is one
JSON line: {"op", "volume", "kind", "offset", "length", "submitNs", "ackNs"} with CLOCK_REALTIME in nanoseconds, taken
just before the request is submitted and just after it was acknowledged. SIGTERM ends it early, in order. Several writers share each volume, each on a
connection of its own, and a share of the operations is aimed at what another writer has in flight.

A target is an NBD URI or the path of a block device, which is written with O_DIRECT: the operations reach it as they
are, none held back or merged by the page cache.

stamp_writer.py --target TARGET [--target TARGET …] --seed N --seconds S --writers N --log FILE
                [--first NUMBER of the first operation] [--pause-ms of a writer between two, in the mean]
"""

import argparse
import fcntl
import functools
import json
import mmap
import operator
import os
import random
import signal
import struct
import threading
import time

import nbd

SECTOR = 512
MAGIC = 0x504D4154534F4741
STAMP = struct.Struct("<QQQQ")  # magic, volume, sector, operation
FILLER_BYTES = 240
END = struct.Struct("<QQ")  # what is between, by exclusive or; operation


WRITE_BYTES_MAX = 2 << 20
BLKGETSIZE64 = 0x80081272
BLKDISCARD = 0x1277
BLKZEROOUT = 0x127F


class NbdTarget:
    def __init__(self, uri):
        self.handle = nbd.NBD()
        self.handle.connect_uri(uri)
        self.size = self.handle.get_size()
        self.flush = self.handle.flush
        self.close = self.handle.shutdown

    def write(self, data, offset, fua):
        self.handle.pwrite(data, offset, nbd.CMD_FLAG_FUA if fua else 0)

    def trim(self, length, offset):
        self.handle.trim(length, offset)

    def zero(self, length, offset):
        self.handle.zero(length, offset)


class DeviceTarget:
    def __init__(self, path):
        self.file = os.open(path, os.O_RDWR | os.O_DIRECT)
        self.size = struct.unpack("=Q", fcntl.ioctl(self.file, BLKGETSIZE64, bytes(8)))[0]
        self.buffer = mmap.mmap(-1, WRITE_BYTES_MAX)  # aligned, as O_DIRECT wants it

    def write(self, data, offset, fua):
        self.buffer[: len(data)] = data
        with memoryview(self.buffer) as view, view[: len(data)] as part:
            if os.pwritev(self.file, [part], offset, os.RWF_DSYNC if fua else 0) != len(data):
                raise OSError("a short write")

    def trim(self, length, offset):
        fcntl.ioctl(self.file, BLKDISCARD, struct.pack("=QQ", offset, length))

    def zero(self, length, offset):
        fcntl.ioctl(self.file, BLKZEROOUT, struct.pack("=QQ", offset, length))

    def flush(self):
        os.fsync(self.file)

    def close(self):
        os.close(self.file)


def open_target(target):
    return DeviceTarget(target) if target.startswith("/") else NbdTarget(target)


class Operations:
    """Numbers operations from `first` on and collects their log lines."""

    def __init__(self, first):
        self.lock = threading.Lock()
        self.last = first - 1
        self.lines = []

    def begin(self):
        with self.lock:
            self.last += 1
            return self.last

    def end(self, line):
        with self.lock:
            self.lines.append(line)


def payload(volume, operation, offset, length):
    """Stamped sectors. The filler differs in every operation and compresses to about half."""
    rng = random.Random(operation)
    filler = rng.randbytes(FILLER_BYTES)
    parity = functools.reduce(operator.xor, struct.unpack(f"<{FILLER_BYTES // 8}Q", filler))
    end = END.pack(parity, operation)
    filler += bytes(SECTOR - FILLER_BYTES - STAMP.size - END.size) + end
    first = offset // SECTOR
    return b"".join(
        STAMP.pack(MAGIC, volume, first + i, operation) + filler for i in range(length // SECTOR)
    )


def length_of(rng):
    """512 B to 2 MiB, mostly small, as block traffic is: more would only fill the capture ring."""
    if rng.random() < 0.03:
        return SECTOR << rng.randrange(7, 13)
    return SECTOR << rng.choice([0, 0, 1, 2, 3, 3, 3, 3, 4, 5, 6])


def writer(number, targets, seed, pause, stop, in_flight, operations, failures):
    rng = random.Random(seed * 1000 + number)
    try:
        opened = [open_target(target) for target in targets]
        while not stop.is_set() and not failures:
            volume = rng.randrange(len(opened))
            target = opened[volume]
            size = target.size
            length = length_of(rng)
            aimed = [extent for who, extent in list(in_flight.items()) if who != number and extent[0] == volume]
            if aimed and rng.random() < 0.4:
                _, other, other_length = rng.choice(aimed)
                offset = other + rng.randrange(-length // SECTOR, other_length // SECTOR + 1) * SECTOR
            elif rng.random() < 0.3:  # a hot spot, as every database has
                offset = rng.randrange(2048) * SECTOR
            else:
                offset = rng.randrange(size // SECTOR) * SECTOR
            offset = max(0, min(offset, size - length))
            kind = rng.choices(["write", "trim", "zero", "flush"], [86, 5, 5, 4])[0]
            fua = rng.random() < 0.05
            operation = operations.begin()
            data = payload(volume, operation, offset, length) if kind == "write" else None
            in_flight[number] = (volume, offset, length)
            submit = time.time_ns()
            if kind == "write":
                target.write(data, offset, fua)
            elif kind == "trim":
                target.trim(length, offset)
            elif kind == "zero":
                target.zero(length, offset)
            else:
                target.flush()
            ack = time.time_ns()
            in_flight.pop(number, None)
            operations.end(
                {
                    "op": operation,
                    "volume": volume,
                    "kind": kind,
                    "offset": offset,
                    "length": 0 if kind == "flush" else length,
                    "submitNs": str(submit),
                    "ackNs": str(ack),
                }
            )
            if pause > 0:
                time.sleep(pause * 2 * rng.random())
        for target in opened:
            target.close()
    except Exception as error:  # reported by the main thread: a lost writer must fail the test
        failures.append(f"writer {number}: {error}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--target", action="append", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--writers", type=int, default=4)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--pause-ms", type=float, default=0)
    parser.add_argument("--operations-min", type=int, default=0, help="goes on until so many were begun")
    parser.add_argument("--log", required=True)
    arguments = parser.parse_args()
    operations = Operations(arguments.first)
    in_flight = {}
    failures = []
    stop = threading.Event()

    def time_is_up(*_):
        if operations.last - arguments.first + 1 >= arguments.operations_min or failures:
            signal.setitimer(signal.ITIMER_REAL, 0)
            stop.set()

    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGALRM, time_is_up)
    signal.setitimer(signal.ITIMER_REAL, arguments.seconds, 0.1)
    threads = [
        threading.Thread(
            target=writer,
            args=(
                number,
                arguments.target,
                arguments.seed,
                arguments.pause_ms / 1000,
                stop,
                in_flight,
                operations,
                failures,
            ),
        )
        for number in range(arguments.writers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with open(arguments.log, "w", encoding="ascii") as log:
        for line in operations.lines:
            log.write(json.dumps(line) + "\n")
    if failures:
        raise SystemExit("\n".join(failures))


main()
