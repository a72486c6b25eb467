/** The replication session's messages and its gRPC service. Grammar and comments: replication.proto. */
import type { MethodDefinition, ServiceDefinition } from '@grpc/grpc-js';
import { codec } from './codec.js';
import { AfterimageError } from './errors.js';

/** Of the session: the newest that this program speaks, and the oldest. docs/COMPATIBILITY.md */
export const PROTOCOL_VERSION = 1;
export const PROTOCOL_VERSION_OLDEST = 1;

/** The newest version that an agent and this program both speak; null: there is none. */
export function commonProtocol({
  protocol,
  protocolOldest,
}: Pick<Hello, 'protocol' | 'protocolOldest'>): number | null {
  const oldest = protocolOldest === 0 ? protocol : protocolOldest;
  const newest = Math.min(protocol, PROTOCOL_VERSION);
  return newest >= Math.max(oldest, PROTOCOL_VERSION_OLDEST) ? newest : null;
}
/** Free bytes that a buffer has before the frame or the piece in it, for gRPC's prefix and what protobuf puts before it. */
export const HEADROOM_BYTES = 64;
/** Largest message on the stream: a frame (1280 KiB at most) or sync data, and change. */
export const MESSAGE_BYTES_MAX = 2 * 1024 * 1024;
/** Of one block in a HashReply: HMAC-SHA-256, keyed with the hash_key of Welcome. */
export const HASH_BYTES = 32;

export interface VolumeInfo {
  number: number;
  uuid: Buffer;
  name: string;
  size: bigint;
  blockSize: number;
}
/** Whether these are the very same volumes, in whatever order. Names do not count: the UUID is the identity. */
export function sameVolumes(a: VolumeInfo[], b: VolumeInfo[]): boolean {
  return (
    a.length === b.length &&
    a.every((volume) =>
      b.some(
        (other) =>
          other.number === volume.number &&
          other.uuid.equals(volume.uuid) &&
          other.size === volume.size &&
          other.blockSize === volume.blockSize,
      ),
    )
  );
}
/** replication.proto says what follows from it. */
export interface DirtyLogPosition {
  volume: number;
  /** 0n: it is void. */
  id: bigint;
  sequence: bigint;
  basisLsn: bigint;
}
export interface Hello {
  /** The newest version of the session that the agent speaks, and the oldest; 0: the newest alone. */
  protocol: number;
  protocolOldest: number;
  software: string;
  group: Buffer;
  groupName: string;
  member: Buffer;
  host: string;
  instance: Buffer;
  epoch: bigint;
  generation: bigint;
  durableLsn: bigint;
  capturedLsn: bigint;
  usedLsnMax: bigint;
  continuous: boolean;
  volumes: VolumeInfo[];
  acceptedGeneration: bigint;
  ancestors: Buffer[];
  logs: DirtyLogPosition[];
}
export type BaseState = 'BASE_EMPTY' | 'BASE_SYNCING' | 'BASE_COMPLETE';
export interface VolumeState {
  number: number;
  base: BaseState;
  syncOffset: bigint;
  synced: boolean;
  whole: boolean;
}
export interface Welcome {
  software: string;
  /** Of the session: the newest that both sides speak; 0: 1. */
  protocol: number;
  /** Layout of the receiver's store. */
  storeVersion: number;
  generation: bigint;
  durableLsn: bigint;
  link: number;
  hashKey: Buffer;
  volumes: VolumeState[];
  ended: boolean;
}
export interface Refused {
  code: string;
  message: string;
  retryable: boolean;
}
export interface GenerationBegin {
  generation: bigint;
  firstLsn: bigint;
  reason: string;
  volumes: VolumeInfo[];
}
export interface GenerationAccepted {
  generation: bigint;
  volumes: VolumeState[];
}
export interface StreamEnd {
  generation: bigint;
  lastLsn: bigint;
  reason: string;
  timeNs: bigint;
}
export interface Ack {
  durableLsn: bigint;
  receivedLsn: bigint;
  heartbeats: number;
}
export type SyncKind = 'SYNC_INITIAL' | 'SYNC_RESYNC';
export interface SyncBegin {
  volume: number;
  kind: SyncKind;
  offset: bigint;
  partial: boolean;
}
export interface SyncData {
  volume: number;
  offset: bigint;
  rawBytes: number;
  compressed: boolean;
  crc32c: number;
  data: Buffer;
}
export interface SyncAck {
  volume: number;
  offset: bigint;
}
export interface SyncDone {
  volume: number;
  lsn: bigint;
}
export interface SyncComplete {
  volume: number;
  lsn: bigint;
}
export interface HashRequest {
  id: number;
  volume: number;
  offset: bigint;
  length: number;
  blockBytes: number;
}
export interface HashReply {
  id: number;
  hashes: Buffer;
}
export interface VerifyRequest {
  id: number;
  volume: number;
  lsn: bigint;
  offset: bigint;
  length: number;
  blockBytes: number;
}
export interface VerifyDone {
  id: number;
  volume: number;
  beginLsn: bigint;
  endLsn: bigint;
  differingBytes: bigint;
  differingExtents: bigint;
  firstOffset: bigint;
  complete: boolean;
}
export interface VerifyReply {
  id: number;
  code: string;
  message: string;
  hashes: Buffer;
}
export interface Checkpoint {
  requestId: string;
  name: string;
  lsn: bigint;
  timeNs: bigint;
}
export interface CheckpointDone {
  requestId: string;
  code: string;
  message: string;
}
export interface CheckpointRequest {
  requestId: string;
  name: string;
}
export interface Heartbeat {
  capturedLsn: bigint;
  capturedTimeNs: bigint;
  shippedLsn: bigint;
  oldestTimeNs: bigint;
  nowNs: bigint;
  ringUsedBytes: bigint;
  ringBytes: bigint;
  state: string;
  logs: DirtyLogPosition[];
}
export interface LogPositions {
  logs: DirtyLogPosition[];
}
export interface VolumeDoubt {
  volume: number;
}
export interface Goodbye {
  reason: string;
}

