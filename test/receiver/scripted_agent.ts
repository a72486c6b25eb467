/**
 * An agent by script: real captured volumes, real frames, a real gRPC stream; what it says is the test's choice. It
 * keeps every state that its volume went through, so that a recovery point can be compared with what was there.
 */
import { randomBytes } from 'node:crypto';
import { Client, credentials, type ClientDuplexStream } from '@grpc/grpc-js';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import * as native from '../../native/index.js';
import type { Identity as Certified } from '../../service/identity.js';
import { TLS_CHANNEL, tlsCredentials } from '../../service/tls_client.js';
import { MessageNumbers } from '../../proto/message_numbers.js';
import {
  MESSAGE_BYTES_MAX,
  PROTOCOL_VERSION,
  replicationService,
  type AgentBody,
  type AgentMessage,
  type Hello,
  type ReceiverBody,
  type ReceiverMessage,
  type VolumeInfo,
} from '../../proto/replication.js';

type KindOf<Body> = Body extends unknown ? keyof Body : never;
export type ReceiverKind = KindOf<ReceiverBody>;
type BodyOf<K extends ReceiverKind> =
  Extract<ReceiverBody, Record<K, unknown>> extends Record<K, infer Body> ? Body : never;

/** Longest wait for a message, milliseconds: far beyond what any should take, so that a test ends. */
const WAIT_MS = 30_000;
const KIB = 1024;

export interface Identity {
  group: Buffer;
  member: Buffer;
  instance: Buffer;
  epoch: bigint;
}
export function newIdentity(): Identity {
  return { group: randomBytes(16), member: randomBytes(16), instance: randomBytes(16), epoch: 1n };
}

/** One stream. */
export class ScriptedStream {
  private readonly client: Client;
  private readonly stream: ClientDuplexStream<AgentMessage, ReceiverMessage>;
  private readonly numbers = new MessageNumbers();
  private readonly inbox: ReceiverMessage[] = [];
  private wake: () => void = () => undefined;
  private hasEnded = false;

  /** `as`: null: as nobody, by plain TCP. */
  constructor(address: string, as: Pick<Certified, 'authority' | 'certificate' | 'key'> | null = null) {
    this.client = new Client(
      address,
      as === null ? credentials.createInsecure() : tlsCredentials(as.authority, as),
      {
        ...(as === null ? {} : TLS_CHANNEL),
        'grpc.max_receive_message_length': MESSAGE_BYTES_MAX,
        'grpc.use_local_subchannel_pool': 1,
      },
    );
    const { path: method, requestSerialize, responseDeserialize } = replicationService.session;
    this.stream = this.client.makeBidiStreamRequest(method, requestSerialize, responseDeserialize);
    this.stream.on('data', (message: ReceiverMessage) => {
      this.inbox.push(message);
      this.wake();
    });
    const end = (): void => {
      this.hasEnded = true;
      this.wake();
    };
    this.stream.on('end', end);
    this.stream.on('error', end);
  }

  /** Told of every message that is sent, as it goes out, and of every kind that is waited for. */
  onStep: (step: { write: Buffer } | { hear: ReceiverKind }) => void = () => undefined;

  say(body: AgentBody): void {
    this.write({ ...body, sequence: this.numbers.next() });
  }
  /** `frame` is copied. */
  ship(frame: Buffer): void {
    this.numbers.frameSent();
    const headroom = 64;
    this.write({ frame: { buffer: Buffer.concat([Buffer.alloc(headroom), frame]), headroom } });
  }
  /** The next message of a kind; those before it are dropped. */
  async hear<K extends ReceiverKind>(kind: K): Promise<BodyOf<K>> {
    this.onStep({ hear: kind });
    const deadline = Date.now() + WAIT_MS;
    for (;;) {
      for (let message = this.inbox.shift(); message !== undefined; message = this.inbox.shift()) {
        if (kind in message) return (message as unknown as Record<K, BodyOf<K>>)[kind];
        if ('refused' in message)
          throw new Error(`refused: ${message.refused.code} ${message.refused.message}`);
      }
      if (this.hasEnded) throw new Error(`the stream ended before a ${kind}`);
      await this.news(deadline, kind);
    }
  }
  async hearAck(lsn: bigint): Promise<void> {
    while ((await this.hear('ack')).durableLsn < lsn);
  }
  /** Resolves when the receiver has ended the stream. */
  async ended(): Promise<void> {
    const deadline = Date.now() + WAIT_MS;
    while (!this.hasEnded) await this.news(deadline, 'end');
  }
  close(): void {
    this.stream.cancel();
    this.client.close();
  }

