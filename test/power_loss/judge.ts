/**
 * Opens a state as a receiver and an agent open theirs after power loss, by the same modules, and says which promises are
 * broken in it.
 */
import { open, readFile } from 'node:fs/promises';
import path from 'node:path';
import { MemberState } from '../../agent/state.js';
import * as native from '../../native/index.js';
import { toAfterimageError } from '../../proto/errors.js';
import { formatUuid } from '../../proto/uuid.js';
import { higher } from '../../proto/watermarks.js';
import type { MemberRow } from '../../receiver/catalog/members.js';
import { segmentVolumes } from '../../receiver/journal/opening.js';
import type { Member } from '../../receiver/members.js';
import { Store } from '../../receiver/store.js';
import type { DifferenceRow } from '../../receiver/catalog/verifications.js';
import { readHistory, spansOf, type Span } from '../../receiver/timeline.js';
import { judgeDoubt } from './doubt.js';
import { OpenedReceiver } from './opened_receiver.js';
import { GROUP, STATE, STORE } from './recording.js';
import { differenceKey, generationOf, type Promises } from './promises.js';
import { BLOCK_BYTES, hashOf, type FramePlace, type Truth } from './truth.js';
import { Violations, type Verdict } from './verdict.js';

/** Of a point, the blocks of the last so many records, and so many others of each volume, are compared. */
const LAST_RECORDS = 24;
const OTHER_BLOCKS = 24;
/** Frames that are appended to a state. */
const FRAMES_MAX = 3;
/** Read at once. */
const STRETCH_BLOCKS_MAX = 256;

export class Judge {
  constructor(
    private readonly truth: Truth,
    /** `group/member`, as paths and catalog have them. */
    private readonly member: string,
    private readonly random: () => number,
  ) {}

  /**
   * `directory`: the state. `points`: how many are compared, beside the newest one, which is compared whole where there are
   * others. `isMade`: the store was promised.
   */
  async judge(directory: string, promises: Promises, points: number, isMade: boolean): Promise<Verdict> {
    const verdict: Verdict = { violations: new Violations(), points: 0, frames: 0, marked: 0, unmarked: 0 };
    await this.judgeAgent(path.join(directory, STATE), promises, verdict);
    let store: Store;
    try {
      store = await Store.open(path.join(directory, STORE), native.lockFile);
    } catch (thrown) {
      if (isMade)
        verdict.violations.add('opens', `the store does not open: ${toAfterimageError(thrown).message}`);
      return verdict;
    }
    let receiver: OpenedReceiver | null = null;
    try {
      receiver = new OpenedReceiver(store, verdict.violations);
      await receiver.open();
      await this.judgeMembers(receiver, directory, promises, points, verdict);
    } catch (thrown) {
      verdict.violations.add('opens', `the receiver fails: ${(thrown as Error).stack ?? String(thrown)}`);
    } finally {
      await receiver?.close();
      store.close();
    }
    return verdict;
  }

  private async judgeAgent(directory: string, promises: Promises, { violations }: Verdict): Promise<void> {
    try {
      const { memory } = await MemberState.open(directory, GROUP, 'host', () => Buffer.alloc(16));
      if (promises.epoch === 0n) return;
      const id = `${formatUuid(memory.group)}/${formatUuid(memory.member)}`;
      if (id !== this.member)
        violations.add('agent', `the agent has forgotten who it is: ${id}, not ${this.member}`);
      const { epoch = 0n, lsnCeiling = 0n } = memory.stream ?? {};
      if (epoch < promises.epoch) {
        violations.add(
          'agent',
          `the agent has shown itself with epoch ${promises.epoch} and remembers ${epoch}`,
        );
      }
      if (lsnCeiling < promises.usedLsn) {
        violations.add(
          'agent',
          `the agent has used LSN ${promises.usedLsn} and remembers no more than ${lsnCeiling}`,
        );
      }
    } catch (thrown) {
      violations.add('agent', `the agent's state does not open: ${toAfterimageError(thrown).message}`);
    }
  }

