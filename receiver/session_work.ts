/**
 * What a session wants done, once its member is known: each method carries out one action of the session machine
 * (session_events.ts) and returns the event that answers it. Errors are thrown with their code.
 */
import { AfterimageError, toAfterimageError } from '../proto/errors.js';
import type {
  Checkpoint,
  GenerationBegin,
  Heartbeat,
  Hello,
  StreamEnd,
  SyncData,
} from '../proto/replication.js';
import { formatUuid } from '../proto/uuid.js';
import type { Log } from '../service/log.js';
import type { MessageMemory } from '../service/message_assembly.js';
import { alignedFrame } from './aligned_frame.js';
import type { BaseAccess } from './base_access.js';
import type { BaseDamage } from './base_damage.js';
import { BaseImages, type BaseImagesParts, type BaseRoom } from './base_images.js';
import { BlockHashes } from './block_hashes.js';
import type { Catalog } from './catalog/catalog.js';
import type { Coverage, MemberRow } from './catalog/members.js';
import { recordDamage } from './journal/damage_record.js';
import { segmentVolumes } from './journal/opening.js';
import type { Member } from './members.js';
import type { HeldDevice, Points } from './points.js';
import type { ReceiverAction, ReceiverEvent, StoredPosition } from './session_events.js';
import type { SessionStore } from './session_store.js';
import type { Store } from './store.js';

export interface SessionWorkParts {
  catalog: Catalog;
  store: Store;
  sessions: SessionStore;
  points: Points;
  /** What large messages come in. */
  memory: MessageMemory;
  log: Log;
  access: BaseAccess;
  baseDamage: Pick<BaseDamage, 'compared'>;
  room: BaseRoom;
  native: BaseImagesParts;
}
type Action<Type extends ReceiverAction['type']> = Extract<ReceiverAction, { type: Type }>;

export class SessionWork {
  private readonly bases: BaseImages;
  private readonly hashes: BlockHashes;
  /** From a heartbeat, waiting for its LSN to be durable. */
  private coverage: Coverage | null = null;

  constructor(
    private readonly parts: SessionWorkParts,
    private readonly hello: Hello,
    readonly member: Member,
    hashKey: Buffer,
  ) {
    this.bases = new BaseImages(parts.native, parts.room);
    this.hashes = new BlockHashes(hashKey);
  }

  /**
   * Where the member's journal stands. A generation that the catalog has and the journal has not begun is begun now.
   * Errors: those with which the journal refuses it, as the same frames would be.
   */
  async position(epoch: bigint): Promise<StoredPosition> {
    const { journal } = this.member;
    const { catalog } = this.parts;
    this.recordLost();
    this.parts.sessions.helloLogs(this.row.uuid, this.hello, journal.durableLsn);
    const newest = catalog.generations.newest(this.row.uuid);
    if (newest !== null && newest.lastLsn === null && journal.generation !== newest.generation) {
      const volumes = segmentVolumes(catalog, this.row.uuid, newest.generation);
      await journal.beginGeneration(epoch, newest.generation, newest.firstLsn, volumes);
    }
    const generation = newest?.generation ?? 0n;
    return {
      generation,
      firstLsn: newest?.firstLsn ?? 1n,
      durableLsn: journal.durableLsn,
      link: journal.link,
      ended: newest !== null && newest.lastLsn !== null,
      volumes: this.parts.sessions.volumes(this.row.uuid, generation, this.hello.volumes),
      leftSyncedLsns: this.parts.sessions.leftSyncedLsns(this.row.uuid, generation, this.hello.volumes),
    };
  }

  /**
   * What the agent was told to be durable in this generation and is not here: from the last second before a crash, whose
   * acknowledgements the catalog never saw, or everything since this store was copied.
   */
  private recordLost(): void {
    const { catalog, log } = this.parts;
    const { journal } = this.member;
    const newest = catalog.generations.newest(this.row.uuid);
    const { generation, durableLsn } = this.hello;
    if (newest === null || newest.lastLsn !== null || newest.generation !== generation) return;
    const here = newest.firstLsn > journal.durableLsn ? newest.firstLsn - 1n : journal.durableLsn;
    if (durableLsn <= here) return;
    const reason = `the agent was told that ${durableLsn} is durable, the journal ends at ${here}`;
    const hole = { firstLsn: here + 1n, lastLsn: durableLsn, reason };
    journal.persist();
    const lastTimeNs = catalog.segments.last(this.row.uuid)?.lastTimeNs ?? 0n;
    catalog.atomically(() => {
      recordDamage({ catalog, log }, this.row.uuid, [hole], { lastLsn: here, lastTimeNs }, null);
    });
  }

