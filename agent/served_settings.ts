/**
 * What a successor must know of a volume that is served, kept beside its descriptors: with nothing else it can go on
 * serving, whatever has become of the configuration and the state directory.
 */
import { FUSE_THREADS_MAX } from './served_bounds.js';
import { decimal, nullable, oneOf, record, text, toJson, union, uuid, whole } from './stored_fields.js';

/**
 * Another number: to serve without what is new in them would be wrong, so that production waits for a version that knows
 * it. What is only added, and may be ignored, keeps the number, and is absent in the settings of those before.
 */
export const SETTINGS_VERSION = 1;

const group = record({
  name: text,
  uuid,
  member: uuid,
  ringBytes: decimal,
  lingerUs: whole(0),
  /** Absent in those of the first versions: a minute. */
  unmarkAfterMs: nullable(whole(1)),
  /** Of the member alone. Before there were spools, settings said nothing of them. */
  spool: nullable(record({ directory: text, bytesMax: decimal })),
});
const loop = record({
  threads: whole(1, FUSE_THREADS_MAX),
  /** "/dev/loopN". */
  device: text,
  /** The stable link to it. */
  link: text,
  /** Of the FUSE file system, without links. */
  mountPoint: text,
  /** The kernel's number of the FUSE session. */
  connection: whole(0),
  /** The file that the device lies over. */
  file: record({ device: decimal, inode: decimal }),
});
const nbd = record({
  /** "/dev/nbdN". */
  device: text,
  /** The stable link to it. */
  link: text,
  /** Whose device it is, as the kernel knows it. */
  backend: text,
});
const unixAddress = record({ unix: text });
const tcpAddress = record({ tcp: record({ host: text, port: whole(0, 65535) }) });
const socket = record({
  address: (value, at) =>
    value !== null && typeof value === 'object' && 'unix' in value
      ? unixAddress(value, at)
      : tcpAddress(value, at),
});
const attachment = union('kind', { loop, nbd, socket });
const volume = record({
  name: text,
  number: whole(0, 63),
  uuid,
  size: decimal,
  blockSize: whole(512),
  backing: text,
  /** The device under which it is, and since when (mapped_device.ts). Absent in those of the first versions. */
  mapped: nullable(record({ device: text, insertion: text })),
  /** Where its dirty log lies. */
  stateDir: text,
  cache: oneOf('buffered', 'direct'),
  /** What its path led to (backing_sight.ts). Absent in those of the first versions. */
  sight: nullable(record({ inode: decimal, bornNs: decimal, name: text, medium: text, partition: text })),
  attachment,
});
const settings = record({ version: whole(SETTINGS_VERSION, SETTINGS_VERSION), group, volume });

export type GroupSettings = ReturnType<typeof group>;
export type AttachmentSettings = ReturnType<typeof attachment>;
export type LoopSettings = Extract<AttachmentSettings, { kind: 'loop' }>;
export type NbdSettings = Extract<AttachmentSettings, { kind: 'nbd' }>;
export type VolumeSettings = ReturnType<typeof volume>;
export interface ServedSettings {
  group: GroupSettings;
  volume: VolumeSettings;
}

export function encodeSettings(served: ServedSettings): Buffer {
  return Buffer.from(JSON.stringify(toJson({ version: SETTINGS_VERSION, ...served })));
}

/** Throws an Error that says what is wrong with them. */
export function decodeSettings(bytes: Buffer): ServedSettings {
  const read = settings(JSON.parse(bytes.toString('utf8')), 'the settings');
  return { group: read.group, volume: read.volume };
}