/** `sequence`: how many messages went before it on the stream, and how many frames (message_numbers.ts). */
type Numbered<Body> = Body & { sequence: number };

/** What an agent says, but for frames. Exactly one member is present: `{ hello: … }`. */
export type AgentBody =
  | { hello: Hello }
  | { generationBegin: GenerationBegin }
  | { streamEnd: StreamEnd }
  | { syncBegin: SyncBegin }
  | { syncData: SyncData }
  | { syncDone: SyncDone }
  | { hashRequest: HashRequest }
  | { checkpoint: Checkpoint }
  | { heartbeat: Heartbeat }
  | { volumeDoubt: VolumeDoubt }
  | { logPositions: LogPositions }
  | { verifyRequest: VerifyRequest }
  | { verifyDone: VerifyDone }
  | { goodbye: Goodbye };

export type AgentMessage = Numbered<AgentBody> | { frame: FrameBytes };
/** What an agent's own end is given to send: a piece goes out as SyncData. */
export type OutgoingMessage = AgentMessage | Numbered<{ piece: PieceBytes }>;

export type ReceiverBody =
  | { welcome: Welcome }
  | { refused: Refused }
  | { ack: Ack }
  | { generationAccepted: GenerationAccepted }
  | { syncAck: SyncAck }
  | { syncComplete: SyncComplete }
  | { hashReply: HashReply }
  | { checkpointDone: CheckpointDone }
  | { checkpointRequest: CheckpointRequest }
  | { verifyReply: VerifyReply };

export type ReceiverMessage = Numbered<ReceiverBody>;

/** A frame on its way out: `buffer` has HEADROOM_BYTES of free space before the frame. On its way in: headroom 0. */
export interface FrameBytes {
  buffer: Buffer;
  headroom: number;
}
/** SyncData on its way out, its data behind HEADROOM_BYTES of free space. */
export interface PieceBytes extends Omit<SyncData, 'data'> {
  buffer: Buffer;
  headroom: number;
}

const GRPC_PREFIX_BYTES = 5;
// Length-delimited fields, whose numbers are below 16: a byte each.
const FRAME_TAG = (15 << 3) | 2;
const SYNC_DATA_TAG = (5 << 3) | 2;
const DATA_TAG = (6 << 3) | 2;
const agentCodec = codec<Record<string, unknown>>('AgentMessage');
const syncDataCodec = codec<Omit<SyncData, 'data'>>('SyncData');
const receiverCodec = codec<Record<string, unknown>>('ReceiverMessage');