  private write(message: AgentMessage): void {
    this.onStep({ write: replicationService.session.requestSerialize(message) });
    this.stream.write(message);
  }

  private async news(deadline: number, awaited: string): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve) => {
      this.wake = resolve;
      timer = setTimeout(resolve, Math.max(0, deadline - Date.now()));
    });
    clearTimeout(timer);
    if (Date.now() >= deadline) throw new Error(`no ${awaited} within ${WAIT_MS} ms`);
  }
}

/** One protected volume. */
export class ScriptedVolume {
  /** What it held after the record with that LSN, which was one of its own. */
  readonly states = new Map<bigint, Buffer>();

  private constructor(
    readonly info: VolumeInfo,
    private readonly group: native.CaptureGroup,
    private readonly backing: native.BlockDevice,
    private readonly volume: native.CapturedVolume,
    private content: Buffer,
  ) {}

  static async create(
    directory: string,
    group: native.CaptureGroup,
    number: number,
    size: number,
  ): Promise<ScriptedVolume> {
    const file = path.join(directory, `backing-${randomBytes(4).toString('hex')}`);
    const content = randomBytes(size);
    content.fill(0, size / 2, size / 2 + 1024 * KIB);
    await writeFile(file, content);
    const backing = await native.openFileDevice({
      path: file,
      cache: 'buffered',
      readOnly: false,
      exclusive: true,
    });
    const volume = group.addVolume(number, backing, null, null);
    const info = {
      number,
      uuid: randomBytes(16),
      name: number === 0 ? 'data' : `data${number}`,
      size: BigInt(size),
      blockSize: volume.blockSize,
    };
    return new ScriptedVolume(info, group, backing, volume, content);
  }

  get present(): Buffer {
    return this.content;
  }
  /** Writes to it and keeps the state; returns the LSN. */
  async write(offset: number, bytes: Buffer): Promise<bigint> {
    await this.volume.write(BigInt(offset), bytes);
    this.content = Buffer.from(this.content);
    bytes.copy(this.content, offset);
    return this.keep(this.group.position().lsn);
  }
  /** The same of zeroes, without their bytes. */
  async zero(offset: number, length: number): Promise<bigint> {
    await this.volume.zero(BigInt(offset), BigInt(length));
    this.content = Buffer.from(this.content);
    this.content.fill(0, offset, offset + length);
    return this.keep(this.group.position().lsn);
  }
  fence(): Promise<bigint> {
    return this.volume.fence();
  }
  /** Journals what is there, as a resync does. */
  async republish(offset: number, length: number): Promise<bigint> {
    const lsn = await this.volume.republish(BigInt(offset), length);
    if (lsn === null || lsn === 0n) throw new Error('nothing was republished');
    return this.keep(lsn);
  }

  /** The whole initial sync of it, with holes where it is zero. */
  async sendBase(stream: ScriptedStream): Promise<void> {
    const { number } = this.info;
    stream.say({ syncBegin: { volume: number, kind: 'SYNC_INITIAL', offset: 0n, partial: false } });
    const piece = 256 * KIB;
    for (let offset = 0; offset < this.content.length; offset += piece) {
      const data = Buffer.alloc(Math.min(piece, this.content.length - offset));
      const { bytes, ...how } = await this.volume.readPiece(BigInt(offset), data);
      if (bytes === 0) continue;
      const at = { volume: number, offset: BigInt(offset), rawBytes: data.length };
      stream.say({ syncData: { ...at, ...how, data: data.subarray(0, bytes) } });
    }
  }