  private async judgeMembers(
    receiver: OpenedReceiver,
    directory: string,
    promises: Promises,
    points: number,
    verdict: Verdict,
  ): Promise<void> {
    const { violations } = verdict;
    const { catalog } = receiver;
    const uuid = this.member.slice(this.member.indexOf('/') + 1);
    const row = catalog.members.member(uuid);
    const member = receiver.members.get(uuid);
    if (row === null || member === null) {
      if (promises.durableLsn > 0n || promises.generation > 0n) {
        violations.add(
          'opens',
          `the member is not served: ${row === null ? 'unknown' : receiver.members.fault(uuid)}`,
        );
      }
      return;
    }
    for (const { firstLsn, lastLsn, reason } of catalog.damage.damage(uuid)) {
      violations.add('opens', `damage from LSN ${firstLsn} to ${lastLsn}: ${reason}`);
    }
    await judgeDoubt(directory, receiver, member, this.truth, promises, verdict);
    const { durableLsn } = member.journal;
    if (durableLsn < promises.durableLsn) {
      violations.add('R4', `LSN ${promises.durableLsn} was acknowledged, the journal ends at ${durableLsn}`);
    }
    const newest = catalog.generations.newest(uuid)?.generation ?? 0n;
    if (newest < promises.generation) {
      violations.add('R4', `generation ${promises.generation} was accepted, the newest one is ${newest}`);
    }
    for (const { number, name, baseState, syncOffset } of catalog.volumes.volumes(uuid)) {
      const base = promises.bases.get(number);
      // A generation that begins before a base is complete empties it.
      if (base === undefined || base.generation !== newest || baseState === 'BASE_COMPLETE') continue;
      if (baseState === 'BASE_EMPTY' || syncOffset < base.offset) {
        violations.add(
          'R4',
          `the base of ${name} was there up to ${base.offset}, now ${baseState} ${syncOffset}`,
        );
      }
    }
    await this.judgeBases(receiver, row, newest, violations);
    const spans = spansOf(readHistory(catalog, uuid));
    const differences = catalog.verifications.differences(uuid);
    const { oldestLsn, droppedLsn } = catalog.windows.held(uuid);
    if (oldestLsn > promises.letGoLsn)
      violations.add(
        'R6',
        `points before LSN ${oldestLsn} are gone, to go were those before ${promises.letGoLsn}`,
      );
    this.judgeDifferences(receiver, uuid, newest, spans, promises, violations);
    this.judgeSpans(spans, oldestLsn, promises, differences, violations);
    for (const [name, lsn] of promises.checkpoints) {
      if (lsn < oldestLsn) continue;
      const kept = catalog.checkpoints.checkpoint(row.group, name);
      if (kept?.lsn !== lsn) violations.add('checkpoint', `checkpoint ${name} at LSN ${lsn} is not there`);
    }
    await this.judgePoints(receiver, spans, points, verdict);
    if (violations.all.length > 0) return;
    const oldest = orderedOf(spans)[0];
    if (oldestLsn > droppedLsn) {
      await receiver.finishRoll(row, member.journal);
      if (oldest !== undefined) {
        verdict.points += 1;
        await this.judgePoint(receiver, oldest.firstLsn, true, violations);
      }
    }
    await this.judgeIngest(receiver, member, verdict);
  }

  /** What the catalog says that a base holds, it holds: the initial sync writes each place once. No checksum is wrong. */
  private async judgeBases(
    { catalog, store }: OpenedReceiver,
    { uuid, group }: MemberRow,
    newest: bigint,
    violations: Violations,
  ): Promise<void> {
    for (const { number, name, uuid: volume, baseState, syncOffset, size } of catalog.volumes.volumes(uuid)) {
      if (baseState !== 'BASE_EMPTY') {
        const { badOffsets } = await native.scrubBase(store.baseFile(group, uuid, volume), size, 0n, size);
        if (badOffsets.length > 0) {
          violations.add(
            'R3',
            `blocks of the base of ${name} fail their checksums: ${badOffsets.slice(0, 5).join(', ')}`,
          );
        }
      }
      if (baseState !== 'BASE_SYNCING' || syncOffset === 0n || newest !== this.truth.baseGeneration) continue;
      const content = await readFile(store.baseFile(group, uuid, volume));
      const isSame = this.truth
        .base(number)
        .subarray(0, Number(syncOffset))
        .equals(content.subarray(0, Number(syncOffset)));
      if (!isSame)
        violations.add('R3', `the base of ${name} does not hold what it was sent below ${syncOffset}`);
    }
  }