/** Of messages whose memory has the prefix of gRPC in front of them: prefix and message. */
const prefixed = new WeakMap<Buffer, Buffer>();

/** Encodes an agent's message. A frame or a piece is not copied: what goes before it on the wire is written into its headroom. */
export function encodeAgentMessage(message: OutgoingMessage): Buffer {
  if ('frame' in message) return behind(message.frame, (length) => [FRAME_TAG, ...varint(length)]);
  if (!('piece' in message)) return agentCodec.encode(message);
  const { buffer, headroom, ...fields } = message.piece;
  return behind({ buffer, headroom }, (length) => {
    const before = [...syncDataCodec.encode(fields), DATA_TAG, ...varint(length)];
    const sequence = agentCodec.encode({ sequence: message.sequence });
    return [...sequence, SYNC_DATA_TAG, ...varint(before.length + length), ...before];
  });
}

/** The message that ends with what is in `buffer`, and begins with what `head` makes of its length. */
function behind({ buffer, headroom }: FrameBytes, head: (length: number) => number[]): Buffer {
  const bytes = head(buffer.length - headroom);
  const start = headroom - bytes.length;
  const begin = start - GRPC_PREFIX_BYTES;
  if (begin < 0) throw new RangeError('no headroom for what goes before');
  buffer[begin] = 0; // not compressed
  buffer.writeUInt32BE(buffer.length - start, begin + 1);
  buffer.set(bytes, start);
  const encoded = buffer.subarray(start);
  prefixed.set(encoded, buffer.subarray(begin));
  return encoded;
}

function varint(value: number): number[] {
  const bytes: number[] = [];
  for (; value > 0x7f; value >>>= 7) bytes.push((value & 0x7f) | 0x80);
  return [...bytes, value];
}

/** An encoded frame or piece with the prefix of gRPC before it (gRPC over HTTP2, Length-Prefixed-Message); undefined: another message. */
export function prefixedMessage(encoded: Buffer): Buffer | undefined {
  return prefixed.get(encoded);
}

/** Decodes an agent's message. A frame's bytes share the message's memory. Errors: MESSAGE_INVALID. */
export function decodeAgentMessage(bytes: Buffer): AgentMessage {
  if (bytes[0] !== FRAME_TAG) return only(agentCodec.decode(bytes), 'AgentMessage') as AgentMessage;
  let length = 0;
  let at = 1;
  for (let shift = 0; ; shift += 7, at += 1) {
    const byte = bytes[at];
    if (byte === undefined || shift > 28)
      throw new AfterimageError('MESSAGE_INVALID', 'frame length is cut off');
    length += (byte & 0x7f) * 2 ** shift;
    if (byte < 0x80) break;
  }
  at += 1;
  if (bytes.length - at !== length) {
    throw new AfterimageError(
      'MESSAGE_INVALID',
      `frame of ${length} bytes in a message that has ${bytes.length - at}`,
    );
  }
  return { frame: { buffer: bytes.subarray(at), headroom: 0 } };
}

export function encodeReceiverMessage(message: ReceiverMessage): Buffer {
  return receiverCodec.encode(message);
}

/** Errors: MESSAGE_INVALID. */
export function decodeReceiverMessage(bytes: Buffer): ReceiverMessage {
  return only(receiverCodec.decode(bytes), 'ReceiverMessage') as ReceiverMessage;
}

/** Of a decoded oneof, the one member that is set, with the message's number. */
function only(decoded: Record<string, unknown>, name: string): Record<string, unknown> {
  const key = decoded['body'];
  if (typeof key !== 'string') throw new AfterimageError('MESSAGE_INVALID', `${name} without a known body`);
  return { [key]: decoded[key], sequence: decoded['sequence'] };
}

const session: MethodDefinition<OutgoingMessage, ReceiverMessage> = {
  path: '/afterimage.v1.Replication/Session',
  requestStream: true,
  responseStream: true,
  requestSerialize: encodeAgentMessage,
  requestDeserialize: decodeAgentMessage,
  responseSerialize: encodeReceiverMessage,
  responseDeserialize: decodeReceiverMessage,
  originalName: 'session',
};

/** service Replication { rpc Session(stream AgentMessage) returns (stream ReceiverMessage); } */
export const replicationService = { session } satisfies ServiceDefinition;
