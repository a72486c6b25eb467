/**
 * A spool on a disk that has not kept all of it. Its files are never synced, so that every part of each may be there or
 * not. With the ring that they belong to, which only an error of the disk can leave in such a company, what is read is the
 * records that were captured, in order, up to where something is missing, and that is told; without it, as after power
 * loss, nothing is read, and nothing stays but what is somebody else's.
 */
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { fstatSync, readFileSync, readSync, writeSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import * as native from '../../native/index.js';
import { formatUuid } from '../../proto/uuid.js';
import { FaultDirectory } from '../fault/fault_directory.js';
import type { Operation } from '../fault/operation_log.js';
import { readFrame } from '../replay/frame.js';
import type { Scratch } from '../scenario/scratch.js';
import { pseudorandom } from '../scenario/seed.js';
import { Disk } from './disk.js';
import { sampleState, SAMPLE_KINDS } from './sampler.js';
import { StateDirectories } from './state_directory.js';

export interface SpoolSummary {
  states: number;
  /** Moments at which a process might have died. */
  moments: number;
  /** With the ring: everything was read, or it ended with a loss. */
  whole: number;
  lost: number;
  /** Without the ring. */
  alone: number;
  records: number;
  violations: string[];
}
interface Snapshot {
  ns: bigint;
  ring: Buffer;
  releasedLsn: bigint;
  capturedLsn: bigint;
}
interface SpoolRecording {
  operations: Operation[];
  snapshots: Snapshot[];
  /** By LSN − 1. */
  offsets: number[];
}

const GROUP = Buffer.alloc(16, 0xa1);
const MEMBER = Buffer.alloc(16, 0xb2);
const MIB = 1 << 20;
const VOLUME_BYTES = 4 * MIB;
const WRITE_BYTES = 64 * 1024;
const SPOOL = 'spool';
const SNAPSHOTS = 8;
const WRITES_PER_SNAPSHOT = 40;
/** From this one on the receiver confirms something, and files go. */
const RELEASING_FROM = 4;
const CEILING = 1n << 40n;
/** FORMAT.md, "Frame": of `header_crc32c`. */
const FRAME_CRC_AT = 156;
/** FORMAT.md, "Spool file". */
const HEADER_BYTES = 128;
const GONE_MS_MAX = 10_000;
const options = (directory: string | null): native.CaptureGroupOptions => ({
  ...{ group: GROUP, member: MEMBER, ringBytes: BigInt(8 * MIB), lingerUs: 0, lastTimeNs: 0n, era: 1 },
  spool: directory === null ? null : { directory, bytesMax: BigInt(32 * MIB) },
});

/** Tries `count` states. */
export async function proveSpool(scratch: Scratch, seed: number, count: number): Promise<SpoolSummary> {
  const recording = await recordSpool(scratch, seed);
  const random = pseudorandom(seed);
  const root = scratch.path('spools');
  await mkdir(root);
  const directories = new StateDirectories(root);
  const disk = new Disk(recording.operations);
  const figures = { states: 0, whole: 0, lost: 0, alone: 0, records: 0 };
  const summary: SpoolSummary = { ...figures, moments: recording.snapshots.length, violations: [] };
  for (const [index, snapshot] of recording.snapshots.entries()) {
    disk.advance(momentAt(recording.operations, snapshot.ns));
    const last = Math.floor((count * (index + 1)) / recording.snapshots.length);
    while (summary.states < last) {
      const kind = SAMPLE_KINDS[summary.states % SAMPLE_KINDS.length] ?? 'all';
      const state = `spool state ${summary.states} (${kind}, snapshot ${index})`;
      const made = await directories.make(disk.choose(sampleState(disk, kind, random)));
      const directory = path.join(made, SPOOL);
      const found =
        Math.floor(summary.states / SAMPLE_KINDS.length) % 3 === 2
          ? await judgeAlone(directory, summary)
          : await judgeWithRing(directory, snapshot, recording.offsets, kind === 'all', summary);
      summary.violations.push(...found.map((text) => `${state}: ${text}`));
      summary.states += 1;
      await directories.remove(made);
    }
  }
  return summary;
}

async function recordSpool(scratch: Scratch, seed: number): Promise<SpoolRecording> {
  const recorded = await FaultDirectory.start(scratch, 'spool-disk');
  const file = scratch.path('spool.img');
  await writeFile(file, Buffer.alloc(VOLUME_BYTES));
  const backing = await native.openFileDevice({
    ...{ path: file, cache: 'buffered', readOnly: false, exclusive: true },
  });
  const group = native.createCaptureGroup(options(path.join(recorded.mount, SPOOL)));
  const volume = group.addVolume(0, backing, null, null);
  const random = pseudorandom(seed);
  const snapshots: Snapshot[] = [];
  const offsets: number[] = [];
  let link = 0;
  try {
    group.beginGeneration({ epoch: 1n, generation: 1n, firstLsn: 1n, lsnCeiling: CEILING });
    for (let index = 0; index < SNAPSHOTS; index += 1) {
      for (let count = 0; count < WRITES_PER_SNAPSHOT; count += 1) {
        const offset = Math.floor(random() * (VOLUME_BYTES / WRITE_BYTES)) * WRITE_BYTES;
        offsets.push(offset);
        await volume.write(BigInt(offset), contentOf(offsets.length));
      }
      if (index >= RELEASING_FROM) link = await confirm(group, link);
      // Nothing moves any more: what is copied is what a process that dies now leaves.
      while (group.stats().ringUsedBytes * 2n > group.stats().ringBytes) await sleep(5);
      snapshots.push(snapshotOf(group));
    }
  } finally {
    await group.close();
    await volume.close();
    await backing.close();
    await recorded.stop();
  }
  return { operations: await recorded.operations(), snapshots, offsets };
}

/** The receiver has about as much as was written since the last time. */
async function confirm(group: native.CaptureGroup, link: number): Promise<number> {
  const from = group.stats().releasedLsn;
  group.startShipping(from, link);
  let next = link;
  for (let lastLsn = from; lastLsn < from + BigInt(WRITES_PER_SNAPSHOT);) {
    const frame = await group.next();
    if (frame?.kind !== 'frame') throw new Error('no frame came');
    lastLsn = frame.lastLsn;
    next = frame.buffer.readUInt32LE(frame.headroom + FRAME_CRC_AT);
    frame.release();
    group.release(lastLsn);
  }
  group.stopShipping();
  return next;
}

function snapshotOf(group: native.CaptureGroup): Snapshot {
  const { releasedLsn, capturedLsn } = group.stats();
  const ns = process.hrtime.bigint();
  const descriptor = group.ringDescriptor();
  const ring = Buffer.alloc(fstatSync(descriptor).size);
  readSync(descriptor, ring, 0, ring.length, 0);
  return { ns, ring, releasedLsn, capturedLsn };
}

function contentOf(lsn: number): Buffer {
  const words = new Uint32Array(WRITE_BYTES / 4).map((_, index) => (lsn << 14) + index + 1);
  return Buffer.from(words.buffer);
}

function momentAt(operations: readonly Operation[], ns: bigint): number {
  return operations.reduce((latest, { begin, end, beginNs, endNs }) => {
    const own = endNs <= ns ? end : beginNs <= ns ? begin : 0;
    return Math.max(latest, own);
  }, 0);
}

/** A successor adopts the ring, and ships what it finds. `isWhole`: nothing is missing. */
async function judgeWithRing(
  directory: string,
  snapshot: Snapshot,
  offsets: readonly number[],
  isWhole: boolean,
  summary: SpoolSummary,
): Promise<string[]> {
  const donor = native.createCaptureGroup(options(null));
  let adopted: native.CaptureGroup | null = null;
  try {
    const descriptor = donor.ringDescriptor();
    writeSync(descriptor, snapshot.ring, 0, snapshot.ring.length, 0);
    adopted = native.adoptCaptureGroup(options(directory), descriptor);
    return await judgeShipped(adopted, snapshot, offsets, isWhole, summary);
  } finally {
    await adopted?.close();
    await donor.close();
  }
}

async function judgeShipped(
  group: native.CaptureGroup,
  { releasedLsn, capturedLsn }: Snapshot,
  offsets: readonly number[],
  isWhole: boolean,
  summary: SpoolSummary,
): Promise<string[]> {
  if (group.stats().capturedLsn !== capturedLsn) return [`captured up to ${group.stats().capturedLsn}`];
  group.resumeGeneration(2n, CEILING);
  group.startShipping(releasedLsn, 0);
  let nextLsn = releasedLsn + 1n;
  let link = 0;
  while (nextLsn <= capturedLsn) {
    const delivery = await group.next();
    if (delivery?.kind === 'loss') {
      summary.lost += 1;
      if (!['SPOOL_CORRUPT', 'SPOOL_IO'].includes(delivery.code)) return [`lost with ${delivery.code}`];
      return isWhole ? [`a spool that is whole cannot be read from LSN ${nextLsn}`] : [];
    }
    if (delivery?.kind !== 'frame') return [`after LSN ${nextLsn - 1n} comes ${delivery?.kind ?? 'nothing'}`];
    const bytes = Buffer.from(delivery.buffer.subarray(delivery.headroom));
    delivery.release();
    const who = { group: formatUuid(GROUP), member: formatUuid(MEMBER), generation: 1n, epoch: 2n };
    const frame = readFrame(bytes, 0, { ...who, nextLsn, link });
    const payload = frame.readPayload();
    for (const { kind, offset, length, payloadOffset } of frame.records) {
      const isRight =
        kind === 'write' &&
        offset === offsets[Number(nextLsn) - 1] &&
        payload.subarray(payloadOffset, payloadOffset + length).equals(contentOf(Number(nextLsn)));
      if (!isRight) return [`the record of LSN ${nextLsn} is not what was written`];
      nextLsn += 1n;
      summary.records += 1;
    }
    link = frame.header.headerCrc;
  }
  summary.whole += 1;
  return [];
}

/** Without the ring: an agent that starts anew. */
async function judgeAlone(directory: string, summary: SpoolSummary): Promise<string[]> {
  summary.alone += 1;
  const group = native.createCaptureGroup(options(directory));
  try {
    const { streaming, spoolUsedBytes } = group.stats();
    if (streaming || spoolUsedBytes > 0n) return ['what was spooled is trusted without its ring'];
    const strange = async (): Promise<string[]> =>
      (await readdir(directory).catch(() => [])).filter(
        (name) => !group.stats().spoolForeign.includes(path.join(directory, name)),
      );
    for (const deadline = Date.now() + GONE_MS_MAX; Date.now() < deadline; await sleep(5)) {
      if ((await strange()).length === 0) break;
    }
    const left = await strange();
    if (left.length > 0) return [`nobody needs ${left.join(', ')}, and it stays`];
    const { spoolForeign } = group.stats();
    const named = spoolForeign === '' ? [] : spoolForeign.split(', ');
    const blank = named.filter((file) =>
      readFileSync(file)
        .subarray(0, HEADER_BYTES)
        .every((byte) => byte === 0),
    );
    return blank.map((file) => `${file} holds nothing, and is taken for somebody else's`);
  } finally {
    await group.close();
  }
}