  async close(): Promise<void> {
    await this.volume.close();
    await this.backing.close();
  }

  private keep(lsn: bigint): bigint {
    this.states.set(lsn, this.content);
    return lsn;
  }
}

/** A group and its one protected volume; more of them can be added. */
export class ScriptedAgent {
  readonly frames: Buffer[] = [];
  private readonly more: ScriptedVolume[] = [];

  private constructor(
    readonly identity: Identity,
    private readonly group: native.CaptureGroup,
    private readonly volume: ScriptedVolume,
  ) {}

  static async create(directory: string, identity: Identity, size: number): Promise<ScriptedAgent> {
    const group = native.createCaptureGroup({
      group: identity.group,
      member: identity.member,
      ringBytes: 64n * 1024n * 1024n,
      lingerUs: 1000,
      lastTimeNs: 0n,
      era: 1,
      spool: null,
    });
    return new ScriptedAgent(identity, group, await ScriptedVolume.create(directory, group, 0, size));
  }

  /** Another volume, before it begins. It is closed with this. */
  async addVolume(directory: string, number: number, size: number): Promise<ScriptedVolume> {
    const volume = await ScriptedVolume.create(directory, this.group, number, size);
    this.more.push(volume);
    return volume;
  }

  get info(): VolumeInfo {
    return this.volume.info;
  }
  get states(): ReadonlyMap<bigint, Buffer> {
    return this.volume.states;
  }

  hello(change: Partial<Hello> = {}): Hello {
    return {
      protocol: PROTOCOL_VERSION,
      protocolOldest: 0,
      software: 'test',
      group: this.identity.group,
      groupName: 'db',
      member: this.identity.member,
      host: 'host1',
      instance: this.identity.instance,
      epoch: this.identity.epoch,
      generation: 0n,
      durableLsn: 0n,
      capturedLsn: 0n,
      usedLsnMax: 0n,
      continuous: false,
      volumes: [this.info],
      acceptedGeneration: 0n,
      ancestors: [],
      logs: [],
      ...change,
    };
  }

  /** Begins capturing; the receiver has accepted the generation. */
  begin(generation: bigint, firstLsn: bigint): void {
    this.group.beginGeneration({ epoch: this.identity.epoch, generation, firstLsn, lsnCeiling: 1n << 40n });
    this.group.startShipping(firstLsn - 1n, 0);
  }
  endStream(): void {
    this.group.closeStream();
  }

  /** As the volume's. */
  write(offset: number, bytes: Buffer): Promise<bigint> {
    return this.volume.write(offset, bytes);
  }
  zero(offset: number, length: number): Promise<bigint> {
    return this.volume.zero(offset, length);
  }
  fence(): Promise<bigint> {
    return this.volume.fence();
  }
  republish(offset: number, length: number): Promise<bigint> {
    return this.volume.republish(offset, length);
  }
  get present(): Buffer {
    return this.volume.present;
  }
  sendBase(stream: ScriptedStream): Promise<void> {
    return this.volume.sendBase(stream);
  }
  position(): native.StreamPosition {
    return this.group.position();
  }

  /** The frames up to `lsn`, each once. */
  async framesUpTo(lsn: bigint): Promise<Buffer[]> {
    const frames: Buffer[] = [];
    for (let last = 0n; last < lsn;) {
      const next = await this.group.next();
      if (next?.kind !== 'frame') throw new Error('the stream ended');
      frames.push(Buffer.from(next.buffer.subarray(next.headroom)));
      last = next.lastLsn;
      next.release();
    }
    return frames;
  }
  /** The generation's end, once all its frames were taken. */
  async end(): Promise<native.CapturedEnd> {
    const next = await this.group.next();
    if (next?.kind !== 'end') throw new Error('the stream has not ended');
    return next;
  }
  released(lsn: bigint): void {
    this.group.release(lsn);
  }

  async close(): Promise<void> {
    await this.group.close();
    for (const volume of [this.volume, ...this.more]) await volume.close();
  }
}