  /** `bytes` are the frame's as they came, and nobody else's: their memory is used again. */
  async append(bytes: Buffer): Promise<ReceiverEvent> {
    try {
      const durableLsn = await this.member.journal.append(alignedFrame(bytes));
      this.cover(durableLsn);
      return { type: 'appended', durableLsn };
    } finally {
      this.parts.memory.giveBack(bytes);
    }
  }

  endGeneration(end: StreamEnd): ReceiverEvent {
    this.member.journal.persist();
    this.parts.sessions.endGeneration(this.row.uuid, end);
    this.coverage = null;
    return { type: 'generationEnded' };
  }

  async beginGeneration(epoch: bigint, begin: GenerationBegin): Promise<ReceiverEvent> {
    const { catalog, sessions } = this.parts;
    const { journal } = this.member;
    const { uuid } = this.row;
    await this.hashes.close();
    await this.bases.close();
    this.coverage = null;
    await this.parts.access.stopRoll(uuid);
    journal.persist();
    sessions.beginGeneration(uuid, begin, journal.durableLsn);
    const volumes = segmentVolumes(catalog, uuid, begin.generation);
    await journal.beginGeneration(epoch, begin.generation, begin.firstLsn, volumes);
    return { type: 'generationBegun', volumes: sessions.volumes(uuid, begin.generation, begin.volumes) };
  }

  async beginBase({ volume }: Action<'beginBase'>): Promise<ReceiverEvent> {
    const { size } = this.parts.sessions.volume(this.row.uuid, volume);
    await this.bases.begin(this.baseFile(volume), size);
    this.parts.sessions.setSyncing(this.row.uuid, volume, 0n);
    return { type: 'baseBegun', volume };
  }

  /** `piece` is nobody else's: the memory of its data is used again. */
  async writeBase({ volume }: Action<'writeBase'>, piece: SyncData): Promise<ReceiverEvent> {
    try {
      await this.bases.write(this.baseFile(volume), piece);
      return { type: 'baseWritten', volume };
    } finally {
      this.parts.memory.giveBack(piece.data);
    }
  }

  async syncBase({ volume, offset }: Action<'syncBase'>): Promise<ReceiverEvent> {
    const file = this.baseFile(volume);
    const isWhole = offset === this.parts.sessions.volume(this.row.uuid, volume).size;
    await (isWhole ? this.bases.seal(file) : this.bases.sync(file));
    this.parts.sessions.setSyncing(this.row.uuid, volume, offset);
    return { type: 'baseSynced', volume, offset };
  }

  async markSynced({ volume, lsn, isWhole }: Action<'markSynced'>): Promise<ReceiverEvent> {
    const { catalog, sessions } = this.parts;
    const generation = catalog.generations.newest(this.row.uuid)?.generation ?? 0n;
    // Before the first record of a generation only the agent's own word says when it was.
    const timeNs = (await this.member.journal.timeAt(lsn)) ?? this.member.heartbeat?.nowNs ?? 0n;
    sessions.markSynced(this.row.uuid, generation, volume, { lsn, timeNs, isWhole });
    this.parts.baseDamage.compared(this.baseFile(volume));
    await this.bases.release(this.baseFile(volume));
    await this.hashes.release(volume);
    return { type: 'syncedMarked', volume };
  }

  async hash(action: Action<'hash'>): Promise<ReceiverEvent> {
    const { points, sessions } = this.parts;
    const volume = sessions.volume(this.row.uuid, action.volume);
    const open = (): Promise<HeldDevice> =>
      points.hold(volume, volume.size, this.row, action.beforeLsn - 1n, `the sync of ${volume.name}`);
    return { type: 'hashed', id: action.id, hashes: await this.hashes.hash(action.volume, open, action) };
  }

