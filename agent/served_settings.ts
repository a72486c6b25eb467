/**
 * What a successor must know of a volume that is served, kept beside its descriptors: with nothing else it can go on
 * serving, whatever has become of the configuration and the state directory.
 */
import { z } from 'zod';
import { FUSE_THREADS_MAX } from './config.js';
import { decimal, toJson, uuid } from './stored_values.js';

const SETTINGS_VERSION = 1;

const groupSchema = z.strictObject({
  name: z.string(),
  uuid,
  member: uuid,
  ringBytes: decimal,
  lingerUs: z.int().min(0),
  /** Of the member alone. Before there were spools, settings said nothing of them. */
  spool: z.strictObject({ directory: z.string(), bytesMax: decimal }).nullable().default(null),
});
const loopSchema = z.strictObject({
  kind: z.literal('loop'),
  threads: z.int().min(1).max(FUSE_THREADS_MAX),
  /** "/dev/loopN". */
  device: z.string(),
  /** The stable link to it. */
  link: z.string(),
  /** Of the FUSE file system, without links. */
  mountPoint: z.string(),
  /** The kernel's number of the FUSE session. */
  connection: z.int().min(0),
  /** The file that the device lies over. */
  file: z.strictObject({ device: decimal, inode: decimal }),
});
const nbdSchema = z.strictObject({
  kind: z.literal('nbd'),
  /** "/dev/nbdN". */
  device: z.string(),
  /** The stable link to it. */
  link: z.string(),
  /** Whose device it is, as the kernel knows it. */
  backend: z.string(),
});
const socketSchema = z.strictObject({
  kind: z.literal('socket'),
  address: z.union([
    z.strictObject({ unix: z.string() }),
    z.strictObject({ tcp: z.strictObject({ host: z.string(), port: z.int().min(0).max(65535) }) }),
  ]),
});
const attachmentSchema = z.discriminatedUnion('kind', [loopSchema, nbdSchema, socketSchema]);
const volumeSchema = z.strictObject({
  name: z.string(),
  number: z.int().min(0).max(63),
  uuid,
  size: decimal,
  blockSize: z.int().min(512),
  backing: z.string(),
  /** The device under which it is, and since when (mapped_device.ts). Absent in those of the first versions. */
  mapped: z.strictObject({ device: z.string(), insertion: z.string() }).nullable().default(null),
  /** Where its dirty log lies. */
  stateDir: z.string(),
  cache: z.enum(['buffered', 'direct']),
  attachment: attachmentSchema,
});
const settingsSchema = z.strictObject({
  version: z.literal(SETTINGS_VERSION),
  group: groupSchema,
  volume: volumeSchema,
});

export type GroupSettings = z.output<typeof groupSchema>;
export type LoopSettings = z.output<typeof loopSchema>;
export type NbdSettings = z.output<typeof nbdSchema>;
export type AttachmentSettings = z.output<typeof attachmentSchema>;
export type VolumeSettings = z.output<typeof volumeSchema>;
export interface ServedSettings {
  group: GroupSettings;
  volume: VolumeSettings;
}

export function encodeSettings(settings: ServedSettings): Buffer {
  return Buffer.from(JSON.stringify(toJson({ version: SETTINGS_VERSION, ...settings })));
}

/** Throws an Error that says what is wrong with them. */
export function decodeSettings(bytes: Buffer): ServedSettings {
  const parsed = settingsSchema.safeParse(JSON.parse(bytes.toString('utf8')));
  if (!parsed.success) throw new Error(z.prettifyError(parsed.error));
  return { group: parsed.data.group, volume: parsed.data.volume };
}
