/**
 * The receiver's side of the session, small enough to be read at a glance and without a catalog: frames go to a journal
 * of the addon, bases to plain files. Tests block it, cut its connections and ask it for what it holds.
 */
import { createHmac, randomBytes } from 'node:crypto';
import { mkdirSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { status, type ServerDuplexStream } from '@grpc/grpc-js';
import * as native from '../../native/index.js';
import { readFrameHeader } from '../../proto/frame_header.js';
import {
  replicationService,
  type AgentMessage,
  type Hello,
  type ReceiverBody,
  type ReceiverMessage,
  type SyncData,
  type VolumeInfo,
  type VolumeState,
} from '../../proto/replication.js';
import { RpcServer } from '../../service/rpc.js';

type Call = ServerDuplexStream<AgentMessage, ReceiverMessage>;

const HASH_KEY_BYTES = 32;

export class MemoryReceiver {
  readonly hellos: Hello[] = [];
  readonly begun: { generation: bigint; firstLsn: bigint; reason: string }[] = [];
  readonly ended: { generation: bigint; lastLsn: bigint; reason: string }[] = [];
  readonly checkpoints: { name: string; lsn: bigint }[] = [];
  /** SyncBegin messages: "SYNC_INITIAL 0". */
  readonly syncs: string[] = [];
  syncBytes = 0;
  frames = 0;
  generation = 0n;
  durableLsn = 0n;
  /** While true nothing that arrives is dealt with. */
  isBlocked = false;
  /** Where the generation before the present one ended. */
  private lastLsnBefore = 0n;
  private readonly held: (() => Promise<void> | void)[] = [];
  private journal: native.JournalWriter | null = null;
  private readonly segments = new Map<string, native.SegmentInfo>();
  private readonly volumes = new Map<number, { info: VolumeInfo; state: VolumeState }>();
  private readonly waitingSyncs: { volume: number; lsn: bigint }[] = [];
  private readonly hashKey = randomBytes(HASH_KEY_BYTES);
  private server: RpcServer | null = null;
  private call: Call | null = null;
  private sequence = 0;
  /** Of this call. */
  private heartbeats = 0;
  private work: Promise<void> = Promise.resolve();

  constructor(private readonly directory: string) {
    mkdirSync(path.join(directory, 'journal'), { recursive: true });
  }

  /** Listens on `port`, 0 for any, and gives the one it got. */
  async listen(port: number): Promise<number> {
    this.server = new RpcServer();
    this.server.add(replicationService, { session: (call: Call) => this.accept(call) });
    return (await this.server.listenLoopback({ host: '127.0.0.1', port })).port;
  }

  /** Goes away, as a process that ends. What was acknowledged stays. */
  async stop(): Promise<void> {
    this.cut();
    await this.server?.stop(0);
    this.server = null;
    await this.work;
  }

  /** Ends the present session as a lost connection does. */
  cut(): void {
    this.call?.emit('error', Object.assign(new Error('cut'), { code: status.UNAVAILABLE }));
    this.call = null;
  }

  async unblock(): Promise<void> {
    this.isBlocked = false;
    for (const step of this.held.splice(0)) this.enqueue(step);
    await this.work;
  }

  /** The volume as the journal has it at `lsn`. */
  async contentAt(volume: number, lsn: bigint): Promise<Buffer> {
    const device = await this.openAt(volume, lsn);
    const bytes = Buffer.alloc(Number(device.size));
    for (let at = 0; at < bytes.length; at += 1 << 20) {
      await device.read(BigInt(at), bytes.subarray(at, at + (1 << 20)));
    }
    await device.close();
    return bytes;
  }

  async close(): Promise<void> {
    await this.stop();
    await this.journal?.close();
  }

  private openAt(volume: number, lsn: bigint): Promise<native.BlockDevice> {
    const tiles = [...this.segments.values()]
      .filter((segment) => segment.firstLsn <= lsn && segment.frames > 0)
      .map((segment) => ({ segment, run: null, isAfterHole: false }));
    const { info } = this.volume(volume);
    const { size, blockSize } = info;
    return native.openPoint({ basePath: this.base(volume), size, blockSize, volume, lsn, tiles });
  }

  private accept(call: Call): void {
    this.call = call;
    this.sequence = 0;
    this.heartbeats = 0;
    call.on('data', (message: AgentMessage) => {
      if ('frame' in message) this.frame(Buffer.from(message.frame.buffer));
      else this.enqueue(() => this.handle(message));
    });
    call.on('end', () => call.end());
    call.on('error', () => undefined);
  }

  private enqueue(step: () => Promise<void> | void): void {
    if (this.isBlocked) this.held.push(step);
    else this.work = this.work.then(step);
  }

  private frame(frame: Buffer): void {
    this.frames += 1;
    this.enqueue(() => this.append(frame));
  }

  private async append(frame: Buffer): Promise<void> {
    if (this.journal === null || readFrameHeader(frame).generation !== this.generation) return;
    const { durableLsn, changed } = await this.journal.append(frame);
    this.note(changed);
    this.durableLsn = durableLsn;
    this.ack();
    for (const { volume, lsn } of this.waitingSyncs.splice(0)) this.syncDone(volume, lsn);
  }

  private async handle(message: Exclude<AgentMessage, { frame: unknown }>): Promise<void> {
    if ('hello' in message) await this.hello(message.hello);
    else if ('generationBegin' in message) await this.begin(message.generationBegin);
    else if ('streamEnd' in message) this.ended.push(message.streamEnd);
    else if ('heartbeat' in message) {
      this.heartbeats += 1;
      this.ack();
    } else if ('checkpoint' in message) {
      const { requestId, name, lsn } = message.checkpoint;
      this.checkpoints.push({ name, lsn });
      this.send({ checkpointDone: { requestId, code: '', message: '' } });
    } else if ('syncBegin' in message) {
      const { volume, kind, offset } = message.syncBegin;
      this.syncs.push(`${kind} ${offset}`);
      if (kind === 'SYNC_INITIAL') this.volume(volume).state.base = 'BASE_SYNCING';
    } else if ('syncData' in message) await this.writeBase(message.syncData);
    else if ('syncDone' in message) this.syncDone(message.syncDone.volume, message.syncDone.lsn);
    else if ('hashRequest' in message) await this.hash(message.hashRequest);
  }

  private async hello(hello: Hello): Promise<void> {
    this.hellos.push(hello);
    for (const info of hello.volumes) {
      if (this.volumes.has(info.number)) continue;
      writeFileSync(this.base(info.number), '');
      truncateSync(this.base(info.number), Number(info.size));
      const state = {
        number: info.number,
        base: 'BASE_EMPTY',
        syncOffset: 0n,
        synced: false,
        whole: false,
      } as const;
      this.volumes.set(info.number, { info, state });
    }
    this.journal ??= await native.openJournal({
      headroomBytes: 0n,
      directory: path.join(this.directory, 'journal'),
      group: hello.group,
      member: hello.member,
      segmentBytes: 64n << 20n,
      position: { epoch: hello.epoch, generation: 0n, lastLsn: 0n, link: 0 },
      tail: null,
    });
    this.journal.resume(hello.epoch);
    const { link } = this.journal.position();
    const { generation, durableLsn, hashKey } = this;
    const volumes = this.states();
    this.send({
      welcome: {
        software: 'test',
        protocol: 1,
        storeVersion: 1,
        generation,
        durableLsn,
        link,
        hashKey,
        volumes,
        ended: false,
      },
    });
  }

  private async begin(begin: {
    generation: bigint;
    firstLsn: bigint;
    reason: string;
    volumes: VolumeInfo[];
  }) {
    const { generation, firstLsn } = begin;
    this.begun.push(begin);
    const epoch = this.hellos.at(-1)?.epoch ?? 0n;
    const appended = await this.journal?.beginGeneration(epoch, generation, firstLsn, begin.volumes);
    this.note(appended?.changed ?? []);
    this.generation = generation;
    this.lastLsnBefore = this.durableLsn;
    this.durableLsn = firstLsn - 1n;
    for (const { state } of this.volumes.values()) {
      state.synced = false;
      if (state.base === 'BASE_SYNCING') state.base = 'BASE_EMPTY';
      state.syncOffset = 0n;
    }
    this.send({ generationAccepted: { generation, volumes: this.states() } });
  }

  private async writeBase(piece: SyncData): Promise<void> {
    const { volume, offset, data, compressed, rawBytes, crc32c } = piece;
    const opening = { path: this.base(volume), cache: 'buffered', readOnly: false, exclusive: true } as const;
    const base = await native.openFileDevice(opening);
    await base.writePiece(offset, rawBytes, compressed, crc32c, data);
    await base.close();
    this.syncBytes += rawBytes;
    const end = offset + BigInt(rawBytes);
    this.volume(volume).state.syncOffset = end;
    this.send({ syncAck: { volume, offset: end } });
  }

  private syncDone(volume: number, lsn: bigint): void {
    if (this.durableLsn < lsn) {
      this.waitingSyncs.push({ volume, lsn });
      return;
    }
    const { state } = this.volume(volume);
    state.base = 'BASE_COMPLETE';
    state.synced = true;
    this.send({ syncComplete: { volume, lsn } });
  }

  private async hash(request: {
    id: number;
    volume: number;
    offset: bigint;
    length: number;
    blockBytes: number;
  }) {
    const device = await this.openAt(request.volume, this.lastLsnBefore);
    const bytes = Buffer.alloc(request.length);
    await device.read(request.offset, bytes);
    await device.close();
    const hashes: Buffer[] = [];
    for (let at = 0; at < bytes.length; at += request.blockBytes) {
      const block = bytes.subarray(at, at + request.blockBytes);
      hashes.push(createHmac('sha256', this.hashKey).update(block).digest());
    }
    this.send({ hashReply: { id: request.id, hashes: Buffer.concat(hashes) } });
  }

  private ack(): void {
    const { durableLsn, heartbeats } = this;
    this.send({ ack: { durableLsn, receivedLsn: durableLsn, heartbeats } });
  }

  private send(body: ReceiverBody): void {
    this.call?.write({ ...body, sequence: this.sequence++ });
  }

  private note(changed: readonly native.SegmentInfo[]): void {
    for (const segment of changed) this.segments.set(segment.path, segment);
  }
  private states(): VolumeState[] {
    return [...this.volumes.values()].map(({ state }) => state);
  }
  private volume(number: number) {
    const volume = this.volumes.get(number);
    if (volume === undefined) throw new Error(`no volume ${number}`);
    return volume;
  }
  private base(volume: number): string {
    return path.join(this.directory, `base-${volume}`);
  }
}