  /** R5: a difference that was told of is known, as long as it counts; and no other. */
  private judgeDifferences(
    { catalog }: OpenedReceiver,
    uuid: string,
    newest: bigint,
    spans: readonly Span[],
    { differences: { sent, known } }: Promises,
    violations: Violations,
  ): void {
    const rows = catalog.verifications.differences(uuid);
    const keys = rows.map((row) => differenceKey(row.foundGeneration, row.number));
    const held = catalog.generations.generations(uuid)[0]?.generation ?? 0n;
    for (const key of known)
      if (!keys.includes(key) && generationOf(key) >= held)
        violations.add('R5', `the difference of generation and volume ${key} is forgotten`);
    for (const key of keys)
      if (!sent.has(key))
        violations.add('R5', `nobody has found the difference of generation and volume ${key}`);
    for (const { number, foundGeneration, firstLsn, lastLsn } of rows) {
      const isShown = (span: Span): boolean =>
        span.generation <= foundGeneration &&
        span.grade === 'ordered' &&
        span.lastLsn >= higher(firstLsn, span.firstLsn) &&
        (lastLsn === null || span.firstLsn <= lastLsn);
      const shown = spans.find(isShown);
      if (shown !== undefined)
        violations.add(
          'R5',
          `LSN ${shown.lastLsn} is called ordered, volume ${number} differs from ${firstLsn}`,
        );
      const isCompared =
        catalog.doubts.doubt(uuid, number).whole || catalog.verifications.isPending(uuid, number);
      if (lastLsn === null && foundGeneration === newest && !isCompared)
        violations.add('R5', `volume ${number} differs, and the next generation would not compare all of it`);
    }
  }

  /** R6: what was a point still is one, unless retention has let go of it, or a verification has found that it never was. */
  private judgeSpans(
    spans: readonly Span[],
    oldestLsn: bigint,
    promises: Promises,
    differences: readonly DifferenceRow[],
    violations: Violations,
  ): void {
    for (const [generation, { firstLsn: promisedFirst, lastLsn: promisedLsn }] of promises.ordered) {
      const firstLsn = higher(promisedFirst, oldestLsn);
      const lastLsn = differences
        .filter((row) => generation <= row.foundGeneration)
        .reduce((least, row) => (row.firstLsn <= least ? row.firstLsn - 1n : least), promisedLsn);
      if (lastLsn < firstLsn) continue;
      const isThere = spans.some(
        (span) =>
          span.grade === 'ordered' &&
          span.generation === generation &&
          span.firstLsn <= firstLsn &&
          span.lastLsn >= lastLsn,
      );
      if (isThere) continue;
      const found = spans.map((span) => `${span.grade} ${span.generation}: ${span.firstLsn}-${span.lastLsn}`);
      violations.add(
        'R6',
        `LSN ${firstLsn} to ${lastLsn} of generation ${generation} were points, now there is ${found.join(', ')}`,
      );
    }
  }

  /** R3: a point holds what the independent replay says that it holds. */
  private async judgePoints(
    receiver: OpenedReceiver,
    spans: readonly Span[],
    count: number,
    verdict: Verdict,
  ): Promise<void> {
    const ordered = orderedOf(spans);
    const lsns = new Set(ordered.slice(-1).map(({ lastLsn }) => lastLsn));
    // Most of what the oldest one shows is in the bases, where they were moved.
    const oldest = ordered[0];
    if (oldest !== undefined && oldest.firstLsn > 0n) lsns.add(oldest.firstLsn);
    for (let index = 0; index < count && ordered.length > 0; index += 1) {
      const { firstLsn, lastLsn } = ordered[Math.floor(this.random() * ordered.length)] as Span;
      const length = Number(lastLsn - firstLsn) + 1;
      lsns.add(firstLsn + BigInt(Math.floor(this.random() * length)));
    }
    let isWhole = count > 0;
    for (const lsn of lsns) {
      verdict.points += 1;
      await this.judgePoint(receiver, lsn, isWhole, verdict.violations);
      isWhole = false;
    }
  }

