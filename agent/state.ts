/**
 * What a member must remember across restarts: one small JSON file per group, replaced atomically. Who the member is,
 * what its session asked to keep (session_events.ts, StoredState), and what its backings were.
 */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { AfterimageError } from '../proto/errors.js';
import { removeUnfinished, writeDurably } from '../service/durable_file.js';
import { systemError } from '../service/system_errors.js';
import { makeDirectory } from './directory.js';
import type { StoredState } from './session_events.js';
import { toJson } from './stored_fields.js';
import { decimal, uuid } from './stored_values.js';

export const STATE_VERSION = 1;

const volumeNumber = z.int().min(0).max(63);
const volumeSchema = z.strictObject({
  number: volumeNumber,
  uuid,
  size: decimal,
  backing: z.string(),
  /** What the backing was when the file was last written (backing_fingerprint.ts). */
  fingerprint: z.string(),
  /** And what a few of its places held then (backing_samples.ts); "" unless that was at a clean stop. Absent in older states. */
  samples: z.string().default(''),
  /** Which device it is (backing_identity.ts); "": nobody knows. Absent in older states. */
  identity: z.string().default(''),
  /** Of a mapped volume, since when its backing was the agent's alone (mapped_device.ts). Absent in the first states. */
  insertion: z.string().default(''),
});
const streamSchema = z.strictObject({
  epoch: decimal,
  generation: decimal,
  /** Absent in older states: such a receiver is believed to be as it was. */
  acceptedGeneration: decimal.default(0n),
  durableLsn: decimal,
  lsnCeiling: decimal,
  clean: z.boolean(),
  volumes: z.array(
    z.strictObject({ number: volumeNumber, uuid, name: z.string(), size: decimal, blockSize: z.int() }),
  ),
  timeNs: decimal,
  era: z.int().min(0),
  /** Absent in the first states that were ever written. */
  processes: z.array(uuid).default([]),
  /** Absent in older states: what the present process finds counts. */
  unwelcomedLogs: z
    .array(z.strictObject({ volume: volumeNumber, id: decimal, sequence: decimal, basisLsn: decimal }))
    .default([]),
}) satisfies z.ZodType<StoredState>;
const stateSchema = z.strictObject({
  group: uuid,
  member: uuid,
  host: z.string(),
  /** Null until the first session has something to keep. */
  stream: streamSchema.nullable(),
  /** By name. Volumes that are no longer configured stay: their numbers are never given again. */
  volumes: z.record(z.string(), volumeSchema),
});
const fileSchema = z.strictObject({ version: z.int(), sha256: z.string(), state: z.unknown() });

export type VolumeMemory = z.output<typeof volumeSchema>;
export type MemberMemory = z.output<typeof stateSchema>;

/** The remembered state of one member; every change is on stable storage when its promise resolves. */
export class MemberState {
  private pending: Promise<void> = Promise.resolve();

  private constructor(
    private readonly file: string,
    private present: MemberMemory,
  ) {}

  /**
   * Reads the state of `group`, or makes a new one; nothing is written yet. `newUuid` gives 16 random bytes.
   * Errors: STATE_INVALID (what it holds), PERMISSION_DENIED, IO_ERROR.
   */
  static async open(
    directory: string,
    group: string,
    host: string,
    newUuid: () => Buffer,
  ): Promise<MemberState> {
    const file = path.join(directory, `${group}.json`);
    const memory = await readMemory(file);
    // Litter, and no reason not to start.
    if (memory !== null) await removeUnfinished(file).catch(() => undefined);
    return new MemberState(file, memory ?? newMemory(host, newUuid));
  }

  get memory(): Readonly<MemberMemory> {
    return this.present;
  }

  /** Changes some fields. Changes are written one after the other. Errors: DISK_FULL, PERMISSION_DENIED, IO_ERROR. */
  async update(change: Partial<MemberMemory>): Promise<void> {
    this.present = { ...this.present, ...change };
    const write = this.pending.then(() => writeMemory(this.file, this.present));
    // The next update must not fail because this one did; its caller is told.
    this.pending = write.catch(() => undefined);
    await write;
  }
}

function newMemory(host: string, newUuid: () => Buffer): MemberMemory {
  return {
    group: newUuid(),
    member: newUuid(),
    host,
    stream: null,
    volumes: {},
  };
}

async function readMemory(file: string): Promise<MemberMemory | null> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return null;
    // Never STATE_INVALID: whoever removed a state that could merely not be read would lose who the member is.
    throw systemError(cause, `${file} cannot be read`);
  }
  try {
    const { version, sha256, state } = fileSchema.parse(JSON.parse(text));
    if (version !== STATE_VERSION) throw new Error(`version ${version}, not ${STATE_VERSION}`);
    if (sha256 !== digest(JSON.stringify(state))) throw new Error('its checksum does not match');
    return stateSchema.parse(state);
  } catch (cause) {
    const reason = cause instanceof z.ZodError ? z.prettifyError(cause) : (cause as Error).message;
    throw new AfterimageError('STATE_INVALID', `${file}: ${reason}`, { cause });
  }
}

async function writeMemory(file: string, memory: MemberMemory): Promise<void> {
  const state = JSON.stringify(toJson(memory));
  const text = `{"version":${STATE_VERSION},"sha256":"${digest(state)}","state":${state}}\n`;
  try {
    await makeDirectory(path.dirname(file));
    await writeDurably(file, text);
  } catch (cause) {
    throw systemError(cause, `${file} cannot be written`);
  }
}

function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