  /** Why it cannot be compared is an answer too: the session goes on. */
  async verify({ request }: Action<'verify'>): Promise<ReceiverEvent> {
    const { points, sessions } = this.parts;
    const { id, lsn } = request;
    const volume = sessions.volume(this.row.uuid, request.volume);
    const open = (): Promise<HeldDevice> =>
      points.hold(volume, volume.size, this.row, lsn, `the verification of ${volume.name}`);
    try {
      const hashes = await this.hashes.hashOnce(open, request);
      return { type: 'verified', reply: { id, code: '', message: '', hashes } };
    } catch (thrown) {
      const { code, message } = toAfterimageError(thrown);
      return { type: 'verified', reply: { id, code, message, hashes: Buffer.alloc(0) } };
    }
  }

  async storeVerified({ done }: Action<'storeVerified'>): Promise<ReceiverEvent> {
    const { catalog, sessions } = this.parts;
    const { journal } = this.member;
    journal.persist();
    const generation = catalog.generations.newest(this.row.uuid)?.generation ?? 0n;
    await sessions.storeVerified(this.row.uuid, generation, done, (lsn) => journal.timeAt(lsn));
    return { type: 'verified', reply: { id: done.id, code: '', message: '', hashes: Buffer.alloc(0) } };
  }

  keepCheckpoint({ requestId, name, lsn, timeNs }: Checkpoint): ReceiverEvent {
    const { checkpoints } = this.parts.catalog;
    const { group, uuid: member } = this.row;
    if (checkpoints.checkpoint(group, name) !== null) {
      const message = `${this.hello.groupName} has a checkpoint ${name} already`;
      return { type: 'checkpointFailed', requestId, code: 'CHECKPOINT_EXISTS', message };
    }
    // A checkpoint that outlives a crash has what it names in the catalog too.
    this.member.journal.persist();
    checkpoints.add({
      group,
      name,
      member,
      lsn,
      timeNs,
      consistency: 'crash',
      pinned: false,
      lockedUntilNs: 0n,
    });
    return { type: 'checkpointKept', requestId };
  }

  /** `nowNs` was read before `capturedLsn` was: once that is durable, nothing up to then is missing. */
  noteHeartbeat(heartbeat: Heartbeat, isCapturing: boolean): void {
    const { capturedLsn: lsn, nowNs, state, logs } = heartbeat;
    this.parts.sessions.heartbeatLogs(this.row.uuid, logs);
    this.member.heartbeat = heartbeat;
    this.member.journal.noteClock(nowNs);
    if (this.coverage !== null && nowNs < this.coverage.timeNs) this.coverage = null;
    if (!isCapturing || state === 'tracking') return;
    this.coverage ??= { lsn, timeNs: nowNs };
    this.cover(this.member.journal.durableLsn);
  }

  noteLogs({ logs }: Action<'noteLogs'>): void {
    this.parts.sessions.noteLogs(this.row.uuid, logs);
  }

  /** Before anything that comes after it. */
  storeDoubt({ volume }: Action<'storeDoubt'>): void {
    this.parts.sessions.doubtVolume(this.row.uuid, volume);
  }

  async close(): Promise<void> {
    await this.bases.close();
    await this.hashes.close();
    this.member.heartbeat = null;
  }

  private cover(durableLsn: bigint): void {
    if (this.coverage === null || this.coverage.lsn > durableLsn) return;
    this.member.journal.noteCoverage(this.coverage);
    this.coverage = null;
  }

  private get row(): MemberRow {
    return this.member.journal.member;
  }
  private baseFile(volume: number): string {
    const { uuid } = this.parts.sessions.volume(this.row.uuid, volume);
    return this.parts.store.baseFile(this.row.group, this.row.uuid, uuid);
  }
}

/** Makes the writer of `hello` the member's only one, on stable storage. False when a newer one came first. */
export async function storeWriter(
  { store, sessions }: Pick<SessionWorkParts, 'store' | 'sessions'>,
  hello: Hello,
  owner: string | null,
): Promise<boolean> {
  // The directories first: a member that the catalog names has them.
  await store.createMember(formatUuid(hello.group), formatUuid(hello.member));
  return sessions.storeWriter(hello, owner);
}

/** A piece that came without the message that it belongs to: a defect of this program. */
export function missing(what: string): AfterimageError {
  return new AfterimageError('INTERNAL', `an action without its ${what}`);
}