  private async judgePoint(
    { points }: OpenedReceiver,
    lsn: bigint,
    isWhole: boolean,
    violations: Violations,
  ): Promise<void> {
    const resolved = await points.resolve(GROUP, `lsn:${lsn}`, false);
    const touched = this.truth.lastTouched(lsn, LAST_RECORDS);
    const held = points.volumes(resolved, [], 'the judge');
    for (const point of held.volumes) {
      const { volume } = point;
      const blocks = new Set(touched.get(volume.number) ?? []);
      const all = Number(volume.size) / BLOCK_BYTES;
      for (let index = 0; index < (isWhole ? all : OTHER_BLOCKS); index += 1) {
        blocks.add(isWhole ? index : Math.floor(this.random() * all));
      }
      const wrong = await this.wrongBlocks(volume.number, blocks, lsn, () => point.open());
      if (wrong.length > 0) {
        violations.add(
          'R3',
          `lsn:${lsn}: ${wrong.length} of ${blocks.size} blocks of ${volume.name} are wrong: ` +
            `${wrong.slice(0, 5).join(', ')}`,
        );
      }
    }
    held.release();
  }

  private async wrongBlocks(
    volume: number,
    blocks: ReadonlySet<number>,
    lsn: bigint,
    open: () => Promise<native.BlockDevice>,
  ): Promise<number[]> {
    const wrong: number[] = [];
    const device = await open();
    try {
      for (const { first, count } of stretches(blocks)) {
        const content = Buffer.alloc(count * BLOCK_BYTES);
        await device.read(BigInt(first) * BigInt(BLOCK_BYTES), content);
        for (let index = 0; index < count; index += 1) {
          const own = content.subarray(index * BLOCK_BYTES, (index + 1) * BLOCK_BYTES);
          if (hashOf(own) !== this.truth.hashAt(volume, first + index, lsn)) wrong.push(first + index);
        }
      }
    } finally {
      await device.close();
    }
    return wrong;
  }

  /** It takes the frames that came next, and what it then shows is right. */
  private async judgeIngest(receiver: OpenedReceiver, { journal }: Member, verdict: Verdict): Promise<void> {
    const { uuid } = journal.member;
    let epoch = 0n;
    let appended = 0n;
    for (let count = 0; count < FRAMES_MAX; count += 1) {
      const newest = receiver.catalog.generations.newest(uuid);
      const place = this.truth.frames.get(journal.durableLsn + 1n);
      if (place === undefined || newest === null || place.epoch < journal.member.epoch) break;
      // A frame of the next generation follows where its sender has begun that: here it would be another one.
      if (place.generation !== newest.generation || newest.lastLsn !== null) break;
      if (place.epoch !== epoch) journal.resume(place.epoch);
      epoch = place.epoch;
      if (journal.generation !== newest.generation) {
        const volumes = segmentVolumes(receiver.catalog, uuid, newest.generation);
        await journal.beginGeneration(place.epoch, newest.generation, newest.firstLsn, volumes);
      }
      const durable = await journal.append(await readPlace(place));
      if (durable !== place.lastLsn) {
        verdict.violations.add(
          'ingest',
          `after the frame up to ${place.lastLsn} the journal ends at ${durable}`,
        );
      }
      verdict.frames += 1;
      appended = durable;
    }
    if (appended === 0n) return;
    receiver.members.refresh(uuid);
    const spans = spansOf(readHistory(receiver.catalog, uuid));
    if (
      !spans.some(
        ({ grade, firstLsn, lastLsn }) => grade === 'ordered' && firstLsn <= appended && appended <= lastLsn,
      )
    )
      return;
    verdict.points += 1;
    await this.judgePoint(receiver, appended, false, verdict.violations);
  }
}

function orderedOf(spans: readonly Span[]): Span[] {
  return spans.filter(({ grade, firstLsn, lastLsn }) => grade === 'ordered' && lastLsn >= firstLsn);
}

/** Neighbours together, at most STRETCH_BLOCKS_MAX of them. */
function stretches(blocks: ReadonlySet<number>): { first: number; count: number }[] {
  const found: { first: number; count: number }[] = [];
  for (const block of [...blocks].sort((left, right) => left - right)) {
    const last = found.at(-1);
    if (last !== undefined && last.first + last.count === block && last.count < STRETCH_BLOCKS_MAX)
      last.count += 1;
    else found.push({ first: block, count: 1 });
  }
  return found;
}

/** At a multiple of 8 in memory, as the journal wants it. */
async function readPlace({ file, position, bytes }: FramePlace): Promise<Buffer> {
  const frame = Buffer.from(new ArrayBuffer(bytes));
  const handle = await open(file, 'r');
  try {
    await handle.read(frame, 0, bytes, position);
  } finally {
    await handle.close();
  }
  return frame;
}
